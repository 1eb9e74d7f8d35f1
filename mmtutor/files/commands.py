"""What `mmtutor data list | get | verify` do: each prints for a person; `mmtutor.cli` calls
them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmtutor.files import catalogue, store


def list_sets() -> str:
    """Return a table of all sets: name, samples, size, commercial use, where it is on this machine,
    licence."""
    header = ("name", "samples", "MB", "commercial", "present", "licence")
    rows = [header]
    for name in store.names():
        data = store.facts(name)
        licence = data["licence"] if len(data["licence"]) <= 48 else data["licence"][:47] + "…"
        rows.append(
            (
                name,
                str(data["n"]),
                f"{data['bytes'] / 1e6:.1f}",
                catalogue.commercial(data),
                presence(name),
                licence,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def presence(name: str) -> str:
    """Say where a set lies, by its files' sizes: "MMTUTOR_DATA" or "cache" (or "…, incomplete"),
    "no", "unreadable"."""
    try:
        folder = store.locate(name)
    except store.DatasetUnavailable:
        return "unreadable"
    if folder is None:
        begun = any(path.is_file() for path in (store.cache_root() / name / "partial").rglob("*"))
        return "no (download begun)" if begun else "no"
    mirror = store.mirror_root()
    place = "MMTUTOR_DATA" if mirror is not None and folder.is_relative_to(mirror) else "cache"
    paths = ((folder / entry["path"], entry["bytes"]) for entry in store.manifest(name)["files"])
    complete = all(path.is_file() and path.stat().st_size == size for path, size in paths)
    return place if complete else f"{place}, incomplete"


def get(name: str, accept_licence: bool = False) -> int:
    """Make sure that a set is on this machine, downloading or mending it; print where and its
    terms; return 0.

    Raises what `store.fetch` raises; the command line prints that and ends with another status.
    """
    folder = store.fetch(name, accept_licence, repair=True)
    data = store.facts(name)
    print(f"{name}: {data['n_files']} files, {data['bytes'] / 1e6:.1f} MB, verified, in {folder}")
    print(f"licence: {data['licence']}\ncite: {data['citation']}")
    return 0


def verify(names: Sequence[str] = ()) -> int:
    """Hash every file of the named sets, or of all that are here; print a line each; return 0 if
    all match, else 1.

    Raises UnknownDataset before anything is hashed.
    """
    for name in names:
        store.manifest(name)
    chosen = list(names) or [name for name in store.names() if store.locate(name) is not None]
    if not chosen:
        print(
            "no data set is on this machine; `mmtutor data list` shows what there is",
            file=sys.stderr,
        )
        return 1
    status = 0
    for name in chosen:
        try:
            print(f"{name}: every file matches, in {store.verify(name, progress=True)}")
        except (store.DatasetUnavailable, store.DatasetCorrupt) as error:
            print(error, file=sys.stderr)
            status = 1
    return status
