"""The table that choosing reads: features of any modalities, and groups that a split must not cut.

Taught in chapter 10.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmtutor.checks import require
from mmtutor.choosing.optimum import stretch
from mmtutor.types import Features, Present, Samples

FUSIONS = ("early", "late")
"""The levels of fusion that are compared: one head on all modalities, the average of the singles'
opinions."""


class TooFewSamples(ValueError):
    """Too few samples, or too few groups of a class, to choose and to judge on; the message says
    which."""


@dataclass(frozen=True)
class GroupedSamples:
    """N samples of any modalities, in groups whose members resemble each other.

    features[m]: (N, D_m), may be a memory map; labels: (N,) int64 into `classes`; groups: (N,)
    int64; present[m]: (N,) bool, absent or None where every sample has m. Where a sample lacks m
    its row of features[m] may hold anything.
    Raises ValueError, naming the modality, where lengths differ or a modality bears the name of a
    level of fusion; KeyError where `present` speaks of a modality without features.
    """

    features: Features
    labels: Tensor
    groups: np.ndarray
    classes: tuple[str, ...]
    present: Present | None = None

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

    def only(self, modalities: Iterable[str]) -> "GroupedSamples":
        """Return the same samples with some of the modalities. Raises KeyError for others."""
        part = Samples(self.features, self.labels, self.present).only(list(modalities))
        return replace(self, features=part.features, present=part.present)

    def samples(self, rows: Tensor, modalities: Iterable[str]) -> Samples:
        """Return the samples `rows` (positions), all of which have `modalities`; what lies together
        in a map is not copied."""
        return Samples(self.only(modalities).features, self.labels)[stretch(rows)]
