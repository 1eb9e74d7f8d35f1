"""An exercise as a student takes it: the student edition in JupyterLab, in a browser, wrong answers
first."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from mmbook import exercises

ROOT = Path(__file__).resolve().parents[2]
FIRST = "def average_present(probs: dict, present: dict) -> torch.Tensor:\n"
FORGETS_WHO_IS_ABSENT = FIRST + "    return sum(probs.values()) / len(probs)\n"
FORGETS_THAT_NOBODY_MAY_BE_THERE = (
    FIRST
    + """    said = {m: torch.where(present[m][:, None], p, 0.0) for m, p in probs.items()}
    return sum(said.values()) / sum(present.values())[:, None]
"""
)
RIGHT = (
    FIRST
    + """    said = {m: torch.where(present[m][:, None], p, 0.0) for m, p in probs.items()}
    there = sum(p.double() for p in present.values())[:, None]
    mean = sum(said.values()) / there.clamp(min=1)
    return torch.where(there > 0, mean, 1 / mean.shape[1]).float()
"""
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[str]:
    """The address of a JupyterLab that shows the student edition of chapter 1, apart from the
    user's own settings."""
    home = tmp_path_factory.mktemp("student")
    folder = home / "course"
    folder.mkdir()
    sheet = ROOT / "book/01_first_fusion/exercises.ipynb"
    assert exercises.main(["student", str(sheet), str(folder / sheet.name)]) == 0
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = {"HOME": home, "JUPYTER_CONFIG_DIR": home / "config", "JUPYTER_RUNTIME_DIR": home / "run"}
    options = [
        "--no-browser",
        "--allow-root",
        "--expose-app-in-browser",
        f"--port={port}",
        "--IdentityProvider.token=",
    ]
    options += ["--LabApp.news_url=None", f"--ServerApp.root_dir={folder}"]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env=os.environ
            | {key: str(path) for key, path in own.items()}
            | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(f"{address}/api", timeout=1).close()
                    break
                except (urllib.error.URLError, ConnectionError, TimeoutError):
                    assert server.poll() is None, (home / "log").read_text()
                    time.sleep(0.25)
            else:
                raise AssertionError((home / "log").read_text())
            yield f"{address}/lab/tree/exercises.ipynb"
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture
def student(lab, browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(lab)
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=300_000)
    page.wait_for_function(
        "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel",
        timeout=300_000,
    )
    yield page
    page.close()


NOTEBOOK = "window.jupyterapp.shell.currentWidget.content"


def place(page: Page, grade_id: str) -> int:
    """Return where the cell of an exercise stands."""
    found = page.evaluate(
        f"id => {NOTEBOOK}.widgets.findIndex(cell => cell.model.getMetadata('nbgrader')?.grade_id"
        " === id)",
        grade_id,
    )
    assert found >= 0
    return found


def select(page: Page, cell: int) -> None:
    """Make a cell the active one, as a click on its margin does."""
    page.evaluate(
        f"n => {{ {NOTEBOOK}.deselectAll(); {NOTEBOOK}.activeCellIndex = n; {NOTEBOOK}.mode ="
        " 'command'; }",
        cell,
    )
    page.evaluate(f"n => {NOTEBOOK}.scrollToItem(n)", cell)
    page.evaluate(f"() => {NOTEBOOK}.node.focus()")


def run(page: Page, cell: int) -> str:
    """Run a cell by the keyboard and return what the student sees below it."""
    select(page, cell)
    page.evaluate(f"n => {{ {NOTEBOOK}.widgets[n].model.clearExecution(); }}", cell)
    page.keyboard.press("Control+Enter")
    page.wait_for_function(
        f"n => {NOTEBOOK}.widgets[n].model.executionCount > 0", arg=cell, timeout=120_000
    )
    return page.evaluate(f"n => {NOTEBOOK}.widgets[n].outputArea.node.innerText", cell)


def answer(page: Page, cell: int, text: str) -> None:
    """Replace the text of a cell by the keyboard."""
    select(page, cell)
    page.keyboard.press("Enter")
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)
    page.keyboard.press("Escape")


def test_a_student_is_led_from_the_stub_over_two_mistakes_to_the_answer(student):
    mine, check = place(student, "average"), place(student, "average-check")
    for cell in range(mine):
        if student.evaluate(f"n => {NOTEBOOK}.widgets[n].model.type", cell) == "code":
            assert run(student, cell) == ""
    run(student, mine)
    assert "NotImplementedError" in run(student, check)
    answer(student, mine, FORGETS_WHO_IS_ABSENT)
    assert run(student, mine) == ""
    assert "text is absent: only the picture counts, no NaN" in run(student, check)
    answer(student, mine, FORGETS_THAT_NOBODY_MAY_BE_THERE)
    assert run(student, mine) == ""
    assert "nobody is present: every class is equally likely" in run(student, check)
    answer(student, mine, RIGHT)
    assert run(student, mine) == ""
    assert run(student, check) == ""


def test_a_check_cannot_be_edited_by_accident(student):
    check = place(student, "average-check")
    before = student.evaluate(f"n => {NOTEBOOK}.widgets[n].model.sharedModel.getSource()", check)
    answer(student, check, "pass")
    assert (
        student.evaluate(f"n => {NOTEBOOK}.widgets[n].model.sharedModel.getSource()", check)
        == before
    )
