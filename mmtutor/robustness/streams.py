"""Sensor streams made worse: x is (N, T, D), N streams of T steps and D channels. `corrupt` checks
and dispatches.

Taught in chapter 8.
"""

import torch
from torch import Tensor

from mmtutor.checks import float_samples


def check(x: object) -> None:
    """Raise TypeError or ValueError, saying what was expected, unless x is (N, T, D) or (T, D),
    finite floats."""
    float_samples("stream samples", x, (2, 3), "(N, T, D) or (T, D)")


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
