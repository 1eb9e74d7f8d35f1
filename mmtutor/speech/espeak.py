"""The binding to the espeak-ng library: one utterance in, 16-bit samples and timed events out.

espeak-ng keeps its state in global variables (the phase of its pitch flutter, the seed of its
noise, filter memories), and ending and starting it again does not clear them: the second "seven"
differs from the first. So each utterance gets a freshly loaded library, which costs 3 ms and makes
it a pure function of its arguments. Nothing is alive between two calls; a lock keeps threads and
forks out while a word is being spoken. Taught in chapter 2.
"""

import _ctypes
import ctypes
import os
import shutil
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from itertools import count, takewhile
from pathlib import Path

import numpy as np

from mmtutor.checks import require

SAMPLE_RATE = 22050
WORD, PHONEME = 1, 7

# From speak_lib.h. Synchronous: audio comes through the callback while espeak_Synth runs, with no
# thread of espeak's own (the retrieval mode has one, polls, and takes 18 ms for a clip that takes
# half a millisecond here).
_SYNCHRONOUS, _UTF8 = 2, 1
_PHONEME_EVENTS, _IPA, _DO_NOT_EXIT = 0x1, 0x2, 0x8000
_RATE, _VOLUME, _PITCH = 1, 2, 3
_LONGEST_PATH = 120
_MANY = 20  # utterances for which making 250 links is worth while
ADVICE = (
    "install it with `pip install 'espeakng-loader>=0.2.4'` (speech=\"fsdd\" has recorded digits"
    " instead)"
)


class SpeechUnavailable(RuntimeError):
    """espeak-ng cannot be loaded here, or lacks a voice; the message says what is missing and what
    to install."""


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),  # the name of a phoneme; for others this holds a number
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Event:
    """Something that begins at `sample`: a WORD (position in the text from 0, length), a PHONEME
    (name in IPA) or another kind, such as a sentence."""

    kind: int
    sample: int
    position: int
    length: int
    name: str


_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    # A fork waits for the word being spoken, so that no child inherits half of one, or a lock that
    # nobody will release.
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


Spoken = tuple[np.ndarray, list[Event]]
"""samples (T,) int16 at 22050 Hz, and the events in order"""


def synthesise(asked: Sequence[tuple[str, str, int, int, int]]) -> list[Spoken]:
    """Speak each of (text, voice, rate, pitch, volume); the same five give the same samples,
    whatever came before.

    voice: an espeak name, "+variant" included; rate in words per minute; pitch 0..99; volume 0..200
    (100 is normal).
    Raises SpeechUnavailable. Arguments are checked by `mmtutor.speech`, which is what others call.
    """
    with ExitStack() as stack:
        with _lock:  # tempfile has a lock of its own, which a fork must not catch either
            folder = _data_folder(stack, links=len(asked) >= _MANY)
        return [_speak(folder, *one) for one in asked]


def _speak(folder: Path, text: str, voice: str, rate: int, pitch: int, volume: int) -> Spoken:
    chunks: list[bytes] = []
    events: list[Event] = []

    @_Callback
    def collect(wave: ctypes._Pointer, n_samples: int, found: ctypes._Pointer) -> int:
        """Copy espeak's buffers, which are overwritten once this returns."""
        chunks.append(ctypes.string_at(wave, 2 * n_samples))
        for event in takewhile(lambda event: event.type, (found[i] for i in count())):
            name = event.id.decode("utf-8", "ignore") if event.type == PHONEME else ""
            events.append(
                Event(event.type, event.sample, event.text_position - 1, event.length, name)
            )
        return 0

    encoded = text.encode("utf-8")
    with _lock, ExitStack() as stack:
        library = _fresh_library(stack)
        stack.callback(library.espeak_Terminate)
        _start(library, folder, voice)
        library.espeak_SetSynthCallback(collect)
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_VOLUME, volume)):
            library.espeak_SetParameter(parameter, value, 0)
        failed = library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _UTF8, None, None)
    require(
        not failed,
        f"espeak-ng could not speak {text[:40]!r}: error {failed}; {ADVICE}",
        SpeechUnavailable,
    )
    return np.frombuffer(b"".join(chunks), np.int16), events


def _start(library: ctypes.CDLL, folder: Path, voice: str) -> None:
    """Initialise a fresh library with its data in `folder`, a fixed seed (its own is the clock) and
    a voice."""
    rate = library.espeak_Initialize(
        _SYNCHRONOUS, 0, os.fsencode(folder), _PHONEME_EVENTS | _IPA | _DO_NOT_EXIT
    )
    require(
        rate == SAMPLE_RATE,
        f"espeak-ng did not start with the data in {folder / 'espeak-ng-data'} (paths longer"
        f" than {_LONGEST_PATH} bytes may be why; sample rate {rate}, expected {SAMPLE_RATE});"
        f" {ADVICE}",
        SpeechUnavailable,
    )
    library.espeak_ng_SetRandSeed(1)
    require(
        not library.espeak_SetVoiceByName(voice.encode()),
        f"this espeak-ng has no voice {voice!r}; {ADVICE}",
        SpeechUnavailable,
    )


def _data_folder(stack: ExitStack, links: bool) -> Path:
    """Return a folder that holds espeak-ng-data: where it lies, or a temporary one with `links` to
    what is in it.

    Links give each language the lower-case name under which espeak-ng looks for it first; else it
    reads all 250 voice files to find one, two thirds of the time of a word. They also shorten a
    path that espeak-ng would cut off.
    """
    _, data, _ = carried()
    if not links and len(os.fsencode(data)) <= _LONGEST_PATH:
        return data.parent
    linked = Path(stack.enter_context(tempfile.TemporaryDirectory()), data.name)
    try:
        (linked / "lang").mkdir(parents=True)
        for entry in data.iterdir():
            if entry.name != "lang":
                (linked / entry.name).symlink_to(entry)
        for language in data.glob("lang/*/*"):
            (linked / "lang" / language.name.lower()).symlink_to(language)
    except OSError:  # no right to make links (Windows): the same speech, slower
        return data.parent
    return linked.parent


def carried() -> tuple[Path, Path, str]:
    """Return the library, the folder of its data, and the version of the package that has both."""
    try:
        import espeakng_loader

        library, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
        return Path(library), Path(data), metadata.version("espeakng-loader")
    except (ImportError, RuntimeError) as error:  # which the loader raises where data are missing
        raise SpeechUnavailable(
            f"the package espeakng-loader cannot be used ({error}); {ADVICE}"
        ) from error


def _fresh_library(stack: ExitStack) -> ctypes.CDLL:
    """Load espeak-ng with all its global variables as they were built; leaving the stack unloads
    it."""
    path, _, _ = carried()
    if not (library := _load(path, stack)).espeak_ng_GetSampleRate():
        return library
    # Somebody else in this process holds it, state and all: a copy under another name has variables
    # of its own.
    folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
    return _load(Path(shutil.copy(path, folder)), stack)


def _load(path: Path, stack: ExitStack) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
        library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]  # espeak-ng 1.50 or later has it
    except (OSError, AttributeError) as error:
        raise SpeechUnavailable(
            f"the library {path} cannot be loaded ({error}); {ADVICE}"
        ) from error
    unload = "FreeLibrary" if os.name == "nt" else "dlclose"
    stack.callback(getattr(_ctypes, unload), library._handle)
    return library
