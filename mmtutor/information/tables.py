"""Labels that can be counted: the table of their joint shares, and what it says.

Taught in chapter 9.
"""

import numpy as np

from mmtutor.checks import Array, per_unit, require, table, whole_labels


def plug_in_joint(*labels: Array) -> np.ndarray:
    """Share of samples with each combination of labels: p[x1, x2, y] from `plug_in_joint(x1, x2,
    y)`.

    labels: one or more columns (N,) of whole numbers >= 0 → a table with one axis per column, as
    long as its largest label plus 1, that sums to 1. Raises ValueError for other labels and unequal
    lengths.
    """
    require(labels, "no labels: give at least one column (N,) of whole numbers")
    first = whole_labels("labels[0]", labels[0])
    kept = [
        first,
        *(whole_labels(f"labels[{i}]", y, len(first)) for i, y in enumerate(labels[1:], 1)),
    ]
    shape = tuple(int(y.max()) + 1 for y in kept)
    counts = np.bincount(np.ravel_multi_index(kept, shape), minlength=int(np.prod(shape)))
    return counts.reshape(shape) / len(first)


def discrete_mi(joint: Array, units: str = "nats") -> float:
    """I(X; Y) = Σ p(x, y) ln( p(x, y) / p(x) p(y) ), exact for the table it is given.

    joint: (X, Y), entries >= 0, sum 1 → nats or bits, 0 to the smaller of the two entropies. A
    table counted from N samples looks more informative than the truth, at independence by about (X
    - 1)(Y - 1) / (2N) nats.
    Raises ValueError for a table that is none, and for unknown units.
    """
    return mutual_information(table("joint", joint, 2)) / per_unit(units)


def mutual_information(p: np.ndarray) -> float:
    """Return I(X; Y) in nats of a checked table (X, Y)."""
    return max(float(information_density(p).sum()), 0.0)


def information_density(p: np.ndarray) -> np.ndarray:
    """Return p(x, y) ln( p(x, y) / p(x) p(y) ) entry by entry (X, Y), 0 where p is 0."""
    support = p > 0
    given_x = np.divide(p, p.sum(1, keepdims=True), out=np.ones_like(p), where=support)
    return p * np.log(np.divide(given_x, p.sum(0), out=np.ones_like(p), where=support))
