"""Make nbval strict: `pytest -p tests.nbval_plugin --nbval book` runs every notebook and compares
it in full.

What changes beside plain nbval 0.11:

- a cell that was never executed fails (nbval does not compare it at all), and no tag or comment
switches a check off;
- texts, tables and glued values are compared word by word, numbers within the tolerance that the
cell's tags state
  (tol:0.02, rtol:0.05) or that the stored glued value carries; without one, character by character;
- a cell tagged prints-time may change its numbers but no word; one tagged prints-path may change
its text;
- pictures are not compared, but one that is missing or new fails; so does anything on stderr;
- the kernel is this interpreter, started in the notebook's folder, without the user's IPython
profile;
- a notebook whose data sets cannot be had is skipped with that reason; a summary lists what ran and
what did not.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel, start_new_kernel
from nbval.plugin import IPyNbCell, IPyNbFile, coalesce_streams

from mmbook.compare import ANY_NUMBER, Tolerance, parse_tolerance, text_difference
from mmbook.execution import NotebookFailed, SetMissing, needs, obtain
from mmbook.kernel import build_font_cache, cell_timeout, environment
from mmbook.reading import GLUED_TEXT

NBVAL_DEFAULT_SECONDS = 2000
NBVAL_DEFAULT_STARTUP = 60
# What a display may change from run to run: pictures (their presence counts) and the width a widget
# would have.
PRESENCE_ONLY = ("image/", "application/papermill.record/image/")


class Kernel(RunningKernel):
    """A kernel of this interpreter in the folder and environment of our choice."""

    def __init__(self, folder: Path, env: dict[str, str], startup_seconds: float) -> None:
        self.km, self.kc = start_new_kernel(
            kernel_name=CURRENT_ENV_KERNEL_NAME,
            startup_timeout=startup_seconds,
            # the kernel's own chatter; what cells write to stderr comes as output
            stderr=subprocess.DEVNULL,
            cwd=str(folder),
            env=env,
        )
        self._ensure_iopub_up()


class Notebook(IPyNbFile):
    """One notebook: starts its kernel when its first cell is due, or skips it when its data cannot
    be had."""

    def setup(self) -> None:
        self.scratch = tempfile.TemporaryDirectory(prefix="mmtutor-ipython-")
        try:
            obtain(needs(self.nb))
        except SetMissing as reason:
            pytest.skip(str(reason))
        except NotebookFailed as error:
            pytest.fail(str(error), pytrace=False)
        env = environment(ipython=Path(self.scratch.name))
        self.kernel = Kernel(self.path.parent, env, self.config.option.nbval_kernel_startup_timeout)
        self.setup_sanitize_files()

    def teardown(self) -> None:
        super().teardown()
        self.scratch.cleanup()

    def collect(self) -> Iterator[Cell]:
        """Yield a test for each code cell, named by its place among all cells as the other tools
        name it."""
        cells = list(super().collect())
        places = [place for place, cell in enumerate(self.nb.cells) if cell.cell_type == "code"]
        for place, cell in zip(places, cells, strict=True):
            options = defaultdict(bool, check=True)  # whatever nbval's switches say
            yield Cell.from_parent(
                self, name=f"cell {place}", cell_num=place, cell=cell.cell, options=options
            )


class Cell(IPyNbCell):
    """One code cell: executed, then compared in full with what the notebook stores."""

    def runtest(self) -> None:
        if self.cell.execution_count is None:
            self.raise_cell_error(
                "this cell was never executed, so there is nothing to compare: run `make notebooks`"
            )
        super().runtest()

    def compare_outputs(self, test: list[Any], ref: list[Any], skip_compare: Any = None) -> bool:
        """Return whether new (test) and stored (ref) outputs agree; else say why in
        comparison_traceback."""
        difference = outputs_difference(coalesce_streams(ref), coalesce_streams(test), self.tags)
        self.comparison_traceback = [difference] if difference else []
        return difference is None

    @property
    def tags(self) -> list[str]:
        return list(self.cell.metadata.get("tags", []))


def cell_tolerance(tags: list[str]) -> Tolerance:
    """Return by how much the numbers of a cell with these tags may change."""
    return ANY_NUMBER if "prints-time" in tags else parse_tolerance(tags)


def outputs_difference(
    stored: list[NotebookNode], new: list[NotebookNode], tags: list[str]
) -> str | None:
    """Say how a cell's new outputs differ from the stored ones, or return None. Streams are
    compared by name."""
    old_streams = {o.name: o.text for o in stored if o.output_type == "stream"}
    new_streams = {o.name: o.text for o in new if o.output_type == "stream"}
    if "stderr" in new_streams:
        return f"the cell wrote to stderr:\n{new_streams['stderr']}"
    if set(old_streams) != set(new_streams):
        return f"streams stored: {sorted(old_streams)}, now: {sorted(new_streams)}"
    for name, text in old_streams.items():
        if "prints-path" not in tags and (
            why := text_difference(text, new_streams[name], cell_tolerance(tags))
        ):
            return f"{name}: {why}"
    old_shown = [o for o in stored if o.output_type != "stream"]
    new_shown = [o for o in new if o.output_type != "stream"]
    if len(old_shown) != len(new_shown):
        return f"{len(old_shown)} outputs stored, now {len(new_shown)}"
    for number, (old, fresh) in enumerate(zip(old_shown, new_shown, strict=True)):
        if why := display_difference(old, fresh, tags):
            return f"output {number}: {why}"
    return None


def display_difference(stored: NotebookNode, new: NotebookNode, tags: list[str]) -> str | None:
    """Say how one displayed output differs from the stored one, or return None."""
    if stored.output_type != new.output_type:
        return f"stored was a {stored.output_type}, now it is a {new.output_type}"
    old_data, new_data = stored.get("data", {}), new.get("data", {})
    if set(old_data) != set(new_data):
        return f"stored as {sorted(old_data)}, now as {sorted(new_data)}"
    names = [o.get("metadata", {}).get("scrapbook", {}).get("name") for o in (stored, new)]
    if names[0] != names[1]:
        return f"stored was the glued value {names[0]!r}, now it is {names[1]!r}"
    for mime, content in old_data.items():
        if mime.startswith(PRESENCE_ONLY) or "prints-path" in tags:
            continue
        tolerance = cell_tolerance(tags)
        if mime == GLUED_TEXT:
            tolerance = Tolerance(
                stored.get("metadata", {}).get("mmtutor", {}).get("tolerance", 0.0)
            )
        why = (
            text_difference(content, new_data[mime], tolerance)
            if isinstance(content, str) and isinstance(new_data[mime], str)
            else (
                None if content == new_data[mime] else f"stored {content!r}, now {new_data[mime]!r}"
            )
        )
        if why:
            return f"{names[0] or mime}: {why}"
    return None


class Summary:
    """Collects per notebook: seconds, cells, worst outcome and reason; prints them at the end of
    the run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.cells: dict[str, set[str]] = defaultdict(set)
        self.skipped: dict[str, str] = {}
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        path = report.nodeid.split("::")[0]
        if not path.endswith(".ipynb"):
            return
        self.seconds[path] += report.duration
        self.cells[path].add(report.nodeid)
        if report.failed:
            self.failed.add(path)
        elif report.skipped:
            reason = (
                report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            )
            self.skipped[path] = reason.removeprefix("Skipped: ")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        ran = [path for path in self.seconds if path not in self.skipped]
        if not self.seconds:
            return
        terminalreporter.section("notebooks")
        terminalreporter.write_line(f"notebooks run: {len(ran)}")
        for path in ran:
            verdict = "FAILED" if path in self.failed else "agrees"
            terminalreporter.write_line(
                f"  {path}: {verdict}, {len(self.cells[path])} cells, {self.seconds[path]:.1f} s"
            )
        terminalreporter.write_line(f"notebooks skipped: {len(self.skipped)}")
        for path, reason in self.skipped.items():
            terminalreporter.write_line(f"  {path}: skipped because {reason}")


def pytest_configure(config: pytest.Config) -> None:
    if not getattr(config.option, "nbval", False):
        return
    if config.option.nbval_cell_timeout == NBVAL_DEFAULT_SECONDS:
        config.option.nbval_cell_timeout = cell_timeout()
    if config.option.nbval_kernel_startup_timeout == NBVAL_DEFAULT_STARTUP:
        config.option.nbval_kernel_startup_timeout = cell_timeout()
    if not hasattr(config, "workerinput"):  # once, before the workers start
        build_font_cache()
    config.pluginmanager.register(Summary(), "mmtutor-notebooks")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> Generator[None, list[Any], list[Any]]:
    """Put our notebook in the place of nbval's."""
    found = yield
    return [
        Notebook.from_parent(parent, path=file_path) if type(node) is IPyNbFile else node
        for node in found
    ]
