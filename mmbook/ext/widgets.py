"""The directive `widget`: a small thing to play with in the page, without a kernel.

Its argument is a name from `WIDGETS`, its body the fallback in Markdown. The page carries the
widget's skeleton as HTML, hidden, before the fallback; `_static/widget_*.js` computes in the
reader's browser, fills the skeleton and swaps the two. Without scripts and on paper the fallback
stays. The numbers are the package's: tests/book/test_widgets.py compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

SHARED, STYLES = "widgets.js", "widgets.css"


class Widget(NamedTuple):
    """What a reader hears it called, and its skeleton: a function of the prefix that keeps ids
    apart."""

    label: str
    skeleton: Callable[[str], str]


def slider(
    ident: str,
    name: str,
    label: str,
    span: tuple[int, int],
    value: int,
    kind: str = "",
    described_by: str = "",
) -> str:
    """Return a labelled slider over whole numbers, with room beside it for what its position means.

    kind: a class beside `widget-slider`; described_by: the id of a note on what the slider is for.
    """
    described = f' aria-describedby="{described_by}"' if described_by else ""
    return (
        f'<div class="{f"widget-slider {kind}".strip()}"><label'
        f' for="{ident}-{name}">{label}</label><input type="range" id="{ident}-{name}"'
        f' name="{name}" min="{span[0]}" max="{span[1]}" step="1" value="{value}"{described}><span'
        f' class="widget-number" data-shows="{name}"></span></div>\n'
    )


def table(caption: str, heads: tuple[str, ...], rows: dict[str, str]) -> str:
    """Return a table with one empty cell beside each row's head; rows: the script's name for it →
    what is read."""
    columns = "".join(f'<th scope="col">{head}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{label}</th><td class="widget-number"'
        f' data-shows="{name}"></td></tr>\n'
        for name, label in rows.items()
    )
    return (
        f'<div class="widget-table"><table class="table"><caption>{caption}</caption>\n'
        f"<thead><tr>{columns}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def low_rank_cost(ident: str) -> str:
    """Sliders for the sizes of a join; the parameters of three joins, and the rank that ends the
    saving."""
    return (
        '<div class="widget-sliders">\n'
        + slider(ident, "modalities", "modalities", (2, 4), 3)
        + slider(ident, "features", "features each", (1, 64), 32)
        + slider(ident, "outputs", "outputs", (1, 64), 64)
        + slider(ident, "rank", "rank", (1, 64), 4)
        + "</div>\n"
        + table(
            "Parameters; the bars are logarithmic",
            ("Join", "Parameters"),
            {"concat": "Concat", "tensor": "Tensor", "lowRank": "Low rank"},
        )
        + '<p class="widget-note">A linear layer stands behind concat and tensor. Behind the tensor'
        ' it has no bias: the product of the leading ones is one.</p>\n<p class="widget-note">Low'
        ' rank stops being cheaper than the tensor at rank <span class="widget-number"'
        ' data-shows="limit"></span>.</p>\n'
    )


GATES = ("XOR", "AND", "OR", "COPY", "UNIQUE")
PARTS = {  # the script's name for it → what the reader sees, and the letter in the bar
    "redundant": ("Redundant", "R"),
    "unique1": ("Unique 1", "1"),
    "unique2": ("Unique 2", "2"),
    "synergy": ("Synergy", "S"),
}


def choice(ident: str, name: str, legend: str, values: tuple[str, ...]) -> str:
    """Return a fieldset of which one value is chosen, at first the first."""
    buttons = "".join(
        f'<span><input type="radio" id="{ident}-{name}-{value}" name="{ident}-{name}"'
        f' data-field="{name}" value="{value}"{" checked" if value == values[0] else ""}><label'
        f' for="{ident}-{name}-{value}">{value}</label></span>\n'
        for value in values
    )
    return f'<fieldset class="widget-choice"><legend>{legend}</legend>\n{buttons}</fieldset>\n'


def gate_information(ident: str) -> str:
    """A gate and how its bits are thrown; the four parts of what the bits tell about its answer."""

    def letter(name: str) -> str:
        return (
            f'<span class="widget-letter widget-{name}" aria-hidden="true">{PARTS[name][1]}</span> '
        )

    stretches = "".join(
        f'<span class="widget-{name}" data-part="{name}">{short}</span>'
        for name, (_, short) in PARTS.items()
    )
    return (
        choice(ident, "gate", "Gate", GATES)
        + '<div class="widget-sliders">\n'
        + slider(ident, "one", "P(x1 = 1)", (0, 100), 50)
        + slider(ident, "two", "P(x2 = 1)", (0, 100), 50)
        + slider(ident, "flip", "flipped bits", (0, 50), 0)
        + "</div>\n"
        + f'<div class="widget-stack" role="img" aria-label="Nothing yet">{stretches}</div>\n'
        + '<p class="widget-note">The whole bar is the uncertainty about Y. What noise leaves open'
        " stays empty.</p>\n"
        + table(
            "Parts of I(X1, X2; Y) by imin, in nats",
            ("Part", "Nats"),
            {name: letter(name) + label for name, (label, _) in PARTS.items()}
            | {"told": "All four, I(X1, X2; Y)", "whole": "Uncertainty, H(Y)"},
        )
    )


def dtw_path(ident: str) -> str:
    """Sliders that bend the time of a signal; the path between the signal and its bent copy, drawn
    and counted."""
    return (
        '<div class="widget-sliders">\n'
        + slider(ident, "shift", "B starts later", (0, 6), 1)
        + slider(ident, "stretch", "length of B", (50, 150), 100)
        + slider(ident, "pause", "pause in B", (0, 6), 3)
        + "</div>\n"
        + '<svg class="widget-picture" viewBox="0 0 300 182" role="img" aria-label="Nothing'
        ' yet"></svg>\n'
        + '<p class="widget-note">Each line joins a sample of A with a sample of B. Dashed lines'
        " cost something: the two samples differ.</p>\n"
        + table(
            "What the path costs",
            ("Measure", "Value"),
            {
                "straight": "Cost, sample by sample",
                "total": "Cost along the path",
                "links": "Links in the path",
                "meet": "Most links at one sample of A",
            },
        )
    )


LINES = {  # the script's name for it → what the reader sees
    "product": "Product, calibrated in training",
    "without": "A alone",
    "alone": "B alone",
    "best": "Best possible",
}


def robustness_curve(ident: str) -> str:
    """Sliders for the noise in two witnesses, in training and in the test; four curves and what
    they say here."""

    def sample(name: str) -> str:
        return (
            '<svg class="widget-sample" viewBox="0 0 24 6" aria-hidden="true" focusable="false">'
            f'<line class="widget-line widget-line-{name}" x1="0" x2="24" y1="3" y2="3"/></svg> '
        )

    return (
        '<div class="widget-sliders">\n'
        + slider(ident, "a", "noise in A", (5, 40), 10)
        + slider(ident, "trained", "B in training", (5, 40), 10)
        + slider(ident, "b", "B at the test", (2, 60), 10)
        + "</div>\n"
        + '<svg class="widget-picture" viewBox="0 0 300 180" role="img" aria-label="Nothing'
        ' yet"></svg>\n'
        + '<p class="widget-note">Noise: standard deviation, where the signal is ±1. The upright'
        " line is the noise of training.</p>\n"
        + table(
            "At this noise",
            ("Measure", "Value"),
            {name: sample(name) + label for name, label in LINES.items()}
            | {"gain": "Effective robustness, e", "share": "Share of the gain that is left, r"},
        )
        + '<p class="widget-note">A alone is better where the noise in B is above '
        '<span class="widget-number" data-shows="crossing"></span>.</p>\n'
    )


MODALITIES = ("image", "text", "audio")
CLASSES = ("A", "B", "C")
RULES = {  # the script's name for it → what the reader sees
    "average": "Average",
    "weightedVote": "Weighted vote",
    "majorityVote": "Majority vote",
    "productRule": "Product rule",
    "dempsterShafer": "Dempster–Shafer",
    "choquet": "Choquet integral",
    "sugeno": "Sugeno integral",
    "fuzzyRules": "Fuzzy rules",
}
PRESETS = {
    "agree": "All agree",
    "dissent": "One dissents",
    "conflict": "Total conflict",
    "copies": "Two copies of one witness",
    "absent": "One is absent",
}


def witness(ident: str, modality: str) -> str:
    """Return the fieldset of one modality: is it present, what does it favour, how reliable is
    it."""
    there = f"{ident}-{modality}-present"
    names = {f"{modality}-{c}": f"favours {c}" for c in CLASSES} | {
        f"{modality}-reliability": "reliability"
    }
    notes = {f"{modality}-reliability": f"{ident}-hint"}
    sliders = (
        slider(ident, n, text, (0, 100), 50, "rules-slider", notes.get(n, ""))
        for n, text in names.items()
    )
    return (
        f"<fieldset><legend>{modality}</legend>\n"
        f'<div class="rules-check"><input type="checkbox" id="{there}" name="{modality}-present"'
        " checked>"
        f'<label for="{there}">present</label></div>\n{"".join(sliders)}</fieldset>\n'
    )


def decision_rules(ident: str) -> str:
    """Sliders for three opinions, examples to start from, and what every decision rule makes of
    them."""
    presets = "".join(
        f'<button type="button" data-preset="{key}">{label}</button>\n'
        for key, label in PRESETS.items()
    )
    heads = "".join(f'<th scope="col">P({c})</th>' for c in CLASSES)
    rows = "".join(
        f'<tr data-rule="{key}"><th scope="row">{label}</th></tr>\n' for key, label in RULES.items()
    )
    return f"""<div class="rules-presets" role="group" aria-label="Examples to start from">
{presets}</div>
<div class="rules-witnesses">
{"".join(witness(ident, modality) for modality in MODALITIES)}</div>
<p class="widget-note" id="{ident}-hint">Reliability is the modality's weight in the weighted vote, the r of
Dempster–Shafer and the density of the fuzzy integrals. The other rules do not ask for it.</p>
<div class="widget-table rules-table" role="region" tabindex="0" aria-label="What each rule answers">
<table class="table"><caption>What each rule answers</caption>
<thead><tr><th scope="col">Rule</th>{heads}<th scope="col">Answer</th></tr></thead>
<tbody>
{rows}</tbody></table></div>
<p class="widget-note">Dempster–Shafer threw away a mass of <span class="widget-number" data-shows="conflict">
</span> because the witnesses contradict each other.</p>
"""


WIDGETS = {
    "decision-rules": Widget("Playground of the decision rules", decision_rules),
    "low-rank-cost": Widget("Parameters of three joins", low_rank_cost),
    "gate-information": Widget("Information of a gate", gate_information),
    "dtw-path": Widget("Path between two signals", dtw_path),
    "robustness-curve": Widget("Accuracy while one of two witnesses gets worse", robustness_curve),
}


def opening(name: str, ident: str) -> str:
    """Return everything before the fallback."""
    widget = WIDGETS[name]
    return (
        f'<div class="widget" data-widget="{name}">\n'
        f'<div class="widget-live" role="group" aria-label="{widget.label}" hidden>\n'
        f'{widget.skeleton(ident)}<p class="widget-summary" aria-live="polite"></p>\n</div>\n'
        '<div class="widget-fallback">\n'
    )


def html(name: str, fallback: str = "", ident: str = "widget") -> str:
    """Return a whole widget as HTML, `fallback` (HTML too) standing where the directive's body
    goes."""
    return f"{opening(name, ident)}{fallback}</div></div>\n"


def script(name: str) -> str:
    """Return the file in `_static` that computes the widget `name`."""
    return f"widget_{name.replace('-', '_')}.js"


class WidgetNode(nodes.General, nodes.Element):
    """A widget; its children are the fallback."""


class WidgetDirective(SphinxDirective):
    """`:::{widget} NAME`, with the fallback in Markdown as its body."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the node; raise an error, with file and line, for an unknown name and for an empty
        body."""
        name = self.arguments[0]
        if name not in WIDGETS:
            raise self.error(f"unknown widget {name!r}, expected one of: {', '.join(WIDGETS)}")
        if not any(line.strip() for line in self.content):
            raise self.error(
                f"widget {name!r} has no body: write there what is read where scripts do not run"
            )
        node = WidgetNode("", name=name, ident=f"widget-{self.env.new_serialno('widget')}")
        self.set_source_info(node)
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


def visit(writer: Any, node: WidgetNode) -> None:
    """Write the skeleton; the children follow."""
    writer.body.append(opening(node["name"], node["ident"]))


def depart(writer: Any, node: WidgetNode) -> None:
    """Close the fallback and the widget."""
    writer.body.append("</div></div>\n")


def pass_by(writer: Any, node: WidgetNode) -> None:
    """Write nothing: on paper only the fallback is of use."""


def add_assets(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load the scripts and the style sheet that the page's widgets need, and none where there is no
    widget."""
    names = (
        sorted({node["name"] for node in doctree.findall(WidgetNode)})
        if doctree is not None
        else []
    )
    if names:
        for file in (SHARED, *map(script, names)):
            app.add_js_file(file, loading_method="defer")
        app.add_css_file(STYLES)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive, its node and the assets."""
    app.add_node(
        WidgetNode, html=(visit, depart), latex=(pass_by, pass_by), text=(pass_by, pass_by)
    )
    app.add_directive("widget", WidgetDirective)
    app.connect("html-page-context", add_assets)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
