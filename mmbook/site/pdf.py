"""Print the built book as one PDF: `python -m mmbook.site.pdf`, which writes `_build/mmtutor.pdf`.

The pages of `_toc.yml` become one document, which Chromium prints twice: the first print tells on
which page each section falls, the second has these numbers in its table of contents. Quiz answers
and solutions, folded on the site, stand at the end of the book, each linked with its question; the
code that only draws figures is left to the site.
"""

from __future__ import annotations

import argparse
import html
import io
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag
from jinja2 import Template

from mmbook import browser, root, site
from mmbook.reading import toc_pages

DROPPED = "script, noscript, style, .headerlink, button, .copybtn, .katex-mathml, iframe"
TEMPLATE = Path(__file__).with_name("pdf.html.j2")


@dataclass
class Entry:
    """A line of the table of contents: level 0 is a part, 1 a page, 2 a notebook below it."""

    level: int
    title: str
    anchor: str = ""


@dataclass
class Book:
    """The book on its way to one document."""

    folder: Path
    root: str
    entries: list[Entry] = field(default_factory=list)
    articles: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)


def anchor(page: str, place: str = "") -> str:
    """Return the id, in the one document, of a page or of a place in it."""
    return f"{page.replace('/', '-')}--{place}" if place else page.replace("/", "-")


def move_addresses(article: Tag, page: str, pages: set[str], folder: Path) -> None:
    """Let links into the book lead into the document, links to the site's other files nowhere, and
    load pictures."""
    path = folder / f"{page}.html"
    for tag in article.find_all(id=True):
        tag["id"] = anchor(page, str(tag["id"]))
    for link in article.find_all("a", href=True):
        parts = urlsplit(str(link["href"]))
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
        name = (
            target.relative_to(folder).with_suffix("").as_posix()
            if target.is_relative_to(folder)
            else ""
        )
        if name in pages and target.suffix == ".html":
            link["href"] = f"#{anchor(name, unquote(parts.fragment))}"
        else:
            del link["href"]
    for picture in article.find_all("img", src=True):
        if not urlsplit(str(picture["src"])).scheme:
            picture["src"] = (
                (path.parent / unquote(urlsplit(str(picture["src"])).path)).resolve().as_uri()
            )


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
    soup = BeautifulSoup("", "html.parser")
    moved, about = 0, None
    for fold in article.find_all("details"):
        summary = fold.find("summary")
        words = summary.get_text(" ", strip=True) if summary else ""
        if fold.find_parent("details"):
            continue
        solution = "solution" in words.lower()
        if "hide" in fold.get("class", []) and not solution:
            fold.decompose()
            continue
        moved += 1
        here, there = anchor(page, f"fold{moved}"), anchor(page, f"answer{moved}")
        if summary:
            summary.extract()
        question = "Solution" if solution else words
        if not moved - 1:
            book.answers.append(f"<h2>{html.escape(title)}</h2>")
        asked = fold.find_previous(is_question)
        if asked is not None and asked is not about:  # on paper no link leads back to it
            about = asked
            book.answers.append(
                f"<h3>{(asked.strong if asked.name == 'p' else asked).decode_contents()}</h3>"
            )
        back = f'<p class="question"><a href="#{here}">{html.escape(question)}</a></p>'
        book.answers.append(
            f'<div class="pdf-answer" id="{there}">{back}{fold.decode_contents()}</div>'
        )
        line = soup.new_tag("p", id=here)
        link = soup.new_tag("a", href=f"#{there}")
        link.string = "Solution: at the end of the book" if solution else words
        line.append(link)
        fold.replace_with(line)


def add_page(book: Book, page: str, level: int, pages: set[str]) -> None:
    """Add one page of the built site to the document."""
    path = book.folder / f"{page}.html"
    if not path.is_file():
        raise site.SiteError(f"{path} is not there: run `make book` first")
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    article = soup.select_one("article")
    for tag in article.select(DROPPED):
        tag.decompose()
    heading = article.find("h1")
    title = heading.get_text(" ", strip=True) if heading else page
    move_addresses(article, page, pages, book.folder)
    unfold(article, page, title, book)
    article["id"] = anchor(page)
    book.entries.append(Entry(level, title, anchor(page)))
    book.articles.append(str(article))


