"""The Free Spoken Digit Dataset: 3000 recordings, 50 of each digit by each of six speakers.

Taught in chapter 8.
"""

import numpy as np
import torch
from scipy.io import wavfile

from mmtutor.data.dataset import Dataset
from mmtutor.files.store import fetched

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
SAMPLE_RATE = 8000


def load(accept_licence: bool = False) -> Dataset:
    """Return the 3000 recordings: modality waveform, a list of (T_i,) float32 in -1..1, mono, 8000
    Hz; label = the digit; groups, and the target voice = the speaker.

    Raises what `store.fetch` raises. Jackson et al. 2018.
    """
    data, folder = fetched("fsdd", accept_licence)
    # Files are named <digit>_<speaker>_<index>.wav.
    paths = sorted((folder / "recordings").glob("*.wav"))
    digits, speakers, _ = zip(*(path.stem.split("_") for path in paths), strict=True)
    groups = np.array([SPEAKERS.index(speaker) for speaker in speakers])
    return Dataset(
        name="fsdd",
        modalities={
            "waveform": [
                torch.from_numpy(wavfile.read(path)[1].astype(np.float32)).div_(32768)
                for path in paths
            ]
        },
        groups=groups,
        labels=torch.tensor([int(digit) for digit in digits]),
        classes=WORDS,
        group_names=SPEAKERS,
        targets={"voice": torch.from_numpy(groups)},
        card=data.facts() | {"sample_rate": SAMPLE_RATE},
    )
