"""From the page of a lesson, as the site shows it, to slides.

Roles, citations, glued values and formulas are resolved on the page. Here it is cut: sections into
columns, findings into slides, paragraphs to their first sentences. What fits on a slide is measured
in the browser (`template/start.js`).
"""

from __future__ import annotations

import re
from copy import copy
from dataclasses import dataclass, field
from html import escape

from bs4 import BeautifulSoup, NavigableString, PageElement, Tag

from mmbook.site import SiteError
from mmbook.words import words_of

BLOCKS = (
    "h1, h2, h3, h4, p, ul, ol, dl, table, pre, figure, img, blockquote, div.math, div.code,"
    " svg.schematic,"
    " details:not([class])"  # a fold with a class is the theme's: what is in it counts
)
NOT_SHOWN = (
    "script, style, button, .headerlink, .section-number, .toctree-wrapper, .widget-live,"
    " details[class] > summary"
)
# letters of a paragraph that a slide shows, unless its first sentence has more: beside other
# blocks, where little stands beside it, and where whoever answers a question has to read all
SAID, MORE, ALL = 240, 420, 10**6
CODE, PRINTED = 24, 16  # lines that a slide shows of code and of output
SENTENCE = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!vs)(?<!al)[.?!][\"”)]?(?=\s+[^a-z\s]|\s*$)")
CELLS = {"rowspan", "colspan", "scope"}  # attributes that a table keeps
BLACKBOARD = str.maketrans("CNPQRZ", "ℂℕℙℚℝℤ")  # browsers draw these, but no R with a style


@dataclass
class Slide:
    """One slide: its title as HTML; level 1 begins the lesson, 2 a section, 3 goes on below."""

    title: str
    level: int
    blocks: list[Tag] = field(default_factory=list)

    @property
    def choices(self) -> list[Tag]:
        """The folds behind a question, each a choice that opens to its feedback."""
        return [block for block in self.blocks if block.name == "details"]


def words(element: PageElement) -> str:
    """Return the text that is seen: of a formula its letters, not the MathML beside them."""
    texts = element.strings if isinstance(element, Tag) else [element]
    return "".join(text for text in texts if not text.find_parent(class_="katex-mathml"))


def new(markup: str) -> Tag:
    """Return the element that a piece of HTML stands for."""
    return BeautifulSoup(markup, "html.parser").contents[0]


def notes(block: Tag) -> Tag:
    """Return what the speaker's window shows of a block: it knows no style sheet, so formulas are
    MathML."""
    spoken = copy(block)
    for tag in spoken.select(".katex-html"):
        tag.decompose()
    for letter in spoken.select('[mathvariant="double-struck"]'):
        letter.string = letter.get_text().translate(BLACKBOARD)
    return new(f'<aside class="notes"><div>{spoken.decode_contents()}</div></aside>')


def shorten(text: Tag, limit: int) -> bool:
    """Cut a text behind its first sentences: at least one, together at most `limit` letters; tell
    whether anything is gone."""
    whole, end, length = words(text), None, 0
    for child in text.children:
        if isinstance(child, NavigableString):
            for match in SENTENCE.finditer(child):
                if end is None or length + match.end() <= limit:
                    end = (child, match.end())
        length += len(words(child))
    if end is None or length <= limit:
        return False
    last, place = end
    for later in list(last.next_siblings):
        later.extract()
    last.replace_with(last[:place])
    return words(text).strip() != whole.strip()


