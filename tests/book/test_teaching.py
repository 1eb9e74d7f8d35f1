"""The instructor's guide: what it says is what the notebooks say, and every fault is named with
file and entry."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

from mmbook import teaching
from tests.book.builders import exercises, markdown, notebook, write

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = teaching.read_chapters()
GUIDE = teaching.read_guide()
LESSON, SHEET = "01_small/lesson", "01_small/exercises"
ADD = "{term}`add <sum>` {term}`two` numbers"
PROMISES = (
    f"## You will be able to\n\n- {ADD},\n  from scratch;\n- say why $1 | 2$ is odd.\n\nBut first"
    " this."
)
TASKS = (
    "## 1. Double it\n\n*Guided, easy, 10 minutes, 2 points.* Do.",
    "## 2. Predict: halves\n\n*Open, hard, 25 minutes, 1 point.* Do.",
)
NAMES = ("objectives", "cost", "memory", "plan twelve weeks", "plan three days")
PAGE = "# T\n\n" + "\n\n".join(f"<!-- teaching: {name} -->" for name in NAMES)


def session(when: str, **own: Any) -> dict[str, Any]:
    return {"when": when, "pages": [LESSON], "talk": 30, "class": {}, "read": 5, "home": {}} | own


def small_guide() -> dict[str, Any]:
    """A guide that keeps every law of the small book."""
    objectives = {
        LESSON: [
            {"objective": "say why", "not exercised": "ask"},
            {"objective": "add two", "exercises": ["Double", "halves"]},
        ]
    }
    sessions = [
        session("Monday", **{"class": {"01_small": ["Double"]}, "home": {"01_small": ["halves"]}})
    ]
    plan = {"class": 40, "home": 30, "sessions": sessions}
    return {
        "objectives": objectives,
        "plans": {"twelve weeks": plan, "three days": copy.deepcopy(plan)},
    }


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A book of one chapter with two objectives and two exercises."""
    lesson = notebook(seconds=2.6, memory_mb=1234.4, needs=["oasis"])
    lesson.cells = [c for c in lesson.cells if "able to" not in c.source] + [markdown(PROMISES)]
    sheet = exercises(*map(markdown, TASKS))
    sheet.cells[0].source = "# Exercises"
    sheet.metadata["mmtutor"] = {"seconds": 9, "memory_mb": 800}
    write(lesson, tmp_path / "book" / f"{LESSON}.ipynb")
    write(sheet, tmp_path / "book" / f"{SHEET}.ipynb")
    (tmp_path / "_toc.yml").write_text(
        f"format: jb-book\nroot: book/intro\nchapters:\n- file: book/{LESSON}\n  sections:\n  -"
        f" file: book/{SHEET}\n"
    )
    (tmp_path / "book" / "teaching.yml").write_text(yaml.safe_dump(small_guide()), encoding="utf-8")
    return tmp_path


def insert(book: Path, guide: Any = None, page: str = PAGE) -> str:
    if guide is not None:
        (book / "book" / "teaching.yml").write_text(yaml.safe_dump(guide), encoding="utf-8")
    return teaching.insert(page, book)


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line[:1] == "|"
    ]


def test_guide_of_the_book_has_no_fault():
    assert teaching.Guide(CHAPTERS, GUIDE).problems == []


def test_every_lesson_promises_and_every_sheet_asks():
    for chapter in CHAPTERS.values():
        assert all(
            page.objectives for page in chapter.pages if not page.name.endswith("/exercises")
        ), chapter.folder
        assert list(chapter.exercises) == list(range(1, len(chapter.exercises) + 1)), chapter.folder


def test_points_are_those_of_the_checks():
    for folder, chapter in CHAPTERS.items():
        cells = nbformat.read(ROOT / "book" / folder / "exercises.ipynb", 4).cells
        graded = sum(cell.metadata.get("nbgrader", {}).get("points", 0) for cell in cells)
        assert sum(e.points for e in chapter.exercises.values()) == graded, folder


def test_small_book_is_read_as_it_is_written(book):
    (chapter,) = teaching.read_chapters(book).values()
    lesson, sheet = chapter.pages
    assert lesson == teaching.Page(
        f"book/{LESSON}",
        "Two signals",
        (f"{ADD}, from scratch", "say why $1 | 2$ is odd"),
        2.6,
        1234.4,
        ("oasis",),
    )
    assert sheet.objectives == ()
    shown = {n: (e.title, e.kind, e.minutes, e.points) for n, e in chapter.exercises.items()}
    assert shown == {
        1: ("Double it", "Guided", 10, 2),
        2: ("Predict: halves", "Open", 25, 1),
    }


