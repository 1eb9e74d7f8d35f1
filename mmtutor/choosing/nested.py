"""Which way of reading posts is best, by how much, and is that real? Nested, grouped, repeated
cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mmtutor.apps.faults import PostsUnusable
from mmtutor.apps.table import Table
from mmtutor.choosing.heads import HEADS, STRENGTHS, Calibration, calibrate, fit_head
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
from mmtutor.fusion import decision
from mmtutor.training import predict

METHODS = ("text", "image", "early", "late")
SINGLES = ("text", "image")
MOST = 5000
"""Posts that choosing looks at: the interval of a difference is then about 0.01 wide, and memory
and time stay flat."""


@dataclass(frozen=True)
class Choice:
    """What cross-validation found. methods: those that could be tried; scores[method]: (folds,)
    macro-F1.

    strengths[head]: regularisation for the final heads; calibrations[method]: fitted on answers
    about posts not trained on. quality[method]: ECE and log loss of calibrated answers, each fold
    calibrated on the others.
    answers[method]: (repeats, N_c, C) balanced opinions on the N_c compared posts, whose positions
    are `compared`;
    guesses[method]: (repeats, N_c) the labels taken from them.
    """

    methods: tuple[str, ...]
    scores: dict[str, np.ndarray]
    n_train: float
    n_test: float
    strengths: dict[str, float]
    calibrations: dict[str, Calibration]
    quality: dict[str, dict[str, float]]
    answers: dict[str, Tensor]
    guesses: dict[str, Tensor]
    compared: Tensor

    @property
    def winner(self) -> str:
        """Return the method of the highest mean macro-F1; of equal ones the simpler."""
        return max(self.methods, key=lambda m: self.scores[m].mean())

    @property
    def best_single(self) -> str:
        """Return the better of the single modalities that were tried."""
        return max((m for m in self.methods if m in SINGLES), key=lambda m: self.scores[m].mean())

    def interval(self, method: str) -> Interval:
        """Return mean macro-F1 of a method, with the Nadeau–Bengio corrected interval."""
        return corrected_interval(self.scores[method], n_train=self.n_train, n_test=self.n_test)

    def against(self, method: str, other: str) -> Comparison:
        """Return the corrected paired comparison of two methods over the folds."""
        return paired_comparison(
            self.scores[method], self.scores[other], n_train=self.n_train, n_test=self.n_test
        )


def late(opinions: dict[str, Tensor]) -> Tensor:
    """Return the late fusion of balanced opinions (N, C): their average."""
    return decision.average({m: opinions[m] for m in SINGLES})


def choose(
    table: Table,
    *,
    splits: int = 5,
    repeats: int = 3,
    seed: int = 0,
    decision: str = "balanced",
    most: int = MOST,
    device: str | None = None,
    progress: bool = True,
) -> Choice:
    """Compare text, image, early and late fusion on the posts that have both; return scores,
    strengths, calibrations.

    In each fold the strength of each head is chosen on a quarter of its training groups, then the
    head is trained on all of them: no score comes from a post that anything was fitted or chosen
    on. Singles learn from every post that has their modality. Where no post has both, the one
    modality that there is (or the commoner) is scored alone.
    decision: how the scored labels are taken, see `model.SentimentModel`.
    Of more than `most` posts, whole groups drawn at random take part, which is enough to choose;
    more than `most` only where a rare class would else not fill the folds.
    Raises PostsUnusable where a class has too few groups for the folds, naming it.
    """
    kept = _sample(table, most, splits, seed)
    methods, rows = _field(table, kept)
    _check_enough(table, rows, splits)
    try:
        plan = list(
            folds(table.labels[rows], table.groups[rows], splits=splits, repeats=repeats, seed=seed)
        )
    except ValueError as error:
        raise PostsUnusable(
            f"the {len(rows)} posts cannot be cut into {splits} folds: {error}"
        ) from error
    answers = {m: torch.full((repeats, len(rows), len(table.classes)), torch.nan) for m in methods}
    chosen: list[dict[str, float]] = []
    for number, (_, test) in enumerate(
        tqdm(plan, "choosing", unit="fold", disable=None if progress else True)
    ):
        elsewhere = kept & ~torch.from_numpy(np.isin(table.groups, table.groups[rows[test]]))
        said, strengths = answers_about(
            table, elsewhere, rows[test], methods, seed + number, device
        )
        chosen.append(strengths)
        for m in methods:
            answers[m][number // splits, test] = said[m]
    y = table.labels[rows]
    tests = [test for _, test in plan]
    calibrated = {
        m: torch.stack([_calibrated(a[r], y, tests[r * splits :][:splits]) for r in range(repeats)])
        for m, a in answers.items()
    }
    guesses = {
        m: a.argmax(2) for m, a in (answers if decision == "balanced" else calibrated).items()
    }
    scores = {
        m: np.array([macro_f1(g[n // splits, t], y[t]) for n, t in enumerate(tests)])
        for m, g in guesses.items()
    }
    return Choice(
        methods,
        scores,
        float(np.mean([len(a) for a, _ in plan])),
        float(np.mean([len(b) for _, b in plan])),
        {h: float(np.exp(np.median(np.log([c[h] for c in chosen])))) for h in chosen[0]},
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
    table: Table,
    learnt: Tensor,
    test: Tensor,
    methods: tuple[str, ...],
    seed: int = 0,
    device: str | None = None,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return method → balanced opinions (n_test, C) about the posts `test`, and head → the strength
    that it chose.

    learnt: (N,) bool, the posts to learn and to choose from; test: positions of posts that have
    what methods read.
    """
    said, strengths = {}, {}
    for head in (h for h in HEADS if h in methods or ("late" in methods and h in SINGLES)):
        rows = (learnt & table.having(HEADS[head])).nonzero().flatten()
        if lost := [
            name for c, name in enumerate(table.classes) if not (table.labels[rows] == c).any()
        ]:
            raise PostsUnusable(
                f"a fold holds all posts of {lost}: label more of them, or say another --seed"
            )
        strengths[head], start = _strength(table, rows, head, seed, device)
        model = fit_head(
            table.samples(rows, HEADS[head]), len(table.classes), strengths[head], device, start
        )
        said[head] = predict(model, table.samples(test, HEADS[head])).softmax(1)
    if "late" in methods:
        said["late"] = late(said)
    return {m: said[m] for m in methods}, strengths


