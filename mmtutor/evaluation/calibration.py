"""Does 80 % sure mean right 80 % of the time? Measuring it, drawing it, and mending it with one
number.

Taught in chapter 5.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax
from torch import Tensor

from mmtutor.checks import Array, finite, positive, probabilities, whole_labels, whole_number


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Confidence against accuracy, one entry per bin that holds a sample.

    confidence, accuracy: (K,) bin means, 0 to 1; count: (K,) samples; lower, upper: (K,) edges of
    the bins (lower, upper].
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @property
    def error(self) -> float:
        """Σ_k count_k / N · |accuracy_k - confidence_k|: the expected calibration error, 0 to 1."""
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.count))

    def __str__(self) -> str:
        """One line per bin: its edges, confidence, accuracy, count."""
        rows = zip(self.lower, self.upper, self.confidence, self.accuracy, self.count, strict=True)
        return "\n".join(
            f"({a:.3f}, {b:.3f}]  confidence {c:.3f}  accuracy {d:.3f}  n {n}"
            for a, b, c, d, n in rows
        )


def reliability_curve(probs: Array, y: Array, bins: int = 15) -> ReliabilityCurve:
    """Bin samples by the confidence of the predicted class, max_c p_c, and compare with how often
    it is right.

    probs: (N, C), rows sum to one; y: (N,); bins: equally wide, over (0, 1]. Empty bins are left
    out. Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (arXiv 1706.04599). Raises
    ValueError for NaN, rows that do not sum to one, labels out of range, unequal lengths, bins < 1.
    """
    p = probabilities(probs)
    truth = whole_labels("y", y, *p.shape)
    whole_number("bins", bins, 1)
    confidence = p.max(axis=1).clip(0.0, 1.0)
    right = p.argmax(axis=1) == truth
    edges = np.linspace(0.0, 1.0, bins + 1)
    # right-closed: confidence 1 belongs to the last bin
    where = np.searchsorted(edges[1:-1], confidence)
    count = np.bincount(where, minlength=bins)
    kept = np.flatnonzero(count)
    sure, hits = (
        np.bincount(where, values, bins)[kept] / count[kept] for values in (confidence, right)
    )
    return ReliabilityCurve(sure, hits, count[kept], edges[kept], edges[kept + 1])


def expected_calibration_error(probs: Array, y: Array, bins: int = 15) -> float:
    """ECE = Σ_k count_k / N · |accuracy_k - confidence_k| over the bins of `reliability_curve`, 0
    to 1.

    Arguments, source and errors as there. Biased upwards for few samples: even a perfect model
    scores above 0.
    """
    return reliability_curve(probs, y, bins).error


LEAST_T, MOST_T = 0.01, 100.0


def temperature_scale(logits: Array, y: Array) -> float:
    """Temperature T > 0 that minimises the mean of -ln softmax(logits / T)[y]: above 1 for an
    overconfident model.

    logits: (N, C); y: (N,), from samples the model was not trained on. The loss is convex in 1/T,
    so its slope has one zero, found by Brent's method. T is sought in [0.01, 100] and is the nearer
    end where the optimum lies outside: 0.01 when every answer is right (sharper is always better),
    100 when the logits know nothing. Equal logits throughout: 1. Guo et al. 2017. Raises ValueError
    for NaN or infinite logits, labels out of range, unequal lengths.
    """
    z = finite("logits", logits, 2)
    truth = whole_labels("y", y, *z.shape)
    at_truth = z[np.arange(len(z)), truth].mean()
    if not np.ptp(z, axis=1).any():
        return 1.0

    def slope(log_t: float) -> float:
        """Return the derivative of the loss by 1/T: the logit expected under the model less the
        logit of the truth."""
        return float((softmax(z * np.exp(-log_t), axis=1) * z).sum(axis=1).mean() - at_truth)

    low, high = np.log(LEAST_T), np.log(MOST_T)
    if slope(low) <= 0:
        return LEAST_T
    if slope(high) >= 0:
        return MOST_T
    return float(np.exp(brentq(slope, low, high, xtol=1e-12)))


def apply_temperature(logits: Array, temperature: float) -> Tensor | np.ndarray:
    """softmax(logits / temperature): (N, C) probabilities, a tensor for a tensor, else a numpy
    array.

    The predicted class never changes, only its confidence. Raises ValueError for a temperature that
    is not > 0.
    """
    positive("temperature", temperature)
    if isinstance(logits, Tensor):
        return torch.softmax(logits / temperature, dim=-1)
    return np.exp(log_softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=-1))
