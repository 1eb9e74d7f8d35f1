"""How good are answers, and for whom? Scores with intervals over groups that are redrawn whole."""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from mmtutor.apps.rows import in_order
from mmtutor.evaluation import (
    bootstrap_totals,
    expected_calibration_error,
    log_loss,
    reliability_curve,
)

RESAMPLES = 2000
SPECIFICITY = 0.9
"""Share of the others that is let pass at the threshold at which sensitivity is told."""
CUT_ABOVE = 8
"""Numbers of more values than these are cut at thirds where a slice is taken by them."""


def ratios(
    parts: Mapping[Any, tuple[np.ndarray, ...]], groups: np.ndarray
) -> dict[Any, dict[str, Any]]:
    """Return name → {"value", "interval"} of ratios Σ above / Σ below; null for a value without
    anything below, and for intervals where there is but one group, or some redraw has nothing
    below.

    parts[name]: (above, below), (N,) each; groups: (N,).
    """
    columns = np.stack([np.asarray(each, float) for pair in parts.values() for each in pair], 1)

    def ratio(totals: np.ndarray) -> np.ndarray:
        above, below = totals[:, ::2], totals[:, 1::2]
        return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)

    return dict(zip(parts, _scored(columns, ratio, groups), strict=True))


def class_scores(guess: np.ndarray, probs: np.ndarray, y: np.ndarray, groups: np.ndarray) -> dict:
    """Return scores of answers about classes, for JSON: guess, y: (N,), probs: (N, C).

    macro_f1 and accuracy with intervals; ece, log_loss, the confusion counts, and of every bin of
    confidence how often its answers are right.
    """
    classes = probs.shape[1]
    guessed, true = np.eye(classes)[guess], np.eye(classes)[y]
    parts = np.hstack([guessed * true, guessed, true])  # (N, 3C): hits, guesses, truths per class
    f1, accuracy = _scored(parts, _f1_and_accuracy, groups)
    curve = reliability_curve(probs, y, 10)
    bins = zip(curve.confidence, curve.accuracy, curve.count, strict=True)
    return {
        "macro_f1": {**f1, "level": 0.95},
        "accuracy": {**accuracy, "level": 0.95},
        "ece": {"value": expected_calibration_error(probs, y)},
        "log_loss": {"value": log_loss(probs, y)},
        "confusion": confusion_matrix(y, guess, labels=range(classes)).tolist(),
        "calibration": [{"said": float(a), "right": float(b), "n": int(n)} for a, b, n in bins],
    }


def number_scores(guess: np.ndarray, y: np.ndarray, groups: np.ndarray) -> dict:
    """Return R² and mean absolute error of predicted numbers with intervals: guess, y: (N,)."""
    one, error = np.ones(len(y)), guess - y
    found = ratios(
        {"unexplained": (error**2, (y - y.mean()) ** 2), "mae": (np.abs(error), one)}, groups
    )
    lost = found.pop("unexplained")
    bounds = lost["interval"] and [1 - end for end in lost["interval"][::-1]]
    value = None if lost["value"] is None else 1 - lost["value"]
    return {"r2": {"value": value, "interval": bounds, "level": 0.95}, **found}


def cut(column: str, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and mask of the slices of a column: its values, or ranges where it holds numbers,
    cut as "age:40:60" says, or near thirds where there are more than CUT_ABOVE."""
    name, *ends = column.split(":")
    known = np.array([value != "" for value in values], bool)
    numbers = np.asarray(pd.to_numeric(pd.Series(values, dtype=object), errors="coerce"), float)
    if np.isfinite(numbers[known]).all() and (ends or len(np.unique(numbers[known])) > CUT_ABOVE):
        thirds = ends or [f"{end:.3g}" for end in np.quantile(numbers[known], [1 / 3, 2 / 3])]
        inner = [float(end) for end in thirds]
        for low, high in pairwise([-np.inf, *inner, np.inf]):
            told = [f"from {low:g}"] * (low > -np.inf) + [f"below {high:g}"] * (high < np.inf)
            yield " ".join([name, *told]), (numbers >= low) & (numbers < high)
    else:
        for value in in_order(set(values)):
            yield f"{name} {value}", values == value
    if not known.all():
        yield f"{name} unknown", ~known


def threshold(positive: np.ndarray, true: np.ndarray) -> float:
    """Return the probability of being positive above which SPECIFICITY of those that are not are
    let pass; positive: (N,), true: (N,) bool."""
    return float(np.quantile(positive[~true], SPECIFICITY)) if not true.all() else np.nan


def _f1_and_accuracy(totals: np.ndarray) -> np.ndarray:
    """Return macro-F1 and accuracy, (R, 2), from R redraws' hits, guesses and truths per class.

    A class that a redraw lacks altogether is left out of its mean.
    """
    hits, guessed, true = np.split(totals, 3, axis=1)
    f1 = np.full_like(hits, np.nan)
    np.divide(2 * hits, guessed + true, out=f1, where=guessed + true > 0)
    return np.stack([np.nanmean(f1, axis=1), hits.sum(1) / true.sum(1)], axis=1)


def _scored(
    columns: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], groups: np.ndarray
) -> list[dict[str, Any]]:
    """Return value and interval of each number that `statistic` makes of the columns' sums; null as
    `ratios` says."""
    values = statistic(columns.sum(0, keepdims=True))[0].tolist()
    bounds = [[np.nan, np.nan]] * len(values)
    if len(np.unique(groups)) > 1:
        drawn = bootstrap_totals(columns, statistic, groups, resamples=RESAMPLES)
        bounds = [[i.low, i.high] for i in drawn]
    return [
        {
            "value": value if np.isfinite(value) else None,
            "interval": ends if np.isfinite(ends).all() else None,
        }
        for value, ends in zip(values, bounds, strict=True)
    ]
