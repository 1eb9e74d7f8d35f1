"""The trained tool: what it answers about rows with any of the modalities that it was trained with,
and what each of these contributed."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import cast

import torch
from torch import Tensor

from mmtutor.choosing.choice import Choice, Method
from mmtutor.choosing.grouped import GroupedSamples
from mmtutor.choosing.heads import Calibration, fit_head, fused
from mmtutor.fusion import EncoderFusion, SumFusion
from mmtutor.types import Features, Present, Samples


@dataclass(frozen=True)
class Answer:
    """What the model says about N rows.

    values: (N, C) float64 calibrated probabilities, or (N, 1) numbers; NaN where nothing can be
    said; label: (N,) int64, -1 there, and for numbers 0.
    contributions[m]: (N,) what modality m added to the probability of the label, or to the number:
    its Shapley value Σ_T |T|! (M - |T| - 1)! / M! · [v(T with m) - v(T)] over the sets T of the
    others that are read, v(T) what the model answers if the row has only T, v(nothing) the share of
    the class, or the mean. They sum to the answer minus that. 0 where m is absent or unread.
    Shapley 1953.
    read: (N,) the modalities that the answer is made of.
    """

    values: Tensor
    label: Tensor
    contributions: dict[str, Tensor]
    read: list[tuple[str, ...]]


@dataclass(frozen=True)
class Model:
    """Heads, calibrations, and the method that answers.

    shares: (C,) share of each class in training. decision: "balanced" takes as label the class that
    a row speaks for most beyond its frequency, as suits macro-F1; "likeliest" the one of the
    highest probability, as suits accuracy. target: mean and standard deviation of the number that
    is predicted where there are no classes.
    """

    classes: tuple[str, ...]
    name: str
    method: Method
    heads: dict[str, EncoderFusion]
    calibrations: dict[str, Calibration]
    shares: tuple[float, ...]
    decision: str = "balanced"
    target: tuple[float, float] = (0.0, 1.0)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the modalities that the model can read: those with a head of their own."""
        return tuple(name for name, head in self.heads.items() if list(head.encoders) == [name])

    @torch.no_grad()
    def answer(self, features: Features, present: Present) -> Answer:
        """Return the answer for N rows: features[m] (N, D), present[m] (N,) bool; absent slots may
        hold anything.

        A row is answered by the method from those of its modalities that it reads, from a single
        one by that one's own head; where it has none of them, by the late fusion of the others.
        """
        absent = torch.zeros_like(next(iter(present.values())))
        has = torch.stack([present.get(m, absent) for m in self.modalities], 1)
        values = torch.full((len(has), len(self.classes) or 1), torch.nan).double()
        label = torch.full((len(has),), -1)
        gains = {m: torch.zeros(len(has)).double() for m in present}
        read: list[tuple[str, ...]] = [()] * len(has)
        for pattern in has.unique(dim=0):
            rows = (has == pattern).all(1).nonzero().flatten()
            there = [m for m, is_there in zip(self.modalities, pattern, strict=True) if is_there]
            players = tuple(m for m in there if m in self.method.reads) or tuple(there)
            if not players:
                continue
            games = self._games(players, {m: features[m][rows] for m in players})
            opinion, values[rows] = games[players]
            label[rows] = (opinion if self.decision == "balanced" else values[rows]).argmax(1)
            value = {t: v.gather(1, label[rows, None])[:, 0] for t, (_, v) in games.items()}
            value[()] = torch.tensor(self.shares or (0.0,)).double()[label[rows]]
            for m in players:
                gains[m][rows] = shapley(m, players, value)
            for k in rows.tolist():
                read[k] = players
        if not self.classes:
            mean, deviation = self.target
            values, gains = mean + deviation * values, {m: deviation * g for m, g in gains.items()}
        return Answer(values, label, gains, read)

    def spread(self, read: tuple[str, ...]) -> float:
        """Return within what of the number LIKELY of all truths lie, for rows answered from
        `read`."""
        return getattr(self.calibrations[self._key(read)], "spread", 0.0) * self.target[1]

    def _key(self, read: tuple[str, ...]) -> str:
        """Return the method that answers from these modalities."""
        chosen = self.name if {*read} <= {*self.method.reads} else "late"
        return read[0] if len(read) == 1 else chosen

    def _games(
        self, players: tuple[str, ...], features: Features
    ) -> dict[tuple[str, ...], tuple[Tensor, Tensor]]:
        """Return set of modalities → opinion and calibrated answer of rows that have only these,
        for each subset of the players."""
        games: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}
        for subset in subsets(players):
            key = self._key(subset)
            if key in self.heads:
                opinion = self._heard(self.heads[key], subset, features)
            else:
                single = {m: self.calibrations[m].balanced(games[(m,)][0]) for m in subset}
                opinion = fused("product" if key.startswith("product") else "late", single)
            games[subset] = opinion, self.calibrations[key](opinion)
        return games

    def _heard(self, head: EncoderFusion, subset: tuple[str, ...], features: Features) -> Tensor:
        """Return the opinion of a head that is shown these of its modalities only."""
        fusion = cast(SumFusion, head.fusion)
        parts = [fusion.project[m](head.encoders[m](features[m])) for m in subset]
        logits = fusion.bias + torch.stack(parts).sum(0)
        return logits.softmax(1) if self.classes else logits


def subsets(players: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the non-empty subsets, small ones first."""
    for size in range(1, len(players) + 1):
        yield from combinations(players, size)


def shapley(m: str, players: tuple[str, ...], value: dict[tuple[str, ...], Tensor]) -> Tensor:
    """Return player m's Shapley value, given the value of each set of players, in their order."""
    others = tuple(p for p in players if p != m)
    total = torch.zeros_like(value[players])
    for without in [(), *subsets(others)]:
        joined = tuple(p for p in players if p in without or p == m)
        total += (value[joined] - value[without]) / (len(players) * comb(len(others), len(without)))
    return total


def train_final(
    table: GroupedSamples,
    choice: Choice,
    decision: str = "balanced",
    device: str | None = None,
    target: tuple[float, float] = (0.0, 1.0),
) -> Model:
    """Train each head that the model needs on every row that it can read, with the strength that
    was chosen; put the model together."""
    winner, heads = choice.winner, {}
    for name, method in choice.methods.items():
        if method.head and (name in choice.singles or name == winner):
            part = table.only(method.reads)
            heads[name] = fit_head(
                Samples(part.features, part.labels, part.present),
                table.outputs,
                choice.strengths[name],
                device,
                rows=table.having_any(method.reads).nonzero().flatten(),
                knots=table.knots,
            )
    shares = torch.bincount(table.labels.long()) / len(table) if table.classes else torch.zeros(0)
    needed = {*choice.singles, winner, "late"} & {*choice.calibrations}
    return Model(
        table.classes,
        winner,
        choice.methods[winner],
        heads,
        {m: c for m, c in choice.calibrations.items() if m in needed},
        tuple(shares.tolist()),
        decision,
        target,
    )
