"""The cell that prepares Colab: what it does there, that it does nothing elsewhere, and the law that keeps it."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.book.builders import notebook
from tools import launch, laws

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
NOTEBOOKS = sorted(p for p in (ROOT / "book").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


class Shell:
    """Stands for a notebook's shell: notes what a cell asks for, and does none of it."""

    def __init__(self, name: str) -> None:
        self.name, self.asked = name, []

    def __str__(self) -> str:
        return f"<{self.name} object at 0x1>"

    def system(self, line: str) -> None:
        self.asked.append(f"!{line.strip()}")

    def run_line_magic(self, magic: str, line: str) -> None:
        self.asked.append(f"%{magic} {line}")


def asked(shell: str) -> list[str]:
    """Return what the cell of chapter 5 asks of a shell of this name, the cell read as IPython reads it."""
    stands = Shell(shell)
    exec(TransformerManager().transform_cell(launch.source("book/05_decision_fusion")), {"get_ipython": lambda: stands})
    return stands.asked


def test_elsewhere_the_cell_does_nothing():
    assert asked("ipykernel.zmqshell.ZMQInteractiveShell") == []


def test_in_colab_it_fetches_installs_and_goes_to_the_folder_of_the_notebook():
    name = REPOSITORY["url"].rsplit("/", 1)[1]
    fetch, install, go = asked("google.colab._shell.Shell")
    assert fetch.startswith(f"![ -d ~/{name} ] || git clone ")  # a second run does not clone again
    assert f"--branch {REPOSITORY['branch']} {REPOSITORY['url']} ~/{name}" in fetch
    assert install == f"%pip install -q ~/{name}"
    assert go == f"%cd -q ~/{name}/book/05_decision_fusion"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_notebook_begins_with_it_and_the_page_leaves_it_out(path):
    nb = nbformat.read(path, as_version=4)
    first = next(cell for cell in nb.cells if cell.cell_type == "code")
    assert first.source == launch.source(path.parent.relative_to(ROOT).as_posix())
    assert first.metadata["tags"] == ["remove-cell"]
    assert first.outputs == []


def test_put_keeps_the_counts_of_a_run_and_is_put_once():
    nb = notebook()
    nb.cells.append(new_code_cell("1", execution_count=4, outputs=[new_output("execute_result", execution_count=4)]))
    assert launch.put(nb, "book/a")
    counts = [cell.execution_count for cell in nb.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert nb.cells[-1].outputs[0].execution_count == counts[-1]
    assert not launch.put(nb, "book/a")
    assert launch.put(nb, "book/b")
    assert [cell.get("id") for cell in nb.cells].count(launch.CELL) == 1
    fresh = new_notebook(cells=[new_code_cell("1 + 1")])
    launch.put(fresh, "book/a")
    assert [cell.execution_count for cell in fresh.cells] == [None, None]


def test_the_law_finds_an_absent_an_old_and_a_shown_cell():
    law, name = laws.LAWS["runs in Colab"], "book/05_decision_fusion/lesson.ipynb"
    nb = notebook()
    assert len(law(nb, name)) == 1
    launch.put(nb, "book/05_decision_fusion")
    assert law(nb, name) == []
    assert len(law(nb, "book/06_which_level/lesson.ipynb")) == 1
    nb.cells[launch.place(nb)].metadata["tags"] = []
    assert len(law(nb, name)) == 1
