"""Laws about figures: each says in words what it shows, and the data behind it is asserted."""

import ast
import itertools
import re
from collections.abc import Iterator

from nbformat import NotebookNode

from mmbook.reading import Finding, Notebook, called_name, count_words, holding, images, texts, tree

MIN_WORDS = 5
FILE_NAME = re.compile(r"\.(?:png|jpe?g|svg|gif|webp)\s*$|^[\w./-]+_files/", re.IGNORECASE)
MARKDOWN_IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\([^)]*\)")
HTML_IMAGE = re.compile(
    r"<img\b(?:[^>]*?\balt\s*=\s*(?P<quote>[\"'])(?P<alt>.*?)(?P=quote))?[^>]*>",
    re.IGNORECASE | re.DOTALL,
)
DIRECTIVE = re.compile(r"^(`{3,}|:{3,})\{(?:figure|image)\}(.*?)^\1", re.MULTILINE | re.DOTALL)
DIRECTIVE_ALT = re.compile(r"^:alt:\s*(.*)$", re.MULTILINE)


def alt_problem(text: str | None) -> str | None:
    """Say what is wrong with an alternative text, or return None."""
    text = (text or "").strip()
    faults = {
        "has no alternative text": not text,
        f"has a file name as alternative text ({text!r})": FILE_NAME.search(text),
        f"has too short an alternative text ({text!r}): say what the figure shows": (
            count_words(text) < MIN_WORDS
        ),
    }
    return next(iter(holding(faults)), None)


def markdown_alts(source: str) -> list[tuple[int, str | None]]:
    """Return (row, alternative text or None) of each picture that a markdown text shows."""
    images = itertools.chain(MARKDOWN_IMAGE.finditer(source), HTML_IMAGE.finditer(source))
    alts = [(image.start(), image["alt"]) for image in images]
    alts += [
        (directive.start(), next(iter(DIRECTIVE_ALT.findall(directive[2])), None))
        for directive in DIRECTIVE.finditer(source)
    ]
    return [(source.count("\n", 0, start), alt) for start, alt in alts]


def output_alts(cell: NotebookNode) -> list[tuple[int, str | None]]:
    """Return (0, alternative text or None) of each picture that a code cell outputs.

    For drawn ones it stands in the cell's metadata, mystnb.image.alt: one text for all of them.
    """
    stated = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
    shown = (text for output in cell.outputs for text in texts(output))
    tagged = (image["alt"] for text in shown for image in HTML_IMAGE.finditer(text))
    return [(0, alt) for alt in (*tagged, *([stated] if images(cell) else []))]


def alternative_text(page: Notebook) -> Iterator[Finding]:
    """Every picture has an alternative text of at least five words that is not a file name, and a
    cell outputs one picture, since it has one text."""
    alts = [(n, *alt) for n, cell in page.cells("code") for alt in output_alts(cell)]
    alts += [(n, *alt) for n, cell in page.cells("markdown") for alt in markdown_alts(cell.source)]
    yield from (
        Finding(f"a picture {what}", place, row)
        for place, row, text in alts
        if (what := alt_problem(text))
    )
    yield from (
        Finding(f"{count} pictures share one alternative text: split it", place)
        for place, cell in page.cells("code")
        if (count := len(images(cell))) > 1
    )


def asserts(cell: NotebookNode) -> bool:
    """Return whether a code cell asserts something that can fail: `assert` on more than a constant,
    or assert_…()."""
    return any(
        (isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant))
        or called_name(node).startswith("assert_")
        for node in ast.walk(tree(cell.source))
    )


def data_asserted(page: Notebook) -> list[Finding]:
    """A cell that outputs a picture asserts the data it draws, itself or in the next code cell.

    Pictures are not compared between runs; the assertion is what notices that a figure shows
    something else.
    """
    code = list(page.cells("code"))
    return [
        Finding("draws a picture, but no assertion checks the data it shows", place)
        for index, (place, cell) in enumerate(code)
        if images(cell) and not any(asserts(near) for _, near in code[index : index + 2])
    ]
