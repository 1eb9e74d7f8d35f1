"""Speech made on this machine, with known timing: espeak-ng says when each word and each phoneme
begins. Taught in chapter 2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from mmtutor.checks import float_samples, one_of, require, whole_number
from mmtutor.speech import cache as speech_cache
from mmtutor.speech import espeak, timing
from mmtutor.speech.espeak import SAMPLE_RATE

VOICES = {
    "en-us": "English, American",
    "en-gb-x-rp": "English, received pronunciation",
    "en-gb-scotland": "English, Scottish",
    "en-029": "English, Caribbean",
    "cmn": "Chinese, Mandarin",
    "yue": "Chinese, Cantonese",
}
VARIANTS = (*(f"f{i}" for i in range(1, 6)), *(f"m{i}" for i in range(1, 9)))
_RANGES = {"rate": (80, 450), "pitch": (0, 99), "volume": (0, 200)}


@dataclass(frozen=True)
class Request:
    """What to say and how: see `speak`. Raises ValueError naming the field, what was given and what
    is possible."""

    text: str
    voice: str = "en-us"
    variant: str | None = None
    rate: int = 175
    pitch: int = 50
    volume: int = 100

    def __post_init__(self) -> None:
        """Refuse what espeak-ng would ignore, clip or cut short in silence."""
        require(
            isinstance(self.text, str) and self.text.strip(),
            f"text must be a string with something to say, got {self.text!r}",
        )
        require(
            "\0" not in self.text and not any(0xD800 <= ord(c) <= 0xDFFF for c in self.text),
            "text holds a NUL or half of a surrogate pair, which cannot be spoken: remove it",
        )
        one_of("voice", self.voice, VOICES)
        if self.variant is not None:
            one_of("variant", self.variant, VARIANTS)
        for name, (low, high) in _RANGES.items():
            object.__setattr__(self, name, whole_number(name, getattr(self, name), low, high))


@dataclass(frozen=True)
class Mark:
    """A word or a phoneme, from `start` to `end` in seconds. Phonemes are in IPA where espeak-ng
    has it."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, eq=False)
class Utterance:
    """A spoken text. waveform: (T,) float32 in -1..1, mono; words and phonemes: in order, times in
    seconds."""

    text: str
    waveform: Tensor
    sample_rate: int
    words: tuple[Mark, ...]
    phonemes: tuple[Mark, ...]

    @property
    def duration(self) -> float:
        """Return the length in seconds."""
        return len(self.waveform) / self.sample_rate


def speak(
    text: str,
    voice: str = "en-us",
    variant: str | None = None,
    rate: int = 175,
    pitch: int = 50,
    volume: int = 100,
    pauses: float | Mapping[int, float] = 0.0,
    cache: bool = True,
) -> Utterance:
    """Return `text` as spoken by espeak-ng; the same arguments give the same samples, in any
    process and order.

    variant: None, f1..f5 or m1..m8, another speaker of the voice; rate: words per minute, 80..450;
    pitch: 0..99;
    volume: 0..200, 100 is normal; pauses: see `insert_pauses`. Text that holds nothing to say (dots
    only) gives 7 ms of silence without words. A word in another script is spelt out or passed over,
    as the voice does it.
    Raises ValueError (unknown voice, value out of range, empty text), SpeechUnavailable,
    CacheNotWritable.
    """
    (spoken,) = speak_all([Request(text, voice, variant, rate, pitch, volume)], cache)
    return insert_pauses(spoken, pauses)


