"""The laws of an exercise sheet (exercises.ipynb) that need no kernel: its form, and what it holds
as that of a chapter.

How a sheet is read stands in `mmbook.reading.exercises`. nbgrader is not imported here, so that the
site's build can check forms as well. Kinds, from guided to open: see `Words.kinds`.
"""

import io
import itertools
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode

from mmbook.reading import (
    ROOT,
    Exercise,
    Finding,
    Notebook,
    Part,
    book_sheets,
    found,
    graded,
    holding,
    read_exercise,
    read_exercises,
    read_parts,
    row_with,
    solutions,
    tags,
)
from mmbook.words import Words

SCHEMA = 3
ONE_EACH, OPEN_KINDS = ("Predict", "Break", "Measure"), {"Extend", "Design", "Open"}
MINUTES = (5, 60)
LEAST = 6  # exercises in a chapter
MANY_DIGITS = 4
GRADE_ID = re.compile(r"[\w-]+")
FOLDED = {"hide-cell", "hide-input"}
REGIONS = {"solution": "SOLUTION", "hidden test": "HIDDEN TESTS"}
HIDDEN = re.compile(r"^\s*### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS", re.MULTILINE | re.DOTALL)
# A sentence inside an assertion: after its comma, in msg= or err_msg=, or in an error that the
# check raises itself
MESSAGE = re.compile(r"""(?:,|msg=|Error\()\s*f?["'][^"'\n]*(?:\s|[^\x00-\x7f])[^"'\n]*["']""")
FLOAT = re.compile(r"(?!0[xX]).*[.eE]")
LABEL = re.compile(r"^\(([\w:.-]+)\)=\s*$", re.MULTILINE)


# One cell by itself
# -------------------------------------------------------------------------------------------------


