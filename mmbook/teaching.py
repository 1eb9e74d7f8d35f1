"""The tables of the instructor's guide: read from the notebooks and from `book/teaching.yml` while
the book is built.

What a page teaches stands under its heading "You will be able to"; what an exercise is, how long it
takes and what it is worth stand below the heading `## N. Title` (mmbook/sheets.py reads that); what
a notebook costs is in its metadata. `book/teaching.yml` adds what only a teacher can say: which
exercise serves which objective, and who does what when. Needs nbformat and PyYAML, which Jupyter
Book brings, and no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mmbook.reading import (
    ROOT,
    Exercise,
    Notebook,
    read_exercises,
    section_points,
    title,
    toc_pages,
)

GUIDE = "book/teaching.yml"
EXERCISES = "exercises"
ROLE = re.compile(
    r"\{[\w:-]+\}`([^`<]*?)(?: *<[^`>]*>)?`"
)  # {term}`leak <leakage>`: what is read is "leak"
PLACE = re.compile(r"^<!-- teaching: (.+?) -->$", re.MULTILINE)


class TeachingError(ValueError):
    """A notebook or the guide cannot be read; the message names file and entry, and says what to
    do."""


@dataclass(frozen=True)
class Page:
    """One notebook: what it promises, what it took (seconds, MB), and the data sets that it
    needs."""

    name: str
    title: str
    objectives: tuple[str, ...]
    seconds: float
    memory_mb: float
    needs: tuple[str, ...] = ()


@dataclass
class Chapter:
    """A folder of notebooks; pages in the order of the table of contents."""

    folder: str
    pages: list[Page] = field(default_factory=list)
    exercises: dict[int, Exercise] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The title of the lesson, which comes first."""
        return self.pages[0].title

    @property
    def minutes(self) -> int:
        """How long all exercises take a student."""
        return sum(exercise.minutes for exercise in self.exercises.values())

    @property
    def points(self) -> float:
        """What all exercises are worth."""
        return sum(exercise.points for exercise in self.exercises.values())


def read_page(page: Notebook, name: str) -> Page:
    """Return what a notebook says of itself. Raises TeachingError if its title or its cost is
    missing."""
    heading = title(page.nb)
    if heading is None:
        raise TeachingError(f"{name}.ipynb has no title: a line '# ...' in its first markdown cell")
    for key in ("seconds", "memory_mb"):
        if not isinstance(page.own.get(key), (int, float)):
            remedy = f"`make notebooks NB={name}.ipynb` adds it"
            raise TeachingError(f"{name}.ipynb: metadata mmtutor has no {key}; {remedy}")
    points = section_points(page.nb, page.words.objectives)
    return Page(
        name,
        heading,
        tuple(point.rstrip(";.") for point in points),
        float(page.own["seconds"]),
        float(page.own["memory_mb"]),
        tuple(page.own.get("needs", ())),
    )


def read_chapters(root: Path = ROOT) -> dict[str, Chapter]:
    """Return the chapters by folder, read from the notebooks that `_toc.yml` lists."""
    chapters: dict[str, Chapter] = {}
    for name in toc_pages(root / "_toc.yml"):
        path = root / f"{name}.ipynb"
        if path.is_file():
            page, folder = Notebook.read(path), path.parent.name
            chapter = chapters.setdefault(folder, Chapter(folder))
            chapter.pages.append(read_page(page, name))
            if path.stem == EXERCISES:
                exercises = read_exercises(page.nb, page.words)
                chapter.exercises = {exercise.number: exercise for exercise in exercises}
    return chapters


def read_guide(root: Path = ROOT) -> dict[str, Any]:
    """Return what `book/teaching.yml` says. Raises TeachingError if a part of it is missing."""
    with (root / GUIDE).open(
        encoding="utf-8"
    ) as file:  # an open file, so that an error of YAML names it
        guide = yaml.safe_load(file)
    for key in ("objectives", "plans"):
        if not isinstance(guide, dict) or not isinstance(guide.get(key), dict):
            raise TeachingError(f"{GUIDE} has no mapping '{key}' at its top level")
    return guide


def as_read(text: str) -> str:
    """Return what a reader sees of a text in Markdown: the words of its links."""
    return ROLE.sub(r"\1", text)


def matches(entry: Any, page: Page) -> list[str]:
    """Return the objectives of a page that begin, as they are read, with the words of an entry."""
    words = entry.get("objective") if isinstance(entry, dict) else None
    return [
        objective for objective in page.objectives if words and as_read(objective).startswith(words)
    ]


