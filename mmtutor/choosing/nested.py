"""Which way of reading samples is best, by how much, and is that real? Nested, grouped, repeated
cross-validation among every single modality, all of them at each level of fusion, and all but one.

Taught in chapter 10.
"""

from collections.abc import Iterable

import numpy as np
import torch
from sklearn.metrics import mean_absolute_error, r2_score
from torch import Tensor
from tqdm import tqdm

from mmtutor.checks import one_of, require
from mmtutor.choosing.choice import Choice, Fold, methods_of
from mmtutor.choosing.grouped import GroupedSamples, TooFewSamples
from mmtutor.choosing.heads import STRENGTHS, calibrate, fit_head, fused
from mmtutor.evaluation import (
    expected_calibration_error,
    folds,
    grouped_split,
    log_loss,
    macro_f1,
)
from mmtutor.fusion import EncoderFusion
from mmtutor.training import predict

MOST = 5000
"""Samples that choosing looks at: the interval of a difference is then about 0.01 wide, and memory
and time stay flat."""

DECISIONS = ("balanced", "likeliest")
"""How a label is taken from opinions: see `choose`."""


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
    """Compare the methods of `methods_of` on the samples that have all modalities; return scores,
    strengths, calibrations.

    In each fold the strength of each head is chosen on a quarter of its training groups, then the
    head is trained on all of them: no score comes from a sample that anything was fitted or chosen
    on. Heads learn from every sample that has one of their modalities; "without" takes the strength
    that all modalities together chose. Late fusion joins opinions that were brought to the right
    confidence on the other folds. While too few samples have all modalities, the rarest is left
    out.
    decision: how the scored labels are taken: "balanced", the class that a sample speaks for most
    beyond its frequency, or "likeliest", that of the highest calibrated probability.
    Of more than `most` samples, whole groups drawn at random take part, which is enough to choose;
    more than `most` only where a rare class would else not fill the folds.
    Raises TooFewSamples where a class has too few groups for the folds, naming it; ValueError for
    another decision.
    """
    one_of("decision", decision, DECISIONS)
    named = table.modalities
    table = _comparable(table, splits)
    drawn = _drawn(table, most, splits, seed)
    rows = (drawn & table.having(table.modalities)).nonzero().flatten()
    methods = methods_of(table.modalities, numbers=not table.classes)
    heads = [name for name, method in methods.items() if method.head]
    plan = _plan(table, rows, splits, repeats, seed)
    answers = {m: torch.full((repeats, len(rows), table.outputs), torch.nan) for m in heads}
    strengths: list[dict[str, float]] = []
    bar = tqdm(plan, "choosing", unit="fold", disable=None if progress else True)
    for number, (_, test) in enumerate(bar):
        tested = torch.from_numpy(np.isin(table.groups, table.groups[rows[test]]))
        opinions, chosen = answers_about(
            table, drawn & ~tested, rows[test], heads, seed + number, device
        )
        strengths.append(chosen)
        for m in heads:
            answers[m][number // splits, test] = opinions[m]
    y, tests = table.labels[rows], [test for _, test in plan]
    singles = {m: _calibrated(answers[m], y, tests, balanced=True) for m in table.modalities}
    for name, method in methods.items():
        if not method.head:
            parts = {m: singles[m].flatten(0, 1) for m in method.reads}
            answers[name] = fused(method.level, parts).reshape(answers[method.reads[0]].shape)
    answers = {m: answers[m] for m in methods}
    calibrated = {m: _calibrated(a, y, tests) for m, a in answers.items()}
    ranked = answers if decision == "balanced" and table.classes else calibrated
    guesses = {m: a.argmax(2) if table.classes else a[..., 0] for m, a in ranked.items()}
    return Choice(
        methods,
        {
            m: np.array([score_of(g[n // splits, t], y[t]) for n, t in enumerate(tests)])
            for m, g in guesses.items()
        },
        plan,
        float(np.mean([len(train) for train, _ in plan])),
        float(np.mean([len(test) for test in tests])),
        # the median over the folds, on the scale of the logarithm
        {
            head: float(np.exp(np.median(np.log([chosen[head] for chosen in strengths]))))
            for head in strengths[0]
        },
        {m: calibrate(a.flatten(0, 1), y.repeat(repeats)) for m, a in answers.items()},
        {m: _quality(p[0], y) for m, p in calibrated.items()},
        answers,
        calibrated,
        guesses,
        rows,
        tuple(m for m in named if m not in table.modalities),
    )


def answers_about(
    table: GroupedSamples,
    learnt: Tensor,
    test: Tensor,
    methods: Iterable[str],
    seed: int = 0,
    device: str | None = None,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return method → balanced opinions (n_test, C) about the samples `test`, and head → the
    strength that it chose. Late fusion joins the singles' opinions as they are.

    learnt: (N,) bool, the samples to learn and to choose from; test: positions of samples that have
    what methods read.
    Raises TooFewSamples where a class is not among the learnt ones.
    """
    known = methods_of(table.modalities, numbers=not table.classes)
    wanted = {name: known[name] for name in methods}
    needed = {m for method in wanted.values() if not method.head for m in method.reads} | {*wanted}
    opinions: dict[str, Tensor] = {}
    strengths: dict[str, float] = {}
    early: EncoderFusion | None = None
    heads = {name: m for name, m in known.items() if m.head and name in needed}
    for name, method in heads.items():
        rows = (learnt & table.having_any(method.reads)).nonzero().flatten()
        counts = torch.bincount(table.strata[rows], minlength=len(table.classes)).tolist()
        lost = [c for c, n in zip(table.classes, counts, strict=False) if not n]
        require(not lost, f"a fold holds all samples of {lost}", TooFewSamples)
        strengths[name], start = (
            (strengths["early"], early)  # without one of the modalities
            if early is not None
            else _strength(table, rows, method.reads, seed, device)
        )
        samples = table.samples(rows, method.reads)
        model = fit_head(samples, table.outputs, strengths[name], device, start, knots=table.knots)
        early = model if name == "early" else early
        logits = predict(model, table.samples(test, method.reads))
        opinions[name] = logits.softmax(1) if table.classes else logits
    for name, method in wanted.items():
        if not method.head:
            opinions[name] = fused(method.level, {m: opinions[m] for m in method.reads})
    return {m: opinions[m] for m in wanted}, strengths


def score_of(guess: Tensor, y: Tensor) -> float:
    """Return macro-F1 of labels (N,), R² of numbers."""
    return float(r2_score(y, guess)) if y.is_floating_point() else macro_f1(guess, y)


def _quality(calibrated: Tensor, y: Tensor) -> dict[str, float]:
    if y.is_floating_point():
        return {"mae": float(mean_absolute_error(y, calibrated[:, 0]))}
    return {"ece": expected_calibration_error(calibrated, y), "log_loss": log_loss(calibrated, y)}


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
    rows, strata = table.having(table.modalities).nonzero().flatten(), table.strata
    for c in strata.unique():
        turns = np.unique(turn[rows[strata[rows] == c].numpy()])
        last = max(last, int(turns[:splits].max(initial=0)))
    return torch.from_numpy(turn <= last)


def _comparable(table: GroupedSamples, splits: int) -> GroupedSamples:
    """Return the table with as many modalities, the common ones, as enough samples have at once."""
    kept = sorted(table.modalities, key=lambda m: -int(table.having([m]).sum()))
    kept = [m for m in kept if table.having([m]).any()] or kept[:1]
    while len(kept) > 1 and min(_groups_of(table, table.having(kept)).values()) < splits:
        kept.pop()
    return table.only([m for m in table.modalities if m in kept])


def _groups_of(table: GroupedSamples, mask: Tensor) -> dict[str, int]:
    """Return of each class, or fifth of the numbers, in how many groups of samples in `mask` it
    stands."""
    names = table.classes or [  # of few different numbers there are fewer than fifths
        f"fifth {k + 1} of the numbers" for k in range(int(table.strata.max()) + 1)
    ]
    members = {name: (mask & (table.strata == c)).numpy() for c, name in enumerate(names)}
    return {name: len(np.unique(table.groups[rows])) for name, rows in members.items()}


def _plan(table: GroupedSamples, rows: Tensor, splits: int, repeats: int, seed: int) -> list[Fold]:
    """Return the folds of the samples `rows`; TooFewSamples unless each class stands in as many
    groups as there are folds."""
    mask = torch.zeros(len(table), dtype=torch.bool)
    mask[rows] = True
    few = {name: n for name, n in _groups_of(table, mask).items() if n < splits}
    require(
        not few,
        f"{len(rows)} samples are too few to choose and to judge on: of {few} (class: groups) at"
        f" least {splits} are needed, one for each fold; "
        + (
            f"fewer folds, {min(few.values())}, could be filled"
            if min(few.values(), default=0) > 1
            else "what is there once cannot be learnt and judged: find more of it, or leave it out"
        ),
        TooFewSamples,
    )
    y, groups = table.strata[rows], table.groups[rows]
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
    """Return the strength with the lowest balanced loss, or squared error, on a held-out quarter of
    the groups of the samples `learnt`, and the head it gave."""
    y, groups = table.strata[learnt], table.groups[learnt]
    try:
        rest, part = grouped_split(y, groups, fraction=0.25, seed=seed)
    except ValueError:  # so few samples that a class would be lost: the strongest is the safest
        return STRENGTHS[-1], None
    if len(y[rest].unique()) < len(table.classes):
        return STRENGTHS[-1], None
    inner, outer = (table.samples(learnt[torch.from_numpy(k)], modalities) for k in (rest, part))
    best, lowest, kept, head = STRENGTHS[-1], np.inf, None, None
    for strength in sorted(STRENGTHS, reverse=True):  # each is a good start for the next weaker
        head = fit_head(inner, table.outputs, strength, device, head, knots=table.knots)
        if (loss := _balanced_loss(predict(head, outer), outer.labels)) < lowest:
            best, lowest, kept = strength, loss, head
    return best, kept


def _balanced_loss(outputs: Tensor, y: Tensor) -> float:
    """Return the log loss in which every class counts alike; of numbers the squared error."""
    if y.is_floating_point():
        return float((outputs[:, 0] - y).square().mean())
    weight = torch.bincount(y, minlength=outputs.shape[1]).clamp(min=1).float().reciprocal()[y]
    return float(-(outputs.log_softmax(1)[range(len(y)), y] * weight).sum())


def _calibrated(
    opinions: Tensor, y: Tensor, tests: list[np.ndarray], balanced: bool = False
) -> Tensor:
    """Return answers to opinions (repeats, N, C), each fold's calibrated on the other folds of its
    repeat: probabilities, or balanced opinions; of numbers, predictions."""
    found = torch.empty(opinions.shape, dtype=torch.float64)
    for number, test in enumerate(tests):
        repeat = number // (len(tests) // len(opinions))
        others = np.setdiff1d(np.arange(len(y)), test)
        fitted = calibrate(opinions[repeat, others], y[others])
        found[repeat, test] = (fitted.balanced if balanced else fitted)(opinions[repeat, test])
    return found
