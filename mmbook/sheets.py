"""The form of an exercise sheet (exercises.ipynb): what it says about its exercises, and the laws
that need no kernel.

One line under each heading `## N. title` is the only place where an exercise states itself:

    *Guided, easy, 10 minutes, 2 points.* Complete ...

Kinds, from guided to open: see KINDS. nbgrader is not imported here, so that the site's build can
check forms as well. A problem reads `file:line: cell n: what is wrong`; the line is the one in the
.ipynb file.
"""

from __future__ import annotations

import io
import itertools
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from mmbook.laws.lines import line_of

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = 3
KINDS = ("Guided", "Predict", "Break", "Measure", "Extend", "Design", "Open")
OPEN_KINDS = {"Extend", "Design", "Open"}
LEVELS = ("easy", "medium", "hard")
MINUTES = (5, 60)
LEAST = 6  # exercises in a chapter
MANY_DIGITS = 4
GRADE_ID = re.compile(r"[\w-]+")
FOLDED = {"hide-cell", "hide-input"}
PROMPTS = {
    "code_prompt_show": "Show the solution",
    "code_prompt_hide": "Hide the solution",
}  # in the cell's `mystnb`
REGIONS = {"solution": "SOLUTION", "hidden test": "HIDDEN TESTS"}
HEADING = re.compile(r"^## (\d+)\. (.+?)\s*$", re.MULTILINE)
STATED = re.compile(
    r"^\*([^*\n]*\b(?:minutes?|points?)\b[^*\n]*)\*|^\*(?:" + "|".join(KINDS) + r"), [^*\n]*\*",
    re.MULTILINE,
)
WHOLE = re.compile(r"\*(\w+), (\w+), (\d+) minutes, (\d+) points?\.\*")
SHAPE = "*Guided, easy, 10 minutes, 2 points.*"
HIDDEN = re.compile(r"^\s*### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS", re.MULTILINE | re.DOTALL)
# A sentence inside an assertion: after its comma, in msg= or err_msg=, or in an error that the
# check raises itself
MESSAGE = re.compile(r"""(?:,|msg=|Error\()\s*f?["'][^"'\n]*\s[^"'\n]*["']""")
LABEL = re.compile(r"^\(([\w:.-]+)\)=\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Exercise:
    """One exercise as its sheet states it; `cells` are the places of its cells, heading first."""

    number: int
    title: str
    kind: str
    difficulty: str
    minutes: int
    points: float
    cells: range


@dataclass
class Sheet:
    """A notebook with the name and the text of its file; collects problems with their lines."""

    nb: NotebookNode
    name: str
    text: str = ""
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Serialise what was made in code, so that it has lines too."""
        self.text = self.text or nbformat.writes(self.nb)

    def complain(self, cell: int, what: str, mark: str = "") -> None:
        """Note a problem of a cell, at its first line that holds `mark`."""
        rows = self.nb.cells[cell].source.splitlines()
        row = next((n for n, line in enumerate(rows) if mark in line), 0)
        self.problems.append(f"{self.name}:{line_of(self.text, cell, row)}: cell {cell}: {what}")


def read(path: Path) -> Sheet:
    """Read the sheet at path; its name is the path as messages show it."""
    path = Path(path).resolve()
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()
    return Sheet(nbformat.reads(text, as_version=4), name, text)


def book_sheets(root: Path = ROOT) -> list[Path]:
    """Return the exercise sheets of the book, by chapter."""
    return sorted((root / "book").glob("[0-9][0-9]_*/exercises.ipynb"))


def graded(nb: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """Yield (place among all cells, cell) of each automatically graded check."""
    for place, cell in enumerate(nb.cells):
        own = cell.metadata.get("nbgrader", {})
        if own.get("grade") and not own.get("solution"):
            yield place, cell


def solutions(nb: NotebookNode) -> list[int]:
    """Return the places of the cells that students fill in."""
    return [
        n for n, cell in enumerate(nb.cells) if cell.metadata.get("nbgrader", {}).get("solution")
    ]


def sections(nb: NotebookNode) -> list[tuple[int, str, range]]:
    """Return (number, title, places of its cells) of everything under a heading `## N. title`."""
    found = [
        (place, match)
        for place, cell in enumerate(nb.cells)
        if cell.cell_type == "markdown" and (match := HEADING.search(cell.source))
    ]
    ends = [*(place for place, _ in found[1:]), len(nb.cells)]
    return [
        (int(m[1]), m[2], range(place, end)) for (place, m), end in zip(found, ends, strict=False)
    ]


def exercises(nb: NotebookNode) -> list[Exercise]:
    """Return the exercises that a sheet states; one without a whole line is left out (form_problems
    names it)."""
    found = []
    for number, title, cells in sections(nb):
        line = WHOLE.search(nb.cells[cells.start].source)
        if line:
            kind, difficulty, minutes, points = line.groups()
            found.append(
                Exercise(number, title, kind, difficulty, int(minutes), float(points), cells)
            )
    return found


# One cell by itself
# -------------------------------------------------------------------------------------------------


def _region_problems(cell: NotebookNode, what: str) -> list[tuple[str, str]]:
    """Say whether the markers ### BEGIN … / ### END … of a kind alternate, opening first."""
    marks = re.findall(rf"^\s*###\s*(BEGIN|END) {REGIONS[what]}\s*$", cell.source, re.MULTILINE)
    if marks == ["BEGIN", "END"] * (len(marks) // 2):
        return []
    return [(f"BEGIN and END of a {what} do not match", REGIONS[what])]


def _metadata_problems(own: NotebookNode) -> Iterator[str]:
    """Say what is wrong with nbgrader's metadata of a cell."""
    if own.get("schema_version") != SCHEMA:
        yield f"schema_version is {own.get('schema_version')!r}, expected {SCHEMA}"
    if not GRADE_ID.fullmatch(str(own.get("grade_id", ""))):
        yield f"grade_id {own.get('grade_id')!r} is not made of letters, digits, - and _"
    points = own.get("points", 0)
    if own.get("grade") and not (isinstance(points, int | float) and points > 0):
        yield f"a graded cell is worth {points!r} points, expected more than 0"
    if own.get("grade") and not own.get("solution") and not own.get("locked"):
        yield "a graded check that is not locked"


def _cell_problems(cell: NotebookNode) -> Iterator[tuple[str, str]]:
    """Yield (what is wrong with one cell, text of the line where)."""
    own = cell.metadata.get("nbgrader")
    has = {what: f"BEGIN {marker}" in cell.source for what, marker in REGIONS.items()}
    for what in REGIONS:
        yield from _region_problems(cell, what)
    if not own:
        yield from (
            (f"holds a {what}, but no nbgrader metadata", REGIONS[what])
            for what in REGIONS
            if has[what]
        )
        return
    yield from ((text, "") for text in _metadata_problems(own))
    if own.get("solution") and not has["solution"]:
        yield (
            (
                "a solution cell without ### BEGIN SOLUTION: put the solution between that and ###"
                " END SOLUTION"
            ),
            "",
        )
    if own.get("solution") and not FOLDED & set(cell.metadata.get("tags", [])):
        yield "a solution cell without the tag hide-cell, which folds it on the book's page", ""
    if (
        own.get("solution")
        and {name: cell.metadata.get("mystnb", {}).get(name) for name in PROMPTS} != PROMPTS
    ):
        yield (
            (
                "a solution cell whose fold does not say that it holds one: its metadata need"
                f" 'mystnb': {PROMPTS}"
            ),
            "",
        )
    if has["solution"] and not own.get("solution"):
        yield "holds a solution, but its metadata do not say solution: true", "BEGIN SOLUTION"
    if has["hidden test"] and not own.get("grade"):
        yield "holds a hidden test, but is not graded", "BEGIN HIDDEN"


def author_digits(source: str) -> list[tuple[str, str]]:
    """Return (number, its line) of each float in a check with four or more digits, as only a run
    gives them.

    Allowed: a bound just below one (0.9999), and a number whose line says in a comment how it
    follows: `# exact: ...`.
    """
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if (
            token.type != tokenize.NUMBER
            or not re.search(r"[.eE]", token.string)
            or token.string[:2] in ("0x", "0X")
        ):
            continue
        digits = re.sub(r"[eE].*|[._]", "", token.string).strip("0")
        if len(digits) >= MANY_DIGITS and set(digits) != {"9"} and "# exact: " not in token.line:
            found.append((token.string, token.line.strip()))
    return found


# A sheet
# ------------------------------------------------------------------------------------------------------------


def _repeats(sheet: Sheet) -> None:
    """Grade ids and labels are unique; the second one is named."""
    ids, labels = Counter(), Counter()
    for place, cell in enumerate(sheet.nb.cells):
        if "nbgrader" in cell.metadata:
            grade_id = cell.metadata["nbgrader"].get("grade_id")
            ids[grade_id] += 1
            if ids[grade_id] == 2:
                sheet.complain(
                    place, f"grade_id {grade_id!r} is used a second time: give each cell its own"
                )
        for label in LABEL.findall(cell.source) if cell.cell_type == "markdown" else []:
            labels[label] += 1
            if labels[label] == 2:
                sheet.complain(place, f"label {label!r} is used a second time", f"({label})=")


def _solutions_are_checked(sheet: Sheet) -> None:
    """Before the next solution comes a check with a visible assertion that tells in words what is
    wrong."""
    checks, filled = dict(graded(sheet.nb)), solutions(sheet.nb)
    if not checks or not filled:
        sheet.problems.append(
            f"{sheet.name}: {len(filled)} solutions and {len(checks)} graded checks, expected one"
            " of each"
        )
    for place, following in zip(filled, [*filled[1:], len(sheet.nb.cells)], strict=True):
        own = [cell for n, cell in checks.items() if place < n < following]
        if not own:
            sheet.complain(place, "no graded check follows this solution")
        elif not any(MESSAGE.search(HIDDEN.sub("", cell.source)) for cell in own):
            sheet.complain(place, "no visible check with a message follows this solution")


def _stated(sheet: Sheet) -> None:
    """Under each heading stand kind, difficulty, minutes and points, and the points are those of
    its checks."""
    checks = dict(graded(sheet.nb))
    for number, (stands, title, cells) in enumerate(sections(sheet.nb), start=1):
        source, where = sheet.nb.cells[cells.start].source, f"exercise {stands}"
        if stands != number:
            sheet.complain(
                cells.start, f"{where} ({title}) is number {number} of its sheet", f"## {stands}."
            )
        line, whole = STATED.search(source), WHOLE.search(source)
        if not whole:
            mark = line.group().splitlines()[0] if line else f"## {stands}."
            missing = "minutes" if line and "minute" not in line.group() else "its line"
            what = (
                f"says {line.group()!r}, without a usable {missing}"
                if line
                else "does not say what it is"
            )
            sheet.complain(
                cells.start, f"{where} {what}: write a line like {SHAPE} under the heading", mark
            )
            continue
        kind, level, minutes, points = whole.groups()
        if kind not in KINDS:
            sheet.complain(
                cells.start, f"{where}: kind {kind!r} is none of {', '.join(KINDS)}", whole.group()
            )
        if level not in LEVELS:
            sheet.complain(
                cells.start,
                f"{where}: difficulty {level!r} is none of {', '.join(LEVELS)}",
                whole.group(),
            )
        if not MINUTES[0] <= int(minutes) <= MINUTES[1]:
            told = f"{where}: {minutes} minutes, expected {MINUTES[0]} to {MINUTES[1]}"
            sheet.complain(cells.start, told, whole.group())
        earned = sum(checks[n].metadata["nbgrader"].get("points", 0) for n in cells if n in checks)
        if earned != float(points):
            told = f"{where} says {points} points, its checks are worth {earned:g}: make them agree"
            sheet.complain(cells.start, told, whole.group())


def _nothing_outside(sheet: Sheet) -> None:
    """Every solution and check belongs to an exercise, and every exercise has a solution."""
    inside = {n for _, _, cells in sections(sheet.nb) for n in cells}
    for n in [*solutions(sheet.nb), *dict(graded(sheet.nb))]:
        if n not in inside:
            sheet.complain(n, "stands under no heading `## N. title`, so it belongs to no exercise")
    for number, _, cells in sections(sheet.nb):
        if not any("BEGIN SOLUTION" in sheet.nb.cells[n].source for n in cells):
            sheet.complain(
                cells.start, f"exercise {number} has no solution region", f"## {number}."
            )


def form_problems(sheet: Sheet) -> list[str]:
    """Return what is wrong with the form of a sheet; empty when it keeps every law of form."""
    for place, cell in enumerate(sheet.nb.cells):
        for what, mark in _cell_problems(cell):
            sheet.complain(place, what, mark)
    for place, cell in graded(sheet.nb):
        for number, line in author_digits(cell.source):
            told = (
                f"the check holds {number}, digits of one run: test an idea, or say `# exact: ...`"
                " why it must be so"
            )
            sheet.complain(place, told, line)
    _repeats(sheet)
    _solutions_are_checked(sheet)
    _stated(sheet)
    _nothing_outside(sheet)
    return sheet.problems


# A chapter
# ----------------------------------------------------------------------------------------------------------


def chapter_problems(sheet: Sheet) -> list[str]:
    """Return what a sheet lacks as that of a chapter: number, kinds, order, and hidden tests.

    Six exercises; one each of Predict, Break and Measure; one that is open. The open ones come
    last, the first is no harder than any other and the last no easier. Each exercise has a hidden
    test, except Predict: there the visible check measures the truth in front of the student, and
    nothing is left to hide.
    """
    asked, problems = exercises(sheet.nb), []
    kinds = [exercise.kind for exercise in asked]
    if len(asked) < LEAST:
        problems.append(f"{sheet.name}: {len(asked)} exercises, expected {LEAST} or more")
    problems += [
        f"{sheet.name}: no exercise of the kind {k}"
        for k in ("Predict", "Break", "Measure")
        if k not in kinds
    ]
    if not OPEN_KINDS & set(kinds):
        problems.append(f"{sheet.name}: no exercise of the kind Extend, Design or Open")
    for before, after in itertools.pairwise(asked):
        if before.kind in OPEN_KINDS and after.kind not in OPEN_KINDS:
            told = (
                f"exercise {after.number} ({after.kind}) comes after {before.number}"
                f" ({before.kind}): put it before"
            )
            sheet.complain(after.cells.start, told, f"*{after.kind}")
    ranks = [LEVELS.index(e.difficulty) for e in asked if e.difficulty in LEVELS]
    if ranks and (ranks[0] > min(ranks) or ranks[-1] < max(ranks)):
        problems.append(
            f"{sheet.name}: the first exercise must be among the easiest, the last among the"
            " hardest"
        )
    for e in asked:
        if e.kind != "Predict" and not any(
            "BEGIN HIDDEN" in sheet.nb.cells[n].source for n in e.cells
        ):
            told = (
                f"exercise {e.number} ({e.kind}) has no hidden test: a student who fits the visible"
                " one is not found"
            )
            sheet.complain(e.cells.start, told, f"*{e.kind}")
    problems += sheet.problems
    sheet.problems = []
    return problems


def check_forms(root: Path = ROOT) -> None:
    """Check the form of every sheet of the book. Raises RuntimeError that lists each problem with
    file and line."""
    found = [
        text
        for path in book_sheets(root)
        for law in (form_problems, chapter_problems)
        for text in law(read(path))
    ]
    if found:
        raise RuntimeError("the exercises break their laws of form:\n" + "\n".join(found))
