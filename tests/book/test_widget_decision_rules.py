"""The widget of the decision rules: its numbers are the package's, and everybody can use it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect

from mmbook.ext import widgets
from mmtutor.fusion import decision
from tests import browsing

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "book" / "_static"
SCRIPTS = (widgets.SHARED, widgets.script("decision-rules"))
ASSETS = ("site.css", widgets.STYLES, *SCRIPTS, "favicon.svg")
EXACT = 1e-9
FALLBACK = "<p>Here the rules would answer while you move sliders.</p>"
PAGE = """<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">
<title>Rules</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="favicon.svg">
<link rel="stylesheet" href="site.css"><link rel="stylesheet" href="widgets.css">
<style>* {{ box-sizing: border-box }} body {{ background: var(--pst-color-background, white);
margin: 0;
color: var(--pst-color-text-base); font-family: sans-serif }} html[data-theme="dark"] {{
color-scheme: dark }}</style>
<script>if (matchMedia("(prefers-color-scheme: dark)").matches)
document.documentElement.dataset.theme = "dark"</script>
<script src="widgets.js" defer></script>
<script src="widget_decision_rules.js" defer></script></head>
<body><main class="bd-main"><div class="bd-content"><article class="bd-article"><h1>Rules</h1>
{}</article></div></main></body></html>"""


def write_page(folder: Path) -> Path:
    for name in ASSETS:
        shutil.copy(STATIC / name, folder)
    (folder / "page.html").write_text(
        PAGE.format(widgets.html("decision-rules", FALLBACK)), encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    for host in browsing.serve(write_page(tmp_path_factory.mktemp("rules"))):
        yield f"{host}/page.html"


@pytest.fixture
def page(open_page, address) -> Iterator[Page]:
    opened, seen = open_page(address, "light")
    yield opened
    assert seen.errors == []


# the functions
# -------------------------------------------------------------------------------------------------


def opinions(rng: np.random.Generator, modalities: int, classes: int) -> np.ndarray:
    """Random rows; some with zeros, some one-hot, some with exactly equal entries and means
    (eighths)."""
    kind = rng.integers(5)
    if kind == 0:
        return np.eye(classes)[rng.integers(classes, size=modalities)]
    if kind == 1:
        return rng.multinomial(8, np.ones(classes) / classes, size=modalities) / 8
    p = rng.dirichlet(np.full(classes, 0.5), size=modalities)
    if kind == 2:
        keep = rng.random(p.shape) < 0.5
        keep[np.arange(modalities), rng.integers(classes, size=modalities)] = True
        p = p * keep / (p * keep).sum(1, keepdims=True)
    return p


def shares(rng: np.random.Generator, modalities: int) -> np.ndarray:
    """Random numbers from 0 to 1; some cases have exact 0 or 1 among them, some are all tiny, some
    add up to 1."""
    r = rng.random(modalities)
    kind = rng.integers(6)
    if kind == 0:
        return np.ones(modalities)
    if kind == 1:
        return np.where(rng.random(modalities) < 0.4, rng.integers(2, size=modalities), r)
    if kind == 2:
        return r * 10.0 ** -rng.integers(2, 7)
    if kind == 3:
        return r / r.sum()
    return 1 - r * 10.0 ** -rng.integers(2, 12) if kind == 4 else r


def random_cases(count: int = 400) -> list[dict]:
    rng = np.random.default_rng(5)
    # two classes whose equal shares, summed in another order, differ in the last digit; the mean
    # prefers the second
    tied = [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.1, 0.9, 0], [1 / 3] * 3, [0.1, 0.9, 0]]
    cases = [
        {
            "probs": tied,
            "present": [True] * 5,
            "r": [0.5] * 5,
            "weights": [1.0] * 5,
            "prior": [0.2, 0.3, 0.5],
        }
    ]
    for i in range(count):
        modalities, classes = (2, 3, 3, 1, 4, 5)[i % 6], (3, 3, 2, 4)[i % 4]
        there = rng.random(modalities) < (1.0 if i % 2 else 0.6)
        probs, r = opinions(rng, modalities, classes), shares(rng, modalities)
        if i % 4 == 0:  # what stands in an absent row must change nothing
            probs = np.where(there[:, None], probs, 9.0)
        weights = r * rng.choice([1.0, 1e-3, 1e6])
        case = {
            "probs": probs,
            "present": there,
            "r": r,
            "weights": weights,
            "prior": opinions(rng, 1, classes)[0],
        }
        cases.append({key: value.tolist() for key, value in case.items()})
    return cases


def answers(case: dict) -> dict[str, list | float | None]:
    """What the package says, float64, in the script's names; None where it raises ValueError."""
    names = [f"m{i}" for i in range(len(case["probs"]))]
    probs = {
        m: torch.tensor([row], dtype=torch.float64)
        for m, row in zip(names, case["probs"], strict=True)
    }
    present = {m: torch.tensor([there]) for m, there in zip(names, case["present"], strict=True)}
    r, weights = (dict(zip(names, case[key], strict=True)) for key in ("r", "weights"))
    prior = torch.tensor(case["prior"], dtype=torch.float64) if "prior" in case else None

    def measure() -> list[float]:
        worth = decision.lambda_measure(r)
        return [
            worth[frozenset(m for i, m in enumerate(names) if code >> i & 1)]
            for code in range(1 << len(names))
        ]

    rules: dict[str, Callable] = {
        "average": lambda: decision.average(probs, present),
        "weightedVote": lambda: decision.weighted_vote(probs, weights, present),
        "majorityVote": lambda: decision.majority_vote(probs, present),
        "productRule": lambda: decision.product_rule(probs, None, present),
        "productRuleWithPrior": lambda: decision.product_rule(probs, prior, present),
        "dempsterShafer": lambda: decision.dempster_shafer(probs, r, present),
        "conflict": lambda: decision.conflict(probs, r, present)[0],
        "sugenoLambda": lambda: decision.sugeno_lambda(r),
        "lambdaMeasure": measure,
        "choquet": lambda: decision.choquet(probs, decision.lambda_measure(r), present),
        "sugeno": lambda: decision.sugeno(probs, decision.lambda_measure(r), present),
        "fuzzyRules": lambda: decision.fuzzy_rules(probs, present),
        "trust": lambda: [float(t) for t in decision.trust(probs, present).values()],
    }
    said = {}
    for name, rule in rules.items():
        try:
            answer = rule()
        except ValueError:
            answer = None
        if isinstance(answer, torch.Tensor):
            answer = answer[0].tolist() if answer.dim() else float(answer)
        said[name] = answer
    return said


