"""The small widgets where they stand, in a real browser: served, from a folder, by keyboard, and
without scripts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import browsing
from tests.book import test_widgets as computing

PLACES = {
    "decision-rules": "book/05_decision_fusion/evidence.html",
    "low-rank-cost": "book/03_feature_fusion/lesson.html",
    "gate-information": "book/09_information/decomposition.html",
    "dtw-path": "book/07_alignment/lesson.html",
    "robustness-curve": "book/08_robustness/lesson.html",
}
MARK = "In the web page of the book, sliders stand here."


def shown(page: Page, name: str) -> dict[str, Any]:
    """All that the widget shows, with every digit, by the names of its script; and what its sliders
    say."""
    return page.evaluate(
        """name => {
            const live = document.querySelector(`.widget[data-widget="${name}"] .widget-live`);
            const places = [...live.querySelectorAll("[data-shows]")];
            const sliders = [...live.querySelectorAll("input[type=range]")];
            return {
                values: Object.fromEntries(
                    places.map(e => [e.dataset.shows, Number(e.dataset.value)])),
                texts: Object.fromEntries(places.map(e => [e.dataset.shows, e.textContent])),
                sliders: Object.fromEntries(sliders.map(e => [e.name, Number(e.value)])),
                spoken: sliders.map(e => e.getAttribute("aria-valuetext") === live.querySelector(
                    `[data-shows="${e.name}"]`).textContent),
                summary: live.querySelector(".widget-summary").textContent,
            };
        }""",
        name,
    )


def press(page: Page, name: str, label: str, *keys: str) -> dict[str, Any]:
    """Press keys on the slider called `label`; return what the widget shows then."""
    slider = page.locator(f'.widget[data-widget="{name}"]').get_by_label(label, exact=True)
    slider.focus()
    for key in keys:
        page.keyboard.press(key)
    seen = shown(page, name)
    assert all(seen["spoken"])
    return seen


@pytest.fixture(params=["served", "from a folder"])
def visit(request, open_page, address, built_site):
    """A function that opens a widget's page on a phone, in both ways, and afterwards finds nothing
    amiss with it."""
    visits = []

    def go(name: str) -> Page:
        place = PLACES[name]
        url = f"{address}/{place}" if request.param == "served" else (built_site / place).as_uri()
        page, seen = open_page(url, "phone")
        visits.append((page, seen))
        widget = page.locator(f'.widget[data-widget="{name}"]')
        expect(widget.locator(".widget-live")).to_be_visible()
        expect(widget.locator(".widget-fallback")).to_be_hidden()
        return page

    yield go
    for page, seen in visits:
        assert seen.errors == []
        assert browsing.overflow(page) == []
        assert browsing.violations(page) == []


def test_costs(visit):
    page = visit("low-rank-cost")
    first = shown(page, "low-rank-cost")
    assert first["sliders"] == {"modalities": 3, "features": 32, "outputs": 64, "rank": 4}
    assert {
        key: first["values"][key] for key in ("concat", "tensor", "lowRank")
    } == computing.costs(3, 32, 64, 4)
    assert first["texts"]["tensor"] == "2,299,968"
    assert first["summary"] == "At rank 4, low rank has fewer parameters than the tensor."
    more = press(page, "low-rank-cost", "rank", "ArrowRight", "ArrowRight", "ArrowLeft")
    assert more["sliders"]["rank"] == 5
    assert more["values"]["lowRank"] == computing.costs(3, 32, 64, 5)["lowRank"]
    press(page, "low-rank-cost", "features each", "Home", "ArrowRight")
    few = press(page, "low-rank-cost", "modalities", "Home")
    assert {key: few["values"][key] for key in ("concat", "tensor", "lowRank")} == computing.costs(
        2, 2, 64, 5
    )
    assert few["values"]["limit"] == 2
    assert few["summary"] == "At rank 5, low rank has more parameters than the tensor."
    widths = page.evaluate(
        "() => [...document.querySelectorAll('.widget-bar')].map(e => e.style.width)"
    )
    assert len(set(widths)) == 3


def check_parts(page: Page, seen: dict[str, Any], gate: str) -> None:
    """Numbers, their text and the bar say what the package says of this gate with these sliders."""
    expected = computing.parts(
        gate, *(seen["sliders"][name] / 100 for name in ("one", "two", "flip"))
    )
    for name, value in expected.items():
        assert seen["values"][name] == pytest.approx(value, rel=0, abs=1e-9), name
        assert float(seen["texts"][name]) == pytest.approx(value, rel=0, abs=5.001e-4), name
    widths = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("[data-part]")].map(e => [
            e.dataset.part, e.getBoundingClientRect().width / e.parentElement.clientWidth]))"""
    )
    for name, width in widths.items():
        assert width == pytest.approx(expected[name] / expected["whole"], rel=0, abs=0.01), name


def test_gates(visit):
    name = "gate-information"
    page = visit(name)
    check_parts(page, shown(page, name), "XOR")
    assert shown(page, name)["summary"] == "XOR: all information is synergy."
    unfair = press(page, name, "P(x1 = 1)", *["ArrowRight"] * 7)
    assert unfair["sliders"]["one"] == 57
    check_parts(page, unfair, "XOR")
    assert unfair["values"]["unique2"] > unfair["values"]["unique1"] == pytest.approx(0, abs=1e-12)
    noisy = press(page, name, "flipped bits", *["ArrowRight"] * 5)
    check_parts(page, noisy, "XOR")
    page.get_by_label("XOR", exact=True).focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_label("AND", exact=True).is_checked()
    check_parts(page, shown(page, name), "AND")
    page.get_by_label("COPY", exact=True).check()
    copy = press(page, name, "P(x1 = 1)", "ArrowLeft")
    check_parts(page, copy, "COPY")
    label = page.locator(".widget-stack").get_attribute("aria-label")
    assert all(copy["texts"][part] in label for part in computing.widgets.PARTS)
    silent = press(page, name, "flipped bits", "End")
    check_parts(page, silent, "COPY")
    assert silent["summary"] == "COPY: both sources together tell nothing about Y."


