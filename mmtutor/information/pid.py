"""Partial information decomposition: what two sources say about a target, alike, each alone, only
together.

    I(X1; Y) = R + U1      I(X2; Y) = R + U2      I(X1, X2; Y) = R + U1 + U2 + S

Three equations for four numbers: a decomposition is a choice of one more, and there is more than
one sensible choice. Taught in chapter 9.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np

from mmtutor.checks import Array, as_numpy, one_of, per_unit, require, table, whole_number
from mmtutor.information.broja import least_joint_information
from mmtutor.information.tables import information_density, mutual_information, plug_in_joint

# smallest positive entry of a table that "broja" takes
LEAST = 1e-15


class PID(NamedTuple):
    """Redundant, unique to source 1, unique to source 2, synergetic information; they sum to I(X1,
    X2; Y)."""

    redundant: float
    unique1: float
    unique2: float
    synergy: float


def pid(joint: Array, measure: str = "imin", units: str = "nats") -> PID:
    """Decompose I(X1, X2; Y) into redundant, unique and synergetic parts.

    joint: p[x1, x2, y], entries >= 0, sum 1 → four numbers >= 0 in nats or bits.
    "imin": R = Σ_y p(y) min_i I(X_i; Y = y), the least that any source says about each outcome
    (Williams and Beer, Nonnegative Decomposition of Multivariate Information, arXiv 1004.2515,
    2010). It asks how much, not what: two independent bits that are both copied to Y count as
    redundant. "broja": U1 = min_q I_q(X1; Y | X2) over all tables q that keep p(x1, y) and p(x2, y)
    (Bertschinger et al., Quantifying Unique Information, Entropy 16, 2014): what source 1 says
    beyond any way to get it from source 2. Exact to 1e-8 nats; milliseconds for a few labels,
    memory as the square of the number of cells.
    Raises ValueError for a table that is none, unknown measure or units and, for "broja", entries
    between 0 and 1e-15; RuntimeError if the minimum is not reached.
    """
    p, unit = table("joint", joint, 3), per_unit(units)
    one_of("measure", measure, ("imin", "broja"))
    first, second = mutual_information(p.sum(1)), mutual_information(p.sum(0))
    both = mutual_information(p.reshape(-1, p.shape[2]))
    if measure == "imin":
        redundant = _williams_beer(p)
    else:
        require(
            ((p == 0) | (p >= LEAST)).all(),
            f"joint holds entries between 0 and {LEAST}, lost in rounding where all sum to 1:"
            " make them 0",
        )
        redundant = first + second - least_joint_information(p)
    parts = (redundant, first - redundant, second - redundant, both - first - second + redundant)
    return PID(*(max(part, 0.0) / unit for part in parts))  # none is below 0 but for rounding


T = TypeVar("T", float, PID)


def shuffle_correct(
    statistic: Callable[[np.ndarray], T], *labels: Array, permutations: int = 100, seed: int = 0
) -> T:
    """Plug-in value minus its mean over permutations of the last column: what chance alone gives is
    taken off.

    statistic: a function of the joint table, such as `discrete_mi` or `pid`; labels: columns (N,)
    of whole numbers, the target last: `shuffle_correct(pid, x1, x2, y)`. → what the statistic
    returns, in its units; it may fall below 0.

    Removes the bias of small samples where the truth is independence: the mean is then 0. Where
    there *is* dependence it subtracts too much, since shuffled data fill cells that real data never
    enter; a deterministic relation, which has almost no such bias, is pushed below the truth. Of a
    `pid` it takes each part's value under independence, which is not that part's bias: sampling
    that makes two equal sources look unequal turns redundancy into unique information, and
    shuffling, which leaves neither, does not see it. It says nothing about the spread.
    Raises ValueError for labels as `plug_in_joint`, fewer than two columns, permutations < 1.
    """
    whole_number("the number of columns", len(labels), 2)
    whole_number("permutations", permutations, 1)
    plugged_in = statistic(plug_in_joint(*labels))
    rng, last = np.random.default_rng(seed), as_numpy(labels[-1])
    chance = [
        statistic(plug_in_joint(*labels[:-1], rng.permutation(last))) for _ in range(permutations)
    ]
    corrected = np.asarray(plugged_in) - np.mean(chance, axis=0)
    return PID(*corrected.tolist()) if isinstance(plugged_in, PID) else float(corrected)


def _williams_beer(p: np.ndarray) -> float:
    """I_min in nats: Σ_y min_i Σ_x p(x, y) ln( p(x, y) / p(x) p(y) ), the factor p(y) taken into
    the inner sum."""
    specific = [information_density(source).sum(0) for source in (p.sum(1), p.sum(0))]  # each (Y,)
    return float(np.minimum(*specific).sum())
