"""Slides hold what the lessons hold, resolved and cut to size, and need no other host; checked in a
browser too."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_notebook, new_output

from mmbook import root, site, slides
from mmbook.reading import glued_values
from mmbook.slides.text import Reader, SlidesError, text_of
from tests.book.builders import ALT, code, glued, markdown, picture, stdout, write

LESSONS = slides.lessons(root())
BIBLIOGRAPHY = root() / "book" / "references.bib"
QUESTION = """## Predict first

Two coins, and a text that is too long for a slide of its own. They lie on a table, side by side. Nobody touched them.
They are of the same size, of different metals, and from different years. One of them is heavy.
The other one is light as a feather. Which falls first?

<details><summary>A. The heavy one.</summary>

Only in air, `thick` air.

</details>

<details><summary>B. Neither.</summary>

Right.

</details>"""  # noqa: E501


@pytest.fixture(scope="session")
def made(node_packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the slides of all chapters, made now."""
    return slides.build([], tmp_path_factory.mktemp("made") / "slides")


def page_of(made: Path, lesson: Path) -> BeautifulSoup:
    return BeautifulSoup(
        (made / f"{lesson.parent.name}.html").read_text(encoding="utf-8"), "html.parser"
    )


def deck_of(*cells, path: Path = Path("book/x/lesson.ipynb")) -> slides.Deck:
    nb = new_notebook(cells=list(cells))
    return slides.make_deck(Reader(nb, path, BIBLIOGRAPHY), nb.cells)


def words(deck: slides.Deck) -> list[tuple[str, str]]:
    """(title, text) of each slide."""
    return [(text_of(s.title), " ".join(text_of(b.html) for b in s.blocks)) for s in deck.slides]


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
    assert [title for _, title in plain if title not in rest] == []
    columns = [column.select_one(".slide > h2") for column in page.select(".slides > section")[1:]]
    assert [h.get_text() for h in columns] == [title for level, title in plain if level == "##"]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda p: p.parent.name)
def test_roles_are_resolved(made, lesson):
    page = page_of(made, lesson)
    for code_tag in page.select("code, pre, annotation"):
        code_tag.decompose()
    text = page.get_text()
    assert re.findall(r"\{[a-z:]+\}`[^`]*`|\x02|\x03|HEIGHTpx|</?details|:class:", text) == []
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


def test_roles_become_the_words_that_the_site_shows():
    source = (
        "# T\n\n{glue:text}`n` {term}`gate <gated fusion>` {term}`synergy` {cite:t}`liu2018`"
        " {cite}`kuncheva2004,zadeh2017` {doc}`there <../a/b>` {chapter}`that one"
        " <03_feature_fusion>`"
    )
    deck = deck_of(markdown(source), code("glue('n', 3)", glued("n", "12 MB")))
    shown = (
        "12 MB gate synergy Liu et al. (2018) (Kuncheva, 2004; Zadeh et al., 2017) there that one"
    )
    assert words(deck)[0] == ("T", shown)


def test_a_link_without_words_takes_the_title_of_its_page(tmp_path):
    write(new_notebook(cells=[markdown("# Elsewhere")]), tmp_path / "other.ipynb")
    deck = deck_of(markdown("# T\n\nSee {doc}`other`."), path=tmp_path / "lesson.ipynb")
    assert words(deck)[0][1] == "See Elsewhere."


def test_long_prose_goes_to_the_notes_and_its_first_sentence_stays():
    long = "First, e.g. this one. " + "A second sentence that says much more. " * 30
    deck = deck_of(markdown(f"# T\n\n## S\n\n{long}"), code("x", picture(), alt=ALT))
    shown = words(deck)[1][1].strip()
    assert (
        shown.startswith("First, e.g. this one. A second")
        and len(shown) < 210
        and shown.endswith("more.")
    )
    assert text_of(deck.slides[1].notes[0]).count("second sentence") == 30


def test_a_bold_beginning_does_not_stand_alone():
    deck = deck_of(
        markdown("# T\n\n## S\n\n**No product.** In that world `a` is all. " + "And so on. " * 60)
    )
    assert words(deck)[1][1].startswith("No product. In that world a is all.")


