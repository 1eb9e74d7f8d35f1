"""What `mmtutor.training` refuses before it computes anything, each with an error that names the culprit."""

from __future__ import annotations

import torch
from torch import Tensor

from mmtutor.types import Samples


def check_arguments(
    train: Samples, validation: Samples | None, epochs: int, batch_size: int, patience: int | None
) -> None:
    """Refuse what would train on nothing, or silently learn from NaN."""
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("patience", patience)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}, expected 1 or more")
    if patience is not None and validation is None:
        raise ValueError("patience needs a validation split to watch; pass validation=... or leave patience out")
    for name, samples in (("train", train), ("validation", validation)):
        if samples is None:
            continue
        if len(samples) == 0:
            raise ValueError(f"{name} holds no samples")
        check_finite(name, samples)
        if samples.labels.is_floating_point() and not bool((finite := torch.isfinite(samples.labels)).all()):
            first = int((~finite).nonzero()[0][0])
            raise ValueError(f"{name} labels hold NaN or inf, first in sample {first}: leave such samples out")


def check_finite(name: str, samples: Samples, rows: int = 4096) -> None:
    """Raise ValueError naming the modality that holds NaN or inf where it is present; in pieces, to stay in memory."""
    for modality, x in samples.features.items():
        there, real = (samples.present or {}).get(modality), (samples.masks or {}).get(modality)
        for start in range(0, len(x), rows):
            finite = torch.isfinite(x[start : start + rows])
            if real is not None:
                finite |= ~real[start : start + rows, :, None].to(finite.device)
            finite = finite.flatten(1).all(1)
            if there is not None:
                finite |= ~there[start : start + rows].to(finite.device)
            if not bool(finite.all()):
                first = start + int((~finite).nonzero()[0])
                raise ValueError(f"{name} features[{modality!r}] hold NaN or inf, first in sample {first}: mask it")


def check_labels(outputs: Tensor, train: Samples, validation: Samples | None) -> int:
    """Return the number of classes C of the model's outputs (B, C); raise ValueError for a label outside 0..C-1.

    Without this, torch answers with an index error on the CPU and with a dead process on CUDA.
    """
    if outputs.ndim != 2:
        raise ValueError(f"integer labels need logits (B, C), the model returns shape {tuple(outputs.shape)}")
    classes = outputs.shape[1]
    for name, samples in (("train", train), ("validation", validation)):
        if samples is None:
            continue
        for label in (int(samples.labels.min()), int(samples.labels.max())):
            if not 0 <= label < classes:
                raise ValueError(
                    f"{name} labels hold {label}, but the model has {classes} classes: "
                    f"expected labels from 0 to {classes - 1}, or a model with more outputs"
                )
    return classes


def check_regression(outputs: Tensor) -> None:
    """Refuse a model with several outputs for float labels: broadcasting would compare each with every label."""
    if outputs.shape not in ((1,), (1, 1)):
        raise ValueError(f"float labels need one output per sample, the model returns {tuple(outputs.shape)} for one")


def check_class_weights(weights: Tensor, classes: int) -> Tensor:
    """Return the weights if there is one per class, else raise ValueError naming both numbers."""
    if weights.shape != (classes,):
        raise ValueError(
            f"class_weights has shape {tuple(weights.shape)}, expected ({classes},): one per class of the model"
        )
    return weights
