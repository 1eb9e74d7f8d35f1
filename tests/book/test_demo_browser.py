"""The demo's page in a real browser: it shows what the server answers, by mouse and by keyboard, to
everybody."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from mmtutor.apps import demo
from tests import browsing
from tests.book import test_demo as server_test
from tests.posts import SKIES, tone

TEXT = server_test.TEXT
DROP = """([name, data]) => {
    const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0)), moved = new DataTransfer();
    if (name) moved.items.add(new File([bytes], name, {type: 'image/jpeg'}));
    for (const kind of ['dragover', 'drop'])
        document.body.dispatchEvent(
            new DragEvent(kind, {dataTransfer: moved, bubbles: true, cancelable: true}));
}"""


@pytest.fixture(scope="module")
def tried(posts_model, tmp_path_factory) -> demo.Demo:
    return demo.Demo(posts_model, tmp_path_factory.mktemp("home"), "cpu")


@pytest.fixture(scope="module")
def heard(sounds_model, tmp_path_factory) -> demo.Demo:
    return demo.Demo(sounds_model, tmp_path_factory.mktemp("home"), "cpu")


@pytest.fixture(scope="module")
def addresses(tried, heard) -> Iterator[dict[str, str]]:
    with server_test.running(tried) as port, server_test.running(heard) as sounds_port:
        yield {"tiny": f"http://127.0.0.1:{port}/", "prices": f"http://127.0.0.1:{sounds_port}/"}


@pytest.fixture
def picture(tmp_path) -> Path:
    (tmp_path / "coffee.jpg").write_bytes(server_test.picture_bytes())
    return tmp_path / "coffee.jpg"


@pytest.fixture
def sound(tmp_path) -> Path:
    (tmp_path / "beep.wav").write_bytes(server_test.SOUND)
    return tmp_path / "beep.wav"


@pytest.fixture
def visit(open_page, addresses) -> Iterator[Callable[..., Page]]:
    """A function that opens the page in a view. At the end nothing was wrong, but for statuses
    named as expected."""
    seen = []

    def start(view: str = "light", expected: tuple[int, ...] = (), model: str = "tiny") -> Page:
        page, noticed = open_page(addresses[model], view)
        seen.append((noticed, expected))
        expect(page.locator("#about")).to_contain_text(model)
        return page

    yield start
    for noticed, expected in seen:
        excused = [
            e
            for e in noticed.errors
            for s in expected
            if e.startswith(f"{s}: ") or f"status of {s} " in e
        ]
        assert noticed.errors == excused
        assert noticed.hosts <= {"127.0.0.1", ""}  # "" is the preview, a blob of the page's own


def ask(page: Page) -> None:
    """Press the button and wait for the server's answer, and for the page to show it."""
    with page.expect_response("**/predict"):
        page.get_by_role("button", name="Ask the model").click()
    expect(page.locator("#status")).to_contain_text("The model says")


def shown(page: Page) -> dict:
    """What the page shows, as the server would have said it."""
    rows = (
        "rows => Object.fromEntries(rows.map(r => [r.dataset.name,"
        " Number(r.querySelector('.value').dataset.value)]))"
    )
    return {
        "label": page.locator("#status strong").inner_text(),
        "probabilities": page.locator("#probabilities li").evaluate_all(rows),
        "contributions": page.locator("#contributions li").evaluate_all(rows),
    }


def said(tried: demo.Demo, text: str, picture: Path | None) -> dict:
    image = picture and base64.b64encode(picture.read_bytes()).decode()
    answer = tried.answer({"text": text, "image": image})
    return {k: answer[k] for k in ("label", "probabilities", "contributions")}


def percent(p: float) -> str:
    return f"{100 * p:.1f}\u00a0%"


