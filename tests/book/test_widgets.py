"""The small widgets of the lessons: what their scripts compute is what the package computes."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from scipy.stats import norm
from torch import nn

from mmbook import site
from mmbook.ext import widgets
from mmtutor.alignment import distance_matrix, dtw
from mmtutor.data.worlds import redundant
from mmtutor.evaluation import Interval, accuracy
from mmtutor.fusion import ConcatFusion, LowRankFusion, TensorFusion, decision
from mmtutor.information import pid
from mmtutor.robustness import Curve, effective_robustness, relative_robustness

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "book" / "_static"
FALLBACK = "<p>Here sliders would stand.</p>"


NAMES = list(widgets.WIDGETS)


def computed(name: str, expression: str, cases: list) -> list:
    """What JavaScript's `expression`, a function, makes of each case; `name` is the widget whose
    script it needs."""
    program = f"""require({json.dumps(str(STATIC / widgets.script(name)))});
        const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
        process.stdout.write(JSON.stringify(cases.map({expression})));"""
    done = subprocess.run(
        [site.node(), "-e", program],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# low-rank-cost
# -------------------------------------------------------------------------------------------------


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def costs(modalities: int, features: int, outputs: int, rank: int) -> dict[str, int]:
    """Parameters of the package's modules, in the script's names; "meta" tensors have a size and no
    memory."""
    dims = {f"m{i}": features for i in range(modalities)}
    with torch.device("meta"):
        concat, tensor = ConcatFusion(dims), TensorFusion(dims)
        return {
            "concat": count(concat, nn.Linear(concat.out_features, outputs)),
            "tensor": count(tensor, nn.Linear(tensor.out_features, outputs, bias=False)),
            "lowRank": count(LowRankFusion(dims, outputs, rank)),
        }


def test_costs_are_the_parameters_of_the_modules():
    cases = [
        list(case)
        for case in itertools.product((2, 3, 4), (1, 2, 7, 32, 64), (1, 10, 64), (1, 4, 33, 64))
    ]
    ask = """sizes => ({ concat: WidgetLowRankCost.concat(...sizes),
        tensor: WidgetLowRankCost.tensor(...sizes),
        lowRank: WidgetLowRankCost.lowRank(...sizes) })"""
    assert computed("low-rank-cost", ask, cases) == [costs(*case) for case in cases]


def test_limit_is_the_first_rank_that_saves_nothing():
    cases = [list(case) for case in itertools.product((2, 3, 4), (1, 2, 3, 4, 5, 16, 31, 64))]
    for (modalities, features), limit in zip(
        cases,
        computed("low-rank-cost", "sizes => WidgetLowRankCost.limit(...sizes)", cases),
        strict=True,
    ):
        at = costs(modalities, features, 5, limit)
        assert at["lowRank"] >= at["tensor"]
        if limit > 1:
            before = costs(modalities, features, 5, limit - 1)
            assert before["lowRank"] < before["tensor"]


# gate-information
# -------------------------------------------------------------------------------------------------

ANSWERS = {
    "XOR": lambda a, b: a ^ b,
    "AND": lambda a, b: a & b,
    "OR": lambda a, b: a | b,
    "COPY": lambda a, b: 2 * a + b,
    "UNIQUE": lambda a, b: a,
}


def joint(gate: str, one: float, two: float, flip: float) -> np.ndarray:
    """p[x1, x2, y]: independent bits, every bit of the answer flipped with probability `flip`."""
    bits = 2 if gate == "COPY" else 1
    p = np.zeros((2, 2, 2**bits))
    for a, b, *wrong in itertools.product((0, 1), repeat=2 + bits):
        y = ANSWERS[gate](a, b) ^ sum(w << k for k, w in enumerate(wrong))
        p[a, b, y] += (
            (one if a else 1 - one)
            * (two if b else 1 - two)
            * np.prod([flip if w else 1 - flip for w in wrong])
        )
    return p


def parts(gate: str, one: float, two: float, flip: float) -> dict[str, float]:
    """The package's four parts in nats, their sum and the uncertainty about y."""
    p = joint(gate, one, two, flip)
    found, y = pid(p, "imin")._asdict(), p.sum((0, 1))
    return found | {
        "told": sum(found.values()),
        "whole": float(-(y[y > 0] * np.log(y[y > 0])).sum()),
    }