IN_THE_PAGE = """cases => {
    const D = WidgetDecisionRules;
    const attempt = rule => {
        try { return rule() } catch (error) { if (error instanceof RangeError) return null;
            throw error }
    };
    return cases.map(({ probs, present, r, weights, prior }) => ({
        average: D.average(probs, present),
        weightedVote: attempt(() => D.weightedVote(probs, weights, present)),
        majorityVote: D.majorityVote(probs, present),
        productRule: D.productRule(probs, present),
        productRuleWithPrior: D.productRule(probs, present, prior),
        dempsterShafer: D.dempsterShafer(probs, r, present),
        conflict: D.conflict(probs, r, present),
        sugenoLambda: attempt(() => D.sugenoLambda(r)),
        lambdaMeasure: attempt(() => D.lambdaMeasure(r)),
        choquet: attempt(() => D.choquet(probs, D.lambdaMeasure(r), present)),
        sugeno: attempt(() => D.sugeno(probs, D.lambdaMeasure(r), present)),
        fuzzyRules: D.fuzzyRules(probs, present),
        trust: D.trust(probs, present),
    }));
}"""


def differences(found: dict, expected: dict) -> list[str]:
    """One line for each rule whose answer in the page is another than the package's."""
    lines = []
    for name, want in expected.items():
        got = found[name]
        if want is None or got is None:
            same = want is None and got is None
        elif name == "majorityVote":  # the lift of a tie's winner is in the last digit
            same = np.argmax(got) == np.argmax(want) and np.allclose(got, want, rtol=0, atol=1e-6)
        else:
            # λ may exceed any power of ten: relative there
            same = np.allclose(got, want, rtol=EXACT if name == "sugenoLambda" else 0, atol=EXACT)
        if not same:
            lines.append(f"{name}: page {got}, package {want}")
    return lines


