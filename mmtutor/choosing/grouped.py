"""The table that choosing reads: features of any modalities, and groups that a split must not cut.

Taught in chapter 10.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from mmtutor.checks import require
from mmtutor.choosing.optimum import stretch
from mmtutor.types import Features, Present, Samples

FUSIONS = ("early", "late", "product")
"""The levels of fusion that are compared: one head on all modalities, average and product of the
singles' opinions."""


class TooFewSamples(ValueError):
    """Too few samples, or too few groups of a class, to choose and to judge on; the message says
    which."""


@dataclass(frozen=True)
class GroupedSamples:
    """N samples of any modalities, in groups whose members resemble each other.

    features[m]: (N, D_m), may be a memory map; labels: (N,) int64 into `classes`, or float32 and
    no classes where the target is a number; groups: (N,) int64; present[m]: (N,) bool, absent or
    None where every sample has m. Where a sample lacks m its row of features[m] may hold anything.
    knots[m]: of a modality made of columns, see `scaling.Hats`, into how many hats each is cut.
    Raises ValueError, naming the modality, where lengths differ or a modality bears the name of a
    level of fusion; KeyError where `present` speaks of a modality without features.
    """

    features: Features
    labels: Tensor
    groups: np.ndarray
    classes: tuple[str, ...]
    present: Present | None = None
    knots: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse tables of unequal length and names that mean something else here."""
        Samples(self.features, self.labels, self.present)
        require(
            len(self.groups) == len(self.labels),
            f"{len(self.groups)} groups, expected one for each of {len(self)}",
        )
        require(
            not (taken := [m for m in self.features if m in FUSIONS]),
            f"a modality cannot be called {taken}: those are levels of fusion",
        )

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.labels)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the names of the modalities, in the order of `features`."""
        return tuple(self.features)

    def having(self, modalities: Iterable[str]) -> Tensor:
        """Return which samples have all these modalities: (N,) bool. Raises KeyError for others."""
        everyone = torch.ones(len(self), dtype=torch.bool)
        present = dict.fromkeys(self.features, everyone) | (self.present or {})
        return torch.stack([everyone, *(present[m] for m in modalities)]).all(0)

    @property
    def outputs(self) -> int:
        """Return how many numbers an opinion has: one a class, or one."""
        return len(self.classes) or 1

    @property
    def strata(self) -> Tensor:
        """Return what folds are to hold in like shares: the classes, or fifths of the numbers."""
        if self.classes:
            return self.labels
        ends = self.labels.quantile(torch.tensor([0.2, 0.4, 0.6, 0.8]))
        return torch.bucketize(self.labels, ends).unique(return_inverse=True)[1]

    def only(self, modalities: Iterable[str]) -> "GroupedSamples":
        """Return the same samples with some of the modalities. Raises KeyError for others."""
        part = Samples(self.features, self.labels, self.present).only(list(modalities))
        return replace(self, features=part.features, present=part.present)

    def having_any(self, modalities: Iterable[str]) -> Tensor:
        """Return which samples have at least one of these modalities: (N,) bool."""
        return torch.stack([self.having([m]) for m in modalities]).any(0)

    def samples(self, rows: Tensor, modalities: Iterable[str]) -> Samples:
        """Return the samples `rows` (positions) with these modalities; what lies together in a map
        is not copied."""
        part = self.only(modalities)
        lacking = {m: mask for m, mask in (part.present or {}).items() if not mask[rows].all()}
        return Samples(part.features, self.labels, lacking or None)[stretch(rows)]
