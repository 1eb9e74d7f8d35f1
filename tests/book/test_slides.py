"""Slides hold what the lessons hold, resolved and cut to size, and need no other host; checked in a
browser too."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag

from mmbook import root, site, slides
from mmbook.reading import glued_values
from mmbook.slides.deck import Slide, read_slides, words

LESSONS = slides.lessons(root())
QUESTION = """<section><h2>Predict first<a class="headerlink">#</a></h2>
<p>Two coins, and a text that is too long for a slide of its own. They lie on a table, side by side. Nobody touched them.
They are of the same size, of different metals, and from different years. One of them is heavy.
The other one is light as a feather. They were minted by two kings, who were brothers, in two towns that nobody has found
again. Somebody holds one in each hand, at the same height, and lets them go at the same time. Which falls first?</p>
<details><summary>A. The heavy one.</summary><p>Only in air, <code>thick</code> air.</p></details>
<details data-right><summary>B. Neither.</summary><p>Right.</p></details>
"""  # noqa: E501
LONG = "First, e.g. this one. " + "A second sentence that says much more. " * 30


@pytest.fixture(scope="session")
def made(built_site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the slides of all chapters, made now."""
    return slides.build([], tmp_path_factory.mktemp("made") / "slides")


def page_of(made: Path, lesson: Path) -> BeautifulSoup:
    return BeautifulSoup(
        (made / f"{lesson.parent.name}.html").read_text(encoding="utf-8"), "html.parser"
    )


def page(body: str, title: str = "<h1>T</h1>") -> str:
    """A page of the site with a lesson."""
    return f"<article><section>{title}{body}</section></article>"


def deck_of(body: str) -> list[Slide]:
    return read_slides(BeautifulSoup(page(body), "html.parser").article, "lesson.html")


def said(block: Tag) -> str:
    """What the audience reads of a block."""
    block = BeautifulSoup(str(block), "html.parser")
    for notes in block.select("aside"):
        notes.decompose()
    return words(block)


def texts(deck: list[Slide]) -> list[tuple[str, str]]:
    """(title, text) of each slide."""
    return [(slide.title, " ".join(map(said, slide.blocks)).strip()) for slide in deck]


def cell(code: str, output: str = "", tag: str = "") -> str:
    """A code cell as the site shows it; `tag` of the notebook folds its code."""
    source = f'<div class="cell_input"><div class="highlight"><pre>{code}</pre></div></div>'
    if tag == "hide-input":
        source = f'<details class="hide above-input"><summary>Show</summary>{source}</details>'
    return f'<div class="cell">{source}<div class="cell_output">{output}</div></div>'


def printed(text: str) -> str:
    return f'<div class="output stream"><div class="highlight"><pre>{text}</pre></div></div>'


def table_of(rows: int, span: str = "") -> str:
    body = "".join(f"<tr><th{span}>r{i}</th><td>{i}</td></tr>" for i in range(rows))
    head = "<thead><tr><th></th><th>score</th></tr></thead>"
    return f"<table border='1'><style>x</style>{head}<tbody>{body}</tbody></table>"


# Real lessons
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda p: p.parent.name)
def test_each_section_has_its_slide_in_order(made, lesson):
    sections = []
    for cell in nbformat.read(lesson, 4).cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"^(`{3,}).*?^\1", "", cell.source, flags=re.M | re.S)
            sections += re.findall(r"^(#{2,3}) +(.+?)\s*$", prose, re.MULTILINE)
    page = page_of(made, lesson)
    titles = [h.get_text() for h in page.select(".slide > h2")]
    rest = iter(titles)
    plain = [(level, re.sub(r"[`*$]", "", title)) for level, title in sections]
    plain = [(level, re.sub(r'"(.*?)"', "“\\1”", title)) for level, title in plain]
    assert [title for _, title in plain if title not in rest] == []
    columns = [column.select_one(".slide > h2") for column in page.select(".slides > section")[1:]]
    assert [h.get_text() for h in columns] == [title for level, title in plain if level == "##"]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda p: p.parent.name)
