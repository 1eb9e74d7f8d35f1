import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtutor import information
from mmtutor.information import broja
from mmtutor.information.tables import information_density

XOR = np.zeros((2, 2, 2))
XOR[[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]] = 0.25
EVEN = np.ones((2, 2, 2)) / 8


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(seed).integers(0, 2, (2, n))


@pytest.mark.parametrize("measure", ["imin", "broja"])
@pytest.mark.parametrize(
    ("joint", "words"),
    [
        (EVEN * 1.01, "sum 1.01.*divide by their sum"),
        (EVEN * 8, "smallest entry is 1, its sum 8"),
        (np.where(XOR > 0, 0.3, -0.05), "smallest entry is -0.05"),
        (np.where(XOR > 0, np.nan, 0.25), "NaN"),
        (np.ones((2, 4)) / 8, r"3 dimension\(s\), not of shape \(2, 4\)"),
        (np.ones((2, 2, 2, 1)) / 8, r"3 dimension\(s\)"),
        (np.full((2, 2, 2), "a"), "numbers"),
    ],
)
def test_tables_that_are_none_are_named(measure, joint, words):
    with pytest.raises(ValueError, match=words):
        information.pid(joint, measure)


def test_discrete_information_refuses_the_same():
    with pytest.raises(ValueError, match=r"2 dimension"):
        information.discrete_mi(EVEN)
    with pytest.raises(ValueError, match="sum 2"):
        information.discrete_mi(np.eye(2))


def test_an_unknown_measure_names_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown measure 'min'; known: imin, broja"):
        information.pid(XOR, "min")


@pytest.mark.parametrize("measure", ["imin", "broja"])
def test_units_precision_and_names(measure):
    nats = information.pid(torch.from_numpy(XOR).float(), measure)
    assert nats.synergy == pytest.approx(math.log(2), abs=1e-7)
    assert information.pid(XOR, measure, "bits").synergy == pytest.approx(1, abs=1e-7)
    thirds = np.full((3, 1, 1), np.float32(1 / 3))  # float32: sum 1 + 3e-8
    assert information.pid(thirds, measure) == pytest.approx((0, 0, 0, 0), abs=1e-9)


def test_a_sum_that_misses_one_in_rounding_is_set_right():
    p = np.random.default_rng(0).dirichlet(np.ones(6)).reshape(2, 3)
    assert information.discrete_mi(p * (1 + 5e-6)) == pytest.approx(
        information.discrete_mi(p), abs=1e-12
    )


def test_labels_that_never_occur_change_nothing():
    p = np.random.default_rng(0).dirichlet(np.ones(8)).reshape(2, 2, 2)
    padded = np.zeros((4, 3, 4))
    padded[np.ix_([0, 2], [1, 2], [1, 3])] = p
    for measure in ("imin", "broja"):
        assert information.pid(padded, measure) == pytest.approx(
            information.pid(p, measure), abs=1e-9
        )


def test_cells_lost_in_rounding_are_refused_where_they_would_stop_the_search():
    p = EVEN.copy()
    p[0, 0, 0] = 1e-40
    p /= p.sum()
    with pytest.raises(ValueError, match=r"between 0 and 1e-15.*make them 0"):
        information.pid(p, "broja")
    assert information.pid(p, "imin").redundant > 0
    p[0, 0, 0] = 2e-15
    near, at = information.pid(p, "broja"), information.pid(np.where(p < 1e-9, 0, p), "broja")
    assert near == pytest.approx(at, abs=1e-8)


def test_a_search_without_rest_is_reported(monkeypatch):
    monkeypatch.setattr(broja, "STEPS", 1)
    with pytest.raises(RuntimeError, match="not reached in 1 Newton steps"):
        information.pid(np.random.default_rng(1).dirichlet(np.ones(8)).reshape(2, 2, 2), "broja")


def test_exchanges_leave_both_marginals_alone_and_are_all_there_are():
    first = np.array([[0.2, 0.3], [0.1, 0.0], [0.2, 0.2]])
    second = np.array([[0.3, 0.1], [0.2, 0.4]])
    moves = broja._exchanges(first, second)
    assert np.abs(moves.sum(2)).max() == 0 and np.abs(moves.sum(1)).max() == 0
    assert np.abs(moves[:, 1, :, 1]).max() == 0, "an empty row stays empty"
    assert np.linalg.matrix_rank(moves.reshape(len(moves), -1)) == len(moves) == 2 + 1