def test_parts_of_gates_are_those_of_the_package():
    cases = [
        list(c)
        for c in itertools.product(
            ANSWERS, (0, 0.01, 0.3, 0.5, 1), (0, 0.5, 0.77, 1), (0, 0.13, 0.5)
        )
    ]
    ask = """([gate, ...chances]) => {
        const p = WidgetGateInformation.joint(gate, ...chances);
        return { ...WidgetGateInformation.pid(p), whole: WidgetGateInformation.entropy(p) };
    }"""
    for case, found in zip(cases, computed("gate-information", ask, cases), strict=True):
        expected = parts(*case)
        found["told"] = sum(found[name] for name in widgets.PARTS)
        assert found == pytest.approx(expected, rel=0, abs=1e-9), case


def test_pid_of_any_table_is_that_of_the_package():
    """Gates alone would not tell whether the least is taken outcome by outcome."""
    rng = np.random.default_rng(3)
    tables = [
        rng.dirichlet(np.full(4 * size, 0.4)).reshape(2, 2, size)
        for size in (2, 3, 4)
        for _ in range(30)
    ]
    found = computed(
        "gate-information", "p => WidgetGateInformation.pid(p)", [p.tolist() for p in tables]
    )
    for p, answer in zip(tables, found, strict=True):
        assert answer == pytest.approx(pid(p, "imin")._asdict(), rel=0, abs=1e-9)


def test_widget_offers_the_gates_that_its_script_knows():
    assert tuple(ANSWERS) == widgets.GATES


# dtw-path
# -------------------------------------------------------------------------------------------------


def bent(a: list[int], shift: int, stretch: int, pause: int) -> list[int]:
    """What the sliders of the widget promise: `a` late, stretched from there, silent for longer
    between the words."""
    silence, b = 9, []
    for s in range(len(a)):
        t = (s - shift) * 100 / stretch
        if t > silence:
            t = max(silence, (s - shift - pause) * 100 / stretch)
        t = min(max(t, 0), len(a) - 1)
        i = min(int(t), len(a) - 2)
        b.append(math.floor(a[i] + (t - i) * (a[i + 1] - a[i]) + 0.5))
    return b


def aligned(a: list[int], b: list[int]) -> tuple[list[list[int]], float]:
    """The package's path and total."""
    one, two = (torch.tensor(x, dtype=torch.float64)[:, None] for x in (a, b))
    path, total = dtw(distance_matrix(one, two))
    return path.tolist(), total


def first_signal() -> list[int]:
    return computed("dtw-path", "() => WidgetDtwPath.A", [0])[0]


def test_paths_are_those_of_the_package():
    a = first_signal()
    assert len(a) == 24
    cases = [list(c) for c in itertools.product(range(7), (50, 73, 100, 110, 150), (0, 1, 3, 6))]
    ask = """sliders => {
        const b = WidgetDtwPath.bent(...sliders);
        return { b, ...WidgetDtwPath.dtw(WidgetDtwPath.distances(WidgetDtwPath.A, b)) };
    }"""
    for case, found in zip(cases, computed("dtw-path", ask, cases), strict=True):
        assert found["b"] == bent(a, *case), case
        path, total = aligned(a, found["b"])
        assert (found["path"], found["total"]) == (path, total), case


def test_ties_end_as_in_the_package():
    """Matrices of few small whole numbers have many equally cheap paths."""
    rng = np.random.default_rng(2)
    costs = [rng.integers(0, 3, size=rng.integers(1, 8, size=2)) for _ in range(200)]
    found = computed("dtw-path", "cost => WidgetDtwPath.dtw(cost)", [c.tolist() for c in costs])
    for cost, answer in zip(costs, found, strict=True):
        path, total = dtw(cost)
        assert (answer["path"], answer["total"]) == (path.tolist(), total)


# robustness-curve
# -------------------------------------------------------------------------------------------------


def certain(accuracy: float) -> Interval:
    return Interval(accuracy, accuracy, accuracy, 0.95)


def robustness(a: float, trained: float, b: float) -> dict[str, float]:
    """The package's closed forms, and the accuracy of its posterior of training in the world of the
    test.

    That posterior's log odds are a sum of one linear function per modality. Read off what it makes
    of the bit and of a unit of noise, and the accuracy is that of one Gaussian.
    """
    home = redundant(strength=1.0, noise={"a": a, "b": trained})
    there = replace(home, noise={"a": a, "b": b})
    unit = {m: home.directions[m][:1] for m in ("a", "b")}
    said = home.bayes_probabilities(unit)
    mean, weight = (said[0, 1] / said[0, 0]).log().item(), {}
    for m in unit:
        p = home.bayes_probabilities(unit, modalities=(m,))
        weight[m] = (p[0, 1] / p[0, 0]).log().item()
    assert mean == pytest.approx(sum(weight.values()))
    product = float(norm.cdf(mean / math.hypot(weight["a"] * a, weight["b"] * b)))
    without, start = there.bayes_accuracy_of("a"), home.bayes_accuracy
    return {
        "product": product,
        "without": without,
        "alone": there.bayes_accuracy_of("b"),
        "best": there.bayes_accuracy,
        "gain": effective_robustness(Curve([0.0], [certain(product)]), without)[0],
        "share": relative_robustness(
            Curve([0.0, 1.0], [certain(start), certain(product)]), without
        )[1],
    }