def test_functions_agree_with_the_package(page):
    cases = random_cases()
    found = page.evaluate(IN_THE_PAGE, cases)
    expected = [answers(case) for case in cases]
    assert [
        (c, d) for c, f, e in zip(cases, found, expected, strict=True) if (d := differences(f, e))
    ] == []


def test_random_cases_hold_every_hard_kind():
    """Else agreement would prove little."""
    cases = random_cases()
    said = [answers(case) for case in cases]
    kinds = {
        "total conflict": [s["conflict"] > 1 - EXACT for s in said],
        "no conflict": [s["conflict"] == 0 for s in said],
        "nobody present": [not any(c["present"]) for c in cases],
        "somebody absent": [any(c["present"]) and not all(c["present"]) for c in cases],
        "no λ-measure": [s["lambdaMeasure"] is None for s in said],
        "λ = -1": [s["sugenoLambda"] == -1 for s in said],
        "additive": [s["sugenoLambda"] == 0 for s in said],
        "λ between -1 and 0": [-1 < (s["sugenoLambda"] or 0) < 0 for s in said],
        "huge λ": [(s["sugenoLambda"] or 0) > 1e3 for s in said],
        "weights all zero": [s["weightedVote"] is None for s in said],
        "tied vote": [
            np.isclose(np.sort(s["majorityVote"])[-1], np.sort(s["majorityVote"])[-2]) for s in said
        ],
        "veto": [0 in np.array(c["probs"]) for c in cases],
        "prior with a zero": [0 in c["prior"] for c in cases],
    }
    assert {name: sum(hits) for name, hits in kinds.items() if sum(hits) < 4} == {}


def test_hopeless_densities_are_refused_with_words(page):
    refuse = """r => { try { return WidgetDecisionRules.sugenoLambda(r) }
        catch (error) { return String(error) } }"""
    assert "admit no λ-measure" in page.evaluate(refuse, [0.5, 0, 0])
    assert "outside" in page.evaluate(refuse, [0.5, 1.5])
    assert "too near 0" in page.evaluate(refuse, [1e-310, 1e-310])
    with pytest.raises(ValueError, match="too near 0"):
        decision.sugeno_lambda({"a": 1e-310, "b": 1e-310})


# the page
# -------------------------------------------------------------------------------------------------

STATE = """() => {
    const value = name => Number(document.querySelector(`[name="${name}"]`).value);
    const shown = name => Number(document.querySelector(`[data-shows="${name}"]`).dataset.value);
    const modalities = ["image", "text", "audio"];
    const rules = {};
    for (const row of document.querySelectorAll("[data-rule]")) {
        const cells = [...row.querySelectorAll("td")];
        rules[row.dataset.rule] = {
            p: cells.slice(0, -1).map(cell => Number(cell.dataset.value)),
            text: cells.slice(0, -1).map(cell => cell.textContent),
            bars: cells.slice(0, -1).map(cell => cell.firstElementChild
                .getBoundingClientRect().width),
            bold: cells.slice(0, -1).map(cell => getComputedStyle(cell).fontWeight >= 600),
            answer: cells.at(-1).textContent,
        };
    }
    return {
        sliders: modalities.map(m => ["A", "B", "C"].map(c => value(`${m}-${c}`))),
        percent: modalities.map(m => value(`${m}-reliability`)),
        present: modalities.map(m => document.querySelector(`[name="${m}-present"]`).checked),
        probs: modalities.map(m => ["A", "B", "C"].map(c => shown(`${m}-${c}`))),
        r: modalities.map(m => shown(`${m}-reliability`)),
        conflict: shown("conflict"),
        rules,
        summary: document.querySelector(".widget-summary").textContent,
    };
}"""


def winners(p: list[float]) -> list[str]:
    return [c for c, x in zip(widgets.CLASSES, p, strict=True) if x > max(p) - EXACT]


def check_display(page: Page) -> dict:
    """Compare all that is shown with the package, given what the sliders say; return it."""
    state = page.evaluate(STATE)
    for sliders, probs in zip(state["sliders"], state["probs"], strict=True):
        weights = np.array(sliders) if any(sliders) else np.ones(3)
        assert np.allclose(probs, weights / weights.sum(), rtol=0, atol=EXACT)
    assert state["r"] == [percent / 100 for percent in state["percent"]]
    expected = answers({**state, "weights": state["r"]})
    assert set(state["rules"]) == set(widgets.RULES)
    found = {name: rule["p"] or None for name, rule in state["rules"].items()}
    found["conflict"] = state["conflict"]
    assert differences(found, {name: expected[name] for name in found}) == []
    for name, rule in state["rules"].items():
        check_row(name, rule, any(state["present"]))
        assert any(
            word in state["summary"].lower() for word in (widgets.RULES[name].lower(), "all rules")
        ), name
    return state


