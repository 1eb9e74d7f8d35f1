"""What the laws need to know about cells: their kind, tags, outputs and syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nbformat import NotebookNode

GLUE_MIME = "application/papermill.record/"
TEXT_MIMES = ("text/plain", "text/html", "text/markdown", "text/latex", GLUE_MIME + "text/plain")


def numbered(nb: NotebookNode, kind: str) -> Iterator[tuple[int, NotebookNode]]:
    """Yield (place in the notebook, cell) for each cell of a kind: "code" or "markdown"."""
    return ((place, cell) for place, cell in enumerate(nb.cells) if cell.cell_type == kind)


def tags(cell: NotebookNode) -> list[str]:
    """Return the tags of a cell."""
    return list(cell.metadata.get("tags", []))


def tree(cell: NotebookNode) -> ast.Module:
    """Return the syntax tree of a code cell. Lines of IPython's own (%magic, !command) count as
    `pass`."""
    lines = []
    for line in cell.source.splitlines():
        bare = line.lstrip()
        lines.append(
            line[: len(line) - len(bare)] + "pass" if bare.startswith(("%", "!")) else line
        )
    return ast.parse("\n".join(lines))


def called_name(node: ast.AST) -> str:
    """Return f for a call f(...) or x.y.f(...), "" for anything else."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def texts(output: NotebookNode) -> list[str]:
    """Return every text an output carries: of a stream, or of each textual form of a display."""
    if output.output_type == "stream":
        return [output.text]
    if output.output_type == "error":
        return ["\n".join(output.get("traceback", []))]
    return [str(text) for mime, text in output.data.items() if mime in TEXT_MIMES]


def images(cell: NotebookNode) -> list[tuple[str, str]]:
    """Return (mime, content) for each picture among a code cell's outputs."""
    return [
        (mime, content)
        for output in cell.outputs
        for mime, content in output.get("data", {}).items()
        if "image/" in mime
    ]
