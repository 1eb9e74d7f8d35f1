"""The exercises' law: the solution passes every check, the untouched stub fails every check. And it
bites."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from mmbook import classroom, sheets, teaching
from mmbook import exercises as law
from mmbook.course import grading
from mmbook.execution import SetMissing, needs, obtain
from mmbook.ext import site_build
from mmbook.kernel import cell_timeout
from mmbook.reading import ROOT, Notebook, book_sheets, label
from tests.book.builders import code, exercises, graded_cell, solution_cell, way_here, write

SHEETS = book_sheets()


def run_as_in_the_course(nb: NotebookNode, folder: Path, name: str, allow_errors: bool) -> None:
    """Run nb in place, as `execute` does, but as the course runs a submission: cells that are given
    are locked, and the kernel is isolated where this machine can do that."""
    assert allow_errors, name
    course = classroom.course_source(nb)
    step = grading.CarefulExecute(timeout=cell_timeout(), iopub_timeout=cell_timeout())
    step.preprocess(course, {"metadata": {"path": str(folder)}})
    nb.cells = course.cells


@pytest.mark.parametrize("path", SHEETS, ids=label)
def test_solution_passes_with_other_seeds_and_stub_fails_in_the_book(path, monkeypatch):
    """The solution runs as a student's answer does in the course; with the seeds that stand there,
    it is proved where all notebooks are run again."""
    nb, home, name = nbformat.read(path, as_version=4), path.parent, label(path)
    try:
        obtain(needs(nb))
    except SetMissing as reason:
        pytest.skip(str(reason))
    assert law.all_form_problems(path) == []
    assert law.stub_problems(nb, home, name) == []
    monkeypatch.setenv("COURSE_ISOLATION", way_here())
    monkeypatch.setattr(law, "execute", run_as_in_the_course)
    assert law.solution_problems(law.reseeded(nb), home, name) == []


def test_there_are_exercises():
    assert SHEETS, "book/ holds no exercises.ipynb, so the law was tested on none"


HIDDEN_ONLY = "### BEGIN HIDDEN TESTS\nassert double(1) == {}\n### END HIDDEN TESTS"


def test_a_good_sheet_keeps_the_law(tmp_path, capsys):
    """Also one with a check whose only assertion is hidden: it must fail for the stub."""
    sheet = write(
        exercises(graded_cell(HIDDEN_ONLY.format(2), "hidden")), tmp_path / "exercises.ipynb"
    )
    assert law.main(["check", str(sheet)]) == 0
    assert (
        "every solution passes, with other seeds too; every stub fails" in capsys.readouterr().out
    )


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
    return law.form_problems(Notebook(nb, "sheet.ipynb"))


def repeat_id(nb):
    nb.cells[2].metadata.nbgrader.grade_id = "double"


def no_points(nb):
    nb.cells[2].metadata.nbgrader.points = 0


def old_schema(nb):
    nb.cells[1].metadata.nbgrader.schema_version = 2


def no_prompt(nb):
    del nb.cells[1].metadata["mystnb"]


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


def restated(old: str, new: str) -> Callable[[NotebookNode], None]:
    def change(nb):
        assert old in nb.cells[0].source
        nb.cells[0].source = nb.cells[0].source.replace(old, new)

    return change


def repeat_label(nb):
    nb.cells[0].source += "\n\n(here)=\n\n(here)="


def silent_check(nb):
    nb.cells[2].source = nb.cells[2].source.replace(", 'twice two is four'", "")


def digits_of_a_run(nb):
    nb.cells[2].source += "\nassert double(0.61727) == 1.23454, 'a run gave this'"


def elsewhere(nb):
    nb.cells[0].source = "# Exercises"


BROKEN_FORMS = [
    (repeat_id, "cell 2: grade_id 'double' is used a second time"),
    (no_points, "cell 2: a graded cell is worth 0 points"),
    (old_schema, "cell 1: schema_version is 2"),
    (not_folded, "cell 1: a solution cell without the tag hide-cell"),
    (no_prompt, "cell 1: a solution cell whose fold does not say that it holds one"),
    (open_region, "cell 1: BEGIN and END of a solution do not match"),
    (hidden_outside, "cell 3: holds a hidden test, but no nbgrader metadata"),
    (solution_outside, "cell 3: holds a solution, but no nbgrader metadata"),
    (unchecked_solution, "cell 3: no graded check follows this solution"),
    (no_region, "cell 1: a solution cell without ### BEGIN SOLUTION"),
    (unlocked, "cell 2: a graded check that is not locked"),
    (strange_id, "cell 2: grade_id 'two words'"),
    (nothing_graded, "1 solutions and 0 graded checks"),
    (restated("10 minutes, ", ""), "without a usable minutes"),
    (restated("*Guided, easy, 10 minutes, 2 points.* ", ""), "does not say what it is"),
    (restated("10 minutes", "90 minutes"), "90 minutes, expected 5 to 60"),
    (restated("2 points", "3 points"), "says 3 points, its checks are worth 2"),
    (restated("Guided", "Riddle"), "kind 'Riddle' is none of"),
    (restated("easy", "simple"), "difficulty 'simple' is none of"),
    (restated("## 1.", "## 2."), "exercise 2 (Double) is number 1"),
    (repeat_label, "label 'here' is used a second time"),
    (silent_check, "no visible check with a message follows"),
    (digits_of_a_run, "cell 2: the check holds 0.61727"),
    (elsewhere, "cell 1: stands under no heading"),
]


@pytest.mark.parametrize(
    ("change", "complaint"), BROKEN_FORMS, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_broken_form_is_found(change, complaint):
    found = break_form(change)
    assert any(complaint in problem for problem in found), found


def test_a_good_form_is_not_complained_about():
    assert break_form(lambda nb: None) == []


def test_a_sheet_that_miscounts_itself_is_found():
    nb = exercises()
    nb.cells[0].source = nb.cells[0].source.replace("# Exercises", "# Exercises\n\nSix exercises.")
    found = sheets.chapter_problems(Notebook(nb, "sheet.ipynb"))
    assert "sheet.ipynb: its first cell says 'Six' exercises, there are 1" in found
    nb.cells[0].source = nb.cells[0].source.replace("Six exercises", "These exercises, 1 exercises")
    assert not any("first cell" in text for text in sheets.chapter_problems(Notebook(nb, "s")))


def test_an_exercise_that_serves_no_objective_is_found_before_the_site_is_built(monkeypatch):
    guide = teaching.read_guide()
    entry = next(e for e in guide["objectives"]["05_decision_fusion/lesson"] if "exercises" in e)
    lost = entry["exercises"].pop()
    if not entry["exercises"]:
        entry |= {"not exercised": "x"}
        del entry["exercises"]
    monkeypatch.setattr(teaching, "read_guide", lambda: guide)
    sheet = ROOT / "book" / "05_decision_fusion" / "exercises.ipynb"
    found = [text for text in law.all_form_problems(sheet) if "serves no objective" in text]
    assert len(found) == 1 and lost in found[0]
    assert law.all_form_problems(ROOT / "book" / "06_which_level" / "exercises.ipynb") == []


def test_a_page_shows_no_hidden_check():
    shown = law.for_page(exercises())
    assert "-1.5" not in shown.cells[2].source
    assert "# Hidden checks follow here" in shown.cells[2].source
    assert "assert double(2) == 4" in shown.cells[2].source


def test_student_edition_holds_neither_solution_nor_hidden_test(tmp_path):
    source, out = (
        write(exercises(), tmp_path / "exercises.ipynb"),
        tmp_path / "student" / "exercises.ipynb",
    )
    assert law.main(["student", str(source), str(out)]) == 0
    edition = nbformat.read(out, as_version=4)
    text = "\n".join(cell.source for cell in edition.cells)
    assert "return 2 * x" not in text and "-1.5" not in text and "HIDDEN" not in text
    assert "raise NotImplementedError" in edition.cells[1].source
    assert "assert double(2) == 4" in edition.cells[2].source
    assert edition.cells[0].source.startswith("# Exercises\n\n")
    assert "`exercises.ipynb`" in edition.cells[0].source
    assert edition.cells[2].metadata.editable is False
    assert nbformat.read(source, as_version=4) == exercises_with_ids_of(source), (
        "the source is left as it was"
    )


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


def test_check_command_does_not_praise_nothing(tmp_path):
    write(exercises(), tmp_path / "lesson.ipynb")
    with pytest.raises(SystemExit, match=r"is no exercises\.ipynb, and no folder that holds one"):
        law.main(["check", str(tmp_path)])


def test_student_command_refuses_a_bad_sheet(tmp_path, capsys):
    nb = exercises()
    open_region(nb)
    assert (
        law.main(
            ["student", str(write(nb, tmp_path / "exercises.ipynb")), str(tmp_path / "out.ipynb")]
        )
        == 1
    )
    assert "do not match" in capsys.readouterr().out and not (tmp_path / "out.ipynb").exists()


def test_every_problem_names_the_line_of_the_file(tmp_path, capsys):
    nb = exercises()
    restated("2 points", "3 points")(nb)
    nb.cells[2].source += "\nassert double(0.61727) == 1.23454, 'a run gave this'"
    path = write(nb, tmp_path / "exercises.ipynb")
    assert law.main(["check", "--form", str(path)]) == 1
    lines = path.read_text(encoding="utf-8").splitlines()
    found = capsys.readouterr().out.splitlines()
    shown = [lines[int(problem.removeprefix(label(path)).split(":")[1]) - 1] for problem in found]
    assert (
        len(found) == 3 and all("0.61727" in line for line in shown[:2]) and "3 points" in shown[2]
    ), found


def test_a_check_that_knows_the_digits_of_one_run_is_found(tmp_path):
    """It passes with its own seed, and fails with another one."""
    source = (
        "import numpy as np\nassert np.random.default_rng(0).random() > 0.63 and double(1) == 2,"
        " 'luck'"
    )
    lucky = graded_cell(source, "lucky")
    name = label(path := write(exercises(lucky), tmp_path / "exercises.ipynb"))
    told = (
        "with other seeds the solution fails this check (AssertionError): it tests the digits of"
        " one run"
    )
    assert law.problems(path) == [f"{name}: cell 3: {told}"]


def test_a_chapter_lacks_what_it_lacks():
    found = sheets.chapter_problems(Notebook(exercises(), "sheet.ipynb"))
    assert [text.removeprefix("sheet.ipynb: ") for text in found] == [
        "1 exercises, expected 6 or more",
        *(f"no exercise of the kind {kind}" for kind in ("Predict", "Break", "Measure")),
        "no exercise of the kind Extend, Design or Open",
    ]


def test_order_and_hidden_tests_of_a_chapter_are_checked():
    nb = exercises()
    second = exercises()
    nb.cells[0].source = nb.cells[0].source.replace("Guided, easy", "Open, hard")
    second.cells[2].source = "assert double(2) == 4, 'four'"
    nb.cells += second.cells
    nb.cells[3].source = nb.cells[3].source.replace("## 1.", "## 2.")
    found = "\n".join(sheets.chapter_problems(Notebook(nb, "sheet.ipynb")))
    assert "exercise 2 (Guided) comes after 1 (Open)" in found
    assert "exercise 2 (Guided) has no hidden test" in found
    assert "the first exercise must be among the easiest" in found


def test_forms_are_checked_and_editions_made_with_what_the_site_needs_only():
    """Building the site installs no torch."""
    code = "import sys; sys.modules.update(dict.fromkeys(('torch', 'pandas', 'sklearn')));"
    code += "from mmbook import sheets; sheets.check_forms(); import mmbook.ext.student"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == 0


def test_the_site_is_not_built_from_a_bad_sheet(tmp_path):
    nb = exercises()
    no_points(nb)
    write(nb, tmp_path / "book" / "01_x" / "exercises.ipynb")
    with pytest.raises(
        RuntimeError, match=r"exercises\.ipynb:\d+: cell 2: a graded cell is worth 0 points"
    ):
        site_build.check_sources(tmp_path)
