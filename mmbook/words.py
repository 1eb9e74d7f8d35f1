"""The words that tools must understand, one table per language; no other module holds such a word.

A book in another language adds a table to WORDS and names it in `_config.yml` under
`sphinx.config.language`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from mmbook import root

ROOT = root(strict=False)


@dataclass(frozen=True, eq=False)
class Words:
    """The words of one language.

    In `numbered` and `years` the sign # stands for the number: "Chapter #", "第#章".
    """

    # Headings
    objectives: str
    predict: str
    quiz: str
    take_aways: str
    bibliography: tuple[str, ...]
    from_scratch: str  # what the heading begins with under which slides show code
    cost: str  # what stands in bold before the measured cost
    # Quizzes: what the feedback on the right choice begins with, and what sounds as if it were
    right: str
    sounds_right: tuple[str, ...]
    # Exercises: name of a kind or level → its word in an exercise's line
    kinds: Mapping[str, str]
    levels: Mapping[str, str]
    minutes: tuple[str, ...]
    points: tuple[str, ...]
    exercise_line: str  # an example, shown in messages
    show_solution: str
    hide_solution: str
    how_many: str  # what a sheet says of itself: # stands for a number or its word
    numerals: tuple[str, ...]  # the words for 0, 1, 2, ...
    rules: str  # what stands in a student's sheet below its title; {name} is the file's
    hidden: str  # a comment in the place of hidden checks on the page
    # The tables of the instructor's guide
    guide: Mapping[str, str]
    # Numbers in prose that are no results
    numbered: tuple[str, ...]  # what carries a number: chapters, figures, pages
    years: tuple[str, ...]  # what a year stands beside
    not_names: tuple[str, ...]  # capitalised words before a count, which no year follows
    units: tuple[str, ...]  # of sizes
    levels_of: tuple[str, ...]  # what 95 % is the level of
    percent: tuple[str, ...]  # words for %

    @property
    def prompts(self) -> dict[str, str]:
        """What stands on the fold of a solution, as its cell's metadata `mystnb` say it."""
        return {"code_prompt_show": self.show_solution, "code_prompt_hide": self.hide_solution}


def same_word(*words: str) -> dict[str, str]:
    """Return a table in which each word stands for itself."""
    return {word: word for word in words}


WORDS = {
    "en": Words(
        objectives="You will be able to",
        predict="Predict first",
        quiz="Quiz",
        take_aways="Take-aways",
        bibliography=("Further reading", "References"),
        from_scratch="From scratch",
        cost="Cost",
        right="Right",
        sounds_right=("Right", "Yes", "Correct", "Exactly", "True"),
        kinds=same_word("Guided", "Predict", "Break", "Measure", "Extend", "Design", "Open"),
        levels=same_word("easy", "medium", "hard"),
        minutes=("minutes",),
        points=("points", "point"),
        exercise_line="*Guided, easy, 10 minutes, 2 points.*",
        show_solution="Show the solution",
        hide_solution="Hide the solution",
        how_many="# exercises",
        numerals=(
            *("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
            *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
        ),
        rules="""\
**How this sheet works**

- Write your answer where `raise NotImplementedError()` stands, then run the check below it. An
  error there says what is wrong.
- "Run All" stops at the first exercise that is still to be filled in. That is no fault: run the
  first cells once, then go on cell by cell.
- You may add cells. Do not copy, delete or rename those that are here: a check that was changed is
  put back, and a check that is missing earns nothing.
- Hand in this notebook as `{name}.ipynb`. It is run from the top in an empty kernel, and further
  checks ask the same with other inputs: they give the points together with those that you see.
- Any code may stand in your answers, and all that is installed may be imported. Where it is graded
  there is no network, nothing can be read but this assignment and the book's data, and one cell
  may take 60 seconds and 4 GB of memory.""",
        hidden="# Hidden checks follow here: they ask the same with other inputs.",
        guide={
            "able": "You will be able to",
            "exercises": "exercises",
            "on the page": "On the page",
            "not exercised": "not exercised",
            "open": "Open the exercises",
            "cost": "| notebook | seconds | MB | minutes | points |",
            "needs": "needs",
            "memory": (
                "The largest notebook, {page}, took {mb:.0f} MB at its peak; the largest sheet of"
                " exercises took {sheet_mb:.0f} MB. Each student's own server takes about {server}"
                " MB more. If nothing is shared, forty students who run them at the same time need"
                " {gb:.0f} GB for the notebook, and {sheet_gb:.0f} GB for the sheet."
            ),
            "plan": "| when | pages | in class | at home |",
            "none": "none",
            "minutes": "min",
        },
        numbered=(
            *("Chapter #", "Chapters #", "Section #", "Sections #", "Part #", "Parts #"),
            *("Table #", "Tables #", "Figure #", "Figures #", "Fig. #", "Equation #"),
            *("Equations #", "Eq. #", "Exercise #", "Exercises #"),
            *("page #", "pages #", "p. #", "pp. #", "vol. #", "no. #"),
        ),
        years=(
            *("in #", "In #", "by #", "of #", "since #", "from #", "until #", "before #"),
            *("after #", "al. #"),
        ),
        not_names=("The", "All", "These", "Those", "Over", "About", "Only", "With"),
        units=("pixels", "pixel", "dimensional", "dimensions", "bits", "bit"),
        levels_of=("intervals", "interval", "confidence"),
        percent=("per cent", "percent", "percentage points", "percentage point"),
    ),
}


@cache
def words_of(root: Path = ROOT) -> Words:
    """Return the words of the book under `root`: the language of its `_config.yml`, else English.

    Raises ValueError for a language that has no table, naming those that have one.
    """
    config = root / "_config.yml"
    settings = yaml.safe_load(config.read_text(encoding="utf-8")) if config.exists() else {}
    language = settings.get("sphinx", {}).get("config", {}).get("language", "en")
    if language not in WORDS:
        raise ValueError(
            f"_config.yml: no table of words for {language!r} in mmbook/words.py; there is"
            f" {', '.join(WORDS)}"
        )
    return WORDS[language]
