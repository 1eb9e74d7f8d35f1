"""Print the built book as one PDF: `python -m mmbook.site.pdf`, which writes `_build/mmtutor.pdf`.

The pages of `_toc.yml` become one document, which Chromium prints twice: the first print tells on
which page each section falls, the second has these numbers in its table of contents. Quiz answers
and solutions, folded on the site, stand at the end of the book, each linked with its question; the
code that only draws figures is left to the site.
"""

import argparse
import html
import io
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag
from jinja2 import Template
from sphinx_external_toc.parsing import parse_toc_yaml

from mmbook import browser, root, site
from mmbook.reading import toc_pages

DROPPED = "script, noscript, style, .headerlink, button, .copybtn, .katex-mathml, iframe"
FOLDS = "details:not(details details)"  # what is folded within a fold goes with it
TEMPLATE = Path(__file__).with_name("pdf.html.j2")


@dataclass
class Entry:
    """A line of the table of contents: level 0 is a part, 1 a page, 2 a notebook below it."""

    level: int
    title: str
    anchor: str = ""


@dataclass
class Answer:
    """What was folded: on which page, the question it answers as HTML (empty: that of the answer
    before), the words on the fold, the anchors of both, and what it opens to."""

    page: str
    asked: str
    words: str
    here: str
    there: str
    body: str


@dataclass
class Book:
    """The book on its way to one document; `pages` are the names of its files."""

    folder: Path
    pages: dict[Path, str]
    entries: list[Entry] = field(default_factory=list)
    articles: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)


def anchor(page: str, place: str = "") -> str:
    """Return the id, in the one document, of a page or of a place in it."""
    return f"{page.replace('/', '-')}--{place}" if place else page.replace("/", "-")


def move_addresses(article: Tag, path: Path, book: Book) -> None:
    """Let links into the book lead into the document, links to the site's other files nowhere, and
    load pictures."""
    for tag in article.find_all(id=True):
        tag["id"] = anchor(book.pages[path], str(tag["id"]))
    for tag in article.select("a[href], img[src]"):
        name = "href" if tag.name == "a" else "src"
        parts = urlsplit(str(tag[name]))
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if parts.scheme or parts.netloc:
            continue
        if tag.name == "img":
            tag["src"] = target.as_uri()
        elif target in book.pages:
            tag["href"] = f"#{anchor(book.pages[target], unquote(parts.fragment))}"
        else:
            del tag["href"]


def is_question(tag: Tag) -> bool:
    """Tell whether what follows belongs under this tag: a heading, or a paragraph that is bold from
    end to end."""
    bold = tag.strong if tag.name == "p" else None
    return tag.name in ("h2", "h3", "h4") or (
        bold is not None and bold.get_text().strip() == tag.get_text().strip()
    )


def unfold(article: Tag, page: str, title: str, book: Book) -> None:
    """Move what is folded to the book's answers, with links both ways; leave out folded code that
    draws figures."""
    about = None
    for number, fold in enumerate(article.select(FOLDS), 1):
        words = fold.summary.extract().get_text(" ", strip=True) if fold.summary else ""
        solution = "solution" in words.lower()
        if "hide" in fold.get("class", []) and not solution:
            fold.decompose()
            continue
        here, there = anchor(page, f"fold{number}"), anchor(page, f"answer{number}")
        question = fold.find_previous(is_question)
        asked = ""
        if question is not about:  # on paper no link leads back to it
            asked = (question.strong if question.name == "p" else question).decode_contents()
        about = question
        words, lead = (
            ("Solution", "Solution: at the end of the book") if solution else (words, words)
        )
        book.answers.append(Answer(title, asked, words, here, there, fold.decode_contents()))
        line = f'<p id="{here}"><a href="#{there}">{html.escape(lead)}</a></p>'
        fold.replace_with(BeautifulSoup(line, "html.parser"))


def add_page(book: Book, page: str, level: int) -> None:
    """Add one page of the built site to the document."""
    path = book.folder / f"{page}.html"
    article = site.resources.read_article(path)
    for tag in article.select(DROPPED):
        tag.decompose()
    title = article.h1.get_text(" ", strip=True) if article.h1 else page
    move_addresses(article, path, book)
    unfold(article, page, title, book)
    article["id"] = anchor(page)
    book.entries.append(Entry(level, title, anchor(page)))
    book.articles.append(str(article))


