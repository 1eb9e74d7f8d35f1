"""From one exercises.ipynb in nbgrader's source format: the laws it keeps, and the edition that
students get.

    python -m mmbook.exercises check [PATH ...]         run solution and stub: the one passes
                                                        every check, the other none
    python -m mmbook.exercises check --form [PATH ...]  only the laws of form, without a kernel
    python -m mmbook.exercises student PATH OUT         write the student edition, without
                                                        solutions, hidden tests and outputs

A graded check is a cell with nbgrader metadata grade: true, solution: false.
"""

import argparse
import copy
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.preprocessors import (
    ClearHiddenTests,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)

from mmbook import sheets
from mmbook.execution import NotebookFailed, SetMissing, execute, needs, obtain, save
from mmbook.notebooks import select, verdict
from mmbook.reading import Finding, Notebook, book_sheets, graded, label

LEFT = re.compile(r"(BEGIN|END) (HIDDEN|SOL)")
SEED = re.compile(r"((?:\b(?:manual_seed|default_rng|RandomState)\(|\bseed=|\brandom_state=))(\d+)")
SHIFT = 1000


def without_outputs(nb: NotebookNode) -> NotebookNode:
    """Return a copy that looks as if it had never been run."""
    bare, _ = ClearOutput().preprocess(copy.deepcopy(nb), {})
    return bare


def without_solutions(nb: NotebookNode) -> NotebookNode:
    """Return a copy in which nbgrader's stub stands where the solutions were; hidden tests stay, as
    when grading."""
    stub, _ = ClearSolutions().preprocess(without_outputs(nb), {})
    return stub


def student_edition(nb: NotebookNode) -> NotebookNode:
    """Return what students get: no solutions, no hidden tests, no outputs, checks locked against
    editing."""
    edition = without_solutions(nb)
    for step in (LockCells(), ClearHiddenTests(), ComputeChecksums()):
        edition, _ = step.preprocess(edition, {})
    return edition


def form_problems(sheet: Notebook) -> list[str]:
    """Return what is wrong with a sheet's form (mmbook/sheets.py), and what the student edition
    would give away."""
    if problems := sheets.form_problems(sheet):  # nbgrader's own steps stop at a malformed notebook
        return problems
    text = "a solution or hidden test is left in the student edition"
    cells = enumerate(student_edition(sheet.nb).cells)
    return sheet.located(Finding(text, n) for n, cell in cells if LEFT.search(cell.source))


def all_form_problems(path: Path) -> list[str]:
    """Return what can be said of the sheet at path without running it; of a chapter's sheet also
    what a chapter's sheet lacks."""
    sheet = Notebook.read(path)
    in_book = path.resolve() in book_sheets()
    return form_problems(sheet) + (sheets.chapter_problems(sheet) if in_book else [])


def reseeded(nb: NotebookNode) -> NotebookNode:
    """Return a copy in which every check draws other random numbers: each seed written in it is
    SHIFT larger.

    A check that tests an idea does not care; one that tests the digits of the author's run does.
    """
    other = copy.deepcopy(nb)
    for _, cell in graded(other):
        cell.source = SEED.sub(lambda match: match[1] + str(int(match[2]) + SHIFT), cell.source)
    return other


def failures(nb: NotebookNode, folder: Path, name: str) -> dict[int, str]:
    """Run a copy of nb past its errors and return place → error name of each graded check that ends
    in one."""
    copied = copy.deepcopy(nb)
    execute(copied, folder, name, allow_errors=True)
    return {
        place: output.ename
        for place, cell in graded(copied)
        for output in cell.outputs
        if output.output_type == "error"
    }


def solution_problems(nb: NotebookNode, folder: Path, name: str) -> list[str]:
    """Every graded check passes as the sheet stands."""
    failed = failures(nb, folder, name).items()
    return [f"{name}: cell {n}: the solution fails this check ({error})" for n, error in failed]


def seed_problems(nb: NotebookNode, folder: Path, name: str) -> list[str]:
    """Every graded check passes with the seeds of the checks changed; nothing is run where a sheet
    has none."""
    other = reseeded(nb)
    failed = failures(other, folder, f"{name} (other seeds)") if other != nb else {}
    return [
        f"{name}: cell {n}: with other seeds the solution fails this check ({error}): it tests the"
        " digits of one run"
        for n, error in failed.items()
    ]


def stub_problems(nb: NotebookNode, folder: Path, name: str) -> list[str]:
    """With solutions cleared, every graded check fails."""
    failed = failures(without_solutions(nb), folder, f"{name} (solutions cleared)")
    return [
        f"{name}: cell {n}: this check passes although the solution is cleared"
        for n, _ in graded(nb)
        if n not in failed
    ]


def problems(path: Path) -> list[str]:
    """Return every problem of the exercise notebook at path. Raises SetMissing where its data
    cannot be had."""
    if wrong := all_form_problems(path):
        return wrong
    nb, home, name = nbformat.read(path, as_version=4), path.parent, label(path)
    obtain(needs(nb))
    failing = solution_problems(nb, home, name)  # other seeds would say the same of those
    return (failing or seed_problems(nb, home, name)) + stub_problems(nb, home, name)


def check_all(paths: Sequence[Path], find: Callable[[Path], list[str]], praise: str) -> int:
    """Print what `find` finds wrong with each notebook, or the praise; returns the exit status."""
    wrong = []
    for path in paths:
        try:
            wrong += find(path)
        except SetMissing as reason:
            print(f"{label(path)}: skipped: {reason}")
        except NotebookFailed as error:
            wrong.append(str(error))
    return verdict(wrong, praise)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbook.exercises", description="Check or derive the exercises."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="run solution and stub")
    checking.add_argument(
        "--form", action="store_true", help="only what can be seen without running anything"
    )
    checking.add_argument(
        "paths", nargs="*", help="exercise notebooks or folders; default: the whole book"
    )
    deriving = commands.add_parser("student", help="write the student edition")
    deriving.add_argument("path", type=Path)
    deriving.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "check":
        paths = [path for path in select(options.paths) if path.name == "exercises.ipynb"]
        if not paths:
            parser.error("no exercises.ipynb there")
        if options.form:
            return check_all(paths, all_form_problems, "every sheet keeps its form")
        good = "every solution passes, with other seeds too; every stub fails"
        return check_all(paths, problems, good)
    sheet = Notebook.read(options.path)
    if wrong := form_problems(sheet):
        return verdict(wrong, "")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save(student_edition(sheet.nb), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