def find(chapter: Chapter, words: Any) -> list[Exercise]:
    """Return the exercises of a chapter that have these words in their title: one, if the words are
    well chosen."""
    return [
        exercise
        for exercise in chapter.exercises.values()
        if isinstance(words, str) and words in exercise.title
    ]


def unknown(where: str, folder: str, words: Any, chapters: Mapping[str, Chapter]) -> Iterator[str]:
    """Yield the problem if not exactly one exercise of the folder is meant."""
    if folder not in chapters:
        yield f"{where}: there is no chapter {folder!r}; there are {', '.join(chapters)}"
    elif len(found := find(chapters[folder], words)) != 1:
        titles = "; ".join(exercise.title for exercise in chapters[folder].exercises.values())
        yield (
            f"{where}: {len(found)} exercises of {folder} have {words!r} in their title, not one;"
            f" there are: {titles}"
        )


def entry_problems(entry: Any, page: Page, chapter: Chapter) -> Iterator[str]:
    """Yield what is wrong with one objective of the guide."""
    where = f"{GUIDE}, objectives, {page.name.removeprefix('book/')}, entry {entry!r}"
    if not isinstance(entry, dict) or not set(entry) <= {"objective", "exercises", "not exercised"}:
        yield (
            f"{where}: an entry has 'objective' and either 'exercises' or 'not exercised', nothing"
            " else"
        )
        return
    if len(found := matches(entry, page)) != 1:
        yield (
            f"{where}: {len(found)} objectives of {page.name}.ipynb begin so, not one; copy its"
            " first words"
        )
    if bool(entry.get("exercises")) == bool(entry.get("not exercised")):
        yield (
            f"{where}: say either which exercises serve it, or under 'not exercised' what to do"
            " instead"
        )
    if not isinstance(entry.get("exercises", []), list):
        yield f"{where}: 'exercises' is a list of titles"
        return
    for words in entry.get("exercises") or []:
        yield from unknown(where, chapter.folder, words, {chapter.folder: chapter})


