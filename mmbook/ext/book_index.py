"""The page "Index": each term of the glossary with its definition and the pages that use it.

What counts as a use is a {term} role, so the index follows the text and nobody keeps a list. The
names of another language stand behind the English one, and lead to the same entry.
"""

from collections.abc import Iterable
from itertools import groupby

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

PAGE, GLOSSARY = "book/index_of_terms", "book/glossary"
PLACE = "% index of terms"


def collect_uses(app: Sphinx, doctree: nodes.document) -> None:
    """Remember which terms a page names, before the roles become links."""
    links = doctree.findall(addnodes.pending_xref)
    terms = sorted({link["reftarget"] for link in links if link.get("reftype") == "term"})
    app.env.__dict__.setdefault("term_uses", {})[app.env.docname] = terms


def glossary(app: Sphinx) -> list[list[str]]:
    """Return the entries of the glossary in its order, each with all its names."""
    return [
        [term.astext() for term in item.findall(nodes.term)]
        for glossary in app.env.get_doctree(GLOSSARY).findall(addnodes.glossary)
        for item in glossary.findall(nodes.definition_list_item)
    ]


def link(app: Sphinx, page: str, text: str, place: str = "") -> nodes.reference:
    """Return a link from the index to another page of the book, or to a place in it."""
    address = app.builder.get_relative_uri(PAGE, page) + (f"#{place}" if place else "")
    return nodes.reference("", text, internal=True, refuri=address)


def pages_of(app: Sphinx, names: list[str]) -> list[str]:
    """Return the pages that use a term under any of its names, in the order of the table of
    contents."""
    wanted = {name.lower() for name in names}
    uses = app.env.__dict__.get("term_uses", {})
    order = [page for page in app.env.collect_relations() if page not in (PAGE, GLOSSARY)]
    return [page for page in order if wanted & {term.lower() for term in uses.get(page, [])}]


def short_title(app: Sphinx, page: str) -> str:
    """Return a page's title up to its colon, with the chapter's number in front."""
    title = app.env.titles[page].astext().partition(":")[0]
    folder = page.split("/")[-2]
    return f"{int(folder[:2])} {title}" if folder[:2].isdigit() else title


def entry(app: Sphinx, names: list[str]) -> nodes.definition_list_item:
    """Return one term with the pages that use it."""
    page, place = app.env.get_domain("std").objects["term", names[0]]
    term = nodes.term("", "", link(app, page, ", ".join(names), place))
    links = [link(app, used, short_title(app, used)) for used in pages_of(app, names)]
    parts = [part for used in links for part in (nodes.Text("; "), used)][1:]
    line = nodes.paragraph("", "", *parts or [nodes.Text("defined in the glossary only")])
    return nodes.definition_list_item("", term, nodes.definition("", line))


def write_index(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Put the index at the comment that marks its place, one heading for each letter."""
    if page != PAGE:
        return
    marks = [c for c in doctree.findall(nodes.comment) if c.astext().strip() == PLACE[2:]]
    if not marks:
        raise ValueError(f"{PAGE} has no line {PLACE!r} to put the index at")
    index: list[nodes.Node] = []
    entries = sorted(glossary(app), key=lambda names: names[0].lower())
    for letter, group in groupby(entries, key=lambda names: names[0][0].upper()):
        items = [entry(app, names) for names in group]
        index.append(nodes.rubric("", letter, classes=["letter"]))
        index.append(nodes.definition_list("", *items, classes=["index-of-terms"]))
    marks[0].replace_self(index)


def always_again(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> Iterable[str]:
    """Name the index: any other page may use other terms now."""
    return {PAGE} & env.found_docs


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the handlers."""
    app.connect("doctree-read", collect_uses)
    app.connect("doctree-resolved", write_index)
    app.connect("env-get-outdated", always_again)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
