"""Where a fault of a built page stands in its source: the line of a Markdown file, the cell and
line of a notebook."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

SUFFIXES = (".md", ".ipynb")
CELL_LINES = 10_000  # MyST-NB reports line 3 of the second cell of a notebook as line 20003
NOTEBOOK_LINE = re.compile(r"(?P<path>\S+\.ipynb):(?P<line>\d{5,})\b")


class Breach(str):
    """One line about a broken law. `clue` is what to look for in the source: an address, or the
    name of a picture."""

    clue: str

    def __new__(cls, text: str, clue: str = "") -> Breach:
        """Make the line, with its clue."""
        line = super().__new__(cls, text)
        line.clue = clue
        return line


def readable_places(text: str) -> str:
    """Say "cell 2, line 3" where MyST-NB wrote ":20003" behind the name of a notebook."""

    def place(match: re.Match[str]) -> str:
        cell, line = divmod(int(match["line"]), CELL_LINES)
        return f"{match['path']}, cell {cell}, line {line}"

    return NOTEBOOK_LINE.sub(place, text)


def cells(path: Path) -> Iterator[tuple[int, str, dict]]:
    """Yield (number from 1, source, cell) of a notebook."""
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"], 1):
        source = cell["source"]
        yield number, source if isinstance(source, str) else "".join(source), cell


def spellings(clue: str) -> list[str]:
    """Return how an address of the built page may be written in its source, the most telling
    spelling first."""
    parts = urlsplit(unquote(clue))
    path = parts.path
    stem = path.removesuffix(".html")
    found = [clue, unquote(clue)]
    if path.endswith(".html"):
        found += [f"{stem}{suffix}" for suffix in SUFFIXES]
    found += [f"#{parts.fragment}"] if parts.fragment else []
    found += [path, stem.rpartition("/")[2]]
    return [text for text in dict.fromkeys(found) if text.strip("./")]


def line_of(text: str, words: list[str]) -> int | None:
    """Return the number, from 1, of the first line with the first of `words` that occurs at all."""
    for word in words:
        for number, line in enumerate(text.splitlines(), 1):
            if word in line:
                return number
    return None


def draws(cell: dict, picture: str) -> bool:
    """Tell whether an output of a cell is the picture that MyST-NB stored as `picture`: it is named
    by its sha256."""
    for output in cell.get("outputs", []):
        for kind, content in output.get("data", {}).items():
            if not kind.startswith("image/"):
                continue
            text = content if isinstance(content, str) else "".join(content)
            data = text.encode() if kind == "image/svg+xml" else base64.b64decode(text)
            if hashlib.sha256(data).hexdigest() == Path(picture).stem:
                return True
    return False


def find(page: str, clue: str, root: Path) -> str | None:
    """Return where `clue` stands in the source of `page` (a name without ending): "book/a.ipynb,
    cell 2, line 1".

    Only the file's name where the clue cannot be found in it; None where the page has no source of
    its own.
    """
    source = next(
        (root / f"{page}{suffix}" for suffix in SUFFIXES if (root / f"{page}{suffix}").is_file()),
        None,
    )
    if source is None:
        return None
    name = source.relative_to(root).as_posix()
    words = spellings(clue) if clue else []
    if source.suffix == ".md":
        line = line_of(source.read_text(encoding="utf-8"), words)
        return f"{name}:{line}" if line else name
    for number, _, cell in cells(source):
        if clue and draws(cell, clue):
            return f"{name}, cell {number} (id {cell.get('id', '?')}), its output"
    for word in words:
        for number, text, cell in cells(source):
            if line := line_of(text, [word]):
                return f"{name}, cell {number} (id {cell.get('id', '?')}), line {line}"
    return name
