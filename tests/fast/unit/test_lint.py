"""Notebooks are held to the book's own rules for code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BOOK = Path(__file__).resolve().parents[3] / "book"


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
