"""Fuzzy integrals: how much a *coalition* of modalities is worth need not be the sum of its
members' worth.

A measure μ gives each set of modalities a worth from 0 (nobody) to 1 (everybody), and a larger set
never has less. Taught in chapter 5.
"""

import math
from collections.abc import Collection

import torch
from scipy.optimize import brentq
from torch import Tensor

from mmtutor.checks import known_names, require
from mmtutor.fusion.decision.opinions import normalised, numbers, opinions
from mmtutor.types import Present

Measure = dict[frozenset[str], float]
"""set of modalities → its worth, for every subset."""

MOST = 16  # modalities: a measure lists all 2^M sets


def choquet(probs: dict[str, Tensor], measure: Measure, present: Present | None = None) -> Tensor:
    """s(c) = Σ_i (p_(i)(c) - p_(i+1)(c)) μ(A_i), normalised over c; A_i: the i modalities most in
    favour of c.

    probs[m]: (B, C), rows sum to 1; measure: as `lambda_measure` returns, for every subset of the
    modalities → (B, C). An additive measure makes it the `weighted_vote`; μ = 1 for every non-empty
    set the maximum over modalities, μ = 0 for every set but the whole the minimum. With absentees
    the measure is μ(A) / μ(present); where the present are worth 0, or no class gets anything:
    uniform. Raises ValueError for a measure that is none, and as `average`. Grabisch, The
    application of fuzzy integrals in multicriteria decision making, EJOR 1996.
    """
    ordered, worth = _coalitions(probs, measure, present)
    steps = ordered - torch.cat([ordered[1:], torch.zeros_like(ordered[:1])])  # (M, B, C), ≥ 0
    return normalised((steps * worth).sum(0), next(iter(probs.values())))


def sugeno(probs: dict[str, Tensor], measure: Measure, present: Present | None = None) -> Tensor:
    """s(c) = max_i min(p_(i)(c), μ(A_i)), normalised over c; A_i: the i modalities most in favour
    of c.

    Arguments, absentees, defined cases and errors as `choquet`. Only comparisons: it needs no more
    than an order of worth and probability on one scale. Sugeno, Theory of Fuzzy Integrals and its
    Applications, Tokyo 1974.
    """
    ordered, worth = _coalitions(probs, measure, present)
    return normalised(torch.minimum(ordered, worth).amax(0), next(iter(probs.values())))


def lambda_measure(densities: dict[str, float]) -> Measure:
    """μ(A) = (Π_{m∈A} (1 + λ g_m) - 1) / λ: the Sugeno λ-measure with density g_m for each modality
    alone.

    densities[m] in [0, 1] → the worth of all 2^M sets, μ(all) = 1. λ is `sugeno_lambda`; λ = 0 adds
    densities up.
    Raises ValueError as `sugeno_lambda`, and for more than 16 modalities.
    Sugeno, Theory of Fuzzy Integrals and its Applications, Tokyo 1974.
    """
    sets = _sets(densities)
    lam = sugeno_lambda(densities)
    measure: Measure = {}
    for members in sorted(sets, key=len):
        g = [densities[m] for m in members]
        worth = math.fsum(g) if lam == 0 else math.expm1(_log_worth(lam, g)) / lam
        measure[members] = min(max(max(g, default=0.0), worth), 1.0)
    return measure | {frozenset(densities): 1.0}


