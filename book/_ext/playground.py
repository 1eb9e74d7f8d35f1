"""The directive `decision-playground`: sliders for three opinions, and what every decision rule makes of them.

The page carries the whole skeleton as HTML, hidden, after a fallback in Markdown (the directive's body).
`_static/decision_playground.js` computes in the reader's browser, fills the table and swaps the two; without it the
fallback stays. Its numbers are those of `mmtutor.fusion.decision`: tests/book/test_playground.py compares them.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

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
SCRIPT, STYLES = "decision_playground.js", "decision_playground.css"


def slider(ident: str, name: str, label: str, described_by: str = "") -> str:
    """Return a labelled slider from 0 to 100 with room beside it for what its position means."""
    described = f' aria-describedby="{described_by}"' if described_by else ""
    return (
        f'<div class="playground-slider"><label for="{ident}-{name}">{label}</label>'
        f'<input type="range" id="{ident}-{name}" name="{name}" min="0" max="100" step="1" value="50"{described}>'
        f'<span class="playground-number" data-shows="{name}"></span></div>\n'
    )


def witness(ident: str, modality: str) -> str:
    """Return the fieldset of one modality: is it present, what does it favour, how reliable is it."""
    there = f"{ident}-{modality}-present"
    return (
        f"<fieldset><legend>{modality}</legend>\n"
        f'<div class="playground-check"><input type="checkbox" id="{there}" name="{modality}-present" checked>'
        f'<label for="{there}">present</label></div>\n'
        + "".join(slider(ident, f"{modality}-{c}", f"favours {c}") for c in CLASSES)
        + slider(ident, f"{modality}-reliability", "reliability", f"{ident}-hint")
        + "</fieldset>\n"
    )


def controls(ident: str = "playground") -> str:
    """Return presets, sliders, table and summary, hidden until the script starts; ids begin with `ident`."""
    presets = "".join(f'<button type="button" data-preset="{key}">{label}</button>\n' for key, label in PRESETS.items())
    heads = "".join(f'<th scope="col">P({c})</th>' for c in CLASSES)
    rows = "".join(f'<tr data-rule="{key}"><th scope="row">{label}</th></tr>\n' for key, label in RULES.items())
    return f"""<div class="playground-live" role="group" aria-label="Playground of the decision rules" hidden>
<div class="playground-presets" role="group" aria-label="Examples to start from">
{presets}</div>
<div class="playground-witnesses">
{"".join(witness(ident, modality) for modality in MODALITIES)}</div>
<p class="playground-note" id="{ident}-hint">Reliability is the modality's weight in the weighted vote, the r of
Dempster–Shafer and the density of the fuzzy integrals. The other rules do not ask for it.</p>
<div class="playground-table" role="region" tabindex="0" aria-label="What each rule answers">
<table class="table"><caption>What each rule answers</caption>
<thead><tr><th scope="col">Rule</th>{heads}<th scope="col">Answer</th></tr></thead>
<tbody>
{rows}</tbody></table></div>
<p class="playground-note">Dempster–Shafer threw away a mass of <span class="playground-number" data-shows="conflict">
</span> because the witnesses contradict each other.</p>
<p class="playground-summary" aria-live="polite"></p>
</div>
"""


def opening(ident: str) -> str:
    """Return everything before the fallback."""
    return f'<div class="decision-playground">\n{controls(ident)}<div class="playground-fallback">\n'


def html(fallback: str = "", ident: str = "playground") -> str:
    """Return the whole playground as HTML, `fallback` (HTML too) standing where the directive's body goes."""
    return f"{opening(ident)}{fallback}</div></div>\n"


class PlaygroundNode(nodes.General, nodes.Element):
    """A playground; its children are the fallback."""


class PlaygroundDirective(SphinxDirective):
    """```{decision-playground}```, with the fallback in Markdown as its body."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the node; raise an error for an empty body, since some readers will see nothing else."""
        self.assert_has_content()
        node = PlaygroundNode("", ident=f"playground-{self.env.new_serialno('playground')}")
        self.set_source_info(node)
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


def visit(writer: Any, node: PlaygroundNode) -> None:
    """Write the skeleton; the children follow."""
    writer.body.append(opening(node["ident"]))


def depart(writer: Any, node: PlaygroundNode) -> None:
    """Close the fallback and the playground."""
    writer.body.append("</div></div>\n")


def pass_by(writer: Any, node: PlaygroundNode) -> None:
    """Write nothing: on paper only the fallback is of use."""


def add_assets(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Load script and style sheet on the pages that have a playground, and on no other."""
    if doctree is not None and next(doctree.findall(PlaygroundNode), None) is not None:
        app.add_js_file(SCRIPT, loading_method="defer")
        app.add_css_file(STYLES)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive, its node and the assets."""
    app.add_node(PlaygroundNode, html=(visit, depart), latex=(pass_by, pass_by), text=(pass_by, pass_by))
    app.add_directive("decision-playground", PlaygroundDirective)
    app.connect("html-page-context", add_assets)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
