"""Is every file of a set exactly the file that the manifest names? Size, sha256, and nothing
outside its folder."""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmtutor.files import catalogue
from mmtutor.files.catalogue import DatasetCorrupt

_SETTLED_NS = 3_000_000_000
_verified: set[str] = set()


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


def assert_inside(data: dict[str, Any], folder: Path) -> None:
    """Raise DatasetCorrupt when a subfolder of `folder` that the manifest uses leads elsewhere, say
    through a link."""
    root = folder.resolve()
    for parent in sorted({catalogue.safe_path(entry["path"]).parent for entry in data["files"]}):
        if not (folder / parent).resolve().is_relative_to(root):
            raise DatasetCorrupt(
                f"{data['name']}: {folder / parent} leads out of {folder}; remove that link"
            )


def problems(data: dict[str, Any], folder: Path, progress: bool = False) -> Iterator[str]:
    """Yield one line for each file under `folder` that is missing, not a plain file, or differs
    from the manifest."""
    with progress_bar(catalogue.total_bytes(data), f"checking {data['name']}", progress) as bar:
        for entry in data["files"]:
            problem = _stat(entry, folder)[0] or _content(entry, folder)
            bar.update(entry["bytes"])
            if problem:
                yield f"{entry['path']} {problem}"


def check(data: dict[str, Any], folder: Path, stamps: Path, advice: str) -> None:
    """Return when every file under `folder` matches the manifest; else raise DatasetCorrupt naming
    the first.

    Hashing is skipped when the same files (path, size, and both time stamps in ns) passed against
    the same manifest before, in this process or, by a stamp under `stamps`, in an earlier one.
    `advice` ends the error message.
    """
    assert_inside(data, folder)
    started = time.time_ns()
    key, newest = _snapshot(data, folder, advice)
    stamp = (
        stamps / f"{data['name']}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}"
    )
    if key in _verified or _stamped(stamp, key):
        _verified.add(key)
        return
    for entry in data["files"]:
        problem = _content(entry, folder)
        if problem:
            raise _corrupt(data, folder, entry, problem, advice)
    # A file changed a moment ago may change again within one tick of the file system's clock: hash
    # it again next time.
    if started - newest > _SETTLED_NS:
        _verified.add(key)
        _write_stamp(stamp, key)


def _snapshot(data: dict[str, Any], folder: Path, advice: str) -> tuple[str, int]:
    """Return a digest of the files' places, sizes and times, and the newest time in ns; raise on a
    wrong size."""
    digest = hashlib.sha256(f"{folder.resolve()}\n{catalogue.fingerprint(data['name'])}\n".encode())
    newest = 0
    for entry in data["files"]:
        problem, info = _stat(entry, folder)
        if problem or info is None:
            raise _corrupt(data, folder, entry, problem, advice)
        newest = max(newest, info.st_mtime_ns, info.st_ctime_ns)
        digest.update(
            f"{entry['path']}\n{info.st_size} {info.st_mtime_ns} {info.st_ctime_ns}\n".encode()
        )
    return digest.hexdigest(), newest


def _stat(entry: dict[str, Any], folder: Path) -> tuple[str, os.stat_result | None]:
    """Return what is wrong with a file without reading it ("" for nothing), and its status."""
    try:
        info = os.lstat(folder / entry["path"])
    except (FileNotFoundError, NotADirectoryError):
        return "is missing", None
    except OSError as error:
        return f"cannot be read ({error.strerror})", None
    if not stat.S_ISREG(info.st_mode):
        return "is not a plain file", info
    if info.st_size != entry["bytes"]:
        return f"has {info.st_size} bytes, expected {entry['bytes']}", info
    return "", info


def _content(entry: dict[str, Any], folder: Path) -> str:
    """Return what is wrong with a file's content, "" for nothing."""
    try:
        with open(folder / entry["path"], "rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return (
        ""
        if found == entry["sha256"]
        else f"has sha256 {found[:12]}…, expected {entry['sha256'][:12]}…"
    )


def _corrupt(
    data: dict[str, Any], folder: Path, entry: dict[str, Any], problem: str, advice: str
) -> DatasetCorrupt:
    """Return the error that names the set, the file, what is wrong with it and what to do."""
    return DatasetCorrupt(
        f"data set {data['name']!r} is refused: {folder / entry['path']} {problem}. {advice}"
    )


def _stamped(stamp: Path, key: str) -> bool:
    """Return whether an earlier process left this very key."""
    try:
        return stamp.read_text(encoding="ascii") == key
    except (OSError, UnicodeDecodeError):
        return False


def _write_stamp(stamp: Path, key: str) -> None:
    """Leave the key for later processes, in one step so that none reads half of it."""
    temporary = stamp.with_name(f"{stamp.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(key, encoding="ascii")
        os.replace(temporary, stamp)
    except OSError:
        # A stamp only saves time. Where none can be written, the next process hashes the files
        # again.
        with contextlib.suppress(OSError):
            temporary.unlink()
