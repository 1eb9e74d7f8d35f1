"""What every fusion does first: check what it was given, and hide what stands in absent slots.

Taught in chapter 3.
"""

from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtutor.checks import known_names, require, shaped, whole_number
from mmtutor.types import Features, Masks, Present


class Fusion(nn.Module):
    """What every fusion is: a module that knows its modalities' widths and its own.

    dims[m] ≥ 1: the width of modality m; out_features ≥ 1; `sizes`: further sizes to check by name.
    """

    def __init__(self, dims: dict[str, int], out_features: int, **sizes: int) -> None:
        """Refuse sizes below 1, naming them, and remember dims and out_features."""
        super().__init__()
        self.dims = check_dims(dims, out_features=out_features, **sizes)
        self.out_features = out_features


def check_dims(dims: dict[str, int], **sizes: int) -> dict[str, int]:
    """Return a copy of `dims`; raise ValueError for no modality at all, or for a width or another
    size below 1."""
    require(dims, "dims is empty, expected at least one modality")
    named = {f"dims[{m!r}]": width for m, width in dims.items()} | sizes
    for name, size in named.items():
        whole_number(name, size, 1)
    return dict(dims)


def check_modalities(given: Mapping[str, object], expected: Collection[str], what: str) -> None:
    """Raise KeyError unless `given` holds exactly the `expected` modalities; the message names the
    odd ones."""
    if missing := [m for m in expected if m not in given]:
        raise KeyError(
            f"{what} lacks {missing}; expected {list(expected)}. What is missing is a mask in"
            " `present`"
        )
    known_names(what, given, expected, "modalities")


def presence(given: dict[str, Tensor], present: Present | None) -> Present:
    """Return a full mask, modality → (B,) bool on the features' device; who is not named in
    `present` is there.

    Raises KeyError for a mask of an unknown modality, TypeError for one that is not bool,
    ValueError for a wrong size.
    """
    present = present or {}
    known_names("present", present, given, "modalities")
    masks = {}
    for modality, x in given.items():
        mask = present.get(modality, torch.ones(len(x), dtype=torch.bool, device=x.device))
        require(
            mask.dtype == torch.bool,
            f"present[{modality!r}] is {mask.dtype}, expected torch.bool",
            TypeError,
        )
        shaped(f"present[{modality!r}]", mask, (len(x),))
        masks[modality] = mask.to(x.device)
    return masks


def masked_vectors(features: Features, dims: dict[str, int], present: Present | None) -> Features:
    """Return features[m]: (B, dims[m]) in the order of `dims`, with 0 wherever the modality is
    absent.

    Raises KeyError for missing or unknown modalities, ValueError for a wrong width or batch size,
    naming them.
    """
    check_modalities(features, dims, "features")
    for modality, width in dims.items():
        shaped(f"features[{modality!r}]", features[modality], ("B", width))
    return hide_absent(features, list(dims), present)


def hide_absent(
    features: Features, order: list[str], present: Present | None, masks: Masks | None = None
) -> Features:
    """Return features[m]: (B, ...) in `order`, with 0 wherever the modality is absent, and at the
    steps of a sequence (B, T, D) that masks[m], (B, T) bool, says are not real.

    A modality without a mask is passed on as it is: no copy. A step mask for another number of
    steps, or for what is no sequence yet, is passed over: it speaks of what an encoder will make of
    it. Raises ValueError for unequal batch sizes, KeyError for a mask of an unknown modality,
    TypeError for one that is not bool.
    """
    known_names("masks", masks or {}, order, "modalities")
    batch = len(features[order[0]])
    for modality in order:
        require(
            len(features[modality]) == batch,
            f"features[{modality!r}] has {len(features[modality])} samples, another has {batch}",
        )
    shown = {m: features[m] for m in order}
    is_present = presence(features, present) if present else {}
    for modality in present or {}:
        shown[modality] = _hidden(shown[modality], is_present[modality])
    for modality, mask in (masks or {}).items():
        require(
            mask.dtype == torch.bool,
            f"masks[{modality!r}] is {mask.dtype}, expected torch.bool",
            TypeError,
        )
        if shown[modality].dim() == 3 and mask.shape == shown[modality].shape[:2]:
            shown[modality] = _hidden(shown[modality], mask)
    return shown


def masked_sequences(
    features: Features, dims: dict[str, int], present: Present | None, masks: Masks | None
) -> tuple[Features, Masks]:
    """Return sequences (B, T, dims[m]) with 0 at unreal steps, and which steps are real, (B, T)
    bool.

    A vector (B, dims[m]) is a sequence of one step. The second dictionary names only modalities in
    which some step may be unreal, because a mask was given: of the others, all steps are. Every
    step of an absent modality is unreal.
    Raises KeyError for missing or unknown modalities, in `masks` too, TypeError for a mask that is
    not bool, ValueError for a wrong width, batch size or mask shape, naming them.
    """
    check_modalities(features, dims, "features")
    sequences, real = {}, dict(masks or {})
    for modality, width in dims.items():
        x = features[modality]
        require(
            x.dim() in (2, 3) and x.shape[-1] == width,
            f"features[{modality!r}] has shape {tuple(x.shape)}, expected (B, T, {width}) or"
            f" (B, {width})",
        )
        sequences[modality] = x[:, None] if x.dim() == 2 else x
    sequences = hide_absent(sequences, list(dims), present, masks)
    for modality, mask in real.items():
        shaped(f"masks[{modality!r}]", mask, tuple(sequences[modality].shape[:2]), ", (B, T)")
    is_present = presence(features, present) if present else {}
    for modality in present or {}:
        whole = is_present[modality][:, None].expand(sequences[modality].shape[:2])
        real[modality] = real[modality] & whole if modality in real else whole
    return sequences, real


def mean_over_steps(x: Tensor, real: Tensor | None) -> Tensor:
    """Return the mean over the real steps: x (B, T, D), real (B, T) bool → (B, D); 0 where no step
    is real."""
    if real is None:
        return x.mean(1) if x.shape[1] else x.sum(1)
    weight = real.to(x.dtype)[:, None]  # (B, 1, T)
    return (weight @ x / weight.sum(2, keepdim=True).clamp(min=1))[:, 0]


def with_zero_step(x: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Append one step of zeros, always real, for a query that finds nothing to read: (B, T, D) →
    (B, T + 1, D)."""
    return F.pad(x, (0, 0, 0, 1)), None if real is None else F.pad(real, (0, 1), value=True)


def _hidden(x: Tensor, kept: Tensor) -> Tensor:
    """Return x (B, ...) with 0 where `kept`, (B,) or (B, T), is False.

    `torch.where` rather than a product: 0 · NaN is NaN.
    """
    return torch.where(kept.reshape(*kept.shape, *[1] * (x.dim() - kept.dim())), x, 0.0)
