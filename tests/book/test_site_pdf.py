"""The book as one PDF: every page is in it, can be searched and reached, and nothing is lost with
the folds."""

from __future__ import annotations

import re

import pytest
from pypdf import PdfReader

from mmbook import browser, site
from mmbook.site import pdf

PAGE = """<!DOCTYPE html><html lang="en" data-theme="dark"><head><title>{title}</title>
<link rel="stylesheet" href="{up}_static/a.css"></head><body><main>
<article class="bd-article"><section id="top">
<h1>{title}<a class="headerlink" href="#top">#</a></h1>
<p>{text}</p>{more}</section></article></main></body></html>"""


@pytest.fixture
def small(tmp_path):
    """A built site of four pages, its table of contents and settings."""
    quiz = "<h2>Quiz</h2><p><strong>1. What is <em>it</em>?</strong></p>"
    quiz += "<details><summary>A. A bird.</summary><p>Right, it sings.</p></details>"
    quiz += "<details><summary>B. A fish.</summary><p>No, it <strong>flies</strong>.</p></details>"
    code = (
        '<details class="hide"><summary>Show code</summary><pre>draw_the_figure()</pre></details>'
    )
    pages = {
        "book/intro": ("Welcome", "See <a href='one/lesson.html#top'>the lesson</a>.", "", ""),
        "book/one/lesson": ("First lesson", "A question about birds.", quiz + code, "../"),
        "book/one/more": ("More of it", "Nightingale.", "", "../"),
        "book/last": ("Glossary", "Words.", "", ""),
    }
    for name, (title, text, more, up) in pages.items():
        path = tmp_path / "html" / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            PAGE.format(title=title, text=text, more=more, up=f"../{up}"), encoding="utf-8"
        )
    (tmp_path / "html" / "_static").mkdir()
    css = "article { font-family: sans-serif } @media print { .bd-article h1 { display: none } }"
    (tmp_path / "html" / "_static" / "a.css").write_text(css, encoding="utf-8")
    toc = (
        "format: jb-book\nroot: book/intro\nparts:\n- caption: Part one\n  chapters:\n"
        "  - file: book/one/lesson\n    sections:\n"
    )
    toc += "    - file: book/one/more\n- caption: Reference\n  chapters:\n  - file: book/last\n"
    (tmp_path / "_toc.yml").write_text(toc, encoding="utf-8")
    (tmp_path / "_config.yml").write_text(
        'title: A small "book"\nauthor: Somebody\n', encoding="utf-8"
    )
    return tmp_path


def titles(outline: list, depth: int = 0) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for item in outline:
        found += titles(item, depth + 1) if isinstance(item, list) else [(depth, item.title)]
    return found


@pytest.fixture
def printed(small):
    try:
        browser.chromium()
    except browser.NoBrowser as error:
        pytest.skip(str(error))
    target = small / "book.pdf"
    count = pdf.make(small / "html", small / "_toc.yml", small / "_config.yml", target)
    reader = PdfReader(target)
    assert count == len(reader.pages)
    return reader


def test_pdf_has_every_page_in_order_and_can_be_searched(printed):
    texts = [page.extract_text() for page in printed.pages]
    assert len(texts) == 7  # title, contents, four pages, answers
    assert 'A small "book"' in texts[0] and "Somebody" in texts[0]
    order = ["Welcome", "First lesson", "More of it", "Glossary", "Answers and solutions"]
    assert [
        next(i for i, text in enumerate(texts) if i > 1 and name in text) for name in order
    ] == [2, 3, 4, 5, 6]
    for number, name in enumerate(order, 3):
        assert re.search(rf"{name}\s*{number}\b", texts[1]), texts[1]
    assert all(len(text.strip()) > 20 for text in texts)
    assert "Nightingale" in texts[4]


def test_bookmarks_follow_the_contents(printed):
    expected = [
        (0, "Welcome"),
        (0, "Part one"),
        (1, "First lesson"),
        (2, "More of it"),
        (0, "Reference"),
    ]
    expected += [(1, "Glossary"), (0, "Answers"), (1, "Answers and solutions")]
    assert titles(printed.outline) == expected
    assert printed.metadata.title == 'A small "book"'


def test_folded_answers_stand_at_the_end_and_figure_code_is_left_out(printed):
    texts = [page.extract_text() for page in printed.pages]
    assert "it sings" in texts[6] and "it sings" not in texts[3]
    assert "A. A bird." in texts[3]
    assert not any("draw_the_figure" in text for text in texts)


def test_answers_repeat_the_question_once(printed):
    answers = printed.pages[6].extract_text()
    assert answers.count("1. What is it?") == 1
    order = ["First lesson", "1. What is it?", "A. A bird.", "it sings", "B. A fish.", "flies"]
    places = [answers.index(words) for words in order]
    assert places == sorted(places)


def test_links_lead_to_places_in_the_pdf(printed):
    places = {name.lstrip("/") for name in printed.named_destinations}
    links = [a.get_object() for page in printed.pages for a in page.get("/Annots", [])]
    targets = {str(link["/Dest"]).lstrip("/") for link in links if "/Dest" in link}
    assert "book-one-lesson--top" in targets
    assert targets <= places
    assert (
        printed.get_destination_page_number(printed.named_destinations["/book-one-lesson--top"])
        == 3
    )


def test_fonts_are_embedded(printed):
    fonts = [
        f.get_object()
        for page in printed.pages
        for f in page["/Resources"].get("/Font", {}).values()
    ]
    inner = [f["/DescendantFonts"][0].get_object() if "/DescendantFonts" in f else f for f in fonts]
    kinds = ("/FontFile", "/FontFile2", "/FontFile3")
    assert inner
    assert all(any(kind in f["/FontDescriptor"] for kind in kinds) for f in inner)


def test_page_that_was_not_built_is_named(small):
    (small / "html" / "book" / "last.html").unlink()
    with pytest.raises(site.SiteError, match=r"last\.html is not there: run `make book` first"):
        pdf.gather(small / "html", small / "_toc.yml")


def test_missing_chromium_says_how_to_get_it(small, monkeypatch):
    monkeypatch.delenv("MMTUTOR_CHROMIUM", raising=False)
    monkeypatch.setattr(browser.shutil, "which", lambda _: None)
    monkeypatch.setattr(browser, "PLACES", ())
    with pytest.raises(browser.NoBrowser, match="sudo apt-get install chromium"):
        pdf.make(small / "html", small / "_toc.yml", small / "_config.yml", small / "book.pdf")
    monkeypatch.setenv("MMTUTOR_CHROMIUM", str(small / "gone"))
    with pytest.raises(browser.NoBrowser, match="which is no file"):
        browser.chromium()
