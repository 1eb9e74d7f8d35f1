"""The trained tool: what it answers about posts with a text, a picture or both, and what each
contributed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmtutor.apps.table import Table
from mmtutor.choosing.heads import HEADS, Calibration, fit_head
from mmtutor.choosing.nested import Choice, late
from mmtutor.fusion import EncoderFusion
from mmtutor.training import predict
from mmtutor.types import Features, Present, Samples

DECISIONS = ("balanced", "likeliest")


@dataclass(frozen=True)
class Answer:
    """What the model says about N posts.

    probabilities: (N, C) float64, calibrated, NaN where nothing can be said; label: (N,) int64, -1
    there.
    contributions[m]: (N,) what modality m added to the probability of the label, in probability:
    its Shapley value ½ [v(m) - v(none)] + ½ [v(both) - v(other)] with v(S) that probability when
    the post has only S, v(none) the share of the class in training. Over the modalities they sum to
    probability minus share. 0 where m is absent or unread.
    """

    probabilities: Tensor
    label: Tensor
    contributions: dict[str, Tensor]


@dataclass(frozen=True)
class SentimentModel:
    """Heads, calibrations, and which method answers for posts that have both modalities.

    shares: (C,) share of each class in training. decision: "balanced" takes as label the class that
    a post speaks for most beyond its frequency, as suits macro-F1; "likeliest" the one of the
    highest probability, as suits accuracy.
    """

    classes: tuple[str, ...]
    method: str
    heads: dict[str, EncoderFusion]
    calibrations: dict[str, Calibration]
    shares: tuple[float, ...]
    decision: str = "balanced"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the modalities that the model can read."""
        return tuple(m for m in HEADS if m in self.heads and len(HEADS[m]) == 1)

    def predict(self, features: Features, present: Present) -> Answer:
        """Return the answer for N posts: features[m] (N, D), present[m] (N,) bool; absent slots may
        hold anything.

        A post with one modality is answered by that modality's own head.
        """
        n = len(next(iter(present.values())))
        there = {
            m: present[m] if m in self.modalities else torch.zeros(n, dtype=torch.bool)
            for m in present
        }
        only = {m: self._opinions((m,), features, there) for m in self.modalities}
        both = (
            self._opinions(tuple(present), features, there)
            if len(self.modalities) == 2
            else (None, None)
        )
        opinions = torch.full((n, len(self.classes)), torch.nan)
        probabilities = opinions.double()
        for rows, (said, calibrated) in [*((there[m], only[m]) for m in only), (_all(there), both)]:
            if said is not None:
                opinions[rows], probabilities[rows] = said[rows], calibrated[rows]
        known = ~opinions.isnan().any(1)
        ranked = opinions if self.decision == "balanced" else probabilities
        label = torch.where(known, ranked.nan_to_num(-1).argmax(1), -1)
        return Answer(
            probabilities,
            label,
            self._contributions(label.clamp(min=0), there, only, probabilities),
        )

    def _opinions(
        self, modalities: tuple[str, ...], features: Features, there: Present
    ) -> tuple[Tensor, Tensor]:
        """Return balanced opinions and probabilities of posts as if they had just `modalities`; NaN
        without them."""
        rows = torch.stack([there[m] for m in modalities]).all(0)
        name = modalities[0] if len(modalities) == 1 else self.method
        said = torch.full((len(rows), len(self.classes)), torch.nan)
        calibrated = said.double()
        if rows.any():
            part = Samples({m: features[m][rows] for m in modalities}, rows[rows].long())
            said[rows] = self._answer(name, part)
            calibrated[rows] = self.calibrations[name](said[rows])
        return said, calibrated

    def _answer(self, name: str, samples: Samples) -> Tensor:
        if name == "late":
            return late({m: self._answer(m, samples) for m in self.modalities})
        return predict(self.heads[name], samples.only(list(HEADS[name]))).softmax(1)

    def _contributions(
        self, label: Tensor, there: Present, only: dict, whole: Tensor
    ) -> dict[str, Tensor]:
        share = torch.tensor(self.shares, dtype=torch.float64)[label]
        p = whole.gather(1, label[:, None])[:, 0]
        alone = {}  # the probability of the label with one modality, the share where the method would not read it
        for m, (_, calibrated) in only.items():
            unread = _all(there) & (self.method in HEADS and m not in HEADS[self.method])
            alone[m] = torch.where(
                there[m] & ~unread, calibrated.gather(1, label[:, None])[:, 0], share
            )
        return {
            m: (
                torch.where(
                    there[m], (alone[m] - share) / 2 + (p - _other(alone, m, share)) / 2, 0.0
                )
                if m in alone
                else torch.zeros_like(p)
            )
            for m in there
        }


def _all(there: Present) -> Tensor:
    return torch.stack(list(there.values())).all(0)


def _other(alone: dict[str, Tensor], m: str, share: Tensor) -> Tensor:
    return next((v for k, v in alone.items() if k != m), share)


def train_final(
    table: Table, choice: Choice, decision: str = "balanced", device: str | None = None
) -> SentimentModel:
    """Train each head on every post that it can read, with the strength that was chosen; put the
    model together."""
    if decision not in DECISIONS:
        raise ValueError(f"decision is {decision!r}, expected one of {DECISIONS}")
    heads = {}
    for name, strength in choice.strengths.items():
        rows = table.having(HEADS[name]).nonzero().flatten()
        heads[name] = fit_head(
            table.samples(rows, HEADS[name]), len(table.classes), strength, device
        )
    used = {m for m in HEADS if m in heads and (len(HEADS[m]) == 1 or m == choice.winner)}
    shares = torch.bincount(table.labels, minlength=len(table.classes)) / len(table)
    return SentimentModel(
        table.classes,
        choice.winner,
        {m: heads[m] for m in used},
        {m: choice.calibrations[m] for m in {*used, choice.winner}},
        tuple(float(s) for s in shares),
        decision,
    )
