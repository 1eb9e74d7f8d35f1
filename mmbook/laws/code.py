"""A law about code on a page: a cell is read, not skimmed. Its width is ruff's (book/ruff.toml)."""

from __future__ import annotations

from mmbook.reading import Finding, Notebook

MAX_LINES = 25


def short_cells(page: Notebook) -> list[Finding]:
    """A code cell has at most 25 lines."""
    counts = ((place, len(cell.source.splitlines())) for place, cell in page.cells("code"))
    return [
        Finding(f"{count} lines of code, at most {MAX_LINES}", place, MAX_LINES)
        for place, count in counts
        if count > MAX_LINES
    ]
