"""Where a line of a cell stands in the notebook's file, so that a problem can be opened with a
click."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
Path = tuple[str | int | None, ...]


@dataclass(frozen=True)
class Finding:
    """What is wrong, and where: the place of the cell in the notebook and of the line in the cell,
    both from 0."""

    cell: int
    line: int
    text: str


def values(text: str) -> Iterator[tuple[Path, int, str]]:
    """Yield (path, row, token) of each opening brace and each plain value of a JSON text; rows
    count from 1.

    The path of the second cell's first line of source is ("cells", 1, "source", 0).
    """
    stack: list[
        list[str | int | None]
    ] = []  # of each open container: its kind, and the key or index reached
    row, seen = 1, 0
    for match in TOKEN.finditer(text):
        token = match.group()
        row, seen = row + text.count("\n", seen, match.start()), match.start()
        if token in "{[":
            yield tuple(key for _, key in stack), row, token
            stack.append([token, None if token == "{" else 0])
        elif token in "}]":
            stack.pop()
        elif token == ",":
            stack[-1][1] = None if stack[-1][0] == "{" else int(stack[-1][1] or 0) + 1
        elif token != ":":
            if stack and stack[-1] == ["{", None]:
                stack[-1][1] = json.loads(token)
            else:
                yield tuple(key for _, key in stack), row, token


def source_rows(text: str) -> list[list[int]]:
    """Return, for each cell of a notebook's file, the row in the file of each line of its source.

    It does not matter whether the source is stored line by line or as one string. An empty cell has
    the one row at which it opens.
    """
    opened: list[int] = []
    rows: list[list[int]] = []
    ended = True  # did the last piece of source end its line?
    for path, row, token in values(text):
        if path[:1] == ("cells",) and len(path) == 2 and token == "{":
            opened.append(row)
            rows.append([])
            ended = True
        elif path[:1] == ("cells",) and path[2:3] == ("source",) and token.startswith('"'):
            for piece in json.loads(token).splitlines(keepends=True):
                if ended:
                    rows[-1].append(row)
                ended = piece.endswith("\n")
    return [found or [start] for found, start in zip(rows, opened, strict=True)]


def line_of(text: str, cell: int, row: int = 0) -> int:
    """Return the row in a notebook's file, from 1, of line `row` of cell number `cell`; both count
    from 0.

    Where cell or row does not exist, the last one before it that does is named.
    """
    cells = source_rows(text)
    rows = cells[min(cell, len(cells) - 1)] if cells else [1]
    return rows[min(row, len(rows) - 1)]


def located(findings: Iterable[Finding], text: str, name: str) -> list[str]:
    """Return each finding as a line "file:row: cell n: what", given the text of the notebook's
    file."""
    return [f"{name}:{line_of(text, f.cell, f.line)}: cell {f.cell}: {f.text}" for f in findings]
