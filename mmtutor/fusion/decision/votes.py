"""Everybody has a say: the mean opinion, the weighted mean, the majority. Taught in chapter 5."""

import torch
from torch import Tensor

from mmtutor.fusion.decision.opinions import normalised, numbers, opinions
from mmtutor.types import Present


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
    if not any(weight):
        raise ValueError(f"weights are all zero, expected at least one positive: {weights}")
    p, _ = opinions(probs, present, hidden=0.0)  # (M, B, C)
    share = p.new_tensor(
        [w / max(weight) for w in weight]
    )  # (M,): huge or tiny weights stay within float32
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
    share = normalised(
        (favourite / favourite.sum(2, keepdim=True).clamp(min=1)).sum(0), p
    )  # (B, C)
    leaders = share > share.amax(1, keepdim=True) - 1e-4  # sums of thirds differ by rounding
    support = torch.where(leaders, p.sum(0), -1.0)  # (B, C); equal means differ by rounding, too
    best = support > support.amax(1, keepdim=True) - 16 * torch.finfo(p.dtype).eps * len(p)
    winner = (best.cumsum(1) == 0).sum(1, keepdim=True)  # (B, 1): the first of the best
    tied = (leaders.sum(1, keepdim=True) > 1) & mask.any(0)[:, None]
    lift = torch.zeros_like(share).scatter(1, winner, 2 * torch.finfo(like.dtype).eps)
    return normalised(torch.where(tied, share + lift, share), like)
