"""Rooms import only rooms below them; an import that goes up is named, inside a function too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[3]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


@pytest.fixture
def package(tmp_path):
    """A copy of the package's code, with the project's own contracts."""
    shutil.copytree(ROOT / "mmtutor", tmp_path / "mmtutor", ignore=shutil.ignore_patterns("__*__"))
    for source in (ROOT / "mmtutor").rglob("__init__.py"):
        shutil.copy(source, tmp_path / source.relative_to(ROOT))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(folder), "PYTHONUTF8": "1"}
    command = [sys.executable, "-c", LINT, "--no-cache"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def test_the_rooms_keep_their_layers(package):
    done = lint(package)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("room", "code", "names"),
    [
        ("files/whole.py", "from mmtutor.data import load", "mmtutor.files.whole -> mmtutor.data"),
        ("types.py", "def f():\n    from mmtutor import checks", "mmtutor.types -> mmtutor.checks"),
        ("fusion/feature.py", "import mmtutor.apps.cli", "mmtutor.fusion.feature -> mmtutor.apps"),
        ("report.py", "def f():\n    import mmbook", "mmtutor.report -> mmbook"),
        ("files/store.py", "def f():\n    import torch", "mmtutor.files.store -> torch"),
    ],
)
def test_an_import_that_goes_up_is_named_with_its_line(package, room, code, names):
    path = package / "mmtutor" / room
    text = path.read_text(encoding="utf-8") + code + "\n"
    path.write_text(text, encoding="utf-8")
    done = lint(package)
    assert done.returncode == 1 and names in done.stdout
    assert f"l.{len(text.splitlines())}" in done.stdout


def test_a_new_room_needs_a_place_among_the_layers(package):
    (package / "mmtutor" / "attic.py").write_text("x = 1\n")
    done = lint(package)
    assert done.returncode == 1 and "attic" in done.stdout
