"""The types that pass between rooms: modalities are named, a missing one is a mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Features = dict[str, Tensor]
"""modality → (B, D) vectors or (B, T, D) sequences, float."""

Present = dict[str, Tensor]
"""modality → (B,) bool: does this sample have that modality?"""

Masks = dict[str, Tensor]
"""modality → (B, T) bool: which steps are real (sequences only)."""


@dataclass(frozen=True)
class Samples:
    """Features and labels of N samples, cut by index: what `training.fit` and evaluation take.

    features[m]: (N, D) or (N, T, D); labels: (N,) int64 classes, or (N,) float values;
    present[m]: (N,) bool, None where everything is present.
    Raises ValueError, naming the modality, where lengths differ.
    """

    features: Features
    labels: Tensor
    present: Present | None = None

    def __post_init__(self) -> None:
        """Refuse tables of unequal length before they can be cut apart."""
        for kind, table in (("features", self.features), ("present", self.present or {})):
            for modality, values in table.items():
                if len(values) != len(self.labels):
                    raise ValueError(f"{kind}[{modality!r}] has {len(values)} samples, labels have {len(self.labels)}")

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice | list[int]) -> Samples:
        """Return the samples at `index` (a slice, a list of positions or a mask), every table cut alike."""
        rows = index if isinstance(index, slice) else torch.as_tensor(index)
        present = None if self.present is None else {m: p[rows] for m, p in self.present.items()}
        return Samples({m: x[rows] for m, x in self.features.items()}, self.labels[rows], present)

    def to(self, device: torch.device | str) -> Samples:
        """Return the same samples on `device`."""
        present = None if self.present is None else {m: p.to(device) for m, p in self.present.items()}
        return Samples({m: x.to(device) for m, x in self.features.items()}, self.labels.to(device), present)
