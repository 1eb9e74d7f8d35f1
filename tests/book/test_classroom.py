"""The classroom: what students get, and how an nbgrader course grades generated submissions, honest
and not."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.api import Gradebook

from mmbook import classroom
from mmbook.course import grading
from mmbook.reading import Notebook, book_sheets, label, solutions
from mmbook.reading import graded as exercise_checks
from tests.book.builders import graded_cell

CHAPTER = "05_decision_fusion"
SECONDS = "600"  # of a cell in the real grader: how busy the machine is decides nothing
WORTH = {"multiply": 2, "combine": 3, "agree": 3, "echo": 3, "buys": 3, "measure": 4}


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """The classroom of all chapters."""
    return classroom.build([], tmp_path_factory.mktemp("classroom") / "room")


# Submissions: each changes the solved student edition
# -------------------------------------------------------------------------------------------------


def place(nb: NotebookNode, grade_id: str) -> int:
    return next(
        n
        for n, c in enumerate(nb.cells)
        if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id
    )


def cell(nb: NotebookNode, grade_id: str) -> NotebookNode:
    return nb.cells[place(nb, grade_id)]


def instead(grade_id: str, source: str) -> Callable[[NotebookNode], None]:
    return lambda nb: cell(nb, grade_id).update(source=source)


def before(grade_id: str, source: str) -> Callable[[NotebookNode], None]:
    return lambda nb: nb.cells.insert(place(nb, grade_id), nbformat.v4.new_code_cell(source))


def also(grade_id: str, source: str) -> Callable[[NotebookNode], None]:
    return lambda nb: cell(nb, grade_id).update(source=cell(nb, grade_id).source + "\n" + source)


def drop(grade_id: str) -> Callable[[NotebookNode], None]:
    return lambda nb: nb.cells.pop(place(nb, grade_id))


def twice(grade_id: str) -> Callable[[NotebookNode], None]:
    def change(nb: NotebookNode) -> None:
        copied = nbformat.from_dict(dict(cell(nb, grade_id)))
        copied["id"] = f"copy-{grade_id}"
        nb.cells.insert(place(nb, grade_id), copied)

    return change


def all_points(nb: NotebookNode) -> None:
    """Claim a hundred points for an empty check."""
    cell(nb, "multiply-check").metadata["nbgrader"]["points"] = 100
    cell(nb, "multiply-check").source = "pass"


def given_away(nb: NotebookNode) -> None:
    """Empty the cell that imports what the checks need."""
    imports = next(
        c
        for c in nb.cells
        if c.cell_type == "code" and "from mmtutor.fusion import decision" in c.source
    )
    imports.source = "pass"


WRONG = "def multiply(probs, prior):\n    return prior[None]"
LYING = """class Yes:
    def __eq__(self, other):
        return True

