"""One way to start a notebook's kernel, shared by the runner, the exercise checks and the pytest
plugin."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import ipykernel.kernelspec
import psutil
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

CORES = 2
CELL_SECONDS = "MMTUTOR_CELL_SECONDS"  # environment variable: how long a cell may take
# What the caller's shell may carry and a notebook must not inherit: the first hides warnings, the
# second hides figures.
UNWANTED = ("PYTHONWARNINGS", "MPLBACKEND")


def cell_timeout() -> int:
    """Return after how many seconds a cell is given up: 600, or what $MMTUTOR_CELL_SECONDS says.

    That is for cells that never end. What a notebook may cost, a law reads off its stored
    measurement, so that no cell fails because it took long on a slow machine.
    Raises ValueError where the variable holds no whole number above 0.
    """
    stated = os.environ.get(CELL_SECONDS) or "600"
    if not stated.isdecimal() or int(stated) == 0:
        raise ValueError(f"{CELL_SECONDS} is {stated!r}, expected a number of seconds above 0")
    return int(stated)


class ThisInterpreter(KernelSpecManager):
    """Resolve every kernel name to the running interpreter, whatever kernels the user has installed
    elsewhere."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return the kernel specification of sys.executable."""
        return KernelSpec(
            resource_dir=ipykernel.kernelspec.RESOURCES, **ipykernel.kernelspec.get_kernel_dict()
        )


def kernel_manager() -> AsyncKernelManager:
    """Return a manager, not started, of a kernel named python3 that runs this interpreter."""
    return AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisInterpreter())


def environment(cache: Path | None = None, ipython: Path | None = None) -> dict[str, str]:
    """Return the environment of a notebook's kernel.

    cache: folder that becomes MMTUTOR_CACHE; None keeps the caller's. ipython: empty folder that
    stands in for the user's IPython profile, so that nobody's start-up files take part.
    MMTUTOR_DATA is made absolute, because the kernel's working folder is the notebook's.
    """
    inherited = {key: value for key, value in os.environ.items() if key not in UNWANTED}
    folders = {
        "MMTUTOR_DATA": inherited.get("MMTUTOR_DATA"),
        "MMTUTOR_CACHE": cache or inherited.get("MMTUTOR_CACHE"),
        "IPYTHONDIR": ipython,
    }
    return {
        "OMP_NUM_THREADS": str(CORES),  # what the book is measured with, on a machine of any size
        **inherited,
        **{key: str(Path(f).expanduser().resolve()) for key, f in folders.items() if f},
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else debugpy may write to stderr at the start
    }


def build_font_cache() -> None:
    """Let matplotlib index the machine's fonts now: inside a notebook its notice would land on
    stderr."""
    subprocess.run(
        [sys.executable, "-c", "import matplotlib.font_manager"], check=True, capture_output=True
    )


@contextmanager
def few_cores(count: int = CORES) -> Iterator[int]:
    """Bind this process, and the kernels it starts, to `count` cores; yields the number that is
    really in use.

    Where the system cannot bind a process (macOS), all cores are used and their number is yielded.
    """
    bind = getattr(psutil.Process(), "cpu_affinity", None)
    if bind is None:
        yield psutil.cpu_count() or 1
        return
    before = bind()
    bind(before[:count])
    try:
        yield min(count, len(before))
    finally:
        bind(before)


def tree_rss(pid: int) -> int:
    """Resident bytes of process `pid` and its descendants, 0 once it is gone. Shared pages count
    once per process."""
    total = 0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):  # it ended between listing and asking
                total += process.memory_info().rss
    return total


@dataclass
class Memory:
    """The largest resident size seen, in bytes."""

    peak: int = 0

    @property
    def megabytes(self) -> int:
        """The peak in MB (10⁶ bytes), rounded up."""
        return -(-self.peak // 10**6)


@contextmanager
def watch_memory(pid: Callable[[], int | None], step: float = 0.5) -> Iterator[Memory]:
    """Sample the memory of a process tree in the background and yield the record, final when the
    block ends.

    pid: a function, since a kernel has no process id before it starts; None means "not yet".
    Sampled every `step` seconds, so a peak shorter than that can be missed. Looking costs up to
    30 ms, since all processes of the machine are listed: too often, it takes from what is measured.
    """
    memory, done = Memory(), threading.Event()

    def sample() -> None:
        looking = True
        while looking:
            if root := pid():
                memory.peak = max(memory.peak, tree_rss(root))
            looking = not done.wait(step)

    thread = threading.Thread(target=sample, name="memory", daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        done.set()
        thread.join()
