"""Every real notebook of the book keeps every law, and README's table is true."""

from __future__ import annotations

import pytest
import yaml

from tools import laws
from tools.execution import ROOT, label
from tools.notebooks import book_notebooks, toc_entries

NOTEBOOKS = book_notebooks()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=label)
def test_notebook_keeps_every_law(path):
    problems = laws.check_file(path)
    assert not problems, "\n" + "\n".join(problems)


def test_there_are_notebooks():
    assert NOTEBOOKS, "book/ holds no notebook, so no law was tested"


def test_every_notebook_is_in_the_table_of_contents():
    toc = next(path for path in (ROOT / "_toc.yml", ROOT / "book" / "_toc.yml") if path.exists())
    entries = {(toc.parent / name).with_suffix("") for name in toc_entries(yaml.safe_load(toc.read_text("utf-8")))}
    assert [label(path) for path in NOTEBOOKS if path.with_suffix("") not in entries] == []


def test_readme_table_of_chapters_modules_and_tests_is_true():
    problems = laws.chapter_table_problems(ROOT)
    assert not problems, "\n" + "\n".join(problems)
