"""Which way of reading samples is best, by how much, and is that real? Nested, grouped, repeated
cross-validation among every single modality, early and late fusion.

Taught in chapter 10.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mmtutor.checks import one_of, require
from mmtutor.choosing.grouped import FUSIONS, GroupedSamples, TooFewSamples
from mmtutor.choosing.heads import (
    STRENGTHS,
    OpinionCalibration,
    calibrate,
    fit_head,
    heads_of,
    late,
)
from mmtutor.evaluation import (
    Comparison,
    Interval,
    corrected_interval,
    expected_calibration_error,
    folds,
    grouped_split,
    log_loss,
    macro_f1,
    paired_comparison,
)
from mmtutor.fusion import EncoderFusion
from mmtutor.training import predict

MOST = 5000
"""Samples that choosing looks at: the interval of a difference is then about 0.01 wide, and memory
and time stay flat."""

DECISIONS = ("balanced", "likeliest")
"""How a label is taken from opinions: see `choose`."""

Fold = tuple[np.ndarray, np.ndarray]
"""Positions among the compared samples: (training part, test part)."""


@dataclass(frozen=True)
class Choice:
    """What cross-validation found. methods: those that could be tried, simpler ones first;
    scores[method]: (folds,) macro-F1.

    strengths[head]: regularisation for the final heads; calibrations[method]: fitted on answers
    about samples not trained on. quality[method]: ECE and log loss of calibrated answers, each fold
    calibrated on the others.
    answers[method]: (repeats, N_c, C) balanced opinions on the N_c compared samples, whose
    positions are `compared`;
    guesses[method]: (repeats, N_c) the labels taken from them.
    """

    methods: tuple[str, ...]
    scores: dict[str, np.ndarray]
    n_train: float
    n_test: float
    strengths: dict[str, float]
    calibrations: dict[str, OpinionCalibration]
    quality: dict[str, dict[str, float]]
    answers: dict[str, Tensor]
    guesses: dict[str, Tensor]
    compared: Tensor

    @property
    def winner(self) -> str:
        """Return the method of the highest mean macro-F1; of equal ones the simpler."""
        return max(self.methods, key=lambda m: self.scores[m].mean())

    @property
    def singles(self) -> tuple[str, ...]:
        """Return the methods that read one modality."""
        return tuple(m for m in self.methods if m not in FUSIONS)

    @property
    def best_single(self) -> str:
        """Return the best of the single modalities that were tried."""
        return max(self.singles, key=lambda m: self.scores[m].mean())

    def interval(self, method: str) -> Interval:
        """Return mean macro-F1 of a method, with the Nadeau–Bengio corrected interval."""
        return corrected_interval(self.scores[method], n_train=self.n_train, n_test=self.n_test)

    def against(self, method: str, other: str) -> Comparison:
        """Return the corrected paired comparison of two methods over the folds."""
        return paired_comparison(
            self.scores[method], self.scores[other], n_train=self.n_train, n_test=self.n_test
        )


def choose(
    table: GroupedSamples,
    *,
    splits: int = 5,
    repeats: int = 3,
    seed: int = 0,
    decision: str = "balanced",
    most: int = MOST,
    device: str | None = None,
    progress: bool = True,
) -> Choice:
    """Compare each modality alone, early and late fusion on the samples that have all modalities;
    return scores, strengths, calibrations.

    In each fold the strength of each head is chosen on a quarter of its training groups, then the
    head is trained on all of them: no score comes from a sample that anything was fitted or chosen
    on. Singles learn from every sample that has their modality. A modality that no sample has is
    left out; where no sample has all others, the commonest one is scored alone.
    decision: how the scored labels are taken: "balanced", the class that a sample speaks for most
    beyond its frequency, or "likeliest", that of the highest calibrated probability.
    Of more than `most` samples, whole groups drawn at random take part, which is enough to choose;
    more than `most` only where a rare class would else not fill the folds.
    Raises TooFewSamples where a class has too few groups for the folds, naming it; ValueError for
    another decision.
    """
    one_of("decision", decision, DECISIONS)
    table = table.only([m for m in table.modalities if table.having([m]).any()] or table.modalities)
    drawn = _drawn(table, most, splits, seed)
    methods, rows = _comparable(table, drawn)
    plan = _plan(table, rows, splits, repeats, seed)
    answers = {m: torch.full((repeats, len(rows), len(table.classes)), torch.nan) for m in methods}
    strengths: list[dict[str, float]] = []
    bar = tqdm(plan, "choosing", unit="fold", disable=None if progress else True)
    for number, (_, test) in enumerate(bar):
        tested = torch.from_numpy(np.isin(table.groups, table.groups[rows[test]]))
        opinions, chosen = answers_about(
            table, drawn & ~tested, rows[test], methods, seed + number, device
        )
        strengths.append(chosen)
        for m in methods:
            answers[m][number // splits, test] = opinions[m]
    y = table.labels[rows]
    tests = [test for _, test in plan]
    calibrated = {m: _calibrated(a, y, tests) for m, a in answers.items()}
    ranked = answers if decision == "balanced" else calibrated
    guesses = {m: a.argmax(2) for m, a in ranked.items()}
    return Choice(
        methods,
        {
            m: np.array([macro_f1(g[n // splits, t], y[t]) for n, t in enumerate(tests)])
            for m, g in guesses.items()
        },
        float(np.mean([len(train) for train, _ in plan])),
        float(np.mean([len(test) for test in tests])),
        # the median over the folds, on the scale of the logarithm
        {
            head: float(np.exp(np.median(np.log([chosen[head] for chosen in strengths]))))
            for head in strengths[0]
        },
        {m: calibrate(a.flatten(0, 1), y.repeat(repeats)) for m, a in answers.items()},
        {
            m: {"ece": expected_calibration_error(p[0], y), "log_loss": log_loss(p[0], y)}
            for m, p in calibrated.items()
        },
        answers,
        guesses,
        rows,
    )


def answers_about(
    table: GroupedSamples,
    learnt: Tensor,
    test: Tensor,
    methods: tuple[str, ...],
    seed: int = 0,
    device: str | None = None,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return method → balanced opinions (n_test, C) about the samples `test`, and head → the
    strength that it chose.

    learnt: (N,) bool, the samples to learn and to choose from; test: positions of samples that have
    what methods read.
    Raises TooFewSamples where a class is not among the learnt ones.
    """
    opinions, strengths = {}, {}
    for head, modalities in heads_of(table.modalities).items():
        if head not in methods and not ("late" in methods and head in table.features):
            continue
        rows = (learnt & table.having(modalities)).nonzero().flatten()
        counts = torch.bincount(table.labels[rows], minlength=len(table.classes))
        require(
            not (lost := [c for c, n in zip(table.classes, counts, strict=True) if not n]),
            f"a fold holds all samples of {lost}",
            TooFewSamples,
        )
        strengths[head], start = _strength(table, rows, modalities, seed, device)
        model = fit_head(
            table.samples(rows, modalities), len(table.classes), strengths[head], device, start
        )
        opinions[head] = predict(model, table.samples(test, modalities)).softmax(1)
    if "late" in methods:
        opinions["late"] = late({m: opinions[m] for m in table.modalities})
    return {m: opinions[m] for m in methods}, strengths


