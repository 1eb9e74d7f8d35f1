"""The classroom: what students get, and how an nbgrader course grades generated submissions, honest
and not."""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat import NotebookNode
from nbgrader.api import Gradebook

from mmbook import classroom, launch
from mmbook.course import grading
from mmbook.reading import ROOT, book_sheets, label
from mmbook.reading import graded as exercise_checks
from tests.book.builders import graded_cell, way_here

CHAPTER = "05_decision_fusion"
SECONDS = "600"  # of a cell in the real grader: how busy the machine is decides nothing
# solution → points of its check, as the sheet states them
WORTH = {
    own["grade_id"].removesuffix("-check"): own["points"]
    for own in (
        check.metadata["nbgrader"]
        for _, check in exercise_checks(
            nbformat.read(ROOT / "book" / CHAPTER / "exercises.ipynb", as_version=4)
        )
    )
}


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """The classroom of all chapters."""
    return classroom.build([], tmp_path_factory.mktemp("classroom") / "room")


# Programs that are right, however they read: their words are refused nowhere
# -------------------------------------------------------------------------------------------------

RIGHT_PROGRAMS = {
    "operator in front": "assert (\n    1\n    != 2\n)\nrest = (\n    7\n    % 4\n)",
    "docstring": 'def half(x):\n    """Return:\n    % x\n    != x\n    !x ?x"""\n    return x / 2',
    "requires_grad": (
        "class Tensor:\n    detach = clone = lambda self: self\na = Tensor()\n"
        "a = a.detach().clone(); a.requires_grad = True"
    ),
    "modules": (
        "class Net:\n    modules = lambda self: []\n    def all(self):\n"
        "        for m in self.modules():\n            print(m)\nNet().all()"
    ),
    "input": "def layer(input):\n    return input + 1\nlayer(1)",
    "imports": "import json, sys, contextlib, bisect, inspect, os, pathlib, io, subprocess",
    "magic": "%%time\ntimed = sum(range(10))",
    "magics in a cell": "%timeit -n 1 -r 1 1 + 1\n!true\nls = %who_ls",
    "covered names": "list, dict, type, vars, len, sorted, callable = 1, 2, 3, 4, 5, 6, 7",
    "attributes": "class A:\n    io = load = system = 1\nA.load = A().io\nsetattr(A, 'os', 3)",
    "equality": "class P:\n    def __eq__(self, other):\n        return True\n    __hash__ = None",
    "code": "eval('1 + 1'); exec('y = 1'); compile('1', 'f', 'eval'); globals(), locals()",
    "files of its own": "for f in ('/tmp/mine.txt', 'mine.txt'):\n    open(f, 'w').write('x')",
    "global": "count = 0\ndef add():\n    global count\n    count += 1\nadd()",
}


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
BY_SHOW = "def multiply(probs, prior):\n    display(2.0)\n    return prior[None]"
Change = Callable[[NotebookNode], object]
# name → (changes of a perfect submission, checks that earn nothing)
SUBMISSIONS: dict[str, tuple[list[Change], set[str]]] = {
    "honest": (
        [
            *(also("multiply", program) for program in list(RIGHT_PROGRAMS.values())[:6]),
            also("multiply", "import warnings\nwarnings.warn('careful')"),
        ],
        set(),
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
    env = {"COURSE_ISOLATION": way_here()} | ({"COURSE_SECONDS": seconds} if seconds else {})
    done = classroom.nbgrader(room / "course", "autograde", chapter, **env)
    assert done.returncode == 0, done.stderr[-3000:]
    (room / "log").write_text(done.stderr)
    with Gradebook(f"sqlite:///{room / 'course' / 'gradebook.db'}") as book:
        return {
            s.student.id: {g.cell.name: g.score for nb in s.notebooks for g in nb.grades}
            for s in book.assignment_submissions(chapter)
        }


@pytest.fixture(scope="module")
def graded(room) -> dict[str, dict[str, float]]:
    """Nine submissions, each graded once by nbgrader itself."""
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
    assert graded["half"] == earned(set(WORTH) - {"multiply", "agree", "echo"})


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


def run_carefully(tmp_path: Path, *sources: str, **options) -> NotebookNode:
    """Run a student's cells, one more of the course's own and a check, as the course does."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    for grade_id, own in (("given", "two = 2"), ("check", "assert two + abs(-1) == 3")):
        cells.append(graded_cell(own, grade_id))
    nb = nbformat.v4.new_notebook(cells=cells)
    options = {"timeout": 300, "iopub_timeout": 300, "memory_mb": 0} | options
    step = grading.CarefulExecute(interrupt_on_timeout=True, **options)
    nb, _ = step.preprocess(nb, {"metadata": {"path": str(tmp_path)}})
    return nb


def errors(nb: NotebookNode) -> list[str]:
    """Return the first error of each cell, "" where there is none."""
    found = ([o.ename for o in c.outputs if o.output_type == "error"][:1] for c in nb.cells)
    return ["".join(error) for error in found]


@pytest.fixture
def isolated(monkeypatch) -> None:
    """Skip, with the reason, where this machine cannot isolate."""
    monkeypatch.delenv("COURSE_ISOLATION", raising=False)
    try:
        grading.isolation.chosen()
    except grading.isolation.NotIsolated as reason:
        pytest.skip(str(reason).splitlines()[0])


@pytest.fixture
def anywhere(monkeypatch) -> None:
    """Isolate where this machine can; otherwise run all the same: what is tested is the rest."""
    monkeypatch.setenv("COURSE_ISOLATION", way_here())


def test_no_program_is_refused_for_its_words(tmp_path, anywhere):
    nb = run_carefully(tmp_path, *RIGHT_PROGRAMS.values())
    assert dict(zip(RIGHT_PROGRAMS, errors(nb), strict=False)) == dict.fromkeys(RIGHT_PROGRAMS, "")
    assert errors(nb)[-2:] == ["", ""]


@pytest.mark.parametrize(
    ("source", "found", "limits"),
    [
        ("while True:\n    pass", ["KeyboardInterrupt", "", ""], {"timeout": 10}),
        (
            STUBBORN,
            ["CellTimeoutError", "NotRun", "NotRun"],
            {"timeout": 10, "iopub_timeout": 5},
        ),
        ("import ctypes\nctypes.string_at(0)", ["DeadKernelError", "NotRun", "NotRun"], {}),
        ("import sys\ndel sys.modules['_course']", ["", "DeadKernelError", "NotRun"], {}),
        ("abs = print", ["", "", ""], {}),
        ("import builtins\nbuiltins.abs = print", ["", "", ""], {}),
        ("def broken(:", ["SyntaxError", "", ""], {}),
        ("input('name?')", ["StdinNotImplementedError", "", ""], {}),
    ],
)
def test_one_cell_never_ends_the_grading(tmp_path, anywhere, source, found, limits):
    assert errors(run_carefully(tmp_path, source, **limits)) == found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
@pytest.mark.parametrize("way", ["bwrap", "none"])
def test_a_cell_that_hoards_memory_is_stopped(tmp_path, monkeypatch, request, way):
    if way == "bwrap":
        request.getfixturevalue("isolated")
    monkeypatch.setenv("COURSE_ISOLATION", way)
    source = "hoard = []\nwhile True:\n    hoard.append(bytearray(1 << 28))"
    assert errors(run_carefully(tmp_path, source, memory_mb=1024)) == ["MemoryError", "", ""]


ESCAPES = {  # each must raise; what it raises is asked by another test of the operating system
    "a file of the course": "pathlib.Path({course!r}).read_text()",
    "the password file": "open('/etc/shadow').read()",
    "the home folder": "assert os.listdir(os.path.expanduser('~root')), 'nothing there'",
    "the book": "pathlib.Path({book!r}).read_text()",
    "its own notebook": "open('sheet.ipynb').read()",
    "writing to packages": "open(json.__file__, 'a')",
    "writing to the assignment": "open('data.txt', 'a')",
    "this machine": "socket.create_connection(('127.0.0.1', {port}), timeout=5).close()",
    "the network": "socket.create_connection(('1.1.1.1', 53), timeout=5)",
    "names": "socket.getaddrinfo('example.org', 80)",
    "the grader": "os.kill({grader}, 0)",
    "other processes": "assert len([p for p in os.listdir('/proc') if p.isdigit()]) > 4, 'no'",
    "an environment variable": "os.environ['COURSE_SECRET']",
    "disk": "open('/tmp/big', 'wb').write(bytes(1 << 29))",
    "shared memory": "open('/dev/shm/big', 'wb').write(bytes(1 << 29))",
}


def test_isolation_stops_what_a_submission_must_not_do(tmp_path, isolated, monkeypatch):
    """Each is tried first by this process, for what fails everywhere proves nothing."""
    assignment = tmp_path / "autograded" / "ada" / "x"
    assignment.mkdir(parents=True)
    for name in ("sheet.ipynb", "data.txt"):
        (assignment / name).write_text("{}")
    (tmp_path / "gradebook.db").write_text("points")
    monkeypatch.setenv("COURSE_SECRET", "token")
    with socket.create_server(("127.0.0.1", 0)) as server:
        facts = {
            "course": str(tmp_path / "gradebook.db"),
            "book": str(ROOT / "book" / "teaching.md"),
            "port": server.getsockname()[1],
            "grader": os.getpid(),
        }
        sources = {name: source.format(**facts) for name, source in ESCAPES.items()}
        for name in ("a file of the course", "the book", "this machine", "the grader"):
            exec(sources[name], {"os": os, "socket": socket, "pathlib": pathlib})
        begin = "import json, os, pathlib, socket\nassert open('data.txt').read() == '{}'"
        nb = run_carefully(assignment, begin, *sources.values())
    first, *tried, given, check = errors(nb)
    assert (first, given, check) == ("", "", "")
    assert [name for name, error in zip(ESCAPES, tried, strict=True) if not error] == []


def test_a_submission_cannot_kill_what_runs_it(tmp_path, isolated):
    source = "import os\nfor pid in (1, os.getppid(), -1):\n    os.kill(pid, 9)"
    assert errors(run_carefully(tmp_path, source))[-1] in ("", "NotRun")  # we are still there


def test_without_isolation_nothing_runs_until_somebody_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("COURSE_ISOLATION", raising=False)
    with pytest.raises(grading.isolation.NotIsolated, match="there is no program bwrap") as caught:
        run_carefully(tmp_path, "open('trace', 'w')")
    assert "COURSE_ISOLATION=none runs their code as yours" in str(caught.value)
    assert not (tmp_path / "trace").exists()
    for way, told in (("jail", "'jail' is none of bwrap"), ("docker", "no program docker")):
        monkeypatch.setenv("COURSE_ISOLATION", way)
        with pytest.raises(grading.isolation.NotIsolated, match=told):
            grading.isolation.chosen()


def test_a_container_gets_the_same_limits(tmp_path, monkeypatch):
    """No test machine has a container engine: what is asked of it, word by word."""
    monkeypatch.setenv("COURSE_IMAGE", "course")
    monkeypatch.setenv("MMTUTOR_DATA", str(tmp_path))
    (tmp_path / "x.ipynb").write_text("{}")
    (tmp_path / "x.json").write_text("{}")
    kernel = grading.isolation.IsolatedKernel(way="podman", memory_mb=99)
    kernel.name, kernel.folder, kernel.home = "one", tmp_path, "/tmp/h"
    command = kernel.format_kernel_cmd()
    words = " ".join(command)
    assert command[:3] == ["podman", "run", "--rm"]
    for asked in (
        "--network=none --read-only",
        "--memory=99m",
        "--pids-limit=256",
        "--cap-drop=ALL",
        f"--volume={tmp_path}:{tmp_path}:ro",
        f"--volume={tmp_path / 'x.json'}:/assignment/x.json:ro",
        "--volume=/tmp/h:/tmp/h course python -m ipykernel_launcher -f",
    ):
        assert asked in words
    assert "x.ipynb" not in words


@pytest.mark.parametrize("name", ["x (1)", "x(2)", "x-Copy1", "Copy of x", "X (1)"])
def test_a_second_download_gets_its_name_back(tmp_path, name):
    folder = tmp_path / "ada" / "x"
    folder.mkdir(parents=True)
    (folder / f"{name}.ipynb").write_text("mine")
    (folder / "notes.ipynb").write_text("other")
    grading.accept_second_downloads(tmp_path)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "x.ipynb": "mine",
        "notes.ipynb": "other",
    }


def test_a_name_that_is_there_is_left_alone(tmp_path):
    folder = tmp_path / "ada" / "x"
    folder.mkdir(parents=True)
    for name in ("x", "x (1)"):
        (folder / f"{name}.ipynb").write_text(name)
    grading.accept_second_downloads(tmp_path)
    assert (folder / "x.ipynb").read_text() == "x"


def test_an_honest_submission_gives_no_warning_and_an_edited_one_is_named(graded, room):
    log = (room / "log").read_text()
    warned = {
        Path(part.split("\n")[0]).parts[-3]
        for part in log.split("Sanitizing ")[1:]
        if "WARNING" in part
    }
    assert "honest" not in warned and "half" not in warned and "KeyboardInterrupt" not in log
    assert "edits_check" in warned
    assert "was changed by the student: it is put back" in log


def test_export_leaves_out_what_nobody_handed_in(graded, room):
    done = classroom.nbgrader(room / "course", "export")
    assert done.returncode == 0, done.stderr
    lines = (room / "course" / "grades.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in lines[1:]} == {CHAPTER}
    assert len(lines) == len(graded) + 1


def test_no_solution_and_no_hidden_test_leaves_the_room(room):
    with zipfile.ZipFile(room / "release" / f"{CHAPTER}.zip") as archive:
        packed = {name: archive.read(name).decode() for name in archive.namelist()}
    assert set(packed) == {f"{CHAPTER}/README.txt", f"{CHAPTER}/{CHAPTER}.ipynb"}
    assert launch.package() in packed[f"{CHAPTER}/README.txt"]
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


def test_the_first_cell_of_a_student_says_the_rules(room):
    for home in ("student", "course/release"):
        nb = nbformat.read(room / home / CHAPTER / f"{CHAPTER}.ipynb", as_version=4)
        first = nb.cells[0].source
        assert first.startswith("# Exercises") and f"`{CHAPTER}.ipynb`" in first
        assert '"Run All" stops at the first exercise' in first
        (colab,) = [cell.source for cell in nb.cells if launch.ours(cell)]
        assert colab == launch.student_source(CHAPTER)
        assert f"--branch {launch.STUDENTS} " in colab and "book/" not in colab
    own = nbformat.read(room / "instructor" / CHAPTER / f"{CHAPTER}.ipynb", as_version=4)
    assert "Run All" not in own.cells[0].source


def test_the_published_branch_is_what_the_workflow_pushes(room):
    """Folder and branch, as the site's buttons name them."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/pages.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["students"]["steps"]
    assert any(step.get("run") == "make classroom" for step in steps)
    publish = steps[-1]["run"]
    assert "cd _build/classroom/student" in publish
    assert publish.strip().endswith(f" {launch.STUDENTS}")
    assert workflow["jobs"]["deploy"]["needs"] == ["build", "students"]
    held = {path.name for path in (room / "student").iterdir()}
    assert held == {"requirements.txt", *(path.parent.name for path in book_sheets())}


def test_a_classroom_is_built_without_torch(tmp_path):
    """Whoever wants a student edition needs nbgrader, and not gigabytes."""
    heavy = ("torch", "numpy", "pandas", "matplotlib", "PIL", "sklearn", "pytest")
    code = f"import sys; sys.modules.update(dict.fromkeys({heavy!r}));"
    code += "from pathlib import Path; from mmbook import classroom;"
    code += f"classroom.build([{CHAPTER!r}], Path({str(tmp_path / 'room')!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "room" / "release" / f"{CHAPTER}.zip").is_file()


def test_the_zip_has_the_same_bytes_on_every_run(room, tmp_path):
    again = tmp_path / "again.zip"
    classroom.write_zip(room / "student" / CHAPTER, CHAPTER, again)
    assert again.read_bytes() == (room / "release" / f"{CHAPTER}.zip").read_bytes()


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
