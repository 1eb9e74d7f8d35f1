"""The small models behind the encoders: one linear head per way of reading a sample, and opinions
made comparable.

Taught in chapter 10.
"""

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor, nn

from mmtutor.choosing.optimum import ROWS, fit_optimum, stretch
from mmtutor.choosing.scaling import Centred, Hats
from mmtutor.fusion import EncoderFusion, SumFusion, decision
from mmtutor.types import Present, Samples

STRENGTHS = (0.5, 1.5, 5.0, 15.0)
"""Regularisation to choose from, as the inverse of scikit-learn's C: l2 = strength / N."""
LIKELY = 0.8
"""Share of truths that lie within the spread of a predicted number."""


def new_head(
    dims: dict[str, int], outputs: int, knots: dict[str, int] | None = None
) -> EncoderFusion:
    """Return an untrained head, all zeros: logits = b + Σ_m W_m s_m(x_m), s_m `Hats` with knots[m]
    where modality m has knots, else `Centred`.

    For several modalities that is early fusion: a linear layer behind the concatenation.
    """
    knots = knots or {}
    inputs: dict[str, nn.Module] = {
        m: Hats(d // 2, knots[m]) if m in knots else Centred(d) for m, d in dims.items()
    }
    widths = {m: d // 2 * knots[m] if m in knots else d for m, d in dims.items()}
    fusion = SumFusion(widths, outputs)
    for parameter in fusion.parameters():
        nn.init.zeros_(parameter)
    return EncoderFusion(inputs, fusion)


def fit_head(
    train: Samples,
    outputs: int,
    strength: float,
    device: str | None = None,
    start: EncoderFusion | None = None,
    class_weights: str | None = "balanced",
    rows: Tensor | None = None,
    knots: dict[str, int] | None = None,
) -> EncoderFusion:
    """Train one head to the optimum of its loss: l2 = strength / N, class weights as
    `training.fit`; on float labels, with one output, to the least squared error.

    rows: positions of the N samples to learn from, None for all; features may be memory maps, which
    are never copied whole. A modality adds nothing to a sample that lacks it. start: a head to
    begin near, of these modalities or more, which saves time and changes nothing else. knots: see
    `new_head`.
    """
    head = new_head({m: x.shape[1] for m, x in train.features.items()}, outputs, knots)
    if start is not None:
        head.fusion.load_state_dict(start.fusion.state_dict(), strict=False)
    rows = torch.arange(len(train)) if rows is None else rows
    for m, x in train.features.items():
        has = (train.present or {}).get(m)
        if len(having := rows if has is None else rows[has[rows]]):
            cast(Centred | Hats, head.encoders[m]).measure(x, having)
    small = len(rows) <= ROWS  # is scaled once, and not anew at every step
    part = train[stretch(rows)] if small else train
    if small:
        part = Samples(
            {m: head.encoders[m](x) for m, x in part.features.items()}, part.labels, part.present
        )
    fit_optimum(
        head.fusion if small else head,
        part,
        l2=strength / len(rows),
        rows=None if small else rows,
        class_weights=None if train.labels.is_floating_point() else class_weights,
        device=device,
        tolerance=1e-4,
    )
    return head


@dataclass(frozen=True)
class OpinionCalibration:
    """Balanced opinions q → probabilities softmax(ln q / temperature + offsets), as frequent as the
    classes are.

    Heads are trained as if all classes were equally frequent, so their opinions say which class a
    sample speaks for beyond its frequency; offsets (C,) bring the frequencies back, the temperature
    the right degree of confidence.
    """

    temperature: float
    offsets: tuple[float, ...]

    def __call__(self, opinions: Tensor) -> Tensor:
        """Return probabilities (N, C), float64, for opinions (N, C)."""
        return (
            self.balanced(opinions).log() + torch.tensor(self.offsets, dtype=torch.float64)
        ).softmax(1)

    def balanced(self, opinions: Tensor) -> Tensor:
        """Return opinions (N, C) of the right confidence, as if all classes were equally
        frequent."""
        return (opinions.double().clamp(min=1e-12).log() / self.temperature).softmax(1)


@dataclass(frozen=True)
class NumberCalibration:
    """Predictions v → offset + slope · v, which is within `spread` of the truth in LIKELY of all
    cases."""

    slope: float
    offset: float
    spread: float

    def __call__(self, predictions: Tensor) -> Tensor:
        """Return calibrated predictions, float64, of the same shape."""
        return self.offset + self.slope * predictions.double()

    balanced = __call__


Calibration = OpinionCalibration | NumberCalibration


def fused(level: str, opinions: dict[str, Tensor], present: Present | None = None) -> Tensor:
    """Return the singles' opinions fused by their "product" or, "late", their average over those
    present; numbers (N, 1) are averaged."""
    if next(iter(opinions.values())).shape[1] == 1:
        ones = {m: torch.ones(len(v), dtype=torch.bool) for m, v in opinions.items()}
        mask = torch.stack([(ones | (present or {}))[m] for m in opinions])[..., None]
        return torch.where(mask, torch.stack(list(opinions.values())), 0.0).sum(0) / mask.sum(0)
    rule = decision.product_rule if level == "product" else decision.average
    return rule(opinions, present=present)


def calibrate_numbers(predictions: Tensor, y: Tensor) -> NumberCalibration:
    """Fit slope and offset by least squares on predictions (N, 1) about samples that the heads were
    not trained on, one of slope 1 counting as a sample; the spread is a quantile of the errors."""
    v, truth = predictions[:, 0].double(), y.double()
    centred = v - v.mean()
    power = centred.square().mean() + 1e-12
    slope = float((centred @ truth + power) / (len(v) * power + power))
    fitted = NumberCalibration(slope, float(truth.mean() - slope * v.mean()), 0.0)
    return replace(fitted, spread=float((fitted(v) - truth).abs().quantile(LIKELY)))


def calibrate_opinions(opinions: Tensor, y: Tensor) -> OpinionCalibration:
    """Fit temperature and offsets on opinions (N, C) of samples that the heads were not trained on.

    Bias-corrected temperature scaling (Alexandari, Kundaje & Shrikumar, ICML 2020, arXiv
    1901.06852): minimises Σ -ln p(y) + ½ (ln T)² + ½ ‖offsets - ln frequency‖². The last two terms
    count as little as one sample and keep few samples from saying anything extreme.
    """
    z = opinions.double().clamp(min=1e-12).log().numpy()
    truth, classes = y.numpy(), z.shape[1]
    frequency = (np.bincount(truth, minlength=classes) + 1) / (len(truth) + classes)
    target = np.eye(classes)[truth]

    def loss(v: np.ndarray) -> tuple[float, np.ndarray]:
        log_t, offsets = v[0], v[1:]
        log_p = log_softmax(z * np.exp(-log_t) + offsets, axis=1)
        error, shift = np.exp(log_p) - target, offsets - np.log(frequency)
        value = -(log_p * target).sum() + 0.5 * log_t**2 + 0.5 * (shift**2).sum()
        return value, np.r_[-(error * z).sum() * np.exp(-log_t) + log_t, error.sum(0) + shift]

    fitted = minimize(
        loss,
        np.r_[0.0, np.log(frequency)],
        jac=True,
        method="L-BFGS-B",
        bounds=[(-4, 4), *[(None, None)] * classes],
    )
    log_t, *offsets = fitted.x.tolist()
    return OpinionCalibration(float(np.exp(log_t)), tuple(offsets))


def calibrate(opinions: Tensor, y: Tensor) -> Calibration:
    """Fit what suits the target: `calibrate_numbers` for y that are numbers, else
    `calibrate_opinions`."""
    return (calibrate_numbers if y.is_floating_point() else calibrate_opinions)(opinions, y)