def _sample(table: Table, most: int, splits: int, seed: int) -> Tensor:
    """Return which posts take part in choosing, (N,) bool: all, or whole groups at random until
    there are `most`.

    The drawing goes on until each class that has as many groups to be compared stands in `splits`
    of them.
    """
    if len(table) <= most:
        return torch.ones(len(table), dtype=torch.bool)
    _, group = np.unique(table.groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(group.max() + 1)
    turn = np.argsort(order)[group]  # (N,) when each post's group is drawn
    last = int(np.searchsorted(np.cumsum(np.bincount(group)[order]), most))
    _, rows = _field(table, torch.ones(len(table), dtype=torch.bool))
    for c in range(len(table.classes)):
        turns = np.unique(turn[rows[table.labels[rows] == c].numpy()])
        last = max(last, int(turns[:splits].max(initial=0)))
    return torch.from_numpy(turn <= last)


def _field(table: Table, kept: Tensor) -> tuple[tuple[str, ...], Tensor]:
    """Return which methods can be compared, and on which of the posts `kept`."""
    both = (kept & table.having(SINGLES)).nonzero().flatten()
    if len(both):
        return METHODS, both
    most = max(SINGLES, key=lambda m: int((table.position[m] >= 0).sum()))
    return (most,), (kept & table.having((most,))).nonzero().flatten()


def _check_enough(table: Table, rows: Tensor, splits: int) -> None:
    """Raise PostsUnusable unless each class stands in as many groups as there are folds."""
    y, groups = table.labels[rows].numpy(), table.groups[rows]
    found = {name: len(np.unique(groups[y == c])) for c, name in enumerate(table.classes)}
    if few := {name: n for name, n in found.items() if n < splits}:
        raise PostsUnusable(
            f"{len(rows)} posts are too few to choose and to judge on: of {few} (class: groups of"
            f" posts that are not reposts of each other) at least {splits} are needed, one for each"
            " fold. Label more, or say fewer --folds"
        )


def _strength(
    table: Table, learnt: Tensor, head: str, seed: int, device: str | None
) -> tuple[float, object]:
    """Return the strength with the lowest balanced loss on a held-out quarter of the groups, and
    the head it gave."""
    y, groups = table.labels[learnt].numpy(), table.groups[learnt.numpy()]
    try:
        rest, part = grouped_split(y, groups, fraction=0.25, seed=seed)
    except ValueError:  # so few posts that a class would be lost: the strongest is the safest
        return STRENGTHS[-1], None
    classes = len(table.classes)
    if len(np.unique(y[rest])) < classes:
        return STRENGTHS[-1], None
    inner, outer = (table.samples(learnt[torch.from_numpy(k)], HEADS[head]) for k in (rest, part))
    weight = (
        torch.bincount(outer.labels, minlength=classes)
        .clamp(min=1)
        .float()
        .reciprocal()[outer.labels]
    )
    best, lowest, model, kept = STRENGTHS[-1], np.inf, None, None
    for strength in sorted(
        STRENGTHS, reverse=True
    ):  # from strong to weak: each a good start for the next
        model = fit_head(inner, classes, strength, device, model)
        loss = -(
            predict(model, outer).log_softmax(1)[range(len(outer)), outer.labels] * weight
        ).sum()
        if float(loss) < lowest:
            best, lowest, kept = strength, float(loss), model
    return best, kept


def _calibrated(answers: Tensor, y: Tensor, tests: list[np.ndarray]) -> Tensor:
    """Return probabilities (N, C) of one repeat's opinions, each fold calibrated on the others."""
    probs = torch.empty(answers.shape, dtype=torch.float64)
    for test in tests:
        others = np.setdiff1d(np.arange(len(y)), test)
        probs[test] = calibrate(answers[others], y[others])(answers[test])
    return probs
