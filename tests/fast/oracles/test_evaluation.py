"""Metrics, calibration, intervals and comparisons against scikit-learn, scipy, hand-worked cases
and simulation."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, special, stats
from sklearn import metrics
from sklearn.calibration import calibration_curve

from mmtutor import evaluation


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def some_predictions(
    rng: np.random.Generator, n: int = 400, classes: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    logits = 1.5 * rng.standard_normal((n, classes))
    y = rng.choice(classes, n, p=np.array([0.5, 0.3, 0.15, 0.05]))
    logits[np.arange(n), y] += 1
    return special.softmax(logits, axis=1), y


def test_metrics_agree_with_scikit_learn(rng):
    p, y = some_predictions(rng)
    guess = p.argmax(axis=1)
    assert evaluation.accuracy(guess, y) == pytest.approx(metrics.accuracy_score(y, guess))
    assert evaluation.macro_f1(guess, y) == pytest.approx(
        metrics.f1_score(y, guess, average="macro")
    )
    assert evaluation.macro_f1(p, y) == pytest.approx(metrics.f1_score(y, guess, average="macro"))
    assert evaluation.log_loss(p, y) == pytest.approx(metrics.log_loss(y, p))


def test_macro_f1_leaves_out_a_class_nobody_saw_as_scikit_learn_does():
    y, guess = np.array([0, 0, 2, 2, 5]), np.array([0, 2, 2, 2, 4])
    assert evaluation.macro_f1(guess, y) == pytest.approx(
        metrics.f1_score(y, guess, average="macro", zero_division=0)
    )
    assert evaluation.macro_f1(guess, y) == pytest.approx((2 / 3 + 4 / 5 + 0 + 0) / 4), (
        "classes 0, 2, 4, 5 by hand"
    )


def test_two_class_brier_score_is_twice_the_binary_one(rng):
    p = rng.uniform(size=200)
    y = rng.integers(0, 2, 200)
    assert evaluation.brier_score(np.stack([1 - p, p], axis=1), y) == pytest.approx(
        2 * metrics.brier_score_loss(y, p)
    )


def test_brier_score_by_hand():
    """First sample .3² + .3² = .18; second .2² + .8² + .6² = 1.04."""
    p = [[0.7, 0.3, 0.0], [0.2, 0.2, 0.6]]
    assert evaluation.brier_score(np.array(p), [0, 1]) == pytest.approx((0.18 + 1.04) / 2)


def test_calibration_error_by_hand():
    """Five bins: confidences .5 and .6 with one of two right; .7, right; .9 and 1 with one of two
    right."""
    top = np.array([0.5, 0.6, 0.7, 0.9, 1.0])
    p = np.stack([top, 1 - top], axis=1)
    y = np.array([0, 1, 0, 0, 1])
    by_hand = 2 / 5 * abs(0.5 - 0.55) + 1 / 5 * abs(1 - 0.7) + 2 / 5 * abs(0.5 - 0.95)
    assert evaluation.expected_calibration_error(p, y, bins=5) == pytest.approx(by_hand)
    curve = evaluation.reliability_curve(p, y, bins=5)
    np.testing.assert_allclose(curve.confidence, [0.55, 0.7, 0.95])
    np.testing.assert_allclose(curve.accuracy, [0.5, 1.0, 0.5])
    np.testing.assert_array_equal(curve.count, [2, 1, 2])
    np.testing.assert_allclose(curve.upper, [0.6, 0.8, 1.0])
    np.testing.assert_allclose(curve.lower, [0.4, 0.6, 0.8])


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_reliability_curve_agrees_with_scikit_learn(rng, bins):
    p, y = some_predictions(rng)
    right, confidence = calibration_curve(p.argmax(axis=1) == y, p.max(axis=1), n_bins=bins)
    curve = evaluation.reliability_curve(p, y, bins=bins)
    np.testing.assert_allclose(curve.accuracy, right)
    np.testing.assert_allclose(curve.confidence, confidence)


@pytest.mark.parametrize("true_t", [0.3, 1.0, 2.5, 20.0])
def test_temperature_recovers_the_one_that_was_put_in(rng, true_t):
    """Labels drawn from softmax(z), logits reported as T·z: the maximum-likelihood T is found to
    sampling error."""
    z = 2 * rng.standard_normal((20_000, 3))
    y = (special.softmax(z, axis=1).cumsum(axis=1) > rng.uniform(size=(20_000, 1))).argmax(axis=1)
    assert evaluation.temperature_scale(true_t * z, y) == pytest.approx(true_t, rel=0.03)


def test_temperature_is_the_minimum_that_a_general_optimiser_finds(rng):
    p, y = some_predictions(rng)
    logits = 4 * np.log(p)

    def loss(log_t: float) -> float:
        return metrics.log_loss(y, special.softmax(logits / math.exp(log_t), axis=1))

    best = optimize.minimize_scalar(
        loss, bounds=(-3, 4), method="bounded", options={"xatol": 1e-10}
    )
    assert evaluation.temperature_scale(logits, y) == pytest.approx(math.exp(best.x), rel=1e-5)
    calibrated = evaluation.apply_temperature(logits, evaluation.temperature_scale(logits, y))
    assert metrics.log_loss(y, calibrated) == pytest.approx(best.fun)


def test_uncorrected_comparison_is_the_paired_t_test(rng):
    a, b = rng.normal(0.7, 0.05, 12), rng.normal(0.66, 0.05, 12)
    plain = stats.ttest_rel(a, b)
    bounds = plain.confidence_interval(0.9)
    ours = evaluation.paired_comparison(a, b, test_fraction=0, level=0.9)
    assert (ours.p, ours.low, ours.high) == pytest.approx((plain.pvalue, bounds.low, bounds.high))
    nearly = evaluation.paired_comparison(a, b, n_train=10**12, n_test=1)
    assert nearly.p == pytest.approx(plain.pvalue)


def test_corrected_comparison_by_hand():
    """Differences 1 2 3 4 (per cent): mean 2.5, s² = 5/3; n_test/n_train = 1/4, so error² = (1/4 +
    1/4) · 5/3 = 5/6.

    t = 2.5 / sqrt(5/6) = 2.7386; with 3 degrees of freedom the t law has the closed form
    P(|T| > t) = 1 - (2/π) (θ + sin θ cos θ), θ = atan(t/√3), and its 97.5 % point is 3.1824
    (printed tables).
    """
    b = np.array([0.60, 0.58, 0.61, 0.57])
    result = evaluation.paired_comparison(
        b + np.array([0.01, 0.02, 0.03, 0.04]), b, n_train=800, n_test=200
    )
    theta = math.atan(2.5 / math.sqrt(5 / 6) / math.sqrt(3))
    assert result.p == pytest.approx(1 - 2 / math.pi * (theta + math.sin(theta) * math.cos(theta)))
    assert result.difference == pytest.approx(0.025)
    assert result.high - result.difference == pytest.approx(
        3.1824 * math.sqrt(5 / 6) / 100, rel=1e-4
    )
    assert (result.wins, result.n, result.ties) == (4, 4, 0)


def test_the_correction_widens_the_interval_by_the_stated_factor(rng):
    scores = rng.normal(0.6, 0.02, 25)
    plain, corrected = (evaluation.corrected_interval(scores, test_fraction=f) for f in (0, 0.2))
    assert (corrected.high - corrected.low) / (plain.high - plain.low) == pytest.approx(
        math.sqrt(1 + 25 / 4)
    )
    assert (plain.low, plain.high) == pytest.approx(
        stats.t.interval(0.95, 24, scores.mean(), stats.sem(scores))
    )


def test_bootstrap_interval_agrees_with_scipy(rng):
    values = rng.exponential(size=80)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    ours = evaluation.bootstrap_interval(values, resamples=20_000, seed=2)
    expected = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx(
        (expected.low, expected.high), abs=0.03 * stats.sem(values) * 4
    )
    assert ours.estimate == pytest.approx(values.mean())


def test_bootstrap_of_groups_of_equal_size_is_the_bootstrap_of_group_means(rng):
    means = rng.normal(size=30)
    values, groups = np.repeat(means, 5), np.repeat(np.arange(30), 5)
    grouped = evaluation.bootstrap_interval(values, groups=groups, seed=3)
    of_means = evaluation.bootstrap_interval(means, seed=3)
    assert (grouped.low, grouped.high) == pytest.approx((of_means.low, of_means.high))
    naive = evaluation.bootstrap_interval(values, seed=3)
    assert grouped.high - grouped.low > 2 * (naive.high - naive.low), (
        "the naive one takes copies for evidence"
    )


def test_a_statistic_is_bootstrapped_over_rows_and_over_groups(rng):
    p, y = some_predictions(rng, n=120)
    rows = np.stack([p.argmax(axis=1), y], axis=1)
    hits = rows[:, 0] == rows[:, 1]
    groups = np.repeat(np.arange(40), 3)
    for g in (None, groups):
        of_rows = evaluation.bootstrap_interval(
            rows,
            groups=g,
            statistic=lambda r: evaluation.accuracy(r[:, 0], r[:, 1]),
            resamples=2000,
            seed=1,
        )
        of_hits = evaluation.bootstrap_interval(hits, groups=g, resamples=2000, seed=5)
        assert of_rows.estimate == pytest.approx(of_hits.estimate)
        assert (of_rows.low, of_rows.high) == pytest.approx((of_hits.low, of_hits.high), abs=0.015)


def coverage(intervals: list[evaluation.Interval], truth: float) -> float:
    return sum(i.low <= truth <= i.high for i in intervals) / len(intervals)


def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say(rng):
    """400 samples of 100: 90 % nominal; four binomial standard errors are .06, the small-sample
    shortfall about .01."""
    drawn = [
        evaluation.bootstrap_interval(rng.normal(size=100), 0.9, resamples=400, seed=i)
        for i in range(400)
    ]
    assert coverage(drawn, 0.0) == pytest.approx(0.89, abs=0.06)


def test_group_bootstrap_holds_the_truth_where_the_naive_one_does_not(rng):
    """40 speakers of 10 samples that share most of their luck."""
    groups = np.repeat(np.arange(40), 10)
    naive, grouped = [], []
    for i in range(200):
        values = rng.normal(size=40)[groups] + 0.5 * rng.normal(size=400)
        naive.append(evaluation.bootstrap_interval(values, resamples=400, seed=i))
        grouped.append(evaluation.bootstrap_interval(values, groups=groups, resamples=400, seed=i))
    assert coverage(grouped, 0.0) > 0.88
    assert coverage(naive, 0.0) < 0.7


def crossed(rng, starts=8, groups=40):
    """Values (S, N) whose mean is 0: luck of the start, of the group (three samples each), both."""
    start, group = 0.5 * rng.normal(size=(starts, 1)), rng.normal(size=groups)
    each = 0.3 * rng.normal(size=(starts, groups))
    return (start + group + each).repeat(3, axis=1), np.arange(groups).repeat(3)


def test_the_pigeonhole_bootstrap_of_equal_starts_is_the_bootstrap_of_groups(rng):
    values = rng.normal(size=60)
    groups = rng.integers(12, size=60)
    ours = evaluation.pigeonhole_bootstrap(np.stack([values] * 3), groups, resamples=20_000)
    plain = evaluation.bootstrap_interval(values, groups=groups, resamples=20_000)
    assert (ours.estimate, ours.low, ours.high) == pytest.approx(
        (plain.estimate, plain.low, plain.high), abs=0.02
    )


def test_the_pigeonhole_bootstrap_of_equal_groups_is_the_bootstrap_of_starts(rng):
    starts = rng.normal(size=9)
    ours = evaluation.pigeonhole_bootstrap(np.stack([starts] * 4, axis=1), resamples=20_000)
    plain = evaluation.bootstrap_interval(starts, resamples=20_000)
    assert (ours.low, ours.high) == pytest.approx((plain.low, plain.high), abs=0.03)


def test_the_pigeonhole_variance_agrees_with_its_closed_form(rng):
    """Counts drawn twice are multinomial, so with groups of one size the variance over redraws is
    that of the start means / S + that of the group means / G + that of what is left / (S G), each
    with S and G as denominators (Owen 2007, section 4)."""
    values, groups = crossed(rng)
    cells = values[:, ::3]
    rows, columns = cells.mean(1, keepdims=True), cells.mean(0, keepdims=True)
    rest = cells - rows - columns + cells.mean()
    s, g = cells.shape
    expected = rows.var() / s + columns.var() / g + rest.var() / (s * g)
    found = evaluation.pigeonhole_bootstrap(values, groups, level=0.6827, resamples=20_000)
    assert (found.high - found.low) / 2 == pytest.approx(math.sqrt(expected), rel=0.04)


def test_the_pigeonhole_bootstrap_holds_the_truth_where_samples_alone_do_not(rng):
    both, alone = [], []
    for i in range(150):
        values, groups = crossed(rng)
        both.append(evaluation.pigeonhole_bootstrap(values, groups, i, resamples=300))
        alone.append(evaluation.bootstrap_interval(values.mean(0), groups=groups, resamples=300))
    assert coverage(both, 0.0) > 0.87
    assert coverage(alone, 0.0) < 0.85


def test_the_correction_holds_its_level_where_the_plain_paired_t_does_not(rng):
    """Two equally good methods compared over 5 x 5-fold CV, a true difference of 0 each time.

    Each sample has a fixed gain of mean 0, and every repeat averages the same gains over other
    folds: 25 scores, but only 100 samples' worth of evidence. The plain test announces far more
    than 5 % findings, the corrected does not.
    """
    plain, corrected = [], []
    y = np.repeat([0, 1], 50)
    for i in range(200):
        gain = rng.normal(size=100)
        scores = np.array([gain[test].mean() for _, test in evaluation.folds(y, seed=i)])
        plain.append(evaluation.paired_comparison(scores, 0 * scores, test_fraction=0).p)
        corrected.append(evaluation.paired_comparison(scores, 0 * scores).p)
    assert np.mean(np.array(plain) < 0.05) > 0.2
    assert np.mean(np.array(corrected) < 0.05) < 0.1


def test_tensors_and_arrays_give_the_same_numbers(rng):
    p, y = some_predictions(rng)
    tensors = torch.from_numpy(p).requires_grad_(), torch.from_numpy(y)
    for metric in (
        "accuracy",
        "macro_f1",
        "brier_score",
        "log_loss",
        "expected_calibration_error",
        "temperature_scale",
    ):
        assert getattr(evaluation, metric)(*tensors) == getattr(evaluation, metric)(p, y), metric
