"""The ways to read a sample that can be compared, and what the comparison found.

Taught in chapter 10.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mmtutor.choosing.grouped import FUSIONS
from mmtutor.choosing.heads import Calibration
from mmtutor.evaluation import Comparison, Interval, corrected_interval, paired_comparison

Fold = tuple[np.ndarray, np.ndarray]
"""Positions among the compared samples: (training part, test part)."""


@dataclass(frozen=True)
class Method:
    """A way to read samples: the modalities it `reads`, and at which `level` they meet: "alone",
    or one of FUSIONS."""

    level: str
    reads: tuple[str, ...]

    @property
    def head(self) -> bool:
        """Say whether it is a head; late fusion joins the opinions of the singles' heads."""
        return self.level in ("alone", "early")


def methods_of(modalities: Iterable[str], numbers: bool = False) -> dict[str, Method]:
    """Return name → method, simpler ones first: each modality alone, all at every level, and of
    three or more all but one, called "early without text". A product is of classes, not of
    `numbers`."""
    names = tuple(modalities)
    levels = () if len(names) < 2 else FUSIONS[:2] if numbers else FUSIONS
    found = {m: Method("alone", (m,)) for m in names}
    found |= {level: Method(level, names) for level in levels}
    for level in levels if len(names) > 2 else ():
        for m in names:
            rest = tuple(n for n in names if n != m)
            found[f"{level} without {m}"] = Method(level, rest)
    return found


@dataclass(frozen=True)
class Choice:
    """What cross-validation found. methods: those that could be tried, simpler ones first;
    scores[method]: (folds,) macro-F1, or R² of numbers.

    strengths[head]: regularisation for the final heads; calibrations[method]: fitted on answers
    about samples not trained on. quality[method]: ECE and log loss of calibrated answers, each fold
    calibrated on the others; of numbers mean absolute error and share within the spread.
    answers[method]: (repeats, N_c, C) balanced opinions on the N_c compared samples, whose
    positions are `compared`, `calibrated` the same after calibration; guesses[method]: (repeats,
    N_c) the labels taken from them. left_out: modalities that too few samples have beside the
    others. plan: the folds, as positions among the compared, with the mean sizes of their parts.
    """

    methods: dict[str, Method]
    scores: dict[str, np.ndarray]
    plan: list[Fold]
    n_train: float
    n_test: float
    strengths: dict[str, float]
    calibrations: dict[str, Calibration]
    quality: dict[str, dict[str, float]]
    answers: dict[str, Tensor]
    calibrated: dict[str, Tensor]
    guesses: dict[str, Tensor]
    compared: Tensor
    left_out: tuple[str, ...] = ()

    @property
    def singles(self) -> tuple[str, ...]:
        """Return the methods that read one modality."""
        return tuple(name for name, method in self.methods.items() if method.level == "alone")

    def best(self, methods: Iterable[str] | None = None) -> str:
        """Return the method of the highest mean score among these, None for all; of equal ones the
        simpler."""
        return max(methods or self.methods, key=lambda m: self.scores[m].mean())

    @property
    def best_single(self) -> str:
        """Return the best of the single modalities that were tried."""
        return self.best(self.singles)

    @property
    def full(self) -> str:
        """Return the best of the methods that read all modalities."""
        return self.best([n for n, m in self.methods.items() if set(m.reads) == {*self.singles}])

    @property
    def winner(self) -> str:
        """Return the simplest method that is not worse than the best: among those whose corrected
        interval of the difference from the best holds 0, the best of fewest modalities."""
        best = self.best()
        rivals = [m for m in self.methods if m == best or self.against(best, m).low <= 0]
        fewest = min(len(self.methods[m].reads) for m in rivals)
        return self.best([m for m in rivals if len(self.methods[m].reads) == fewest])

    def without(self, modality: str) -> str | None:
        """Return the method that reads all but one modality at the level of `full`, None where
        there is nothing else to read."""
        rest = {*self.singles} - {modality}
        level = self.methods[self.full].level if len(rest) > 1 else "alone"
        alike = [n for n, m in self.methods.items() if m.level == level and {*m.reads} == rest]
        return alike[0] if alike else None

    def interval(self, method: str) -> Interval:
        """Return a method's mean score with the Nadeau–Bengio corrected interval."""
        return corrected_interval(self.scores[method], n_train=self.n_train, n_test=self.n_test)

    def against(self, method: str, other: str) -> Comparison:
        """Return the corrected paired comparison of two methods over the folds."""
        return paired_comparison(
            self.scores[method], self.scores[other], n_train=self.n_train, n_test=self.n_test
        )
