"""Everybody has a say: the mean opinion, the weighted mean, the majority, and a vote whose weights
follow from fuzzy rules that a person can read, change and argue about.

Taught in chapter 5.
"""

import torch
from torch import Tensor

from mmtutor.checks import require
from mmtutor.fusion.decision.opinions import normalised, numbers, opinions
from mmtutor.types import Present

SURE_FROM, SURE_TO = 0.2, 0.6  # below: not sure at all; above: sure; between: to a degree


def average(probs: dict[str, Tensor], present: Present | None = None) -> Tensor:
    """p(c) = Σ_m present_m · p_m(c) / Σ_m present_m: the mean opinion of those who are there ("sum
    rule").

    probs[m]: (B, C), rows sum to 1 → (B, C), rows sum to 1. Where nobody is present: uniform, 1/C.
    Raises ValueError, naming the modality, for unequal shapes or rows that are no probabilities.
    Kittler et al., On Combining Classifiers, TPAMI 1998.
    """
    p, _ = opinions(probs, present, hidden=0.0)  # (M, B, C)
    return normalised(p.sum(0), next(iter(probs.values())))


def weighted_vote(
    probs: dict[str, Tensor], weights: dict[str, float], present: Present | None = None
) -> Tensor:
    """p(c) = Σ_m w_m p_m(c) / Σ_m w_m over those present: a mean in which some count more.

    weights[m] ≥ 0, any scale, at least one positive. Where nobody with a weight is present:
    uniform, 1/C.
    Raises KeyError for a modality without weight, ValueError for weights that are negative, not
    finite or all zero, and as `average`. Kuncheva, Combining Pattern Classifiers, Wiley 2004,
    section 5.3.
    """
    weight = numbers(weights, list(probs), "weights")
    require(any(weight), f"weights are all zero, expected at least one positive: {weights}")
    p, _ = opinions(probs, present, hidden=0.0)  # (M, B, C)
    # (M,): huge or tiny weights stay within float32
    share = p.new_tensor([w / max(weight) for w in weight])
    return normalised(torch.einsum("m,mbc->bc", share, p), next(iter(probs.values())))


def majority_vote(probs: dict[str, Tensor], present: Present | None = None) -> Tensor:
    """p(c) = share of the modalities present whose favourite is c; a modality with k equal
    favourites gives 1/k each.

    Where classes tie for the most votes, the one with the highest mean probability among them (then
    the lowest index) is lifted above the others by two units of the last digit, so that arg-max
    answers. Nobody present: uniform, 1/C. No gradient: a vote is a step. Raises as `average`.
    Kuncheva, Combining Pattern Classifiers, Wiley 2004, sec. 4.1.
    """
    p, mask = opinions(probs, present, hidden=0.0)  # (M, B, C), (M, B)
    p, like = p.detach(), next(iter(probs.values()))
    favourite = ((p == p.amax(2, keepdim=True)) & mask[:, :, None]).to(p.dtype)
    # (B, C)
    share = normalised((favourite / favourite.sum(2, keepdim=True).clamp(min=1)).sum(0), p)
    leaders = share > share.amax(1, keepdim=True) - 1e-4  # sums of thirds differ by rounding
    support = torch.where(leaders, p.sum(0), -1.0)  # (B, C); equal means differ by rounding, too
    best = support > support.amax(1, keepdim=True) - 16 * torch.finfo(p.dtype).eps * len(p)
    winner = (best.cumsum(1) == 0).sum(1, keepdim=True)  # (B, 1): the first of the best
    tied = (leaders.sum(1, keepdim=True) > 1) & mask.any(0)[:, None]
    lift = torch.zeros_like(share).scatter(1, winner, 2 * torch.finfo(like.dtype).eps)
    return normalised(torch.where(tied, share + lift, share), like)


def fuzzy_rules(probs: dict[str, Tensor], present: Present | None = None) -> Tensor:
    """p(c) = Σ_m t_m p_m(c) / Σ_m t_m, a weighted vote whose weights t are `trust`, sample by
    sample.

    probs[m]: (B, C), rows sum to 1 → (B, C). Nobody present: uniform, 1/C. Raises as
    `votes.average`. Takagi and Sugeno, Fuzzy Identification of Systems, IEEE Trans. SMC 1985 (rules
    with constant conclusions).
    """
    p, mask = opinions(probs, present, hidden=0.0)
    return normalised((_trust(p, mask)[:, :, None] * p).sum(0), next(iter(probs.values())))


def trust(opinion: dict[str, Tensor], present: Present | None = None) -> dict[str, Tensor]:
    """Return t_m: (B,) in [0, 1], what three rules conclude about each modality; 0 where it is
    absent.

    1. If a modality is sure, trust it fully (1).  2. If it is not sure and another is, do not trust
    it (0).
    3. If it is not sure and no other is, trust it by half (1/2).
    "Sure" is a degree: 0 for certainty up to 0.2, 1 from 0.6, straight between; certainty = (max p
    - 1/C) / (1 - 1/C). "And" is the minimum, "not" is 1 minus; t is the mean of the conclusions,
    weighed by how far each rule applies. Zadeh, Fuzzy Sets, 1965; Takagi and Sugeno, IEEE Trans.
    SMC 1985.
    """
    p, mask = opinions(opinion, present, hidden=0.0)
    return dict(zip(opinion, _trust(p, mask), strict=True))


def _trust(p: Tensor, mask: Tensor) -> Tensor:
    """p: (M, B, C), mask: (M, B) bool → (M, B)."""
    chance = 1 / p.shape[2]
    certainty = (p.amax(2) - chance) / max(1 - chance, 1e-12)  # (M, B): 0 undecided, 1 decided
    sure = ((certainty - SURE_FROM) / (SURE_TO - SURE_FROM)).clamp(0, 1) * mask
    itself = torch.eye(len(p), dtype=torch.bool, device=p.device)[:, :, None]
    # how sure the surest of the others is, 0 if there is no other: (M, M, B) → (M, B)
    others = sure.expand(len(p), -1, -1).masked_fill(itself, -1.0).amax(1).clamp(min=0)
    full, none = sure, torch.minimum(1 - sure, others)
    half = torch.minimum(1 - sure, 1 - others)
    return (full + 0.5 * half) / (full + none + half) * mask
