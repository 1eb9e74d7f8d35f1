"""Where a line of a cell stands in the notebook's file, so that a problem opens with a click."""

import json
from functools import lru_cache
from json.decoder import scanstring
from json.scanner import py_make_scanner


class Placed(str):
    """A text of a JSON file that knows the row, from 1, in which it stands there."""

    row: int


def read_placed(text: str) -> dict:
    """Read a JSON text; its texts know their rows."""

    def placed(source: str, start: int, strict: bool = True) -> tuple[Placed, int]:
        plain, end = scanstring(source, start, strict)
        value = Placed(plain)
        value.row = source.count("\n", 0, start) + 1
        return value, end

    decoder = json.JSONDecoder()
    decoder.parse_string = placed
    decoder.scan_once = py_make_scanner(decoder)  # the one in Python asks parse_string
    return decoder.decode(text)


@lru_cache(maxsize=4)  # a page with many problems is read once
def source_rows(text: str) -> list[list[int]]:
    """Return, for each cell of a notebook's file, the row in the file of each line of its source.

    It does not matter whether the source is stored line by line or as one string. An empty cell has
    the one row that states its type.
    """
    all_rows = []
    for cell in read_placed(text)["cells"]:
        pieces = [cell["source"]] if isinstance(cell["source"], str) else cell["source"]
        rows = [piece.row for piece in pieces for _ in piece.splitlines()]
        all_rows.append(rows or [cell["cell_type"].row])
    return all_rows


def line_of(text: str, cell: int, row: int = 0) -> int:
    """Return the row in a notebook's file, from 1, of line `row` of cell number `cell`; both count
    from 0.

    Where cell or row does not exist, the last one before it that does is named.
    """
    cells = source_rows(text)
    rows = cells[min(cell, len(cells) - 1)] if cells else [1]
    return rows[min(row, len(rows) - 1)]
