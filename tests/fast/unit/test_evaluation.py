"""Evaluation: ranges and invariants, how splits behave, what results print, what is refused."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmtutor import evaluation
from mmtutor.evaluation import Comparison, Interval

HALVES = np.full((4, 2), 0.5)
LABELS = np.array([0, 1, 0, 1])
finite = st.floats(-50, 50)


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n, classes = draw(st.integers(1, 30)), draw(st.integers(2, 6))
    logits = draw(hnp.arrays(np.float64, (n, classes), elements=finite))
    y = draw(hnp.arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    return logits, y


@settings(deadline=None, max_examples=60)
@given(predictions())
def test_metrics_stay_in_their_ranges(drawn):
    logits, y = drawn
    p = evaluation.apply_temperature(logits, 1.0)
    assert 0 <= evaluation.accuracy(p, y) <= 1
    assert 0 <= evaluation.macro_f1(p, y) <= 1
    assert 0 <= evaluation.brier_score(p, y) <= 2
    assert 0 <= evaluation.expected_calibration_error(p, y) <= 1
    assert evaluation.log_loss(p, y) >= 0
    assert evaluation.reliability_curve(p, y).count.sum() == len(y)


@settings(deadline=None, max_examples=60)
@given(predictions())
def test_temperature_never_raises_the_loss_nor_moves_the_answer(drawn):
    logits, y = drawn
    t = evaluation.temperature_scale(logits, y)
    assert 0.01 <= t <= 100
    before, after = (
        evaluation.apply_temperature(logits, 1.0),
        evaluation.apply_temperature(logits, t),
    )
    truth = np.arange(len(y)), y
    assert (
        -np.log(after[truth].clip(1e-300)).mean()
        <= -np.log(before[truth].clip(1e-300)).mean() + 1e-9
    )
    chosen = after[np.arange(len(y)), logits.argmax(axis=1)]
    np.testing.assert_allclose(chosen, after.max(axis=1))


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.float64, st.integers(2, 20), elements=st.floats(0, 1)), st.integers(0, 10**6))
def test_comparison_is_antisymmetric_and_its_interval_holds_the_difference(a, seed):
    b = np.random.default_rng(seed).uniform(size=len(a))
    ab, ba = evaluation.paired_comparison(a, b), evaluation.paired_comparison(b, a)
    assert ab.difference == pytest.approx(-ba.difference)
    assert (ab.low, ab.high, ab.p) == pytest.approx((-ba.high, -ba.low, ba.p))
    assert ab.low <= ab.difference <= ab.high
    assert 0 <= ab.p <= 1
    assert (ab.p < 0.05) == (ab.low > 0 or ab.high < 0)
    assert ab.wins + ba.wins + ab.ties == ab.n == len(a)


def test_perfect_and_hopeless_predictions_meet_the_ends_of_the_ranges():
    sure = np.eye(2)[LABELS]
    assert evaluation.accuracy(sure, LABELS) == evaluation.macro_f1(sure, LABELS) == 1
    assert (
        evaluation.brier_score(sure, LABELS)
        == evaluation.expected_calibration_error(sure, LABELS)
        == 0
    )
    assert evaluation.brier_score(1 - sure, LABELS) == 2
    assert evaluation.expected_calibration_error(1 - sure, LABELS) == 1
    assert evaluation.log_loss(HALVES, LABELS) == pytest.approx(np.log(2))
    assert evaluation.log_loss(1 - sure, LABELS) == pytest.approx(-np.log(np.finfo(float).eps)), (
        "finite by definition"
    )


def test_half_precision_probabilities_are_accepted():
    logits = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    y = torch.arange(64) % 10
    exact = evaluation.expected_calibration_error(torch.softmax(logits, dim=1), y)
    for dtype in (torch.bfloat16, torch.float16):
        rounded = torch.softmax(logits, dim=1).to(dtype)
        assert evaluation.brier_score(rounded, y) == pytest.approx(
            evaluation.brier_score(logits.softmax(1), y), abs=0.01
        )
        assert evaluation.expected_calibration_error(rounded, y) == pytest.approx(exact, abs=0.1)


def test_a_tie_goes_to_the_first_class():
    assert evaluation.accuracy(HALVES, LABELS) == 0.5
    assert evaluation.accuracy(HALVES, np.zeros(4, dtype=int)) == 1.0


def test_temperature_at_the_ends_and_for_logits_that_say_nothing():
    logits = np.array([[2.0, 0.0], [0.0, 2.0]])
    assert evaluation.temperature_scale(logits, [0, 1]) == 0.01, (
        "all right: sharper is always better"
    )
    assert evaluation.temperature_scale(logits, [1, 0]) == 100, (
        "all wrong: flatter is always better"
    )
    assert evaluation.temperature_scale(np.full((3, 4), 7.0), [0, 1, 2]) == 1.0
    shifted = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    assert evaluation.temperature_scale(shifted, [0, 1, 1]) == pytest.approx(
        evaluation.temperature_scale(shifted + 1e4, [0, 1, 1])
    )


def test_apply_temperature_keeps_the_kind_and_the_gradient():
    logits = torch.tensor([[1.0, 3.0]], requires_grad=True)
    probs = evaluation.apply_temperature(logits, 2.0)
    torch.testing.assert_close(probs, torch.softmax(torch.tensor([[0.5, 1.5]]), dim=1))
    assert probs.requires_grad
    array = evaluation.apply_temperature(logits.detach().numpy(), 2.0)
    assert isinstance(array, np.ndarray)
    np.testing.assert_allclose(array, probs.detach().numpy(), rtol=1e-6)


def test_results_print_as_tables_want_them():
    interval = Interval(0.634, 0.6101, 0.6579)
    assert str(interval) == "0.634 [0.610, 0.658]"
    assert f"{interval:.1%}" == "63.4% [61.0%, 65.8%]"
    comparison = Comparison(0.043, 0.0141, 0.0719, 0.0049, 14, 15)
    assert str(comparison) == "+0.043 [+0.014, +0.072], p = 0.005, 14 of 15 won"
    assert (
        f"{dataclasses.replace(comparison, p=1e-5, ties=1):.2f}"
        == "0.04 [0.01, 0.07], p < 0.001, 14 of 15 won (1 tied)"
    )
    curve = evaluation.reliability_curve(HALVES, LABELS, bins=2)
    assert str(curve) == "(0.000, 0.500]  confidence 0.500  accuracy 0.500  n 4"
    with pytest.raises(dataclasses.FrozenInstanceError):
        interval.low = 0.0


def test_equal_scores_have_a_defined_comparison():
    same = evaluation.paired_comparison([0.6, 0.7, 0.8], [0.6, 0.7, 0.8])
    assert (same.difference, same.low, same.high, same.p, same.wins, same.ties) == (
        0,
        0,
        0,
        1,
        0,
        3,
    )
    always = evaluation.paired_comparison([0.75, 0.5], [0.5, 0.25])
    assert (always.difference, always.low, always.high, always.p, always.wins) == (
        0.25,
        0.25,
        0.25,
        0,
        2,
    )
    assert evaluation.corrected_interval([0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 0.5)
    assert evaluation.bootstrap_interval(np.full(5, 0.5)) == Interval(0.5, 0.5, 0.5)


def test_sizes_can_be_told_in_three_ways():
    a, b = [0.7, 0.72, 0.69], [0.6, 0.66, 0.61]
    by_share = evaluation.paired_comparison(a, b, test_fraction=0.25)
    assert evaluation.paired_comparison(a, b, n_train=300, n_test=100) == by_share
    assert (
        evaluation.paired_comparison(a, b, n_train=[290, 310, 300], n_test=[110, 90, 100])
        == by_share
    )
    assert evaluation.paired_comparison(a, b) == evaluation.paired_comparison(
        a, b, test_fraction=0.2
    )


def test_bootstrap_is_seeded_and_widens_with_the_level():
    values = np.random.default_rng(0).normal(size=50)
    first = evaluation.bootstrap_interval(values, seed=4)
    assert first == evaluation.bootstrap_interval(values, seed=4)
    assert first != evaluation.bootstrap_interval(values, seed=5)
    wider = evaluation.bootstrap_interval(values, level=0.99, seed=4)
    assert wider.low < first.low < first.estimate < first.high < wider.high


def test_bootstrap_memory_stays_bounded_by_batches(monkeypatch):
    """Small batches and one big batch draw the same numbers in the same order."""
    from mmtutor.evaluation import intervals

    values = np.random.default_rng(0).normal(size=50)
    whole = evaluation.bootstrap_interval(values, resamples=500)
    monkeypatch.setattr(intervals, "CELLS_AT_ONCE", 50 * 7)
    assert evaluation.bootstrap_interval(values, resamples=500) == whole


def test_intervals_of_totals_share_their_redraws():
    """Mean and share of the positive from one call are those of two calls with the same seed."""
    rng = np.random.default_rng(0)
    values, groups = rng.normal(size=60), rng.integers(0, 12, 60)
    positive = (values > 0).astype(float)
    parts = np.stack([values, positive, np.ones(60)], 1)
    both = evaluation.bootstrap_totals(
        parts, lambda totals: totals[:, :2] / totals[:, 2:], groups, seed=3, level=0.9
    )
    for ours, column in zip(both, (values, positive), strict=True):
        alone = evaluation.bootstrap_interval(column, groups=groups, seed=3, level=0.9)
        for end in ("estimate", "low", "high", "level"):
            assert getattr(ours, end) == pytest.approx(getattr(alone, end), abs=1e-12)
    assert both[1].low < both[1].estimate < both[1].high
    with pytest.raises(ValueError, match="all samples belong to one group"):
        evaluation.bootstrap_totals(parts, lambda t: t, np.zeros(60))
    with pytest.raises(ValueError, match="resamples must be a whole number of 100 or more, not 0"):
        evaluation.bootstrap_totals(parts, lambda t: t, resamples=0)


GROUPED = np.repeat(np.arange(30), 4)  # 30 groups of 4, every class in many groups
GROUPED_LABELS = (GROUPED * 7 + np.arange(120)) % 3


def test_folds_test_every_sample_once_per_repeat_and_keep_class_shares():
    y = np.repeat([0, 1, 2], [60, 30, 10])
    drawn = list(evaluation.folds(y, splits=5, repeats=3, seed=1))
    assert len(drawn) == 15
    for r in range(3):
        tested = np.concatenate([test for _, test in drawn[5 * r : 5 * r + 5]])
        assert sorted(tested) == list(range(100))
    for train, test in drawn:
        assert not set(train) & set(test)
        assert len(train) + len(test) == 100
        assert np.bincount(y[test]).tolist() == [12, 6, 2]
    assert {tuple(test) for _, test in drawn[:5]} != {tuple(test) for _, test in drawn[5:10]}, (
        "repeats differ"
    )


def test_grouped_folds_never_cut_a_group():
    drawn = list(evaluation.folds(GROUPED_LABELS, GROUPED, splits=5, repeats=2))
    assert len(drawn) == 10
    for train, test in drawn:
        assert not set(GROUPED[train]) & set(GROUPED[test])
        assert len(train) + len(test) == 120
        assert set(GROUPED_LABELS[test]) == {0, 1, 2}
        np.testing.assert_allclose(np.bincount(GROUPED_LABELS[test]) / len(test), 1 / 3, atol=0.1)


def test_folds_are_seeded_and_take_tensors_and_named_groups():
    first = list(evaluation.folds(GROUPED_LABELS, GROUPED, repeats=1, seed=3))
    names = np.array([f"speaker {g:02d}" for g in GROUPED])
    for g in (torch.from_numpy(GROUPED), names):
        again = list(evaluation.folds(torch.from_numpy(GROUPED_LABELS), g, repeats=1, seed=3))
        for (train, test), (train2, test2) in zip(first, again, strict=True):
            np.testing.assert_array_equal(train, train2)
            np.testing.assert_array_equal(test, test2)
    other = list(evaluation.folds(GROUPED_LABELS, GROUPED, repeats=1, seed=4))
    assert [t.tolist() for _, t in other] != [t.tolist() for _, t in first]


def test_as_many_groups_as_splits_leaves_one_group_out_each_time():
    speakers = np.repeat(np.arange(4), [10, 2, 30, 6])
    y = np.arange(48) % 2
    drawn = list(evaluation.folds(y, speakers, splits=4, repeats=1))
    assert sorted(set(speakers[test]).pop() for _, test in drawn) == [0, 1, 2, 3]
    assert all(len(set(speakers[test])) == 1 for _, test in drawn)
    with pytest.raises(
        ValueError, match=r"4 groups in 4 splits give the same folds.*use repeats=1"
    ):
        evaluation.folds(y, speakers, splits=4)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.35])
@pytest.mark.parametrize("groups", [None, GROUPED], ids=["samples", "groups"])
def test_grouped_split_cuts_off_about_the_share_asked_for(fraction, groups):
    rest, part = evaluation.grouped_split(GROUPED_LABELS, groups, fraction, seed=2)
    assert sorted([*rest, *part]) == list(range(120))
    assert len(part) / 120 == pytest.approx(fraction, abs=0.02)
    np.testing.assert_allclose(np.bincount(GROUPED_LABELS[part]) / len(part), 1 / 3, atol=0.06)
    if groups is not None:
        assert not set(groups[rest]) & set(groups[part])
    again = evaluation.grouped_split(GROUPED_LABELS, groups, fraction, seed=2)
    np.testing.assert_array_equal(part, again[1])
    assert (
        part.tolist()
        != evaluation.grouped_split(GROUPED_LABELS, groups, fraction, seed=3)[1].tolist()
    )


def test_grouped_split_meets_the_share_class_by_class_when_groups_are_uneven():
    """Groups of 1 to 40 samples of mostly one class each: a single random draw would often miss by
    a quarter."""
    groups = np.repeat(np.arange(20), np.r_[40, 30, 20, np.arange(1, 18)])
    y = np.where(np.arange(len(groups)) % 5 == 0, 1 - groups % 2, groups % 2)
    for seed in range(10):
        _, part = evaluation.grouped_split(y, groups, 0.25, seed=seed)
        np.testing.assert_allclose(np.bincount(y[part]) / np.bincount(y), 0.25, atol=0.08)


NAN = np.array([[0.5, 0.5], [np.nan, 0.5]])


@pytest.mark.parametrize(
    "metric", ["accuracy", "macro_f1", "brier_score", "log_loss", "expected_calibration_error"]
)
@pytest.mark.parametrize(
    ("probs", "y", "message"),
    [
        (NAN, [0, 1], r"NaN or infinite, the first at \(1, 0\)"),
        ([[0.5, 0.5], [0.5, 0.6]], [0, 1], "row 1 sums to 1.1.*softmax"),
        ([[1.5, -0.5], [0.5, 0.5]], [0, 1], "smallest entry is -0.5"),
        ([[1.0], [1.0]], [0, 0], "one column per class"),
        (HALVES, [0, 1, 0], "y has 3 entries, expected 4"),
        (HALVES, [0, 1, 2, 0], r"y must be in 0\.\.1, but run from 0 to 2"),
        (HALVES, [0, 1, -1, 0], r"y must be in 0\.\.1, but run from -1"),
        (HALVES, [0.0, 1.0, 0.0, 1.0], "whole numbers, not float64"),
        (np.zeros((0, 2)), np.zeros(0, dtype=int), "non-empty"),
    ],
)
def test_bad_probabilities_and_labels_are_named(metric, probs, y, message):
    with pytest.raises(ValueError, match=message):
        getattr(evaluation, metric)(np.array(probs), y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluation.accuracy([0, 1], [0, 1, 1]), "y has 3 entries, expected 2"),
        (lambda: evaluation.macro_f1([0, -1], [0, 1]), "predicted must be >= 0"),
        (
            lambda: evaluation.brier_score([0.2, 0.8], [0, 1]),
            r"probabilities must be .* 2 dimension",
        ),
        (
            lambda: evaluation.expected_calibration_error(HALVES, LABELS, bins=0),
            "bins must be a whole number of 1 or more",
        ),
        (
            lambda: evaluation.temperature_scale(np.log(np.zeros((1, 2)) + np.inf), [0]),
            "logits holds 2 values",
        ),
        (lambda: evaluation.temperature_scale(HALVES, [0, 1, 2, 0]), r"y must be in 0\.\.1"),
        (lambda: evaluation.temperature_scale(HALVES, [0]), "y has 1 entries, expected 4"),
        (
            lambda: evaluation.apply_temperature(HALVES, 0.0),
            "temperature must be a finite number above 0",
        ),
        (
            lambda: evaluation.apply_temperature(HALVES, float("nan")),
            "temperature must be a finite number above 0",
        ),
        (lambda: evaluation.bootstrap_interval([0.5]), "at least 2 samples, not 1"),
        (
            lambda: evaluation.bootstrap_interval([0.5, np.nan]),
            "values holds 1 values that are NaN",
        ),
        (
            lambda: evaluation.bootstrap_interval([0.5, 0.6], level=95),
            "level must be a number between 0 and 1",
        ),
        (
            lambda: evaluation.bootstrap_interval([0.5, 0.6], resamples=3),
            "resamples must be a whole number of 100 or more",
        ),
        (
            lambda: evaluation.bootstrap_interval([0.5, 0.6], groups=[1]),
            "one group for each of the 2 samples",
        ),
        (
            lambda: evaluation.bootstrap_interval([0.5, 0.6], groups=[1, 1]),
            "one group: redrawing groups",
        ),
        (lambda: evaluation.bootstrap_interval(NAN, statistic=np.mean), "NaN or infinite"),
        (lambda: evaluation.bootstrap_interval(["high", "low"]), "must hold numbers"),
        (lambda: evaluation.pigeonhole_bootstrap([0.5, 0.6]), "of 2 dimension"),
        (lambda: evaluation.pigeonhole_bootstrap([[0.5, 0.6]]), "at least 2 rows of values, not 1"),
        (lambda: evaluation.pigeonhole_bootstrap([[0.5], [0.6]]), "at least 2 samples, not 1"),
        (
            lambda: evaluation.pigeonhole_bootstrap([[0.5, 0.6], [0.5, 0.6]], groups=[1, 1]),
            "one group: redrawing groups",
        ),
        (lambda: evaluation.corrected_interval([0.5]), "values has 1 score"),
        (lambda: evaluation.corrected_interval([0.5, np.inf]), "NaN or infinite"),
        (lambda: evaluation.paired_comparison([1, 2], [1, 2, 3]), "a has 2 scores and b 3"),
        (lambda: evaluation.paired_comparison([1], [2]), "at least 2"),
        (
            lambda: evaluation.paired_comparison([1, np.nan], [1, 2]),
            "a holds 1 values that are NaN",
        ),
        (lambda: evaluation.paired_comparison([1, 2], [1, 3], level=1), "level must be a number"),
        (
            lambda: evaluation.paired_comparison([1, 2], [1, 3], test_fraction=1.0),
            r"test_fraction must be a number in \[0, 1\)",
        ),
        (
            lambda: evaluation.paired_comparison([1, 2], [1, 3], n_train=10),
            "n_train and n_test together",
        ),
        (
            lambda: evaluation.paired_comparison([1, 2], [1, 3], n_train=0, n_test=1),
            "n_train must be > 0",
        ),
        (
            lambda: evaluation.paired_comparison(
                [1, 2], [1, 3], n_train=8, n_test=2, test_fraction=0.2
            ),
            "or test_fraction alone",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


TWELVE = np.arange(12) % 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluation.folds(np.ones(10, dtype=int)), "all 10 samples have class 1"),
        (lambda: evaluation.folds([0] * 9 + [1]), "class 1 has 1 samples, fewer than 5 splits"),
        (lambda: evaluation.folds(TWELVE, splits=1), "splits must be a whole number of 2 or more"),
        (
            lambda: evaluation.folds(TWELVE, repeats=0),
            "repeats must be a whole number of 1 or more",
        ),
        (lambda: evaluation.folds(TWELVE, np.arange(11)), "one group for each of the 12 samples"),
        (lambda: evaluation.folds(TWELVE, np.arange(12) // 4), "3 groups cannot fill 5 splits"),
        (lambda: evaluation.folds(TWELVE + 0.5), "whole numbers"),
        (
            lambda: evaluation.folds(np.repeat([0, 1], 6), np.r_[:6, [9] * 6]),
            "class 1 occurs in one group only",
        ),
        (
            lambda: evaluation.folds(
                np.repeat([0, 1], 10), np.repeat(np.arange(4), 5), splits=4, repeats=1
            ),
            "the test side of a fold holds class 0 only",
        ),
        (
            lambda: evaluation.grouped_split(TWELVE, fraction=0),
            "fraction must be a number between 0 and 1",
        ),
        (
            lambda: evaluation.grouped_split(TWELVE, np.zeros(12), 0.5),
            "1 groups cannot fill 2 splits",
        ),
        (lambda: evaluation.grouped_split(np.zeros(6, dtype=int)), "all 6 samples have class 0"),
        (
            lambda: evaluation.grouped_split(
                np.repeat([0, 1], 10), np.repeat(np.arange(4), 5), 0.25
            ),
            "the test side of a fold holds class",
        ),
    ],
)
def test_splits_that_cannot_be_fair_are_refused_at_once(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_redrawn_groups_of_unequal_size_count_by_their_samples():
    """A mean of redrawn groups is over the samples that were drawn, however many those are."""
    groups = np.repeat([0, 1, 2, 3], [1, 2, 5, 12])
    always = evaluation.bootstrap_interval(np.ones(20), groups=groups, resamples=200)
    assert (always.estimate, always.low, always.high) == (1.0, 1.0, 1.0)
    scores = np.random.default_rng(0).random(20)
    fast = evaluation.bootstrap_interval(scores, groups=groups, resamples=5000)
    slow = evaluation.bootstrap_interval(
        scores, groups=groups, resamples=5000, statistic=np.mean, seed=1
    )
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=0.02)


def test_a_confidence_above_one_by_rounding_is_one():
    """Half precision lets rows pass whose largest entry is 1.001."""
    curve = evaluation.reliability_curve([[1.001, -0.001], [1.001, -0.001]], [0, 0])
    assert curve.confidence.tolist() == [1.0] and curve.error == 0.0


@pytest.mark.parametrize("row", [[0.3, 0.3], [0.7, 0.7], [1.2, -0.2]])
def test_rows_that_sum_to_less_or_more_than_one_are_no_probabilities(row):
    with pytest.raises(ValueError, match="1 of 2 rows are no probabilities: row 1"):
        evaluation.brier_score([[0.5, 0.5], row], [0, 1])