def test_roles_are_resolved(made, lesson):
    page = page_of(made, lesson)
    for code_tag in page.select("code, pre, annotation"):
        code_tag.decompose()
    text = page.get_text()
    assert re.findall(r"\{[a-z:]+\}`[^`]*`|</?details|:class:", text) == []
    nb = nbformat.read(lesson, 4)
    prose = "\n".join(c.source for c in nb.cells if c.cell_type == "markdown")
    values = {value.name: value.shown for value in glued_values(nb)}
    used = set(re.findall(r"\{glue:text\}`([^`]+)`", prose))
    shown = " ".join(text.split())
    assert used and [name for name in used if " ".join(values[name].split()) not in shown] == []


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda p: p.parent.name)
def test_figures_and_tables_are_all_there(made, lesson):
    cells = [c for c in nbformat.read(lesson, 4).cells if c.cell_type == "code"]
    data = [(c, o.data) for c in cells for o in c.outputs if "data" in o]
    alts = [
        c.metadata["mystnb"]["image"]["alt"]
        for c, d in data
        if {"image/png", "image/jpeg"} & set(d)
    ]
    page = page_of(made, lesson)
    assert [img["alt"] for img in page.select("section img")] == alts
    rows = sum(
        len(BeautifulSoup(d["text/html"], "html.parser").select("tbody tr"))
        for _, d in data
        if "text/html" in d
    )
    # pandas heads its rows, Markdown not
    computed = [t for t in page.select("section table") if t.select("tbody th")]
    assert sum(len(t.select("tbody tr")) for t in computed) == rows


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda p: p.parent.name)
def test_choices_and_feedback_stand_on_different_slides(made, lesson):
    page = page_of(made, lesson)
    prose = "\n".join(c.source for c in nbformat.read(lesson, 4).cells if c.cell_type == "markdown")
    choices = page.select("ol.choices > li")
    assert len(choices) == len(page.select(".feedback")) == prose.count("<details>") > 0
    for choice in choices:
        assert choice.find_parent(class_="slide").select_one(".feedback") is None
        assert choice.find_parent("section").find_next("section").select_one(".feedback, .choices")


def test_no_other_host_is_named(made):
    for path in [*made.glob("*.html")]:
        page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        assert [
            r for r in site.page_laws.resources(page) if site.page_laws.ELSEWHERE.match(r[1])
        ] == [], path.name
        for tag in page.select("[src], [href]"):
            address = tag.get("src") or tag.get("href")
            assert not re.match(r"(?:https?:)?//", address), f"{path.name}: {address}"
            if not address.startswith("data:"):
                assert (made / address).is_file(), f"{path.name}: {address}"
        assert [
            s
            for script in page.select("script")
            for s in site.page_laws.script_other_hosts(script.text)
        ] == []
    for sheet in made.glob("reveal.js/*.css"):
        assert site.page_laws.css_other_hosts(sheet.read_text(encoding="utf-8")) == []


def test_index_lists_every_chapter_by_its_title(made):
    links = BeautifulSoup((made / "index.html").read_text(encoding="utf-8"), "html.parser").select(
        "ol a"
    )
    assert [a["href"] for a in links] == [f"{lesson.parent.name}.html" for lesson in LESSONS]
    for a in links:
        page = BeautifulSoup((made / a["href"]).read_text(encoding="utf-8"), "html.parser")
        assert a.get_text() == page.h1.get_text() == page.title.get_text()


# Made-up lessons
# -------------------------------------------------------------------------------------------------


def test_long_prose_goes_to_the_notes_and_its_first_sentence_stays():
    deck = deck_of(f"<h2>S</h2><p>{LONG}</p><ul><li><p>{LONG}</p></li></ul><p>Short.</p>")
    for block in deck[1].blocks[:2]:
        shown = said(block).strip()
        assert shown.startswith("First, e.g. this one. A second") and shown.endswith("more.")
        assert len(shown) <= 240
        assert block.select_one("aside.notes").get_text().count("second sentence") == 30
    assert deck[1].blocks[2].select("aside") == []


def test_a_slide_with_little_on_it_says_more():
    alone, crowded = (
        said(deck_of(f"<h2>S</h2><p>{LONG}</p>{more}")[1].blocks[0])
        for more in ("", "<p>One.</p><p>Two.</p>")
    )
    assert len(crowded) <= 240 < len(alone) <= 420 and alone.startswith(crowded)


def test_a_bold_beginning_does_not_stand_alone():
    bold = "<b>No product.</b> In that world <code>a</code> is all. " + "And so on. " * 60
    assert texts(deck_of(f"<h2>S</h2><p>{bold}</p>"))[1][1].startswith(
        "No product. In that world a is all."
    )


