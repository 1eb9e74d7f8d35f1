"""Sensor streams made worse: x is (N, T, D), N streams of T steps and D channels. `corrupt` checks
and dispatches."""

from __future__ import annotations

import torch
from torch import Tensor


def check(x: object) -> None:
    """Raise TypeError or ValueError, saying what was expected, unless x is (N, T, D) or (T, D),
    finite floats."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"stream samples are {given}, expected a float tensor (N, T, D) or (T, D)")
    if x.dim() not in (2, 3) or x.numel() == 0:
        raise ValueError(
            f"stream samples have shape {tuple(x.shape)}, expected (N, T, D) or (T, D), none of"
            " them 0"
        )
    if not bool(torch.isfinite(x).all()):
        raise ValueError("stream samples hold NaN or inf, expected finite values")


def lag(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """y_t = x_{t-k}, k = round(share · T): everything arrives k steps late, and before that the
    first value stands.

    The last k steps are lost, the length stays. Nothing is drawn at random.
    """
    steps = x.shape[1]
    late = torch.arange(steps, device=x.device) - round(share * steps)
    return x[:, late.clamp(min=0)]


def jitter(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """y_t = x_{t+e}, e ~ N(0, (share · T)²) rounded to whole steps, one e for all channels: clocks
    that tremble.

    Indices before the first or after the last step are moved to it.
    """
    n, steps, channels = x.shape
    wrong = torch.randn(n, steps, generator=generator, device=x.device) * share * steps
    index = (torch.arange(steps, device=x.device) + wrong.round().long()).clamp(0, steps - 1)
    return x.gather(1, index[:, :, None].expand(-1, -1, channels))


def noise(x: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    """x + N(0, (ratio · s)²), s the standard deviation over time of this channel of this stream.

    A channel that never changes has no scale to measure noise by and stays as it is.
    """
    spread = x.std(1, correction=0, keepdim=True)  # (N, 1, D)
    return x + ratio * spread * torch.randn(
        x.shape, generator=generator, dtype=x.dtype, device=x.device
    )
