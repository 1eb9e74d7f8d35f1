"""Recordings made worse: waveforms (N, T) in and out, each row its own. Noise is
`mmtutor.speech.add_noise`; `corrupt` checks and dispatches.

Taught in chapter 8.
"""

import torch
from torch import Tensor

from mmtutor.checks import float_samples, require

# equal stretches into which a recording is cut before some of them are lost
STRETCHES = 20


def check(x: object) -> None:
    """Raise TypeError or ValueError, naming the recording, unless x is (N, T) or a list of (T_i,),
    finite floats."""
    if isinstance(x, list):
        require(x, "audio samples are an empty list, expected at least one waveform (T,)")
        for index, waveform in enumerate(x):
            float_samples(f"audio sample {index}", waveform, (1,), "(T,)")
    else:
        float_samples("audio samples", x, (2,), "(N, T), or a list of (T_i,)")


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
    # (T,): which one a step lies in
    stretch = torch.arange(x.shape[1], device=x.device) * STRETCHES // x.shape[1]
    return x.masked_fill(lost[:, stretch], 0.0)
