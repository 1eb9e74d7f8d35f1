"""Score against severity, and two questions to ask of it: better than doing without? How much of
the gain is left?

Taught in chapter 8.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from mmtutor.checks import Array, as_numpy, require
from mmtutor.evaluation import Interval, bootstrap_interval

S = TypeVar("S")


@dataclass(frozen=True)
class Curve:
    """scores[i]: the score at severities[i], with its interval. Raises ValueError for unequal
    lengths or disorder."""

    severities: list[float]
    scores: list[Interval]

    def __post_init__(self) -> None:
        """Refuse a table that is none."""
        require(
            len(self.severities) == len(self.scores),
            f"{len(self.severities)} severities but {len(self.scores)} scores, expected one for"
            " each",
        )
        _check_severities(self.severities)

    @property
    def estimates(self) -> list[float]:
        """Return the scores without their intervals."""
        return [score.estimate for score in self.scores]


def robustness_curve(
    predict: Callable[[S], Array],
    samples: S,
    change: Callable[[S, float], S],
    severities: Sequence[float],
    y: Array,
    score: Callable[[np.ndarray, np.ndarray], float],
    groups: Array | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 1000,
) -> Curve:
    """Return score(predict(change(samples, s)), y) for each severity s, with a bootstrap interval
    over samples.

    predict: samples → probabilities (N, C) or classes (N,); change: (samples, severity) → samples,
    seeded inside, such as `corrupt` and an encoder; severities: increasing, in [0, 1]; y: (N,);
    score(predicted, y): such as `accuracy` or `macro_f1`; groups, level, seed, resamples: as
    `bootstrap_interval`. The seed being the same, every severity is scored on the same redrawn
    samples. An interval says how sure one point is; neighbours share their samples, so overlapping
    intervals do not mean that two severities score alike.
    Raises ValueError where predict returns another number of rows than y has, and as
    `bootstrap_interval`.
    """
    levels = [float(severity) for severity in severities]
    _check_severities(levels)
    truth = as_numpy(y)

    def scored(severity: float) -> Interval:
        predicted = as_numpy(predict(change(samples, severity)))
        require(
            predicted.ndim in (1, 2) and len(predicted) == len(truth),
            f"predict returned shape {predicted.shape} at severity {severity}, y has shape"
            f" {truth.shape}",
        )
        return bootstrap_interval(
            np.arange(len(truth)),
            level,
            groups,
            seed,
            statistic=lambda i: score(predicted[i], truth[i]),
            resamples=resamples,
        )

    return Curve(levels, [scored(severity) for severity in levels])


def effective_robustness(curve: Curve, reference: Curve | float) -> list[float]:
    """e(s) = score(s) - reference(s): what a fusion is still worth, compared with ignoring the
    corrupted modality.

    reference: the score of the best alternative that does not look at the corrupted modality; a
    number, since severity does not touch it, or a curve over the same severities. Below 0 one would
    do better to drop the modality. Taori et al. (Measuring Robustness to Natural Distribution
    Shifts, NeurIPS 2020) subtract the score that other models of the same clean accuracy are
    expected to have under the shift; here the one who ignores it takes their place. A difference of
    two estimates: for its interval, redraw both on the same samples (`bootstrap_interval`).
    Raises ValueError for a reference over other severities.
    """
    if not isinstance(reference, Curve):
        return [score - reference for score in curve.estimates]
    require(
        list(reference.severities) == list(curve.severities),
        f"the reference is over severities {reference.severities}, the curve over"
        f" {curve.severities}",
    )
    return np.subtract(curve.estimates, reference.estimates).tolist()


def relative_robustness(curve: Curve, reference: Curve | float) -> list[float]:
    """r(s) = (score(s) - reference(s)) / (score(0) - reference(0)): the share of the clean gain
    that is left.

    1 at severity 0, 0 where the gain is gone, negative where the fusion is worse than doing
    without. Arguments as `effective_robustness`, whose ratio to its own clean value this is. (Taori
    et al. call relative robustness a plain difference, of the scores of a model with and without an
    intervention, both under the shift.)
    Raises ValueError unless the curve begins at severity 0, and where there is no clean gain to
    take shares of.
    """
    gains = effective_robustness(curve, reference)
    require(
        curve.severities[0] == 0,
        f"the curve begins at severity {curve.severities[0]}, expected 0: the clean gain is"
        " unknown",
    )
    require(
        gains[0] > 0,
        f"the clean gain is {gains[0]:.4g}, expected more than 0: there is none to take shares of",
    )
    return [gain / gains[0] for gain in gains]


def _check_severities(levels: Sequence[float]) -> None:
    require(
        levels and levels[0] >= 0 and levels[-1] <= 1 and all(a < b for a, b in pairwise(levels)),
        f"severities are {list(levels)}, expected at least one, increasing, in [0, 1]",
    )
