"""Laws about a notebook's form: title, parts of a lesson, length of cells, metadata."""

from __future__ import annotations

import json
import re

import nbformat
from nbformat import NotebookNode

from mmbook.laws.cells import numbered
from mmbook.laws.lines import Finding, located
from mmbook.laws.outputs import MACHINE_PATH
from mmbook.laws.prose import code_blanked, without_code

MAX_LINES = 25
HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*$", re.MULTILINE)
GLUED = re.compile(r"</summary>[ \t]*\n?[ \t]*[^\s<]|[^\s>][ \t]*\n[ \t]*</details>")
SECTIONS = ("You will be able to", "Quiz", "Take-aways")
VOLATILE = ("execution", "ExecuteTime", "widgets", "colab", "vscode", "pycharm", "papermill")


def headings(nb: NotebookNode) -> list[tuple[int, int, str]]:
    """Return (cell, level, text) of each heading; what looks like one inside a code block is
    none."""
    return [
        (place, len(marks), text)
        for place, cell in numbered(nb, "markdown")
        for marks, text in HEADING.findall(without_code(cell.source))
    ]


def title_first(nb: NotebookNode, name: str) -> list[str]:
    """The first cell opens with the title, and there is one title only."""
    first = nb.cells[0] if nb.cells else None
    if (
        first is None
        or first.cell_type != "markdown"
        or not re.match(r"\s*(?:\(\S+\)=\s*)?# \S", first.source)
    ):
        return [f"{name}: the first cell does not begin with a title (# …)"]
    titles = [place for place, level, _ in headings(nb) if level == 1]
    return [f"{name}: cell {place}: a second title" for place in titles[1:]]


def folded_findings(nb: NotebookNode) -> list[Finding]:
    """Return each place where text folded into <details> touches the tags."""
    return [
        Finding(
            place,
            text.count("\n", 0, match.start()),
            "a blank line is missing after </summary> or before </details>",
        )
        for place, cell in numbered(nb, "markdown")
        for text in [code_blanked(cell.source)]
        for match in GLUED.finditer(text)
    ]


def folded_answers(nb: NotebookNode, name: str) -> list[str]:
    """Text folded into <details> stands between blank lines: else it is raw HTML, its *marks*
    unread, its edge bare."""
    return located(folded_findings(nb), nbformat.writes(nb), name)


def lesson_sections(nb: NotebookNode, name: str) -> list[str]:
    """A lesson has objectives ("You will be able to"), a quiz and take-aways, each under its
    heading."""
    found = [text.casefold() for _, level, text in headings(nb) if level > 1]
    return [
        f"{name}: no section {wanted!r}"
        for wanted in SECTIONS
        if not any(text.startswith(wanted.casefold()) for text in found)
    ]


def short_cells(nb: NotebookNode, name: str) -> list[str]:
    """A code cell has at most 25 lines: it is read, not skimmed."""
    problems = []
    for place, cell in numbered(nb, "code"):
        lines = len(cell.source.splitlines())
        if lines > MAX_LINES:
            problems.append(f"{name}: cell {place}: {lines} lines of code, at most {MAX_LINES}")
    return problems


def clean_metadata(nb: NotebookNode, name: str) -> list[str]:
    """The kernel is python3, and no metadata tells of the machine or the moment of the run."""
    kernel = nb.metadata.get("kernelspec", {}).get("name")
    problems = (
        [] if kernel == "python3" else [f"{name}: the kernel is {kernel!r}, expected 'python3'"]
    )
    places = [("the notebook", nb.metadata)]
    for number, cell in enumerate(nb.cells):
        places.append((f"cell {number}", cell.metadata))
        places += [
            (f"cell {number}", o.metadata) for o in cell.get("outputs", []) if "metadata" in o
        ]
    for where, metadata in places:
        problems += [
            f"{name}: {where}: metadata {key!r} changes from run to run"
            for key in VOLATILE
            if key in metadata
        ]
        if MACHINE_PATH.search(json.dumps(metadata).replace("\\\\", "\\")):
            problems.append(f"{name}: {where}: metadata holds a path of the author's machine")
    return problems
