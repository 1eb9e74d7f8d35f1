"""What every loader returns: raw samples by modality, what is to be predicted, groups for honest
splits, and the data card. Taught in chapter 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmtutor.checks import require


class DisplayForbidden(PermissionError):
    """The data card says that samples of this set must not be shown."""


class Undisplayed(list):
    """A list that works as one but does not print its items: for samples that must not be shown."""

    def __repr__(self) -> str:
        """Return the count only."""
        return f"<{len(self)} items, not to be shown>"

    def __getitem__(self, index: Any) -> Any:
        """Return an item, or a part that prints no items either."""
        items = super().__getitem__(index)
        return Undisplayed(items) if isinstance(index, slice) else items


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """N samples: raw modalities, what is to be predicted, the groups that a split must keep
    together, and where they come from.

    modalities[m]: N raw samples (list of Path for pictures, list of str for text, tensor (N, ...)
    for arrays, list of sequences where lengths differ); groups: (N,) int64, one number per group,
    named by `group_names[number]`;
    labels: (N,) int64 in 0..len(classes)-1, None where there is no class to predict;
    targets[t]: N further things to predict: a tensor (N,) of numbers, or a list of N sequences,
    boxes or texts; card: facts of the data card (title, licence, citation, ...).
    Raises ValueError naming the column whose length or range is wrong.
    """

    name: str
    modalities: Mapping[str, Sequence | Tensor | np.ndarray]
    groups: np.ndarray
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    group_names: tuple[str, ...] | None = None
    targets: Mapping[str, Sequence | Tensor | np.ndarray] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse columns of unequal length and labels or groups without a name; hide what must not
        be shown."""
        columns: dict[str, Any] = {
            "labels": self.labels,
            **{f"modalities[{m!r}]": x for m, x in self.modalities.items()},
            **{f"targets[{t!r}]": x for t, x in self.targets.items()},
        }
        for column, values in columns.items():
            rows = len(self) if values is None else len(values)
            require(
                rows == len(self),
                f"{self.name}: {column} has {rows} rows, groups have {len(self)}",
            )
        for column, numbers, names in (
            ("labels", self.labels, self.classes),
            ("groups", self.groups, self.group_names),
        ):
            if numbers is not None and names is not None and len(numbers):
                low, high = int(numbers.min()), int(numbers.max())
                require(
                    low >= 0 and high < len(names),
                    f"{self.name}: {column} range from {low} to {high}, expected 0 to"
                    f" {len(names) - 1}",
                )
        if self.do_not_display:
            for kind in ("modalities", "targets"):
                table = getattr(self, kind).items()
                hidden = {k: Undisplayed(x) if isinstance(x, list) else x for k, x in table}
                object.__setattr__(self, kind, hidden)

    @property
    def do_not_display(self) -> bool:
        """Return whether the card forbids showing samples."""
        return bool(self.card.get("do_not_display", False))

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.groups)

    def subset(self, index: Tensor | np.ndarray | Sequence[int] | slice) -> "Dataset":
        """Return the samples at `index` (positions, a boolean mask or a slice, as numpy reads
        them), every column cut alike.

        Groups keep their numbers. Raises IndexError for a position outside, or a mask of another
        length.
        """
        rows = np.arange(len(self))[index].copy()  # torch takes no view with a negative step
        return replace(
            self,
            modalities={m: _take(x, rows) for m, x in self.modalities.items()},
            groups=self.groups[rows],
            labels=None if self.labels is None else _take(self.labels, rows),
            targets={t: _take(x, rows) for t, x in self.targets.items()},
        )

    def sample(self, i: int) -> dict[str, Any]:
        """Return the raw sample at position `i`, modality by modality, to look at.

        Raises DisplayForbidden (a PermissionError) where the data card says that samples must not
        be shown.
        """
        require(
            not self.do_not_display,
            f"{self.name}: its data card says to measure on it and never to show a sample"
            f" (licence: {self.card.get('licence', 'not stated')}); print counts and results"
            " only",
            DisplayForbidden,
        )
        return {m: x[i] for m, x in self.modalities.items()}

    def __repr__(self) -> str:
        """Return counts only, so that no cell shows a sample by accident."""
        text = (
            f"Dataset {self.name}: {len(self)} samples, {len(np.unique(self.groups))} groups;"
            f" modalities {', '.join(self.modalities)}"
        )
        if self.labels is None:
            return f"{text}; targets {', '.join(self.targets)}"
        counts = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
        pairs = zip(self.classes, counts, strict=True)
        return f"{text}; classes {', '.join(f'{name} {count}' for name, count in pairs)}"


def _take(values: Sequence | Tensor | np.ndarray, rows: np.ndarray) -> Any:
    """Return the values at `rows`: a list from a sequence, an array from an array."""
    if isinstance(values, Tensor):
        return values[torch.from_numpy(rows)]
    return values[rows] if isinstance(values, np.ndarray) else [values[i] for i in rows]
