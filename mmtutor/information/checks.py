"""What every measure of this room asks of its input, and the change from nats to bits."""

from __future__ import annotations

import math

import numpy as np

from mmtutor.checks import Array, as_numpy, finite

NATS_PER_UNIT = {"nats": 1.0, "bits": math.log(2)}


def per_unit(units: str) -> float:
    """Return how many nats one of these units has; ValueError for units other than "nats" and
    "bits"."""
    if units not in NATS_PER_UNIT:
        raise ValueError(f"units must be 'nats' or 'bits', not {units!r}")
    return NATS_PER_UNIT[units]


def columns(name: str, values: Array) -> np.ndarray:
    """Return samples (N,) or (N, D) as float64 (N, D); ValueError for NaN, infinity, another shape,
    or one sample."""
    array = as_numpy(values)
    array = finite(name, array, 2 if array.ndim == 2 else 1)
    array = array if array.ndim == 2 else array[:, None]
    if len(array) < 2:
        raise ValueError(f"{name} has {len(array)} sample, expected at least 2")
    return array


def pair(x: Array, y: Array, names: tuple[str, str] = ("x", "y")) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64 (N, D); ValueError as `columns`, and where they differ in the number
    of samples."""
    a, b = columns(names[0], x), columns(names[1], y)
    if len(a) != len(b):
        raise ValueError(
            f"{names[0]} has {len(a)} samples and {names[1]} {len(b)}: row i of both must be one"
            " sample"
        )
    return a, b


def varying(name: str, values: np.ndarray) -> None:
    """Raise ValueError, naming the column of `values` (N, D), if one never changes."""
    still = np.flatnonzero(values.max(0) == values.min(0))
    if len(still):
        raise ValueError(f"{name} is constant in column {still[0]}: it tells nothing, leave it out")


def table(name: str, joint: Array, ndim: int) -> np.ndarray:
    """Return a table of probabilities as float64 with sum 1; ValueError unless `ndim` axes, entries
    >= 0, sum 1."""
    p = finite(name, joint, ndim)
    if p.min() < 0 or abs(p.sum() - 1) > 1e-5:
        raise ValueError(
            f"{name} is no table of probabilities: its smallest entry is {p.min():.4g}, its sum"
            f" {p.sum():.6g}, expected >= 0 and 1. If it holds counts, divide by their sum."
        )
    return p / p.sum()  # float32 tables miss 1 by up to 1e-6
