"""The book's own laws: functions from a notebook to findings, each naming cell and line.

A cell is named by its place among all cells of the notebook, counting from 0, as the runner and the
tests do.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from mmbook import launch
from mmbook.laws import data, figures, outputs, prose, quiz, structure
from mmbook.laws.taught import chapter_table_problems, taught_problems
from mmbook.reading import ROOT, Finding, Notebook

__all__ = [
    "LAWS",
    "LESSON_LAWS",
    "book_problems",
    "chapter_table_problems",
    "check",
    "check_file",
    "taught_problems",
]

Law = Callable[[Notebook], Iterable[Finding]]
MAX_BYTES = 300_000

LAWS: dict[str, Law] = {
    "executed in order": outputs.executed_in_order,
    "prints are stored": outputs.prints_are_stored,
    "quiet": outputs.quiet,
    "nothing ignored": outputs.nothing_ignored,
    "tolerances": outputs.tolerances,
    "readable without a kernel": outputs.static,
    "no machine paths": outputs.no_machine_paths,
    "alternative text": figures.alternative_text,
    "figures asserted": figures.data_asserted,
    "numbers from glue": prose.numbers_from_glue,
    "folded answers": structure.folded_answers,
    "quiz": quiz.sound,
    "glue": prose.glue_names,
    "cost": structure.cost_stated,
    "needs": data.needs_declared,
    "do not display": data.nothing_forbidden_shown,
    "short cells": structure.short_cells,
    "title": structure.title_first,
    "runs in Colab": launch.runs_in_colab,
    "metadata": structure.clean_metadata,
}
# What can be said of a notebook before its first run
BEFORE_A_RUN = (
    *("executed in order", "nothing ignored", "numbers from glue", "needs", "quiz"),
    *("short cells", "title", "runs in Colab", "metadata", "lesson anatomy"),
)
LESSON_LAWS: dict[str, Law] = {"lesson anatomy": structure.lesson_sections}
# What is wrong for every reader, so that the site is not built from it; no torch is needed for it
PAGE_LAWS: tuple[Law, ...] = (quiz.sound, structure.folded_answers, figures.alternative_text)


def check(page: Notebook) -> list[str]:
    """Return every problem of a notebook, in the order of the laws; empty when it keeps them all.

    One that was never executed has that problem, and those which can be seen before a run.
    """
    lesson = Path(page.name).stem not in ("exercises", "quiz")
    laws = LAWS | (LESSON_LAWS if lesson else {})
    if outputs.never_run(page):
        laws = {title: law for title, law in laws.items() if title in BEFORE_A_RUN}
    found = page.located(finding for law in laws.values() for finding in law(page))
    return list(dict.fromkeys(found))


def check_file(path: Path) -> list[str]:
    """Return every problem of the notebook file at path, which is at most 300 KB, so that a clone
    and a page stay light; raises nbformat's error where it is no notebook."""
    page, size = Notebook.read(path), path.stat().st_size
    heavy = f"{page.name}: {size / 1000:.0f} KB, the limit is {MAX_BYTES / 1000:.0f} KB"
    return ([heavy] if size > MAX_BYTES else []) + check(page)


def book_problems(root: Path = ROOT) -> list[str]:
    """Return what is wrong for every reader (PAGE_LAWS) in the notebooks of the book, from top to
    bottom."""
    problems = []
    for path in sorted((root / "book").glob("[!.]*/*.ipynb")):
        page = Notebook.read(path, path.relative_to(root).as_posix())
        findings = (finding for law in PAGE_LAWS for finding in law(page))
        problems += page.located(sorted(findings, key=lambda f: (f.cell or 0, f.line)))
    return problems