def test_text_and_picture_are_answered_as_by_the_server(visit, tried, picture):
    page = visit()
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.get_by_label("Picture", exact=True).set_input_files(picture)
    expect(page.get_by_alt_text("The chosen picture, coffee.jpg")).to_be_visible()
    ask(page)
    answer = said(tried, TEXT, picture)
    assert shown(page) == answer
    for row, (name, p) in zip(
        page.locator("#probabilities li").all(), answer["probabilities"].items(), strict=True
    ):
        assert row.locator(".name bdi").text_content() == name  # its <b> is text, no element
        assert row.locator(".value").text_content() == percent(p)
        assert row.locator(".name").text_content().endswith("✓ the label") == (
            name == answer["label"]
        )
        widths = row.evaluate(
            "r => ['.fill', '.bar'].map(c => r.querySelector(c).getBoundingClientRect().width)"
        )
        assert widths[0] / widths[1] == pytest.approx(p, abs=0.01)
    for row, (m, added) in zip(
        page.locator("#contributions li").all(), answer["contributions"].items(), strict=True
    ):
        words = f"{100 * added:+.1f} points".replace("-", "\u2212")
        assert (row.get_attribute("data-name"), row.locator(".value").inner_text()) == (m, words)
    p, share = answer["probabilities"][answer["label"]], tried.facts()["shares"][answer["label"]]
    text = page.locator("#sum").inner_text()
    assert text.startswith(f"{100 * share:.1f} (share) ") and text.endswith(f"= {percent(p)}")
    assert "(text)" in text and "(picture)" in text
    expect(page.locator("#status")).to_contain_text("from text and picture.")


@pytest.mark.parametrize(("hertz", "weight"), [(300, "9.5"), (1200, "0.5")])
def test_signs_of_contributions_are_shown(visit, tmp_path, hertz, weight):
    page = visit(model="prices")
    (tmp_path / "tone.wav").write_bytes(tone(hertz, np.random.default_rng(1)))
    page.get_by_label("Sound", exact=True).set_input_files(tmp_path / "tone.wav")
    page.get_by_label("weight").fill(weight)
    ask(page)
    for m, adds in {"audio": hertz > 1000, "numbers": weight > "5"}.items():
        row = page.locator(f"#contributions .{m}")
        added = float(row.locator(".value").get_attribute("data-value"))
        assert (added > 0) == adds and abs(added) > 5
        assert row.locator(".value").inner_text().startswith("+" if adds else "\u2212")
        middle = row.evaluate(
            """r => { const [f, b] = ['.fill', '.bar'].map(c => r.querySelector(c)
            .getBoundingClientRect()); return f.left + f.width / 2 - b.left - b.width / 2 }"""
        )
        assert middle * added > 0  # to the right of the middle if it added, else to the left


@pytest.mark.parametrize("part", ["text", "picture"])
def test_leaving_one_part_out_answers_from_the_other(visit, tried, picture, part):
    page = visit()
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.get_by_label("Picture", exact=True).set_input_files(picture)
    ask(page)
    whole, other = (
        shown(page),
        said(tried, TEXT if part == "picture" else "", picture if part == "text" else None),
    )
    with page.expect_response("**/predict"):
        page.get_by_label(f"leave the {part} out").check()
    expect(page.locator("#status")).to_contain_text("alone")
    assert shown(page) == other and other["probabilities"] != whole["probabilities"]
    row = page.locator("#contributions li", has_text="Text" if part == "text" else "Picture")
    expect(row.locator(".value")).to_have_text("left out")
    for name, before in whole["probabilities"].items():
        note = page.locator(f"#probabilities li[data-name='{name}'] .note")
        expect(note).to_contain_text(f"the whole row had {percent(before)}")
    with page.expect_response("**/predict"):
        page.get_by_label(f"leave the {part} out").uncheck()
    expect(page.locator("#status")).to_contain_text("text and picture")
    assert shown(page) == whole
    expect(page.locator("#probabilities .note")).to_have_count(0)


def test_nothing_and_all_left_out_are_told(visit):
    page = visit()
    page.get_by_role("button", name="Ask the model").click()
    expect(page.get_by_role("alert")).to_have_text(
        "Give the model something to read first: text, picture."
    )
    page.get_by_label("leave the text out").check()
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.get_by_role("button", name="Ask the model").click()
    expect(page.get_by_role("alert")).to_contain_text("All of it is left out")
    expect(page.locator("#answer")).to_be_hidden()