def check_row(name: str, rule: dict, somebody: bool) -> None:
    """A row's text, bars and words say what its numbers say."""
    if not rule["p"]:
        assert rule["answer"].startswith("No answer: ")
        return
    assert np.allclose([float(text) for text in rule["text"]], rule["p"], rtol=0, atol=5.001e-4)
    assert all(re.fullmatch(r"[01]\.\d{3}", text) for text in rule["text"])
    inner = [bar / p for bar, p in zip(rule["bars"], rule["p"], strict=True) if p > 0.05]
    assert np.ptp(inner) < 0.15 * max(inner), "bars are not in proportion"
    best = winners(rule["p"])
    if name == "majorityVote" and somebody and len(best) > 1:
        winner = widgets.CLASSES[int(np.argmax(rule["p"]))]
        assert re.fullmatch(rf"{winner} \(votes tied with [ABC]( and [ABC])?\)", rule["answer"])
        assert sorted(re.findall(r"\b[ABC]\b", rule["answer"])) == best
        best = [winner]
    else:
        assert rule["answer"] == (
            best[0] if len(best) == 1 else f"tie: {', '.join(best[:-1])} and {best[-1]}"
        )
    assert [c for c, bold in zip(widgets.CLASSES, rule["bold"], strict=True) if bold] == best


def test_it_starts_with_answers_and_without_the_fallback(page):
    expect(page.get_by_text("Here the rules would answer")).to_be_hidden()
    state = check_display(page)
    assert all(rule["p"] for rule in state["rules"].values())


def test_sliders_moved_with_the_keyboard(page):
    slider = page.get_by_role("group", name="image", exact=True).get_by_label("favours A")
    before = int(slider.input_value())
    slider.focus()
    for key, value in {
        "ArrowRight": before + 1,
        "ArrowLeft": before,
        "End": 100,
        "Home": 0,
    }.items():
        page.keyboard.press(key)
        assert page.evaluate(STATE)["sliders"][0][0] == value
        check_display(page)
    text = page.get_by_role("group", name="text", exact=True)
    for value, what in zip(
        (33, 33, 33, 0), ("favours A", "favours B", "favours C", "reliability"), strict=True
    ):
        text.get_by_label(what).fill(str(value))
        check_display(page)
    assert page.evaluate(STATE)["percent"][1] == 0


def test_random_positions(page):
    """Set many at once, as a reader who drags about would, the extremes often."""
    rng = np.random.default_rng(8)
    names = [
        f"{m}-{what}" for m in widgets.MODALITIES for what in (*widgets.CLASSES, "reliability")
    ]
    for _ in range(60):
        values = np.clip(rng.integers(-40, 140, size=len(names)), 0, 100)
        there = rng.random(3) < 0.7
        page.evaluate(
            """([values, there]) => {
                const field = name => document.querySelector(`[name="${name}"]`);
                for (const [name, value] of Object.entries(values)) field(name).value = value;
                for (const [name, on] of Object.entries(there))
                    field(`${name}-present`).checked = on;
                field("image-A").dispatchEvent(new Event("input", { bubbles: true }));
            }""",
            [
                dict(zip(names, values.tolist(), strict=True)),
                dict(zip(widgets.MODALITIES, there.tolist(), strict=True)),
            ],
        )
        check_display(page)


def test_absence_is_one_click_and_nobody_leaves_every_class_level(page):
    for number, modality in enumerate(widgets.MODALITIES):
        page.get_by_role("group", name=modality, exact=True).get_by_label("present").uncheck()
        state = check_display(page)
        assert state["present"] == [False] * (number + 1) + [True] * (2 - number)
    assert state["conflict"] == 0
    assert state["summary"] == "All rules see a tie of A, B and C."
    page.get_by_role("group", name="text", exact=True).get_by_label("present").press("Space")
    assert check_display(page)["present"] == [False, True, False]


