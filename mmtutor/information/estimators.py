"""Mutual information from samples without a model: count cells, or measure distances to
neighbours.

Taught in chapter 9.
"""

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma

from mmtutor.checks import Array, pair, per_unit, require, varying, whole_number
from mmtutor.information.tables import discrete_mi, plug_in_joint

# most samples of a column that may share their value: float32 rounding makes far fewer, labels
# and counts far more
TIES = 0.05

# points in a leaf of the tree: counting is then a third faster than with the library's 16, the
# search no slower
LEAF = 64


def histogram_mi(x: Array, y: Array, bins: int = 8, units: str = "nats") -> float:
    """Σ p(i, j) ln( p(i, j) / p(i) p(j) ) over the shares p of samples in a grid of bins × bins
    cells.

    x, y: (N,) → nats or bits, 0 to ln(bins). The grid is of quantiles: each row and each column of
    cells holds the same number of samples, so that a stretched axis changes nothing. Equal values
    always share a bin. Two errors work against each other. A coarse grid loses information: too
    low, whatever N is. Few samples per cell look like structure: too high, at independence by about
    (bins - 1)² / (2N) nats (Miller, 1955).
    Raises ValueError for NaN, other shapes, bins outside 2..N, constant columns, and values so
    often repeated that bins stay empty.
    """
    a, b = pair(x, y)
    for name, values in (("x", a), ("y", b)):
        require(
            values.shape[1] == 1,
            f"{name} must be (N,), not {values.shape}: a grid over more axes has too many cells",
        )
        varying(name, values)
    whole_number("bins", bins, 2, len(a), hint=": N is the most")
    return discrete_mi(plug_in_joint(_bin("x", a[:, 0], bins), _bin("y", b[:, 0], bins)), units)


def ksg_mi(
    x: Array, y: Array, k: int = 3, units: str = "nats", *, jitter: float = 0.0, seed: int = 0
) -> float:
    """ψ(k) + ψ(N) - mean_i( ψ(n_x(i) + 1) + ψ(n_y(i) + 1) ): a sample and its k nearest neighbours.

    ε_i: distance from sample i to its k-th neighbour in (x, y), the largest difference of any
    coordinate; n_x(i): how many other samples are nearer than ε_i in x alone. The more x says about
    y, the fewer.
    x: (N,) or (N, D); y: (N,) or (N, E) → nats or bits, D and E free. Columns are brought to
    variance 1 first, so units do not matter. Nearly without bias in few dimensions; at independence
    it scatters about 0, so a small negative value is an estimate of 0 and not cut off. With many
    dimensions or strong dependence it is far too *low*, as no neighbour is near: it cannot tell
    what takes more than some e^I samples to see. Trees: N log N in few dimensions, towards N²
    beyond about ten columns.

    Densities are assumed, so columns in which more than 5 % of the samples share their value
    (labels, counts, rounded numbers) are refused. `jitter` > 0 adds Gaussian noise of that standard
    deviation, in units of each column's own, drawn from `seed`: 1e-6 hardly moves a number, and
    lets y be a class beside a continuous x (compare Ross 2014).
    Raises ValueError for NaN, other shapes, constant columns, ties, k outside 1..N-1, jitter < 0.
    Kraskov, Stögbauer and Grassberger, Estimating mutual information, Phys. Rev. E 69, 066138,
    2004, equation 8.
    """
    a, b = pair(x, y)
    unit, n = per_unit(units), len(a)
    whole_number("k", k, 1, n - 1, hint=": a sample has N - 1 neighbours")
    require(0 <= jitter < np.inf, f"jitter must be a finite number >= 0, not {jitter!r}")
    rng = np.random.default_rng(seed)
    a, b = (_spread(name, values, jitter, rng) for name, values in (("x", a), ("y", b)))
    # the first is itself
    distance, _ = cKDTree(np.hstack([a, b]), LEAF).query(np.hstack([a, b]), [k + 1], p=np.inf)
    # the tree counts "at most", the estimator asks for "less than"
    nearer = np.nextafter(distance[:, 0], 0)
    counts = [
        cKDTree(v, LEAF).query_ball_point(v, nearer, p=np.inf, return_length=True) for v in (a, b)
    ]
    # the counts hold the sample itself: they are n_x + 1 and n_y + 1
    return float(digamma(k) + digamma(n) - sum(digamma(c).mean() for c in counts)) / unit


def _bin(name: str, values: np.ndarray, bins: int) -> np.ndarray:
    """Return the number of each value's bin (N,), 0 to bins - 1; ValueError if quantiles
    coincide."""
    edges = np.quantile(values, np.arange(1, bins) / bins)
    inside = np.searchsorted(edges, values, side="right")
    require(
        len(np.unique(inside)) == bins,
        f"{name} repeats values so often that some of {bins} bins stay empty: use fewer, or its"
        " labels",
    )
    return inside


def _spread(name: str, values: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """Return columns of mean 0 and variance 1, jittered; ValueError for constant columns and for
    ties."""
    varying(name, values)
    values = (values - values.mean(0)) / values.std(0)
    if jitter:
        values = values + jitter * rng.standard_normal(values.shape)
    for column, one in enumerate(values.T):
        _, counts = np.unique(one, return_counts=True)
        tied = counts[counts > 1].sum() / len(one)
        require(
            tied <= TIES,
            f"{name} repeats values in column {column} ({tied:.0%} of its samples), but"
            " distances need a density: for labels against numbers, or rounded numbers, pass"
            " jitter=1e-6; for labels alone use discrete_mi",
        )
    return values
