"""Decision-level (late) fusion: let each modality form its own opinion, then combine the opinions.

Pure functions of probs: modality → (B, C) with rows that sum to 1, returning the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmtutor.fusion.inputs import presence
from mmtutor.types import Present


def average(probs: dict[str, Tensor], present: Present | None = None) -> Tensor:
    """p(c) = Σ_m present_m · p_m(c) / Σ_m present_m: the mean opinion of those who are there ("sum rule").

    probs[m]: (B, C), rows sum to 1 → (B, C), rows sum to 1. Where nobody is present: uniform, 1/C.
    Raises ValueError, naming the modality, for unequal shapes or rows that are no probabilities.
    Kittler et al., On Combining Classifiers, TPAMI 1998.
    """
    there = check_probabilities(probs, present)
    total = sum(torch.where(there[m][:, None], p, 0.0) for m, p in probs.items())  # (B, C)
    voters = sum(there[m].to(total.dtype) for m in probs)[:, None]  # (B, 1)
    return torch.where(voters > 0, total / voters.clamp(min=1), 1 / total.shape[1])


def check_probabilities(probs: dict[str, Tensor], present: Present | None) -> Present:
    """Return full presence masks, or raise ValueError naming the modality whose present rows are no probabilities.

    The tolerance grows with the precision of the numbers: sums of half-precision rows are off by about 1e-2.
    """
    if not probs:
        raise ValueError("probs is empty, expected at least one modality")
    shape = next(iter(probs.values())).shape
    there = presence(probs, present)
    for modality, p in probs.items():
        if p.dim() != 2 or p.shape != shape:
            raise ValueError(f"probs[{modality!r}] has shape {tuple(p.shape)}, expected (B, C) = {tuple(shape)}")
        rows = p.detach()[there[modality]].float()
        slack = 2e-2 if p.dtype in (torch.float16, torch.bfloat16) else 1e-3
        # written so that NaN fails the test too
        if not bool(((rows.sum(1) - 1).abs() <= slack).all() and (rows >= -slack).all()):
            raise ValueError(f"probs[{modality!r}] has rows that are no probabilities, expected ≥ 0, sum 1")
    return there