def broken_region(source: str, marker: str) -> bool:
    """Return whether the markers ### BEGIN … / ### END … of a kind do not alternate."""
    marks = re.findall(rf"^\s*###\s*(BEGIN|END) {marker}\s*$", source, re.MULTILINE)
    return marks != ["BEGIN", "END"] * (len(marks) // 2)


def metadata_faults(own: NotebookNode) -> dict[str, object]:
    """Return what may be wrong with nbgrader's metadata of a cell, and whether it is."""
    points, grade = own.get("points", 0), own.get("grade")
    worth = isinstance(points, int | float) and points > 0
    return {
        f"schema_version is {own.get('schema_version')!r}, expected {SCHEMA}": (
            own.get("schema_version") != SCHEMA
        ),
        f"grade_id {own.get('grade_id')!r} is not made of letters, digits, - and _": (
            not GRADE_ID.fullmatch(str(own.get("grade_id", "")))
        ),
        f"a graded cell is worth {points!r} points, expected more than 0": grade and not worth,
        "a graded check that is not locked": (
            grade and not own.get("solution") and not own.get("locked")
        ),
    }


def solution_faults(cell: NotebookNode, words: Words) -> dict[str, object]:
    """Return what may be wrong with a solution cell, and whether it is: it has a solution region,
    and is folded on the book's page under its name."""
    fold = cell.metadata.get("mystnb", {})
    return {
        "a solution cell without ### BEGIN SOLUTION: put the solution between that and"
        " ### END SOLUTION": "BEGIN SOLUTION" not in cell.source,
        "a solution cell without the tag hide-cell, which folds it on the book's page": (
            not FOLDED & set(tags(cell))
        ),
        "a solution cell whose fold does not say that it holds one: its metadata need 'mystnb':"
        f" {words.prompts}": {name: fold.get(name) for name in words.prompts} != words.prompts,
    }


def cell_faults(cell: NotebookNode, words: Words) -> list[tuple[str, str]]:
    """Return (what is wrong, text of the line where): markers, metadata and folds agree."""
    own, source = cell.metadata.get("nbgrader", {}), cell.source
    faults = {
        ("holds a solution, but its metadata do not say solution: true", "BEGIN SOLUTION"): (
            own and not own.get("solution") and "BEGIN SOLUTION" in source
        ),
        ("holds a hidden test, but is not graded", "BEGIN HIDDEN"): (
            own and not own.get("grade") and "BEGIN HIDDEN" in source
        ),
    }
    for what, marker in REGIONS.items():
        faults |= {
            (f"BEGIN and END of a {what} do not match", marker): broken_region(source, marker),
            (f"holds a {what}, but no nbgrader metadata", marker): (
                not own and f"BEGIN {marker}" in source
            ),
        }
    unmarked = metadata_faults(own) if own else {}
    unmarked |= solution_faults(cell, words) if own.get("solution") else {}
    return holding(faults) + [(text, "") for text in holding(unmarked)]


def author_digits(source: str) -> list[tuple[str, str]]:
    """Return (number, its line) of each float in a check with four or more digits, as only a run
    gives them.

    Allowed: a bound just below one (0.9999), and a number whose line says in a comment how it
    follows: `# exact: ...`.
    """
    return [
        (token.string, token.line.strip())
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.NUMBER and FLOAT.match(token.string)
        if "# exact: " not in token.line and many_digits(token.string)
    ]


def many_digits(number: str) -> bool:
    """Return whether a float has four digits or more, and is no bound such as 0.9999."""
    digits = re.sub(r"[eE].*|[._]", "", number).strip("0")
    return len(digits) >= MANY_DIGITS and set(digits) != {"9"}


# A sheet
# -------------------------------------------------------------------------------------------------


def digits_of_a_run(sheet: Notebook) -> Iterator[Finding]:
    """No check knows the digits of its author's run."""
    return (
        Finding(
            f"the check holds {number}, digits of one run: test an idea, or say `# exact: ...` why"
            " it must be so",
            place,
            row_with(cell, line),
        )
        for place, cell in graded(sheet.nb)
        for number, line in author_digits(cell.source)
    )


def repeats(sheet: Notebook) -> Iterator[Finding]:
    """Grade ids and labels are unique; the second one is named."""
    seen: set[str] = set()
    for place, cell in enumerate(sheet.nb.cells):
        names = [(f"label {label!r}", f"({label})=") for label in LABEL.findall(cell.source)]
        if "nbgrader" in cell.metadata:
            names = [(f"grade_id {cell.metadata['nbgrader'].get('grade_id')!r}", "")]
        for name, mark in names:
            if name in seen:
                yield Finding(
                    f"{name} is used a second time: give each its own", place, row_with(cell, mark)
                )
            seen.add(name)


def solutions_are_checked(sheet: Notebook) -> Iterator[Finding]:
    """Before the next solution comes a check with a visible assertion that tells in words what is
    wrong."""
    checks, filled = dict(graded(sheet.nb)), solutions(sheet.nb)
    if not checks or not filled:
        yield Finding(
            f"{len(filled)} solutions and {len(checks)} graded checks, expected one of each"
        )
    for place, following in zip(filled, [*filled[1:], len(sheet.nb.cells)], strict=True):
        own = [HIDDEN.sub("", cell.source) for n, cell in checks.items() if place < n < following]
        which = "visible check with a message" if own else "graded check"
        if not any(map(MESSAGE.search, own)):
            yield Finding(f"no {which} follows this solution", place)


def stated(sheet: Notebook) -> Iterator[Finding]:
    """Under each heading stand kind, difficulty, minutes and points, and the points are those of
    its checks."""
    for number, part in enumerate(read_parts(sheet.nb), start=1):
        where = f"exercise {part.number}"
        if part.number != number:
            yield Finding(
                f"{where} ({part.title}) is number {number} of its sheet", *heading(sheet, part)
            )
        exercise = read_exercise(sheet.nb, part, sheet.words)
        faults, line = exercise_faults(exercise, sheet) if exercise else line_faults(sheet, part)
        yield from (Finding(f"{where}{text}", *heading(sheet, part, line)) for text in faults)


def heading(sheet: Notebook, part: Part, line: str = "") -> tuple[int, int]:
    """Return the place of the cell with a part's heading, and the row of `line` in it, or of the
    heading itself."""
    place = part.cells.start
    return place, row_with(sheet.nb.cells[place], line or f"## {part.number}.")


def line_faults(sheet: Notebook, part: Part) -> tuple[list[str], str]:
    """Say what is wrong with the line of an exercise that cannot be read; returns the line too, ''
    where there is none."""
    words, source = sheet.words, sheet.nb.cells[part.cells.start].source
    known = "|".join(map(re.escape, (*words.minutes, *words.points, *words.kinds.values())))
    stated = re.search(rf"^\*[^*\n]*(?:{known})[^*\n]*\*", source, re.MULTILINE)
    line = stated.group() if stated else ""
    missing = "its line" if any(word in line for word in words.minutes) else words.minutes[0]
    what = f"says {line!r}, without a usable {missing}" if line else "does not say what it is"
    return [f" {what}: write a line like {words.exercise_line} under the heading"], line


def exercise_faults(exercise: Exercise, sheet: Notebook) -> tuple[list[str], str]:
    """What an exercise says of itself is known, possible and true; returns its line too."""
    kinds, levels = sheet.words.kinds, sheet.words.levels
    (least, most), minutes = MINUTES, exercise.minutes
    checks = (cell for n, cell in graded(sheet.nb) if n in exercise.cells)
    earned = sum(cell.metadata["nbgrader"].get("points", 0) for cell in checks)
    faults = {
        f": kind {exercise.kind!r} is none of {', '.join(kinds.values())}": (
            exercise.kind not in kinds
        ),
        f": difficulty {exercise.difficulty!r} is none of {', '.join(levels.values())}": (
            exercise.difficulty not in levels
        ),
        f": {minutes} minutes, expected {least} to {most}": not least <= minutes <= most,
        f" says {exercise.points:g} points, its checks are worth {earned:g}: make them agree": (
            earned != exercise.points
        ),
    }
    return holding(faults), exercise.line


def nothing_outside(sheet: Notebook) -> Iterator[Finding]:
    """Every solution and check belongs to an exercise, and every exercise has a solution."""
    parts = read_parts(sheet.nb)
    inside = {n for part in parts for n in part.cells}
    yield from (
        Finding("stands under no heading `## N. title`, so it belongs to no exercise", place)
        for place in sorted({*solutions(sheet.nb), *dict(graded(sheet.nb))} - inside)
    )
    yield from (
        Finding(f"exercise {part.number} has no solution region", *heading(sheet, part))
        for part in parts
        if not any("BEGIN SOLUTION" in sheet.nb.cells[n].source for n in part.cells)
    )


def form_findings(sheet: Notebook) -> Iterator[Finding]:
    """Yield what is wrong with the form of a sheet."""
    yield from (
        Finding(text, place, row_with(cell, mark))
        for place, cell in enumerate(sheet.nb.cells)
        for text, mark in cell_faults(cell, sheet.words)
    )
    for law in (digits_of_a_run, repeats, solutions_are_checked, stated, nothing_outside):
        yield from law(sheet)


# A chapter
# -------------------------------------------------------------------------------------------------


def chapter_findings(sheet: Notebook) -> Iterator[Finding]:
    """Yield what a sheet lacks as that of a chapter: number, kinds, order, and hidden tests.

    Six exercises; one each of Predict, Break and Measure; one that is open. The open ones come
    last, the first is no harder than any other and the last no easier.
    """
    exercises = read_exercises(sheet.nb, sheet.words)
    kinds, order = [e.kind for e in exercises], list(sheet.words.levels)
    ranks = [order.index(e.difficulty) for e in exercises if e.difficulty in order]
    sorted_ends = not ranks or (ranks[0] == min(ranks) and ranks[-1] == max(ranks))
    yield from found(
        {
            f"{len(exercises)} exercises, expected {LEAST} or more": len(exercises) < LEAST,
            **{
                f"its first cell says {word!r} exercises, there are {len(exercises)}": True
                for word in miscounted(sheet, len(exercises))
            },
            **{f"no exercise of the kind {kind}": kind not in kinds for kind in ONE_EACH},
            "no exercise of the kind Extend, Design or Open": not OPEN_KINDS & set(kinds),
            "the first exercise must be among the easiest, the last among the hardest": (
                not sorted_ends
            ),
        }
    )
    yield from (
        Finding(f"exercise {e.number} ({e.kind}) {text}", *heading(sheet, e, e.line))
        for e, text in itertools.chain(out_of_order(exercises), unguarded(exercises, sheet))
    )


def miscounted(sheet: Notebook, there: int) -> list[str]:
    """Return what a sheet says that it holds, where it holds another number of exercises."""
    words = sheet.words
    pattern = r"\b" + re.escape(words.how_many).replace(r"\#", r"(\w+)") + r"\b"
    said = re.findall(pattern, sheet.nb.cells[0].source, re.IGNORECASE)
    known = dict(zip(words.numerals, itertools.count(), strict=False))
    counts = {w: int(w) if w.isdecimal() else known.get(w.lower(), there) for w in said}
    return [word for word, count in counts.items() if count != there]


def out_of_order(exercises: list[Exercise]) -> list[tuple[Exercise, str]]:
    """The open exercises come last."""
    return [
        (after, f"comes after {before.number} ({before.kind}): put it before")
        for before, after in itertools.pairwise(exercises)
        if before.kind in OPEN_KINDS and after.kind not in OPEN_KINDS
    ]


def unguarded(exercises: list[Exercise], sheet: Notebook) -> list[tuple[Exercise, str]]:
    """Each exercise has a hidden test, except Predict: there the visible check measures the truth
    in front of the student, and nothing is left to hide."""
    return [
        (exercise, "has no hidden test: a student who fits the visible one is not found")
        for exercise in exercises
        if exercise.kind != "Predict"
        and not any("BEGIN HIDDEN" in sheet.nb.cells[n].source for n in exercise.cells)
    ]


def form_problems(sheet: Notebook) -> list[str]:
    """Return what is wrong with the form of a sheet, each with file and line; empty when it keeps
    every law of form."""
    return sheet.located(form_findings(sheet))


def chapter_problems(sheet: Notebook) -> list[str]:
    """Return what a sheet lacks as that of a chapter, each with its file."""
    return sheet.located(chapter_findings(sheet))


def check_forms(root: Path = ROOT) -> None:
    """Check the form of every sheet of the book. Raises RuntimeError that lists each problem with
    file and line."""
    sheets = map(Notebook.read, book_sheets(root))
    if problems := [text for s in sheets for text in (*form_problems(s), *chapter_problems(s))]:
        raise RuntimeError("the exercises break their laws of form:\n" + "\n".join(problems))
