"""The small models behind the encoders: one linear head per way of reading a post, and opinions
made comparable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from mmtutor.choosing.optimum import ROWS, fit_optimum
from mmtutor.fusion import EncoderFusion, SumFusion
from mmtutor.types import Samples

HEADS = {"text": ("text",), "image": ("image",), "early": ("text", "image")}
"""Head → the modalities that it reads. Late fusion needs none of its own: it averages the first
two."""
STRENGTHS = (0.5, 1.5, 5.0, 15.0)
"""Regularisation to choose from, as the inverse of scikit-learn's C: l2 = strength / N."""


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

    def measure(self, x: Tensor) -> None:
        """Set mean and scale from training features (N, D), in pieces: x may be a memory map."""
        total, squares = torch.zeros(x.shape[1], dtype=torch.float64), 0.0
        for start in range(0, len(x), ROWS):
            part = x[start : start + ROWS].double()
            total += part.sum(0)
            squares += float(part.square().sum())
        mean = total / len(x)
        self.mean = mean.float()
        self.scale = (
            torch.tensor(max(squares / len(x) - float(mean.square().sum()), 1e-12)).sqrt().float()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled features."""
        return (x - self.mean) / self.scale


def new_head(dims: dict[str, int], classes: int) -> EncoderFusion:
    """Return an untrained head, all zeros: logits = b + Σ_m W_m (x_m - mean_m) / scale_m.

    For two modalities that is early fusion: a linear layer behind the concatenation.
    """
    fusion = SumFusion(dims, classes)
    nn.init.zeros_(fusion.bias)
    for layer in fusion.project.values():
        nn.init.zeros_(layer.weight)
    return EncoderFusion({m: Centred(d) for m, d in dims.items()}, fusion)


def fit_head(
    train: Samples,
    classes: int,
    strength: float,
    device: str | None = None,
    start: EncoderFusion | None = None,
    class_weights: str | None = "balanced",
) -> EncoderFusion:
    """Train one head to the optimum of its loss: l2 = strength / N, class weights as
    `training.fit`.

    start: a head to begin near, which saves time and changes nothing else.
    """
    dims = {m: x.shape[1] for m, x in train.features.items()}
    head = new_head(dims, classes)
    if start is not None:
        head.fusion.load_state_dict(start.fusion.state_dict())
    for m, x in train.features.items():
        head.encoders[m].measure(x)
    fit_optimum(
        head,
        train,
        l2=strength / len(train),
        class_weights=class_weights,
        device=device,
        tolerance=1e-4,
    )
    return head


@dataclass(frozen=True)
class Calibration:
    """Balanced opinions q → probabilities softmax(ln q / temperature + offsets), as frequent as the
    classes are.

    Heads are trained as if all classes were equally frequent, so their opinions say which class a
    post speaks for beyond its frequency; offsets (C,) bring the frequencies back, the temperature
    the right degree of confidence.
    """

    temperature: float
    offsets: tuple[float, ...]

    def __call__(self, opinions: Tensor) -> Tensor:
        """Return probabilities (N, C), float64, for opinions (N, C)."""
        logits = opinions.double().clamp(min=1e-12).log() / self.temperature
        return (logits + torch.tensor(self.offsets, dtype=torch.float64)).softmax(1)


def calibrate(opinions: Tensor, y: Tensor) -> Calibration:
    """Fit temperature and offsets on opinions (N, C) of posts that the heads were not trained on.

    Bias-corrected temperature scaling (Alexandari, Kundaje & Shrikumar, ICML 2020, arXiv
    1901.06852): minimises Σ -ln p(y) + ½ (ln T)² + ½ ‖offsets - ln frequency‖². The last two terms
    count as little as one post and keep few posts from saying anything extreme.
    """
    z = opinions.double().clamp(min=1e-12).log().numpy()
    truth, classes = y.numpy(), z.shape[1]
    frequency = (np.bincount(truth, minlength=classes) + 1) / (len(truth) + classes)
    target = np.eye(classes)[truth]

    def loss(v: np.ndarray) -> tuple[float, np.ndarray]:
        log_t, offsets = v[0], v[1:]
        logits = z * np.exp(-log_t) + offsets
        top = logits.max(1, keepdims=True)
        log_p = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
        error, shift = np.exp(log_p) - target, offsets - np.log(frequency)
        value = -(log_p * target).sum() + 0.5 * log_t**2 + 0.5 * (shift**2).sum()
        return value, np.r_[-(error * z).sum() * np.exp(-log_t) + log_t, error.sum(0) + shift]

    found = minimize(
        loss,
        np.r_[0.0, np.log(frequency)],
        jac=True,
        method="L-BFGS-B",
        bounds=[(-4, 4), *[(None, None)] * classes],
    )
    return Calibration(float(np.exp(found.x[0])), tuple(float(o) for o in found.x[1:]))
