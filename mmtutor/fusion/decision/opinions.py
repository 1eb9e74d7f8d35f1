"""What every decision rule does first: check that it was given probabilities, and hide those of
absent modalities.

Taught in chapter 5.
"""

import math

import torch
from torch import Tensor

from mmtutor.checks import require, shaped
from mmtutor.fusion.inputs import check_modalities, presence
from mmtutor.types import Present


def check_probabilities(probs: dict[str, Tensor], present: Present | None) -> Present:
    """Return full presence masks, or raise ValueError naming the modality whose present rows are no
    probabilities.

    The tolerance grows with the precision of the numbers: sums of half-precision rows are off by
    about 1e-2.
    """
    require(probs, "probs is empty, expected at least one modality")
    first = next(iter(probs.values()))
    shape = tuple(first.shape) if first.dim() == 2 else ("B", "C")
    mask = presence(probs, present)
    for modality, p in probs.items():
        shaped(f"probs[{modality!r}]", p, shape, ", (B, C)")
        require(
            p.is_floating_point(),
            f"probs[{modality!r}] is {p.dtype}, expected floating point probabilities",
            TypeError,
        )
        rows = p.detach()[mask[modality]].float()
        slack = 2e-2 if p.dtype in (torch.float16, torch.bfloat16) else 1e-3
        # written so that NaN fails the test too
        require(
            ((rows.sum(1) - 1).abs() <= slack).all() and (rows >= -slack).all(),
            f"probs[{modality!r}] has rows that are no probabilities, expected ≥ 0, sum 1",
        )
    return mask


def opinions(
    probs: dict[str, Tensor], present: Present | None, hidden: float
) -> tuple[Tensor, Tensor]:
    """Return the checked opinions, stacked, (M, B, C), `hidden` where absent, and who is there, (M,
    B) bool.

    Computed in float32 at least: half precision has too few digits for products and for sums over
    many modalities.
    """
    mask = check_probabilities(probs, present)
    precise = torch.promote_types(next(iter(probs.values())).dtype, torch.float32)
    stacked = torch.stack([torch.where(mask[m][:, None], p, hidden) for m, p in probs.items()]).to(
        precise
    )
    # rounding below 0 is none
    return stacked.clamp(min=hidden), torch.stack([mask[m] for m in probs])


def numbers(
    values: dict[str, float], modalities: list[str], what: str, top: float = math.inf
) -> list[float]:
    """Return one number per modality, in their order; raise KeyError for odd names, ValueError
    outside [0, top]."""
    check_modalities(values, modalities, what)
    limits = "a finite number, 0 or more" if math.isinf(top) else f"a number from 0 to {top:g}"
    listed = [float(values[m]) for m in modalities]
    for modality, value in zip(modalities, listed, strict=True):
        require(
            0 <= value <= top and math.isfinite(value),
            f"{what}[{modality!r}] is {value}, expected {limits}",
        )
    return listed


def normalised(scores: Tensor, like: Tensor) -> Tensor:
    """Return scores ≥ 0 (B, C) divided by their row sums, in the dtype of `like`; uniform where the
    sum is 0."""
    total = scores.sum(1, keepdim=True)
    rows = torch.where(total > 0, scores / torch.where(total > 0, total, 1.0), 1 / scores.shape[1])
    return rows.to(like.dtype)
