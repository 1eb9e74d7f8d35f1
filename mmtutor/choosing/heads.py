"""The small models behind the encoders: one linear head per way of reading a sample, and opinions
made comparable.

Taught in chapter 10.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor, nn

from mmtutor.choosing.optimum import fit_optimum, pieces
from mmtutor.fusion import EncoderFusion, SumFusion, decision
from mmtutor.types import Samples

STRENGTHS = (0.5, 1.5, 5.0, 15.0)
"""Regularisation to choose from, as the inverse of scikit-learn's C: l2 = strength / N."""


def heads_of(modalities: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return head → the modalities that it reads: one each, and "early", which reads all of two or
    more.

    Late fusion needs no head of its own: it averages the singles' opinions.
    """
    names = tuple(modalities)
    heads: dict[str, tuple[str, ...]] = {m: (m,) for m in names}
    return heads | {"early": names} if len(names) > 1 else heads


def late(opinions: dict[str, Tensor]) -> Tensor:
    """Return the late fusion of the singles' balanced opinions, each (N, C): their average."""
    return decision.average(opinions)


class Centred(nn.Module):
    """x → (x - mean) / scale, with one scale for all features of a modality, so that the mean of
    ‖x‖² is 1.

    One scale keeps the features' own proportions, in which frozen encoders put what they find
    important first; to give each feature the same variance was measured to be worse. x: (B, D) →
    (B, D); D = 1 or more.
    """

    def __init__(self, dim: int) -> None:
        """Start as the identity; `measure` sets mean and scale."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(()))

    def measure(self, x: Tensor, rows: Tensor | None = None) -> None:
        """Set mean and scale from training features x (N, D), or from some of their rows.

        They are read in pieces: x may be a memory map.
        """
        rows = torch.arange(len(x)) if rows is None else rows
        total, squares = torch.zeros(x.shape[1], dtype=torch.float64), 0.0
        for piece in pieces(rows):
            part = x[piece].double()
            total += part.sum(0)
            squares += float(part.square().sum())
        mean = total / len(rows)
        variance = max(squares / len(rows) - float(mean.square().sum()), 1e-12)
        self.mean = mean.float()
        self.scale = torch.tensor(variance).sqrt().float()

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled features."""
        return (x - self.mean) / self.scale


def new_head(dims: dict[str, int], classes: int) -> EncoderFusion:
    """Return an untrained head, all zeros: logits = b + Σ_m W_m (x_m - mean_m) / scale_m.

    For several modalities that is early fusion: a linear layer behind the concatenation.
    """
    fusion = SumFusion(dims, classes)
    for parameter in fusion.parameters():
        nn.init.zeros_(parameter)
    return EncoderFusion({m: Centred(d) for m, d in dims.items()}, fusion)


def fit_head(
    train: Samples,
    classes: int,
    strength: float,
    device: str | None = None,
    start: EncoderFusion | None = None,
    class_weights: str | None = "balanced",
    rows: Tensor | None = None,
) -> EncoderFusion:
    """Train one head to the optimum of its loss: l2 = strength / N, class weights as
    `training.fit`.

    rows: positions of the N samples to learn from, None for all; features may be memory maps, which
    are never copied whole. start: a head to begin near, which saves time and changes nothing else.
    """
    head = new_head({m: x.shape[1] for m, x in train.features.items()}, classes)
    if start is not None:
        head.fusion.load_state_dict(start.fusion.state_dict())
    for m, x in train.features.items():
        cast(Centred, head.encoders[m]).measure(x, rows)
    fit_optimum(
        head,
        train,
        l2=strength / (len(train) if rows is None else len(rows)),
        rows=rows,
        class_weights=class_weights,
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
        logits = opinions.double().clamp(min=1e-12).log() / self.temperature
        return (logits + torch.tensor(self.offsets, dtype=torch.float64)).softmax(1)


def calibrate(opinions: Tensor, y: Tensor) -> OpinionCalibration:
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
