"""From one exercises.ipynb in nbgrader's source format: the laws it keeps, and the edition that
students get.

    python -m mmbook.exercises check [PATH ...]        run solution and stub: the one passes every check, the other none
    python -m mmbook.exercises check --form [PATH ...] only the laws of form, without a kernel
    (mmbook/sheets.py)
    python -m mmbook.exercises student PATH OUT        write the student edition (no solutions, hidden tests or outputs)

A graded check is a cell with nbgrader metadata grade: true, solution: false.
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
import tempfile
from collections.abc import Sequence
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
from mmbook.execution import NotebookFailed, SetMissing, execute, label, needs, obtain, save
from mmbook.kernel import environment
from mmbook.sheets import Sheet, graded

SEED = re.compile(r"((?:\b(?:manual_seed|default_rng|RandomState)\(|\bseed=|\brandom_state=))(\d+)")
SHIFT = 1000


def without_outputs(nb: NotebookNode) -> NotebookNode:
    """Return a copy that looks as if it had never been run."""
    bare = copy.deepcopy(nb)
    for cell in bare.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
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
    for step in (LockCells(), ClearHiddenTests(), ClearOutput(), ComputeChecksums()):
        edition, _ = step.preprocess(edition, {})
    return edition


def form_problems(sheet: Sheet) -> list[str]:
    """Return what is wrong with a sheet's form (mmbook/sheets.py), and what the student edition
    would give away."""
    problems = sheets.form_problems(sheet)
    if problems:  # nbgrader's own steps stop at a malformed notebook
        return problems
    for n, cell in enumerate(student_edition(sheet.nb).cells):
        if re.search(r"(BEGIN|END) (HIDDEN|SOL)", cell.source):
            sheet.complain(n, "a solution or hidden test is left in the student edition")
    return sheet.problems


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
    with tempfile.TemporaryDirectory(prefix="mmtutor-ipython-") as scratch:
        execute(copied, folder, name, environment(ipython=Path(scratch)), allow_errors=True)
    return {
        place: output.ename
        for place, cell in graded(copied)
        for output in cell.outputs
        if output.output_type == "error"
    }


def behaviour_problems(nb: NotebookNode, folder: Path, name: str) -> list[str]:
    """The laws that need a kernel: every graded check passes as the sheet stands, and with the
    seeds of the checks changed; with solutions cleared every one fails.
    """
    checks = [place for place, _ in graded(nb)]
    failed = failures(nb, folder, name)
    unlucky = failures(reseeded(nb), folder, f"{name} (other seeds)")
    stub = failures(without_solutions(nb), folder, f"{name} (solutions cleared)")
    problems = [
        f"{name}: cell {n}: the solution fails this check ({error})" for n, error in failed.items()
    ]
    problems += [
        f"{name}: cell {n}: with other seeds the solution fails this check ({error}): it tests the"
        " digits of one run"
        for n, error in unlucky.items()
        if n not in failed
    ]
    return problems + [
        f"{name}: cell {place}: this check passes although the solution is cleared"
        for place in checks
        if place not in stub
    ]


def problems(path: Path) -> list[str]:
    """Return every problem of the exercise notebook at path. Raises SetMissing where its data
    cannot be had."""
    sheet = sheets.read(path)
    found = form_problems(sheet)
    if path.resolve() in sheets.book_sheets():
        found = found + sheets.chapter_problems(sheets.read(path))
    if found:
        return found
    obtain(needs(sheet.nb))
    return behaviour_problems(sheet.nb, path.parent, sheet.name)


def check_form(paths: Sequence[Path]) -> int:
    """Check the form of each notebook without a kernel, print what is wrong, and return the exit
    status."""
    found = [text for path in paths for text in form_problems(sheets.read(path))]
    in_book = [path for path in paths if path.resolve() in sheets.book_sheets()]
    found += [text for path in in_book for text in sheets.chapter_problems(sheets.read(path))]
    print("\n".join(found) if found else "every sheet keeps its form")
    return 1 if found else 0


def check_all(paths: Sequence[Path]) -> int:
    """Check each notebook, print what is wrong, and return the exit status."""
    found = []
    for path in paths:
        try:
            found += problems(path)
        except SetMissing as reason:
            print(f"{label(path)}: skipped: {reason}")
        except NotebookFailed as error:
            found.append(str(error))
    print(
        "\n".join(found)
        if found
        else "every solution passes, with other seeds too; every stub fails"
    )
    return 1 if found else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    from mmbook.notebooks import select

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
        return check_form(paths) if options.form else check_all(paths)
    nb = nbformat.read(options.path, as_version=4)
    wrong = form_problems(sheets.read(options.path))
    if wrong:
        print("\n".join(wrong))
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save(student_edition(nb), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
