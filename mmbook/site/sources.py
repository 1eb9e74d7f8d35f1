"""Where a fault of a built page stands in its source: the line of a Markdown file, the cell and
line of a notebook."""

import base64
import hashlib
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nbformat import NotebookNode

from mmbook.reading import Notebook, images

SUFFIXES = (".md", ".ipynb")
CELL_LINES = 10_000  # MyST-NB reports line 3 of the second cell of a notebook as line 20003
NOTEBOOK_LINE = re.compile(r"(?P<path>\S+\.ipynb):(?P<line>\d{5,})\b")


class Breach(str):
    """One line about a broken law. `clue` is what to look for in the source: an address, or the
    name of a picture."""

    clue: str

    def __new__(cls, text: str, clue: str = "") -> "Breach":
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


def spellings(clue: str) -> list[str]:
    """Return how an address of the built page may be written in its source, the most telling
    spelling first."""
    parts = urlsplit(unquote(clue))
    stem, ending, _ = parts.path.partition(".html")
    found = [clue, unquote(clue), *(f"{stem}{suffix}" for suffix in SUFFIXES if ending)]
    found += [f"#{parts.fragment}" if parts.fragment else "", parts.path, stem.rpartition("/")[2]]
    return [text for text in dict.fromkeys(found) if text.strip("./")]


def draws(cell: NotebookNode, picture: str) -> bool:
    """Tell whether an output of a cell is the picture that MyST-NB stored as `picture`: it is named
    by its sha256."""
    stored = images(cell) if cell.cell_type == "code" else ()
    return Path(picture).stem in {
        hashlib.sha256(
            content.encode() if kind == "image/svg+xml" else base64.b64decode(content)
        ).hexdigest()
        for kind, content in stored
    }


def find(page: str, clue: str, root: Path) -> str | None:
    """Return where `clue` stands in the source of `page` (a name without ending): "book/a.ipynb,
    cell 2, line 1".

    Only the file's name where the clue cannot be found in it; None where the page has no source of
    its own.
    """
    source = next((p for suffix in SUFFIXES if (p := root / f"{page}{suffix}").is_file()), None)
    if source is None:
        return None
    name = source.relative_to(root).as_posix()
    if source.suffix == ".md":
        texts = {f"{name}:": source.read_text(encoding="utf-8")}
    else:
        numbered = enumerate(Notebook.read(source).nb.cells, 1)
        cells = {f"{name}, cell {n} (id {cell.get('id', '?')}), ": cell for n, cell in numbered}
        for place, cell in cells.items():
            if draws(cell, clue):
                return f"{place}its output"
        texts = {f"{place}line ": cell.source for place, cell in cells.items()}
    places = (
        f"{place}{number}"
        for word in spellings(clue)
        for place, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if word in line
    )
    return next(places, name)
