"""The types that pass between rooms: modalities are named, a missing one is a mask.

Taught in chapter 3.
"""

from collections.abc import Callable, Iterable
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
    present[m]: (N,) bool, None where everything is present; masks[m]: (N, T) bool, the real steps
    of a sequence, or of the one that an encoder will make of it.
    Raises, naming the modality, ValueError where lengths or numbers of axes differ from these,
    KeyError for a present or masks without features, TypeError for one that is not bool.
    """

    features: Features
    labels: Tensor
    present: Present | None = None
    masks: Masks | None = None

    def __post_init__(self) -> None:
        """Refuse tables that do not belong together before they can be cut apart."""
        for kind, tables, axes, shape in (
            ("features", self.features, 0, ""),
            ("present", self.present or {}, 1, "(N,)"),
            ("masks", self.masks or {}, 2, "(N, T)"),
        ):
            if unknown := [m for m in tables if m not in self.features]:
                raise KeyError(f"{kind} names {unknown}, the features are {list(self.features)}")
            for modality, table in tables.items():
                name = f"{kind}[{modality!r}]"
                if len(table) != len(self.labels):
                    raise ValueError(
                        f"{name} has {len(table)} samples, labels have {len(self.labels)}"
                    )
                if axes and table.dtype != torch.bool:
                    raise TypeError(f"{name} is {table.dtype}, expected torch.bool")
                if axes and table.dim() != axes:
                    raise ValueError(f"{name} has shape {tuple(table.shape)}, expected {shape}")

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice | list[int]) -> "Samples":
        """Return the samples at `index` (a slice, a list of positions or a mask), every table cut
        alike."""
        rows = index if isinstance(index, slice) else torch.as_tensor(index)
        return self._each(lambda table: table[rows])

    def take(self, rows: Tensor) -> "Samples":
        """Return the samples at `rows`, (B,) int64 from 0 to N - 1 on the samples' own device.

        The same as `samples[rows]`, in a quarter of the time: training cuts every batch with it.
        """
        return self._each(lambda table: table.index_select(0, rows))

    def only(self, modalities: list[str]) -> "Samples":
        """Return the same samples with some of the modalities. Raises KeyError, naming those that
        are not there."""
        if unknown := [m for m in modalities if m not in self.features]:
            raise KeyError(f"no modality {unknown}, there are {list(self.features)}")
        return self._each(lambda table: table, modalities)

    def to(self, device: torch.device | str) -> "Samples":
        """Return the same samples on `device`."""
        return self._each(lambda table: table.to(device))

    @property
    def inputs(self) -> tuple[Features | Present | Masks | None, ...]:
        """What a model takes: (features, present), and masks only where there are some."""
        return (
            (self.features, self.present)
            if self.masks is None
            else (self.features, self.present, self.masks)
        )

    def _each(
        self, change: Callable[[Tensor], Tensor], modalities: Iterable[str] | None = None
    ) -> "Samples":
        """Return what `change` makes of each table and of the labels; None: of all modalities."""
        named = self.features if modalities is None else modalities
        features, present, masks = (
            None if tables is None else {m: change(tables[m]) for m in named if m in tables}
            for tables in (self.features, self.present, self.masks)
        )
        return Samples(features or {}, change(self.labels), present, masks)
