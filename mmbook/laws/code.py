"""Laws about code on a page: a cell is read, not skimmed, and its lines fit their column."""

from __future__ import annotations

from mmbook.reading import ROOT, Finding, Notebook, tags

MAX_LINES, MAX_WIDTH = 25, 80
# Notebooks that still have longer lines, one a line. The list only shrinks: chapter by chapter.
WIDE = ROOT / "mmbook" / "laws" / "wide_notebooks.txt"


def short_cells(page: Notebook) -> list[Finding]:
    """A code cell has at most 25 lines."""
    counts = ((place, len(cell.source.splitlines())) for place, cell in page.cells("code"))
    return [
        Finding(f"{count} lines of code, at most {MAX_LINES}", place, MAX_LINES)
        for place, count in counts
        if count > MAX_LINES
    ]


def long_lines(page: Notebook) -> list[Finding]:
    """Return each line of code of more than 80 characters that a reader sees."""
    return [
        Finding(f"a line of {len(line)} characters, at most {MAX_WIDTH}: break it", place, row)
        for place, cell in page.cells("code")
        if "remove-cell" not in tags(cell)
        for row, line in enumerate(cell.source.splitlines())
        if len(line) > MAX_WIDTH
    ]


def wide_notebooks() -> list[str]:
    """Return the names of the notebooks that may still have longer lines."""
    return WIDE.read_text(encoding="utf-8").split()


def short_lines(page: Notebook) -> list[Finding]:
    """A line of code has at most 80 characters. Notebooks on the list of exceptions wait for their
    turn; one that has none left goes off the list."""
    wide = long_lines(page)
    if page.name not in wide_notebooks():
        return wide
    clean = f"no line is too long any more: take it off {WIDE.relative_to(ROOT)}"
    return [] if wide else [Finding(clean)]
