"""The Free Spoken Digit Dataset: 3000 recordings, 50 of each digit by each of six speakers.

Taught in chapter 8.
"""

from __future__ import annotations

import wave

import numpy as np
import torch

from mmtutor.data.dataset import Dataset
from mmtutor.files.manifest import manifest
from mmtutor.files.store import fetch

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
SAMPLE_RATE = 8000


def load(accept_licence: bool = False) -> Dataset:
    """Return the 3000 recordings: modality waveform, a list of (T_i,) float32 in -1..1, mono, 8000
    Hz; label = the digit; groups = the speaker.

    Raises what `store.fetch` raises. Jackson et al. 2018.
    """
    data = manifest("fsdd")
    # Files are named <digit>_<speaker>_<index>.wav.
    paths = sorted((fetch(data, accept_licence) / "recordings").glob("*.wav"))
    digits, speakers, _ = zip(*(path.stem.split("_") for path in paths), strict=True)
    waveforms = []
    for path in paths:
        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        waveforms.append(torch.from_numpy(samples.astype(np.float32)).div_(32768))
    return Dataset(
        name="fsdd",
        modalities={"waveform": waveforms},
        groups=np.array([SPEAKERS.index(speaker) for speaker in speakers]),
        labels=torch.tensor([int(digit) for digit in digits]),
        classes=WORDS,
        group_names=SPEAKERS,
        card=data.facts() | {"sample_rate": SAMPLE_RATE},
    )