def _drawn(table: GroupedSamples, most: int, splits: int, seed: int) -> Tensor:
    """Return which samples take part in choosing, (N,) bool: all, or whole groups at random until
    there are `most`.

    The drawing goes on until each class that has as many groups to be compared stands in `splits`
    of them.
    """
    everyone = torch.ones(len(table), dtype=torch.bool)
    if len(table) <= most:
        return everyone
    _, group = np.unique(table.groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(group.max() + 1)
    turn = np.argsort(order)[group]  # (N,) when each sample's group is drawn
    last = int(np.searchsorted(np.cumsum(np.bincount(group)[order]), most))
    _, rows = _comparable(table, everyone)
    for c in range(len(table.classes)):
        turns = np.unique(turn[rows[table.labels[rows] == c].numpy()])
        last = max(last, int(turns[:splits].max(initial=0)))
    return torch.from_numpy(turn <= last)


def _comparable(table: GroupedSamples, drawn: Tensor) -> tuple[tuple[str, ...], Tensor]:
    """Return which methods can be compared, and the positions of those `drawn` to do it on."""
    complete = (drawn & table.having(table.modalities)).nonzero().flatten()
    if len(complete):
        return table.modalities + (FUSIONS if len(table.modalities) > 1 else ()), complete
    commonest = max(table.modalities, key=lambda m: int(table.having([m]).sum()))
    return (commonest,), (drawn & table.having([commonest])).nonzero().flatten()


def _plan(table: GroupedSamples, rows: Tensor, splits: int, repeats: int, seed: int) -> list[Fold]:
    """Return the folds of the samples `rows`; TooFewSamples unless each class stands in as many
    groups as there are folds."""
    y, groups = table.labels[rows], table.groups[rows]
    counts = {name: len(np.unique(groups[y == c])) for c, name in enumerate(table.classes)}
    require(
        not (few := {name: n for name, n in counts.items() if n < splits}),
        f"{len(rows)} samples are too few to choose and to judge on: of {few} (class: groups) at"
        f" least {splits} are needed, one for each fold",
        TooFewSamples,
    )
    try:
        return list(folds(y, groups, splits=splits, repeats=repeats, seed=seed))
    except ValueError as error:
        raise TooFewSamples(
            f"the {len(rows)} samples cannot be cut into {splits} folds: {error}"
        ) from error


def _strength(
    table: GroupedSamples,
    learnt: Tensor,
    modalities: tuple[str, ...],
    seed: int,
    device: str | None,
) -> tuple[float, EncoderFusion | None]:
    """Return the strength with the lowest balanced loss on a held-out quarter of the groups of the
    samples `learnt`, and the head it gave."""
    y, groups, classes = table.labels[learnt], table.groups[learnt], len(table.classes)
    try:
        rest, part = grouped_split(y, groups, fraction=0.25, seed=seed)
    except ValueError:  # so few samples that a class would be lost: the strongest is the safest
        return STRENGTHS[-1], None
    if len(y[rest].unique()) < classes:
        return STRENGTHS[-1], None
    inner, outer = (table.samples(learnt[torch.from_numpy(k)], modalities) for k in (rest, part))
    counts = torch.bincount(outer.labels, minlength=classes).clamp(min=1)
    weight = counts.float().reciprocal()[outer.labels]
    best, lowest, kept, head = STRENGTHS[-1], np.inf, None, None
    for strength in sorted(STRENGTHS, reverse=True):  # each is a good start for the next weaker
        head = fit_head(inner, classes, strength, device, head)
        log_p = predict(head, outer).log_softmax(1)[range(len(outer)), outer.labels]
        if float(loss := -(log_p * weight).sum()) < lowest:
            best, lowest, kept = strength, float(loss), head
    return best, kept


def _calibrated(opinions: Tensor, y: Tensor, tests: list[np.ndarray]) -> Tensor:
    """Return probabilities for opinions (repeats, N, C), each fold's calibrated on the other folds
    of its repeat."""
    probs = torch.empty(opinions.shape, dtype=torch.float64)
    for number, test in enumerate(tests):
        repeat = number // (len(tests) // len(opinions))
        others = np.setdiff1d(np.arange(len(y)), test)
        fitted = calibrate(opinions[repeat, others], y[others])
        probs[repeat, test] = fitted(opinions[repeat, test])
    return probs
