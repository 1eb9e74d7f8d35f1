"""The directive `widget`: a small thing to play with in the page, without a kernel.

Its argument is a name from `WIDGETS`, its body the fallback in Markdown. The page carries the
widget's skeleton as HTML (`widgets.html.j2`), hidden, before the fallback; `_static/widget_*.js`
computes in the reader's browser, fills the skeleton and swaps the two. Without scripts and on paper
the fallback stays. The numbers are the package's: tests/book/test_widgets.py compares them.
"""

from pathlib import Path
from typing import Any

from docutils import nodes
from jinja2 import Environment, FileSystemLoader
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

SHARED, STYLES, SKELETONS = "widgets.js", "widgets.css", "widgets.html.j2"
WIDGETS = {  # name → what a reader hears it called
    "decision-rules": "Playground of the decision rules",
    "low-rank-cost": "Parameters of three joins",
    "gate-information": "Information of a gate",
    "dtw-path": "Path between two signals",
    "robustness-curve": "Accuracy while one of two witnesses gets worse",
}
# What the skeletons show, by the scripts' names for it
GATES = ("XOR", "AND", "OR", "COPY", "UNIQUE")
PARTS = {  # the script's name for it → what the reader sees, and the letter in the bar
    "redundant": ("Redundant", "R"),
    "unique1": ("Unique 1", "1"),
    "unique2": ("Unique 2", "2"),
    "synergy": ("Synergy", "S"),
}
LINES = {  # the script's name for it → what the reader sees
    "product": "Product, calibrated in training",
    "without": "A alone",
    "alone": "B alone",
    "best": "Best possible",
}
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


def skeletons() -> Any:
    """Return the templates, whose macros are the skeletons."""
    words = {name: value for name, value in globals().items() if name.isupper()}
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent))
    return environment.get_template(SKELETONS, globals=words).module


def opening(name: str, ident: str) -> str:
    """Return everything before the fallback; `ident` keeps the ids of two widgets apart."""
    skeleton = getattr(skeletons(), name.replace("-", "_"))(ident)
    return (
        f'<div class="widget" data-widget="{name}">\n'
        f'<div class="widget-live" role="group" aria-label="{WIDGETS[name]}" hidden>\n'
        f'{skeleton}<p class="widget-summary" aria-live="polite"></p>\n</div>\n'
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