def test_curve_is_that_of_the_package():
    cases = [
        list(c)
        for c in itertools.product((0.5, 1.0, 2.7, 4.0), (0.5, 1.1, 4.0), (0.2, 0.5, 1.0, 3.3, 6.0))
    ]
    found = computed(
        "robustness-curve", "sliders => WidgetRobustnessCurve.scores(...sliders)", cases
    )
    for case, scores in zip(cases, found, strict=True):
        expected = robustness(*case)
        assert scores == pytest.approx(
            {name: expected[name] for name in scores}, rel=0, abs=1e-12
        ), case
        assert set(scores) == set(widgets.LINES)


def test_curve_is_that_of_samples():
    """The fallback's recipe, as it stands there: what the closed form says happens to samples,
    too."""
    world = redundant(strength=1.0, noise={"a": 1.0, "b": 1.0})
    for b in (0.2, 2.0, 5.0):
        test = replace(world, noise={"a": 1.0, "b": b}).sample(100_000, seed=1)
        opinions = {
            m: world.bayes_probabilities(test.features, modalities=(m,)) for m in ("a", "b")
        }
        joined = decision.product_rule(opinions)
        torch.testing.assert_close(
            joined, world.bayes_probabilities(test.features), rtol=0, atol=1e-5
        )
        assert accuracy(joined.argmax(1), test.labels) == pytest.approx(
            robustness(1.0, 1.0, b)["product"], abs=0.006
        )


def test_crossing_is_where_the_product_is_as_good_as_a_alone():
    cases = [list(c) for c in itertools.product((0.5, 1.0, 2.7, 4.0), (0.5, 1.1, 4.0))]
    for (a, trained), b in zip(
        cases,
        computed(
            "robustness-curve", "sliders => WidgetRobustnessCurve.crossing(...sliders)", cases
        ),
        strict=True,
    ):
        at, beyond = robustness(a, trained, b), robustness(a, trained, 1.01 * b)
        assert at["gain"] == pytest.approx(0, abs=1e-12)
        assert beyond["gain"] < 0


def test_normal_reaches_into_the_tails():
    points = [-40, -8.5, -7, -3, -1e-9, 0, 0.3, 2, 6, 7.9, 9]
    found = computed("robustness-curve", "z => WidgetRobustnessCurve.normal(z)", points)
    assert found == pytest.approx(norm.cdf(points).tolist(), rel=0, abs=1e-14)


# the extension
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_html_keeps_the_laws_of_pages(name):
    head = '<head><title>x</title><link rel="icon" href="x.svg"></head>'
    body = f"<article><h1>x</h1>{widgets.html(name, FALLBACK)}</article>"
    page = BeautifulSoup(f'<html lang="en">{head}<body>{body}</body></html>', "html.parser")
    assert [breach for law in site.page_laws.PAGE_LAWS for breach in law(page)] == []
    idents = [tag["id"] for tag in page.find_all(id=True)]
    assert len(idents) == len(set(idents)) > 0
    assert {field["id"] for field in page.find_all("input")} == {
        label["for"] for label in page.find_all("label")
    }
    shown = {tag["data-shows"] for tag in page.select("[data-shows]")}
    assert {field["name"] for field in page.select("input[type=range]")} <= shown
    assert page.select_one(".widget-live").has_attr("hidden")
    assert not page.select_one(".widget-fallback").has_attr("hidden")


@pytest.mark.parametrize("name", NAMES)
def test_script_leaves_one_name_behind(name):
    """And it needs no page to compute."""
    expected = "Widget" + "".join(word.title() for word in name.split("-"))
    ask = "() => Object.keys(globalThis).filter(name => /^Widget/.test(name))"
    assert computed(name, ask, [0]) == [[expected]]


