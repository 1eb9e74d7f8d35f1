"""Laws about a notebook's form: title, parts of a lesson, folds, metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from mmbook.laws.outputs import MACHINE_PATH
from mmbook.reading import Finding, Notebook, code_blanked, headings

TITLE = re.compile(r"\s*(?:\(\S+\)=\s*)?# \S")
TOUCHING = re.compile(r"</summary>[ \t]*\n?[ \t]*[^\s<]|[^\s>][ \t]*\n[ \t]*</details>")
VOLATILE = ("execution", "ExecuteTime", "widgets", "colab", "vscode", "pycharm", "papermill")


def title_first(page: Notebook) -> Iterator[Finding]:
    """The first cell opens with the title, and there is one title only."""
    first = page.nb.cells[0] if page.nb.cells else None
    if first is None or first.cell_type != "markdown" or not TITLE.match(first.source):
        yield Finding("the first cell does not begin with a title (# …)", 0)
        return
    titles = [line for line, _ in headings(page.nb) if line.level == 1]
    yield from (Finding("a second title", line.cell, line.row) for line in titles[1:])


def folded_answers(page: Notebook) -> Iterator[Finding]:
    """Text folded into <details> stands between blank lines: else it is raw HTML, its *marks*
    unread, its edge bare."""
    for place, cell in page.cells("markdown"):
        bare = code_blanked(cell.source)
        for match in TOUCHING.finditer(bare):
            text = "a blank line is missing after </summary> or before </details>"
            yield Finding(text, place, bare.count("\n", 0, match.start()))


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
    places = [(None, page.nb.metadata)]
    for place, cell in enumerate(page.nb.cells):
        outputs = cell.get("outputs", [])
        places += [(place, part.get("metadata", {})) for part in (cell, *outputs)]
    for place, metadata in places:
        for key in VOLATILE:
            if key in metadata:
                yield Finding(f"metadata {key!r} changes from run to run", place)
        if MACHINE_PATH.search(json.dumps(metadata).replace("\\\\", "\\")):
            yield Finding("metadata holds a path of the author's machine", place)