def test_labels_are_counted_by_hand():
    joint = information.plug_in_joint(
        [0, 1, 1, 0], torch.tensor([2, 0, 0, 2]), np.array([0, 0, 1, 0])
    )
    expected = np.zeros((2, 3, 2))
    expected[0, 2, 0], expected[1, 0, 0], expected[1, 0, 1] = 0.5, 0.25, 0.25
    np.testing.assert_array_equal(joint, expected)
    np.testing.assert_array_equal(information.plug_in_joint([3, 3]), [0, 0, 0, 1])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ((), "no labels"),
        (([0, 1], [0, 1, 1]), r"labels\[1\] has 3 entries, expected 2"),
        (([0, -1],), ">= 0"),
        (([0.0, 1.0],), "whole numbers"),
    ],
)
def test_labels_that_cannot_be_counted_are_named(labels, words):
    with pytest.raises(ValueError, match=words):
        information.plug_in_joint(*labels)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_counts_do_not_mind_the_order_of_samples(seed):
    rng = np.random.default_rng(seed)
    labels, order = rng.integers(0, 3, (3, 30)), rng.permutation(30)
    np.testing.assert_allclose(
        information.plug_in_joint(*labels[:, order]), information.plug_in_joint(*labels)
    )


def test_shuffling_removes_the_bias_where_nothing_is_to_be_known():
    pairs = [np.random.default_rng(s).integers(0, 4, (2, 60)) for s in range(60)]
    plain = np.mean([information.discrete_mi(information.plug_in_joint(x, y)) for x, y in pairs])
    corrected = np.mean(
        [
            information.shuffle_correct(information.discrete_mi, x, y, permutations=40)
            for x, y in pairs
        ]
    )
    assert plain == pytest.approx(9 / 120, rel=0.25), "Miller's bias"
    assert abs(corrected) < 0.01


def test_shuffling_takes_too_much_where_all_is_to_be_known():
    x = np.random.default_rng(0).permutation(np.arange(60) % 4)
    found = information.shuffle_correct(information.discrete_mi, x, x)
    assert found == pytest.approx(math.log(4) - 9 / 120, abs=0.015), (
        "without bias, the plug-in had it right: ln 4"
    )


def test_shuffling_corrects_each_part_in_the_statistic_s_units():
    x1, x2 = drawn(40, 1)
    y = np.random.default_rng(2).integers(0, 2, 40)
    statistic = partial(information.pid, units="bits")
    found = information.shuffle_correct(statistic, x1, x2, y, permutations=60)
    rng = np.random.default_rng(9)
    chance = [statistic(information.plug_in_joint(x1, x2, rng.permutation(y))) for _ in range(400)]
    expected = np.array(statistic(information.plug_in_joint(x1, x2, y))) - np.mean(chance, 0)
    assert isinstance(found, information.PID)
    assert found == pytest.approx(tuple(expected), abs=0.02)


def test_shuffling_follows_its_seed_and_accepts_tensors():
    x, y = (torch.tensor(v) for v in drawn(30, 3))
    a, b, c = (
        information.shuffle_correct(information.discrete_mi, x, y, seed=s, permutations=5)
        for s in (0, 0, 1)
    )
    assert a == b != c and isinstance(a, float)


@pytest.mark.parametrize(
    ("labels", "permutations", "words"),
    [
        ((drawn(9, 0)[0],), 5, "the number of columns must be a whole number of 2 or more, not 1"),
        (tuple(drawn(9, 0)), 0, "permutations must be a whole number of 1 or more, not 0"),
    ],
)
def test_shuffling_needs_two_columns_and_a_permutation(labels, permutations, words):
    with pytest.raises(ValueError, match=words):
        information.shuffle_correct(information.discrete_mi, *labels, permutations=permutations)


def test_independence_is_no_information_to_the_last_digit():
    """Rounding alone would make some of these tables a little less than nothing."""
    rng = np.random.default_rng(0)
    tables = [np.outer(rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(4))) for _ in range(200)]
    assert min(float(information_density(p).sum()) for p in tables) < 0
    assert all(0 <= information.discrete_mi(p) < 1e-12 for p in tables)
