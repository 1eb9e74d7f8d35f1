"""A page in a real browser: how it is looked at, and what is asked of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from mmbook import site

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
VIEWS = {"light": (1300, 900, "light"), "dark": (1300, 900, "dark"), "phone": (360, 780, "light")}
TOO_WIDE = """() => [...document.querySelectorAll('article *')].filter(e => {
    const box = e.getBoundingClientRect();
    if (!box.width || box.right <= innerWidth + 1) return false;
    for (let p = e.parentElement; p; p = p.parentElement)
        if (getComputedStyle(p).overflowX !== 'visible') return false;
    return true;
}).map(e => e.tagName + ' ' + e.className + ': ' + e.textContent.trim().slice(0, 40))"""

# Code, tables and formulas with something hidden beyond their right edge, folds opened first
CUT = """() => {
    document.querySelectorAll('details').forEach(fold => { fold.open = true });
    const holders = 'pre, .output.text_html, .katex-display, .pst-scrollable-table-container';
    return [...document.querySelectorAll('article')].flatMap(a => [...a.querySelectorAll(holders)])
        .filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1)
        .map(e => `${e.scrollWidth - e.clientWidth} px of ${e.textContent.trim().slice(0, 60)}`);
}"""

PATIENCE = 120_000  # milliseconds: a machine with other work beside it is slow, not wrong
SCROLLABLE_BY_KEY = """() => [...document.querySelectorAll('pre')].every(
    e => e.scrollWidth <= e.clientWidth || e.tabIndex === 0)"""


@dataclass
class Visit:
    """What was noticed while a page loaded."""

    errors: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)


def serve(folder: Path) -> Iterator[str]:
    with site.hosting.server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def violations(page: Page, rules: dict[str, Any] = WCAG) -> list[str]:
    """One line for each element that breaks WCAG 2.1 A or AA, folds opened first so that what they
    hide is seen."""
    page.evaluate(
        "() => document.querySelectorAll('details').forEach(fold => { fold.open = true })"
    )
    found = Axe().run(page, options=rules).response["violations"]
    return [
        f"{v['id']}: {node['html'][:120]} {node['failureSummary'][:160]}"
        for v in found
        for node in v["nodes"]
    ]


def overflow(page: Page) -> list[str]:
    """What reaches beyond the right edge without a scroll bar of its own, and the page itself if it
    can be pushed."""
    width = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
    return page.evaluate(TOO_WIDE) + (
        [f"page is {width[0]} px wide, not {width[1]}"] if width[0] > width[1] else []
    )
