"""Recordings made worse: waveforms (N, T) in and out, each row its own. `corrupt` checks and
dispatches."""

from __future__ import annotations

import torch
from torch import Tensor

from mmtutor.speech import add_noise

STRETCHES = 20
"""Equal stretches into which a recording is cut before some of them are lost."""


def check(x: object) -> None:
    """Raise TypeError or ValueError, naming the recording, unless x is (N, T) or a list of (T_i,),
    finite floats."""
    if isinstance(x, list):
        if not x:
            raise ValueError("audio samples are an empty list, expected at least one waveform (T,)")
        for index, waveform in enumerate(x):
            _check_waveforms(waveform, 1, f"audio sample {index}", "(T,)")
    else:
        _check_waveforms(x, 2, "audio samples", "(N, T), or a list of (T_i,)")


def noise(x: Tensor, snr_db: float, generator: torch.Generator) -> Tensor:
    """x + white Gaussian noise, snr_db below the power of each recording:
    `mmtutor.speech.add_noise`."""
    return add_noise(x, snr_db, generator)


def clipping(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Cut off x where it exceeds that share of the recording's own peak. Nothing is drawn at
    random."""
    top = share * x.abs().amax(-1, keepdim=True)
    return x.clamp(-top, top)


def dropouts(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Replace round(20 · share) of the 20 equal stretches of each recording, chosen at random, by
    silence."""
    order = torch.rand(len(x), STRETCHES, generator=generator, device=x.device).argsort(1)
    lost = torch.zeros_like(order, dtype=torch.bool).scatter(
        1, order[:, : round(STRETCHES * share)], True
    )
    stretch = (
        torch.arange(x.shape[1], device=x.device) * STRETCHES // x.shape[1]
    )  # (T,): which one a step lies in
    return x.masked_fill(lost[:, stretch], 0.0)


def _check_waveforms(x: object, dim: int, name: str, shape: str) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name}: {given}, expected float tensors {shape}")
    if x.dim() != dim or x.numel() == 0:
        raise ValueError(f"{name}: shape {tuple(x.shape)}, expected {shape}, not empty")
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"{name}: NaN or inf, expected finite values")
