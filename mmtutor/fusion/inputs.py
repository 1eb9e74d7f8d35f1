"""What every fusion does first: check what it was given, and hide what stands in absent slots."""

from __future__ import annotations

import torch
from torch import Tensor

from mmtutor.types import Features, Present


def check_modalities(given: dict[str, Tensor], expected: dict[str, int] | list[str], what: str) -> None:
    """Raise KeyError unless `given` holds exactly the `expected` modalities; the message names the odd ones."""
    if missing := [m for m in expected if m not in given]:
        raise KeyError(f"{what} lacks {missing}; expected {list(expected)}. What is missing is a mask in `present`")
    if unknown := [m for m in given if m not in expected]:
        raise KeyError(f"{what} has unknown {unknown}; expected {list(expected)}")


def presence(given: dict[str, Tensor], present: Present | None) -> Present:
    """Return a full mask, modality → (B,) bool on the features' device; who is not named in `present` is there.

    Raises KeyError for a mask of an unknown modality, TypeError for one that is not bool, ValueError for a wrong size.
    """
    present = present or {}
    if unknown := [m for m in present if m not in given]:
        raise KeyError(f"present names unknown {unknown}; the modalities are {list(given)}")
    masks = {}
    for modality, x in given.items():
        mask = present.get(modality, torch.ones(len(x), dtype=torch.bool, device=x.device))
        if mask.dtype != torch.bool:
            raise TypeError(f"present[{modality!r}] is {mask.dtype}, expected torch.bool")
        if mask.shape != (len(x),):
            raise ValueError(f"present[{modality!r}] has shape {tuple(mask.shape)}, expected ({len(x)},)")
        masks[modality] = mask.to(x.device)
    return masks


def masked_vectors(features: Features, dims: dict[str, int], present: Present | None) -> Features:
    """Return features[m]: (B, dims[m]) in the order of `dims`, with 0 wherever the modality is absent.

    `torch.where` rather than a product: 0 · NaN is NaN, and what stands in an absent slot must change nothing.
    Raises KeyError for missing or unknown modalities, ValueError for a wrong width or batch size, naming them.
    """
    check_modalities(features, dims, "features")
    batch = len(next(iter(features.values())))
    for modality, width in dims.items():
        shape = tuple(features[modality].shape)
        if len(shape) != 2 or shape[1] != width:
            raise ValueError(f"features[{modality!r}] has shape {shape}, expected (B, {width})")
        if shape[0] != batch:
            raise ValueError(f"features[{modality!r}] has {shape[0]} samples, another modality has {batch}")
    there = presence(features, present)
    # a modality without a mask is passed on as it is: no copy
    return {m: torch.where(there[m][:, None], features[m], 0.0) if m in (present or {}) else features[m] for m in dims}