def test_a_formula_counts_as_what_is_seen_and_the_speaker_gets_mathml_that_browsers_draw():
    formula = """<span class="math"><span class="katex"><span class="katex-mathml"><math><mi
        mathvariant="double-struck">R</mi><annotation>\\mathbb{R}</annotation></math></span><span
        class="katex-html">R</span></span></span>"""
    block = deck_of(f"<h2>S</h2><p>In {formula}. {LONG}</p>")[1].blocks[0]
    assert said(block).startswith("In R. First")
    notes = block.select_one("aside.notes")
    assert (
        "ℝ" in notes.get_text() and not notes.select(".katex-html") and block.select(".katex-html")
    )


def test_question_in_full_then_choices_then_feedback():
    deck = deck_of(QUESTION + "<p>Afterwards. Go on.</p></section><h2>Next</h2><p>Word.</p>")
    assert [title for title, _ in texts(deck)] == [
        "T",
        "Predict first",
        "Predict first: what each answer says",
        "Predict first",
        "Next",
    ]
    (_, asked), (_, told), (_, after) = texts(deck)[1:4]
    assert "Which falls first?" in asked and "The heavy one." in asked and "Neither." in asked
    assert "thick" not in asked and "Right." not in asked
    assert (
        told.index("A. The heavy one.")
        < told.index("thick")
        < told.index("B. Neither.")
        < told.index("Right.")
    )
    assert "Afterwards." in after


def test_code_is_shown_only_where_it_is_the_point():
    table = f'<div class="output text_html">{table_of(2)}</div>'
    deck = deck_of(
        "<h2>The question</h2>"
        + cell("secret = 1", printed("shown 1"))
        + "<h2>From scratch</h2><h3>In two lines</h3>"
        + cell("answer = 42", printed("42"))
        + cell("hidden = 2", printed("out 2"), "hide-input")
        + cell("tabled = 3", table)
        + cell("\n".join(f"long_{i} = {i}" for i in range(30)), printed("result"))
    )
    text = " ".join(part for _, part in texts(deck))
    assert all(
        word in text for word in ("shown 1", "answer = 42", "42", "out 2", "score", "result")
    )
    assert not any(word in text for word in ("secret", "hidden", "tabled", "long_", "Show"))


def test_long_output_ends_in_an_ellipsis():
    lines = "\n".join(f"line {i}" for i in range(40))
    (block,) = deck_of("<h2>S</h2>" + cell("x", printed(lines)))[1].blocks
    assert block.get_text().split("\n") == [*(f"line {i}" for i in range(16)), "…"]


def test_boxes_become_what_they_hold_and_widgets_what_is_read_without_scripts():
    box = '<div class="admonition"><p class="admonition-title">Mind</p><p>The gap.</p></div>'
    fold = f'<details class="dropdown"><summary>More</summary><div>{box}</div></details>'
    live = (
        '<div class="widget-live"><p>Slide</p></div><div class="widget-fallback"><p>Read.</p></div>'
    )
    assert texts(deck_of(f"<h2>S</h2>{fold}{live}"))[1][1] == "Mind The gap. Read."


def test_slides_lead_nowhere_and_tables_bring_no_style():
    deck = deck_of(
        f'<h2>S<a class="headerlink">#</a></h2><p>To <a href="x">there</a>.</p>{table_of(3)}'
    )
    assert texts(deck)[1] == ("S", "To there. scorer00r11r22")
    assert not any(block.select("a, style, [border]") for block in deck[1].blocks)


def test_a_figure_keeps_its_alternative_text_and_the_speaker_reads_it():
    (figure,) = deck_of('<h2>S</h2><img class="big" src="a.png" alt="p &lt; .05">')[1].blocks
    assert figure.img.attrs == {"src": "a.png", "alt": "p < .05"}
    assert figure.select_one("aside.notes").get_text() == "p < .05"


def test_a_schematic_is_shown_and_the_speaker_reads_what_it_shows():
    drawing = (
        '<svg class="schematic" viewBox="0 0 9 9"><title>One box</title>'
        "<desc>A box that holds a word</desc><text>word</text></svg>"
    )
    (block,) = deck_of(f"<h2>S</h2>{drawing}")[1].blocks
    assert block.name == "figure" and block.svg.find("text").get_text() == "word"
    assert block.aside.get_text() == "A box that holds a word"


def test_what_it_costs_is_for_the_speaker():
    block = deck_of("<h2>S</h2><p><strong>Cost</strong> (measured): 44 s.</p>")[1].blocks[0]
    assert said(block) == "" and "44 s" in block.get_text() and block["class"] == ["notes"]


