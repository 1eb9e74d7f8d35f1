"""A class on a hub: the lines of the instructor's guide as written, two students, one teacher, on
this machine's loopback."""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import requests

from mmbook import classroom
from mmbook.reading import ROOT
from tests.book.builders import way_here

CHAPTER = "05_decision_fusion"
MISSING = [
    name
    for name in ("jupyterhub", "configurable_http_proxy")
    if importlib.util.find_spec(name) is None
]
pytestmark = pytest.mark.skipif(
    bool(MISSING) or sys.platform == "win32",
    reason=f"a hub needs the extra hub: {', '.join(MISSING)}",
)
PATIENCE = 300  # seconds that a busy machine may take


def lines() -> list[str]:
    """Return the guide's lines, from where the course is entered."""
    page = (ROOT / "book" / "teaching.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```shell\n(.*?)```", page, re.DOTALL) if "hub.py" in b)
    return block.splitlines()


def free_ports() -> int:
    """Return a port that is free, and so are the next two."""
    for port in range(18000, 19000, 3):
        tried = [socket.socket() for _ in range(3)]
        try:
            for n, one in enumerate(tried):
                one.bind(("127.0.0.1", port + n))
            return port
        except OSError:
            continue
        finally:
            for one in tried:
                one.close()
    raise AssertionError("no free ports")


class Student:
    """A student's browser, by requests."""

    def __init__(self, hub: str, name: str, password: str) -> None:
        self.name, self.hub, self.web = name, hub, requests.Session()
        self.web.get(f"{hub}/hub/login", timeout=60)
        form = {"username": name, "password": password, "_xsrf": self.web.cookies["_xsrf"]}
        assert self.web.post(f"{hub}/hub/login", data=form, timeout=60).ok
        made = self.web.post(
            f"{hub}/hub/api/users/{name}/tokens",
            json={},
            headers={"X-XSRFToken": self.cookie()},
            timeout=60,
        )
        assert made.ok, made.text
        self.web = requests.Session()
        self.web.headers["Authorization"] = f"token {made.json()['token']}"
        assert self.web.post(f"{hub}/hub/api/users/{name}/server", timeout=60).ok
        wait(lambda: self.web.get(f"{hub}/user/{name}/api/status", timeout=60).ok)

    def cookie(self) -> str:
        """Return the hub's token against forgery."""
        return next(c.value for c in self.web.cookies if c.name == "_xsrf" and c.path == "/hub/")

    def assignment(self, action: str) -> dict:
        """Do what a click in the list of assignments does."""
        done = self.web.post(
            f"{self.hub}/user/{self.name}/assignments/{action}",
            json={"course_id": "mmtutor", "assignment_id": CHAPTER},
            timeout=PATIENCE,
        )
        assert done.ok, done.text
        assert done.json()["success"], done.text
        return done.json()


def wait(ready) -> None:
    """Wait until a condition is met."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if ready():
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.5)
    raise AssertionError("it took too long")


@pytest.fixture
def course(tmp_path: Path) -> Path:
    return classroom.build([CHAPTER], tmp_path / "room") / "course"


@pytest.fixture
def shell(course: Path, tmp_path: Path) -> Iterator:
    """Run a line of the guide in the course folder; one that ends in & goes on."""
    env = os.environ | {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONPATH": str(ROOT),
        "COURSE_PORT": str(free_ports()),
        "COURSE_ISOLATION": way_here(),
        "COURSE_TEACHER": "teacher",
        "COURSE_SECONDS": "600",
    }
    running: list[subprocess.Popen] = []

    def run(line: str) -> str:
        line = line.partition("#")[0].strip()
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            env[name] = value
        elif line.endswith("&"):
            log = (tmp_path / "log").open("w")
            command = line.removesuffix("&").split()
            running.append(
                subprocess.Popen(
                    command, cwd=course, env=env, stdout=log, stderr=log, start_new_session=True
                )
            )
            log.close()
        elif line:
            done = subprocess.run(line.split(), cwd=course, env=env, capture_output=True, text=True)
            assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
        return f"http://127.0.0.1:{env['COURSE_PORT']}"

    yield run
    for process in running:
        process.send_signal(signal.SIGINT)  # the hub ends its proxy and its servers
        process.wait(60)


def test_two_students_and_a_teacher_on_a_hub(course, shell, tmp_path):
    block = lines()
    entered = next(n for n, line in enumerate(block) if line.startswith("cd "))
    theirs = next(n for n, line in enumerate(block) if line.startswith("# students"))
    for line in block[entered + 1 : theirs]:
        hub = shell(line)
    wait(lambda: requests.get(f"{hub}/hub/health", timeout=60).ok)
    password = next(line for line in block if line.startswith("export COURSE_TRIAL="))
    password = password.partition("#")[0].strip().partition("=")[2]
    students = [Student(hub, name, password) for name in ("ada", "bob")]
    for student in students:
        home = course / "homes" / student.name / CHAPTER
        student.assignment("fetch")
        assert (home / f"{CHAPTER}.ipynb").is_file()
        if student.name == "ada":
            solve(home / f"{CHAPTER}.ipynb", tmp_path / "room" / "instructor")
        student.assignment("submit")
    for line in block[theirs + 1 :]:
        shell(line)
    with (course / "grades.csv").open() as file:
        points = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
        assert set(points) == {"ada", "bob"}
    assert points["bob"] == 0 and points["ada"] >= 10
    teacher = Student(hub, "teacher", password)
    shown = teacher.web.get(f"{hub}/user/teacher/formgrader/api/assignments", timeout=PATIENCE)
    assert [one["name"] for one in shown.json()] == [CHAPTER], shown.text
    students[0].assignment("fetch_feedback")
    feedback = course / "homes" / "ada" / CHAPTER / "feedback"
    assert list(feedback.rglob(f"{CHAPTER}.html"))
    for private in ("source", "gradebook.db", "submitted"):
        assert (course / private).stat().st_mode & 0o077 == 0, private


def solve(path: Path, solved: Path) -> None:
    """Put the solutions into a student's notebook."""
    nb = nbformat.read(path, as_version=4)
    source = nbformat.read(solved / CHAPTER / f"{CHAPTER}.ipynb", as_version=4)
    answers = {
        c.metadata["nbgrader"]["grade_id"]: c.source
        for c in source.cells
        if c.metadata.get("nbgrader", {}).get("solution")
    }
    for cell in nb.cells:
        if (own := cell.metadata.get("nbgrader", {})).get("solution"):
            cell.source = answers[own["grade_id"]]
    nbformat.write(nb, str(path))


def test_the_guide_needs_ten_lines():
    commands = [line for line in lines() if line.strip() and not line.startswith("#")]
    assert len(commands) <= 12
    assert shutil.which("make")
