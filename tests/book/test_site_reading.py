"""What a reader does in a browser: search, switch the theme, copy, download, print, and all of it
by keyboard."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tests.browsing import SCROLLABLE_BY_KEY, violations

ROOT = Path(__file__).resolve().parents[2]
LESSON = "book/09_information/lesson"
SHOWN = """() => { const e = document.activeElement, s = getComputedStyle(e);
    return {tag: e.tagName, id: e.id, name: (e.getAttribute('aria-label') || e.innerText || '')
            .trim(),
        seen: (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0)
            || s.boxShadow !== 'none',
        inside: !!e.closest('article')} }"""


@pytest.fixture
def lesson(open_page, address):
    page, seen = open_page(f"{address}/{LESSON}.html", "light")
    yield page
    assert seen.errors == []
    assert seen.hosts == {"127.0.0.1"}


def theme(page) -> str:
    return page.evaluate("() => document.documentElement.dataset.theme")


def test_theme_is_switched_and_kept_on_the_next_page(lesson):
    button = lesson.locator(".bd-header-article .theme-switch-button:visible").first
    before = theme(lesson)
    for _ in range(3):  # light, dark, as the system
        button.click()
        if theme(lesson) != before:
            break
    after = theme(lesson)
    assert after != before
    lesson.locator("a.right-next").click()
    lesson.wait_for_load_state("networkidle")
    assert LESSON not in lesson.url
    assert theme(lesson) == after


def test_copy_button_copies_the_code_of_the_cell(lesson):
    lesson.context.grant_permissions(["clipboard-read", "clipboard-write"])
    cell = lesson.locator("div.cell_input div.highlight:visible").first
    cell.hover()
    cell.locator("button.copybtn").click()
    copied = lesson.evaluate("() => navigator.clipboard.readText()")
    source = nbformat.read(ROOT / f"{LESSON}.ipynb", as_version=4)
    assert copied.strip() in [
        cell.source.strip() for cell in source.cells if cell.cell_type == "code"
    ]


def test_download_is_the_notebook_itself(lesson, tmp_path):
    lesson.locator(".dropdown-download-buttons button.dropdown-toggle").click()
    link = lesson.locator("a.btn-download-source-button:visible").evaluate("a => a.href")
    assert link.endswith(".ipynb")
    # the link opens in a new tab, where a browser stores what it cannot show
    answer = lesson.request.get(link)
    assert answer.ok
    target = tmp_path / "lesson.ipynb"
    target.write_bytes(answer.body())
    nbformat.validate(nbformat.read(target, as_version=4))
    assert target.read_bytes() == (ROOT / f"{LESSON}.ipynb").read_bytes()


def test_print_is_light_and_without_furniture(open_page, address):
    page, _ = open_page(f"{address}/{LESSON}.html", "dark")
    assert theme(page) == "dark"
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert theme(page) == "light"
    hidden = [
        ".bd-sidebar-primary",
        ".bd-sidebar-secondary",
        ".bd-header-article",
        ".prev-next-footer",
        "button",
    ]
    shown = [name for name in hidden if page.locator(f"{name}:visible").count()]
    assert shown == []
    assert page.locator("h1:visible").count() == 1
    assert page.locator("article p:visible").count() > 20
    # what is folded stays folded on paper
    assert page.locator("article details:not([open])").count() > 0
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert theme(page) == "dark"


@pytest.mark.parametrize("query", ["pooling"])
def test_search_and_a_heavy_page_work_from_a_folder(open_page, built_site, query):
    page, seen = open_page((built_site / f"{LESSON}.html").as_uri(), "light")
    assert page.locator("article .katex").count() > 10
    broken = page.evaluate(
        """async () => { const all = [...document.querySelectorAll('article img')];
        all.forEach(i => { i.loading = 'eager' }); await Promise.all(all.map(i => i.decode()));
        return [all.length, all.filter(i => !i.naturalWidth).length] }"""
    )
    assert broken[0] > 1 and broken[1] == 0
    page.goto(f"{(built_site / 'search.html').as_uri()}?q={query}")
    page.wait_for_selector("#search-results li a")
    assert any(
        "glossary" in a.get_attribute("href")
        for a in page.query_selector_all("#search-results li a")
    )
    assert seen.errors == []
    assert seen.hosts == {""}


def test_keyboard_alone_is_enough(lesson):
    lesson.keyboard.press("Tab")
    first = lesson.evaluate(SHOWN)
    assert "main content" in first["name"].lower() and first["seen"]
    lesson.keyboard.press("Enter")
    lesson.keyboard.press("Tab")
    assert lesson.evaluate("() => !!document.activeElement.closest('main')")
    unseen, names = [], []
    for _ in range(40):
        now = lesson.evaluate(SHOWN)
        names.append(now["name"])
        if now["tag"] != "BODY" and not now["seen"]:
            unseen.append(now)
        lesson.keyboard.press("Tab")
    assert unseen == []
    assert any("sidebar" in name.lower() for name in names), names


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_folds_open_by_key(lesson, key):
    fold = lesson.locator("article details").first
    fold.locator("summary").focus()
    assert not fold.evaluate("e => e.open")
    lesson.keyboard.press(key)
    assert fold.evaluate("e => e.open")


def test_search_opens_and_closes_by_key(lesson):
    lesson.keyboard.press("Control+k")
    assert lesson.locator("#pst-search-dialog").evaluate("e => e.open")
    assert lesson.evaluate("() => document.activeElement.type") == "search"
    lesson.keyboard.press("Escape")
    assert not lesson.locator("#pst-search-dialog").evaluate("e => e.open")


def test_language_and_landmarks(lesson):
    assert lesson.evaluate("() => document.documentElement.lang") == "en"
    assert lesson.locator("main").count() == 1
    assert lesson.locator("nav:not([aria-label]):not([aria-labelledby])").count() == 0
    assert lesson.locator("main article h1").count() == 1


def test_page_can_be_read_at_twice_the_size(open_page, address):
    """A window of 1280 pixels at 200 % is one of 640."""
    page, _ = open_page(f"{address}/{LESSON}.html", "light")
    page.set_viewport_size({"width": 640, "height": 450})
    page.wait_for_function(SCROLLABLE_BY_KEY)  # the theme sees to it some time after a resize
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []
