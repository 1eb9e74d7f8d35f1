"""The trained tool: what it answers about posts with a text, a picture or both, and what each
contributed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmtutor.checks import one_of
from mmtutor.choosing.grouped import GroupedSamples
from mmtutor.choosing.heads import OpinionCalibration, fit_head, heads_of, late
from mmtutor.choosing.nested import DECISIONS, Choice
from mmtutor.fusion import EncoderFusion
from mmtutor.training import predict
from mmtutor.types import Features, Present, Samples


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
    calibrations: dict[str, OpinionCalibration]
    shares: tuple[float, ...]
    decision: str = "balanced"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the modalities that the model can read: those with a head of their own."""
        return tuple(name for name, head in self.heads.items() if list(head.encoders) == [name])

    def predict(self, features: Features, present: Present) -> Answer:
        """Return the answer for N posts: features[m] (N, D), present[m] (N,) bool; absent slots may
        hold anything.

        A post with one modality is answered by that modality's own head.
        """
        readable = {
            m: mask if m in self.modalities else torch.zeros_like(mask)
            for m, mask in present.items()
        }
        complete = torch.stack(list(readable.values())).all(0)
        alone = {m: self._opinions(m, features, readable[m]) for m in self.modalities}
        opinions = torch.full((len(complete), len(self.classes)), torch.nan)
        probabilities = opinions.double()
        whole = self._opinions(self.method, features, complete)
        for rows, answer in [*((readable[m], alone[m]) for m in alone), (complete, whole)]:
            opinions[rows], probabilities[rows] = answer[0][rows], answer[1][rows]
        answered = ~opinions.isnan().any(1)
        ranked = opinions if self.decision == "balanced" else probabilities
        label = torch.where(answered, ranked.nan_to_num(-1).argmax(1), -1)
        singles = {m: calibrated for m, (_, calibrated) in alone.items()}
        contributions = self._contributions(label.clamp(min=0), readable, singles, probabilities)
        return Answer(probabilities, label, contributions)

    def _opinions(self, method: str, features: Features, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return a method's balanced opinions and probabilities, (N, C) each; NaN but in `rows`,
        (N,) bool."""
        opinions = torch.full((len(rows), len(self.classes)), torch.nan)
        probabilities = opinions.double()
        if rows.any():
            part = {m: features[m][rows] for m in self.modalities}
            opinions[rows] = self._answer(method, part)
            probabilities[rows] = self.calibrations[method](opinions[rows])
        return opinions, probabilities

    def _answer(self, method: str, features: Features) -> Tensor:
        if method == "late":
            return late({m: self._answer(m, features) for m in self.modalities})
        head = self.heads[method]
        read = {m: features[m] for m in head.encoders}
        unlabelled = torch.zeros(len(next(iter(read.values()))), dtype=torch.long)
        return predict(head, Samples(read, unlabelled)).softmax(1)

    def _contributions(
        self, label: Tensor, present: Present, singles: dict[str, Tensor], whole: Tensor
    ) -> dict[str, Tensor]:
        """Return the Shapley values of `Answer`, from the probabilities (N, C) of the modalities
        alone and of all that a post has."""
        share = torch.tensor(self.shares, dtype=torch.float64)[label]
        p = whole.gather(1, label[:, None])[:, 0]
        complete = torch.stack(list(present.values())).all(0)
        # v(m): the label's probability by m alone; the share where m is absent, and in a complete
        # post where the method answers without m
        value = {}
        for m, calibrated in singles.items():
            unread = complete & (
                self.method in self.heads and m not in self.heads[self.method].encoders
            )
            value[m] = torch.where(
                present[m] & ~unread, calibrated.gather(1, label[:, None])[:, 0], share
            )
        gains = {m: torch.zeros_like(p) for m in present}
        for m in value:
            other = next((v for k, v in value.items() if k != m), share)
            gains[m] = torch.where(present[m], (value[m] - share) / 2 + (p - other) / 2, 0.0)
        return gains


def train_final(
    table: GroupedSamples, choice: Choice, decision: str = "balanced", device: str | None = None
) -> SentimentModel:
    """Train each head that the model needs on every post that it can read, with the strength that
    was chosen; put the model together."""
    one_of("decision", decision, DECISIONS)
    heads = {}
    for name, modalities in heads_of(choice.singles).items():
        if name in choice.singles or name == choice.winner:
            rows = table.having(modalities).nonzero().flatten()
            samples = Samples(table.only(modalities).features, table.labels)
            heads[name] = fit_head(
                samples, len(table.classes), choice.strengths[name], device, rows=rows
            )
    shares = torch.bincount(table.labels, minlength=len(table.classes)) / len(table)
    return SentimentModel(
        table.classes,
        choice.winner,
        heads,
        {m: choice.calibrations[m] for m in {**heads, choice.winner: None}},
        tuple(float(s) for s in shares),
        decision,
    )
