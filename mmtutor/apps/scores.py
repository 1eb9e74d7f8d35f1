"""How good are a model's answers on labelled posts? Scores with intervals over posts that are not
reposts."""

from __future__ import annotations

import numpy as np

from mmtutor.evaluation import Interval, expected_calibration_error, log_loss

CELLS_AT_ONCE = 4_000_000


def bootstrap_scores(
    guess: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    classes: int,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return macro-F1 and accuracy with 95 % percentile bootstrap intervals, redrawing whole
    groups.

    guess, y: (N,) classes; groups: (N,). The same as `evaluation.bootstrap_interval` with groups,
    by way of counts per group, which for 100,000 posts takes seconds and not an hour: a redraw is a
    weight per group, and both scores follow from weighted sums of hits, guesses and truths per
    class. A class that a redraw lacks altogether is left out of its mean. One group only: the
    interval is [nan, nan].
    """
    _, group = np.unique(groups, return_inverse=True)
    count = group.max() + 1
    tables = np.zeros((3, count, classes))
    hit = guess == y
    np.add.at(tables[0], (group[hit], y[hit]), 1)
    np.add.at(tables[1], (group, guess), 1)
    np.add.at(tables[2], (group, y), 1)

    def score(weights: np.ndarray) -> np.ndarray:
        hits, guessed, true = (weights @ table for table in tables)  # (R, C)
        both = guessed + true
        with np.errstate(invalid="ignore"):
            f1 = np.nanmean(np.where(both > 0, 2 * hits / both, np.nan), axis=1)
        return np.stack([f1, hits.sum(1) / true.sum(1)], 1)

    estimate = score(np.ones((1, count)))[0]
    rng, batch, drawn = np.random.default_rng(seed), max(1, CELLS_AT_ONCE // count), []
    for start in range(0, resamples if count > 1 else 0, batch):
        drawn.append(
            score(
                rng.multinomial(
                    count, np.full(count, 1 / count), min(batch, resamples - start)
                ).astype(float)
            )
        )
    low, high = (
        np.quantile(np.concatenate(drawn), [0.025, 0.975], axis=0)
        if drawn
        else np.full((2, 2), np.nan)
    )
    names = ("macro_f1", "accuracy")
    return {
        name: Interval(float(estimate[k]), float(low[k]), float(high[k]))
        for k, name in enumerate(names)
    }


def figures(
    guess: np.ndarray, probs: np.ndarray, y: np.ndarray, groups: np.ndarray, classes: int
) -> dict:
    """Return all scores for JSON: {"macro_f1": {"value", "interval"}, ...}; n is exact, its
    interval [n, n]."""
    scores = {
        name: {
            "value": i.estimate,
            "interval": None if np.isnan(i.low) else [i.low, i.high],
            "level": i.level,
        }
        for name, i in bootstrap_scores(guess, y, groups, classes).items()
    }
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (y, guess), 1)
    return scores | {
        "n": {"value": len(y), "interval": [len(y), len(y)]},
        "ece": {"value": expected_calibration_error(probs, y)},
        "log_loss": {"value": log_loss(probs, y)},
        "confusion": confusion.tolist(),
    }
