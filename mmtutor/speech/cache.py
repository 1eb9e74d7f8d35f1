"""A batch of utterances in one file: found by what was asked for, written whole or not at all.

Taught in chapter 2.
"""

import hashlib
import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from mmtutor.checks import require
from mmtutor.files.roots import CacheNotWritable, cache_root
from mmtutor.files.whole import whole
from mmtutor.speech.espeak import carried
from mmtutor.speech.timing import Marks

Parts = tuple[np.ndarray, Marks, Marks]
"""samples (T,) int16, words, phonemes"""

_FORMAT = 1  # raise it when the same request would give another file

_log = logging.getLogger(__name__)


def path_of(requests: list[dict[str, Any]]) -> Path:
    """Return where the answer to these requests, in this order, is kept. Another espeakng-loader,
    another file."""
    _, _, version = carried()
    content = json.dumps([_FORMAT, version, requests], sort_keys=True).encode()
    return cache_root() / "speech" / f"{hashlib.blake2b(content, digest_size=16).hexdigest()}.npz"


def read(path: Path, count: int) -> list[Parts] | None:
    """Return the utterances in a file, None where there is none. A damaged one is passed over and
    made again."""
    try:
        # reading a table checks its CRC
        with (
            path.open("rb") as opened,
            np.load(opened, allow_pickle=False) as file,
        ):
            samples, lengths = file["samples"], file["lengths"]
            marks = json.loads(file["marks"].tobytes())
        require(
            len(lengths) == len(marks) == count and lengths.sum() == len(samples),
            "its tables do not fit together",
        )
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        _log.warning("%s is damaged (%s): its speech is made again", path, error)
        return None
    ends = np.cumsum(lengths)
    return [
        (samples[end - length : end], [tuple(m) for m in words], [tuple(m) for m in phonemes])
        for end, length, (words, phonemes) in zip(ends, lengths, marks, strict=True)
    ]


def write(path: Path, batch: list[Parts]) -> None:
    """Write a batch under a temporary name, then move it into place: two writers leave one whole
    file.

    Raises CacheNotWritable, naming the folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path, "wb") as file:
            np.savez(
                file,
                samples=np.concatenate([samples for samples, _, _ in batch]),
                lengths=np.array([len(samples) for samples, _, _ in batch], np.int64),
                marks=np.frombuffer(json.dumps([marks for _, *marks in batch]).encode(), np.uint8),
            )
    except OSError as error:
        raise CacheNotWritable(
            f"speech cannot be stored in {path.parent}: {error.strerror or error}. Set the"
            " environment variable MMTUTOR_CACHE to a folder that you can write to, or ask with"
            " cache=False."
        ) from error
