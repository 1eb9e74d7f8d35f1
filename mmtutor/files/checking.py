"""Is every file of a set exactly the file that the manifest names? Size, sha256, and nothing
outside its folder. Taught in chapter 1.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmtutor.files.manifest import DatasetCorrupt, File, Manifest
from mmtutor.files.roots import cache_root
from mmtutor.files.whole import whole

_SETTLED_NS = 3_000_000_000


def progress_bar(total: int, what: str, wanted: bool = True) -> Any:
    """Return one tqdm bar over `total` bytes: shown, if wanted, in a terminal and a notebook; quiet
    in logs and pipes.

    In a notebook it goes to stdout, since anything on stderr there reads as a warning.
    """
    from tqdm import tqdm

    notebook = hasattr(builtins, "__IPYTHON__")
    stream = sys.stdout if notebook else sys.stderr
    shown = wanted and (notebook or stream.isatty())
    return tqdm(total=total, desc=what, unit="B", unit_scale=True, file=stream, disable=not shown)


def assert_inside(data: Manifest, folder: Path) -> None:
    """Raise DatasetCorrupt when a subfolder of `folder` that the manifest uses leads elsewhere, say
    through a link."""
    root = folder.resolve()
    for parent in sorted({(folder / file.path).parent for file in data.files}):
        if not parent.resolve().is_relative_to(root):
            raise DatasetCorrupt(f"{data.name}: {parent} leads out of {folder}; remove that link")


def problems(data: Manifest, folder: Path, progress: bool = False) -> Iterator[str]:
    """Yield one line for each file under `folder` that is missing, not a plain file, or differs
    from the manifest."""
    with progress_bar(data.total_bytes, f"checking {data.name}", progress) as bar:
        for file in data.files:
            problem = _shape(file, folder) or _content(file, folder)
            bar.update(file.bytes)
            if problem:
                yield f"{folder / file.path} {problem}"


def check(data: Manifest, folder: Path, advice: str) -> None:
    """Return when every file under `folder` matches the manifest; else raise DatasetCorrupt naming
    the first.

    Hashing is skipped when the same files (path, size, and both time stamps in ns) passed against
    the same manifest before, which a stamp below the cache root says. `advice` ends the error
    message.
    """
    assert_inside(data, folder)
    started = time.time_ns()
    key, newest = _state(data, folder)
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    stamp = cache_root() / "verified" / f"{data.name}-{place}"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if stamp.read_text(encoding="ascii") == key:
            return
    for problem in problems(data, folder):
        raise DatasetCorrupt(f"data set {data.name!r} is refused: {problem}. {advice}")
    # A file changed a moment ago may change again within one tick of the file system's clock: hash
    # it again next time. Where no stamp can be written, the next look hashes again, too.
    if started - newest > _SETTLED_NS:
        with contextlib.suppress(OSError):
            stamp.parent.mkdir(parents=True, exist_ok=True)
            with whole(stamp, encoding="ascii") as handle:
                handle.write(key)


def _state(data: Manifest, folder: Path) -> tuple[str, int]:
    """Return a digest of the files' places, sizes and times, and the newest time in ns."""
    digest = hashlib.sha256(f"{folder.resolve()}\n{data.fingerprint}\n".encode())
    newest = 0
    for file in data.files:
        with contextlib.suppress(OSError):  # a file that is not there is named when all are hashed
            info = os.lstat(folder / file.path)
            newest = max(newest, info.st_mtime_ns, info.st_ctime_ns)
            times = f"{info.st_mode} {info.st_size} {info.st_mtime_ns} {info.st_ctime_ns}"
            digest.update(f"{file.path}\n{times}\n".encode())
    return digest.hexdigest(), newest


def _shape(file: File, folder: Path) -> str:
    """Return what is wrong with a file without reading it, "" for nothing."""
    try:
        info = os.lstat(folder / file.path)
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(info.st_mode):
        return "is not a plain file"
    right = info.st_size == file.bytes
    return "" if right else f"has {info.st_size} bytes, expected {file.bytes}"


def _content(file: File, folder: Path) -> str:
    """Return what is wrong with a file's content, "" for nothing."""
    try:
        with open(folder / file.path, "rb") as handle:
            sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    right = sha256 == file.sha256
    return "" if right else f"has sha256 {sha256[:12]}…, expected {file.sha256[:12]}…"
