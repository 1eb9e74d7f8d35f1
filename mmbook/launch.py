"""The cells that a notebook begins with: one for Colab, which starts with an empty machine, and one
for each downloaded set that the page needs, which states its terms and asks for consent.

    python -m mmbook.launch     put the cells into every notebook of the book, or renew them

The repository's address comes from `_config.yml`, as for the launch buttons of the site. Anywhere
but in Colab the first cell does nothing; on the site it is not shown. Binder needs none: it
installs `environment.yml`. The other cells are shown: whoever runs the page reads them, and a set
that lies on the machine already is only looked for.
"""

import sys
import textwrap
from collections.abc import Iterator

import nbformat
import yaml
from nbformat import NotebookNode

from mmbook.reading import ROOT, Finding, Notebook, book_notebooks, label, tags
from mmtutor.files.manifest import manifest

CELL, SET = "colab", "set-"  # the cells' ids; that of a set goes on with its name
STUDENTS = "student"  # the branch to which the site's workflow publishes what students get
TAG = "remove-cell"  # jupyter-book's own tag for what a page does not show


def repository() -> tuple[str, str]:
    """Return the repository's address and branch."""
    named = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    return named["url"].rstrip("/"), named["branch"]


def package() -> str:
    """Return what pip installs for the notebooks: the package alone, without the book."""
    return "mmtutor[notebooks] @ git+{}@{}".format(*repository())


def source(folder: str) -> str:
    """Return the code of the cell for a notebook in `folder` (from the repository's root, with
    forward slashes)."""
    url, _ = repository()  # whose branch is the one that git clones by itself
    name = url.rsplit("/", 1)[1]
    return f"""\
# Colab starts empty: fetch the book and install its package.
# Elsewhere this does nothing.
if "google.colab" in str(get_ipython()):
    %cd -q ~
    ![ -d {name} ] || git clone -q --depth 1 {url}
    %pip install -q ~/{name}[notebooks]
    %cd -q ~/{name}/{folder}"""


def student_source(chapter: str) -> str:
    """Return the code of the cell in a chapter's student edition: no solution comes along."""
    return f"""\
# Colab starts empty: fetch the exercises, install the book's package. Elsewhere this does nothing.
if "google.colab" in str(get_ipython()):
    ![ -d ~/exercises ] || git clone -q --depth 1 --branch {STUDENTS} {repository()[0]} ~/exercises
    %pip install -q "{package()}"
    %cd -q ~/exercises/{chapter}"""


def terms(name: str) -> str:
    """Return the code of the cell for a set: what it is, from where, under which licence, and the
    reader's consent, which is false until somebody writes true."""
    data = manifest(name)
    places = " and ".join(f"github.com/{source.repo}" for source in data.sources)
    said = [
        f"This page needs the set {name!r}: {data.title}; {data.size}, from {places}.",
        f"Licence: {data.licence} Commercial use: {data.commercial}.",
        "If you agree, write True: the set is then downloaded, once. If you have it, leave False.",
    ]
    wrapped = [line for text in said for line in textwrap.wrap(text, 77)]
    return "\n".join(
        [
            *(f"# {line}" for line in wrapped),
            "ACCEPT = False",
            "from mmtutor import data",
            "",
            f'data.fetch("{name}", accept_licence=ACCEPT)',
        ]
    )


def first_cells(nb: NotebookNode, folder: str) -> list[NotebookNode]:
    """Return the cells that a notebook in `folder` has to begin with, as they are today."""
    colab = nbformat.v4.new_code_cell(source(folder), metadata={"tags": [TAG]}, id=CELL)
    needs = nb.metadata.get("mmtutor", {}).get("needs", [])
    return [colab, *(nbformat.v4.new_code_cell(terms(n), id=f"{SET}{n}") for n in needs)]


def ours(cell: NotebookNode) -> bool:
    """Return whether a cell is one of those made here."""
    return cell.get("id") == CELL or str(cell.get("id")).startswith(SET)


def look(cells: list[NotebookNode]) -> list[tuple[str, str, list[str]]]:
    """Return what has to agree with today's cells: id, code and tags of each."""
    return [(cell.get("id"), cell.source, tags(cell)) for cell in cells]


def put(nb: NotebookNode, folder: str) -> bool:
    """Put the cells before the first other code cell, or renew them; returns whether the notebook
    changed.

    They print nothing and define nothing that others use, so the outputs stored below them stay
    true: cells that were executed are counted anew, as a run from a fresh kernel would.
    """
    first = first_cells(nb, folder)
    others = [cell for cell in nb.cells if not ours(cell)]
    code = [cell for cell in others if cell.cell_type == "code"]
    if not code or look(first) == look([cell for cell in nb.cells if ours(cell)]):
        return False
    place, executed = others.index(code[0]), any(cell.execution_count for cell in code)
    nb.cells = [*others[:place], *first, *others[place:]]
    for count, cell in enumerate([*first, *code] if executed else (), start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    return True


def runs_in_colab(page: Notebook) -> Iterator[Finding]:
    """A law: a notebook of the book begins with today's cells for Colab, with its own folder, and
    for the sets it needs."""
    code = [cell for _, cell in page.cells("code")]
    if not page.name.startswith("book/") or not code:
        return
    first = first_cells(page.nb, page.name.rsplit("/", 1)[0])
    if look(code[: len(first)]) != look(first) or sum(map(ours, code)) != len(first):
        yield Finding(
            "the first code cells are not today's cells for Colab and the sets it needs: run"
            " `python -m mmbook.launch`",
            page.nb.cells.index(code[0]),
        )


def main() -> None:
    """Put the cells into every notebook of the book."""
    from mmbook.execution import save

    for path in book_notebooks():
        nb = nbformat.read(path, as_version=4)
        if put(nb, path.parent.relative_to(ROOT).as_posix()):
            save(nb, path)
            print(label(path))


if __name__ == "__main__":
    sys.exit(main())
