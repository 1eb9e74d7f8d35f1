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
