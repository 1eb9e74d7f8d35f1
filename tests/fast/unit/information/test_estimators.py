import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtutor import information
from mmtutor.information import estimators

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 2))
Y = X[:, 0] + RNG.standard_normal(200)
SAMPLED = {"histogram": information.histogram_mi, "ksg": information.ksg_mi}
each_estimator = pytest.mark.parametrize("estimate", SAMPLED.values(), ids=SAMPLED)


@pytest.mark.parametrize(
    ("cov", "split", "words"),
    [
        ([[1.0, 0.5], [0.4, 1.0]], 1, "not symmetric"),
        ([[1.0, 1.0], [1.0, 1.0]], 1, "not positive definite.*combination"),
        ([[1.0, 2.0], [2.0, 1.0]], 1, "not positive definite.*eigenvalue is -1"),
        ([[1.0, 0.0], [0.0, 0.0]], 1, "not positive definite: variance 1 is 0"),
        ([[1.0, math.nan], [0.0, 1.0]], 1, "NaN"),
        ([[1.0, 0.0]], 1, r"\(D, D\)"),
        ([[1.0]], 1, "D >= 2"),
        (np.eye(3), 0, "from 1 to 2"),
        (np.eye(3), 3, "from 1 to 2"),
        (np.eye(3), 1.0, "whole number"),
        (np.eye(3), True, "whole number"),
    ],
)
def test_covariances_that_cannot_be_are_refused(cov, split, words):
    with pytest.raises(ValueError, match=words):
        information.gaussian_mi(cov, split)


def test_a_covariance_in_any_unit_and_precision_has_the_same_information():
    scale = np.diag([1e-9, 1e9])
    expected = -0.5 * math.log(1 - 0.64)
    assert information.gaussian_mi(
        scale @ np.array([[1, 0.8], [0.8, 1]]) @ scale, 1
    ) == pytest.approx(expected)
    assert information.gaussian_mi(torch.tensor([[1, 0.8], [0.8, 1]]), 1) == pytest.approx(
        expected, rel=1e-6
    )
    assert information.gaussian_mi(np.eye(4), 2) == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda units: information.gaussian_mi(np.eye(2), 1, units=units),
        lambda units: information.histogram_mi(X[:, 0], Y, units=units),
        lambda units: information.ksg_mi(X, Y, units=units),
        lambda units: information.infonce_mi(X, Y, steps=1, units=units),
        lambda units: information.mine_mi(X, Y, batch=8, steps=1, units=units),
        lambda units: information.discrete_mi(np.eye(2) / 2, units=units),
        lambda units: information.pid(np.ones((2, 2, 2)) / 8, units=units),
    ],
)
def test_unknown_units_are_named(call):
    with pytest.raises(ValueError, match="unknown units 'shannon'; known: nats, bits"):
        call("shannon")


@each_estimator
@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (X[:, 0], Y[:-1], "x has 200 samples and y 199"),
        (np.where(np.arange(200) == 7, np.nan, X[:, 0]), Y, "x holds 1 values that are NaN.*7"),
        (X[:, 0], np.where(np.arange(200) == 7, np.inf, Y), "y holds 1 values"),
        (X[:, 0], np.ones(200), "y is constant in column 0"),
        (X[:1, 0], Y[:1], "at least 2"),
        (X[:, 0] > 0, Y, "x repeats values"),
        (X[:, :, None], Y, "of shape"),
    ],
)
def test_samples_that_cannot_be_are_named(estimate, x, y, words):
    with pytest.raises(ValueError, match=words):
        estimate(x, y)


@pytest.mark.parametrize("k", [0, -1, 200, 2.0, True])
def test_k_must_leave_a_neighbour(k):
    with pytest.raises(
        ValueError,
        match=r"k must be a whole number from 1 to 199, not .*: a sample has N - 1 neigh",
    ):
        information.ksg_mi(X, Y, k)


@pytest.mark.parametrize("bins", [1, 201, 8.0, True])
def test_bins_must_be_at_least_two(bins):
    with pytest.raises(ValueError, match="bins must be a whole number from 2 to 200"):
        information.histogram_mi(X[:, 0], Y, bins)


