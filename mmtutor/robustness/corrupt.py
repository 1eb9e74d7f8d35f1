"""corrupt: one door to everything that can go wrong with a raw sample, by a severity from 0 to
1.

Taught in chapter 8.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from mmtutor.checks import is_number, known_names, one_of, require
from mmtutor.robustness import audio, images, streams, texts
from mmtutor.speech import add_noise

Raw = Tensor | list[str] | list[Tensor]
"""Raw samples of one modality: pictures, texts, waveforms or streams."""


class Kind(NamedTuple):
    """A corruption. unit: of the physical value; value(severity) gives it; apply(x, value,
    generator) does it."""

    unit: str
    value: Callable[[float], float]
    apply: Callable[..., Any]


KINDS: dict[str, dict[str, Kind]] = {
    "image": {
        "noise": Kind("sd of the noise, black = 0, white = 1", float, images.noise),
        "blur": Kind(
            "sd of the Gaussian, in shorter sides", lambda severity: 0.2 * severity, images.blur
        ),
        "occlusion": Kind("share of the area", float, images.occlusion),
        "brightness": Kind("shift, black = 0, white = 1", float, images.brightness),
        "jpeg": Kind("JPEG quality, 100 to 5", lambda severity: 100 - 95 * severity, images.jpeg),
    },
    "text": {
        "typos": Kind("share of the characters", float, texts.typos),
        "dropped words": Kind("share of the words", float, texts.dropped_words),
    },
    "audio": {
        "noise": Kind(
            "signal-to-noise ratio in dB, below 30 down to -20",
            lambda severity: 30 - 50 * severity if severity else math.inf,
            add_noise,
        ),
        "clipping": Kind(
            "share of the peak that is left", lambda severity: 1 - severity, audio.clipping
        ),
        "dropouts": Kind("share of the recording", float, audio.dropouts),
    },
    "stream": {
        "lag": Kind("share of the stream's length", lambda severity: 0.5 * severity, streams.lag),
        "jitter": Kind(
            "sd of the time error, in stream lengths",
            lambda severity: 0.1 * severity,
            streams.jitter,
        ),
        "noise": Kind(
            "sd of the noise, in sds of the channel", lambda severity: 2 * severity, streams.noise
        ),
    },
}
"""modality → kind → (unit, value at a severity, function). Shares are the severity itself: at 1
nothing is left."""

_CHECKS = {
    "image": images.check,
    "text": texts.check,
    "audio": audio.check,
    "stream": streams.check,
}


def corrupt(x: Raw, modality: str, kind: str, severity: float, generator: torch.Generator) -> Raw:
    """Return the samples x of one modality, made worse by `kind`: the same type, shape, dtype and
    number of samples.

    x: "image" (N, C, H, W) float in 0..1; "text" a list of strings; "audio" (N, T) or a list of
    (T_i,) float; "stream" (N, T, D) or (T, D) float. kind: a key of `KINDS[modality]`. severity: 0
    (an exact copy, nothing drawn) to 1 (the worst); `KINDS[modality][kind].value(severity)` is what
    it means in the kind's unit. x is never changed.
    generator: on the device of x; the same state gives the same result. Apart from the draws, no
    sample depends on another. Hendrycks and Dietterich, Benchmarking Neural Network Robustness to
    Common Corruptions, ICLR 2019.
    Raises TypeError for another type or dtype; KeyError for a modality that is not in `KINDS`;
    ValueError for an unknown kind, a severity outside [0, 1], another shape, no samples, values out
    of range, NaN, or silence that shall get noise.
    """
    known_names("corrupt", [modality], KINDS, "modalities")
    kinds = KINDS[modality]
    chosen = kinds[one_of(f"kind of {modality}", kind, kinds)]
    require(
        is_number(severity),
        f"severity is a {type(severity).__name__}, expected a number from 0 to 1",
        TypeError,
    )
    require(
        0 <= severity <= 1,
        f"severity is {severity}, expected a number from 0 (unchanged) to 1 (the worst)",
    )
    require(
        isinstance(generator, torch.Generator),
        f"generator is a {type(generator).__name__}, expected a torch.Generator, seeded",
        TypeError,
    )
    _CHECKS[modality](x)
    if severity == 0:
        copies = [each.clone() if isinstance(each, Tensor) else each for each in x]
        return x.clone() if isinstance(x, Tensor) else cast(Any, copies)
    value = chosen.value(float(severity))
    if modality == "audio" and isinstance(x, list):
        waveforms = cast(list[Tensor], x)
        return [chosen.apply(waveform[None], value, generator)[0] for waveform in waveforms]
    if modality == "stream" and isinstance(x, Tensor) and x.dim() == 2:
        return chosen.apply(x[None], value, generator)[0]
    return chosen.apply(x, value, generator)