def sugeno_lambda(densities: dict[str, float]) -> float:
    """λ ≥ -1 with Π_m (1 + λ g_m) = 1 + λ: below 0 where Σ g > 1 (the modalities repeat each
    other), above where < 1.

    densities[m] in [0, 1]. Raises ValueError for a density outside, and for densities that admit no
    λ-measure: all zero, or a single positive one below 1 (no λ can lift the whole to worth 1).
    """
    require(densities, "densities is empty, expected at least one modality")
    g = [x for x in numbers(densities, list(densities), "densities", top=1.0) if x > 0]
    require(
        len(g) > 1 or sum(g) >= 1 - 1e-9,
        f"densities {densities} admit no λ-measure: expected two positive ones, or one equal to 1",
    )
    surplus = math.fsum(g) - 1
    if len(g) == 1 or abs(surplus) < 1e-12:
        return 0.0

    def excess(lam: float) -> float:  # ln Π (1 + λ g) - ln (1 + λ), 0 at the solution
        return _log_worth(lam, g) - math.log1p(lam)

    if surplus < 0:  # λ > 0, over hundreds of orders of magnitude: solve for its logarithm
        low, high = math.log(-surplus) - 1, 700.0
        require(
            excess(math.exp(high)) >= 0,
            f"densities {densities} are too near 0: λ exceeds the largest number",
        )
        return math.exp(brentq(lambda t: excess(math.exp(t)), low, high, xtol=1e-14, rtol=8.9e-16))
    lowest = math.nextafter(-1.0, 0.0)
    if excess(lowest) <= 0:  # the solution is -1 (a density of 1), or nearer to it than this
        return -1.0
    return brentq(excess, lowest, -min(surplus, 1e-3) * 1e-3, xtol=1e-300, rtol=8.9e-16)


def _log_worth(lam: float, g: list[float]) -> float:
    """Return ln Π (1 + λ g), -inf for λ = -1 and a density of 1."""
    return math.fsum(math.log1p(lam * x) if lam * x > -1 else -math.inf for x in g)


def _sets(modalities: Collection[str]) -> list[frozenset[str]]:
    """Return all 2^M sets of modalities, each at the number whose bit i says whether the i-th
    belongs to it; ValueError for too many."""
    require(
        len(modalities) <= MOST,
        f"{len(modalities)} modalities have {2 ** len(modalities)} subsets, expected at most"
        f" {MOST}",
    )
    return [
        frozenset(m for i, m in enumerate(modalities) if code >> i & 1)
        for code in range(1 << len(modalities))
    ]


def _coalitions(
    probs: dict[str, Tensor], measure: Measure, present: Present | None
) -> tuple[Tensor, Tensor]:
    """Return, for each sample and class, p_(i) from high to low and the worth of the first i: both
    (M, B, C)."""
    table = _table(measure, list(probs))
    p, mask = opinions(probs, present, hidden=-1.0)  # absent: below every probability, hence last
    ordered, who = p.sort(dim=0, descending=True, stable=True)  # (M, B, C)
    lookup = torch.tensor(table, dtype=p.dtype, device=p.device)
    # a set is a number whose bit m says whether modality m belongs to it
    worth = lookup[(1 << who).cumsum(0)]
    bits = 1 << torch.arange(len(p), device=p.device)
    total = lookup[(mask * bits[:, None]).sum(0)][:, None]  # (B, 1): worth of all who are present
    worth = torch.where(total > 0, (worth / torch.where(total > 0, total, 1.0)).clamp(max=1.0), 0.0)
    return ordered.clamp(min=0.0), worth


def _table(measure: Measure, modalities: list[str]) -> list[float]:
    """Return the worth of each set, at the number whose bits name its members; raise ValueError for
    no measure."""
    sets = _sets(modalities)
    known_names("measure", sorted({m for who in measure for m in who}), modalities, "modalities")
    if lacking := [members for members in sets[1:] if members not in measure]:
        raise ValueError(
            f"measure lacks the set {sorted(lacking[0])}, expected all {len(sets)} subsets"
        )
    table = [float(measure.get(members, 0.0)) for members in sets]
    require(
        all(
            table[code & ~(1 << i)] - 1e-9 <= worth <= 1 + 1e-9  # without the i-th member, with it
            for code, worth in enumerate(table)
            for i in range(len(modalities))
            if code >> i & 1
        ),
        "measure is none: expected numbers in [0, 1] that never fall when a set grows",
    )
    require(
        table[0] == 0 and abs(table[-1] - 1) <= 1e-6,
        f"measure gives nobody {table[0]} and everybody {table[-1]}, expected 0 and 1",
    )
    return table
