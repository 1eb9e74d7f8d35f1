"""Draw the schematics in the page itself, so that they follow its theme.

A page shows one as Markdown does, `![what it shows](figures/NAME.svg)`, which Jupyter draws as a
picture with the rules inside the file. Here the drawing replaces the picture, without these rules:
`_static/schematic.css` has them, for both themes.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

OWN_RULES = re.compile(r"<style>.*?</style>\s*", re.DOTALL)
SCHEMATIC = re.compile(r"(?:.*/)?figures/[\w-]+\.svg")


def inline(app: Sphinx, doctree: nodes.document) -> None:
    """Replace each picture of a schematic by the drawing; of one that is not there Sphinx warns."""
    folder = Path(app.env.doc2path(app.env.docname)).parent
    for image in list(doctree.findall(nodes.image)):
        path = folder / image["uri"]
        if SCHEMATIC.fullmatch(image["uri"]) and path.is_file():
            app.env.note_dependency(str(path.resolve()))
            drawing = OWN_RULES.sub("", path.read_text(encoding="utf-8"))
            # a drawing on a line of its own is no paragraph
            alone = isinstance(image.parent, nodes.paragraph) and len(image.parent) == 1
            replaced = image.parent if alone else image
            replaced.replace_self(nodes.raw("", drawing, format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the handler, before Sphinx collects the pictures (priority 500)."""
    app.connect("doctree-read", inline, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
