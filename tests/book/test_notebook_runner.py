"""The runner: fresh kernel, stored outputs, measured cost; a failure or a missing set leaves the
file as it was."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import psutil
import pytest
import requests

from mmbook import execution, laws, notebooks
from mmbook.kernel import cell_timeout, environment, few_cores, watch_memory
from mmbook.reading import ROOT, Notebook
from mmtutor.files import download, store
from tests.book.builders import code, markdown, notebook, write


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    """Make every downloaded set unavailable: no mirror, an empty cache, no consent."""
    for name in ("MMTUTOR_DATA", "MMTUTOR_ACCEPT_LICENCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "no-data"))
    monkeypatch.setattr("sys.stdin", io.StringIO())  # nobody at a terminal to give consent


def lesson(tmp_path: Path, *extra, **own) -> Path:
    """Write a lesson that runs, with outputs and cost that are not true yet."""
    nb = notebook(*extra, **own)
    nb.cells = [cell for cell in nb.cells if "plt" not in cell.source and "glue" not in cell.source]
    nb.metadata["widgets"] = {"state": {}}
    nb.cells[2].metadata["ExecuteTime"] = {"start": "2026"}
    return write(nb, tmp_path / "lesson.ipynb")


def test_run_stores_outputs_and_cost(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "warm"))
    ballast = code(
        "import os, pathlib, time\nx = b'x' * 300_000_000\ntime.sleep(0.5)\nprint(len(x))"
    )
    where = code("print(pathlib.Path.cwd().name, os.listdir(os.environ['MMTUTOR_CACHE']))")
    path = lesson(tmp_path / "chapter", ballast, where, cost_note="A GPU does not help.")
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
    assert notebooks.main(["run", str(path)]) == 0
    nb = nbformat.read(path, as_version=4)
    own = nb.metadata.mmtutor
    assert [cell.id for cell in nb.cells] == ids, "cell ids are stable"
    assert "chapter []\n" in [o.text for c in nb.cells for o in c.get("outputs", [])], (
        "own folder, cold cache"
    )
    assert own.seconds >= 0.5 and 300 <= own.memory_mb < 2048, (
        "the measurement sees the sleep and the ballast"
    )
    assert nb.cells[1].source == execution.cost_text(own) and nb.cells[1].source.endswith(
        "A GPU does not help."
    )
    assert f"{own.memory_mb} MB" in nb.cells[1].source
    assert "widgets" not in nb.metadata and "ExecuteTime" not in nb.cells[2].metadata
    assert f"{own.seconds} s" in capsys.readouterr().out
    own.seconds = min(own.seconds, 60)  # a busy machine is no reason to fail here
    nb.cells[1].source = execution.cost_text(own)
    assert laws.check(Notebook(nb, "lesson.ipynb")) == []


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("{}['key']", "KeyError: 'key'"),
        ("import os; os._exit(1)", "Kernel died"),
        ("while True:\n    pass", "timed out"),
    ],
)
def test_a_failing_notebook_is_left_alone_and_its_cell_named(
    tmp_path, monkeypatch, capsys, source, part
):
    monkeypatch.setenv("MMTUTOR_CELL_SECONDS", "5" if part == "timed out" else "600")
    path = lesson(tmp_path, code(source))
    before = path.read_bytes()
    assert notebooks.main(["run", str(path)]) == 1
    printed = capsys.readouterr()
    place = [cell.source for cell in nbformat.read(path, as_version=4).cells].index(source)
    assert (
        f"cell {place} failed" in printed.out
        and part in printed.out
        and "lesson.ipynb" in printed.err
    )
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["lesson.ipynb"]


@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no SIGINT to send to a single process"
)
def test_an_interrupted_run_leaves_the_notebook_alone(tmp_path):
    flag = tmp_path / "started"
    path = lesson(
        tmp_path, code(f"import pathlib, time\npathlib.Path({str(flag)!r}).touch()\ntime.sleep(60)")
    )
    before = path.read_bytes()
    command = [sys.executable, "-m", "mmbook.notebooks", "run", str(path)]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    deadline = time.monotonic() + 300
    while not flag.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert flag.exists(), process.poll()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and errors.endswith(
        "stopped, this notebook was left as it was\n"
    ), errors
    assert "Traceback" not in errors and path.read_bytes() == before


def test_a_missing_set_skips_with_its_reason(tmp_path, no_data, capsys):
    path = lesson(tmp_path, code("raise SystemError('must not run')"), needs=["mvsa"])
    before = path.read_bytes()
    assert notebooks.main(["run", str(path)]) == 0
    printed = capsys.readouterr().out
    assert (
        "skipped, stored outputs kept: data set 'mvsa' cannot be had" in printed
        and "consent" in printed
    )
    assert path.read_bytes() == before


def test_a_source_out_of_reach_skips_with_the_set_and_the_network_as_reason(
    tmp_path, no_data, monkeypatch, capsys
):
    def no_network(*_, **__):
        raise requests.ConnectionError("name resolution failed")

    monkeypatch.setenv("MMTUTOR_ACCEPT_LICENCE", "mvsa")
    monkeypatch.setattr(requests.Session, "get", no_network)
    monkeypatch.setattr(download, "RETRIES", 0)  # the pause between tries is pooch's
    path = lesson(tmp_path, code("raise SystemError('must not run')"), needs=["mvsa"])
    before = path.read_bytes()
    assert notebooks.main(["run", str(path)]) == 0
    printed = capsys.readouterr().out
    host = urlsplit(store.manifest("mvsa").sources[0].raw_url_base).netloc
    assert (
        f"skipped, stored outputs kept: data set 'mvsa' cannot be had: no connection to {host}"
        in printed
    )
    assert "is there a network?" in printed and "consent" not in printed
    assert path.read_bytes() == before


def test_a_damaged_set_is_no_reason_to_skip(tmp_path, no_data, monkeypatch, capsys):
    damaged = tmp_path / "mirror" / "mvsa" / "files" / store.manifest("mvsa").files[0].path
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"damaged")
    monkeypatch.setenv("MMTUTOR_DATA", str(tmp_path / "mirror"))
    path = lesson(tmp_path, code("raise SystemError('must not run')"), needs=["mvsa"])
    before = path.read_bytes()
    assert notebooks.main(["run", str(path)]) == 1
    printed = capsys.readouterr()
    assert (
        "FAILED" in printed.out and "skipped" not in printed.out and "lesson.ipynb" in printed.err
    )
    assert f"{damaged} has 7 bytes" in printed.out
    assert path.read_bytes() == before


def test_an_unknown_set_is_no_reason_to_skip(tmp_path, no_data, capsys):
    assert notebooks.main(["run", str(lesson(tmp_path, needs=["mvsaa"]))]) == 1
    assert "unknown data set 'mvsaa'" in capsys.readouterr().out


def test_sets_in_the_users_cache_stay_reachable_with_a_cold_one(tmp_path, monkeypatch):
    monkeypatch.delenv("MMTUTOR_DATA", raising=False)
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "warm"))
    files = tmp_path / "warm" / "fsdd" / "files"
    files.mkdir(parents=True)
    (tmp_path / "cold").mkdir()
    execution.share_sets({"fsdd": files}, tmp_path / "cold")
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "cold"))
    assert store.locate(store.manifest("fsdd")).resolve() == files.resolve()


def test_check_prints_problems_and_fails(tmp_path, capsys):
    good, bad = (
        write(notebook(), tmp_path / "lesson.ipynb"),
        write(notebook(markdown("0.5")), tmp_path / "bad.ipynb"),
    )
    assert notebooks.main(["check", str(good)]) == 0
    assert capsys.readouterr().out == "all laws kept\n"
    assert notebooks.main(["check", str(tmp_path)]) == 1
    shown = r"bad\.ipynb:\d+: cell 7: the prose holds the typed number '0\.5'"
    assert re.search(shown, capsys.readouterr().out)
    assert bad.exists()


def test_checking_the_whole_book_prints_the_sizes_and_fails_above_one(monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "book_notebooks", lambda: [])
    assert notebooks.main(["check"]) == 0
    limit = notebooks.sizes.BOOK
    assert re.search(rf"^mmbook +\d+ +{limit}$", capsys.readouterr().out, re.MULTILINE)
    monkeypatch.setattr(notebooks.sizes, "BOOK", 7)
    assert notebooks.main(["check"]) == 1
    assert re.search(r"^mmbook: \d+ statements, at most 7$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("name", ["nowhere.ipynb", "empty"])
def test_a_wrong_path_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=f"{name} is no .*, and no folder that holds one"):
        notebooks.main(["check", str(tmp_path / name)])


def test_notebooks_come_in_the_order_of_the_table_of_contents(tmp_path):
    for name in (
        "01_b/lesson",
        "01_b/exercises",
        "02_a/lesson",
        "02_a/unlisted",
        "_build/x",
        "01_b/.ipynb_checkpoints/x",
    ):
        write(notebook(), tmp_path / "book" / f"{name}.ipynb")
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nparts:\n- chapters:\n  - file: book/02_a/lesson\n"
        "  - file: book/01_b/lesson\n    sections:\n    - file: book/01_b/exercises.ipynb\n"
    )
    found = [
        path.relative_to(tmp_path / "book").as_posix()
        for path in notebooks.book_notebooks(tmp_path)
    ]
    assert found == [
        "02_a/lesson.ipynb",
        "01_b/lesson.ipynb",
        "01_b/exercises.ipynb",
        "02_a/unlisted.ipynb",
    ]


def test_a_cell_may_take_ten_minutes_and_a_variable_changes_it(monkeypatch):
    monkeypatch.delenv("MMTUTOR_CELL_SECONDS", raising=False)
    assert cell_timeout() == 600
    monkeypatch.setenv("MMTUTOR_CELL_SECONDS", "30")
    assert cell_timeout() == 30
    for wrong in ("0", "-1", "soon"):
        monkeypatch.setenv("MMTUTOR_CELL_SECONDS", wrong)
        with pytest.raises(ValueError, match=f"MMTUTOR_CELL_SECONDS is '{wrong}'"):
            cell_timeout()


def test_environment_hides_no_warning_and_no_figure(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("MMTUTOR_DATA", "data")
    monkeypatch.chdir(tmp_path)
    env = environment(cache=tmp_path / "cold", ipython=tmp_path / "ipython")
    assert "PYTHONWARNINGS" not in env and "MPLBACKEND" not in env
    assert env["MMTUTOR_DATA"] == str(tmp_path.resolve() / "data"), (
        "the kernel starts in another folder"
    )
    assert env["MMTUTOR_CACHE"] == str(tmp_path / "cold") and env["IPYTHONDIR"] == str(
        tmp_path / "ipython"
    )


def test_memory_of_children_counts():
    script = "x = b'x' * 200_000_000; import time; time.sleep(1.5)"
    with watch_memory(os.getpid) as alone:
        time.sleep(0.3)
    with watch_memory(os.getpid) as together:
        subprocess.run([sys.executable, "-c", script], check=True)
    assert together.megabytes >= alone.megabytes + 200


def test_cores_are_given_back():
    process = psutil.Process()
    if not hasattr(process, "cpu_affinity"):
        pytest.skip("this system cannot bind a process to cores")
    before = process.cpu_affinity()
    with few_cores(1) as cores:
        assert cores == 1 and len(process.cpu_affinity()) == 1
    assert process.cpu_affinity() == before
