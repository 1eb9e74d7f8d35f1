"""The scripted lessons: ninety minutes each, exercises that exist and fit their slot, and a rubric
that only an instructor's build shows."""

from __future__ import annotations

import itertools
import re

import pytest

from mmbook.reading import ROOT
from mmbook.teaching import read_chapters

CHAPTERS = {chapter.number: chapter for chapter in read_chapters().values()}
PAGE = (ROOT / "book/scripts.md").read_text(encoding="utf-8")
SECTIONS = {
    int(re.match(r"\d+", part)[0]): part for part in re.split(r"^## Chapter ", PAGE, flags=re.M)[1:]
}
ROW = re.compile(r"^\| (\d+) \| (.*) \|$", re.M)
NAMED = re.compile(r"Exercise `(\d+)\.(\d+)`, \"(.+?)\"")

each_chapter = pytest.mark.parametrize("number", CHAPTERS)


def test_each_chapter_has_a_script_and_no_other():
    assert list(SECTIONS) == list(CHAPTERS)


@each_chapter
def test_a_script_runs_from_zero_to_ninety(number):
    lesson, _, exam = SECTIONS[number].partition("**Exam.**")
    starts = [int(minute) for minute, _ in ROW.findall(lesson)]
    assert starts[0] == 0 and starts[-1] == 90
    assert all(a < b for a, b in itertools.pairwise(starts))
    assert "**Before:**" in lesson and exam


@each_chapter
def test_its_exercises_exist_and_have_the_time_they_ask_for(number):
    lesson = SECTIONS[number].partition("**Exam.**")[0]
    rows = [(int(minute), words) for minute, words in ROW.findall(lesson)]
    found = 0
    for (start, words), (end, _) in itertools.pairwise(rows):
        for chapter, exercise, title in NAMED.findall(words):
            meant = CHAPTERS[int(chapter)].exercises[int(exercise)]
            assert int(chapter) == number and meant.title == title
            assert meant.minutes <= end - start, (title, meant.minutes, end - start)
            found += 1
    assert found == len(re.findall(r"Exercise", lesson)) > 0


@each_chapter
def test_a_rubric_gives_ten_points_to_instructors_only(number):
    exam = SECTIONS[number].partition("**Exam.**")[2]
    question, _, rubric = exam.partition(":::{only} instructor")
    assert sum(int(points) for points, _ in ROW.findall(rubric)) == 10
    assert rubric.count(":::") == 1 and not ROW.findall(question)
    asked = re.findall(r"\(([a-d])\)", question)
    assert (
        asked == sorted(set(asked)) and re.findall(r"^\| \d+ \| \(([a-d])\)", rubric, re.M) == asked
    )


def test_the_site_for_everybody_shows_no_rubric(built_site):
    shown = (built_site / "book/scripts.html").read_text(encoding="utf-8")
    rubric = SECTIONS[2].partition(":::{only} instructor")[2]
    assert "for example: left or right of" in rubric and "left or right of" not in shown
    assert "Name" in shown and "Exam." in shown
