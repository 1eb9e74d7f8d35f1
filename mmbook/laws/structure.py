"""Laws about a notebook's form: title, parts of a lesson, folds, length of cells, metadata, cost.

The law about cost reads the stored measurement, never a clock: a slow machine fails nothing. The
width of code is ruff's (book/ruff.toml).
"""

import json
import re
from collections.abc import Iterator
from numbers import Real

from mmbook.execution import cost_text
from mmbook.laws.outputs import MACHINE_PATH
from mmbook.reading import Finding, Notebook, code_blanked, found, headings, tags

TITLE = re.compile(r"\s*(?:\(\S+\)=\s*)?# \S")
TOUCHING = re.compile(r"</summary>[ \t]*\n?[ \t]*[^\s<]|[^\s>][ \t]*\n[ \t]*</details>")
MAX_LINES = 25  # of a code cell
LIMITS = {"seconds": (60, "s"), "memory_mb": (2048, "MB")}
NEAR_TOP = 6  # among the first cells: title, picture, objectives may come before
REMEDY = "run `make notebooks`"
VOLATILE = ("execution", "ExecuteTime", "widgets", "colab", "vscode", "pycharm", "papermill")


def title_first(page: Notebook) -> Iterator[Finding]:
    """The first cell opens with the title, and there is one title only."""
    if not any(n == 0 and TITLE.match(cell.source) for n, cell in page.cells("markdown")):
        yield Finding("the first cell does not begin with a title (# …)", 0)
        return
    titles = [line for line, _ in headings(page.nb) if line.level == 1]
    yield from (Finding("a second title", line.cell, line.row) for line in titles[1:])


def folded_answers(page: Notebook) -> Iterator[Finding]:
    """Text folded into <details> stands between blank lines: else it is raw HTML, its *marks*
    unread, its edge bare."""
    for place, cell in page.cells("markdown"):
        bare = code_blanked(cell.source)
        yield from (
            Finding(
                "a blank line is missing after </summary> or before </details>",
                place,
                bare.count("\n", 0, match.start()),
            )
            for match in TOUCHING.finditer(bare)
        )


def lesson_sections(page: Notebook) -> list[Finding]:
    """A lesson has objectives, a quiz and take-aways, each under its heading."""
    words = page.words
    below = [text.casefold() for line, text in headings(page.nb) if line.level > 1]
    return [
        Finding(f"no section {section!r}")
        for section in (words.objectives, words.quiz, words.take_aways)
        if not any(text.startswith(section.casefold()) for text in below)
    ]


def clean_metadata(page: Notebook) -> Iterator[Finding]:
    """The kernel is python3, and no metadata tells of the machine or the moment of the run."""
    kernel = page.nb.metadata.get("kernelspec", {}).get("name")
    if kernel != "python3":
        yield Finding(f"the kernel is {kernel!r}, expected 'python3'")
    inner = [
        (place, part.get("metadata", {}))
        for place, cell in enumerate(page.nb.cells)
        for part in (cell, *cell.get("outputs", []))
    ]
    for place, metadata in [(None, page.nb.metadata), *inner]:
        faults = {f"metadata {key!r} changes from run to run": key in metadata for key in VOLATILE}
        faults["metadata holds a path of the author's machine"] = MACHINE_PATH.search(
            json.dumps(metadata).replace("\\\\", "\\")
        )
        yield from found(faults, place)


def short_cells(page: Notebook) -> list[Finding]:
    """A code cell has at most 25 lines."""
    return [
        Finding(f"{count} lines of code, at most {MAX_LINES}", place, MAX_LINES)
        for place, cell in page.cells("code")
        if (count := len(cell.source.splitlines())) > MAX_LINES
    ]


def cost_stated(page: Notebook) -> Iterator[Finding]:
    """Seconds (≤ 120) and memory (≤ 2048 MB) are measured; the one cell tagged "cost", near the
    top, says just that."""
    for key, (limit, unit) in LIMITS.items():
        value = page.own.get(key)
        if not isinstance(value, Real) or isinstance(value, bool) or value <= 0:
            yield Finding(f"metadata mmtutor.{key} holds no measurement ({value!r}): {REMEDY}")
        elif value > limit:
            yield Finding(f"takes {value:g} {unit}, the limit is {limit} {unit}")
    tagged = [(place, cell) for place, cell in enumerate(page.nb.cells) if "cost" in tags(cell)]
    if len(tagged) != 1:
        yield Finding(f"{len(tagged)} cells are tagged cost, expected one")
        return
    ((place, cell),) = tagged
    measured = set(LIMITS) <= set(page.own)
    yield from found(
        {
            f"the cost stands too far down: among the first {NEAR_TOP} cells": place >= NEAR_TOP,
            f"the cost stated is not the cost measured: {REMEDY}": (
                cell.cell_type != "markdown"
                or (measured and cell.source.strip() != cost_text(page.own))
            ),
        },
        place,
    )
