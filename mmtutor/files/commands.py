"""What `mmtutor data list | get | verify` do: each prints for a person; `mmtutor.cli` calls them.

Taught in chapter 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmtutor.files import store
from mmtutor.files.manifest import DatasetCorrupt, DatasetUnavailable, Manifest, manifest, names

_WIDEST_LICENCE = 48


def list_sets() -> str:
    """Return a table of all sets: name, samples, size, commercial use, where it is on this machine,
    licence."""
    rows: list[tuple[str, ...]] = [("name", "samples", "MB", "commercial", "present", "licence")]
    for data in map(manifest, names()):
        short = data.licence[: _WIDEST_LICENCE - 1] + "…"
        licence = data.licence if len(data.licence) <= _WIDEST_LICENCE else short
        size = f"{data.total_bytes / 1e6:.1f}"
        rows.append((data.name, str(data.n), size, data.commercial, presence(data), licence))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    aligned = ([cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


def presence(data: Manifest) -> str:
    """Say where a set lies, by its files' sizes: "MMTUTOR_DATA" or "cache" (or "…, incomplete"),
    "no", "unreadable"."""
    try:
        folder = store.locate(data)
    except DatasetUnavailable:
        return "unreadable"
    if folder is None:
        partial = store.cache_root() / data.name / "partial"
        begun = any(path.is_file() for path in partial.rglob("*"))
        return "no (download begun)" if begun else "no"
    place = "MMTUTOR_DATA" if store.in_mirror(folder) else "cache"
    paths = ((folder / file.path, file.bytes) for file in data.files)
    complete = all(path.is_file() and path.stat().st_size == size for path, size in paths)
    return place if complete else f"{place}, incomplete"


def get(name: str, accept_licence: bool = False) -> int:
    """Make sure that a set is on this machine, downloading or mending it; print where and its
    terms; return 0.

    Raises UnknownDataset and what `store.fetch` raises; the command line prints that and ends with
    another status.
    """
    data = manifest(name)
    folder = store.fetch(data, accept_licence, repair=True)
    megabytes = data.total_bytes / 1e6
    print(f"{name}: {len(data.files)} files, {megabytes:.1f} MB, verified, in {folder}")
    print(f"licence: {data.licence}\ncite: {data.citation}")
    return 0


def verify(chosen: Sequence[str] = ()) -> int:
    """Hash every file of the named sets, or of all that are here; print a line each; return 0 if
    all match, else 1.

    Raises UnknownDataset before anything is hashed.
    """
    sets = [manifest(name) for name in chosen]
    sets = sets or [data for data in map(manifest, names()) if store.locate(data) is not None]
    if not sets:
        print(
            "no data set is on this machine; `mmtutor data list` shows what there is",
            file=sys.stderr,
        )
        return 1
    status = 0
    for data in sets:
        try:
            print(f"{data.name}: every file matches, in {store.verify(data, progress=True)}")
        except (DatasetUnavailable, DatasetCorrupt) as error:
            print(error, file=sys.stderr)
            status = 1
    return status