def clean(article: Tag) -> None:
    """Leave on a page what a slide can show: no links and buttons, little code, bare tables."""
    scratch = words_of().from_scratch
    for tag in article.select(NOT_SHOWN):
        tag.decompose()
    for tag in article.select("a, td > p, th > p"):
        tag.unwrap()
    for pre in article.select("pre"):
        limit = CODE if pre.find_parent(class_="cell_input") else PRINTED
        lines = pre.get_text().rstrip("\n").split("\n")
        pre.string = "\n".join(lines[:limit] + ["…"] * (len(lines) > limit))
    for code in article.select("div.cell_input"):
        cell, heading = code.find_parent(class_="cell"), code.find_previous("h2")
        printed_only = not cell.select("details, .cell_output > :not(.stream)")
        is_whole = not code.pre.get_text().endswith("\n…")
        if heading and words(heading).startswith(scratch) and printed_only and is_whole:
            cell["class"] = "code"
            cell.contents = cell.select("pre")
        else:
            code.decompose()
    for tag in article.select("table, table :is(thead, tbody, tr, th, td)"):
        tag.attrs = {key: value for key, value in tag.attrs.items() if key in CELLS}


def shown(block: Tag, limit: int) -> Tag:
    """Return a block as a slide shows it, its texts with at most `limit` letters; what only the
    speaker sees is an <aside> within it."""
    if block.name == "svg":
        spoken = escape(block.desc.get_text())
        return new(f'<figure>{block}<aside class="notes"><p>{spoken}</p></aside></figure>')
    if block.name in ("img", "figure"):
        image = block if block.name == "img" else block.img
        image.attrs = {key: image[key] for key in ("src", "alt")}
        alt = escape(str(image["alt"]))
        return new(f'<figure>{image}<aside class="notes"><p>{alt}</p></aside></figure>')
    if block.name == "p" and block.strong and block.strong.get_text() == words_of().cost:
        return notes(block)
    if block.name in ("p", "ul", "ol"):
        for text in block.select("li") or [block]:
            whole = notes(text)
            if shorten(text.p or text, limit):
                text.append(whole)
                if text.name == "p":  # which cannot hold an <aside>
                    text.name, text["class"] = "div", "said"
    return block


def ask(question: Slide) -> list[Slide]:
    """Return a question with its choices, and a slide of its own for what each of them opens to, so
    that nobody reads it too early."""
    answers = [
        (re.sub(r"^[A-Z]\.\s+", "", choice.summary.extract().decode_contents()), choice)
        for choice in question.choices
    ]
    items = "".join(f"<li>{answer}</li>" for answer, _ in answers)
    asked = [shown(block, ALL) for block in question.blocks if block.name != "details"]
    feedback = [
        new(
            f'<div class="feedback"><p><strong>{letter}. {answer}</strong></p>'
            f"{choice.decode_contents()}</div>"
        )
        for letter, (answer, choice) in zip("ABCDEFGHIJ", answers, strict=False)
    ]
    return [
        Slide(
            question.title,
            question.level,
            [*asked, new(f'<ol class="choices" type="A">{items}</ol>')],
        ),
        Slide(f"{question.title}: what each answer says", 3, feedback),
    ]


def read_slides(article: Tag, name: str) -> list[Slide]:
    """Return the slides of a lesson's article, which is changed; `name` is for messages."""
    clean(article)
    slides: list[Slide] = []
    for block in article.select(f":is({BLOCKS}):not(:is({BLOCKS}) *)"):
        if block.name in ("h1", "h2", "h3", "h4"):
            slides.append(Slide(block.decode_contents(), int(block.name[1])))
            continue
        if not slides:
            raise SiteError(f"{name} does not begin with a title (# ...)")
        if slides[-1].choices and block.name != "details":  # the lesson goes on, or asks again
            section = next(slide for slide in reversed(slides) if slide.level < 3)
            slides.append(Slide(section.title, 3))
        slides[-1].blocks.append(block)
    if not slides:
        raise SiteError(f"{name} is empty. Restore its notebook, or take it out of _toc.yml")
    laid_out: list[Slide] = []
    for slide in slides:
        if slide.choices:
            laid_out += ask(slide)
        else:
            limit = SAID if len(slide.blocks) > 2 else MORE
            slide.blocks = [shown(block, limit) for block in slide.blocks]
            laid_out.append(slide)
    return laid_out
