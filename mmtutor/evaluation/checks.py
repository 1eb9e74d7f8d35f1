"""What every room of `mmtutor.evaluation` asks of its input, with errors that name what is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

Array = Tensor | np.ndarray | Sequence[float]
"""Anything the evaluation functions read: a torch tensor on any device, a numpy array, a list of numbers."""


def as_numpy(values: Array) -> np.ndarray:
    """Return the values as a numpy array on the CPU, gradients left behind; floats of any width become float64."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    array = np.asarray(values)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def finite(name: str, values: Array, ndim: int) -> np.ndarray:
    """Return `values` as float64 with `ndim` dimensions; ValueError for NaN, infinity, emptiness or another shape."""
    array = as_numpy(values)
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name} must be a non-empty array of {ndim} dimension(s), not of shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, not {array.dtype}")
    bad = np.argwhere(~np.isfinite(array.astype(np.float64)))
    if len(bad):
        raise ValueError(
            f"{name} holds {len(bad)} values that are NaN or infinite, the first at {tuple(map(int, bad[0]))}"
        )
    return array.astype(np.float64)


def whole_labels(name: str, y: Array, n: int | None = None, classes: int | None = None) -> np.ndarray:
    """Return labels (N,) as int64; ValueError unless whole numbers >= 0, n of them, below `classes`."""
    array = as_numpy(y)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "biu":
        raise ValueError(f"{name} must be a non-empty array (N,) of whole numbers, not {array.dtype} {array.shape}")
    if n is not None and len(array) != n:
        raise ValueError(f"{name} has {len(array)} entries, expected {n}: one per sample")
    array = array.astype(np.int64)
    top = np.inf if classes is None else classes
    if array.min() < 0 or array.max() >= top:
        span = ">= 0" if classes is None else f"in 0..{classes - 1}"
        raise ValueError(f"{name} must be {span}, but run from {array.min()} to {array.max()}")
    return array


def probabilities(probs: Array, tolerance: float = 2e-3) -> np.ndarray:
    """Return (N, C) probabilities as float64; ValueError unless C >= 2, entries >= 0 and rows sum to one.

    bfloat16 keeps eight bits, so its rows miss one by up to 2e-3: the tolerance lets them through and catches logits.
    """
    array = finite("probabilities", probs, 2)
    if array.shape[1] < 2:
        raise ValueError(f"probabilities must have one column per class (C >= 2), not shape {array.shape}")
    sums = array.sum(axis=1)
    off = np.flatnonzero((np.abs(sums - 1) > tolerance) | (array.min(axis=1) < -tolerance))
    if len(off):
        row = int(off[0])
        raise ValueError(
            f"{len(off)} of {len(array)} rows are no probabilities: row {row} sums to {sums[row]:.4g}, "
            f"its smallest entry is {array[row].min():.4g}. If these are logits, take softmax first."
        )
    return array
