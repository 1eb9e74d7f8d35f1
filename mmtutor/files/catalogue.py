"""What the packaged manifests say: which sets exist, their files, and the errors that name them.

Standard library only, so that the site builder can read the manifests where nothing else is
installed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

FOLDER = Path(__file__).parent / "manifests"
KEYS = (
    "name",
    "title",
    "version",
    "licence",
    "commercial_use",
    "citation",
    "sources",
    "n",
    "fields",
    "notes",
    "files",
)


class UnknownDataset(ValueError):
    """No such set; the message lists the known names."""


class DatasetUnavailable(RuntimeError):
    """The set cannot be had here and now; `reason` says briefly why: not on this machine, no
    network, no consent."""

    def __init__(self, message: str, reason: str | None = None) -> None:
        """Keep the full message for the reader and the one-line reason for whoever skips a notebook
        or a test."""
        super().__init__(message)
        self.reason = message if reason is None else reason


class DatasetCorrupt(RuntimeError):
    """A file (named in the message) is missing, differs from the manifest, or would lie outside its
    folder."""


def names() -> tuple[str, ...]:
    """Return the names of all sets with a packaged manifest, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def manifest(name: str) -> dict[str, Any]:
    """Return the packaged manifest of a set: title, licence, sources, fields, and path, sha256 and
    bytes of each file.

    The dict is shared between callers: do not change it.
    Raises UnknownDataset (a ValueError) for a name without manifest, DatasetCorrupt for a manifest
    with unsafe paths.
    """
    if name not in names():
        raise UnknownDataset(f"unknown data set {name!r}; known: {', '.join(names())}")
    return _read(FOLDER / f"{name}.json")


def fingerprint(name: str) -> str:
    """Return the sha256 of the packaged manifest: it changes when any file of the set is pinned
    anew."""
    manifest(name)
    return hashlib.sha256((FOLDER / f"{name}.json").read_bytes()).hexdigest()


def facts(name: str) -> dict[str, Any]:
    """Return the manifest without its list of files, plus `bytes`, `n_files` and `do_not_display`
    (always present)."""
    data = manifest(name)
    card = {key: value for key, value in data.items() if key != "files"}
    return {
        "do_not_display": False,
        **card,
        "bytes": total_bytes(data),
        "n_files": len(data["files"]),
    }


def total_bytes(data: dict[str, Any]) -> int:
    """Return the size of all files of a manifest together, in bytes."""
    return sum(entry["bytes"] for entry in data["files"])


def unavailable(name: str, reason: str) -> DatasetUnavailable:
    """Return the error for a set that cannot be had: what it is, its size and licence, and what to
    type."""
    data = manifest(name)
    command = f"mmtutor data get {name}" + (
        "" if data["commercial_use"] is True else " --accept-licence"
    )
    return DatasetUnavailable(
        f"data set {name!r} cannot be had: {reason}\n"
        f"  what:     {data['title']}\n"
        f"  size:     {total_bytes(data) / 1e6:.1f} MB in {len(data['files'])} files\n"
        f"  licence:  {data['licence']} (commercial use: {commercial(data)})\n"
        f"  source:   {', '.join(source['repo'] for source in data['sources'])}\n"
        f"  citation: {data['citation']}\n"
        f"  to get it: with a network connection, run `{command}`;\n"
        f"             or set MMTUTOR_DATA to a folder that holds {name}/files/.",
        reason,
    )


def commercial(data: dict[str, Any]) -> str:
    """Return whether a set may be used commercially, in words: "yes", "no" or "unknown"."""
    return {True: "yes", False: "no"}.get(data["commercial_use"], "unknown")


def safe_path(path: str) -> PurePosixPath:
    """Return a manifest path if it stays below its folder on every system; else raise
    DatasetCorrupt naming it."""
    parts = path.split("/")
    if (
        not path
        or "\\" in path
        or ":" in path
        or "\0" in path
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise DatasetCorrupt(
            f"manifest path {path!r} is refused: expected a plain path such as 'images/a.jpg'"
            " (relative, without '..', drive letter or backslash); reinstall mmtutor if you did"
            " not write this manifest"
        )
    return PurePosixPath(path)


@functools.cache
def _read(path: Path) -> dict[str, Any]:
    """Read and check one packaged manifest, once per process."""
    data = json.loads(path.read_text(encoding="utf-8"))
    missing = [key for key in KEYS if key not in data]
    if missing:
        raise DatasetCorrupt(f"manifest {path.name} lacks {', '.join(missing)}; reinstall mmtutor")
    listed = [str(safe_path(entry["path"])) for entry in data["files"]]
    # Two names that differ in case only are one file on Windows and macOS: the second would
    # overwrite the first.
    if len({path.casefold() for path in listed}) != len(listed):
        raise DatasetCorrupt(f"manifest {path.name} lists a path twice; reinstall mmtutor")
    for entry in data["files"]:
        if not re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]) or not 0 <= entry[
            "source_index"
        ] < len(data["sources"]):
            raise DatasetCorrupt(
                f"manifest {path.name}: bad sha256 or source of {entry['path']!r}; reinstall"
                " mmtutor"
            )
    return data