def gather(folder: Path, toc: Path) -> Book:
    """Return all pages of the table of contents in its order, and the answers behind them."""
    table = yaml.safe_load(toc.read_text(encoding="utf-8"))
    book = Book(folder.resolve(), table["root"])
    pages = set(toc_pages(toc))
    add_page(book, table["root"], 1, pages)
    for part in table.get("parts", [{"chapters": table.get("chapters", [])}]):
        if part.get("caption"):
            book.entries.append(Entry(0, part["caption"]))
        for chapter in part.get("chapters", []):
            add_page(book, chapter["file"], 1, pages)
            for section in chapter.get("sections", []):
                add_page(book, section["file"], 2, pages)
    if book.answers:
        book.entries.append(Entry(0, "Answers"))
        book.entries.append(Entry(1, "Answers and solutions", "answers"))
    return book


def document(book: Book, title: str, author: str, numbers: dict[str, int]) -> str:
    """Return the one document as HTML; numbers: on which page, from 0, each anchor was found."""
    first = book.folder / f"{book.root}.html"
    sheets = [
        (first.parent / urlsplit(str(link["href"])).path).resolve().as_uri()
        for link in site.resources.read_page(first).select('head link[rel~="stylesheet"]')
    ]
    logo = book.folder / "_static" / "logo.svg"
    return Template(TEMPLATE.read_text(encoding="utf-8")).render(
        book=book,
        title=title,
        author=author,
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
    places = {name.lstrip("/"): place for name, place in reader.named_destinations.items()}
    return {
        e.anchor: reader.get_destination_page_number(places[e.anchor])
        for e in book.entries
        if e.anchor in places
    }


def finish(pdf: bytes, book: Book, title: str, author: str, target: Path) -> int:
    """Write the PDF with bookmarks, title and author; return its number of pages."""
    from pypdf import PdfReader, PdfWriter

    numbers = page_numbers(pdf, book)
    if missing := [e.title for e in book.entries if e.anchor and e.anchor not in numbers]:
        raise site.SiteError(
            f"the PDF has no place for {', '.join(missing)}: has Chromium changed how it names"
            " places?"
        )
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf)))
    parents: dict[int, object] = {}
    for index, entry in enumerate(book.entries):
        start = entry.anchor or next(e.anchor for e in book.entries[index:] if e.anchor)
        above = [parents[level] for level in range(entry.level) if level in parents]
        parents = {level: item for level, item in parents.items() if level < entry.level}
        parents[entry.level] = writer.add_outline_item(
            title=entry.title, page_number=numbers[start], parent=above[-1] if above else None
        )
    writer.page_mode = "/UseOutlines"
    writer.add_metadata({"/Title": title, "/Author": author})
    target.parent.mkdir(parents=True, exist_ok=True)
    writer.write(target)
    return len(writer.pages)


def make(folder: Path, toc: Path, config: Path, target: Path) -> int:
    """Print the site in `folder` to `target`; return the number of pages."""
    try:
        import playwright  # noqa: F401
        import pypdf  # noqa: F401
    except ImportError as error:
        raise site.SiteError(
            f'{error.name} is missing: run `make pdf`, or pip install -e ".[book,pdf]"'
        ) from error
    chromium = browser.chromium()
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    title, author = settings["title"], settings.get("author", "")
    book = gather(folder, toc)
    source = target.with_suffix(".html")
    source.parent.mkdir(parents=True, exist_ok=True)
    numbers: dict[str, int] = {}
    try:
        for _ in range(2):
            source.write_text(document(book, title, author, numbers), encoding="utf-8")
            pdf = print_document(chromium, source)
            numbers = page_numbers(pdf, book)
    finally:
        source.unlink(missing_ok=True)
    return finish(pdf, book, title, author, target)


def main(arguments: list[str] | None = None) -> int:
    """Make the PDF; return 0, or 1 after printing what went wrong."""
    argparse.ArgumentParser(
        prog="python -m mmbook.site.pdf", description="Print the built book."
    ).parse_args(arguments)
    try:
        target = root() / "_build" / "mmtutor.pdf"
        count = make(site.folder(), root() / "_toc.yml", root() / "_config.yml", target)
    except (RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{target}: {count} pages, {target.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
