"""Laws about figures: each says in words what it shows, and the data behind it is asserted."""

import ast
import re
from collections.abc import Iterator

from nbformat import NotebookNode

from mmbook.reading import Finding, Notebook, called_name, count_words, images, texts, tree

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
    if count_words(text) < MIN_WORDS:
        return f"has too short an alternative text ({text.strip()!r}): say what the figure shows"
    return None


def _html_alt(tag: str) -> str | None:
    match = HTML_ALT.search(tag)
    return (match.group(1) or match.group(2)) if match else None


def markdown_alts(source: str) -> list[tuple[int, str | None]]:
    """Return (row, alternative text or None) of each picture that a markdown text shows."""
    alts: list[tuple[int, str | None]] = [
        (m.start(), m[1]) for m in MARKDOWN_IMAGE.finditer(source)
    ]
    alts += [(m.start(), _html_alt(m.group())) for m in HTML_IMAGE.finditer(source)]
    for match in DIRECTIVE.finditer(source):
        stated = DIRECTIVE_ALT.search(match[2])
        alts.append((match.start(), stated[1] if stated else None))
    return [(source.count("\n", 0, start), alt) for start, alt in alts]


def output_alts(cell: NotebookNode) -> list[tuple[int, str | None]]:
    """Return (0, alternative text or None) of each picture that a code cell outputs.

    For drawn ones it stands in the cell's metadata, mystnb.image.alt: one text for all of them.
    """
    shown = (text for output in cell.outputs for text in texts(output))
    alts = [(0, _html_alt(tag)) for text in shown for tag in HTML_IMAGE.findall(text)]
    stated = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
    return alts + ([(0, stated)] if images(cell) else [])


def alternative_text(page: Notebook) -> Iterator[Finding]:
    """Every picture has an alternative text of at least five words that is not a file name, and a
    cell outputs one picture, since it has one text."""
    alts = [(n, *alt) for n, cell in page.cells("code") for alt in output_alts(cell)]
    alts += [(n, *alt) for n, cell in page.cells("markdown") for alt in markdown_alts(cell.source)]
    wrong = ((alt_problem(text), place, row) for place, row, text in alts)
    yield from (Finding(f"a picture {what}", place, row) for what, place, row in wrong if what)
    counts = ((len(images(cell)), place) for place, cell in page.cells("code"))
    share = "pictures share one alternative text: split it"
    yield from (Finding(f"{count} {share}", place) for count, place in counts if count > 1)


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
