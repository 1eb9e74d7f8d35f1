"""The plugin bites: a change beyond the stated tolerance fails, one within it passes, a skip names
its reason."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_output

from mmbook.compare import STRICT, Tolerance, numbers, parse_tolerance, text_difference
from mmbook.reading import ROOT
from tests.book.builders import code, glued, markdown, notebook, number, picture, stdout, write
from tests.nbval_plugin import outputs_difference

LOOSE = Tolerance(absolute=0.02)

# texts
# -------------------------------------------------------------------------------------------------


def test_numbers_are_found():
    text = (
        "-1.2e-3, .5, 1,797 of nan, inf or -inf; 61.0% and [0.610, 0.658] +3 −4 in resnet18,"
        " v2.1, 3-5"
    )
    expected = [-0.0012, 0.5, 1797, float("inf"), float("-inf"), 61, 0.610, 0.658, 3, -4, 3, 5]
    found = numbers(text)
    assert [n for n in found if n == n] == expected and len(found) == len(expected) + 1


@pytest.mark.parametrize(
    ("stored", "new"),
    [
        ("accuracy 0.61", "accuracy 0.63"),
        ("[0.610, 0.658]", "[0.600, 0.670]"),
        ("a     0.99 |", "a    1.00 |"),
        ("x  9.99\n-------", "x 10.00\n--------"),
        ("[ 0.01 -0.01]", "[-0.01  0.01]"),
        ("nan of 3", "nan of 3.0"),
        ("<td>0.5</td>", "<td>0.51</td>"),
        ("-1.2e-3", "+1.2e-3"),
        ("1,797.00 rows", "1797.01 rows"),
    ],
)
def test_within_the_tolerance(stored, new):
    assert text_difference(stored, new, LOOSE) is None
    assert text_difference(stored, new, STRICT) is not None


@pytest.mark.parametrize(
    ("stored", "new", "part"),
    [
        ("accuracy 0.61", "accuracy 0.6301", "0.61 became 0.6301"),
        ("accuracy 0.61", "Accuracy 0.61", "words"),
        ("0.61 %", "0.61", "words"),
        ("resnet18 0.61", "resnet50 0.61", "words"),
        ("0.5 0.6", "0.5", "words"),
        ("nan", "0.0", "nan became"),
        ("inf", "-inf", "inf became"),
        ("inf", "1e300", "inf became"),
        ("1.0", "nan", "became nan"),
        ("a 1\nb 2", "a 1", "line 2: 'b 2' is missing"),
        ("a 1", "a 1\nb 2", "line 2: 'b 2' is new"),
        ("1,797", "1,798", "1,797 became 1,798"),
    ],
)
def test_beyond_the_tolerance(stored, new, part):
    assert part in text_difference(stored, new, LOOSE)


def test_relative_tolerance_is_of_the_stored_number():
    assert text_difference("100", "105", Tolerance(relative=0.05)) is None
    assert text_difference("100", "105.1", Tolerance(relative=0.05))
    assert parse_tolerance(["tol:0.02", "hide-cell", "rtol:5e-2"]) == Tolerance(0.02, 0.05)


def test_strict_means_every_character():
    assert (
        text_difference("a b\n", "a  b\n")
        and text_difference("a\n", "a")
        and not text_difference("a\n", "a\n")
    )


# outputs
# -------------------------------------------------------------------------------------------------


def html(text: str):
    return new_output("display_data", data={"text/html": text, "text/plain": "table"})


AGREEING = {
    "text": ([stdout("a 1\n")], [stdout("a 1\n")], []),
    "text in tolerance": ([stdout("a 0.61\n")], [stdout("a 0.62\n")], ["tol:0.01"]),
    "stream in pieces": ([stdout("a 1\nb\n")], [stdout("a 1\n"), stdout("b\n")], []),
    "table in tolerance": ([html("<td>0.61</td>")], [html("<td>0.62</td>")], ["tol:0.01"]),
    "picture": ([picture("aaaa")], [picture("bbbb")], []),
    "glued in its own tolerance": ([glued("a", "0.61", 0.02)], [glued("a", "0.63", 0.02)], []),
    "time": ([stdout("took 1.2 s\n")], [stdout("took 12.5 s\n")], ["prints-time"]),
    "path": ([stdout("in a\n")], [stdout("in b\n")], ["prints-path"]),
}
DIFFERING = {
    "text": ([stdout("a 1\n")], [stdout("a 2\n")], [], "stored 'a 1', now 'a 2'"),
    "word": ([stdout("up 0.61\n")], [stdout("down 0.61\n")], ["tol:0.01"], "words differ"),
    "beyond tolerance": (
        [stdout("a 0.61\n")],
        [stdout("a 0.63\n")],
        ["tol:0.01"],
        "0.61 became 0.63",
    ),
    "table": ([html("<td>0.61</td>")], [html("<td>0.63</td>")], ["tol:0.01"], "text/html: line 1"),
    "no picture any more": ([picture()], [], [], "1 outputs stored, now 0"),
    "a picture more": ([], [picture()], [], "0 outputs stored, now 1"),
    "text instead of picture": ([picture()], [html("x")], [], "stored as ['image/png'"),
    "nothing printed": ([stdout("a\n")], [], [], "streams stored: ['stdout'], now: []"),
    "stderr": ([], [new_output("stream", name="stderr", text="oh")], [], "stderr:\noh"),
    "stderr also stored": (
        [new_output("stream", name="stderr", text="oh")],
        [new_output("stream", name="stderr", text="oh")],
        [],
        "stderr",
    ),
    "glued": ([glued("a", "0.61", 0.01)], [glued("a", "0.63", 0.01)], [], "a: line 1"),
    "tolerance comes from the stored output": (
        [glued("a", "0.61", 0)],
        [glued("a", "0.63", 0.5)],
        [],
        "a: line 1",
    ),
    "cell tag does not loosen glue": (
        [glued("a", "0.61", 0)],
        [glued("a", "0.62", 0)],
        ["tol:0.1"],
        "a: line 1",
    ),
    "glued name": ([glued("a", "0.61")], [glued("b", "0.61")], [], "now it is 'b'"),
    "kind": (
        [html("x")],
        [new_output("execute_result", data={"text/html": "x"})],
        [],
        "now it is a execute_result",
    ),
    "word beside a time": (
        [stdout("took 1.2 s\n")],
        [stdout("took 1.2 ms\n")],
        ["prints-time"],
        "words differ",
    ),
    "path gone": ([stdout("in a\n")], [], ["prints-path"], "streams stored"),
}


@pytest.mark.parametrize(("stored", "new", "tags"), AGREEING.values(), ids=AGREEING)
def test_outputs_that_agree(stored, new, tags):
    assert outputs_difference_of(stored, new, tags) is None


@pytest.mark.parametrize(("stored", "new", "tags", "part"), DIFFERING.values(), ids=DIFFERING)
def test_outputs_that_differ(stored, new, tags, part):
    assert part in (outputs_difference_of(stored, new, tags) or "no difference found")


def outputs_difference_of(stored, new, tags):
    from nbval.plugin import coalesce_streams

    return outputs_difference(coalesce_streams(stored), coalesce_streams(new), tags)


# the plugin inside pytest
# -------------------------------------------------------------------------------------------------


def run_nbval(folder: Path, **env: str) -> tuple[int, dict[str, str], str]:
    """Run `pytest --nbval` with the plugin over folder; returns exit status, "file::cell n" →
    outcome, all output."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MMTUTOR_")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.nbval_plugin",
        "--nbval",
        "-rA",
        "--color=no",
    ]
    command += [
        "-W",
        "error",
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(folder),
        str(folder),
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=clean | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = re.findall(
        r"^(PASSED|FAILED|ERROR|SKIPPED) .*?([\w.]+::cell \d+)", done.stdout, re.MULTILINE
    )
    return done.returncode, {name: outcome for outcome, name in found}, done.stdout + done.stderr


GLUE_CODE = (
    "from IPython.display import display\nmime = 'application/papermill.record/'\ndef glue(name,"
    " shown, tolerance):\n    meta = {'scrapbook': {'name': name, 'mime_prefix': mime}, 'mmtutor':"
    " {'tolerance': tolerance}}\n    display({mime + 'text/plain': repr(shown)}, metadata=meta,"
    " raw=True)"
)
PNG_CODE = (
    "display({'image/png': 'aaaa', 'text/plain': '<Figure size 640x480 with 1 Axes>'}, raw=True)"
)
NEVER_RUN = code("print('never run')")
# Each cell is one test of nbval: what is stored beside what the code gives, and whether that must
# pass.
CELLS = [
    (True, code(GLUE_CODE)),
    (True, code("print('accuracy', 0.61)", stdout("accuracy 0.61\n"))),
    (True, code("print('accuracy', 0.61)", stdout("accuracy 0.60\n"), tags=("tol:0.01",))),
    (False, code("print('accuracy', 0.61)", stdout("accuracy 0.59\n"), tags=("tol:0.01",))),
    (False, code("print('accuracy', 0.61)", stdout("accuracy 0.60\n"))),
    (False, code("print('better')", stdout("worse\n"), tags=("tol:0.01",))),
    (False, code("import sys; print('oh', file=sys.stderr)")),
    (False, code("import warnings; warnings.warn('soon gone')")),
    (False, code("x = 1", stdout("gone\n"))),
    (False, code("print('new')")),
    (True, code("glue('acc', '0.61', 0.02)", glued("acc", "0.60", 0.02))),
    (False, code("glue('acc', '0.61', 0.5)", glued("acc", "0.60", 0.001))),
    (True, code(PNG_CODE, picture("bbbb"))),
    (False, code("x = 1", picture())),
    (False, code("1 / 0", new_output("error", ename="ZeroDivisionError", evalue="", traceback=[]))),
    (False, code("1 / 0", tags=("raises-exception",))),
    (False, code("print('a')  \n# NBVAL_IGNORE_OUTPUT", stdout("b\n"))),
    (False, code("print('a')", stdout("b\n"), tags=("nbval-skip",))),
    (False, code("print('a')", stdout("b\n"), tags=("nbval-ignore-output",))),
    (True, code("import os; print(os.path.basename(os.getcwd()))", stdout("chapter\n"))),
    (True, code("import sys; print(sys.executable)", stdout(sys.executable + "\n"))),
    (False, NEVER_RUN),
]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Run one notebook of good and bad cells, and one that needs a set which cannot be had here."""
    root = tmp_path_factory.mktemp("book")
    nb = notebook()
    nb.cells = [markdown("# Cells"), *(cell for _, cell in CELLS)]
    number(nb)
    NEVER_RUN.execution_count = None
    write(nb, root / "chapter" / "cells.ipynb")
    write(notebook(code("load('mvsa')"), needs=["mvsa"]), root / "chapter" / "needy.ipynb")
    (root / "cache").mkdir()
    return run_nbval(root, MMTUTOR_CACHE=str(root / "cache"))


def test_each_cell_passes_or_fails_as_it_should(result):
    status, outcomes, output = result
    assert status == 1, output
    expected = {
        f"cells.ipynb::cell {n}": "PASSED" if good else "FAILED"
        for n, (good, _) in enumerate(CELLS, start=1)
    }
    assert {
        name: outcome for name, outcome in outcomes.items() if name.startswith("cells")
    } == expected, output


def test_skipping_names_the_set_and_the_reason(result):
    _, outcomes, output = result
    assert not any(name.startswith("needy") for name in outcomes), "no cell of it passed or failed"
    line = re.search(r"notebooks skipped: 1\n\s+chapter/needy.ipynb: skipped because (.*)", output)
    assert (
        line and "data set 'mvsa' cannot be had" in line.group(1) and "consent" in line.group(1)
    ), output


def test_summary_lists_what_ran(result):
    assert re.search(
        rf"notebooks run: 1\n\s+chapter/cells.ipynb: FAILED, {len(CELLS)} cells, \d+\.\d s",
        result[2],
    )


def test_unexecuted_cell_says_what_to_do(result):
    assert "this cell was never executed" in result[2] and "make notebooks" in result[2]
