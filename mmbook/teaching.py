"""The tables of the instructor's guide: read from the notebooks and from `book/teaching.yml` while
the book is built.

What a page teaches stands under its heading "You will be able to"; what an exercise is, how long it
takes and what it is worth stand below its heading; what a notebook costs is in its metadata.
`book/teaching.yml` adds what only a teacher can say: which exercise serves which objective, and who
does what when. Its shape is checked by a JSON Schema, what its names mean here; the tables are a
Jinja template (both in `mmbook/templates`).
"""

import itertools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import yaml
from jsonschema import Draft202012Validator

from mmbook.reading import (
    ROOT,
    Exercise,
    Notebook,
    holding,
    read_exercises,
    section_points,
    title,
    toc_pages,
)
from mmbook.words import words_of

GUIDE = "book/teaching.yml"
SHEET = "/exercises"
COSTS = ("seconds", "memory_mb")
SERVER_MB = 150  # a single-user server of JupyterHub (5 and 6), beside its kernels
ALONE = {"class": "talk", "home": "read"}  # place of work → minutes of it without an exercise
TEMPLATES = Path(__file__).resolve().parent / "templates"
# {term}`leak <leakage>`: what is read is "leak"
ROLE = re.compile(r"\{[\w:-]+\}`([^`<]*?)(?: *<[^`>]*>)?`")
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

    @property
    def is_sheet(self) -> bool:
        """Whether it is a sheet of exercises."""
        return self.name.endswith(SHEET)


@dataclass
class Chapter:
    """A folder of notebooks; pages in the order of the table of contents."""

    folder: str
    pages: list[Page] = field(default_factory=list)
    exercises: dict[int, Exercise] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """Its number, which its folder begins with."""
        return int(self.folder.split("_")[0])


def refuse(problems: list[str]) -> None:
    """Raise TeachingError that lists the problems, if there are any."""
    if problems:
        raise TeachingError("\n".join(problems))


def read_page(page: Notebook, name: str) -> Page:
    """Return what a notebook says of itself. Raises TeachingError if its title or its cost is
    missing."""
    costs = {key: page.own.get(key) for key in COSTS}
    untitled = f"{name}.ipynb has no title: a line '# ...' in its first markdown cell"
    faults = {untitled: title(page.nb) is None} | {
        f"{name}.ipynb: metadata mmtutor has no {key}; `make notebooks NB={name}.ipynb` adds it": (
            not isinstance(cost, int | float)
        )
        for key, cost in costs.items()
    }
    refuse(holding(faults))
    points = section_points(page.nb, page.words.objectives)
    objectives = tuple(point.rstrip(";.") for point in points)
    return Page(name, title(page.nb), objectives, **costs, needs=tuple(page.own.get("needs", ())))


def read_chapters(root: Path = ROOT) -> dict[str, Chapter]:
    """Return the chapters by folder, read from the notebooks that `_toc.yml` lists."""
    chapters: dict[str, Chapter] = {}
    for name in toc_pages(root / "_toc.yml"):
        path = root / f"{name}.ipynb"
        if path.is_file():
            page, folder = Notebook.read(path), path.parent.name
            chapter = chapters.setdefault(folder, Chapter(folder))
            chapter.pages.append(read_page(page, name))
            chapter.exercises |= {e.number: e for e in read_exercises(page.nb, page.words)}
    return chapters


def read_guide(root: Path = ROOT) -> dict[str, Any]:
    """Return what `book/teaching.yml` says. Raises TeachingError for each place of another shape
    than `teaching.schema.yml` describes."""
    with (root / GUIDE).open(encoding="utf-8") as file:  # a file, so that an error of YAML names it
        guide = yaml.safe_load(file)
    schema = yaml.safe_load((TEMPLATES / "teaching.schema.yml").read_text(encoding="utf-8"))
    refuse(
        [
            f"{GUIDE}, {error.json_path.removeprefix('$.')}: {error.message}"
            for error in Draft202012Validator(schema).iter_errors(guide)
        ]
    )
    return guide


@dataclass(frozen=True)
class Promise:
    """An objective of a page, the exercises in which a student does it, or what to do instead."""

    objective: str
    exercises: list[Exercise]
    instead: str


@dataclass(frozen=True)
class Session:
    """A session of a plan: pages, exercises and minutes; the latter two for "class" and "home"."""

    when: str
    pages: list[Page]
    work: dict[str, list[tuple[Chapter, Exercise]]]
    minutes: dict[str, int]


