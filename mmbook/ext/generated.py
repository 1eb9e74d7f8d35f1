"""Parts of pages made while building: data cards, tables for teachers, and links to chapters that
may be planned."""

from collections.abc import Iterable
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import ReferenceRole

from mmbook import teaching
from mmbook.cards import card_markdown
from mmtutor.files import store

CARDS_PAGE = "book/data_cards"
CARDS_PLACE = "<!-- data cards -->"
TEACHING_PAGE = "book/teaching"


class ChapterRole(ReferenceRole):
    """{chapter}`Title <folder>`: a link to the folder's lesson, or the title and "planned" if there
    is none."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the link, or the title with its note."""
        page = f"book/{self.target}/lesson"
        if page not in self.env.found_docs:
            note = nodes.inline("", "planned", classes=["planned"])
            return [nodes.Text(f"{self.title} "), note], []
        link = addnodes.pending_xref(
            "",
            nodes.inline("", self.title),
            refdomain="std",
            reftype="doc",
            refexplicit=True,
            reftarget=f"/{page}",
        )
        link["refdoc"] = self.env.docname
        return [link], []


def insert(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the data cards, made from the packaged manifests, and the tables of the instructor's
    guide, read from the notebooks, at their places."""
    if page == TEACHING_PAGE:
        source[0] = teaching.insert(source[0], Path(app.srcdir))
    if page == CARDS_PAGE:
        if CARDS_PLACE not in source[0]:
            raise ValueError(f"{CARDS_PAGE} has no line {CARDS_PLACE!r} to put the cards at")
        cards = "\n\n".join(card_markdown(store.manifest(n)).strip() for n in store.names())
        source[0] = source[0].replace(CARDS_PLACE, cards)


def always_again(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> Iterable[str]:
    """Name the generated pages: what they are made from lies outside of their sources."""
    return {CARDS_PAGE, TEACHING_PAGE} & env.found_docs


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the role and the generated pages."""
    app.add_role("chapter", ChapterRole())
    app.connect("source-read", insert)
    app.connect("env-get-outdated", always_again)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
