"""A page is read in forty minutes, on any screen: what the stored notebooks say of themselves."""

from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

from mmbook.reading import Notebook, book_notebooks, images, tags, texts

PAGES = book_notebooks()
LESSONS = [path for path in PAGES if path.stem != "exercises"]
WORDS, CELLS, ROWS, WIDTH = 2200, 30, 6, 520
OUT_OF_SIGHT = {"remove-cell", "remove-input", "hide-input", "hide-cell"}
SKIPPED = re.compile(r"\$\$.*?\$\$|```.*?```|\{[\w:]+\}|\([^)]*\)|`[^`]*`", re.DOTALL)

each_page = pytest.mark.parametrize("path", PAGES, ids=lambda p: f"{p.parent.name}-{p.stem}")
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda p: f"{p.parent.name}-{p.stem}")


@each_lesson
def test_a_lesson_is_read_in_forty_minutes(path):
    page = Notebook.read(path)
    prose = " ".join(SKIPPED.sub(" ", cell.source) for _, cell in page.cells("markdown"))
    visible = [n for n, cell in page.cells("code") if not OUT_OF_SIGHT & set(tags(cell))]
    assert len(prose.split()) <= WORDS
    assert len(visible) <= CELLS


@each_lesson
def test_a_lesson_begins_with_a_picture(path):
    page = Notebook.read(path)
    opening = "\n".join(cell.source for _, cell in page.cells("markdown")).split("\n## ")[0]
    assert re.search(r"!\[[^\]]+\]\(\S*figures/[\w-]+\.svg\)", opening)


@each_page
def test_what_only_draws_is_folded_and_what_only_asserts_is_out_of_sight(path):
    for place, cell in Notebook.read(path).cells("code"):
        hidden = OUT_OF_SIGHT & set(tags(cell))
        lines = [line for line in cell.source.splitlines() if line.strip()]
        drawing = [line for line in lines if re.search(r"\bax(?:es)?\b|plotting\.|plt\.", line)]
        asserting = [line for line in lines if line.startswith(("assert ", "torch.testing"))]
        if path.stem != "exercises":
            assert hidden or len(drawing) < 5, f"cell {place} draws: tag it hide-input"
            assert hidden or len(asserting) < len(lines), f"cell {place} only asserts: remove-cell"


@each_page
def test_a_long_table_is_folded(path):
    for place, cell in Notebook.read(path).cells("code"):
        tables = [text for output in cell.outputs for text in texts(output) if "<table" in text]
        if any(text.count("<tr") > ROWS + 2 for text in tables):
            assert {"hide-cell", "hide-output"} & set(tags(cell)), f"cell {place}"


@each_page
def test_an_interval_has_two_ends(path):
    page = Notebook.read(path)
    words = [(n, cell.source) for n, cell in enumerate(page.nb.cells)]
    words += [(n, text) for n, output in page.outputs() for text in texts(output)]
    assert [n for n, text in words if "±" in text] == []


@each_page
def test_a_figure_can_be_read_on_a_phone(path):
    """12 pt at 100 dpi are 16.7 px; a figure of 520 px is shown 328 px wide there."""
    for place, cell in Notebook.read(path).cells("code"):
        for mime, content in images(cell):
            if mime == "image/png":
                width, _ = Image.open(io.BytesIO(base64.b64decode(content))).size
                assert width <= WIDTH, f"cell {place}: {width} px"
