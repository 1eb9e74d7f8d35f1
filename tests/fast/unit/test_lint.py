"""The list of notebooks that are still wider than their column only ever gets shorter."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

BOOK = Path(__file__).resolve().parents[3] / "book"


def exceptions() -> dict[str, set[str]]:
    """Notebook → the rules that it may still break."""
    settings = tomllib.loads((BOOK / "ruff.toml").read_text(encoding="utf-8"))
    return {name: set(codes) for name, codes in settings["lint"]["per-file-ignores"].items()}


def breaches(settings: Path) -> dict[str, set[str]]:
    """Notebook → the rules that ruff finds broken in it where nothing is excepted."""
    text = (BOOK / "ruff.toml").read_text(encoding="utf-8").split("[lint.per-file-ignores]")[0]
    settings.write_text(text.replace("../", f"{BOOK.parent.as_posix()}/"), encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=json"]
    done = subprocess.run(
        [*command, "--config", str(settings), str(BOOK)], capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr
    found = defaultdict(set)
    for breach in json.loads(done.stdout):
        found[Path(breach["filename"]).relative_to(BOOK).as_posix()].add(breach["code"])
    return found


def test_a_notebook_leaves_the_list_once_it_keeps_a_rule(tmp_path):
    found = breaches(tmp_path / "ruff.toml")
    kept = {name: sorted(codes - found[name]) for name, codes in exceptions().items()}
    assert not any(kept.values()), f"take these off the list in book/ruff.toml: {kept}"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("x = '" + "a" * 76 + "'", "E501"),
        ("import os", "F401"),
        ("fs = [lambda: i for i in range(3)]", "B023"),
    ],
)
def test_a_new_notebook_is_held_to_the_rules(tmp_path, line, code):
    """With the book's own settings, as `make check` runs ruff; the message names cell and line."""
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": 1}
    notebook = {"cells": [cell | {"source": ["y = 1\n", line]}], "metadata": {}, "nbformat": 4}
    (tmp_path / "ruff.toml").write_text(
        (BOOK / "ruff.toml").read_text().replace("../", f"{BOOK.parent.as_posix()}/")
    )
    (tmp_path / "new.ipynb").write_text(json.dumps(notebook | {"nbformat_minor": 5}))
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "new.ipynb:cell 1:2:" in done.stdout and code in done.stdout
