"""Markdown cells as tools read them: lines, headings and folds, whatever stands in code left out.

A fold stands between blank lines, so that it works on a page, in Jupyter and in Colab:

    <details><summary>Because of this.</summary>

    Right. It is so since …

    </details>
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from nbformat import NotebookNode

from mmbook.reading.notebook import Finding

# Writing without spaces between words: kana, Chinese characters, Thai
UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
SEAM = re.compile(f"(?<=[{UNSPACED}])(?=[A-Za-z0-9.+−-])|(?<=[A-Za-z0-9%])(?=[{UNSPACED}])")
WORD = re.compile(rf"[{UNSPACED}]{{1,2}}|[^\W{UNSPACED}]+")
FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # ％ → %, ８ → 8

CODE_DIRECTIVES = {
    *("code", "code-block", "code-cell", "sourcecode", "literalinclude"),
    *("math", "mermaid", "raw"),
}
FENCE = re.compile(r" {0,3}(`{3,}|~{3,}|:{3,})\s*(.*?)\s*$")
DIRECTIVE = re.compile(r"\{([\w:-]+)\}(.*)")
CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(?:.*?[^`])??\1(?!`)", re.DOTALL)
HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*$")
OPEN = re.compile(r"<details><summary>(.*)</summary>\s*$")
TAG = re.compile(r"</?(?:details|summary)\b[^>]*>")
CLOSE = "</details>"


def spaced(text: str) -> str:
    """Return text with a space wherever characters that need none touch Latin letters or digits.

    So patterns made for words between spaces find the number in 准确率为0.85。 too.
    """
    return SEAM.sub(" ", text.translate(FULL_WIDTH))


def count_words(text: str) -> int:
    """Return the number of words; of a script without spaces, two characters count as one."""
    return len(WORD.findall(text))


def holds_code(marks: str, info: str) -> bool:
    """Return whether a fence opens a block of code, rather than a directive around prose."""
    directive = DIRECTIVE.match(info)
    return directive[1] in CODE_DIRECTIVES if directive else marks[0] != ":"


def fenced_lines(source: str) -> Iterator[tuple[str, bool, bool, bool]]:
    """Yield (line, is it of a code block, is it a fence, is a block open) of a markdown text. The
    fences of a code block count as code; blocks lie in each other, and only code holds none."""
    blocks: list[tuple[str, bool]] = []  # those open around a line: (marks, holds code)
    for line in source.split("\n"):
        marks, info = fence.groups() if (fence := FENCE.match(line)) else ("", "")
        around, in_code = blocks[-1] if blocks else (" ", False)
        if not info and marks.startswith(around):
            blocks.pop()
        elif marks and not in_code:
            blocks.append((marks, holds_code(marks, info)))
        yield line, in_code or any(code for _, code in blocks), bool(marks), bool(blocks)


def code_blanked(source: str) -> str:
    """Return a markdown text whose code and fences hold only the letter x; each line stays where it
    was."""
    fenced = fenced_lines(source)
    lines = ("x" if line.strip() and (code or fence) else line for line, code, fence, _ in fenced)
    return CODE_SPAN.sub(lambda span: re.sub(r"[^\n]", "x", span.group()), "\n".join(lines))


@dataclass(frozen=True)
class Line:
    """A line of a markdown cell: as written, without code, and the # or ## heading that it stands
    under. A heading itself has its level, every other line 0."""

    cell: int
    row: int
    text: str
    bare: str
    level: int
    section: str


def cell_lines(source: str, cell: int = 0, section: str = "") -> Iterator[Line]:
    """Yield the lines of one markdown text."""
    bare = code_blanked(source).split("\n")
    for row, (text, plain) in enumerate(zip(source.split("\n"), bare, strict=True)):
        heading = HEADING.match(text) if HEADING.match(plain) else None
        level = len(heading[1]) if heading else 0
        if heading and level <= 2:
            section = heading[2]
        yield Line(cell, row, text, plain, level, section)


def markdown_lines(nb: NotebookNode) -> Iterator[Line]:
    """Yield the lines of all markdown cells; a section may run over several of them."""
    section = ""
    for place, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            for line in cell_lines(cell.source, place, section):
                section = line.section
                yield line


def headings(nb: NotebookNode) -> list[tuple[Line, str]]:
    """Return (line, text) of each heading; what looks like one inside code is none."""
    return [(line, line.text.lstrip("#").strip()) for line in markdown_lines(nb) if line.level]


def title(nb: NotebookNode) -> str | None:
    """Return the text of the first # heading, None where there is none."""
    return next((text for line, text in headings(nb) if line.level == 1), None)


def section_points(nb: NotebookNode, heading: str) -> list[str]:
    """Return the points of the lists under a ## heading, each as one line."""
    points: list[str] = []
    inside = False
    for line in markdown_lines(nb):
        starts = line.section == heading and line.text.startswith("- ")
        # a point runs on to an empty line, and never into the next cell
        inside = starts or (inside and line.row > 0 and bool(line.text.strip()) and not line.level)
        if starts:
            points.append(line.text[2:].strip())
        elif inside:
            points[-1] += " " + line.text.strip()
    return points


@dataclass
class Fold:
    """A fold: where it opens, what it shows, and the lines inside, those of the tags left out."""

    cell: int
    row: int
    summary: str
    inside: list[Line] = field(default_factory=list)
    closed: bool = False

    @property
    def text(self) -> str:
        """What the fold opens to."""
        return "\n".join(line.text for line in self.inside).strip()


def read_folds(lines: Iterable[Line]) -> tuple[list[Fold], list[Finding]]:
    """Return the folds among lines, and what about their form kept them from being read."""
    folds: list[Fold] = []
    findings: list[Finding] = []
    fold: Fold | None = None
    for line in lines:
        marks = TAG.findall(line.bare)
        opens = OPEN.match(line.text) if len(marks) == 3 else None
        if opens or 0 < line.level <= 2:
            fold = None
        if opens:
            folds.append(fold := Fold(line.cell, line.row, opens[1].strip()))
        elif fold and line.text.strip() == CLOSE:
            fold.closed, fold = True, None
        elif marks:
            findings.append(Finding(_tag_problem(line, fold is not None), line.cell, line.row))
        elif fold:
            fold.inside.append(line)
    return folds, findings + [
        Finding(f"this choice is not closed by {CLOSE}", fold.cell, fold.row)
        for fold in folds
        if not fold.closed
    ]


def _tag_problem(line: Line, inside: bool) -> str:
    """Say what is wrong with a line that holds tags of a fold, yet neither opens nor closes one."""
    if line.text.strip() == CLOSE:
        return f"{CLOSE} closes no choice"
    if inside and TAG.findall(line.bare) == [CLOSE]:
        return f"{CLOSE} stands on a line of its own"
    return (
        "a choice opens with <details><summary>choice</summary> on one line, which holds no other"
        " tag of a fold"
    )