def mapping_problems(chapters: Mapping[str, Chapter], guide: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong between objectives and exercises: unknown names, and whatever nobody
    thought of."""
    entries: Mapping[str, Any] = guide["objectives"]
    pages = {
        page.name.removeprefix("book/"): (page, chapter)
        for chapter in chapters.values()
        for page in chapter.pages
    }
    for name in entries:
        if name not in pages:
            yield f"{GUIDE}, objectives, {name!r}: the table of contents has no such notebook"
    for name, (page, chapter) in pages.items():
        listed = entries.get(name) or []
        for entry in listed:
            yield from entry_problems(entry, page, chapter)
        for objective in page.objectives:
            times = sum(objective in matches(entry, page) for entry in listed)
            if times != 1:
                yield (
                    f"{GUIDE}, objectives, {name}: {times} entries for '{as_read(objective)}',"
                    " not one"
                )
    for chapter in chapters.values():
        lists = [entries.get(page.name.removeprefix("book/")) or [] for page in chapter.pages]
        named = [
            entry.get("exercises") or []
            for listed in lists
            for entry in listed
            if isinstance(entry, dict)
        ]
        served = {
            exercise.number for words in named for word in words for exercise in find(chapter, word)
        }
        for number in sorted(chapter.exercises.keys() - served):
            title = chapter.exercises[number].title
            yield (
                f"{GUIDE}, objectives: exercise {number} of {chapter.folder} ({title}) serves no"
                " objective"
            )


PLANS = ("twelve weeks", "three days")
PLAN = {"class": int, "home": int, "sessions": list}
SESSION = {"when": str, "pages": list, "talk": int, "class": dict, "read": int, "home": dict}


def oddities(found: Any, wanted: Mapping[str, type]) -> list[str]:
    """Return what is missing, unknown or of another kind in a mapping; lists of exercises are
    looked into."""
    if not isinstance(found, dict):
        return [f"{found!r} is no mapping"]
    odd = [
        f"{key} is missing or no {kind.__name__}"
        for key, kind in wanted.items()
        if type(found.get(key)) is not kind
    ]
    odd += [f"{key} is unknown" for key in found if key not in wanted]
    titles = [
        (key, folder, found[key][folder])
        for key in ("class", "home")
        if not odd and isinstance(found[key], dict)
        for folder in found[key]
    ]
    return odd + [
        f"{key}, {folder}: {value!r} is no list of titles"
        for key, folder, value in titles
        if not isinstance(value, list)
    ]


def chosen(
    session: Mapping[str, Any], place: str, chapters: Mapping[str, Chapter]
) -> list[tuple[Chapter, Exercise]]:
    """Return the exercises that a session names for "class" or "home"; unknown ones are left
    out."""
    return [
        (chapters[folder], exercise)
        for folder, titles in session[place].items()
        for words in titles
        if folder in chapters
        for exercise in find(chapters[folder], words)
    ]


def minutes(session: Mapping[str, Any], place: str, chapters: Mapping[str, Chapter]) -> int:
    """Return the minutes of a session in class (talk and exercises) or at home (reading and
    exercises)."""
    alone = session["talk" if place == "class" else "read"]
    return alone + sum(exercise.minutes for _, exercise in chosen(session, place, chapters))


def plan_problems(chapters: Mapping[str, Chapter], guide: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the plans: unknown names, an exercise twice, a session that is too
    long."""
    pages = {
        page.name.removeprefix("book/") for chapter in chapters.values() for page in chapter.pages
    }
    for name in guide["plans"]:
        if name not in PLANS:
            yield f"{GUIDE}, plans, {name!r}: the page shows {' and '.join(PLANS)} only"
    for name in PLANS:
        plan = guide["plans"].get(name)
        if odd := oddities(plan, PLAN):
            yield f"{GUIDE}, plans, {name!r}: a plan has {', '.join(PLAN)}; {odd[0]}"
            continue
        used: set[tuple[str, int]] = set()
        for session in plan["sessions"]:
            where = (
                f"{GUIDE}, plans, {name},"
                f" {session.get('when') if isinstance(session, dict) else session!r}"
            )
            if odd := oddities(session, SESSION):
                yield f"{where}: a session has {', '.join(SESSION)}; {odd[0]}"
                continue
            yield from (
                f"{where}: there is no notebook {page!r}"
                for page in session["pages"]
                if page not in pages
            )
            for place in ("class", "home"):
                for folder, words in (
                    (f, w) for f, titles in session[place].items() for w in titles
                ):
                    yield from unknown(f"{where}, {place}", folder, words, chapters)
                for chapter, exercise in chosen(session, place, chapters):
                    if (key := (chapter.folder, exercise.number)) in used:
                        yield (
                            f"{where}, {place}: exercise {exercise.number} of {chapter.folder} was"
                            " done before"
                        )
                    used.add(key)
                if (took := minutes(session, place, chapters)) > plan[place]:
                    yield (
                        f"{where}: {took} minutes {place}, more than the {plan[place]} of the plan"
                    )


def problems(chapters: Mapping[str, Chapter], guide: Mapping[str, Any]) -> list[str]:
    """Return everything that is wrong with the guide, one line each."""
    return [*mapping_problems(chapters, guide), *plan_problems(chapters, guide)]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a markdown table; columns of numbers are aligned to the right."""
    lines = [head, tuple("---:" if title in NUMBERS else "---" for title in head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines
    )


NUMBERS = {"seconds", "MB", "minutes", "points"}


def number(chapter: Chapter) -> int:
    """Return the number of a chapter, which its folder begins with."""
    return int(chapter.folder.split("_")[0])


def link(page: Page) -> str:
    """Return a link to a page that shows its title up to the first colon."""
    return f"{{doc}}`{page.title.split(': ')[0]} </{page.name}>`"


def objectives_tables(chapters: Mapping[str, Chapter], guide: Mapping[str, Any]) -> str:
    """Return one table per chapter: what a page promises, and the exercises in which a student does
    it."""
    parts = []
    for chapter in chapters.values():
        rows = []
        for page in chapter.pages:
            listed = guide["objectives"].get(page.name.removeprefix("book/")) or []
            if listed:
                rows.append((f"On the page {link(page)}", ""))
            for entry in sorted(
                listed, key=lambda e, page=page: page.objectives.index(matches(e, page)[0])
            ):
                found = [
                    exercise
                    for words in entry.get("exercises") or []
                    for exercise in find(chapter, words)
                ]
                done = "<br>".join(f"{exercise.number}. {exercise.title}" for exercise in found)
                rows.append((matches(entry, page)[0], done or never(entry)))
        sheet = f"{{doc}}`Open the exercises </book/{chapter.folder}/{EXERCISES}>`."
        parts += [f"### {chapter.title}", table(("You will be able to", "exercises"), rows), sheet]
    return "\n\n".join(parts)


def never(entry: Mapping[str, Any]) -> str:
    """Return how the guide says that an objective is not exercised."""
    return f"*not exercised*: {entry['not exercised']}"


def cost_table(chapters: Mapping[str, Chapter], guide: Mapping[str, Any]) -> str:
    """Return the measured seconds and MB of every notebook, and a student's minutes and points for
    its exercises."""
    rows = []
    for chapter in chapters.values():
        for page in chapter.pages:
            sheet = page.name.endswith(f"/{EXERCISES}")
            work = (str(chapter.minutes), f"{chapter.points:g}") if sheet else ("", "")
            title = f"{number(chapter)} {link(page)}" + (
                f" (needs {', '.join(page.needs)})" if page.needs else ""
            )
            rows.append((title, f"{page.seconds:.0f}", f"{page.memory_mb:.0f}", *work))
    return table(("notebook", "seconds", "MB", "minutes", "points"), rows)


def memory_sentence(chapters: Mapping[str, Chapter], guide: Mapping[str, Any]) -> str:
    """Return what the measured memory means for a class on one server."""
    largest = max(
        (page for chapter in chapters.values() for page in chapter.pages),
        key=lambda page: page.memory_mb,
    )
    sheets = (
        page for c in chapters.values() for page in c.pages if page.name.endswith(f"/{EXERCISES}")
    )
    sheet = max(sheets, key=lambda page: page.memory_mb)
    both, exercise = (f"{40 * page.memory_mb / 1000:.0f} GB" for page in (largest, sheet))
    return (
        f"The largest notebook, {link(largest)}, took {largest.memory_mb:.0f} MB at its peak; the"
        f" largest sheet of exercises took {sheet.memory_mb:.0f} MB. If nothing is shared, forty"
        f" students who run them at the same time need {both} for the notebook, and {exercise} for"
        " the sheet."
    )


def plan_table(name: str) -> Callable[[Mapping[str, Chapter], Mapping[str, Any]], str]:
    """Return a function that writes the plan `name`: pages, exercises, and minutes in class and at
    home."""

    def write(chapters: Mapping[str, Chapter], guide: Mapping[str, Any]) -> str:
        links = {p.name.removeprefix("book/"): link(p) for c in chapters.values() for p in c.pages}
        rows = []
        for session in guide["plans"][name]["sessions"]:
            pages = "; ".join(links[page] for page in session["pages"])
            work = [numbered(chosen(session, place, chapters)) for place in ("class", "home")]
            took = [
                f"{minutes(session, place, chapters)}\N{NO-BREAK SPACE}min"
                for place in ("class", "home")
            ]
            rows.append(
                (session["when"], pages, *(f"{w}<br>{t}" for w, t in zip(work, took, strict=True)))
            )
        return table(("when", "pages", "in class", "at home"), rows)

    return write


def numbered(exercises: list[tuple[Chapter, Exercise]]) -> str:
    """Return exercises as `chapter.number`, so that no two are alike: 3.2 is the second of chapter
    3."""
    return (
        ", ".join(f"{number(chapter)}.{exercise.number}" for chapter, exercise in exercises)
        or "none"
    )


WRITERS: dict[str, Callable[[Mapping[str, Chapter], Mapping[str, Any]], str]] = {
    "objectives": objectives_tables,
    "cost": cost_table,
    "memory": memory_sentence,
    **{f"plan {name}": plan_table(name) for name in PLANS},
}


def insert(source: str, root: Path = ROOT) -> str:
    """Return the page with every table at its place. Raises TeachingError naming all that is
    wrong."""
    chapters, guide = read_chapters(root), read_guide(root)
    wrong = problems(chapters, guide)
    places = PLACE.findall(source)
    wrong += [
        f"book/teaching.md: nothing is called {name!r} to put there"
        for name in places
        if name not in WRITERS
    ]
    wrong += [
        f"book/teaching.md has no line '<!-- teaching: {name} -->'"
        for name in WRITERS
        if name not in places
    ]
    if wrong:
        raise TeachingError("\n".join(wrong))
    return PLACE.sub(lambda place: WRITERS[place.group(1)](chapters, guide), source)
