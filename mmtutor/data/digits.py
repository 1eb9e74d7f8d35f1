"""Digits seen and heard: scikit-learn's 1797 real pictures, each with a recording of somebody
saying that digit. Taught in chapter 1.
"""

from dataclasses import replace

import numpy as np
import torch
from sklearn.datasets import load_digits

from mmtutor.checks import one_of, require, whole_number
from mmtutor.data import fsdd
from mmtutor.data.dataset import Dataset
from mmtutor.data.fsdd import WORDS
from mmtutor.speech import SAMPLE_RATE, Request, add_noise, speak_all
from mmtutor.speech.logmel import LogMel

ACCENTS = ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-029")
_VARIANTS = (*(f"f{i}" for i in range(1, 6)), *(f"m{i}" for i in range(1, 6)))
# Takes of each word by each voice: 200 recordings of a digit, more than its 183 pictures at most.
_TAKES = 5
_RATES, _PITCHES = (100, 260), (0, 99)
_CITATION = (
    "Alpaydin, E., & Kaynak, C. (1998). Optical Recognition of Handwritten Digits. UCI Machine"
    " Learning Repository. https://doi.org/10.24432/C50P49"
)


def load(
    speech: str = "espeak",
    image_noise: float = 0.0,
    snr_db: float | None = None,
    seed: int = 0,
    waveforms: bool = False,
) -> Dataset:
    """Return 1797 digits, each seen and heard; label = the digit.

    modalities: image (N, 1, 8, 8) float32 in 0..1, plus Gaussian noise of standard deviation
    `image_noise` (not clipped); audio (N, 24 frames, 32 mels) float32 log-mels, see `LogMel`,
    of the recording with white noise at `snr_db` (None: as recorded); with `waveforms` also
    waveform, the N recordings (T_i,) themselves, noise included. The card's sample_rate says how to
    play them. targets: voice (N,), the speaker: 40 of espeak, 6 of fsdd.
    speech: "espeak", made on this machine: 4 accents × 10 voices × 5 takes at random rates and
    pitches, groups = the accent; or "fsdd", real recordings (3000, downloaded where they are
    missing), groups = the 6 speakers. `seed` pairs each picture with one of the recordings of its
    digit, and draws the noise. No picture and no recording occurs twice, so splitting by group
    leaves neither on both sides. The pairs, the pictures' noise and the pattern of the sound's
    noise stay the same when only `image_noise` or `snr_db` change. Speaking takes about 5 s the
    first time.
    Raises ValueError naming the option, SpeechUnavailable, and what `store.fetch` raises.
    """
    one_of("speech", speech, ("espeak", "fsdd"))
    require(
        0 <= image_noise < np.inf,
        f"image_noise must be a standard deviation from 0, got {image_noise!r}",
    )
    require(
        snr_db is None or np.isfinite(snr_db),
        f"snr_db must be a number of decibels, or None for no noise, got {snr_db!r}",
    )
    whole_number("seed", seed)
    recordings = _espeak() if speech == "espeak" else fsdd.load()
    pixels, digits = load_digits(return_X_y=True)
    spoken = recordings.subset(
        _pair(digits, np.asarray(recordings.labels), np.random.default_rng([seed, 0]))
    )
    waveform = spoken.modalities["waveform"]
    if snr_db is not None:
        generator = _generator(seed, 1)
        waveform = [add_noise(signal, snr_db, generator) for signal in waveform]
    image = torch.from_numpy(pixels / 16).float().reshape(-1, 1, 8, 8)
    card = {"citation": "", **spoken.card}
    return replace(
        spoken,
        name="digits",
        modalities={
            "image": image + image_noise * torch.randn(image.shape, generator=_generator(seed, 2)),
            "audio": LogMel(sample_rate=card["sample_rate"]).spectrogram(waveform),
            **({"waveform": waveform} if waveforms else {}),
        },
        card={
            "name": "digits",
            "title": "Digits seen and heard",
            "do_not_display": False,
            "citation": "; ".join(filter(None, [_CITATION, card["citation"]])),
            "n": len(digits),
            "speech": speech,
            "sample_rate": card["sample_rate"],
            "licence": f"pictures CC BY 4.0; speech {card['licence']}",
        },
    )


def _pair(pictures: np.ndarray, recordings: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return for each picture the row of a recording of the same digit; no recording twice. (N,)
    and (M,) → (N,)."""
    rows = np.empty(len(pictures), np.int64)
    for digit in np.unique(pictures):
        seen = np.flatnonzero(pictures == digit)
        rows[seen] = rng.permutation(np.flatnonzero(recordings == digit))[: len(seen)]
    return rows


def _generator(seed: int, stream: int) -> torch.Generator:
    """Return a generator of its own for each use of `seed`, so that one option does not move the
    noise of another."""
    state = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


def _espeak() -> Dataset:
    """Speak every word in every voice. The takes do not depend on the seed of `load`: one cache
    file serves all."""
    rng = np.random.default_rng(0)
    digits, accents, _, variants = np.indices(
        (len(WORDS), len(ACCENTS), _TAKES, len(_VARIANTS))
    ).reshape(4, -1)
    requests = [
        Request(
            WORDS[digit],
            ACCENTS[accent],
            _VARIANTS[variant],
            rate=int(rng.integers(_RATES[0], _RATES[1] + 1)),
            pitch=int(rng.integers(_PITCHES[0], _PITCHES[1] + 1)),
        )
        for digit, accent, variant in zip(digits, accents, variants, strict=True)
    ]
    return Dataset(
        name="espeak",
        modalities={"waveform": [utterance.waveform for utterance in speak_all(requests)]},
        groups=accents,
        labels=torch.from_numpy(digits),
        classes=WORDS,
        group_names=ACCENTS,
        targets={"voice": torch.from_numpy(accents * len(_VARIANTS) + variants)},
        card={
            "licence": "generated by espeak-ng on this machine",
            "sample_rate": SAMPLE_RATE,
        },
    )
