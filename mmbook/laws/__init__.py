"""The book's own laws: pure functions from a notebook to a list of problems, each naming file and
cell.

A cell is named by its place among all cells of the notebook, counting from 0, as the runner and the
tests do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from mmbook import launch
from mmbook.execution import label
from mmbook.laws import cost, data, figures, glue, outputs, prose, quiz, structure
from mmbook.laws.readme import chapter_table_problems

__all__ = ["LAWS", "LESSON_LAWS", "chapter_table_problems", "check", "check_file", "file_size"]

Law = Callable[[NotebookNode, str], list[str]]
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
    "glue": glue.glue_names,
    "cost": cost.cost_stated,
    "needs": data.needs_declared,
    "do not display": data.nothing_forbidden_shown,
    "short cells": structure.short_cells,
    "title": structure.title_first,
    "runs in Colab": launch.runs_in_colab,
    "metadata": structure.clean_metadata,
}
# What can be said of a notebook before its first run
BEFORE_A_RUN = (
    "executed in order",
    "nothing ignored",
    "numbers from glue",
    "needs",
    "quiz",
    "short cells",
    "title",
    "runs in Colab",
    "metadata",
    "lesson anatomy",
)
LESSON_LAWS: dict[str, Law] = {"lesson anatomy": structure.lesson_sections}


def is_lesson(name: str) -> bool:
    """Return whether a notebook of this name is a lesson, which has more parts than an exercise
    sheet."""
    return Path(name).stem not in ("exercises", "quiz")


def check(nb: NotebookNode, name: str) -> list[str]:
    """Return every problem of a notebook, in the order of the laws; empty when it keeps them all.

    One that was never executed has that problem, and those which can be seen before a run.
    """
    laws = LAWS | (LESSON_LAWS if is_lesson(name) else {})
    if outputs.never_run(nb):
        laws = {title: law for title, law in laws.items() if title in BEFORE_A_RUN}
    return list(dict.fromkeys(problem for law in laws.values() for problem in law(nb, name)))


def file_size(path: Path, name: str) -> list[str]:
    """A notebook file is at most 300 KB, so that a clone and a page stay light."""
    size = path.stat().st_size
    return (
        [f"{name}: {size / 1000:.0f} KB, the limit is {MAX_BYTES / 1000:.0f} KB"]
        if size > MAX_BYTES
        else []
    )


def check_file(path: Path) -> list[str]:
    """Return every problem of the notebook file at path; raises nbformat's error where it is no
    notebook."""
    name = label(path)
    return file_size(path, name) + check(nbformat.read(path, as_version=4), name)
