"""Run one notebook from a fresh kernel, tidy what it stores, write its measured cost, save it in
one step."""

import re
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError
from nbformat import NotebookNode

from mmbook.kernel import (
    Memory,
    cell_timeout,
    environment,
    few_cores,
    kernel_manager,
    watch_memory,
)
from mmbook.reading import label, tags
from mmtutor.files import store
from mmtutor.files.whole import whole

KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
FIXED_METADATA = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
KEPT_METADATA = ("celltoolbar", "title", "authors", "mmtutor")
KEPT_CELL_METADATA = ("tags", "mystnb", "mmtutor", "nbgrader", "editable", "deletable")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class NotebookFailed(RuntimeError):
    """A notebook did not run to its end; the message names the file, the cell and the error."""


class SetMissing(RuntimeError):
    """A notebook needs a data set that cannot be had here; the message names the set and the
    reason."""


@dataclass(frozen=True)
class Cost:
    """What one run took: wall seconds (kernel start included), peak MB of the kernel's processes,
    cores used."""

    seconds: float
    memory_mb: int
    cores: int


def needs(nb: NotebookNode) -> list[str]:
    """Return the downloaded data sets that a notebook says it needs."""
    return list(nb.metadata.get("mmtutor", {}).get("needs", []))


def obtain(names: Iterable[str]) -> dict[str, Path]:
    """Return name → folder of files for each set, fetching what is absent.

    Raises SetMissing (not to be had: set and reason) or NotebookFailed (unknown, or its files are
    damaged).
    """
    folders = {}
    for name in names:
        try:
            folders[name] = Path(store.fetch(store.manifest(name)))
        except store.DatasetUnavailable as error:
            raise SetMissing(f"data set {name!r} cannot be had: {error.reason}") from error
        except (store.DatasetCorrupt, store.UnknownDataset) as error:
            raise NotebookFailed(str(error)) from error
    return folders


def share_sets(folders: dict[str, Path], cache: Path) -> None:
    """Link sets that lie in the user's cache into an empty one, so that only the features are cold.

    A set under $MMTUTOR_DATA is found by the kernel anyway.
    """
    for name, files in folders.items():
        if files.is_relative_to(store.cache_root()):
            (cache / name).mkdir(parents=True, exist_ok=True)
            try:
                (cache / name / "files").symlink_to(files.resolve(), target_is_directory=True)
            except OSError:  # Windows lets only some users link
                shutil.copytree(files, cache / name / "files")


def execute(
    nb: NotebookNode,
    folder: Path,
    name: str,
    cache: Path | None = None,
    allow_errors: bool = False,
) -> Memory:
    """Run all cells of nb in place from a fresh kernel whose working folder is `folder`, without
    the user's IPython profile; returns the memory record. cache: as for `environment`.

    Raises NotebookFailed naming the cell when a cell raises, takes longer than cell_timeout() or
    kills its kernel, and KeyboardInterrupt when the user stops the run (Ctrl-C, SIGTERM).
    """
    current: dict[str, int] = {"cell": 0}
    manager = kernel_manager()
    client = NotebookClient(
        nb,
        km=manager,
        timeout=cell_timeout(),
        resources={"metadata": {"path": str(folder)}},
        allow_errors=allow_errors,
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        on_cell_start=lambda cell, cell_index: current.update(cell=cell_index),
    )
    with (
        tempfile.TemporaryFile() as log,
        tempfile.TemporaryDirectory(prefix="mmtutor-ipython-") as profile,
        watch_memory(lambda: getattr(manager.provisioner, "pid", None)) as memory,
    ):
        try:
            client.execute(env=environment(cache, Path(profile)), stderr=log, cleanup_kc=True)
        except (CellControlSignal, DeadKernelError) as error:
            text = ANSI.sub("", str(error)).strip()
            if isinstance(error, DeadKernelError):  # its last words went past Jupyter
                log.seek(0)
                text = f"{text}\n{log.read().decode(errors='replace')}"
            raise NotebookFailed(
                f"{name}: cell {current['cell']} failed (counting from 0)\n{text}"
            ) from error
        except AssertionError as error:
            if client.km is None:  # nbclient's signal handler took the kernel away under the run
                raise KeyboardInterrupt from error
            raise
    return memory


def tidy(nb: NotebookNode) -> None:
    """Remove from nb what differs from run to run or machine to machine; cell ids stay."""
    kept = {key: value for key, value in nb.metadata.items() if key in KEPT_METADATA}
    nb.metadata = nbformat.from_dict({"mmtutor": {}} | kept | FIXED_METADATA)
    for number, cell in enumerate(nb.cells):
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k in KEPT_CELL_METADATA}
        )
        cell.setdefault("id", f"cell-{number:02}")
    nb.nbformat_minor = max(nb.nbformat_minor, 5)


def cost_text(own: dict[str, Any]) -> str:
    """Return the sentence at a notebook's top from its metadata; cost_note is the author's own
    addition."""
    shown = f"{own['seconds']:.0f} s" if own["seconds"] >= 1 else "under 1 s"
    return (
        f"**Cost** (measured on {own.get('cores', 2)} CPU cores, empty feature cache): {shown},"
        f" {own['memory_mb']} MB. {own.get('cost_note', '')}"
    ).rstrip()


def write_cost(nb: NotebookNode, cost: Cost) -> None:
    """Store the measurement in nb's metadata and in its cell tagged "cost", added below the title
    if there is none."""
    own = nb.metadata.setdefault("mmtutor", nbformat.from_dict({}))
    own.update(seconds=round(cost.seconds, 1), memory_mb=cost.memory_mb, cores=cost.cores)
    marked = (c for c in nb.cells if c.cell_type == "markdown" and "cost" in tags(c))
    if (cell := next(marked, None)) is None:
        cell = nbformat.v4.new_markdown_cell(metadata={"tags": ["cost"]}, id="cost")
        nb.cells.insert(1, cell)
    cell.source = cost_text(own)


def save(nb: NotebookNode, path: Path) -> None:
    """Write nb to path in one step: whoever reads it sees the old file or the new one."""
    nbformat.validate(nb)
    with whole(path, encoding="utf-8", newline="\n") as file:
        file.write(nbformat.writes(nb, version=4).rstrip("\n") + "\n")


def run_notebook(path: Path) -> Cost:
    """Execute the notebook at path, store outputs and cost in it, return the cost.

    Raises SetMissing (file untouched, stored outputs stand) or NotebookFailed (file untouched).
    """
    nb = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="mmtutor-") as scratch:
        share_sets(obtain(needs(nb)), Path(scratch))
        with few_cores() as cores:
            started = time.perf_counter()
            memory = execute(nb, path.parent, label(path), Path(scratch))
            cost = Cost(time.perf_counter() - started, memory.megabytes, cores)
    tidy(nb)
    write_cost(nb, cost)
    save(nb, path)
    return cost