def test_question_in_full_then_choices_then_feedback():
    deck = deck_of(
        markdown("# T"), markdown(QUESTION + "\n\nAfterwards. Go on.\n\n## Next\n\nWord.")
    )
    titles = [title for title, _ in words(deck)]
    assert titles == [
        "T",
        "Predict first",
        "Predict first: what each answer says",
        "Predict first",
        "Next",
    ]
    asked, told = words(deck)[1][1], words(deck)[2][1]
    assert "Which falls first?" in asked and "The heavy one." in asked and "Neither." in asked
    assert "thick" not in asked and "Right." not in asked
    assert (
        told.index("A. The heavy one.")
        < told.index("thick")
        < told.index("B. Neither.")
        < told.index("Right.")
    )
    assert "Afterwards." in words(deck)[3][1]


def test_what_does_not_fit_goes_on_on_another_slide_of_the_same_title():
    items = "\n".join(f"- Item number {i} of many." for i in range(40))
    deck = deck_of(markdown(f"# T\n\n## S\n\n{items}"), code("x", picture(), alt=ALT))
    assert len(deck.slides) > 3 and {title for title, _ in words(deck)} == {"T", "S"}
    assert [int(n) for _, text in words(deck) for n in re.findall(r"number (\d+)", text)] == list(
        range(40)
    )
    assert all(slide.room() >= 0 for slide in deck.slides)
    assert [slide.markup().count("<ul>") for slide in deck.slides[1:-1]] == [1] * (
        len(deck.slides) - 2
    )


def test_code_is_shown_only_where_it_is_the_point():
    cells = [
        markdown("# T\n\n## The question"),
        code("secret = 1\nprint(secret)", stdout("shown 1\n")),
        markdown("## From scratch"),
        code("answer = 42\nprint(answer)", stdout("42\n")),
        code("hidden = 2\nprint(hidden)", stdout("out 2\n"), tags=("remove-input",)),
        code("gone = 3\nprint(gone)", stdout("never\n"), tags=("remove-cell",)),
        code("\n".join(f"long_{i} = {i}" for i in range(30)), stdout("result\n")),
    ]
    text = " ".join(part for _, part in words(deck_of(*cells)))
    assert all(word in text for word in ("shown 1", "answer = 42", "42", "out 2", "result"))
    assert not any(word in text for word in ("secret", "hidden", "gone", "never", "long_"))


def test_directives_become_what_they_hold():
    source = "# T\n\n## S\n\n````{outer}\n```{admonition} Mind\n:class: note\nThe gap.\n```\n````"
    assert words(deck_of(markdown(source)))[1][1] == "Mind The gap."


def test_a_long_table_is_cut_in_two_and_keeps_its_head():
    rows = "".join(f"<tr><th>r{i}</th><td>{i}</td></tr>" for i in range(30))
    table = "<style>x</style><table border='1'><thead><tr><th></th><th>score</th></tr></thead>"
    table += f"<tbody>{rows}</tbody></table>"
    output = new_output(
        "execute_result", data={"text/html": table, "text/plain": "r"}, execution_count=1
    )
    deck = deck_of(markdown("# T\n\n## S"), code("t", output))
    tables = [b.html for s in deck.slides for b in s.blocks if b.kind == "table"]
    assert len(tables) == 2 and all("score" in t and "border" not in t for t in tables)
    assert re.findall(r"r(\d+)<", "".join(tables)) == [str(i) for i in range(30)]


def test_formulas_become_mathml_with_letters_that_browsers_draw(node_packages, tmp_path):
    lesson = write(
        new_notebook(cells=[markdown(r"# T $x^2$" + "\n\n" + r"$$h \in \mathbb{R}^D$$")]),
        tmp_path / "lesson.ipynb",
    )
    _, page = slides.convert(lesson, node_packages)
    assert "ℝ" in page and "double-struck" not in page
    assert page.count("<math") == 2 and page.count('display="block"') == 1


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([], "is empty"),
        ([code("x")], "first cell must be Markdown"),
        ([markdown("No title.")], "does not begin with a title"),
        (
            [markdown("# T\n\n{glue:text}`lost`")],
            "no stored output glues 'lost'.*make notebooks NB=",
        ),
        (
            [markdown("# T\n\n{cite}`nobody1999`")],
            "cites 'nobody1999', which is not in references.bib",
        ),
        (
            [markdown("# T\n\n<details><summary>A</summary>\n\nopen")],
            "line 3: .* is not closed by </details>",
        ),
        ([markdown("# T\n\ntext\n\n</details>")], "line 5: </details> closes no choice"),
        (
            [markdown("# T"), code("x", new_output("error", ename="E", evalue="", traceback=[]))],
            "is an error",
        ),
    ],
)
def test_a_broken_notebook_is_named_with_what_to_do(cells, said):
    with pytest.raises(SlidesError, match=said) as caught:
        deck_of(*cells)
    assert "lesson.ipynb" in str(caught.value)


