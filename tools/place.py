"""Where something stands in a notebook's file: the line that an editor shows, found without a notebook library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_DECODER = json.JSONDecoder()
_FILLING = re.compile(r"[\s,:]*")


def _skip(text: str, at: int) -> int:
    """Return the place of the next JSON value at or after `at`."""
    return _FILLING.match(text, at).end()


def _entries(text: str, at: int) -> Iterator[tuple[str, int]]:
    """Yield (key, place of its value) of the JSON object that opens at `at`."""
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        yield key, at
        at = _skip(text, _DECODER.raw_decode(text, at)[1])


def _items(text: str, at: int) -> Iterator[int]:
    """Yield the place of each item of the JSON array that opens at `at`."""
    at = _skip(text, at + 1)
    while text[at] != "]":
        yield at
        at = _skip(text, _DECODER.raw_decode(text, at)[1])


def line_of(text: str, cell: int, row: int = 0) -> int:
    """Return the line of a notebook's file, counting from 1, that holds line `row` of the source of cell number `cell`.

    text: the .ipynb file as it lies on the disk. Both numbers count from 0. A source kept as one string stands on one
    line. Where cell or row does not exist, the last line before it that does is named.
    """
    top = dict(_entries(text, _skip(text, 0)))
    at = top.get("cells", 0)
    cells = list(_items(text, at)) if "cells" in top else []
    if cells:
        at = cells[min(cell, len(cells) - 1)]
        at = dict(_entries(text, at)).get("source", at)
        rows = list(_items(text, at)) if text[at] == "[" else [at]
        at = rows[min(row, len(rows) - 1)] if rows else at
    return text.count("\n", 0, at) + 1
