"""The schematics: one look, words beside each, and letters that can be read on a phone in both
themes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mmbook.reading import ROOT, book_notebooks
from tests.browsing import serve

SVG = "{http://www.w3.org/2000/svg}"
FILES = sorted((ROOT / "book").glob("*/figures/*.svg"))
RULES = (ROOT / "book/_static/schematic.css").read_text(encoding="utf-8")
OWN_RULES = RULES.split("*/\n", 1)[1].split("/* the site */")[0].strip()
WIDEST = 400  # units: at 360 px a page is 328 px wide, where 15 units are then 12.3 px
# What a drawing may not carry: a look of its own, or a request
OWN_LOOK = ("style", "fill", "stroke", "color", "font-size", "font-family", "opacity", "href")
MEASURE = """svg => {
    const frame = svg.getBoundingClientRect(), style = getComputedStyle(svg);
    const light = colour => {
        const probe = document.body.appendChild(document.createElement("i"));
        probe.style.color = colour;
        const parts = getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3);
        probe.remove();
        const linear = parts.map(v => v / 255).map(
            v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05;
    };
    const paper = light(style.getPropertyValue("--paper"));
    const boxes = [...svg.querySelectorAll("rect.box")].map(box => box.getBoundingClientRect());
    const around = (x, y) => boxes.filter(
        b => b.left <= x && x <= b.right && b.top <= y && y <= b.bottom
    ).sort((a, b) => a.width - b.width)[0];
    return {width: frame.width, height: frame.height, ink: [...svg.querySelectorAll("text")].map(
        text => {
            const box = text.getBoundingClientRect(), own = getComputedStyle(text);
            const ink = light(own.fill);
            const room = around((box.left + box.right) / 2, (box.top + box.bottom) / 2);
            return {
                words: text.textContent,
                left: box.left - frame.left, right: box.right - frame.left,
                top: box.top - frame.top, bottom: box.bottom - frame.top,
                size: parseFloat(own.fontSize) * frame.width / svg.viewBox.baseVal.width,
                over: room ? Math.max(room.left - box.left, box.right - room.right) : -1,
                contrast: Math.max(ink, paper) / Math.min(ink, paper),
            };
        })};
}"""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Iterator[str]:
    """A page with every schematic as the site shows it, 328 px wide: a phone of 360 px."""
    folder = tmp_path_factory.mktemp("gallery")
    (folder / "schematic.css").write_text(RULES, encoding="utf-8")
    drawings = "\n".join(
        re.sub(r"<style>.*?</style>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for path in FILES
    )
    (folder / "index.html").write_text(
        '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="schematic.css">'
        f'<body style="margin: 0; width: 328px"><article class="bd-article">{drawings}</article>',
        encoding="utf-8",
    )
    yield from serve(folder)


@pytest.fixture(scope="module")
def measured(gallery, browser) -> dict[str, dict[Path, dict]]:
    """What the browser measures of each drawing, by theme and file."""
    page, found = browser.new_page(viewport={"width": 360, "height": 780}), {}
    page.goto(gallery)
    for theme in ("light", "dark"):
        page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        drawings = page.query_selector_all("article > svg")
        assert len(drawings) == len(FILES)
        found[theme] = {
            path: drawing.evaluate(MEASURE) for path, drawing in zip(FILES, drawings, strict=True)
        }
    page.close()
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_schematic_says_what_it_shows_and_has_the_books_look(path):
    text = path.read_text(encoding="utf-8")
    drawing = ElementTree.fromstring(text)
    ids = [element.get("id") for element in drawing.iter() if element.get("id")]
    assert drawing.tag == f"{SVG}svg" and drawing.get("class") == "schematic"
    assert drawing.get("role") == "img"
    assert drawing.get("aria-labelledby") == f"{path.stem}-title {path.stem}-desc"
    for name, words in (("title", 3), ("desc", 12)):
        said = drawing.find(f"{SVG}{name}")
        assert said is not None and said.get("id") == f"{path.stem}-{name}"
        assert len((said.text or "").split()) >= words
    left, top, width, _ = map(float, drawing.get("viewBox", "").split())
    assert (left, top) == (0, 0) and width <= WIDEST and drawing.get("width") == f"{width:g}"
    # several schematics share a page
    assert len(ids) == len(set(ids)) and all(i.startswith(f"{path.stem}-") for i in ids)
    assert drawing.find(f"{SVG}style").text.strip() == OWN_RULES, "copy it from schematic.css"
    for element in drawing.iter():
        assert not [name for name in OWN_LOOK if element.get(name)], element.attrib
    assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)|@import|<script|<image", text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_letters_of_a_schematic_can_be_read_on_a_phone(path, measured):
    for theme, drawings in measured.items():
        seen = drawings[path]
        for text in seen["ink"]:
            assert text["size"] >= 12, (theme, text)
            assert text["contrast"] >= 4.5, (theme, text)
            assert text["over"] <= 0, (theme, text)  # it fits the box it stands in
            assert text["left"] >= -1 and text["right"] <= seen["width"] + 1, (theme, text)
            assert text["top"] >= -3 and text["bottom"] <= seen["height"] + 3, (theme, text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_no_two_words_of_a_schematic_cover_each_other(path, measured):
    ink = measured["light"][path]["ink"]
    for place, one in enumerate(ink):
        for other in ink[place + 1 :]:
            # a line's box is higher than its letters: a third of it may overlap
            slack = (one["bottom"] - one["top"]) / 3
            apart = (
                one["right"] <= other["left"] + 1
                or other["right"] <= one["left"] + 1
                or one["bottom"] <= other["top"] + slack
                or other["bottom"] <= one["top"] + slack
            )
            assert apart, (one["words"], other["words"])


def test_each_schematic_stands_on_a_page():
    pages = [*book_notebooks(), *(ROOT / "book").glob("*.md")]
    shown = {
        (page.parent / address).resolve()
        for page in pages
        for address in re.findall(r"\]\(([^)\s]*figures/[\w-]+\.svg)\)", page.read_text("utf-8"))
    }
    assert shown == set(FILES)
