"""The wheel: it holds package and tools with their data files, and works away from the checkout."""

from __future__ import annotations

import importlib.metadata as metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ("mmtutor", "mmbook")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with what a wheel installs; built from a copy, so that the checkout stays clean."""
    copy = tmp_path_factory.mktemp("source")
    for folder in CODE:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(copy)], check=True)
    (wheel,) = wheels.glob("mmtutor-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def test_wheel_holds_every_file_of_package_and_tools(installed):
    files = {
        path.relative_to(ROOT)
        for folder in CODE
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {path.suffix for path in files} >= {".py", ".json", ".css", ".js", ".j2", ".mjs", ".md"}
    assert [str(path) for path in sorted(files) if not (installed / path).is_file()] == []


def test_metadata_is_whole(installed):
    (folder,) = installed.glob("mmtutor-*.dist-info")
    about = metadata.Distribution.at(folder).metadata
    for key in ("Summary", "Author", "Keywords", "License-Expression", "Requires-Python"):
        assert about[key], key
    assert {line.split(",")[0] for line in about.get_all("Project-URL")} >= {
        "Homepage",
        "Documentation",
        "Repository",
        "Issues",
    }
    assert len(about.get_all("Classifier")) > 5
    assert about.get_payload().startswith("# mmtutor")
    assert {"book", "test", "pdf", "notebooks", "lab"} <= set(about.get_all("Provides-Extra"))


def run(installed: Path, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("from mmtutor.cli import main; main(['data', 'list'])", "mvsa"),
        ("import mmbook.ext.widgets as w, mmbook.site; print(w.__file__)", "installed"),
        ("from mmbook.site.packages import LOCKS; print(*LOCKS.glob('*/*'))", "package-lock.json"),
        ("from mmbook import slides; print(*slides.TEMPLATE.iterdir())", "slides.css"),
    ],
)
def test_it_works_away_from_the_checkout(installed, tmp_path, code, shown):
    done = run(installed, tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


def test_commands_that_need_the_book_say_so(installed, tmp_path):
    done = run(
        installed, tmp_path, "from mmbook import site; raise SystemExit(site.main(['serve']))"
    )
    assert done.returncode == 1
    assert "is not within a checkout of the book" in done.stderr
