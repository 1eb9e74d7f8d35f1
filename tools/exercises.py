"""From one exercises.ipynb in nbgrader's source format: the laws it keeps, and the edition that students get.

    python -m tools.exercises check [PATH ...]        run solution and stub: the one passes every check, the other none
    python -m tools.exercises student PATH OUT        write the student edition (no solutions, hidden tests or outputs)

A graded check is a cell with nbgrader metadata grade: true, solution: false.
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.preprocessors import ClearHiddenTests, ClearOutput, ClearSolutions, LockCells

from tools.execution import NotebookFailed, SetMissing, execute, label, needs, obtain, save
from tools.kernel import environment

SCHEMA = 3
GRADE_ID = re.compile(r"[\w-]+")
FOLDED = {"hide-cell", "hide-input"}
REGIONS = {"solution": "SOLUTION", "hidden test": "HIDDEN TESTS"}


def graded(nb: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """Yield (place among all cells, cell) of each automatically graded check."""
    for place, cell in enumerate(nb.cells):
        own = cell.metadata.get("nbgrader", {})
        if own.get("grade") and not own.get("solution"):
            yield place, cell


def without_solutions(nb: NotebookNode) -> NotebookNode:
    """Return a copy in which nbgrader's stub stands where the solutions were; hidden tests stay, as when grading."""
    stub, _ = ClearSolutions().preprocess(copy.deepcopy(nb), {})
    for cell in stub.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return stub


def student_edition(nb: NotebookNode) -> NotebookNode:
    """Return what students get: no solutions, no hidden tests, no outputs, checks locked against editing."""
    edition = without_solutions(nb)
    for step in (LockCells(), ClearHiddenTests(), ClearOutput()):
        edition, _ = step.preprocess(edition, {})
    return edition


def _region_problems(cell: NotebookNode, what: str) -> list[str]:
    """Say whether the markers ### BEGIN … / ### END … of a kind alternate, opening first."""
    marks = re.findall(rf"^\s*###\s*(BEGIN|END) {REGIONS[what]}\s*$", cell.source, re.MULTILINE)
    return [] if marks == ["BEGIN", "END"] * (len(marks) // 2) else [f"BEGIN and END of a {what} do not match"]


def _cell_problems(cell: NotebookNode) -> list[str]:
    """Return what is wrong with one cell, read by itself."""
    own = cell.metadata.get("nbgrader")
    has = {what: f"BEGIN {marker}" in cell.source for what, marker in REGIONS.items()}
    problems = [text for what in REGIONS for text in _region_problems(cell, what)]
    if not own:
        return problems + [f"holds a {what}, but no nbgrader metadata" for what in REGIONS if has[what]]
    if own.get("schema_version") != SCHEMA:
        problems.append(f"schema_version is {own.get('schema_version')!r}, expected {SCHEMA}")
    if not GRADE_ID.fullmatch(str(own.get("grade_id", ""))):
        problems.append(f"grade_id {own.get('grade_id')!r} is not made of letters, digits, - and _")
    points = own.get("points", 0)
    if own.get("grade") and not (isinstance(points, int | float) and points > 0):
        problems.append(f"a graded cell is worth {points!r} points, expected more than 0")
    if own.get("solution") and not has["solution"]:
        problems.append("a solution cell without ### BEGIN SOLUTION")
    if own.get("solution") and not FOLDED & set(cell.metadata.get("tags", [])):
        problems.append("a solution cell without the tag hide-cell, which folds it on the book's page")
    if has["solution"] and not own.get("solution"):
        problems.append("holds a solution, but its metadata do not say solution: true")
    if has["hidden test"] and not own.get("grade"):
        problems.append("holds a hidden test, but is not graded")
    if own.get("grade") and not own.get("solution") and not own.get("locked"):
        problems.append("a graded check that is not locked")
    return problems


def form_problems(nb: NotebookNode, name: str) -> list[str]:
    """Laws of form: regions, metadata, unique grade ids, a check after each solution, nothing hidden left over."""
    problems = [f"{name}: cell {n}: {text}" for n, cell in enumerate(nb.cells) for text in _cell_problems(cell)]
    ids = Counter(c.metadata["nbgrader"].get("grade_id") for c in nb.cells if "nbgrader" in c.metadata)
    problems += [f"{name}: grade_id {grade_id!r} is used {n} times" for grade_id, n in ids.items() if n > 1]
    checks = [place for place, _ in graded(nb)]
    solutions = [n for n, cell in enumerate(nb.cells) if cell.metadata.get("nbgrader", {}).get("solution")]
    if not checks or not solutions:
        problems.append(f"{name}: {len(solutions)} solutions and {len(checks)} graded checks, expected one of each")
    for place, following in zip(solutions, [*solutions[1:], len(nb.cells)], strict=True):
        if not any(place < check < following for check in checks):
            problems.append(f"{name}: cell {place}: no graded check follows this solution")
    if problems:  # nbgrader's own steps stop at a malformed notebook
        return problems
    left = [
        n for n, cell in enumerate(student_edition(nb).cells) if re.search(r"(BEGIN|END) (HIDDEN|SOL)", cell.source)
    ]
    return [f"{name}: cell {n}: a solution or hidden test is left in the student edition" for n in left]


def failures(nb: NotebookNode, folder: Path, name: str) -> dict[int, str]:
    """Run a copy of nb past its errors and return place → error name of each graded check that ends in one."""
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
    """The laws that need a kernel: as it stands every graded check passes, with solutions cleared every one fails."""
    checks = [place for place, _ in graded(nb)]
    passed, stub = failures(nb, folder, name), failures(without_solutions(nb), folder, f"{name} (solutions cleared)")
    problems = [f"{name}: cell {n}: the solution fails this check ({error})" for n, error in passed.items()]
    return problems + [
        f"{name}: cell {place}: this check passes although the solution is cleared"
        for place in checks
        if place not in stub
    ]


def problems(path: Path) -> list[str]:
    """Return every problem of the exercise notebook at path. Raises SetMissing where its data cannot be had."""
    nb, name = nbformat.read(path, as_version=4), label(path)
    found = form_problems(nb, name)
    if found:
        return found
    obtain(needs(nb))
    return behaviour_problems(nb, path.parent, name)


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
    print("\n".join(found) if found else "every solution passes, every stub fails")
    return 1 if found else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    from tools.notebooks import select

    parser = argparse.ArgumentParser(prog="python -m tools.exercises", description="Check or derive the exercises.")
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="run solution and stub")
    checking.add_argument("paths", nargs="*", help="exercise notebooks or folders; default: the whole book")
    deriving = commands.add_parser("student", help="write the student edition")
    deriving.add_argument("path", type=Path)
    deriving.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "check":
        sheets = [path for path in select(options.paths) if path.name == "exercises.ipynb"]
        return check_all(sheets) if sheets else parser.error("no exercises.ipynb there")
    nb = nbformat.read(options.path, as_version=4)
    wrong = form_problems(nb, label(options.path))
    if wrong:
        print("\n".join(wrong))
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save(student_edition(nb), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
