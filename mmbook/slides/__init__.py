"""Make slides from the chapters: `python -m mmbook.slides [CHAPTER ...]` writes
`_build/slides/<chapter>.html`.

Each chapter's `lesson.ipynb` becomes a reveal.js presentation that needs no network: a `##` section
is a column of slides, a `###` finding begins a new slide below. Slides show first sentences,
figures, tables and short code; the whole prose is in the speaker's notes (key S). Nothing is run:
all results are the stored outputs. reveal.js and KaTeX come from npm at the versions and sha512
sums of `mmbook/site/npm/web/package-lock.json` (see `mmbook/site`).
"""

from __future__ import annotations

import argparse
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from jinja2 import Environment, FileSystemLoader

from mmbook import root, site
from mmbook.reading import toc_pages
from mmbook.slides.text import (
    FIGURE,
    Block,
    Reader,
    SlidesError,
    draw_formulas,
    text_height,
    text_of,
)

TEMPLATE = Path(__file__).with_name("template")
REVEAL = "reveal.js"
ROOM = 640  # px for what stands on a slide of 720, its padding left out
HEADING = (56, 42, 18)  # letters in a line of a slide's title, px of that line, px below
PAGES = Environment(loader=FileSystemLoader(TEMPLATE))


@dataclass
class Slide:
    """One slide: `column` tells whether it begins a section; `notes` are for the speaker."""

    title: str
    column: bool = False
    blocks: list[Block] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    css: str = ""

    def room(self) -> int:
        """Return how many px are left."""
        return ROOM - text_height(self.title, *HEADING) - sum(block.height for block in self.blocks)

    def markup(self) -> str:
        """Return the slide as HTML; its figures take the room that is left."""
        figures = sum(block.kind == "figure" for block in self.blocks)
        height = min(FIGURE[1], FIGURE[0] + max(0, self.room()) // max(figures, 1))
        level = "h1" if self.css == "title" else "h2"
        body = "\n".join(block.html for block in self.blocks).replace("HEIGHTpx", f"{height}px")
        # items one after the other are one list
        body = re.sub(r"</(ul|ol)>\n<\1(?: start=\"\d+\")?>(?=<li)", "", body)
        return f'<div class="slide {self.css}"><{level}>{self.title}</{level}>\n{body}\n</div>'


@dataclass
class Deck:
    """The slides of one lesson, in order."""

    slides: list[Slide] = field(default_factory=list)

    def begin(self, title: str, column: bool = False, css: str = "") -> Slide:
        """Start a slide and return it."""
        self.slides.append(Slide(title, column, css=css))
        return self.slides[-1]

    def add(self, block: Block) -> None:
        """Put a block on the last slide, or on a new one of the same title where it does not
        fit."""
        slide = self.slides[-1]
        if slide.blocks and block.height > slide.room():
            slide = self.begin(slide.title)
        slide.blocks.append(block)
        slide.notes += [block.notes] if block.notes else []

    def fill(self) -> None:
        """Give slides with little on them more of their prose."""
        for slide in self.slides:
            for block in slide.blocks:
                more = text_height(block.more) - block.height
                if block.more and slide.room() > ROOM // 2 and more < slide.room():
                    block.html, block.height = block.more, block.height + more
                    if text_of(block.more).strip() == text_of(block.full).strip():
                        slide.notes.remove(block.notes)

    def ask(self, choices: list[Block]) -> None:
        """Turn the last slide into a question with these choices; it is shown in full, whoever
        answers has to read it.

        The feedback follows on slides of its own, so that nobody reads it too early.
        """
        asked = self.slides.pop()
        self.slides.append(Slide(asked.title, asked.column))
        for block in asked.blocks:
            shown = block.full or block.html
            height = text_height(shown) if block.kind == "text" and block.notes else block.height
            self.add(
                Block(
                    block.kind, shown, height, shown, block.notes if block.kind == "figure" else ""
                )
            )
        answers = [(re.sub(r"^[A-Z]\.\s+", "", choice.html), choice.feedback) for choice in choices]
        items = "".join(f"<li>{answer}</li>" for answer, _ in answers)
        height = sum(text_height(answer, gap=8) for answer, _ in answers) + 14
        self.add(Block("choices", f'<ol class="choices" type="A">{items}</ol>', height))
        self.begin(f"{asked.title}: what each answer says")
        for letter, (answer, feedback) in zip("ABCDEFGHIJ", answers, strict=False):
            shown = (
                f'<div class="feedback"><p><strong>{letter}. {answer}</strong></p>{feedback}</div>'
            )
            self.add(Block("feedback", shown, text_height(answer) + text_height(feedback)))


def make_deck(reader: Reader, cells: list[nbformat.NotebookNode]) -> Deck:
    """Lay the cells of a lesson out on slides."""
    deck, choices = Deck(), []
    scratch = answered = False  # within "From scratch"; just behind the feedback to a question
    for cell in cells:
        if not deck.slides and cell.cell_type != "markdown":
            raise SlidesError(
                f"{reader.path}: the first cell must be Markdown with the chapter's title (# ...)"
            )
        for block in reader.blocks(cell, scratch):
            if choices and block.kind != "choice":
                deck.ask(choices)
                choices, answered = [], True
            if not deck.slides:
                if block.kind != "heading" or block.level != 1:
                    raise SlidesError(
                        f"{reader.path}: the lesson does not begin with a title (# ...)"
                    )
                deck.begin(block.html, True, "title")
            elif block.kind == "heading":
                if block.level == 2:
                    scratch = text_of(block.html).startswith("From scratch")
                deck.begin(block.html, block.level == 2)
                answered = False
            elif block.kind == "choice":
                choices.append(block)
            elif "cost" in cell.metadata.get("tags", []):
                deck.slides[-1].notes.append(block.full)
            else:
                if answered:  # the lesson goes on, or asks its next question
                    deck.begin(next(slide.title for slide in reversed(deck.slides) if slide.column))
                    answered = False
                deck.add(block)
    if not deck.slides:
        raise SlidesError(
            f"{reader.path}: the notebook is empty. Restore it, or take it out of _toc.yml"
        )
    if choices:
        deck.ask(choices)
    deck.fill()
    for slide in deck.slides[1:]:
        if not slide.blocks:
            slide.blocks.append(
                Block(
                    "text",
                    '<p class="kicker">See the chapter for the code and the details.</p>',
                    36,
                )
            )
    return deck


def lessons(home: Path) -> list[Path]:
    """Return the lessons that the table of contents names, in its order."""
    pages = toc_pages(home / "_toc.yml")
    return [home / f"{page}.ipynb" for page in pages if page.endswith("/lesson")]


def read(path: Path) -> nbformat.NotebookNode:
    """Read a notebook. Raises SlidesError where there is none, or none that can be read."""
    if not path.is_file():
        raise SlidesError(
            f"there is no lesson {path}: name a folder of book/ that holds lesson.ipynb"
        )
    try:
        return nbformat.read(path, 4)
    except Exception as error:  # nbformat raises whatever json, jsonschema and its converters raise
        raise SlidesError(
            f"{path} is no notebook that can be read ({error}): restore it, or save it again"
        ) from error


def convert(path: Path, web: Path, bibliography: Path | None = None) -> tuple[str, str]:
    """Return the title and the HTML of one lesson's slides.

    web: the folder with KaTeX (`site.fetch`); bibliography: a BibTeX file, by default the book's.
    """
    nb = read(path)
    reader = Reader(nb, path, bibliography or root() / "book" / "references.bib")
    deck = make_deck(reader, nb.cells)
    title = text_of(deck.slides[0].title)
    page = PAGES.get_template("slides.html.j2").render(
        title=title, slides=deck.slides, reveal=REVEAL
    )
    return title, draw_formulas(page, reader.formulas, site.node(), web, str(path))


def lay_out_reveal(web: Path, target: Path) -> None:
    """Copy what the slides load: reveal.js with its style sheet, notes plugin and licence, and our
    own files."""
    source = web / "node_modules" / "reveal.js"
    files = [
        source / name
        for name in ("dist/reveal.js", "dist/reveal.css", "plugin/notes/notes.js", "LICENSE")
    ]
    if missing := [str(path) for path in files if not path.is_file()]:
        raise SlidesError(
            f"reveal.js is not whole: {missing[0]} is missing. Remove {web} and run `make slides`"
            " again"
        )
    target.mkdir(parents=True)
    for path in [*files, TEMPLATE / "slides.css", TEMPLATE / "start.js"]:
        shutil.copy(path, target)


def build(chosen: list[str], output: Path | None = None) -> Path:
    """Make the slides of the chosen chapters (none: all) and the index; then replace `output`."""
    output = output or root() / "_build" / "slides"
    every = {path.parent.name: path for path in lessons(root())}
    if unknown := [name for name in chosen if name not in every]:
        raise SlidesError(f"there is no chapter {unknown[0]!r}: choose from {', '.join(every)}")
    try:
        web = site.fetch()
    except site.PackagesMissing as error:
        raise SlidesError(
            "reveal.js and KaTeX cannot be had. Go online once and run `make slides` again."
            f" {error}"
        ) from error
    staging = output.with_name(output.name + "-staging")
    shutil.rmtree(staging, ignore_errors=True)
    lay_out_reveal(web, staging / REVEAL)
    titles = {}
    for name in chosen or every:
        titles[name], page = convert(every[name], web)
        (staging / f"{name}.html").write_text(page, encoding="utf-8")
    index = PAGES.get_template("index.html.j2").render(chapters=titles, reveal=REVEAL)
    (staging / "index.html").write_text(index, encoding="utf-8")
    shutil.rmtree(output, ignore_errors=True)
    staging.rename(output)
    return output


def main(arguments: list[str] | None = None) -> int:
    """Make the slides; return 0, or 1 after printing what went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbook.slides", description="Make slides from the chapters."
    )
    parser.add_argument(
        "chapters", nargs="*", help="folders of book/, such as 03_feature_fusion (default: all)"
    )
    chosen = parser.parse_args(arguments).chapters
    return site.exit_status(lambda: print(f"Made. Open {build(chosen) / 'index.html'}"))
