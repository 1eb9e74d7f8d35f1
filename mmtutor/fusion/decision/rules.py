"""Whom to trust, said in three fuzzy rules that a person can read, change and argue about.

Taught in chapter 5.
"""

import torch
from torch import Tensor

from mmtutor.fusion.decision.opinions import normalised, opinions
from mmtutor.types import Present

SURE_FROM, SURE_TO = 0.2, 0.6  # below: not sure at all; above: sure; between: to a degree


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
    """p: (M, B, C), there: (M, B) bool → (M, B)."""
    chance = 1 / p.shape[2]
    certainty = (p.amax(2) - chance) / max(1 - chance, 1e-12)  # (M, B): 0 undecided, 1 decided
    sure = ((certainty - SURE_FROM) / (SURE_TO - SURE_FROM)).clamp(0, 1) * mask
    others = torch.stack([_surest(sure, without=m) for m in range(len(p))])  # (M, B)
    full, none = sure, torch.minimum(1 - sure, others)
    half = torch.minimum(1 - sure, 1 - others)
    return (full + 0.5 * half) / (full + none + half) * mask


def _surest(sure: Tensor, without: int) -> Tensor:
    """Return how sure the surest of the others is, 0 if there is no other: (M, B) → (B,)."""
    rest = torch.cat([sure[:without], sure[without + 1 :]])
    return rest.amax(0) if len(rest) else torch.zeros_like(sure[0])
