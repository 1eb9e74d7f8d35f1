"""How sure are we? Intervals for one method and for the difference of two, over samples, groups or
folds.

Taught in chapter 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mmtutor.checks import (
    Array,
    as_numpy,
    finite,
    group_numbers,
    proper_fraction,
    require,
    whole_number,
)

# test share assumed for scores over folds: that of `folds` with its five splits
FOLD_SHARE = 0.2

# redrawn values held at once by the bootstrap: some 50 MB
CELLS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate between its bounds, in the units of the values it was made from; level: nominal
    coverage, 0 to 1."""

    estimate: float
    low: float
    high: float
    level: float = 0.95

    def __format__(self, spec: str) -> str:
        """Write all three numbers with one format: f"{interval:.2f}" gives "0.63 [0.61, 0.66]"."""
        spec = spec or ".3f"
        return f"{self.estimate:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        """Write "0.634 [0.610, 0.658]"."""
        return format(self, "")


@dataclass(frozen=True)
class Comparison:
    """Mean of a - b over n pairs with its interval and two-sided p; wins and ties count the pairs
    with a > b, a = b."""

    difference: float
    low: float
    high: float
    p: float
    wins: int
    n: int
    ties: int = 0
    level: float = 0.95

    def __format__(self, spec: str) -> str:
        """Write difference and bounds with a format such as "+.2f"; p keeps three digits."""
        spec = spec or "+.3f"
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        ties = f" ({self.ties} tied)" if self.ties else ""
        bounds = f"[{self.low:{spec}}, {self.high:{spec}}]"
        return f"{self.difference:{spec}} {bounds}, {p}, {self.wins} of {self.n} won{ties}"

    def __str__(self) -> str:
        """Write "+0.043 [+0.014, +0.072], p = 0.005, 14 of 15 won"."""
        return format(self, "")


def bootstrap_interval(
    values: Array,
    level: float = 0.95,
    groups: Array | None = None,
    seed: int = 0,
    *,
    statistic: Callable[[np.ndarray], float] | None = None,
    resamples: int = 5000,
) -> Interval:
    """Percentile bootstrap interval for the mean of per-sample scores, or for any other statistic
    of them.

    values: (N,) scores such as hits of 0 and 1, or (N, K) columns for a `statistic` that takes the
    redrawn rows, such as lambda rows: macro_f1(rows[:, 0], rows[:, 1]). groups: (N,) group of each
    sample; whole groups are then drawn, which is right when samples of one speaker, patient or
    theme resemble each other. Use one value per sample of *one* test set: scores of overlapping
    folds belong in `corrected_interval`. Efron and Tibshirani, An Introduction to the Bootstrap,
    1993, ch. 13; groups: Davison and Hinkley 1997, sec. 3.8. Raises ValueError for NaN, fewer than
    two samples or groups, unequal lengths, level outside (0, 1).
    """
    rows = as_numpy(values)
    finite("values", rows, 1 if statistic is None else rows.ndim)
    members = _members(rows, groups, level, resamples)
    rng = np.random.default_rng(seed)
    if statistic is None:
        totals = _resampled_totals(np.stack([rows, np.ones(len(rows))], 1), members, resamples, rng)
        estimate, drawn = float(rows.mean()), totals[:, 0] / totals[:, 1]
    else:
        estimate = float(statistic(rows))
        picks = (rng.integers(0, len(members), len(members)) for _ in range(resamples))
        # without groups the members are the rows themselves: joining N arrays of one would take
        # most of the time
        redrawn = (
            picks
            if groups is None
            else (np.concatenate([members[i] for i in pick]) for pick in picks)
        )
        drawn = np.array([statistic(rows[pick]) for pick in redrawn])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level)


def bootstrap_totals(
    parts: Array,
    statistic: Callable[[np.ndarray], np.ndarray],
    groups: Array | None = None,
    seed: int = 0,
    *,
    level: float = 0.95,
    resamples: int = 5000,
) -> list[Interval]:
    """Percentile bootstrap intervals for several statistics of the same redraws, each a function of
    totals over the samples.

    parts: (N, K), what each sample adds to K totals, such as a hit or a guess of a class;
    statistic: totals (R, K) of R redraws → (R, S), one interval for each of the S columns. Quick
    where there are many samples: only the totals of groups are drawn. The rest as in
    `bootstrap_interval`.
    """
    rows = finite("parts", parts, 2)
    members = _members(rows, groups, level, resamples)
    drawn = statistic(_resampled_totals(rows, members, resamples, np.random.default_rng(seed)))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    estimate = statistic(rows.sum(axis=0, keepdims=True))[0]
    return [
        Interval(float(value), float(bottom), float(top), level)
        for value, bottom, top in zip(estimate, low, high, strict=True)
    ]


def pigeonhole_bootstrap(
    values: Array,
    groups: Array | None = None,
    seed: int = 0,
    *,
    level: float = 0.95,
    resamples: int = 4000,
) -> Interval:
    """Percentile bootstrap interval for a mean over training starts and over groups of samples,
    both redrawn: what other starts *and* other speakers could have given.

    values: (S, N), sample n under start s. groups: (N,) group of each sample, drawn whole; without
    them each column is drawn by itself. Owen, The Pigeonhole Bootstrap, Annals of Applied
    Statistics 1, 2007: what belongs to one start with one group is counted more than once, so it
    is rather too wide; with few starts or groups a percentile interval is too narrow. Raises
    ValueError as `bootstrap_interval`, and for fewer than two starts. Used in chapters 4, 5 and 8.
    """
    rows = finite("values", values, 2)
    starts = len(rows)
    require(starts >= 2, f"redrawing starts needs at least 2 rows of values, not {starts}")
    members = _members(rows.T, groups, level, resamples)
    totals = np.stack([rows[:, member].sum(axis=1) for member in members], axis=1)  # (S, G)
    sizes = np.array([len(member) for member in members])
    rng = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for i in range(resamples):
        who, start = rng.integers(len(sizes), size=len(sizes)), rng.integers(starts, size=starts)
        drawn[i] = totals[start][:, who].mean(axis=0).sum() / sizes[who].sum()
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(rows.mean()), float(low), float(high), level)


def corrected_interval(
    values: Array,
    *,
    test_fraction: float | None = None,
    n_train: Array | float | None = None,
    n_test: Array | float | None = None,
    level: float = 0.95,
) -> Interval:
    """t interval for one method's mean score over J folds, widened because folds share training
    data.

    mean ± t(J - 1) · sqrt((1/J + n_test/n_train) · s²), s² the variance over folds (J - 1 in its
    denominator).
    values: (J,). Arguments, source and errors as in `paired_comparison`. Equal values give an
    interval of no width.
    """
    scores = _fold_scores("values", values)
    mean = paired_comparison(
        scores,
        np.zeros_like(scores),
        test_fraction=test_fraction,
        n_train=n_train,
        n_test=n_test,
        level=level,
    )
    return Interval(mean.difference, mean.low, mean.high, level)


def paired_comparison(
    a: Array,
    b: Array,
    *,
    test_fraction: float | None = None,
    n_train: Array | float | None = None,
    n_test: Array | float | None = None,
    level: float = 0.95,
) -> Comparison:
    """Is method a better than method b on the same J folds? Nadeau and Bengio's corrected resampled
    t test.

    t = mean(a - b) / sqrt((1/J + n_test/n_train) · s²), J - 1 degrees of freedom, two-sided. The
    plain paired t has 1/J alone, as if folds were independent; they share most of their training
    data, so it announces differences that are not there.

    a, b: (J,) scores of the two methods, fold by fold. Say how large the splits were with n_train
    and n_test (samples, or arrays of one per fold) or with test_fraction = n_test / (n_train +
    n_test); left out, it is 0.2, five-fold CV. test_fraction=0 gives the plain paired t, right only
    where every pair has training and test data of its own. Identical scores: difference 0, p 1. The
    same difference other than 0 in every pair: p 0, no width. Nadeau and Bengio, Inference for the
    Generalization Error, Machine Learning 52, 2003. Raises ValueError for NaN, unequal lengths,
    fewer than two pairs, impossible sizes.
    """
    first, second = _fold_scores("a", a), _fold_scores("b", b)
    require(
        len(first) == len(second),
        f"a has {len(first)} scores and b {len(second)}: a paired comparison needs both on each"
        " fold",
    )
    proper_fraction("level", level)
    gain = first - second
    variance = (1 / len(gain) + _ratio(test_fraction, n_train, n_test)) * gain.var(ddof=1)
    mean, error = float(gain.mean()), float(np.sqrt(variance))
    t = abs(mean) / error if error else (np.inf if mean else 0.0)
    p = float(2 * stats.t.sf(t, len(gain) - 1))
    half = error * float(stats.t.ppf((1 + level) / 2, len(gain) - 1))
    wins, ties = int((gain > 0).sum()), int((gain == 0).sum())
    return Comparison(mean, mean - half, mean + half, p, wins, len(gain), ties, level)


def _resampled_totals(
    parts: np.ndarray, members: list[np.ndarray], resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Totals (resamples, K) of the parts (N, K) over draws of whole groups with replacement, in
    batches of bounded memory."""
    totals = np.array([parts[rows].sum(axis=0) for rows in members]).T.copy()  # (K, G)
    count = len(members)
    batch = max(1, CELLS_AT_ONCE // count)
    picks = (
        rng.integers(0, count, (min(batch, resamples - start), count))
        for start in range(0, resamples, batch)
    )
    drawn = [np.stack([column[pick].sum(axis=1) for column in totals], 1) for pick in picks]
    return np.concatenate(drawn)


def _members(
    rows: np.ndarray, groups: Array | None, level: float, resamples: int
) -> list[np.ndarray]:
    """Return the positions of each group's samples; without groups, each sample alone. ValueError
    where no interval of that level could come from redrawing them so often."""
    proper_fraction("level", level)
    whole_number("resamples", resamples, 100, hint=": the ends of an interval need many")
    n = len(rows) if rows.ndim else 0
    require(n >= 2, f"an interval needs at least 2 samples, not {n}")
    group = group_numbers(groups, n)
    if group is None:
        return list(np.arange(n)[:, None])
    require(group.max(), "all samples belong to one group: redrawing groups needs at least 2")
    return np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])


def _fold_scores(name: str, values: Array) -> np.ndarray:
    scores = finite(name, values, 1)
    require(
        len(scores) >= 2, f"{name} has {len(scores)} score: a spread over folds needs at least 2"
    )
    return scores


def _ratio(
    test_fraction: float | None, n_train: Array | float | None, n_test: Array | float | None
) -> float:
    """Return n_test / n_train from whichever way the caller said it."""
    if n_train is None and n_test is None:
        share = FOLD_SHARE if test_fraction is None else test_fraction
        proper_fraction("test_fraction", share, zero=True)
        return share / (1 - share)
    if n_train is None or n_test is None or test_fraction is not None:
        raise ValueError("give n_train and n_test together, or test_fraction alone")
    train, test = (np.atleast_1d(as_numpy(size)).astype(np.float64) for size in (n_train, n_test))
    require(
        np.isfinite([*train, *test]).all() and (train > 0).all() and (test >= 0).all(),
        f"n_train must be > 0 and n_test >= 0, not {n_train!r} and {n_test!r}",
    )
    return float(test.mean() / train.mean())