def test_a_formula_that_cannot_be_drawn_is_named(node_packages, tmp_path):
    lesson = write(
        new_notebook(cells=[markdown(r"# T" + "\n\n" + r"$\frac{1$")]), tmp_path / "lesson.ipynb"
    )
    with pytest.raises(SlidesError, match=r"lesson.ipynb: KaTeX cannot draw a formula: \\frac\{1"):
        slides.convert(lesson, node_packages)


def test_a_file_that_is_no_notebook_is_named(tmp_path):
    with pytest.raises(SlidesError, match="there is no lesson"):
        slides.read(tmp_path / "lesson.ipynb")
    (tmp_path / "lesson.ipynb").write_text(json.dumps({"cells": 3})[:-1])
    with pytest.raises(SlidesError, match=r"lesson.ipynb is no notebook that can be read"):
        slides.read(tmp_path / "lesson.ipynb")


def test_offline_says_what_to_do_and_keeps_the_old_slides(monkeypatch, tmp_path, capsys):
    def offline():
        raise site.PackagesMissing("npm said no")

    monkeypatch.setattr(site, "fetch", offline)
    (tmp_path / "slides").mkdir()
    with pytest.raises(
        SlidesError, match=r"Go online once and run `make slides` again.*npm said no"
    ):
        slides.build([], tmp_path / "slides")
    assert (tmp_path / "slides").is_dir()
    assert slides.main(["77_nothing"]) == 1
    assert "no chapter '77_nothing': choose from 01_first_fusion" in capsys.readouterr().err


def test_reveal_that_is_not_whole_is_named(tmp_path):
    with pytest.raises(SlidesError, match=r"dist.reveal.js is missing"):
        slides.lay_out_reveal(tmp_path, tmp_path / "out")


# In a browser
# -------------------------------------------------------------------------------------------------

MEASURE = """() => {
    const box = Reveal.getCurrentSlide().querySelector(':scope > .slide'), zoom = box.style.zoom;
    const high = box.getBoundingClientRect().height / Reveal.getScale();
    const wide = [...box.querySelectorAll('p, li, pre, table, img, h1, h2')].filter(
        e => e.getBoundingClientRect().right / Reveal.getScale() > 1281 + innerWidth - 1280);
    return {title: box.firstElementChild.textContent, high, zoom, wide: wide.length};
}"""


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda p: p.parent.name)
def test_slides_in_a_browser(open_page, made, lesson):
    page, seen = open_page((made / f"{lesson.parent.name}.html").as_uri(), "light")
    page.set_viewport_size({"width": 1280, "height": 720})
    page.wait_for_function("Reveal.isReady()")
    count = page.evaluate("Reveal.getTotalSlides()")
    assert count == len(page_of(made, lesson).select(".slide"))
    measured = []
    for _ in range(count):
        measured.append(page.evaluate(MEASURE))
        page.keyboard.press("Space")
    assert page.evaluate("Reveal.isLastSlide()")
    assert [
        slide
        for slide in measured
        if slide["high"] > 720 or slide["wide"] or float(slide["zoom"]) < 0.9
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


def test_a_slide_that_is_too_high_is_made_smaller_until_it_fits(open_page, made):
    page, _ = open_page((made / f"{LESSONS[0].parent.name}.html").as_uri(), "light")
    page.wait_for_function("Reveal.isReady()")
    page.evaluate("""() => { const box = document.querySelectorAll('.slide')[1];
        box.insertAdjacentHTML('beforeend', '<p>One more line.</p>'.repeat(12)); }""")
    page.keyboard.press("ArrowRight")
    measured = page.evaluate(MEASURE)
    assert measured["high"] <= 720 and 0.6 <= float(measured["zoom"]) < 1


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