def test_slimming_keeps_every_rule(node_packages, tmp_path):
    """The style sheet's rules for what scripts make match nothing in the built page."""
    (tmp_path / "_static").mkdir()
    body = "".join(widgets.html(name, FALLBACK, f"w{i}") for i, name in enumerate(NAMES))
    page = (
        '<main class="bd-main"><div class="bd-content"><article'
        f' class="bd-article">{body}</article></div></main>'
    )
    (tmp_path / "page.html").write_text(f"<html><body>{page}</body></html>", encoding="utf-8")
    for file in (widgets.SHARED, widgets.STYLES, *map(widgets.script, NAMES)):
        shutil.copy(STATIC / file, tmp_path / "_static")
    sheet = tmp_path / "_static" / widgets.STYLES

    def selectors() -> list[str]:
        found = re.findall(
            r"[^{}]+(?=\{)", re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"))
        )
        return [selector.strip() for selector in found]

    before = selectors()
    site.slim.purge_css(tmp_path, node_packages, site.node())
    assert selectors() == before


BOOK = {
    "_config.yml": (
        f"""title: Small
only_build_toc_files: true
html: {{favicon: ""}}
parse: {{myst_enable_extensions: [colon_fence]}}
sphinx:
  extra_extensions: [mmbook.ext.widgets]
  config: {{html_static_path: [{STATIC}], language: en}}
"""
    ),
    "_toc.yml": "format: jb-book\nroot: plain\nchapters:\n- file: play\n",
    "plain.md": "# Plain\n\nNothing to play with.\n",
}


def write_book(folder: Path, play: str) -> Path:
    folder.mkdir()
    for name, text in {**BOOK, "play.md": f"# Play\n\n{play}"}.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def loaded(page: BeautifulSoup) -> list[str]:
    tags: list[Any] = [*page.find_all("script", src=True), *page.find_all("link", rel="stylesheet")]
    paths = [(tag.get("src") or tag.get("href")).partition("?")[0] for tag in tags]
    return sorted(Path(path).name for path in paths if "widget" in path)


def test_directive_loads_its_files_where_it_stands_and_nowhere_else(tmp_path):
    name = NAMES[0]
    play = (
        f":::{{widget}} {name}\n\nThe *fallback*.\n\n:::\n\n```{{widget}} {name}\nAnother.\n```\n"
    )
    built = site.run_jupyter_book(write_book(tmp_path / "book", play), tmp_path / "out")
    page = BeautifulSoup((built / "play.html").read_text(encoding="utf-8"), "html.parser")
    assert [e.get_text(strip=True) for e in page.select(".widget-fallback")] == [
        "Thefallback.",
        "Another.",
    ]
    assert page.select_one(".widget-fallback em")
    idents = [tag["id"] for tag in page.select(".widget [id]")]
    assert len(idents) == len(set(idents)) > 0
    assert loaded(page) == sorted([widgets.SHARED, widgets.STYLES, widgets.script(name)])
    sources = [tag["src"] for tag in page.find_all("script", src=True) if "widget" in tag["src"]]
    assert widgets.SHARED in sources[0], "the shared script must come first"
    assert (
        loaded(BeautifulSoup((built / "plain.html").read_text(encoding="utf-8"), "html.parser"))
        == []
    )


@pytest.mark.parametrize(
    ("play", "said"),
    [
        (
            ":::{widget} low-rank-cots\n\nRead this.\n\n:::\n",
            "unknown widget 'low-rank-cots', expected one of",
        ),
        (":::{widget} low-rank-cost\n:::\n", "widget 'low-rank-cost' has no body"),
        (":::{widget} low-rank-cost\n\n\n:::\n", "widget 'low-rank-cost' has no body"),
        (":::{widget}\nRead this.\n:::\n", "1 argument(s) required"),
    ],
)
def test_mistakes_fail_the_build_and_say_where(tmp_path, capfd, play, said):
    with pytest.raises(site.SiteError, match="exit code 1"):
        site.run_jupyter_book(write_book(tmp_path / "book", f"First.\n\n{play}"), tmp_path / "out")
    lines = capfd.readouterr().err.splitlines()
    assert any(re.search(r"play\.md:5:", line) for line in lines), lines
    assert said in " ".join(lines)


def test_every_widget_stands_in_a_lesson_with_words_for_readers_without_scripts():
    cells = [
        "".join(cell["source"])
        for path in sorted((ROOT / "book").glob("*/*.ipynb"))
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "markdown"
    ]
    found = [
        (*match, cell)
        for cell in cells
        for match in re.findall(r"^:::\{widget\} (\S+)\n(.+?)^:::$", cell, re.M | re.S)
    ]
    assert sorted(name for name, _, _ in found) == sorted(NAMES)
    for name, body, cell in found:
        assert "`" in body, f"{name}: say how to ask the same of the package"
        assert cell.count("?") >= 1, f"{name}: ask a question"
