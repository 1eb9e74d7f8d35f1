"""Every real notebook of the book keeps every law, and README's table is true."""

from __future__ import annotations

import pytest

from mmbook import laws
from mmbook.laws.prose import typed_numbers
from mmbook.reading import ROOT, book_notebooks, label, toc_pages

NOTEBOOKS = book_notebooks()
DEFINITIONS = (  # numbers that explain a word in the glossary; none was measured
    "middle 95 % of the results",
    "given with 80 % confidence, 80 % should be right",
)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=label)
def test_notebook_keeps_every_law(path):
    problems = laws.check_file(path)
    assert not problems, "\n" + "\n".join(problems)


def test_there_are_notebooks():
    assert NOTEBOOKS, "book/ holds no notebook, so no law was tested"


def test_every_module_says_which_chapter_teaches_it_and_it_does():
    assert laws.taught_problems() == []


def test_every_notebook_is_in_the_table_of_contents():
    listed = {ROOT / name for name in toc_pages(ROOT / "_toc.yml")}
    assert [label(path) for path in NOTEBOOKS if path.with_suffix("") not in listed] == []


@pytest.mark.parametrize("path", sorted((ROOT / "book").rglob("*.md")), ids=label)
def test_pages_hold_no_typed_results(path):
    text = path.read_text(encoding="utf-8")
    for phrase in DEFINITIONS:
        text = text.replace(phrase, "")
    assert typed_numbers(text) == [], (
        f"{label(path)}: glue a result, set a definition as code or maths"
    )


def test_readme_table_of_chapters_modules_and_tests_is_true():
    problems = laws.chapter_table_problems(ROOT)
    assert not problems, "\n" + "\n".join(problems)
