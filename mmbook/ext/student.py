"""What students get from the site: a page of exercises leads to the student edition, and shows no
hidden check.

The rocket opens the branch that the site's workflow publishes (`mmbook.launch.STUDENTS`), the
download button a file of this site. With MMTUTOR_INSTRUCTOR=1 (`make book INSTRUCTOR=1`) the pages
show the hidden checks, and what stands in `{only} instructor`: for instructors' own machines.
"""

import os
import re
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx

from mmbook import launch
from mmbook.execution import save
from mmbook.exercises import for_class, for_page, student_edition

SHEET = re.compile(r"book/(\d\d_\w+)/exercises")


def hide(app: Sphinx, page: str, source: list[str]) -> None:
    """Let a page of exercises be made without its hidden checks."""
    if SHEET.fullmatch(page) and not app.config.mmbook_instructor:
        source[0] = nbformat.writes(for_page(nbformat.reads(source[0], as_version=4)))


def lead(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: nodes.Node) -> None:
    """Let the buttons of a page of exercises lead to the student edition."""
    if not (match := SHEET.fullmatch(page)):
        return
    name, branch = match[1], app.config.html_theme_options["repository_branch"]
    for group in context.get("header_buttons", ()):
        for button in group.get("buttons", ()) if isinstance(group, dict) else ():
            if group.get("label") == "launch-buttons" and "url" in button:
                address = button["url"].replace(f"{page}.ipynb", f"{name}/{name}.ipynb")
                button["url"] = re.sub(rf"(?<=[/=]){branch}(?=[/?&]|$)", launch.STUDENTS, address)
            if button.get("label") == "download-source-button":
                button["url"] = context["pathto"](f"student/{name}.ipynb", 1)


def write_editions(app: Sphinx, error: Exception | None) -> None:
    """Put the student editions beside the pages, and in the place of the sources that Sphinx
    copied."""
    if error or app.builder.name != "html":
        return
    for page in sorted(app.env.found_docs):
        if match := SHEET.fullmatch(page):
            nb = nbformat.read(app.env.doc2path(page), as_version=4)
            edition = student_edition(for_class(nb, match[1]))
            for name in (f"student/{match[1]}", f"_sources/{page}"):
                target = Path(app.outdir, f"{name}.ipynb")
                target.parent.mkdir(parents=True, exist_ok=True)
                save(edition, target)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the events, behind those of the theme and before the site is put at its place."""
    app.add_config_value("mmbook_instructor", bool(os.environ.get("MMTUTOR_INSTRUCTOR")), "env")
    if app.config.mmbook_instructor:
        app.tags.add("instructor")
    app.connect("source-read", hide)
    app.connect("html-page-context", lead, priority=900)
    app.connect("build-finished", write_editions, priority=500)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
