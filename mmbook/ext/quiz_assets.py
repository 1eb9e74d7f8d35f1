"""Mark the right choices of quizzes, and load script and styles on the pages that have a quiz.

A quiz is plain folds (mmbook/reading/quizzes.py says how they are written) and works without the
script, which adds to each opened choice a mark, right or not, and below the last question how many
were right at the first try. Which choice is right depends on words of the book's language, so the
page carries the fact: the fold has the attribute data-right.
"""

from itertools import pairwise
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from mmbook.reading import is_right
from mmbook.words import words_of

SCRIPT, STYLES = "quiz.js", "quiz.css"
QUIZ = "quiz"  # class of the section that the script looks for
FOLD = "<details>"


def mark_right(app: Sphinx, doctree: nodes.document) -> None:
    """Give the section of a quiz its class, and the folds whose feedback says so data-right."""
    words = words_of()
    for section in doctree.findall(nodes.section):
        if section[0].astext().casefold() != words.quiz.casefold():
            continue
        section["classes"].append(QUIZ)
        for fold, feedback in pairwise(list(section.children)):
            html = fold.astext()
            if isinstance(fold, nodes.raw) and FOLD in html and is_right(feedback.astext(), words):
                marked = html.replace(FOLD, "<details data-right>")
                section.replace(fold, nodes.raw("", marked, format="html"))


def add_assets(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load script and style sheet where a section is a quiz."""
    sections = doctree.findall(nodes.section) if doctree is not None else ()
    if any(QUIZ in section["classes"] for section in sections):
        app.add_js_file(SCRIPT, loading_method="defer")
        app.add_css_file(STYLES)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both."""
    app.connect("doctree-read", mark_right)
    app.connect("html-page-context", add_assets)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
