"""The page "Index": each term of the glossary with its definition and the pages that use it.

What counts as a use is a {term} role, so the index follows the text and nobody keeps a list. The
names of another language stand behind the English one, and lead to the same entry.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

PAGE = "book/index_of_terms"
PLACE = "% index of terms"


class UsesOfTerms(nodes.General, nodes.Element):
    """Stands where the index will be, until every page has been read."""


def remember_place(app: Sphinx, doctree: nodes.document) -> None:
    """Put the placeholder at the comment of the page."""
    if app.env.docname != PAGE:
        return
    comments = [c for c in doctree.findall(nodes.comment) if c.astext().strip() == PLACE[2:]]
    if not comments:
        raise ValueError(f"{PAGE} has no line {PLACE!r} to put the index at")
    comments[0].replace_self(UsesOfTerms())


def collect_uses(app: Sphinx, doctree: nodes.document) -> None:
    """Remember which terms a page names, before the roles become links."""
    uses = app.env.__dict__.setdefault("term_uses", {})
    terms = {
        n["reftarget"] for n in doctree.findall(addnodes.pending_xref) if n.get("reftype") == "term"
    }
    uses[app.env.docname] = sorted(terms)


def glossary(app: Sphinx) -> list[list[str]]:
    """Return the entries of the glossary in its order, each with all its names."""
    found: list[list[str]] = []
    for node in app.env.get_doctree("book/glossary").findall(addnodes.glossary):
        for item in node.findall(nodes.definition_list_item):
            found.append([term.astext() for term in item.findall(nodes.term)])
    return found


def link(app: Sphinx, here: str, page: str, text: str, place: str = "") -> nodes.reference:
    """Return a link from the page `here` to another page of the book, or to a place in it."""
    address = app.builder.get_relative_uri(here, page) + (f"#{place}" if place else "")
    return nodes.reference("", text, internal=True, refuri=address)


def pages_of(app: Sphinx, names: list[str]) -> list[str]:
    """Return the pages that use a term under any of its names, in the order of the table of
    contents."""
    wanted = {name.lower() for name in names}
    uses = app.env.__dict__.get("term_uses", {})
    order = [page for page in app.env.collect_relations() if page not in (PAGE, "book/glossary")]
    return [page for page in order if wanted & {term.lower() for term in uses.get(page, [])}]


def short_title(app: Sphinx, page: str) -> str:
    """Return a page's title up to its colon, with the chapter's number in front."""
    title = app.env.titles[page].astext().partition(":")[0]
    folder = page.split("/")[-2]
    return f"{int(folder[:2])} {title}" if folder[:2].isdigit() else title


def entry(app: Sphinx, here: str, names: list[str]) -> nodes.definition_list_item:
    """Return one term with the pages that use it."""
    objects = app.env.get_domain("std").objects
    page, place = objects["term", names[0]]
    term = nodes.term("", "", link(app, here, page, ", ".join(names), place))
    line = nodes.paragraph()
    for number, used in enumerate(pages_of(app, names)):
        line += [nodes.Text("; ")] * bool(number)
        line += link(app, here, used, short_title(app, used))
    if not line.children:
        line += nodes.Text("defined in the glossary only")
    return nodes.definition_list_item("", term, nodes.definition("", line))


def write_index(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Replace the placeholder by the index, one heading for each letter."""
    for place in list(doctree.findall(UsesOfTerms)):
        letters: dict[str, list[list[str]]] = defaultdict(list)
        for names in sorted(glossary(app), key=lambda names: names[0].lower()):
            letters[names[0][0].upper()].append(names)
        found: list[nodes.Node] = []
        for letter, group in sorted(letters.items()):
            found.append(nodes.rubric("", letter, classes=["letter"]))
            items = [entry(app, page, names) for names in group]
            found.append(nodes.definition_list("", *items, classes=["index-of-terms"]))
        place.replace_self(found)


def always_again(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> Iterable[str]:
    """Name the index: any other page may use other terms now."""
    return {PAGE} & env.found_docs


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the handlers."""
    app.add_node(UsesOfTerms)
    app.connect("doctree-read", remember_place)
    app.connect("doctree-read", collect_uses)
    app.connect("doctree-resolved", write_index)
    app.connect("env-get-outdated", always_again)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