@pytest.mark.parametrize(
    ("article", "problem"),
    [
        (page("", ""), "book/x/lesson.html is empty"),
        (page("", "<p>No title.</p>"), "book/x/lesson.html does not begin with a title"),
        (None, "lesson.html is not there: run `make book` first"),
    ],
)
def test_a_page_that_is_no_lesson_is_named_with_what_to_do(tmp_path, article, problem):
    lesson = tmp_path / "book" / "x" / "lesson.html"
    lesson.parent.mkdir(parents=True)
    if article:
        lesson.write_text(article, encoding="utf-8")
    with pytest.raises(site.SiteError, match=problem):
        slides.convert(lesson, tmp_path)


def test_offline_says_what_to_do_and_keeps_the_old_slides(monkeypatch, tmp_path, capsys):
    def offline():
        raise site.PackagesMissing("npm said no")

    monkeypatch.setattr(site, "built", lambda: tmp_path)
    monkeypatch.setattr(site, "fetch", offline)
    (tmp_path / "slides").mkdir()
    with pytest.raises(site.PackagesMissing, match="npm said no"):
        slides.build([], tmp_path / "slides")
    assert (tmp_path / "slides").is_dir()
    assert slides.main(["77_nothing"]) == 1
    assert "no chapter '77_nothing': choose from 01_first_fusion" in capsys.readouterr().err


def test_reveal_that_is_not_whole_is_named(tmp_path):
    with pytest.raises(site.SiteError, match=r"dist.reveal.js is missing"):
        slides.lay_out_reveal(tmp_path, tmp_path / "out")


# In a browser
# -------------------------------------------------------------------------------------------------

MEASURE = """() => {
    const box = Reveal.getCurrentSlide().querySelector(':scope > .slide');
    const scale = Reveal.getScale(), origin = box.getBoundingClientRect();
    const reach = [...box.querySelectorAll('p, li, pre, table, img, h1, h2, .said, .math')].filter(
        e => e.offsetParent).map(e => e.getBoundingClientRect());
    return {title: box.firstElementChild.textContent, zoom: +box.style.zoom || 1,
        high: Math.max(...reach.map(e => (e.bottom - origin.top) / scale)),
        wide: Math.max(...reach.map(e => (e.right - origin.left) / scale))};
}"""
TEXTS = """() => Reveal.getSlides().map(slide => [...slide.querySelectorAll('.slide > *')].map(
    block => block.textContent))"""


@pytest.fixture
def play(open_page, made, tmp_path):
    """A function that opens the slides of a made-up lesson."""

    def open_slides(body: str):
        lesson = tmp_path / "book" / "x" / "lesson.html"
        lesson.parent.mkdir(parents=True)
        lesson.write_text(page(body), encoding="utf-8")
        shutil.copytree(made / slides.REVEAL, tmp_path / slides.REVEAL)
        (tmp_path / "x.html").write_text(slides.convert(lesson, tmp_path)[1], encoding="utf-8")
        opened, _ = open_page((tmp_path / "x.html").as_uri(), "light")
        opened.wait_for_function("Reveal.isReady()")
        return opened

    return open_slides


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda p: p.parent.name)
def test_slides_in_a_browser(open_page, made, lesson):
    page, seen = open_page((made / f"{lesson.parent.name}.html").as_uri(), "light")
    page.set_viewport_size({"width": 1280, "height": 720})
    page.wait_for_function("Reveal.isReady()")
    count = page.evaluate("Reveal.getTotalSlides()")
    assert count >= len(page_of(made, lesson).select(".slide"))
    measured = []
    for _ in range(count):
        measured.append(page.evaluate(MEASURE))
        page.keyboard.press("Space")
    assert page.evaluate("Reveal.isLastSlide()")
    assert [
        slide
        for slide in measured
        if slide["high"] > 720 or slide["wide"] > 1280 or slide["zoom"] < 0.9
    ] == []
    assert seen.errors == [] and seen.hosts <= {""}


def test_arrow_keys_move_between_sections_and_within(open_page, made):
    page, _ = open_page((made / f"{LESSONS[0].parent.name}.html").as_uri(), "dark")
    page.wait_for_function("Reveal.isReady()")
    place = "() => { const {h, v} = Reveal.getIndices(); return [h, v || 0]; }"
    for key, there in (
        ("ArrowRight", [1, 0]),
        ("ArrowRight", [2, 0]),
        ("ArrowDown", [2, 1]),
        ("ArrowLeft", [1, 0]),
    ):
        page.keyboard.press(key)
        assert page.evaluate(place) == there, key


