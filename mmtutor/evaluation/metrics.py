"""Metrics of predictions and of probabilities; each returns a plain float. Taught in chapter 1."""

import numpy as np

from mmtutor.checks import Array, as_numpy, probabilities, whole_labels


def accuracy(predicted: Array, y: Array) -> float:
    """Share of samples whose predicted class is the true one, 0 to 1.

    predicted: (N,) classes or (N, C) probabilities (the largest wins, the first on ties); y: (N,)
    classes.
    Raises ValueError for NaN, rows that do not sum to one, labels out of range, unequal lengths.
    """
    guess, truth, _ = _classes_of(predicted, y)
    return float((guess == truth).mean())


def macro_f1(predicted: Array, y: Array) -> float:
    """Mean over classes of F1 = 2 TP / (2 TP + FP + FN), 0 to 1: rare classes count as much as
    common ones.

    predicted and y as in `accuracy`. A class that is neither true nor predicted anywhere has no F1
    and is left out of the mean, as in scikit-learn. Raises as `accuracy`.
    """
    guess, truth, width = _classes_of(predicted, y)
    hits = np.bincount(truth[guess == truth], minlength=width)
    # = 2 TP + FP + FN
    seen = np.bincount(truth, minlength=width) + np.bincount(guess, minlength=width)
    return float((2 * hits[seen > 0] / seen[seen > 0]).mean())


def brier_score(probs: Array, y: Array) -> float:
    """Mean over samples of Σ_c (p_c - [y = c])², 0 (sure and right) to 2 (sure and wrong).

    probs: (N, C), rows sum to one; y: (N,). For two classes this is twice the one-column score of
    the binary literature. Brier, Monthly Weather Review 78, 1950. Raises ValueError as `accuracy`.
    """
    p = probabilities(probs)
    truth = whole_labels("y", y, *p.shape)
    return float(((p - np.eye(p.shape[1])[truth]) ** 2).sum(axis=1).mean())


def log_loss(probs: Array, y: Array) -> float:
    """Mean of -ln p(true class) in nats, >= 0; ln C for a uniform guess.

    probs: (N, C), rows sum to one; y: (N,). Probabilities below 2.2e-16 count as that, so one
    impossible truth costs 36 nats and not infinity. Raises ValueError as `accuracy`.
    """
    p = probabilities(probs)
    truth = whole_labels("y", y, *p.shape)
    return float(-np.log(p[np.arange(len(p)), truth].clip(np.finfo(np.float64).eps, 1.0)).mean())


def _classes_of(predicted: Array, y: Array) -> tuple[np.ndarray, np.ndarray, int]:
    """Return predicted classes, true classes and the number of classes, from classes or
    probabilities."""
    if as_numpy(predicted).ndim == 2:
        p = probabilities(predicted)
        return p.argmax(axis=1), whole_labels("y", y, *p.shape), p.shape[1]
    guess = whole_labels("predicted", predicted)
    truth = whole_labels("y", y, len(guess))
    return guess, truth, int(max(guess.max(), truth.max())) + 1
