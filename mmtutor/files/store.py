"""Where real data sets come from: $MMTUTOR_DATA, then the user's cache, then their source; every
file verified.

Importing this module needs the standard library only. `cache_root` is the one place that reads
MMTUTOR_CACHE.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mmtutor.files import catalogue, checking
from mmtutor.files.card import card_markdown
from mmtutor.files.catalogue import (
    DatasetCorrupt,
    DatasetUnavailable,
    UnknownDataset,
    facts,
    manifest,
    names,
    unavailable,
)
from mmtutor.files.roots import cache_root, mirror_root

__all__ = [
    "DatasetCorrupt",
    "DatasetUnavailable",
    "UnknownDataset",
    "cache_root",
    "card_markdown",
    "facts",
    "fetch",
    "find",
    "locate",
    "manifest",
    "mirror_root",
    "names",
    "verify",
]


def locate(name: str) -> Path | None:
    """Return the folder <root>/<name>/files of a set that is on this machine, unverified, or None.

    The mirror comes first, then the cache. Raises UnknownDataset, DatasetUnavailable where one may
    not be looked into.
    """
    manifest(name)
    for variable, root in (("MMTUTOR_DATA", mirror_root()), ("MMTUTOR_CACHE", cache_root())):
        try:
            if root is not None and (root / name / "files").is_dir():
                return root / name / "files"
        except OSError as error:
            advice = f"check its permissions, or set {variable} to another folder"
            raise unavailable(
                name, f"cannot look into {root} ({error.strerror}): {advice}"
            ) from error
    return None


def find(name: str) -> Path:
    """Return the folder of a set that is on this machine, each file verified; never touches the
    network.

    Raises UnknownDataset, DatasetUnavailable (not here), DatasetCorrupt (naming the file that is
    missing or differs).
    """
    folder = locate(name)
    if folder is None:
        raise _absent(name)
    checking.check(manifest(name), folder, cache_root() / "verified", _advice(name, folder))
    return folder


def fetch(name: str, accept_licence: bool = False, repair: bool = False) -> Path:
    """Return the folder of a set, each file verified; download it into the cache where this machine
    lacks it.

    A set whose commercial use is not plainly allowed is downloaded only with consent:
    `accept_licence=True`, its name in MMTUTOR_ACCEPT_LICENCE (comma-separated), or a "y" at the
    terminal. With `repair`, files of the cached copy that are missing or differ are fetched again;
    without, they raise.
    Raises UnknownDataset, DatasetUnavailable (its `.reason` says why), DatasetCorrupt (naming the
    file).
    """
    if locate(name) is not None:
        try:
            return find(name)
        except DatasetCorrupt:
            if not repair or _in_mirror(name):
                raise
    _require_consent(name, accept_licence)
    from mmtutor.files.download import download  # pooch and requests only where they are needed

    download(name, cache_root() / name / "files")
    return find(name)


def verify(name: str, progress: bool = False) -> Path:
    """Hash every file of a set that is on this machine, whatever was verified before, and return
    its folder.

    Raises DatasetUnavailable, or DatasetCorrupt with one line for each file that is missing or
    differs.
    """
    folder = locate(name)
    if folder is None:
        raise _absent(name)
    checking.assert_inside(manifest(name), folder)
    wrong = list(checking.problems(manifest(name), folder, progress))
    if wrong:
        raise DatasetCorrupt(
            f"data set {name!r} in {folder} is refused:\n  "
            + "\n  ".join([*wrong, _advice(name, folder)])
        )
    return folder


def _absent(name: str) -> DatasetUnavailable:
    """Return the error for a set that was looked for on this machine only, saying where."""
    reason = "it is not on this machine"
    looked = ", ".join(
        str(root / name / "files") for root in (mirror_root(), cache_root()) if root is not None
    )
    return DatasetUnavailable(f"{unavailable(name, reason)}\n  looked in: {looked}", reason)


def _in_mirror(name: str) -> bool:
    """Return whether `find` takes the set from MMTUTOR_DATA, which is not ours to mend."""
    root = mirror_root()
    return root is not None and locate(name) == root / name / "files"


def _advice(name: str, folder: Path) -> str:
    """Say what to do about a copy that differs from the manifest."""
    if _in_mirror(name):
        return "Renew this copy, or unset MMTUTOR_DATA to use a downloaded one."
    option = "" if manifest(name)["commercial_use"] is True else " --accept-licence"
    return f"Run `mmtutor data get {name}{option}` to fetch that file again, or delete {folder}."


def _require_consent(name: str, accept_licence: bool) -> None:
    """Return when the licence of a set is free or accepted; ask at a terminal; else raise
    DatasetUnavailable."""
    accepted = {part.strip() for part in os.environ.get("MMTUTOR_ACCEPT_LICENCE", "").split(",")}
    data = manifest(name)
    if data["commercial_use"] is True or accept_licence or name in accepted:
        return
    if not _interactive():
        raise unavailable(
            name,
            "its licence asks for your consent before it is downloaded (or set"
            f" MMTUTOR_ACCEPT_LICENCE={name})",
        )
    print(
        f"{data['title']}\n  licence:  {data['licence']} (commercial use:"
        f" {catalogue.commercial(data)})\n  size:     {catalogue.total_bytes(data) / 1e6:.1f} MB in"
        f" {len(data['files'])} files\n  source:  "
        f" {', '.join(source['raw_url_base'] for source in data['sources'])}\n  citation:"
        f" {data['citation']}\n  note:     {data['notes']}"
    )
    if input("Download it under these terms? [y/N] ").strip().lower() not in ("y", "yes"):
        raise unavailable(name, "its licence was not accepted")


def _interactive() -> bool:
    """Return whether a person sits at this terminal and can be asked."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