class Guide:
    """The guide with its names resolved to pages and exercises; `problems` lists what fails."""

    def __init__(self, chapters: Mapping[str, Chapter], words: Mapping[str, Any]) -> None:
        """Resolve all names. words: what `read_guide` returns."""
        self.chapters = chapters
        self.problems: list[str] = []
        self.pages = {page.name: page for c in chapters.values() for page in c.pages}
        self.promises: dict[str, list[Promise]] = {}
        for name in words["objectives"]:
            self.require(
                f"book/{name}" in self.pages,
                f"objectives, {name!r}",
                "the table of contents has no such notebook",
            )
        for chapter in chapters.values():
            self.read_promises(chapter, words["objectives"])
        self.plans = {name: self.read_plan(name, plan) for name, plan in words["plans"].items()}

    def require(self, met: bool, where: str, what: str) -> None:
        """Note a problem of an entry of the guide, unless a condition is met."""
        if not met:
            self.problems.append(f"{GUIDE}, {where}: {what}")

    def find(self, where: str, folder: str, titles: list[str]) -> list[Exercise]:
        """Return the exercise for each of the words, which one title of the chapter has."""
        if folder not in self.chapters:
            there = ", ".join(self.chapters)
            self.problems.append(f"{GUIDE}, {where}: no chapter {folder!r}; there are {there}")
            return []
        known = self.chapters[folder].exercises.values()
        meant = {words: [e for e in known if words in e.title] for words in titles}
        for words, found in meant.items():
            self.require(
                len(found) == 1,
                where,
                f"{len(found)} exercises of {folder} have {words!r} in their title, not one;"
                f" there are: {'; '.join(exercise.title for exercise in known)}",
            )
        return [exercise for words in titles for exercise in meant[words]]

    def read_promises(self, chapter: Chapter, objectives: Mapping[str, Any]) -> None:
        """Resolve the entries of a chapter's pages; each objective has one, each exercise serves
        one."""
        for page in chapter.pages:
            short, order = page.name.removeprefix("book/"), page.objectives.index
            entries = [self.read_entry(e, page, chapter) for e in objectives.get(short, [])]
            promises = sorted(itertools.chain(*entries), key=lambda one: order(one.objective))
            times = Counter(promise.objective for promise in promises)
            for objective in page.objectives:
                self.require(
                    times[objective] == 1,
                    f"objectives, {short}",
                    f"{times[objective]} entries for '{as_read(objective)}', not one",
                )
            self.promises[page.name] = promises
        promises = [promise for page in chapter.pages for promise in self.promises[page.name]]
        served = {exercise.number for promise in promises for exercise in promise.exercises}
        for number, exercise in chapter.exercises.items():
            self.require(
                number in served,
                "objectives",
                f"exercise {number} of {chapter.folder} ({exercise.title}) serves no objective",
            )

    def read_entry(self, entry: dict[str, Any], page: Page, chapter: Chapter) -> list[Promise]:
        """Resolve one entry: the objective that begins with its words, as a reader sees them."""
        where = f"objectives, {page.name.removeprefix('book/')}, entry {entry!r}"
        meant = [o for o in page.objectives if as_read(o).startswith(entry["objective"])]
        self.require(
            len(meant) == 1,
            where,
            f"{len(meant)} objectives of {page.name}.ipynb begin so, not one; copy its first words",
        )
        self.require(
            ("exercises" in entry) != ("not exercised" in entry),
            where,
            "say either which exercises serve it, or under 'not exercised' what to do instead",
        )
        exercises = self.find(where, chapter.folder, entry.get("exercises", []))
        instead = entry.get("not exercised", "")
        return [Promise(objective, exercises, instead) for objective in meant]

    def read_plan(self, name: str, plan: dict[str, Any]) -> list[Session]:
        """Resolve the sessions of a plan: nothing is done twice, none is too long."""
        done: set[str] = set()
        sessions = [self.read_session(f"plans, {name}", words) for words in plan["sessions"]]
        for session in sessions:
            where = f"plans, {name}, {session.when}"
            for place, minutes in session.minutes.items():
                for chapter, exercise in session.work[place]:
                    one = f"exercise {exercise.number} of {chapter.folder}"
                    self.require(one not in done, f"{where}, {place}", f"{one} was done before")
                    done.add(one)
                self.require(
                    minutes <= plan[place],
                    where,
                    f"{minutes} minutes {place}, more than the {plan[place]} of the plan",
                )
        return sessions

    def read_session(self, plan: str, words: dict[str, Any]) -> Session:
        """Resolve the names of a session, and add up its minutes."""
        where = f"{plan}, {words['when']}"
        for name in words["pages"]:
            self.require(f"book/{name}" in self.pages, where, f"there is no notebook {name!r}")
        pages = [self.pages[f"book/{n}"] for n in words["pages"] if f"book/{n}" in self.pages]
        work = {
            place: [
                (self.chapters[folder], exercise)
                for folder, titles in words[place].items()
                for exercise in self.find(f"{where}, {place}", folder, titles)
            ]
            for place in ALONE
        }
        minutes = {
            place: words[alone] + sum(exercise.minutes for _, exercise in work[place])
            for place, alone in ALONE.items()
        }
        return Session(words["when"], pages, work, minutes)


def as_read(text: str) -> str:
    """Return what a reader sees of a text in Markdown: the words of its links."""
    return ROLE.sub(r"\1", text)


def tables(guide: Guide) -> dict[str, str]:
    """Return name → Markdown of everything that the page of the guide has a place for."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = lambda text: text.replace("|", r"\|")
    macros = environment.get_template("teaching.md.jinja").module
    say = words_of().guide
    made = {f"plan {name}": macros.plan(guide, say, name) for name in guide.plans}
    made |= {name: getattr(macros, name)(guide, say) for name in ("objectives", "cost")}
    made["memory"] = macros.memory(guide, say, SERVER_MB)
    return {name: text.strip() for name, text in made.items()}


def insert(source: str, root: Path = ROOT) -> str:
    """Return the page with every table at its place. Raises TeachingError naming all that is
    wrong."""
    guide = Guide(read_chapters(root), read_guide(root))
    refuse(guide.problems)
    places, made, page = set(PLACE.findall(source)), tables(guide), "book/teaching.md"
    wrong = [f"{page}: nothing is called {name!r} to put there" for name in places - made.keys()]
    wrong += [f"{page} has no line '<!-- teaching: {name} -->'" for name in made.keys() - places]
    refuse(wrong)
    return PLACE.sub(lambda place: made[place[1]], source)
