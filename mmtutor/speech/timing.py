"""When is what said: espeak-ng's events as words and phonemes with a beginning and an end, in
samples. Taught in chapter 7.
"""

import unicodedata
from bisect import bisect_left
from itertools import pairwise
from typing import Literal

import numpy as np

from mmtutor.speech.espeak import PHONEME, WORD, Event

Marks = list[tuple[int, int, str]]
"""(first sample, end, what is said)"""

_FADE = 44  # samples, 2 ms: how softly the sound stops before an inserted pause and begins after it


def phonemes(events: list[Event], n_samples: int) -> Marks:
    """Return the phonemes, each until the next event. Pauses, links and changes of language are
    left out."""
    timed = [event for event in events if event.kind == PHONEME]
    return [
        (event.sample, following.sample, event.name)
        for event, following in pairwise([*timed, Event(PHONEME, n_samples, 0, 0, "")])
        if event.name and not event.name.startswith("(")
    ]


def words(text: str, events: list[Event], spoken: Marks, n_samples: int) -> Marks:
    """Return the written words. What is read out as several ("3.5", an emoji) is one; it ends with
    its last phoneme.

    spoken: the phonemes. Where espeak-ng takes several Chinese characters for one word, so does
    this.
    """
    kept: list[Event] = []
    for event in events:
        if event.kind == WORD and (
            not kept
            or (
                event.position >= kept[-1].position + kept[-1].length
                and text[event.position : event.position + 1].strip()
            )
        ):  # it points at another written word than the one before
            kept.append(event)
    starts = [start for start, _, _ in spoken]
    marks = []
    for event, following in pairwise([*kept, Event(WORD, n_samples, len(text), 0, "")]):
        end, last = following.sample, bisect_left(starts, following.sample) - 1
        if last >= 0 and starts[last] >= event.sample:
            end = min(spoken[last][1], end)
        marks.append((event.sample, end, bare(text[event.position : following.position])))
    return marks


def bare(written: str) -> str:
    """Strip blanks and punctuation at both ends, unless there is nothing else."""
    inner = [
        i for i, c in enumerate(written) if not c.isspace() and unicodedata.category(c)[0] != "P"
    ]
    return written[inner[0] : inner[-1] + 1] if inner else written.strip()


def cut_open(
    samples: np.ndarray, marks: list[Marks], cuts: list[tuple[int, int]]
) -> tuple[np.ndarray, list[Marks]]:
    """Put silence into `samples` (T,) and move the marks along.

    cuts: (sample, how many zeros before it), in order. The sound fades over 2 ms on either side of
    each, without which one would hear a click. A mark that ends at a cut ends there still; one that
    begins there begins after the silence.
    """
    sound, edges = samples.copy(), [0, *(at for at, _ in cuts), len(samples)]
    for i, (start, end) in enumerate(pairwise(edges)):
        ramp = np.linspace(0, 1, min(_FADE, end - start), endpoint=False, dtype=samples.dtype)
        if i > 0:
            sound[start : start + len(ramp)] *= ramp
        if i < len(cuts):
            sound[end - len(ramp) : end] *= ramp[::-1]
    positions, zeros = np.array(cuts).T
    added = np.concatenate([[0], np.cumsum(zeros)])

    def moved(at: int, side: Literal["left", "right"]) -> int:
        return at + int(added[positions.searchsorted(at, side)])

    return np.insert(sound, np.repeat(positions, zeros), 0), [
        [(moved(start, "right"), moved(end, "left"), text) for start, end, text in table]
        for table in marks
    ]
