"""Exercise sheets in nbgrader's format: what each exercise says of itself, and which cells it has.

One line under each heading `## N. title` is the only place where an exercise states itself:

    *Guided, easy, 10 minutes, 2 points.* Complete ...
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from nbformat import NotebookNode

from mmbook.reading.markdown import headings
from mmbook.words import Words

NUMBERED = re.compile(r"(\d+)\. (.+)")
COMMA = r"(?:, |，\s?|、)"


@dataclass(frozen=True)
class Part:
    """What stands under a heading `## N. title`; `cells` are the places of its cells, heading
    first."""

    number: int
    title: str
    cells: range


@dataclass(frozen=True)
class Exercise(Part):
    """One exercise as its sheet states it; kind and difficulty by their names in the tables of
    words (`Words.kinds`, `.levels`), or as they stand there where no table knows them."""

    kind: str
    difficulty: str
    minutes: int
    points: float
    line: str


def read_parts(nb: NotebookNode) -> list[Part]:
    """Return everything under a heading `## N. title`."""
    starts = [
        (line.cell, match)
        for line, text in headings(nb)
        if line.level == 2 and (match := NUMBERED.fullmatch(text))
    ]
    ends = [*(place for place, _ in starts[1:]), len(nb.cells)]
    return [
        Part(int(match[1]), match[2], range(place, end))
        for (place, match), end in zip(starts, ends, strict=False)
    ]


def exercise_line(words: Words) -> re.Pattern[str]:
    """Return the pattern of an exercise's line: kind, difficulty, minutes, points."""
    minutes, points = ("|".join(map(re.escape, w)) for w in (words.minutes, words.points))
    return re.compile(
        rf"\*(\w+){COMMA}(\w+){COMMA}(\d+)\s?(?:{minutes}){COMMA}(\d+)\s?(?:{points})[.。]\*"
    )


def read_exercise(nb: NotebookNode, part: Part, words: Words) -> Exercise | None:
    """Return what a part states; None where it has no whole line."""
    line = exercise_line(words).search(nb.cells[part.cells.start].source)
    if line is None:
        return None
    kinds, levels = (
        {word: name for name, word in table.items()} for table in (words.kinds, words.levels)
    )
    kind, level, minutes, points = line.groups()
    return Exercise(
        part.number,
        part.title,
        part.cells,
        kinds.get(kind, kind),
        levels.get(level, level),
        int(minutes),
        float(points),
        line.group(),
    )


def read_exercises(nb: NotebookNode, words: Words) -> list[Exercise]:
    """Return the exercises that a sheet states; one without a whole line is left out."""
    return [read for part in read_parts(nb) if (read := read_exercise(nb, part, words))]


def graded(nb: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """Yield (place among all cells, cell) of each automatically graded check."""
    cells = ((n, cell, cell.metadata.get("nbgrader", {})) for n, cell in enumerate(nb.cells))
    return ((n, cell) for n, cell, own in cells if own.get("grade") and not own.get("solution"))


def solutions(nb: NotebookNode) -> list[int]:
    """Return the places of the cells that students fill in."""
    return [
        place
        for place, cell in enumerate(nb.cells)
        if cell.metadata.get("nbgrader", {}).get("solution")
    ]