def test_a_corrupt_picture_is_told_and_can_be_replaced(visit, tried, picture, tmp_path):
    page = visit(expected=(400,))
    (tmp_path / "broken.jpg").write_bytes(picture.read_bytes()[:3000])
    (tmp_path / "words.png").write_text("no picture")
    for name in ("broken.jpg", "words.png"):
        page.get_by_label("Picture", exact=True).set_input_files(tmp_path / name)
        page.get_by_role("button", name="Ask the model").click()
        expect(page.get_by_role("alert")).to_contain_text("Unreadable picture")
        expect(page.locator("#answer")).to_be_hidden()
    page.get_by_label("Picture", exact=True).set_input_files(picture)
    expect(page.get_by_role("alert")).to_be_empty()
    ask(page)
    assert shown(page) == said(tried, "", picture)


def test_a_file_that_is_too_large_is_not_even_sent(visit, tmp_path):
    page = visit()
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(20_000_001)
    page.get_by_label("Picture", exact=True).set_input_files(tmp_path / "huge.png")
    expect(page.get_by_role("alert")).to_contain_text("huge.png has 21 MB, the limit is 20 MB")
    expect(page.get_by_alt_text("The chosen picture")).to_be_hidden()


def test_a_picture_can_be_dropped_and_removed(visit, tried, picture):
    page = visit()
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.evaluate(DROP, ["dropped.jpg", base64.b64encode(picture.read_bytes()).decode()])
    expect(page.get_by_alt_text("The chosen picture, dropped.jpg")).to_be_visible()
    assert page.locator("#file-image").evaluate("field => field.files[0].name") == "dropped.jpg"
    ask(page)
    assert shown(page) == said(tried, TEXT, picture)
    page.get_by_role("button", name="remove the picture").click()
    expect(page.get_by_alt_text("The chosen picture")).to_be_hidden()
    expect(page.locator("#status")).to_have_text(
        "The row has changed since this answer: ask again."
    )
    expect(page.locator("#file-image")).to_be_focused()
    ask(page)
    assert shown(page) == said(tried, TEXT, None)
    page.evaluate(DROP, ["", ""])
    expect(page.get_by_role("alert")).to_have_text("What was dropped is no file.")


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_all_can_be_done_by_keyboard(visit, tried, picture, key):
    page = visit()
    page.keyboard.press("Tab")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type(TEXT)
    page.keyboard.press("Tab")
    expect(page.get_by_label("leave the text out")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#file-image")).to_be_focused()
    # Chromium reports choosers once somebody listens. The answer to the second line says that it
    # heard the first; without it, half of the keys came too early.
    page.on("filechooser", lambda _: None)
    page.evaluate("0")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press(key)
    chooser.value.set_files(picture)
    expect(page.get_by_alt_text("The chosen picture, coffee.jpg")).to_be_visible()
    for name in ("#remove-image", "#no-image", "form button[type=submit]"):
        page.keyboard.press("Tab")
        expect(page.locator(name)).to_be_focused()
        width, style = page.locator(name).evaluate(
            "e => { const s = getComputedStyle(e); return [parseFloat(s.outlineWidth),"
            " s.outlineStyle] }"
        )
        assert width >= 2 and style == "solid"  # the focus can be seen
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("The model says")
    assert shown(page) == said(tried, TEXT, picture)
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    expect(page.locator("#status")).to_contain_text("from the text alone")
    assert shown(page) == said(tried, TEXT, None)
    page.locator("#text").focus()
    page.keyboard.press("Control+End")
    page.keyboard.type(" Or is it?")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#status")).to_contain_text("The model says")
    assert shown(page) == said(tried, f"{TEXT} Or is it?", None)


def test_an_overtaken_answer_is_dropped(visit, tried):
    page = visit()
    page.get_by_label("Text", exact=True).fill(TEXT)
    held = []
    page.route("**/predict", lambda route: held.append(route) if not held else route.continue_())
    page.get_by_role("button", name="Ask the model").click()
    page.get_by_label("Text", exact=True).fill("I hate rain.")
    ask(page)
    with page.expect_response("**/predict"):
        held[0].continue_()
    page.evaluate("() => new Promise(done => setTimeout(done, 100))")
    assert shown(page) == said(tried, "I hate rain.", None)


def test_a_demo_that_has_ended_is_told(open_page, tried):
    with server_test.running(tried) as port:
        page, _ = open_page(f"http://127.0.0.1:{port}/", "light")
        expect(page.locator("#about")).to_contain_text("tiny")
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.get_by_role("button", name="Ask the model").click()
    expect(page.get_by_role("alert")).to_contain_text("Is it still running in the terminal?")


def test_changes_are_announced(visit):
    page = visit()
    assert page.locator("#status").get_attribute("aria-live") == "polite"
    assert page.locator("#error").get_attribute("role") == "alert"
    assert page.locator("html").get_attribute("lang") == "en"
    field = page.get_by_label("Text", exact=True)
    for text, direction in (("coffee", "ltr"), ("قهوة رائعة", "rtl")):
        field.fill(text)
        assert field.evaluate("e => getComputedStyle(e).direction") == direction


def test_a_page_has_fields_for_what_its_model_reads_only(visit):
    fields = "fs => fs.map(f => f.labels[0].textContent)"
    page = visit()
    assert page.locator("textarea, input, select").evaluate_all(fields) == [
        "Text",
        "leave the text out",
        "Picture",
        "leave the picture out",
    ]
    page = visit(model="prices")
    assert page.locator("textarea, input, select").evaluate_all(fields) == [
        "Sound",
        "leave the sound out",
        "weight",
        "age & size",
        "leave the numbers out",
        "sky",
        "leave the categories out",
    ]
    options = page.get_by_label("sky").locator("option").all_inner_texts()
    assert options == ["unknown", *SKIES]  # its <i> is text, no element


def test_a_number_is_told_with_its_interval_from_sound_numbers_and_words(visit, heard, sound):
    page = visit(model="prices")
    page.get_by_label("Sound", exact=True).set_input_files(sound)
    player = page.locator("audio[aria-label='The chosen sound, beep.wav']")
    expect(player).to_be_visible()
    assert player.evaluate("a => a.duration") == pytest.approx(0.5)
    page.get_by_label("weight").fill("7.5")
    page.get_by_label("sky").select_option(SKIES[2])
    ask(page)
    row = {
        "audio": base64.b64encode(sound.read_bytes()).decode(),
        "numbers": {"weight": "7.5"},
        "categories": {"sky": SKIES[2]},
    }
    compare_number(page, heard, row, "from sound, numbers and categories.")
    page.get_by_label("sky").select_option("unknown")
    expect(page.locator("#status")).to_have_text(
        "The row has changed since this answer: ask again."
    )
    ask(page)
    del row["categories"]
    compare_number(page, heard, row, "from sound and numbers.")
    expect(page.locator("#contributions .categories .value")).to_have_text("missing")
    with page.expect_response("**/predict"):
        page.get_by_label("leave the sound out").check()
    compare_number(page, heard, {"numbers": row["numbers"]}, "from the numbers alone.")
    whole = heard.answer(row)["label"]
    expect(page.locator("#status")).to_contain_text(f"The whole row: {whole:.0f}.")
    expect(page.locator("#contributions .audio .value")).to_have_text("left out")


def compare_number(page: Page, heard: demo.Demo, row: dict, words: str) -> None:
    """The page says of a row what the server says, rounded, in figures and in bars."""
    expect(page.locator("#status")).to_contain_text(words)
    answer, facts = heard.answer(row), heard.facts()
    status = page.locator("#status").inner_text()
    told = page.locator("#status strong").inner_text()
    digits = len(told.partition(".")[2])  # fewer where the interval is wide
    assert told == f"{answer['label']:.{digits}f}"
    low, high = (f"{end:.{digits}f}" for end in answer["interval"])
    share = f"{100 * facts['likely']:.0f}\u00a0%"
    assert f"In {share} of cases the truth lies between {low} and {high}." in status
    assert float(high) - float(low) < 100 * 0.1**digits
    expect(page.locator("#classes")).to_be_hidden()
    for m in answer["answered_by"].split(" + "):
        value, added = page.locator(f"#contributions .{m} .value"), answer["contributions"][m]
        assert float(value.get_attribute("data-value")) == added
        assert value.inner_text() == f"{added:+.{digits}f}".replace("-", "\u2212")
    total = page.locator("#sum").inner_text()
    assert total.startswith(f"{facts['mean']:.{digits}f} (average) ")
    assert total.endswith(f" = {told}")


def test_what_is_no_number_is_told(visit):
    page = visit(expected=(400,), model="prices")
    page.get_by_label("weight").fill("heavy")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Not a number (weight): 'heavy'")
    page.get_by_label("weight").fill("3")
    expect(page.get_by_role("alert")).to_be_empty()
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("The model says price is")


def test_what_is_odd_is_told(visit, tried):
    page = visit()
    page.get_by_label("Text", exact=True).fill("word " * 5000)
    ask(page)
    expect(page.locator("#remarks li")).to_contain_text(["cut."])
    page.get_by_label("Text", exact=True).fill(TEXT)
    ask(page)
    expect(page.locator("#remarks li")).to_have_count(0)


def test_a_dropped_sound_goes_where_sounds_go(visit, sound, picture):
    page = visit(model="prices")
    page.evaluate(DROP, ["beep.wav", base64.b64encode(sound.read_bytes()).decode()])
    expect(page.locator("#preview-audio")).to_be_visible()
    assert page.locator("#file-audio").evaluate("field => field.files[0].name") == "beep.wav"
    page.get_by_role("button", name="remove the sound").click()
    expect(page.locator("#preview-audio")).to_be_hidden()


@pytest.mark.parametrize("view", [*browsing.VIEWS, "dark phone"])
def test_everybody_can_use_it(visit, monkeypatch, picture, tmp_path, view):
    monkeypatch.setitem(browsing.VIEWS, "dark phone", (360, 780, "dark"))
    page = visit(view, expected=(400,))
    dark = (
        page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(20, 20, 20)"
    )
    assert dark == (browsing.VIEWS[view][2] == "dark")
    check(page)
    page.get_by_label("Text", exact=True).fill(TEXT + " " + "a" * 300)
    page.get_by_label("Picture", exact=True).set_input_files(picture)
    ask(page)
    check(page)
    page.get_by_label("leave the text out").check()
    expect(page.locator("#status")).to_contain_text("from the picture alone")
    check(page)
    (tmp_path / ("n" * 100 + ".png")).write_text("no picture")
    page.get_by_label("Picture", exact=True).set_input_files(tmp_path / ("n" * 100 + ".png"))
    page.get_by_role("button", name="Ask the model").click()
    expect(page.get_by_role("alert")).to_contain_text("Unreadable picture")
    check(page)


@pytest.mark.parametrize("view", [*browsing.VIEWS, "dark phone", "tablet"])
def test_everybody_can_use_numbers_and_sounds(visit, monkeypatch, sound, view):
    monkeypatch.setitem(browsing.VIEWS, "dark phone", (360, 780, "dark"))
    monkeypatch.setitem(browsing.VIEWS, "tablet", (768, 1000, "light"))
    page = visit(view, model="prices")
    check(page)
    page.get_by_label("Sound", exact=True).set_input_files(sound)
    page.get_by_label("weight").fill("7.5")
    page.get_by_label("sky").select_option(SKIES[0])
    ask(page)
    check(page)
    page.get_by_label("leave the sound out").check()
    expect(page.locator("#status")).to_contain_text("from numbers and categories")
    check(page)


def check(page: Page) -> None:
    """Nothing breaks WCAG 2.1 AA, nothing reaches beyond the right edge."""
    assert browsing.violations(page) == []
    wide = (
        "() => [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right"
        " > innerWidth + 1)"
    )
    assert page.evaluate(f"({wide})().map(e => e.tagName + e.id)") == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