def speak_all(requests: Sequence[Request], cache: bool = True) -> list[Utterance]:
    """Return one utterance per request, each as `speak` alone would give it.

    With `cache`, all of them are kept in one file of the cache folder, see `files.roots`: reading
    2000 clips from one file takes a fraction of a second, from 2000 files longer than speaking
    them.
    """
    if not requests:
        return []
    path = speech_cache.path_of([asdict(request) for request in requests]) if cache else None
    batch = speech_cache.read(path, len(requests)) if path else None
    if batch is None:
        batch = _synthesise(requests)
        if path:
            speech_cache.write(path, batch)
    return [
        Utterance(
            request.text,
            torch.from_numpy(samples.astype(np.float32)).div_(32768),  # of 16 bits
            SAMPLE_RATE,
            _seconds(words),
            _seconds(phonemes),
        )
        for request, (samples, words, phonemes) in zip(requests, batch, strict=True)
    ]


def insert_pauses(utterance: Utterance, pauses: float | Mapping[int, float]) -> Utterance:
    """Return the utterance with silence put in before words, all times moved along; nothing else
    changes.

    pauses: milliseconds before each word but the first, or {index of a word: milliseconds before
    it}.
    Raises ValueError for a negative pause, IndexError for a word that is not there.
    """
    if not isinstance(pauses, Mapping):
        pauses = dict.fromkeys(range(1, len(utterance.words)), pauses) if pauses else {}
    words, phonemes, cuts = _samples(utterance.words), _samples(utterance.phonemes), []
    for index, milliseconds in sorted(pauses.items()):
        require(
            0 <= index < len(words),
            f"a pause before word {index}, but there are {len(words)} words, counted from 0",
            IndexError,
        )
        require(
            0 <= milliseconds < np.inf,
            f"a pause must be a number of milliseconds from 0, got {milliseconds!r}",
        )
        cuts.append((words[index][0], round(milliseconds * SAMPLE_RATE / 1000)))
    if not cuts:
        return utterance
    waveform, marks = timing.cut_open(utterance.waveform.numpy(), [words, phonemes], cuts)
    return Utterance(utterance.text, torch.from_numpy(waveform), SAMPLE_RATE, *map(_seconds, marks))


def add_noise(waveform: Tensor, snr_db: float, generator: torch.Generator) -> Tensor:
    """Return waveform + white Gaussian noise with mean square = mean(waveform²) / 10^(snr_db / 10).

    waveform: (T,) or (N, T) float, each row its own signal; noise comes from `generator` (same
    device). snr_db = inf adds nothing. Raises ValueError where no ratio exists: empty, silent, NaN
    or infinite rows; TypeError for integers.
    """
    float_samples("noise", waveform, (1, 2), "(T,) or (N, T)")
    power = waveform.square().mean(-1, keepdim=True)
    require(
        (power > 0).all(),
        "a silent recording has no signal-to-noise ratio: leave it out, or add noise yourself",
    )
    require(
        snr_db > -np.inf,
        f"snr_db must be a number of decibels (0: noise as strong as the signal), got {snr_db}",
    )
    return waveform + (power * 10 ** (-snr_db / 10)).sqrt() * torch.randn(
        waveform.shape, generator=generator, dtype=waveform.dtype, device=waveform.device
    )


def _synthesise(requests: Sequence[Request]) -> list[speech_cache.Parts]:
    """Speak now, with no cache."""
    asked = [
        (r.text, f"{r.voice}+{r.variant}" if r.variant else r.voice, r.rate, r.pitch, r.volume)
        for r in requests
    ]
    batch = []
    for request, (samples, events) in zip(requests, espeak.synthesise(asked), strict=True):
        phonemes = timing.phonemes(events, len(samples))
        words = timing.words(request.text, events, phonemes, len(samples))
        batch.append((samples, words, phonemes))
    return batch


def _seconds(marks: timing.Marks) -> tuple[Mark, ...]:
    return tuple(Mark(start / SAMPLE_RATE, end / SAMPLE_RATE, text) for start, end, text in marks)


def _samples(marks: tuple[Mark, ...]) -> timing.Marks:
    return [
        (round(mark.start * SAMPLE_RATE), round(mark.end * SAMPLE_RATE), mark.text)
        for mark in marks
    ]