def test_no_reliability_is_said_in_words(page):
    for modality in widgets.MODALITIES:
        page.get_by_role("group", name=modality, exact=True).get_by_label("reliability").fill("0")
    state = check_display(page)
    assert "every weight is zero" in state["rules"]["weightedVote"]["answer"]
    for rule in ("choquet", "sugeno"):
        assert "admit no λ-measure" in state["rules"][rule]["answer"]
    assert state["rules"]["dempsterShafer"]["answer"] == "tie: A, B and C"
    assert (
        "weighted vote, choquet integral and sugeno integral have no answer"
        in state["summary"].lower()
    )


def pressed(page: Page, preset: str) -> dict:
    page.get_by_role("button", name=widgets.PRESETS[preset]).click()
    return check_display(page)


def test_presets_show_what_they_promise(page):
    agree = pressed(page, "agree")
    assert {rule["answer"] for rule in agree["rules"].values()} == {"A"}
    assert agree["summary"] == "All rules answer A."
    dissent = {name: rule["answer"] for name, rule in pressed(page, "dissent")["rules"].items()}
    assert {dissent["majorityVote"], dissent["weightedVote"]} == {"A"}
    assert {dissent["average"], dissent["productRule"]} == {"B"}
    zadeh = pressed(page, "conflict")
    assert (
        zadeh["rules"]["productRule"]["answer"] == zadeh["rules"]["dempsterShafer"]["answer"] == "B"
    )
    assert zadeh["rules"]["average"]["answer"] == "tie: A and C"
    assert np.isclose(zadeh["conflict"], 1 - 0.01 * 0.01)
    copies = pressed(page, "copies")
    assert (
        copies["probs"][0] == copies["probs"][1] == pytest.approx(copies["rules"]["average"]["p"])
    )
    assert max(copies["rules"]["productRule"]["p"]) > max(copies["probs"][0]) + 0.1
    absent = pressed(page, "absent")
    assert sum(absent["present"]) == 2
    page.get_by_role("group", name="audio", exact=True).get_by_label("present").check()
    returned = check_display(page)
    assert returned["rules"]["average"]["p"] != absent["rules"]["average"]["p"]


def test_the_summary_is_said_politely_and_only_when_it_changes(page):
    summary = page.locator(".widget-summary")
    assert summary.get_attribute("aria-live") == "polite"
    page.evaluate(
        """() => { window.changes = 0; new MutationObserver(
            seen => { window.changes += seen.length }).observe(
            document.querySelector(".widget-summary"), 
            { childList: true, characterData: true, subtree: true }) }"""
    )
    pressed(page, "agree")
    once = page.evaluate("window.changes")
    page.get_by_role("group", name="image", exact=True).get_by_label("favours A").press(
        "ArrowRight"
    )
    check_display(page)
    assert page.evaluate("window.changes") == once > 0


def test_it_leaves_one_name_behind(page):
    assert page.evaluate("Object.keys(window).filter(name => /rules/i.test(name))") == [
        "WidgetDecisionRules"
    ]
    assert set(page.evaluate("Object.keys(WidgetDecisionRules)")) == {*widgets.RULES} | {
        "conflict",
        "sugenoLambda",
        "lambdaMeasure",
        "trust",
    }


@pytest.mark.parametrize("view", browsing.VIEWS)
def test_everybody_can_use_it(open_page, address, view):
    page, seen = open_page(address, view)
    for preset in widgets.PRESETS:
        pressed(page, preset)
        assert browsing.violations(page) == []
        assert browsing.overflow(page) == []
    for modality in widgets.MODALITIES:  # the rows in words, too
        page.get_by_role("group", name=modality, exact=True).get_by_label("reliability").fill("0")
    assert browsing.violations(page) == []
    assert browsing.overflow(page) == []
    assert seen.errors == []
    assert seen.hosts == {"127.0.0.1"}


def test_nothing_is_cut_off_at_any_width(page):
    for width in (260, 320, 480, 520, 640, 760, 900):  # at the first, the table scrolls by itself
        page.set_viewport_size({"width": width, "height": 800})
        for preset in widgets.PRESETS:
            pressed(page, preset)
            assert browsing.overflow(page) == [], f"{preset} at {width} px"
