"""Load the quizzes' script and styles on the pages that have a quiz.

A quiz is plain folds (mmbook/laws/quiz.py says how they are written) and works without the script,
which adds to each opened choice a mark, right or not, and below the last question how many were
right at the first try.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

SCRIPT, STYLES = "quiz.js", "quiz.css"


def add_assets(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load script and style sheet where a section has the name that the script looks for."""
    if doctree is not None and any(
        "quiz" in section["ids"] for section in doctree.findall(nodes.section)
    ):
        app.add_js_file(SCRIPT, loading_method="defer")
        app.add_css_file(STYLES)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the assets."""
    app.connect("html-page-context", add_assets)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
