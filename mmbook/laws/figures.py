"""Laws about figures: each says in words what it shows, and the data behind it is asserted."""

from __future__ import annotations

import ast
import re

import nbformat
from nbformat import NotebookNode

from mmbook.laws.cells import called_name, images, numbered, texts, tree
from mmbook.laws.lines import Finding, located

MIN_WORDS = 5
FILE_NAME = re.compile(r"\.(?:png|jpe?g|svg|gif|webp)\s*$|^[\w./-]+_files/", re.IGNORECASE)
MARKDOWN_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]*)\)")
HTML_IMAGE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
HTML_ALT = re.compile(r"\balt\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
DIRECTIVE = re.compile(r"^(`{3,}|:{3,})\{(?:figure|image)\}(.*?)^\1", re.MULTILINE | re.DOTALL)
DIRECTIVE_ALT = re.compile(r"^:alt:\s*(.*)$", re.MULTILINE)


def alt_problem(text: str | None) -> str | None:
    """Say what is wrong with an alternative text, or return None."""
    if not text or not text.strip():
        return "has no alternative text"
    if FILE_NAME.search(text.strip()):
        return f"has a file name as alternative text ({text.strip()!r})"
    if len(re.findall(r"\w+", text)) < MIN_WORDS:
        return f"has too short an alternative text ({text.strip()!r}): say what the figure shows"
    return None


def _html_alt(tag: str) -> str | None:
    match = HTML_ALT.search(tag)
    return (match.group(1) or match.group(2)) if match else None


def markdown_alts(source: str) -> list[tuple[int, str | None]]:
    """Return (line, alternative text or None) of each picture that a markdown text shows."""
    found: list[tuple[int, str | None]] = [
        (m.start(), m.group(1)) for m in MARKDOWN_IMAGE.finditer(source)
    ]
    found += [(match.start(), _html_alt(match.group())) for match in HTML_IMAGE.finditer(source)]
    for match in DIRECTIVE.finditer(source):
        stated = DIRECTIVE_ALT.search(match.group(2))
        found.append((match.start(), stated.group(1) if stated else None))
    return [(source.count("\n", 0, start), alt) for start, alt in found]


def alt_findings(nb: NotebookNode) -> list[Finding]:
    """Every picture has an alternative text of at least five words that is not a file name.

    For a picture that a cell outputs it stands in the cell's metadata, mystnb.image.alt. That is
    one text for the whole cell, so a cell outputs one picture.
    """
    found: list[Finding] = []
    for place, cell in enumerate(nb.cells):
        alts: list[tuple[int, str | None]] = []
        if cell.cell_type == "markdown":
            alts = markdown_alts(cell.source)
        elif cell.cell_type == "code":
            alts = [
                (0, _html_alt(tag))
                for o in cell.outputs
                for t in texts(o)
                for tag in HTML_IMAGE.findall(t)
            ]
            pictures = images(cell)
            if pictures:
                alts.append((0, cell.metadata.get("mystnb", {}).get("image", {}).get("alt")))
            if len(pictures) > 1:
                found.append(
                    Finding(
                        place, 0, f"{len(pictures)} pictures share one alternative text: split it"
                    )
                )
        found += [
            Finding(place, line, f"a picture {wrong}")
            for line, alt in alts
            if (wrong := alt_problem(alt))
        ]
    return found


def alternative_text(nb: NotebookNode, name: str) -> list[str]:
    """Every picture says in words what it shows."""
    return located(alt_findings(nb), nbformat.writes(nb), name)


def asserts(cell: NotebookNode) -> bool:
    """Return whether a code cell asserts something that can fail: `assert` on more than a constant,
    or assert_…()."""
    return any(
        (isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant))
        or called_name(node).startswith("assert_")
        for node in ast.walk(tree(cell))
    )


def data_asserted(nb: NotebookNode, name: str) -> list[str]:
    """A cell that outputs a picture asserts the data it draws, itself or in the next code cell.

    Pictures are not compared between runs; the assertion is what notices that a figure shows
    something else.
    """
    code = list(numbered(nb, "code"))
    problems = []
    for index, (place, cell) in enumerate(code):
        following = [c for _, c in code[index : index + 2]]
        if images(cell) and not any(asserts(c) for c in following):
            problems.append(
                f"{name}: cell {place}: draws a picture, but no assertion checks the data it shows"
            )
    return problems