def test_tables_of_the_small_book(book):
    text = insert(book)
    link = "{doc}`Two signals </book/01_small/lesson>`"
    assert [f"On the page {link}", ""] in [[*row, ""][:2] for row in rows(text)]
    assert [f"{ADD}, from scratch", "1. Double it<br>2. Predict: halves"] in rows(text)
    assert [r"say why $1 \| 2$ is odd", "*not exercised*: ask"] in rows(text)
    assert [f"1 {link} (needs oasis)", "3", "1234", "", ""] in [
        [*row[:3], "", ""] for row in rows(text)
    ]
    assert ["1 {doc}`Exercises </book/01_small/exercises>`", "9", "800", "35", "3"] in rows(text)
    assert rows(text).count(["Monday", link, "1.1<br>40&nbsp;min", "1.2<br>30&nbsp;min"]) == 2
    assert "took 1234 MB" in text
    assert "took 800 MB" in text
    assert "about 150 MB more" in text
    assert "55 GB for the notebook, and 38 GB" in text
    assert "<!-- teaching" not in text


def test_memory_for_a_hub_follows_the_largest_notebook_and_the_largest_sheet():
    text = teaching.tables(teaching.Guide(CHAPTERS, GUIDE))["memory"]
    pages = [page for chapter in CHAPTERS.values() for page in chapter.pages]
    sheets = [page for page in pages if page.name.endswith("/exercises")]
    for megabytes in (
        max(page.memory_mb for page in pages),
        max(page.memory_mb for page in sheets),
    ):
        assert f"took {megabytes:.0f} MB" in text
        assert f"{40 * (megabytes + teaching.SERVER_MB) / 1000:.0f} GB for the" in text


def break_entry(guide: dict, **own: Any) -> None:
    guide["objectives"][LESSON][1] = {
        "objective": "add two",
        "exercises": ["Double", "halves"],
    } | own


def break_session(guide: dict, **own: Any) -> None:
    guide["plans"]["twelve weeks"]["sessions"][0] |= own


