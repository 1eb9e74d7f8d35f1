"""The classroom: what students get, and how an nbgrader course grades generated submissions, honest
and not."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.api import Gradebook

from mmbook import classroom
from mmbook.course import grading
from mmbook.execution import SetMissing, needs, obtain
from mmbook.reading import Notebook, book_sheets, label, solutions

CHAPTER = "05_decision_fusion"
SECONDS = "25"  # importing torch on a busy machine takes a dozen
WORTH = {"multiply": 2, "combine": 3, "agree": 3, "echo": 3, "buys": 3, "measure": 4}
ALL = sum(WORTH.values())


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return classroom.build([CHAPTER], tmp_path_factory.mktemp("classroom") / "room")


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
        copied["id"] = "a-copy"
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
STUBBORN = """import time
while True:
    try:
        time.sleep(1)
    except BaseException:
        pass"""
LOOPING = "def multiply(probs, prior):\n    while True:\n        pass"
BY_SHOW = "def multiply(probs, prior):\n    display(2.0)\n    return prior[None]"
LOST_FIRST = ALL - WORTH["multiply"]
# name → (change of a perfect submission, score)
SUBMISSIONS: dict[str, tuple[Callable[[NotebookNode], None], float]] = {
    "perfect": (lambda nb: None, ALL),
    "prints": (instead("multiply", "print('all tests passed')"), LOST_FIRST),
    "raises": (instead("multiply", "raise RuntimeError('no')"), LOST_FIRST),
    "broken": (instead("multiply", "def multiply(:"), LOST_FIRST),
    "wrong": (instead("multiply", WRONG), LOST_FIRST),
    "loops": (instead("multiply", "while True:\n    pass"), LOST_FIRST),
    "loops_in_check": (instead("multiply", LOOPING), LOST_FIRST),
    "stubborn_loop": (instead("measure", STUBBORN), ALL - WORTH["measure"]),
    "kills": (instead("measure", "import ctypes\nctypes.string_at(0)"), ALL - WORTH["measure"]),
    "hog": (
        instead("measure", "hoard = []\nwhile True:\n    hoard.append(bytearray(1 << 28))"),
        ALL - WORTH["measure"],
    ),
    "nbgrader": (instead("multiply", "import nbgrader\n" + WRONG), LOST_FIRST),
    "reads_hidden": (
        instead("multiply", "text = open('../../../gradebook.db', 'rb').read()"),
        LOST_FIRST,
    ),
    "reads_source": (
        instead(
            "multiply", "import pathlib\nprint(list(pathlib.Path('../../../source').rglob('*')))"
        ),
        LOST_FIRST,
    ),
    "shell": (instead("multiply", "!cat ../../../source/*/*.ipynb"), LOST_FIRST),
    "patches_close": (
        instead("multiply", WRONG + "\ntorch.testing.assert_close = lambda *a, **k: None"),
        LOST_FIRST,
    ),
    "patches_late": (before("multiply-check", "torch.testing = torch"), ALL),
    "covers_torch": (also("multiply", WRONG + "\nclass torch:\n    pass"), LOST_FIRST),
    "covers_abs": (
        instead("combine", "abs = lambda x: 0.0\ndef combine(a, b):\n    return a, 0.0"),
        ALL - WORTH["combine"],
    ),
    "covers_error": (
        instead("multiply", "class AssertionError(Exception):\n    pass\n" + WRONG),
        LOST_FIRST,
    ),
    "lies": (instead("multiply", LYING), LOST_FIRST),
    "shows_points": (instead("multiply", BY_SHOW), LOST_FIRST),
    "edits_check": (
        lambda nb: (instead("multiply", WRONG)(nb), instead("multiply-check", "pass")(nb)),
        LOST_FIRST,
    ),
    "edits_points": (lambda nb: (instead("multiply", WRONG)(nb), all_points(nb)), LOST_FIRST),
    "edits_given": (given_away, ALL),
    "drops_check": (drop("multiply-check"), LOST_FIRST),
    "copies_check": (twice("multiply-check"), ALL),
    "damaged_format": (
        lambda nb: cell(nb, "multiply-check").metadata["nbgrader"].update(schema_version=1),
        LOST_FIRST,
    ),
    "copies_solution": (twice("multiply"), ALL),
    "warns": (also("multiply", "import warnings\nwarnings.warn('careful')"), ALL),
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
    submit(room, "stub", solved(room, CHAPTER, set()))
    submit(room, "half", solved(room, CHAPTER, {"multiply", "agree", "echo"}))
    for name, (change, _) in SUBMISSIONS.items():
        nb = solved(room, CHAPTER)
        change(nb)
        submit(room, name, nb)
    return graded_in(room, seconds=SECONDS)


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_a_submission_gets_what_it_deserves(graded, name):
    assert sum(graded[name].values()) == SUBMISSIONS[name][1], graded[name]


def test_an_empty_and_a_half_solved_submission(graded):
    assert sum(graded["stub"].values()) == 0
    assert graded["half"] == {
        f"{n}-check": WORTH[n] if n in ("multiply", "agree", "echo") else 0 for n in WORTH
    }


OTHERS = [path for path in book_sheets() if path.parent.name != CHAPTER]


@pytest.mark.parametrize("path", OTHERS, ids=label)
def test_every_chapter_is_graded_as_a_course(path, tmp_path):
    """All points for the solution and none for the stub, in the folders where nbgrader runs
    them."""
    try:
        obtain(needs(nbformat.read(path, as_version=4)))
    except SetMissing as reason:
        pytest.skip(str(reason))
    chapter = path.parent.name
    room = classroom.build([chapter], tmp_path / "room")
    perfect = solved(room, chapter)
    facts = [
        c.metadata["nbgrader"] for c in perfect.cells if c.metadata.get("nbgrader", {}).get("grade")
    ]
    worth = {fact["grade_id"]: fact["points"] for fact in facts}
    submit(room, "stub", solved(room, chapter, set()), chapter)
    submit(room, "perfect", perfect, chapter)
    assert graded_in(room, chapter) == {"perfect": worth, "stub": dict.fromkeys(worth, 0)}
    assert sum(worth.values()) >= 10


def test_a_student_reads_why_a_cell_was_refused(graded, room):
    nb = nbformat.read(
        room / "course" / "autograded" / "nbgrader" / CHAPTER / f"{CHAPTER}.ipynb", as_version=4
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
        ("from torch import os", "`import os` is not allowed"),
        ("torch.os.system('ls')", "`.os` is not allowed"),
        ("eval('1')", "`eval` is not allowed"),
        ("%run x.py", "line 1: commands of the shell"),
        ("().__class__.__base__.__subclasses__()", "`.__base__` is not allowed"),
        ("getattr(torch, 'o' + 's')", "`getattr` is allowed with a plain name"),
        ("def f():\n    global abs\n    abs = None", "`global abs` changes what the checks use"),
        ("torch.add = None", "`torch.add = ...` changes what the checks use"),
        ("class A:\n    def __eq__(self, x):\n        return True", "`def __eq__` is not allowed"),
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
