"""The exercises' law: the solution passes every check, the untouched stub fails every check. And it bites."""

from __future__ import annotations

from collections.abc import Callable

import nbformat
import pytest
from nbformat import NotebookNode

from tests.book.builders import code, exercises, graded_cell, solution_cell, write
from tools import exercises as law
from tools.execution import SetMissing, label, needs, obtain
from tools.notebooks import book_notebooks

SHEETS = [path for path in book_notebooks() if path.name == "exercises.ipynb"]


@pytest.mark.parametrize("path", SHEETS, ids=label)
def test_solution_passes_and_stub_fails_in_the_book(path):
    try:
        obtain(needs(nbformat.read(path, as_version=4)))
    except SetMissing as reason:
        pytest.skip(str(reason))
    assert law.problems(path) == []


def test_there_are_exercises():
    assert SHEETS, "book/ holds no exercises.ipynb, so the law was tested on none"


HIDDEN_ONLY = "### BEGIN HIDDEN TESTS\nassert double(1) == {}\n### END HIDDEN TESTS"


def test_a_good_sheet_keeps_the_law(tmp_path, capsys):
    """Also one with a check whose only assertion is hidden: it must fail for the stub."""
    sheet = write(exercises(graded_cell(HIDDEN_ONLY.format(2), "hidden")), tmp_path / "exercises.ipynb")
    assert law.main(["check", str(sheet)]) == 0
    assert "every solution passes, every stub fails" in capsys.readouterr().out


def test_bad_checks_are_found(tmp_path):
    lax = graded_cell("assert callable(double)", "lax")
    wrong = graded_cell("assert double(3) == 7", "wrong")
    hidden = graded_cell(HIDDEN_ONLY.format(3), "hidden")
    name = label(path := write(exercises(lax, wrong, hidden), tmp_path / "exercises.ipynb"))
    assert law.problems(path) == [
        f"{name}: cell 4: the solution fails this check (AssertionError)",
        f"{name}: cell 5: the solution fails this check (AssertionError)",
        f"{name}: cell 3: this check passes although the solution is cleared",
    ]


def break_form(change: Callable[[NotebookNode], None]) -> list[str]:
    nb = exercises()
    change(nb)
    return law.form_problems(nb, "sheet.ipynb")


def repeat_id(nb):
    nb.cells[2].metadata.nbgrader.grade_id = "double"


def no_points(nb):
    nb.cells[2].metadata.nbgrader.points = 0


def old_schema(nb):
    nb.cells[1].metadata.nbgrader.schema_version = 2


def not_folded(nb):
    nb.cells[1].metadata.tags = []


def open_region(nb):
    nb.cells[1].source = nb.cells[1].source.replace("### END SOLUTION", "")


def hidden_outside(nb):
    nb.cells.append(code("### BEGIN HIDDEN TESTS\nassert double(0) == 0\n### END HIDDEN TESTS"))


def solution_outside(nb):
    nb.cells.append(code("### BEGIN SOLUTION\ny = double(0)\n### END SOLUTION"))


def unchecked_solution(nb):
    nb.cells.append(solution_cell("### BEGIN SOLUTION\ny = 1\n### END SOLUTION", "more"))


def no_region(nb):
    nb.cells[1].source = "def double(x):\n    return 2 * x"


def unlocked(nb):
    nb.cells[2].metadata.nbgrader.locked = False


def strange_id(nb):
    nb.cells[2].metadata.nbgrader.grade_id = "two words"


def nothing_graded(nb):
    del nb.cells[2]


BROKEN_FORMS = [
    (repeat_id, "grade_id 'double' is used 2 times"),
    (no_points, "cell 2: a graded cell is worth 0 points"),
    (old_schema, "cell 1: schema_version is 2"),
    (not_folded, "cell 1: a solution cell without the tag hide-cell"),
    (open_region, "cell 1: BEGIN and END of a solution do not match"),
    (hidden_outside, "cell 3: holds a hidden test, but no nbgrader metadata"),
    (solution_outside, "cell 3: holds a solution, but no nbgrader metadata"),
    (unchecked_solution, "cell 3: no graded check follows this solution"),
    (no_region, "cell 1: a solution cell without ### BEGIN SOLUTION"),
    (unlocked, "cell 2: a graded check that is not locked"),
    (strange_id, "cell 2: grade_id 'two words'"),
    (nothing_graded, "1 solutions and 0 graded checks"),
]


@pytest.mark.parametrize(("change", "complaint"), BROKEN_FORMS, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_form_is_found(change, complaint):
    found = break_form(change)
    assert any(complaint in problem for problem in found), found


def test_a_good_form_is_not_complained_about():
    assert break_form(lambda nb: None) == []


def test_student_edition_holds_neither_solution_nor_hidden_test(tmp_path):
    source, out = write(exercises(), tmp_path / "exercises.ipynb"), tmp_path / "student" / "exercises.ipynb"
    assert law.main(["student", str(source), str(out)]) == 0
    edition = nbformat.read(out, as_version=4)
    text = "\n".join(cell.source for cell in edition.cells)
    assert "return 2 * x" not in text and "-1.5" not in text and "HIDDEN" not in text
    assert "raise NotImplementedError" in edition.cells[1].source
    assert "assert double(2) == 4" in edition.cells[2].source
    assert edition.cells[2].metadata.editable is False
    assert nbformat.read(source, as_version=4) == exercises_with_ids_of(source), "the source is left as it was"


def exercises_with_ids_of(path) -> NotebookNode:
    nb, stored = exercises(), nbformat.read(path, as_version=4)
    for cell, twin in zip(nb.cells, stored.cells, strict=True):
        cell.id = twin.id
    return nb


def test_check_command_fails_on_a_bad_sheet(tmp_path, capsys):
    nb = exercises()
    no_points(nb)
    assert law.main(["check", str(write(nb, tmp_path / "exercises.ipynb"))]) == 1
    assert "worth 0 points" in capsys.readouterr().out


def test_check_command_does_not_praise_nothing(tmp_path, capsys):
    write(exercises(), tmp_path / "lesson.ipynb")
    with pytest.raises(SystemExit) as stopped:
        law.main(["check", str(tmp_path)])
    assert stopped.value.code == 2 and "no exercises.ipynb there" in capsys.readouterr().err


def test_student_command_refuses_a_bad_sheet(tmp_path, capsys):
    nb = exercises()
    open_region(nb)
    assert law.main(["student", str(write(nb, tmp_path / "exercises.ipynb")), str(tmp_path / "out.ipynb")]) == 1
    assert "do not match" in capsys.readouterr().out and not (tmp_path / "out.ipynb").exists()
