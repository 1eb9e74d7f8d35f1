"""Quizzes: each way to break one is noticed, at the right line of the file, and stops the site from
being built."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from docutils import nodes
from docutils.utils import new_document

from mmbook import laws, site
from mmbook.ext import quiz_assets, site_build
from mmbook.reading import Notebook, read_quizzes, source_rows
from mmbook.words import WORDS
from tests.book.builders import code, fold, markdown, notebook, picture, quiz, write

ROOT = Path(__file__).resolve().parents[2]
NAME = "book/01_x/lesson.ipynb"
SECOND = "**2. Is this the question?**"
RIGHT = "Right. It would be too easy."
PREDICT = (
    "## Predict first\n\nWhat then?\n\n"
    + fold("A. More.", "Look below.")
    + fold("B. Less.", "See the table.")
)


def replaced(text: str, old: str, new: str, which: int = 1) -> str:
    """Return text with occurrence number `which` of old replaced."""
    assert text.count(old) >= which, f"nothing to break: {old!r}"
    parts = text.split(old)
    return old.join(parts[:which]) + new + old.join(parts[which:])


def problems(cell: str, folder: Path) -> list[str]:
    """Return what is said of a lesson whose quiz is replaced by `cell`, read from a file."""
    nb = notebook()
    nb.cells[-2].source = cell
    write(nb, folder / NAME)
    return laws.book_problems(folder)


def row(folder: Path, text: str, which: int = 1) -> int:
    """Return the line number, as an editor shows it, of occurrence number `which` of a text in the
    written file."""
    rows = [
        n
        for n, line in enumerate((folder / NAME).read_text(encoding="utf-8").split("\n"), start=1)
        if text in line
    ]
    return rows[which - 1]


def test_a_sound_quiz_and_prediction_have_no_problem(tmp_path):
    assert problems(quiz(), tmp_path) == []
    assert problems(f"{PREDICT}\n\n{quiz()}", tmp_path) == []
    extra = "**4. One more?**\n\n" + fold("a", "Right. So.") + fold("b", "No.")
    assert (
        problems(
            f"{quiz()}{extra}Go on with *the exercises*.\n\n## Take-aways\n\n**Not a question**",
            tmp_path,
        )
        == []
    )


# (what to replace, by what, which occurrence, what must be said, the text at whose line, which
# occurrence of that)
FAULTS = {
    "no right choice": (
        RIGHT,
        "It would be too easy.",
        2,
        "has 0 choices whose feedback",
        "**2. Is",
        1,
    ),
    "two right choices": (
        "Only now and then.",
        "Right: so it is.",
        1,
        "has 2 choices whose feedback",
        "**1. Is",
        1,
    ),
    "right in other words": (
        "Only now and then.",
        "Yes, as you saw.",
        3,
        "begins with 'Yes'",
        "<summary>Yes.",
        3,
    ),
    "right without a mark": (
        RIGHT,
        "Right it is.",
        1,
        "has 0 choices whose feedback",
        "**1. Is",
        1,
    ),
    "no feedback": (
        "Only now and then.",
        "",
        2,
        "the choice 'Yes.' of question 2 has no feedback",
        "<summary>Yes.",
        2,
    ),
    "no feedback but space": (
        "Only now and then.\n",
        " \n",
        1,
        "has no feedback",
        "<summary>Yes.",
        1,
    ),
    "one choice": (fold("No.", RIGHT), "", 1, "question 1 has 1 choices", "**1. Is", 1),
    "no choice": (
        fold("Yes.", "Only now and then.") + fold("No.", RIGHT),
        "",
        3,
        "question 3 has 0",
        "**3. Is",
        1,
    ),
    "choice twice": (
        "<summary>No.",
        "<summary>yes. ",
        2,
        "has the choice 'yes.' twice",
        "<summary>yes.",
        1,
    ),
    "choice without text": ("<summary>No.", "<summary> ", 1, "without a text", "<summary> <", 1),
    "same said twice": (
        "Only now and then.",
        "right. It would be  too easy.",
        1,
        "same about two",
        "<summary>No.",
        1,
    ),
    "right without a reason": (
        RIGHT,
        "Right.",
        1,
        "that it is right, and not why",
        "<summary>No.",
        1,
    ),
    "maths in a choice": (
        "<summary>No.",
        "<summary>No, $x$.",
        2,
        "holds '$'",
        "<summary>No, $x$.",
        1,
    ),
    "code in a choice": ("<summary>Yes.", "<summary>`yes`", 1, "holds '`'", "<summary>`yes`", 1),
    "a role in a choice": (
        "<summary>Yes.",
        "<summary>{term} yes",
        1,
        "holds '{term}'",
        "<summary>{term} yes",
        1,
    ),
    "number twice": (
        "**2. Is",
        "**1. Is",
        1,
        "question 1 stands where 2 is expected",
        "**1. Is",
        2,
    ),
    "number left out": ("**2. Is", "**Is", 1, "has no number", "**Is", 1),
    "too few": (quiz().split("**3.")[1], "", 3, "the quiz has 2 questions", "## Quiz", 1),
    "never closed": ("</details>", "", 2, "not closed by </details>", "<summary>No.", 1),
    "last never closed": ("</details>", "", 6, "not closed by </details>", "<summary>No.", 3),
    "closed twice": (SECOND, f"</details>\n\n{SECOND}", 1, "closes no choice", "</details>", 3),
    "closed in a line": (
        "easy.\n\n</details>",
        "easy. </details>",
        2,
        "on a line of its own",
        "easy. </details>",
        1,
    ),
    "summary left open": ("No.</summary>", "No.", 2, "on one line", "<summary>No.\\n", 1),
    "summary elsewhere": (
        "<details><summary>No.",
        "<details>\n<summary>No.",
        3,
        "on one line",
        "<details>\\n",
        1,
    ),
    "two on a line": (
        "No.</summary>",
        "No.</summary></details>",
        1,
        "on one line",
        "No.</summary></details>",
        1,
    ),
    "choice first": (
        "**1. Is this the question?**",
        "",
        1,
        "before the first question",
        "<summary>Yes.",
        1,
    ),
    "glued": (
        "now and then.\n\n</details>",
        "now and then.\n</details>",
        3,
        "blank line",
        "now and then.",
        3,
    ),
}


@pytest.mark.parametrize(
    ("old", "new", "which", "said", "at", "at_which"), FAULTS.values(), ids=FAULTS
)
def test_each_fault_of_a_quiz_is_named_with_its_line(tmp_path, old, new, which, said, at, at_which):
    found = problems(replaced(quiz(), old, new, which), tmp_path)
    place = f"{NAME}:{row(tmp_path, at, at_which)}: cell {len(notebook().cells) - 2}: "
    assert any(problem.startswith(place) and said in problem for problem in found), found


def test_six_questions_are_too_many(tmp_path):
    more = "".join(
        f"**{n}. And?**\n\n" + fold("a", "Right. So.") + fold("b", "No.") for n in (4, 5, 6)
    )
    assert "the quiz has 6 questions" in problems(quiz() + more, tmp_path)[0]
    assert problems(quiz() + more.split("**6.")[0], tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "said", "at"),
    [
        ("A. More", "More", "does not begin with 'A.'", "<summary>More"),
        ("B. Less", "C. Less", "does not begin with 'B.'", "<summary>C."),
        ("Look below.", "", "has no feedback", "<summary>A."),
        (fold("B. Less.", "See the table."), "", "the prediction has 1 choices", "## Predict"),
        ("\n\n</details>", "", "not closed", "<summary>A."),
    ],
)
def test_each_fault_of_a_prediction(tmp_path, old, new, said, at):
    found = problems(replaced(PREDICT, old, new), tmp_path)
    assert any(p.startswith(f"{NAME}:{row(tmp_path, at)}: ") and said in p for p in found), found


def test_a_quiz_may_run_over_several_cells():
    first, second = quiz().split(SECOND)
    nb = notebook()
    nb.cells[-2:-1] = [
        markdown(first),
        code("1 + 1"),
        markdown(SECOND + second.replace("Only now and then.", "", 1)),
    ]
    (quiz_read,), found = read_quizzes(nb, WORDS["en"])
    assert [question.number for question in quiz_read.questions] == [1, 2, 3]
    assert found == []
    assert [finding.cell for finding in said_of(nb)] == [len(nb.cells) - 2]


def said_of(nb) -> list:
    return laws.LAWS["quiz"](Notebook(nb, NAME))


def test_heading_in_a_code_block_begins_no_section():
    nb = notebook(markdown("```\n## Quiz\n<details>\n```"))
    assert said_of(nb) == []


def test_pictures_and_folds_are_named_with_their_lines(tmp_path):
    bare = code("x = 1\nplt.plot(x)\nassert x", picture())
    text = "Two pictures:\n\n![](a.png)\n\n<details><summary>More</summary>\nglued\n\n</details>"
    text += "\n\n```\n</details>\n```"
    write(notebook(markdown(text), bare), tmp_path / NAME)
    found = laws.book_problems(tmp_path)
    assert [problem.partition(" cell ")[2][:40] for problem in found] == [
        "7: a picture has no alternative text",
        "7: a blank line is missing after </summa",
        "8: a picture has no alternative text",
    ]
    rows = [int(problem.split(":")[1]) for problem in found]
    assert rows == [
        row(tmp_path, "![](a.png)"),
        row(tmp_path, "<summary>More"),
        row(tmp_path, '"x = 1\\n'),
    ]


@pytest.mark.parametrize("indent", [None, 1, 4])
def test_rows_are_those_of_the_file_however_it_is_written(indent):
    nb = notebook(markdown('Say "x", {y}\n\n: [z]\\\n'), markdown(""))
    text = json.dumps(json.loads(nbformat.writes(nb)), indent=indent)
    rows = source_rows(text)
    assert len(rows) == len(nb.cells)
    written = text.split("\n")
    for cell, found in zip(nb.cells, rows, strict=True):
        assert len(found) == max(1, len(cell.source.splitlines()))
        for line, number in zip(cell.source.splitlines(), found, strict=False):
            assert json.dumps(line)[1:-1] in written[number - 1]


def test_rows_of_source_stored_as_one_string_or_in_pieces():
    kind = {"cell_type": "code", "outputs": [{"source": ["no"]}]}
    cells = [kind | {"source": "a\nb\nc"}, kind | {"source": ["a\n", "b\u2028\n", "c"]}]
    cells.append(kind | {"source": []})
    text = json.dumps({"metadata": {"cells": [1]}, "cells": cells}, indent=1)
    shown = [[text.split("\n")[row - 1].strip() for row in rows] for rows in source_rows(text)]
    pieces = ['"a\\n",', *['"b\\u2028\\n",'] * 2, '"c"']  # U+2028 ends a line, as \\n does
    assert shown == [['"source": "a\\nb\\nc"'] * 3, pieces, ['"cell_type": "code",']]


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "book").glob("[0-9]*/*.ipynb")),
    ids=lambda p: f"{p.parent.name}/{p.stem}",
)
def test_laws_and_build_name_the_same_lines_in_the_book(path):
    text = path.read_text(encoding="utf-8")
    nb = nbformat.reads(text, as_version=4)
    assert source_rows(text) == source_rows(nbformat.writes(nb))
    if path.stem != "exercises":
        assert [read.predicts for read in read_quizzes(nb, WORDS["en"])[0]] == [True, False]


def test_the_law_says_what_the_build_says(tmp_path):
    nb = notebook()
    nb.cells[-2].source = quiz().replace(RIGHT, "Well.")
    read = Notebook(nb, NAME)
    write(nb, tmp_path / NAME)
    assert read.located(said_of(nb)) == laws.book_problems(tmp_path)
    assert len(said_of(nb)) == 3


def test_broken_quiz_stops_the_site_before_anything_is_made(tmp_path):
    nb = notebook()
    nb.cells[-2].source = quiz().replace(RIGHT, "Well.", 1)
    write(nb, tmp_path / NAME)
    write(nb, tmp_path / "book/.ipynb_checkpoints/lesson.ipynb")
    with pytest.raises(
        site.SiteError,
        match=rf"sound pages:\n{NAME}:{row(tmp_path, '**1. Is')}: cell 7: .*expected one$",
    ):
        site_build.check_sources(tmp_path)


def test_the_check_needs_none_of_the_heavy_packages():
    heavy = (
        "torch",
        "numpy",
        "PIL",
        "pandas",
        "matplotlib",
        "sklearn",
        "nbgrader",
        "IPython.display.widgets",
    )
    script = f"import sys; sys.modules.update(dict.fromkeys({heavy})); from mmbook import laws"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_page_says_which_fold_is_right():
    """So that the script needs no word: it reads data-right."""
    section = nodes.section("", nodes.title("", "Quiz"))
    for feedback in ("Only now and then.", "Right. It would be too easy.", "Rightly asked."):
        section += nodes.raw("", "<details><summary>Yes.</summary>\n", format="html")
        section += [nodes.paragraph("", feedback), nodes.raw("", "</details>\n", format="html")]
    other = nodes.section(
        "", nodes.title("", "Predict first"), *(c.deepcopy() for c in section[1:])
    )
    document = new_document("lesson")
    document += [section, other]
    quiz_assets.mark_right(None, document)
    assert section["classes"] == ["quiz"] and other["classes"] == []
    folds = [node.astext() for node in document.findall(nodes.raw) if "summary" in node.astext()]
    assert ["data-right" in text for text in folds] == [False, True, False, False, False, False]
