"""What must be true of a notebook's text before the site is built from it.

The full set of laws (mmbook/laws) also looks at stored outputs and takes longer; a page with a quiz
that has no right answer, a folded answer that shows its marks, or a figure without words is wrong
for every reader, so the build stops at these. No torch is needed, and nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import nbformat

from mmbook.laws import figures, quiz, structure
from mmbook.laws.lines import located


def text_problems(text: str, name: str) -> list[str]:
    """Return what is wrong with the quizzes, folded answers and alternative texts of a notebook's
    file."""
    nb = nbformat.reads(text, as_version=4)
    found = [*quiz.findings(nb), *structure.folded_findings(nb), *figures.alt_findings(nb)]
    return located(sorted(found, key=lambda f: (f.cell, f.line)), text, name)


def build_problems(paths: Iterable[Path], root: Path) -> list[str]:
    """Return "file:row: cell n: what" for each problem of the notebooks at `paths`, files named as
    seen from `root`."""
    return [
        problem
        for path in sorted(paths)
        for problem in text_problems(
            path.read_text(encoding="utf-8"), path.relative_to(root).as_posix()
        )
    ]


def book_problems(root: Path) -> list[str]:
    """Return the problems of every notebook of the book under `root`."""
    paths = (root / "book").glob("*/*.ipynb")
    return build_problems([path for path in paths if not path.parent.name.startswith(".")], root)