def gather(folder: Path, toc: Path) -> Book:
    """Return all pages of the table of contents in its order, and the answers behind them."""
    contents, folder = parse_toc_yaml(toc), folder.resolve()
    book = Book(folder, {folder / f"{page}.html": page for page in toc_pages(toc)})
    add_page(book, contents.root.docname, 1)
    for part in contents.root.subtrees:
        book.entries += [Entry(0, part.caption)] if part.caption else []
        for chapter in part.files():
            add_page(book, chapter, 1)
            for section in contents[chapter].child_files():
                add_page(book, section, 2)
    if book.answers:
        book.entries += [Entry(0, "Answers"), Entry(1, "Answers and solutions", "answers")]
    return book


def document(book: Book, about: dict[str, str], numbers: dict[str, int]) -> str:
    """Return the one document as HTML; about: title and author; numbers: on which page, from 0,
    each anchor was found."""
    first = next(iter(book.pages))
    sheets = [
        (first.parent / urlsplit(str(link["href"])).path).resolve().as_uri()
        for link in site.resources.read_page(first).select('head link[rel~="stylesheet"]')
    ]
    logo = book.folder / "_static" / "logo.svg"
    return Template(TEMPLATE.read_text(encoding="utf-8")).render(
        about,
        book=book,
        numbers=numbers,
        sheets=sheets,
        logo=logo.as_uri() if logo.is_file() else "",
    )


def print_document(chromium: str, path: Path) -> bytes:
    """Let Chromium print a file; returns the PDF."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=browser.QUIET)
        page = running.new_page(java_script_enabled=False)
        page.set_default_timeout(300_000)
        page.goto(path.as_uri(), wait_until="load")
        pdf = page.pdf(prefer_css_page_size=True, print_background=True, tagged=True)
        running.close()
    return pdf


def page_numbers(pdf: bytes, book: Book) -> dict[str, int]:
    """Return on which page, from 0, each entry of the contents begins."""
    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(pdf))
    anchors = {entry.anchor for entry in book.entries}
    return {
        name.lstrip("/"): reader.get_destination_page_number(place)
        for name, place in reader.named_destinations.items()
        if name.lstrip("/") in anchors
    }


def finish(
    pdf: bytes, book: Book, numbers: dict[str, int], about: dict[str, str], target: Path
) -> int:
    """Write the PDF with bookmarks, title and author; return its number of pages."""
    from pypdf import PdfWriter

    if missing := [e.title for e in book.entries if e.anchor and e.anchor not in numbers]:
        raise site.SiteError(
            f"the PDF has no place for {', '.join(missing)}: has Chromium changed how it names"
            " places?"
        )
    writer = PdfWriter(clone_from=io.BytesIO(pdf))
    above: list[tuple[int, object]] = [(-1, None)]  # the bookmarks around the next one, by level
    for index, entry in enumerate(book.entries):
        start = next(e.anchor for e in book.entries[index:] if e.anchor)
        above = [(level, item) for level, item in above if level < entry.level]
        item = writer.add_outline_item(
            title=entry.title, page_number=numbers[start], parent=above[-1][1]
        )
        above.append((entry.level, item))
    writer.page_mode = "/UseOutlines"
    writer.add_metadata({f"/{key.capitalize()}": value for key, value in about.items()})
    writer.write(target)
    return len(writer.pages)


def make(folder: Path, toc: Path, config: Path, target: Path) -> int:
    """Print the site in `folder` to `target`; return the number of pages."""
    for name in ("playwright", "pypdf"):
        if find_spec(name) is None:
            raise site.SiteError(
                f'{name} is missing: run `make pdf`, or pip install -e ".[book,pdf]"'
            )
    chromium = browser.chromium()
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    about = {"title": settings["title"], "author": settings.get("author", "")}
    book = gather(folder, toc)
    source = target.with_suffix(".html")
    source.parent.mkdir(parents=True, exist_ok=True)
    numbers: dict[str, int] = {}
    try:
        for _ in range(2):
            source.write_text(document(book, about, numbers), encoding="utf-8")
            pdf = print_document(chromium, source)
            numbers = page_numbers(pdf, book)
    finally:
        source.unlink(missing_ok=True)
    return finish(pdf, book, numbers, about, target)


def main(arguments: list[str] | None = None) -> int:
    """Make the PDF; return 0, or 1 after printing what went wrong."""
    argparse.ArgumentParser(
        prog="python -m mmbook.site.pdf", description="Print the built book."
    ).parse_args(arguments)

    def make_book() -> None:
        target = root() / "_build" / "mmtutor.pdf"
        count = make(site.folder(), root() / "_toc.yml", root() / "_config.yml", target)
        print(f"{target}: {count} pages, {target.stat().st_size / 1e6:.1f} MB")

    return site.exit_status(make_book)


if __name__ == "__main__":
    sys.exit(main())
