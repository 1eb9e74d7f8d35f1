"""The cell that makes a notebook run in Colab, which starts with an empty machine.

    python -m mmbook.launch     put the cell into every notebook of the book, or bring it up to date

The repository's address comes from `_config.yml`, as for the launch buttons of the site. Anywhere
but in Colab the cell does nothing; on the site it is not shown. Binder needs none: it installs
`environment.yml`.
"""

import sys
from collections.abc import Iterator

import nbformat
import yaml
from nbformat import NotebookNode

from mmbook.reading import ROOT, Finding, Notebook, book_notebooks, label, tags

CELL = "colab"  # the cell's id
TAG = "remove-cell"  # jupyter-book's own tag for what a page does not show


def source(folder: str) -> str:
    """Return the code of the cell for a notebook in `folder` (from the repository's root, with
    forward slashes)."""
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    url, branch = repository["url"], repository["branch"]
    name = url.rstrip("/").rsplit("/", 1)[1]
    return f"""\
# Colab starts empty: fetch the book and install its package. Elsewhere this does nothing.
if "google.colab" in str(get_ipython()):
    ![ -d ~/{name} ] || git clone -q --depth 1 --branch {branch} {url} ~/{name}
    %pip install -q ~/{name}[notebooks]
    %cd -q ~/{name}/{folder}"""


def place(nb: NotebookNode) -> int | None:
    """Return where the cell stands in a notebook, None where it is absent."""
    return next((n for n, cell in enumerate(nb.cells) if cell.get("id") == CELL), None)


def put(nb: NotebookNode, folder: str) -> bool:
    """Put the cell before the first other code cell, or renew its code; returns whether the
    notebook changed.

    It prints and defines nothing, so the outputs stored below it stay true: cells that were
    executed are counted anew, as a run from a fresh kernel would.
    """
    today = source(folder)
    if (here := place(nb)) is not None:
        before, nb.cells[here].source = nb.cells[here].source, today
        return before != today
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    if not code:
        return False
    executed = any(cell.execution_count for cell in code)
    ours = nbformat.v4.new_code_cell(today, metadata={"tags": [TAG]}, id=CELL)
    nb.cells.insert(nb.cells.index(code[0]), ours)
    for count, cell in enumerate([ours, *code] if executed else (), start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    return True


def runs_in_colab(page: Notebook) -> Iterator[Finding]:
    """A law: in a notebook of the book the first code cell prepares Colab, with today's address and
    its own folder."""
    code = [cell for _, cell in page.cells("code")]
    if not page.name.startswith("book/") or not code:
        return
    today = (code[0].get("id"), code[0].source) == (CELL, source(page.name.rsplit("/", 1)[0]))
    hidden = all(TAG in tags(cell) for cell in code if cell.get("id") == CELL)
    if not (today and hidden):
        yield Finding(
            "the first code cell is not today's cell for Colab: run `python -m mmbook.launch`",
            page.nb.cells.index(code[0]),
        )


def main() -> None:
    """Put the cell into every notebook of the book."""
    from mmbook.execution import save

    for path in book_notebooks():
        nb = nbformat.read(path, as_version=4)
        if put(nb, path.parent.relative_to(ROOT).as_posix()):
            save(nb, path)
            print(label(path))


if __name__ == "__main__":
    sys.exit(main())
