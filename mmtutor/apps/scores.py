"""How good are a model's answers on labelled posts? Scores with intervals over posts that are not
reposts."""

import numpy as np
from sklearn.metrics import confusion_matrix

from mmtutor.evaluation import (
    accuracy,
    bootstrap_totals,
    expected_calibration_error,
    log_loss,
    macro_f1,
)

RESAMPLES = 2000


def figures(
    guess: np.ndarray, probs: np.ndarray, y: np.ndarray, groups: np.ndarray, classes: int
) -> dict:
    """Return all scores for JSON: {"macro_f1": {"value", "interval"}, ...}; n is exact, its
    interval [n, n].

    guess, y: (N,) classes; probs: (N, C); groups: (N,), redrawn whole by the bootstrap: one group
    only has no interval, null.
    """
    values = {"macro_f1": macro_f1(guess, y), "accuracy": accuracy(guess, y)}
    intervals: list[list[float] | None] = [None, None]
    if len(np.unique(groups)) > 1:
        # per class: hits, guesses, truths
        guessed, true = np.eye(classes)[guess], np.eye(classes)[y]
        parts = np.hstack([guessed * true, guessed, true])  # (N, 3C)
        bounds = bootstrap_totals(parts, _f1_and_accuracy, groups, resamples=RESAMPLES)
        intervals = [[i.low, i.high] for i in bounds]
    scores = {
        name: {"value": value, "interval": interval, "level": 0.95}
        for (name, value), interval in zip(values.items(), intervals, strict=True)
    }
    return scores | {
        "n": {"value": len(y), "interval": [len(y), len(y)]},
        "ece": {"value": expected_calibration_error(probs, y)},
        "log_loss": {"value": log_loss(probs, y)},
        "confusion": confusion_matrix(y, guess, labels=range(classes)).tolist(),
    }


def _f1_and_accuracy(totals: np.ndarray) -> np.ndarray:
    """Return macro-F1 and accuracy, (R, 2), from R redraws' hits, guesses and truths per class.

    A class that a redraw lacks altogether is left out of its mean.
    """
    hits, guessed, true = np.split(totals, 3, axis=1)
    f1 = np.full_like(hits, np.nan)
    np.divide(2 * hits, guessed + true, out=f1, where=guessed + true > 0)
    return np.stack([np.nanmean(f1, axis=1), hits.sum(1) / true.sum(1)], axis=1)