def test_a_grid_takes_one_column():
    with pytest.raises(ValueError, match=r"x must be \(N,\), not \(200, 2\)"):
        information.histogram_mi(X, Y)


@pytest.mark.parametrize("jitter", [-1e-6, math.nan, math.inf])
def test_jitter_must_be_a_size(jitter):
    with pytest.raises(ValueError, match="jitter must be"):
        information.ksg_mi(X, Y, jitter=jitter)


def test_a_constant_column_among_others_and_rounded_columns_are_named():
    with pytest.raises(ValueError, match="x is constant in column 1"):
        information.ksg_mi(np.stack([X[:, 0], np.full(200, 0.1)], 1), Y, jitter=1e-6)
    with pytest.raises(
        ValueError, match=r"y repeats values in column 1 \(9\d% of its samples\).*jitter=1e-6"
    ):
        information.ksg_mi(X[:, 0], np.stack([Y, Y.round(1)], 1))


def test_rounding_to_float32_is_no_tie_and_changes_nothing():
    rng = np.random.default_rng(1)
    x = rng.standard_normal(20_000)
    y = x + rng.standard_normal(20_000)
    assert len(np.unique(np.float32(x))) < 20_000, "some values do coincide"
    assert information.ksg_mi(np.float32(x), torch.tensor(y).float()) == pytest.approx(
        information.ksg_mi(x, y), abs=1e-3
    )


def test_jitter_follows_its_seed_and_leaves_numbers_alone():
    labels = (X[:, 0] > 0).astype(int)
    a, b, c = (information.ksg_mi(X, labels, jitter=1e-3, seed=s) for s in (0, 0, 1))
    assert a == b != c
    assert information.ksg_mi(X, Y, jitter=1e-9) == pytest.approx(
        information.ksg_mi(X, Y), abs=1e-9
    )
    assert information.ksg_mi(X * 1e9, labels, jitter=1e-3) == pytest.approx(a), (
        "in units of each column's own spread"
    )


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10), seed=st.integers(0, 1000))
def test_neighbours_do_not_mind_units_order_or_which_is_which(scale, shift, seed):
    order = np.random.default_rng(seed).permutation(200)
    found = information.ksg_mi(X, Y)
    assert information.ksg_mi(-scale * X[order] + shift, scale * Y[order]) == pytest.approx(
        found, abs=0.02
    )
    assert information.ksg_mi(Y, X[:, ::-1]) == pytest.approx(found, abs=1e-9)


@each_estimator
def test_bits_are_nats_over_ln_two(estimate):
    assert estimate(X[:, 0], Y, units="bits") == pytest.approx(estimate(X[:, 0], Y) / math.log(2))


def test_jitter_is_a_standard_deviation():
    column = np.linspace(-7, 9, 5000)[:, None]
    spread = estimators._spread("x", column, 2.0, np.random.default_rng(0))
    assert spread.std() == pytest.approx(math.sqrt(1 + 4), rel=0.03)


def test_noise_added_to_a_source_tells_less():
    rng = np.random.default_rng(2)
    x = rng.standard_normal(1500)
    y = x + 0.3 * rng.standard_normal(1500)
    chain = [
        information.ksg_mi(x, y + noise * rng.standard_normal(1500)) for noise in (0, 0.7, 2, 30)
    ]
    assert chain == sorted(chain, reverse=True)
    assert chain[0] - chain[1] > 0.3 and abs(chain[3]) < 0.06


def test_independence_is_not_cut_off_at_zero():
    found = [
        information.ksg_mi(*np.random.default_rng(s).standard_normal((2, 300))) for s in range(20)
    ]
    assert min(found) < 0 < max(found) and abs(np.mean(found)) < 0.02


@pytest.mark.parametrize("seed", range(20))
def test_a_covariance_that_is_singular_but_for_rounding_is_refused(seed):
    """Three sources behind four coordinates: the smallest eigenvalue is 0, give or take 1e-16."""
    mixing = np.random.default_rng(seed).standard_normal((4, 3))
    with pytest.raises(ValueError, match="not positive definite"):
        information.gaussian_mi(mixing @ mixing.T, 2)
