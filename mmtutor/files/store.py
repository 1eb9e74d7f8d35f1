"""Where real data sets come from: $MMTUTOR_DATA, then the user's cache, then their source; every
file verified.

`manifest(name)` looks a set up; the functions here take what it returns. Importing this module
needs the standard library only. Taught in chapter 1.
"""

import os
import sys
from itertools import islice
from pathlib import Path

from mmtutor.files import checking
from mmtutor.files.manifest import (
    DatasetCorrupt,
    DatasetUnavailable,
    Manifest,
    UnknownDataset,
    manifest,
    names,
)
from mmtutor.files.roots import cache_root, mirror_root

__all__ = [
    "DatasetCorrupt",
    "DatasetUnavailable",
    "Manifest",
    "UnknownDataset",
    "cache_root",
    "fetch",
    "fetched",
    "find",
    "in_mirror",
    "locate",
    "manifest",
    "mirror_root",
    "names",
]


def locate(data: Manifest) -> Path | None:
    """Return the folder <root>/<name>/files of a set that is on this machine, unverified, or None.

    The mirror comes first, then the cache. Raises DatasetUnavailable where one may not be looked
    into.
    """
    for variable, root in (("MMTUTOR_DATA", mirror_root()), ("MMTUTOR_CACHE", cache_root())):
        try:
            if variable == "MMTUTOR_DATA" and root is not None:
                root.stat()  # a name that was mistyped is told, not passed over
            if root is not None and (root / data.name / "files").is_dir():
                return root / data.name / "files"
        except OSError as error:
            raise data.unavailable(
                f"cannot look into {root} ({error.strerror}): check name and permissions, or set"
                f" {variable} to another folder"
            ) from error
    return None


def in_mirror(folder: Path) -> bool:
    """Return whether a set's folder lies in MMTUTOR_DATA, which is not ours to mend."""
    return (root := mirror_root()) is not None and folder.is_relative_to(root)


def find(data: Manifest, every: bool = False) -> Path:
    """Return the folder of a set that is on this machine, each file verified; never touches the
    network.

    Raises DatasetUnavailable (not here), DatasetCorrupt naming the first file that is missing or
    differs; with `every`, all of them, and a progress bar shows how far the check is.
    """
    if (folder := locate(data)) is None:
        raise data.unavailable("it is not on this machine")
    checking.assert_inside(data, folder)
    problems = checking.problems(data, folder, progress=every)
    if wrong := list(problems if every else islice(problems, 1)):
        advice = (
            "Renew this copy, or unset MMTUTOR_DATA to use a downloaded one."
            if in_mirror(folder)
            else f"Run `{data.get_command}` to fetch that file again, or delete {folder}."
        )
        raise DatasetCorrupt("\n  ".join([f"data set {data.name!r} is refused:", *wrong, advice]))
    return folder


def fetch(data: Manifest, accept_licence: bool = False, repair: bool = False) -> Path:
    """Return the folder of a set, each file verified; download it into the cache where this machine
    lacks it.

    A set whose commercial use is not plainly allowed is downloaded only with consent:
    `accept_licence=True`, its name in MMTUTOR_ACCEPT_LICENCE (comma-separated), or a "y" at the
    terminal. With `repair`, files of the cached copy that are missing or differ are fetched again;
    without, they raise.
    Raises DatasetUnavailable (its `.reason` says why), DatasetCorrupt (naming the file).
    """
    folder = locate(data)
    if folder is not None:
        try:
            return find(data)
        except DatasetCorrupt:
            if not repair or in_mirror(folder):
                raise
    _require_consent(data, accept_licence)
    from mmtutor.files.download import download  # pooch and requests only where they are needed

    download(data, cache_root() / data.name / "files")
    return find(data)


def fetched(name: str, accept_licence: bool = False) -> tuple[Manifest, Path]:
    """Return what the manifest of a set says and its folder, as `fetch`; UnknownDataset for
    another name."""
    data = manifest(name)
    return data, fetch(data, accept_licence)


def _require_consent(data: Manifest, accept_licence: bool) -> None:
    """Return when the licence of a set is free or accepted; ask at a terminal; else raise
    DatasetUnavailable."""
    accepted = {part.strip() for part in os.environ.get("MMTUTOR_ACCEPT_LICENCE", "").split(",")}
    if data.commercial_use is True or accept_licence or data.name in accepted:
        return
    if not _interactive():
        raise data.unavailable(
            "its licence asks for your consent before it is downloaded: pass accept_licence=True"
            " (in a notebook of the book, write ACCEPT = True in its first cell; or set"
            f" MMTUTOR_ACCEPT_LICENCE={data.name})"
        )
    print(f"{data.terms}\n  note:     {data.notes}")
    if input("Download it under these terms? [y/N] ").strip().lower() not in ("y", "yes"):
        raise data.unavailable("its licence was not accepted")


def _interactive() -> bool:
    """Return whether a person sits at this terminal and can be asked."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
