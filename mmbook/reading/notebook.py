"""A notebook as tools read it: its cells, what they print, show and glue, and where in its file."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from mmbook.reading.contents import label
from mmbook.reading.rows import line_of
from mmbook.words import Words, words_of
from mmtutor import GLUE_MIME

GLUED_TEXT = GLUE_MIME + "text/plain"
TEXT_MIMES = ("text/plain", "text/html", "text/markdown", "text/latex", GLUED_TEXT)


@dataclass(frozen=True)
class Finding:
    """What is wrong, and where: the place of the cell in the notebook and of the line in the cell,
    both from 0. Without a cell it is the notebook as a whole that is wrong."""

    text: str
    cell: int | None = None
    line: int = 0


@dataclass
class Notebook:
    """A notebook, its name as messages show it, the text of its file, and the book's words."""

    nb: NotebookNode
    name: str
    text: str = ""
    words: Words = field(default_factory=words_of)

    def __post_init__(self) -> None:
        """Serialise what was made in code, so that it has lines too."""
        self.text = self.text or nbformat.writes(self.nb)

    @classmethod
    def read(cls, path: Path, name: str = "") -> "Notebook":
        """Read the notebook at path. Raises nbformat's error where it is none."""
        text = Path(path).read_text(encoding="utf-8")
        return cls(nbformat.reads(text, as_version=4), name or label(path), text)

    @property
    def own(self) -> dict:
        """What the notebook says of itself: measured cost, data sets that it needs."""
        return self.nb.metadata.get("mmtutor", {})

    def cells(self, kind: str) -> Iterator[tuple[int, NotebookNode]]:
        """Yield (place in the notebook, cell) of each cell of a kind: "code" or "markdown"."""
        return ((n, cell) for n, cell in enumerate(self.nb.cells) if cell.cell_type == kind)

    def outputs(self) -> Iterator[tuple[int, NotebookNode]]:
        """Yield (place of its cell, output) of each stored output."""
        return ((n, output) for n, cell in self.cells("code") for output in cell.outputs)

    def located(self, findings: Iterable[Finding]) -> list[str]:
        """Return each finding as "file:row: cell n: what", the row being that of the file."""
        return [f"{self.name}{self.place(finding)}: {finding.text}" for finding in findings]

    def place(self, finding: Finding) -> str:
        """Return where in the file a finding lies, '' where it means the notebook as a whole."""
        if finding.cell is None:
            return ""
        return f":{line_of(self.text, finding.cell, finding.line)}: cell {finding.cell}"


def holding(faults: Mapping) -> list:
    """Return what is wrong, of a table of what may be → whether it is."""
    return [fault for fault, wrong in faults.items() if wrong]


def found(faults: Mapping[str, object], cell: int | None = None) -> list[Finding]:
    """Return what is wrong, as `holding` does, as findings in a cell or in the whole notebook."""
    return [Finding(text, cell) for text in holding(faults)]


def tags(cell: NotebookNode) -> list[str]:
    """Return the tags of a cell."""
    return list(cell.metadata.get("tags", []))


def row_with(cell: NotebookNode, mark: str) -> int:
    """Return the row of the first line of a cell that holds `mark`; 0 where none does."""
    return next((row for row, line in enumerate(cell.source.splitlines()) if mark in line), 0)


def tree(source: str) -> ast.Module:
    """Return the syntax tree of a cell's code. IPython's own lines (%magic, !command) count as
    `pass`."""
    lines = [
        line[: -len(line.lstrip())] + "pass" if line.lstrip().startswith(("%", "!")) else line
        for line in source.splitlines()
    ]
    return ast.parse("\n".join(lines))


def called_name(node: ast.AST) -> str:
    """Return f for a call f(...) or x.y.f(...), "" for anything else."""
    function = node.func if isinstance(node, ast.Call) else None
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def top_level_calls(source: str, name: str) -> list[ast.Call]:
    """Return the statements of a cell, inside no other one, that call what has this name."""
    values = (node.value for node in tree(source).body if isinstance(node, ast.Expr))
    return [value for value in values if called_name(value) == name]


def texts(output: NotebookNode) -> list[str]:
    """Return every text an output carries: of a stream, or of each textual form of a display."""
    if output.output_type in ("stream", "error"):
        return [output.get("text") or "\n".join(output.get("traceback", []))]
    return [str(text) for mime, text in output.data.items() if mime in TEXT_MIMES]


def images(cell: NotebookNode) -> list[tuple[str, str]]:
    """Return (mime, content) for each picture among a code cell's outputs."""
    return [
        (mime, content)
        for output in cell.outputs
        for mime, content in output.get("data", {}).items()
        if "image/" in mime
    ]


@dataclass(frozen=True)
class Glued:
    """A value that a cell stored for the prose: its name, what the page shows, its tolerance."""

    cell: int
    name: str
    shown: str
    tolerance: float


def glued_values(nb: NotebookNode) -> list[Glued]:
    """Return the glued values among the stored outputs, in order, one that is repeated twice."""
    return [
        Glued(
            place,
            output.metadata["scrapbook"]["name"],
            shown_text(output.data.get(GLUED_TEXT, "")),
            output.metadata.get("mmtutor", {}).get("tolerance", 0.0),
        )
        for place, cell in enumerate(nb.cells)
        for output in cell.get("outputs", [])
        if "scrapbook" in output.get("metadata", {})
    ]


def shown_text(stored: str) -> str:
    """Return what the page shows of a stored value, which is the repr of a text."""
    try:
        return str(ast.literal_eval(stored))
    except (ValueError, SyntaxError):
        return str(stored)