def multiply(probs, prior):
    return Yes()"""
BY_SHOW = "def multiply(probs, prior):\n    display(2.0)\n    return prior[None]"
Change = Callable[[NotebookNode], object]
# name → (changes of a perfect submission, checks that earn nothing)
SUBMISSIONS: dict[str, tuple[list[Change], set[str]]] = {
    "warns": ([also("multiply", "import warnings\nwarnings.warn('careful')")], set()),
    "refused": (
        [
            instead("multiply", "import nbgrader\n" + WRONG),
            instead("measure", "text = open('../../../gradebook.db', 'rb').read()"),
        ],
        {"multiply", "measure"},
    ),
    "covers": (
        [
            also("multiply", WRONG + "\nclass torch:\n    pass"),
            instead("combine", "abs = lambda x: 0.0\ndef combine(a, b):\n    return a, 0.0"),
            before("agree-check", "torch.testing = torch"),
        ],
        {"multiply", "combine"},
    ),
    "covers_error": (
        [instead("multiply", "class AssertionError(Exception):\n    pass\n" + WRONG)],
        {"multiply"},
    ),
    "shows_points": ([instead("multiply", BY_SHOW), given_away], {"multiply"}),
    "edits_check": ([instead("multiply", WRONG), all_points], {"multiply"}),
    "drops_check": (
        [drop("multiply-check"), twice("agree-check"), twice("echo")],
        {"multiply"},
    ),
    "damaged_format": (
        [lambda nb: cell(nb, "multiply-check").metadata["nbgrader"].update(schema_version=1)],
        {"multiply"},
    ),
}


def solved(room: Path, chapter: str, ids: set[str] | None = None) -> NotebookNode:
    """Return the student edition with the solutions `ids` put in (None: all of them)."""
    nb = nbformat.read(room / "student" / chapter / f"{chapter}.ipynb", as_version=4)
    source = nbformat.read(room / "instructor" / chapter / f"{chapter}.ipynb", as_version=4)
    for own in nb.cells:
        facts = own.metadata.get("nbgrader", {})
        if facts.get("solution") and (ids is None or facts["grade_id"] in ids):
            own.source = cell(source, facts["grade_id"]).source
    return nb


def submit(room: Path, name: str, nb: NotebookNode, chapter: str = CHAPTER) -> None:
    """Hand in what the student was given, with the notebook in its new state."""
    target = room / "course" / "submitted" / name / chapter
    shutil.copytree(room / "student" / chapter, target)
    nbformat.write(nb, str(target / f"{chapter}.ipynb"))


def graded_in(
    room: Path, chapter: str = CHAPTER, seconds: str | None = None
) -> dict[str, dict[str, float]]:
    """Student → check → points, as nbgrader's gradebook has them after one run over all
    submissions."""
    done = classroom.nbgrader(room / "course", "autograde", chapter, seconds=seconds)
    assert done.returncode == 0, done.stderr[-3000:]
    with Gradebook(f"sqlite:///{room / 'course' / 'gradebook.db'}") as book:
        return {
            s.student.id: {g.cell.name: g.score for nb in s.notebooks for g in nb.grades}
            for s in book.assignment_submissions(chapter)
        }


@pytest.fixture(scope="module")
def graded(room) -> dict[str, dict[str, float]]:
    """Ten submissions, each graded once by nbgrader itself."""
    submit(room, "stub", solved(room, CHAPTER, set()))
    submit(room, "half", solved(room, CHAPTER, {"multiply", "agree", "echo"}))
    for name, (changes, _) in SUBMISSIONS.items():
        nb = solved(room, CHAPTER)
        for change in changes:
            change(nb)
        submit(room, name, nb)
    return graded_in(room, seconds=SECONDS)


def earned(lost: set[str]) -> dict[str, float]:
    return {f"{name}-check": 0 if name in lost else points for name, points in WORTH.items()}


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_a_submission_gets_what_it_deserves(graded, name):
    assert graded[name] == earned(SUBMISSIONS[name][1])


def test_an_empty_and_a_half_solved_submission(graded):
    assert graded["stub"] == earned(set(WORTH))
    assert graded["half"] == earned({"combine", "buys", "measure"})


@pytest.mark.parametrize("path", book_sheets(), ids=label)
def test_every_chapter_has_an_assignment_with_its_files_and_points(room, path):
    """That solutions pass and stubs fail is proved in test_exercises.py; here, that what the course
    hands out is all there."""
    chapter, nb = path.parent.name, nbformat.read(path, as_version=4)
    files = {file.as_posix() for file in classroom.files_of(nb, path.parent)}
    checks = {c.metadata["nbgrader"]["grade_id"]: c for _, c in exercise_checks(nb)}
    for home in ("student", "course/source", "course/release", "instructor"):
        folder = room / home / chapter
        held = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
        assert held == files | {f"{chapter}.ipynb"}, home
        edition = nbformat.read(folder / f"{chapter}.ipynb", as_version=4)
        assert [c.metadata["nbgrader"]["grade_id"] for _, c in exercise_checks(edition)] == [
            *checks
        ]
    assert sum(c.metadata["nbgrader"]["points"] for c in checks.values()) >= 10


# How a submission's cells are run, on sheets that take no time of their own
# -------------------------------------------------------------------------------------------------

STUBBORN = """import time
while True:
    try:
        time.sleep(1)
    except BaseException:
        pass"""


def run_carefully(tmp_path: Path, source: str, **options) -> list[str]:
    """Run a student's cell, one more of the course's own and a check; returns the error of each."""
    cells = [nbformat.v4.new_code_cell(source)]
    for grade_id, own in (("given", "two = 2"), ("check", "assert two + abs(-1) == 3")):
        cells.append(graded_cell(own, grade_id))
    nb = nbformat.v4.new_notebook(cells=cells)
    options = {"timeout": 300, "iopub_timeout": 300, "memory_mb": 0} | options
    step = grading.CarefulExecute(interrupt_on_timeout=True, **options)
    nb, _ = step.preprocess(nb, {"metadata": {"path": str(tmp_path)}})
    errors = ([o.ename for o in c.outputs if o.output_type == "error"][:1] for c in nb.cells)
    return ["".join(error) for error in errors]


@pytest.mark.parametrize(
    ("source", "errors", "limits"),
    [
        ("while True:\n    pass", ["KeyboardInterrupt", "", ""], {"timeout": 10}),
        (
            STUBBORN,
            ["CellTimeoutError", "NotRun", "NotRun"],
            {"timeout": 10, "iopub_timeout": 5},
        ),
        ("import ctypes\nctypes.string_at(0)", ["Refused", "", ""], {}),
        ("abs = print", ["", "", ""], {}),
        ("def broken(:", ["SyntaxError", "", ""], {}),
    ],
)
def test_one_cell_never_ends_the_grading(tmp_path, source, errors, limits):
    modules = [*grading.ALLOWED_MODULES]
    assert run_carefully(tmp_path, source, allowed_modules=modules, **limits) == errors


def test_a_kernel_that_dies_is_told_from_one_that_is_slow(tmp_path):
    source = "import ctypes\nctypes.string_at(0)"
    dead = run_carefully(tmp_path, source, allowed_modules=["ctypes"])
    assert dead == ["DeadKernelError", "NotRun", "NotRun"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_a_cell_that_hoards_memory_is_stopped(tmp_path):
    source = "hoard = []\nwhile True:\n    hoard.append(bytearray(1 << 28))"
    assert run_carefully(tmp_path, source, memory_mb=1024) == ["MemoryError", "", ""]


def test_a_student_reads_why_a_cell_was_refused(graded, room):
    nb = nbformat.read(
        room / "course" / "autograded" / "refused" / CHAPTER / f"{CHAPTER}.ipynb", as_version=4
    )
    (error,) = cell(nb, "multiply").outputs
    assert error.ename == "Refused" and "line 1: `import nbgrader` is not allowed" in error.evalue
    assert "import nbgrader" in cell(nb, "multiply").source, "the student's own text stays"


def test_no_solution_and_no_hidden_test_leaves_the_room(room):
    with zipfile.ZipFile(room / "release" / f"{CHAPTER}.zip") as archive:
        packed = {name: archive.read(name).decode() for name in archive.namelist()}
    assert set(packed) == {f"{CHAPTER}/README.txt", f"{CHAPTER}/{CHAPTER}.ipynb"}
    student = (room / "student" / CHAPTER / f"{CHAPTER}.ipynb").read_text(encoding="utf-8")
    released = (room / "course" / "release" / CHAPTER / f"{CHAPTER}.ipynb").read_text(
        encoding="utf-8"
    )
    for text in (*packed.values(), student, released):
        for secret in (
            "HIDDEN",
            "BEGIN SOLUTION",
            "decision.product_rule(some",
            "softmax subtracts",
        ):
            assert secret not in text
    source = (room / "instructor" / CHAPTER / f"{CHAPTER}.ipynb").read_text(encoding="utf-8")
    assert "HIDDEN" in source and "softmax subtracts" in source
    assert [c.source for c in nbformat.reads(student, 4).cells] == [
        c.source for c in nbformat.reads(released, 4).cells
    ]


def test_the_zip_has_the_same_bytes_on_every_run(room, tmp_path):
    again = tmp_path / "again.zip"
    classroom.write_zip(room / "student" / CHAPTER, CHAPTER, again)
    assert again.read_bytes() == (room / "release" / f"{CHAPTER}.zip").read_bytes()


@pytest.mark.parametrize("path", book_sheets(), ids=label)
def test_no_solution_of_the_book_is_refused(path):
    """The rules for students must leave room for good answers; given code is not asked."""
    nb = Notebook.read(path).nb
    own = [c for n, c in enumerate(nb.cells) if c.cell_type == "code" and n not in solutions(nb)]
    kept = {name for c in own for name in grading.names_in(c.source)}
    assert {
        n: why for n in solutions(nb) if (why := grading.refusals(nb.cells[n].source, kept))
    } == {}


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("x = 1\nimport os", "line 2: `import os` is not allowed"),
        ("import pathlib\nprint(list(pathlib.Path('..').rglob('*')))", "`import pathlib`"),
        ("text = open('../../../gradebook.db', 'rb').read()", "line 1: `open` is not allowed"),
        ("!cat ../../../source/*/*.ipynb", "line 1: commands of the shell"),
        ("torch.testing.assert_close = lambda *a, **k: None", "changes what the checks use"),
        (LYING, "line 2: `def __eq__` is not allowed"),
        ("from torch import os", "`import os` is not allowed"),
        ("torch.os.system('ls')", "`.os` is not allowed"),
        ("eval('1')", "`eval` is not allowed"),
        ("%run x.py", "line 1: commands of the shell"),
        ("().__class__.__base__.__subclasses__()", "`.__base__` is not allowed"),
        ("getattr(torch, 'o' + 's')", "`getattr` is allowed with a plain name"),
        ("def f():\n    global abs\n    abs = None", "`global abs` changes what the checks use"),
        ("torch.add = None", "`torch.add = ...` changes what the checks use"),
    ],
)
def test_refusals_say_line_and_reason(source, complaint):
    assert any(complaint in text for text in grading.refusals(source, {"torch"})), grading.refusals(
        source, {"torch"}
    )


def test_honest_code_is_not_refused():
    source = (
        "import numpy as np\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def"
        " __init__(self):\n"
    )
    source += "        super().__init__()\n        self.x = 1"
    assert grading.refusals(source, {"torch", "nn"}) == []


def test_files_that_a_notebook_reads_travel_with_it(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "x.json").write_text("{}")
    nb = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("load('results/x.json', 'nothing')")]
    )
    assert classroom.files_of(nb, tmp_path) == [Path("results/x.json")]


def test_an_unknown_chapter_names_the_known_ones(capsys):
    assert classroom.main(["05_decision"]) == 1
    assert CHAPTER in capsys.readouterr().err


def test_submissions_are_never_wiped(tmp_path):
    (tmp_path / "course" / "submitted" / "ada" / CHAPTER).mkdir(parents=True)
    with pytest.raises(classroom.ClassroomError, match="holds submissions"):
        classroom.build([CHAPTER], tmp_path)
    assert (tmp_path / "course" / "submitted" / "ada").is_dir()