FAULTS = {
    "unknown exercise": (
        lambda g: break_entry(g, exercises=["Double", "Triple"]),
        ["Triple", "not one", "Double it"],
    ),
    "exercise that is no title": (
        lambda g: break_entry(g, exercises=[1, "Double", "halves"]),
        ["[1].exercises[0]", "1 is not of type"],
    ),
    "words that fit two": (
        lambda g: break_entry(g, exercises=["l", "Double", "halves"]),
        ["2 exercises", "'l'"],
    ),
    "unknown objective": (
        lambda g: break_entry(g, objective="fly"),
        ["fly", "0 objectives", "0 entries for 'add two"],
    ),
    "words from the middle": (lambda g: break_entry(g, objective="two numbers"), ["0 objectives"]),
    "no words": (lambda g: break_entry(g, objective=""), ["[1].objective", "non-empty"]),
    "both ways": (lambda g: break_entry(g, **{"not exercised": "x"}), ["say either"]),
    "neither way": (lambda g: break_entry(g, exercises=[]), ["[1].exercises", "non-empty"]),
    "unknown key": (
        lambda g: break_entry(g, exercise=["Double"]),
        ["[1]", "'exercise' was unexpected"],
    ),
    "entry of words": (
        lambda g: g["objectives"][LESSON].append("add"),
        ["[2]", "'add' is not of type"],
    ),
    "objective twice": (
        lambda g: g["objectives"][LESSON].append(g["objectives"][LESSON][0]),
        ["2 entries for 'say why"],
    ),
    "objective forgotten": (lambda g: g["objectives"][LESSON].pop(0), ["0 entries for 'say why"]),
    "exercise forgotten": (
        lambda g: break_entry(g, exercises=["Double"]),
        ["exercise 2 of 01_small", "halves"],
    ),
    "unknown page": (
        lambda g: g["objectives"].update({"01_small/x": []}),
        ["'01_small/x'", "no such notebook"],
    ),
    "unknown page in a plan": (
        lambda g: break_session(g, pages=["y"]),
        ["twelve weeks, Monday", "no notebook 'y'"],
    ),
    "unknown chapter in a plan": (
        lambda g: break_session(g, home={"09": ["a"]}),
        ["Monday", "home", "no chapter '09'"],
    ),
    "unknown exercise in a plan": (
        lambda g: break_session(g, home={"01_small": ["a third"]}),
        ["home", "'a third'"],
    ),
    "exercise twice": (
        lambda g: break_session(g, home={"01_small": ["Double"]}),
        ["exercise 1", "was done before"],
    ),
    "too long in class": (lambda g: break_session(g, talk=31), ["41 minutes class", "the 40 of"]),
    "too long at home": (lambda g: break_session(g, read=6), ["31 minutes home", "the 30 of"]),
    "minutes in words": (
        lambda g: break_session(g, talk="long"),
        ["['twelve weeks'].sessions[0].talk", "'long' is not of type"],
    ),
    "unknown key of a session": (
        lambda g: break_session(g, quiz=[]),
        ["['twelve weeks'].sessions[0]", "'quiz' was unexpected"],
    ),
    "session of words": (
        lambda g: g["plans"]["three days"]["sessions"].append("x"),
        ["['three days'].sessions[1]", "'x' is not of type"],
    ),
    "title without list": (
        lambda g: break_session(g, home={"01_small": "halves"}),
        ["sessions[0].home", "'halves' is not of type 'array'"],
    ),
    "entry without list": (
        lambda g: break_entry(g, exercises="Double"),
        ["[1].exercises", "'Double' is not of type 'array'"],
    ),
    "plan without limit": (
        lambda g: g["plans"]["three days"].pop("home"),
        ["['three days']", "'home' is a required property"],
    ),
    "unknown plan": (
        lambda g: g["plans"].update({"a year": {}}),
        ["plans", "'a year' was unexpected"],
    ),
    "no session key": (
        lambda g: g["plans"]["three days"]["sessions"][0].pop("read"),
        ["['three days'].sessions[0]", "'read' is a required property"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_the_guide_is_named_with_file_and_entry(book, fault):
    guide = small_guide()
    FAULTS[fault][0](guide)
    with pytest.raises(teaching.TeachingError, match=r"book/teaching\.yml") as caught:
        insert(book, guide)
    for words in FAULTS[fault][1]:
        assert words in str(caught.value)


def test_all_faults_are_listed_at_once(book):
    guide = small_guide()
    break_entry(guide, exercises=["Triple"])
    break_session(guide, pages=["y"])
    with pytest.raises(teaching.TeachingError) as caught:
        insert(book, guide)
    # Triple is unknown, two exercises serve nothing, a page is unknown
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize("key", ["objectives", "plans"])
def test_missing_part_of_the_guide_is_named(book, key):
    guide = small_guide()
    del guide[key]
    with pytest.raises(
        teaching.TeachingError, match=f"teaching.yml, .*'{key}' is a required property"
    ):
        insert(book, guide)


def test_missing_plan_is_named(book):
    guide = small_guide()
    del guide["plans"]["three days"]
    with pytest.raises(teaching.TeachingError, match="'three days'"):
        insert(book, guide)


@pytest.mark.parametrize("key", ["seconds", "memory_mb"])
def test_notebook_that_was_not_measured_is_named(book, key):
    path = book / "book" / f"{LESSON}.ipynb"
    nb = nbformat.read(path, 4)
    del nb.metadata["mmtutor"][key]
    write(nb, path)
    with pytest.raises(
        teaching.TeachingError, match=f"01_small/lesson.ipynb: metadata mmtutor has no {key}"
    ):
        insert(book)


def test_notebook_without_title_is_named(book):
    path = book / "book" / f"{LESSON}.ipynb"
    nb = nbformat.read(path, 4)
    nb.cells[0].source = "No title"
    write(nb, path)
    with pytest.raises(teaching.TeachingError, match=r"01_small/lesson\.ipynb has no title"):
        insert(book)


def test_place_without_table_and_table_without_place_are_named(book):
    page = PAGE.replace("teaching: cost", "teaching: costs")
    with pytest.raises(teaching.TeachingError) as caught:
        insert(book, page=page)
    assert "nothing is called 'costs'" in str(caught.value)
    assert "no line '<!-- teaching: cost -->'" in str(caught.value)


def test_built_page_shows_what_the_notebooks_say(built_site):
    page = BeautifulSoup(
        (built_site / "book" / "teaching.html").read_text(encoding="utf-8"), "html.parser"
    )
    shown = [
        [cell.get_text(" ", strip=True) for cell in row.select("td")]
        for row in page.select("article tbody tr")
    ]
    for chapter in CHAPTERS.values():
        for found in chapter.pages:
            nb = nbformat.read(ROOT / f"{found.name}.ipynb", 4)
            cost = [
                f"{nb.metadata['mmtutor']['seconds']:.0f}",
                f"{nb.metadata['mmtutor']['memory_mb']:.0f}",
            ]
            assert any(row[1:3] == cost for row in shown), found.name
        text = " ".join(" ".join(row) for row in shown)
        assert all(
            exercise.title.split(": ")[-1].replace("'", "’") in text
            for exercise in chapter.exercises.values()
        )
        work = chapter.exercises.values()
        sums = [str(sum(e.minutes for e in work)), f"{sum(e.points for e in work):g}"]
        assert any(row[-2:] == sums for row in shown)
    sessions = sum(len(plan["sessions"]) for plan in GUIDE["plans"].values())
    assert sum(len(row) == 4 and "\xa0min" in row[-1] for row in shown) == sessions
