"""From one exercises.ipynb in nbgrader's source format: the laws it keeps, and the edition that
students get.

    python -m mmbook.exercises check [PATH ...]         run solution and stub: the one passes
                                                        every check, the other none
    python -m mmbook.exercises check --form [PATH ...]  only the laws of form, without a kernel
    python -m mmbook.exercises student PATH OUT         write the student edition, without
                                                        solutions, hidden tests and outputs

A graded check is a cell with nbgrader metadata grade: true, solution: false.
"""

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

from mmbook import launch, sheets, teaching
from mmbook.execution import NotebookFailed, SetMissing, execute, needs, obtain, save
from mmbook.notebooks import select, verdict
from mmbook.reading import Finding, Notebook, book_sheets, graded, label
from mmbook.words import words_of

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


def for_class(nb: NotebookNode, chapter: str) -> NotebookNode:
    """Return a copy with the rules in its first cell, and a first code cell that brings no solution
    to Colab."""
    sheet = copy.deepcopy(nb)
    title, _, rest = sheet.cells[0].source.partition("\n")
    rules = words_of().rules.format(name=chapter)
    sheet.cells[0].source = "\n\n".join(p for p in (title, rest.strip(), rules) if p)
    for cell in filter(launch.ours, sheet.cells):
        cell.source = launch.student_source(chapter)
    return sheet


def for_page(nb: NotebookNode) -> NotebookNode:
    """Return a copy as the site shows it: a comment stands where hidden checks are."""
    shown = copy.deepcopy(nb)
    for cell in shown.cells:
        cell.source = sheets.HIDDEN.sub(words_of().hidden, cell.source)
    return shown


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
    return sheet.located(
        Finding("a solution or hidden test is left in the student edition", place)
        for place, cell in enumerate(student_edition(sheet.nb).cells)
        if LEFT.search(cell.source)
    )


def all_form_problems(path: Path) -> list[str]:
    """Return what can be said of the sheet at path without running it; of a chapter's sheet also
    what a chapter's sheet lacks."""
    sheet = Notebook.read(path)
    if path.resolve() not in book_sheets():
        return form_problems(sheet)
    return form_problems(sheet) + sheets.chapter_problems(sheet) + unserved(path.parent.name)


def unserved(folder: str) -> list[str]:
    """Return what the instructor's guide lacks of a chapter: the site is not built without it."""
    try:
        guide = teaching.Guide(teaching.read_chapters(), teaching.read_guide())
    except teaching.TeachingError as error:
        return str(error).splitlines()
    return [problem for problem in guide.problems if folder in problem]


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
    return [
        f"{name}: cell {place}: the solution fails this check ({error})"
        for place, error in failures(nb, folder, name).items()
    ]


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


def check_all(names: Sequence[str], find: Callable[[Path], list[str]], praise: str) -> int:
    """Print what `find` finds wrong with each sheet that is named, or stands in a folder that is;
    without a name, of the book. Prints the praise where nothing is; returns the exit status."""
    wrong: list[str] = []
    for path in select(names, "exercises.ipynb"):
        try:
            wrong += find(path)
        except SetMissing as reason:
            print(f"{label(path)}: skipped: {reason}")
        except NotebookFailed as error:
            wrong.append(str(error))
    return verdict(wrong, praise)


def write_student_edition(path: Path, out: Path) -> int:
    """Write the student edition of the sheet at path to `out`, or print what is wrong with it;
    returns the exit status."""
    sheet = Notebook.read(path)
    if wrong := form_problems(sheet):
        return verdict(wrong, "")
    out.parent.mkdir(parents=True, exist_ok=True)
    save(student_edition(for_class(sheet.nb, out.stem)), out)
    return 0


def main(arguments: Sequence[str]) -> int:
    """Carry out one command of the module's docstring; returns the exit status."""
    match arguments:
        case ["check", "--form", *names]:
            return check_all(names, all_form_problems, "every sheet keeps its form")
        case ["check", *names]:
            return check_all(
                names, problems, "every solution passes, with other seeds too; every stub fails"
            )
        case ["student", path, out]:
            return write_student_edition(Path(path), Path(out))
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
