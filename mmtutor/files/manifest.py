"""What a packaged manifest says, read once into one object that goes from look-up to open file.

Standard library only, so that the site builder can read the manifests where nothing else is
installed. Taught in chapter 1.
"""

import functools
import json
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

FOLDER = Path(__file__).parent / "manifests"


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


@dataclass(frozen=True)
class Source:
    """A public repository at a pinned commit; files lie below `raw_url_base`."""

    repo: str
    commit: str
    raw_url_base: str


@dataclass(frozen=True)
class File:
    """One file: its path below the set's folder, what it must be, and its pinned address."""

    path: str
    sha256: str
    bytes: int
    url: str


@dataclass(frozen=True, eq=False)
class Manifest:
    """One data set: its terms, where it comes from, and every file of it.

    commercial_use: True, False or "unknown"; n: samples; fields: name → meaning; files: in the
    manifest's order; do_not_display: samples must not be shown; extra: what else this manifest
    states.
    """

    name: str
    title: str
    version: str
    licence: str
    commercial_use: bool | str
    citation: str
    sources: tuple[Source, ...]
    n: int
    fields: dict[str, str]
    notes: str
    files: tuple[File, ...] = field(repr=False)
    do_not_display: bool = False
    subset_rule: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """The size of all files together, in bytes."""
        return sum(file.bytes for file in self.files)

    @property
    def size(self) -> str:
        """The size in words: megabytes and number of files."""
        return f"{self.total_bytes / 1e6:.1f} MB in {len(self.files)} files"

    @property
    def commercial(self) -> str:
        """Whether the set may be used commercially, in words: "yes", "no" or "unknown"."""
        words: dict[bool | str, str] = {True: "yes", False: "no"}
        return words.get(self.commercial_use, "unknown")

    @property
    def get_command(self) -> str:
        """What to type to download or mend this set."""
        return f"mmtutor data get {self.name}" + (
            "" if self.commercial_use is True else " --accept-licence"
        )

    @property
    def terms(self) -> str:
        """What a person should know before downloading: title, size, licence, source, citation."""
        sources = ", ".join(f"{source.repo} ({source.raw_url_base})" for source in self.sources)
        return (
            f"  what:     {self.title}\n"
            f"  size:     {self.size}\n"
            f"  licence:  {self.licence} (commercial use: {self.commercial})\n"
            f"  source:   {sources}\n"
            f"  citation: {self.citation}"
        )

    def facts(self) -> dict[str, Any]:
        """Return what a `Dataset` carries as its card: all but the list of files, plus `bytes` and
        `n_files`."""
        card = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("files", "extra")
        }
        return self.extra | card | {"bytes": self.total_bytes, "n_files": len(self.files)}

    def unavailable(self, reason: str) -> DatasetUnavailable:
        """Return the error for a set that cannot be had: why, what it is, and what to type."""
        return DatasetUnavailable(
            f"data set {self.name!r} cannot be had: {reason}\n{self.terms}\n"
            f"  to get it: with a network connection, run `{self.get_command}`;\n"
            f"             or set MMTUTOR_DATA to a folder that holds {self.name}/files/.",
            reason,
        )


def names() -> tuple[str, ...]:
    """Return the names of all sets with a packaged manifest, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def manifest(name: str) -> Manifest:
    """Return the packaged manifest of a set.

    Raises UnknownDataset (a ValueError) for a name without manifest, DatasetCorrupt for a manifest
    that lacks something or has unsafe paths.
    """
    if name not in names():
        raise UnknownDataset(f"unknown data set {name!r}; known: {', '.join(names())}")
    return _read(FOLDER / f"{name}.json")


@functools.cache
def _read(path: Path) -> Manifest:
    """Read and check one packaged manifest, once per process."""
    stated = json.loads(path.read_bytes())
    known = {f.name for f in fields(Manifest)}
    extra = {key: stated.pop(key) for key in list(stated) if key not in known}
    try:
        sources = tuple(
            Source(source["repo"], source["commit"], source["raw_url_base"])
            for source in stated.pop("sources")
        )
        files = tuple(_file(entry, sources) for entry in stated.pop("files"))
        return Manifest(**stated, sources=sources, files=files, extra=extra)
    except (LookupError, TypeError) as error:
        raise DatasetCorrupt(
            f"manifest {path.name} is damaged: {error}; reinstall mmtutor"
        ) from error


def _file(entry: dict[str, Any], sources: tuple[Source, ...]) -> File:
    """Return one entry of a manifest; DatasetCorrupt for a path that is unsafe."""
    path, source = entry["path"], sources[entry["source_index"]]
    # It must stay below its folder on every system.
    if re.search(r"[\\:\0]", path) or any(part in ("", ".", "..") for part in path.split("/")):
        raise DatasetCorrupt(
            f"manifest path {path!r} is refused: expected a plain path such as 'images/a.jpg'"
            " (relative, without '..', drive letter or backslash); reinstall mmtutor if you did"
            " not write this manifest"
        )
    return File(
        path, entry["sha256"], entry["bytes"], source.raw_url_base + quote(entry["source_path"])
    )