def test_what_does_not_fit_goes_on_on_another_slide_of_the_same_title(play):
    items = "".join(f"<li>Item number {i} of many.</li>" for i in range(40))
    numbered = "".join(f"<li>Step {i}.</li>" for i in range(1, 31))
    opened = play(f"<h2>S</h2><p>Before.</p><ul>{items}</ul><ol>{numbered}</ol><p>After.</p>")
    first, *others = opened.evaluate(TEXTS)
    assert first == ["T"] and len(others) > 3 and {title for title, *_ in others} == {"S"}
    text = " ".join(" ".join(blocks) for _, *blocks in others)
    assert [int(n) for n in re.findall(r"number (\d+)", text)] == list(range(40))
    assert [int(n) for n in re.findall(r"Step (\d+)", text)] == list(range(1, 31))
    assert text.split()[0] == "Before." and text.split()[-1] == "After."
    parts = (
        "[...document.querySelectorAll('ol')].map(l => [l.start, +l.textContent.match(/\\d+/)[0]])"
    )
    assert len(opened.evaluate(parts)) > 1 and all(a == b for a, b in opened.evaluate(parts))
    for _ in range(len(others)):
        opened.keyboard.press("Space")
        assert opened.evaluate(MEASURE)["high"] <= 720


def test_a_long_table_is_cut_in_two_and_keeps_its_head(play):
    opened = play(f"<h2>S</h2>{table_of(30)}")
    tables = [table for _, *rest in opened.evaluate(TEXTS)[1:] for table in rest]
    assert len(tables) == 2 and all(table.startswith("score") for table in tables)
    cells = "[...document.querySelectorAll('tbody td')].map(cell => +cell.textContent)"
    assert opened.evaluate(cells) == list(range(30))
    sizes = (
        "[...document.querySelectorAll('table')].map(t => parseInt(getComputedStyle(t).fontSize))"
    )
    assert min(opened.evaluate(sizes)) >= 16


def test_a_slide_that_cannot_be_cut_is_made_smaller_until_it_fits(play):
    opened = play("<h2>S</h2><blockquote>" + "<p>One more line.</p>" * 17 + "</blockquote>")
    opened.keyboard.press("ArrowRight")
    measured = opened.evaluate(MEASURE)
    assert opened.evaluate("Reveal.getTotalSlides()") == 2
    assert 600 < measured["high"] <= 720 and 0.6 <= measured["zoom"] < 1


def test_a_figure_takes_the_room_that_is_left(play):
    picture = '<img src="data:," alt="Nothing">'
    opened = play(f"<h2>S</h2>{picture}<h2>S</h2>{'<p>A.</p>' * 5}{picture}")
    highs = []
    for _ in range(2):
        opened.keyboard.press("ArrowRight")
        highs.append(opened.evaluate("Reveal.getCurrentSlide().querySelector('img').offsetHeight"))
    assert highs[0] == 560 and 330 < highs[1] < 400


def test_formulas_are_drawn_in_the_fonts_of_the_site_and_fit(open_page, made):
    page, _ = open_page((made / "04_model_fusion.html").as_uri(), "light")
    page.wait_for_function("Reveal.isReady()")
    loaded = "[...document.fonts].filter(f => f.status === 'loaded').map(f => f.family)"
    assert {"KaTeX_Main", "KaTeX_Math", "KaTeX_AMS"} <= set(page.evaluate(loaded))
    wide = "[...document.querySelectorAll('.math')].filter(f => f.scrollWidth > f.clientWidth + 1)"
    assert page.evaluate(f"{wide}.length") == 0


@pytest.mark.parametrize(("view", "is_dark"), [("dark", True), ("phone", False)])
def test_paper_and_arrows_follow_the_colour_scheme(open_page, made, view, is_dark):
    page, _ = open_page((made / f"{LESSONS[0].parent.name}.html").as_uri(), view)
    page.wait_for_function("Reveal.isReady()")
    assert not page.evaluate("Reveal.isScrollView()")
    look = "([place, what]) => getComputedStyle(document.querySelector(place))[what]"
    look += ".match(/\\d+/g).slice(0, 3).map(Number)"
    paper = sum(page.evaluate(look, [".reveal-viewport", "backgroundColor"]))
    arrows = sum(page.evaluate(look, [".controls", "color"]))
    assert (paper < 150) == is_dark and (arrows > paper) == is_dark


def test_the_index_opens_a_presentation(open_page, made):
    page, seen = open_page((made / "index.html").as_uri(), "phone")
    page.click("ol a")
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    assert seen.errors == [] and seen.hosts <= {""}