def check_path(page: Page, seen: dict[str, Any]) -> None:
    """Numbers and lines are those of the package for these sliders."""
    a = computing.first_signal()
    b = computing.bent(a, *(seen["sliders"][name] for name in ("shift", "stretch", "pause")))
    path, total = computing.aligned(a, b)
    assert seen["values"]["total"] == total
    assert seen["values"]["straight"] == sum(abs(x - y) for x, y in zip(a, b, strict=True))
    assert seen["values"]["links"] == len(path)
    assert seen["values"]["meet"] == max(Counter(i for i, _ in path).values())
    picture = page.locator(".widget-picture")
    lines = picture.locator("line").evaluate_all(
        "all => all.map(e => [e.dataset, e.classList.contains('widget-paid')])"
    )
    assert [[int(cell["i"]), int(cell["j"])] for cell, _ in lines] == path
    assert [paid for _, paid in lines] == [a[i] != b[j] for i, j in path]
    assert f"joined by {len(path)} links" in picture.get_attribute("aria-label")


def test_paths(visit):
    name = "dtw-path"
    page = visit(name)
    check_path(page, shown(page, name))
    check_path(page, press(page, name, "pause in B", "End", "ArrowLeft"))
    check_path(page, press(page, name, "length of B", *["ArrowRight"] * 19))
    cut = press(page, name, "B starts later", "End")
    assert cut["sliders"] == {"shift": 6, "stretch": 119, "pause": 5}
    check_path(page, cut)
    press(page, name, "length of B", *["ArrowLeft"] * 19)
    press(page, name, "pause in B", "Home")
    late = press(page, name, "B starts later", "Home", "ArrowRight")
    check_path(page, late)
    assert late["summary"] == "Bending time removes all of the difference."
    same = press(page, name, "B starts later", "ArrowLeft")
    check_path(page, same)
    assert same["summary"] == "The signals are equal: every sample is joined with its twin."


def check_curve(page: Page, seen: dict[str, Any]) -> None:
    """Numbers, the dots on the curves and the words are those of the package for these sliders."""
    sizes = [seen["sliders"][name] / 10 for name in ("a", "trained", "b")]
    expected = computing.robustness(*sizes)
    for name, value in expected.items():
        assert seen["values"][name] == pytest.approx(value, rel=0, abs=1e-9), name
        assert float(seen["texts"][name].replace("−", "-")) == pytest.approx(
            value, rel=0, abs=5.001e-4
        ), name
    picture = page.locator(".widget-picture")
    dots = picture.evaluate(
        """e => Object.fromEntries([...e.querySelectorAll("[data-dot]")].map(d => [
            d.dataset.dot, Number(d.getAttribute("cy"))]))"""
    )
    lines = picture.evaluate(
        """e => Object.fromEntries([...e.querySelectorAll("[data-line]")].map(l => [
            l.dataset.line,
            l.getAttribute("points").split(" ").map(p => p.split(",").map(Number))]))"""
    )
    for name in computing.widgets.LINES:
        assert dots[name] == pytest.approx(8 + 280 * (1 - expected[name]), abs=1e-6), name
        assert lines[name][seen["sliders"]["b"] - 2][1] == pytest.approx(dots[name], abs=0.01), name
        assert len(lines[name]) == 59
    assert all(
        seen["texts"][name] in picture.get_attribute("aria-label")
        for name in ("product", "without", "alone")
    )


def test_curves(visit):
    name = "robustness-curve"
    page = visit(name)
    first = shown(page, name)
    check_curve(page, first)
    assert first["values"]["share"] == 1
    assert first["values"]["crossing"] == pytest.approx(3**0.5)
    assert first["summary"] == "The product is better than A alone."
    worse = press(page, name, "B at the test", *["ArrowRight"] * 7)
    check_curve(page, worse)
    assert worse["summary"] == "B is worse than in training, and still worth listening to."
    dropped = press(page, name, "B at the test", "ArrowRight")
    check_curve(page, dropped)
    assert dropped["values"]["gain"] < 0
    assert dropped["summary"].startswith("Here one does better without B")
    trained = press(page, name, "B in training", "End")
    check_curve(page, trained)
    assert trained["values"]["gain"] > 0
    check_curve(page, press(page, name, "noise in A", "Home"))
    check_curve(page, press(page, name, "B at the test", "Home"))
    even = press(page, name, "B at the test", "End")
    check_curve(page, even)
    assert -5e-4 < even["values"]["gain"] < 0
    assert even["summary"] == "Here it makes no difference whether one listens to B."


@pytest.mark.parametrize("name", PLACES)
def test_without_scripts_and_on_paper_the_fallback_stands(browser: Browser, address, name):
    for scripts in (False, True):
        context = browser.new_context(java_script_enabled=scripts)
        page = context.new_page()
        page.goto(f"{address}/{PLACES[name]}")
        if scripts:
            page.emulate_media(media="print")
        widget = page.locator(f'.widget[data-widget="{name}"]')
        expect(widget.get_by_text(MARK)).to_be_visible()
        expect(widget.locator(".widget-live")).to_be_hidden()
        context.close()


def test_every_widget_is_visited():
    assert set(PLACES) == set(computing.NAMES)
