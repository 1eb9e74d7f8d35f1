"""Every page in a real browser: no error, no request to another host, accessible, and nothing cut
off on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mmbook import site
from mmtutor.fusion import decision
from tests.browsing import (
    COLOURS,
    CUT,
    PATIENCE,
    SCROLLABLE_BY_KEY,
    VIEWS,
    WCAG,
    overflow,
    serve,
    violations,
)

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*site.page_laws.toc_pages(ROOT / "_toc.yml"), "search"]


@pytest.fixture
def broken_address(tmp_path: Path) -> Iterator[str]:
    yield from serve(tmp_path)


@pytest.mark.parametrize("name", PAGES)
def test_page(open_page, address, name):
    """One load serves all three views: the theme follows the system, the layout the window."""
    page, seen = open_page(f"{address}/{name}.html", "light")
    for view, (width, height, scheme) in VIEWS.items():
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function(
            "scheme => document.documentElement.dataset.theme === scheme", arg=scheme
        )
        page.wait_for_function(SCROLLABLE_BY_KEY)  # the theme sees to it some time after a resize
        assert overflow(page) == [], view
        if view == "light":
            assert page.evaluate(CUT) == []
        # The dark theme changes colours and nothing else, so only their rules are asked again.
        assert violations(page, COLOURS if view == "dark" else WCAG) == [], view
    assert seen.errors == []
    assert seen.hosts == {"127.0.0.1"}


def test_rows_of_a_wide_table_keep_their_names_on_a_phone(open_page, address):
    """A number and its interval stand on one line; pushed to its end, the table still says which
    row is which."""
    page, _ = open_page(f"{address}/book/08_robustness/lesson.html", "phone")
    tables = page.evaluate("""() => [...document.querySelectorAll("table.dataframe")].map(table => {
            const holder = table.closest(".output");
            const lines = [...table.querySelectorAll("tbody td")].map(cell => {
                const words = document.createRange();
                words.selectNodeContents(cell);
                return words.getClientRects().length;
            });
            holder.scrollLeft = holder.scrollWidth;
            const left = holder.getBoundingClientRect().left;
            const names = [...table.querySelectorAll("tbody th")].map(
                name => name.getBoundingClientRect().left - left);
            return { wide: holder.scrollWidth > holder.clientWidth, lines, names };
        })""")
    assert any(table["wide"] for table in tables)
    assert {n for table in tables for n in table["lines"]} == {1}
    assert all(abs(offset) < 1 for table in tables for offset in table["names"])


def test_the_word_in_the_search_field_stands_clear_of_its_icon(open_page, address):
    page, _ = open_page(f"{address}/search.html", "phone")
    form = page.locator(".bd-search-container form.bd-search, form.bd-search:visible").first
    icon, field = (
        form.locator(".fa-magnifying-glass").bounding_box(),
        form.locator("input").bounding_box(),
    )
    inside = form.locator("input").evaluate("e => parseFloat(getComputedStyle(e).paddingLeft)")
    assert icon["x"] + icon["width"] <= field["x"] + inside


def test_index_leads_to_the_book(open_page, address):
    page, seen = open_page(f"{address}/index.html", "light")
    page.wait_for_url(f"{address}/{PAGES[0]}.html")
    assert seen.errors == []


def test_search_finds_a_page(open_page, address):
    page, seen = open_page(f"{address}/search.html?q=pooling", "light")
    page.wait_for_selector("#search-results li a")
    assert any(
        "glossary" in a.get_attribute("href")
        for a in page.query_selector_all("#search-results li a")
    )
    assert seen.errors == []


def test_pages_can_be_read_from_a_folder(open_page, built_site):
    page, seen = open_page((built_site / f"{PAGES[0]}.html").as_uri(), "light")
    assert page.query_selector("article h1").inner_text()
    assert seen.errors == []


@pytest.mark.parametrize("way", ["served", "from a folder"])
def test_playground_of_the_chapter_answers_as_the_package_does(open_page, address, built_site, way):
    place = "book/05_decision_fusion/evidence.html"
    page, seen = open_page(
        f"{address}/{place}" if way == "served" else (built_site / place).as_uri(), "phone"
    )
    page.click("text=Total conflict")
    shares = page.evaluate("""() => ['image', 'text', 'audio'].map(m => ['A', 'B', 'C'].map(c =>
        Number(document.querySelector(`[data-shows="${m}-${c}"]`).dataset.value)))""")
    shown = page.evaluate(
        """() => [...document.querySelectorAll('[data-rule=productRule] td')].slice(0, 3).map(
        cell => Number(cell.dataset.value ?? cell.querySelector('[data-value]').dataset.value))"""
    )
    there = page.evaluate(
        "() => ['image', 'text', 'audio'].map(m =>"
        " document.getElementsByName(`${m}-present`)[0].checked)"
    )
    probs = {
        m: torch.tensor([p], dtype=torch.float64)
        for m, p, yes in zip("abc", shares, there, strict=True)
        if yes
    }
    torch.testing.assert_close(
        torch.tensor([shown], dtype=torch.float64), decision.product_rule(probs)
    )
    assert seen.errors == []


@pytest.mark.parametrize("way", ["served", "from a folder"])
@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_quiz_is_answered_by_keyboard_alone(browser, address, built_site, way, script):
    """Tab reaches a choice, Enter opens what is to be said about it; with script it is marked in
    words, and counted."""
    place = "book/02_features/lesson.html"
    context = browser.new_context(java_script_enabled=script, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    page, errors = context.new_page(), []
    page.on("console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(
        f"{address}/{place}" if way == "served" else (built_site / place).as_uri(),
        wait_until="load",
    )
    for _ in range(300):  # from the top of the page, over all links before the quiz
        page.keyboard.press("Tab")
        if page.locator("#quiz summary:focus").count():
            break
    for choice, feedback in (
        ("What is in the picture.", "No, that survives"),
        ("Where it is.", "Right. Shuffle"),
    ):
        said = page.locator("#quiz details p", has_text=feedback)
        assert not said.is_visible()
        assert page.locator("#quiz summary:focus").inner_text().strip() == choice
        page.keyboard.press("Enter")
        said.wait_for(state="visible")
        page.keyboard.press("Tab")
    if script:  # a fold says that it was opened a moment after it is
        page.locator("#quiz .quiz-mark").nth(1).wait_for()
    marks = page.locator("#quiz .quiz-mark").all_inner_texts()
    assert [mark.strip() for mark in marks] == (["✗ not this", "✓ right"] if script else [])
    page.keyboard.press("Tab")  # the wrong choice of question 2 is passed by, its right one opened
    page.keyboard.press("Enter")
    page.locator("#quiz details p", has_text="Right. That is also how").wait_for(state="visible")
    if script:
        page.locator("#quiz .quiz-mark").nth(2).wait_for()
    page.keyboard.press("Enter")  # folded again: what was counted stays
    live = page.locator("#quiz [aria-live=polite]").all_inner_texts()
    assert live == (["1 of 2 answered right at the first try; 1 to go."] if script else [])
    assert errors == []
    context.close()


def test_icons_are_drawn_in_the_icon_font(open_page, address):
    page, _ = open_page(f"{address}/{PAGES[0]}.html", "light")
    assert page.evaluate(
        "() => [...document.fonts].some(f => f.family.includes('Awesome') && f.status === 'loaded')"
    )


BROKEN = """<!DOCTYPE html><html lang="en" data-theme="light"><head><title>x</title></head>
<body><article><h1>x</h1>
<img src="https://other.invalid/a.png" alt="x"><img src="gone.png">
<p style="color:#aaa;background:#fff">pale</p>
<pre style="width:900px;overflow:visible">wide</pre><script>undefinedFunction()</script>
</article></body></html>"""


def test_each_check_notices_a_broken_page(open_page, broken_address, tmp_path):
    (tmp_path / "broken.html").write_text(BROKEN, encoding="utf-8")
    page, seen = open_page(f"{broken_address}/broken.html", "phone")
    assert any("undefinedFunction" in error for error in seen.errors)
    assert any("404" in error and "gone.png" in error for error in seen.errors)
    assert any("other.invalid" in error for error in seen.errors)
    assert "other.invalid" in seen.hosts
    found = violations(page)
    assert any(line.startswith("color-contrast") for line in found)
    assert any(line.startswith("image-alt") for line in found)
    wide = overflow(page)
    assert any(line.startswith("PRE") for line in wide)
    assert any(line.startswith("page is") for line in wide)
