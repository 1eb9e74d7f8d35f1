"""Where a submission's code runs: in a prison that the operating system keeps, each in its own.

Inside there is a Python, its packages, the data sets and the files of the assignment, all to be
read only, and a little memory to write into. There is no network, no other process, no notebook, no
gradebook, no environment variable but those named here. Grader and kernel talk through a socket in
a folder of their own.

    COURSE_ISOLATION=bwrap       bubblewrap, on Linux (the default where it works)
    COURSE_ISOLATION=docker      or podman, on Linux, with COURSE_IMAGE=NAME (see Containerfile)
    COURSE_ISOLATION=none        nothing: students' code may do what you may do
"""

import importlib.util
import os
import shutil
import site
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from traitlets import Integer, Unicode

WAYS = ("bwrap", "docker", "podman", "none")
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/alternatives", "/etc/fonts"),
    *("/etc/ld.so.cache", "/etc/localtime"),
)
HANDED_ON = (
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "MMTUTOR_DATA",
    "MMTUTOR_CACHE",
    "PATH",
    "TZ",
)
WORK, PROCESSES = "/assignment", 256
SPACE = str(1 << 28)  # bytes of a file, and of each place to write to, which is memory
HELP = """students' code cannot be isolated on this machine: {reason}.
  On Linux install bubblewrap (apt install bubblewrap), or say COURSE_ISOLATION=docker (or podman)
  and COURSE_IMAGE=...; README.md beside this file gives the commands.
  COURSE_ISOLATION=none runs their code as yours: it may read and write what you may, and reach
  the network. Say it only for code that you have read, or on a machine that is thrown away."""


class NotIsolated(RuntimeError):
    """No isolation can be had; the message says what to install or to say."""


def chosen() -> str:
    """Return the way of isolation that the environment names, else bwrap. Raises NotIsolated where
    it does not work."""
    way, image = os.environ.get("COURSE_ISOLATION") or "bwrap", os.environ.get("COURSE_IMAGE")
    if way not in WAYS:
        raise NotIsolated(HELP.format(reason=f"{way!r} is none of {', '.join(WAYS)}"))
    if way != "none":
        image = image or "(COURSE_IMAGE is not set)"
        trial = [*bwrap({}), "true"] if way == "bwrap" else [way, "image", "inspect", image]
        try:
            done = subprocess.run(trial, capture_output=True, text=True)
        except FileNotFoundError:
            raise NotIsolated(HELP.format(reason=f"there is no program {way}")) from None
        if done.returncode:
            raise NotIsolated(HELP.format(reason=f"{' '.join(trial[:3])}: {done.stderr.strip()}"))
    return way


def bwrap(writable: dict[str, str], readable: dict[str, str] | None = None) -> list[str]:
    """Return the front of a command that runs it in bubblewrap. writable, readable: path → path
    inside."""
    binds = {path: path for path in SYSTEM} | (readable or {})
    return [
        *("bwrap", "--die-with-parent", "--new-session", "--unshare-all", "--unshare-user"),
        *("--uid", "1000", "--gid", "1000", "--cap-drop", "ALL", "--unsetenv", "JPY_PARENT_PID"),
        *("--proc", "/proc", "--dev", "/dev", "--size", SPACE, "--tmpfs", "/dev/shm"),
        *("--remount-ro", "/dev", "--size", SPACE, "--tmpfs", "/tmp"),
        *("--size", SPACE, "--tmpfs", WORK, "--chdir", WORK),
        *(word for real, inner in binds.items() for word in ("--ro-bind-try", real, inner)),
        *(word for real, inner in writable.items() for word in ("--bind", real, inner)),
        *("--remount-ro", "/"),
    ]


def packages() -> list[str]:
    """Return the folders from which this Python imports what exercises need: never the book's."""
    found = importlib.util.find_spec("mmtutor")
    ours = [str(Path(found.origin).parent)] if found and found.origin else []
    named = [folder for folder in sys.path if folder.endswith("-packages")]
    return [sys.base_prefix, sys.prefix, *named, *ours]


def data() -> list[str]:
    """Return the folders of data sets."""
    named = [os.environ.get("MMTUTOR_DATA"), os.environ.get("MMTUTOR_CACHE")]
    return [str(Path(folder).expanduser().resolve()) for folder in named if folder]


def files_for(folder: Path) -> dict[str, str]:
    """Return path → path inside of the files of an assignment, notebooks left out: hidden tests
    stand in them."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".ipynb")
    return {str(path.resolve()): f"{WORK}/{path.relative_to(folder).as_posix()}" for path in found}


class IsolatedKernel(AsyncKernelManager):
    """A kernel that starts in a prison of its own, which goes with it."""

    way = Unicode("none", help="One of WAYS.")
    memory_mb = Integer(4096, help="Memory in MB, 0 for no limit.")

    async def start_kernel(self, **options: Any) -> None:
        """Start it; its errors at start and end are of no use to a reader of the log."""
        self.name = f"course-{uuid.uuid4().hex}"
        self.home = tempfile.mkdtemp(prefix="course-")
        self.connection_file = str(Path(self.home) / "kernel.json")
        self.folder = Path(options.get("cwd") or ".").resolve()
        self.kernel_spec.interrupt_mode = "message"  # a signal meets the prison only
        options |= {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if self.way != "none":
            self.transport = "ipc"
            environment = {k: os.environ[k] for k in HANDED_ON if k in os.environ}
            options["env"] = environment | {
                "HOME": "/tmp",
                "PYTHONPATH": str(Path(packages()[-1]).parent),
                "PYTHONUSERBASE": site.getuserbase(),
                "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            }
        await super().start_kernel(**options)

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """Return the command that starts the kernel in its prison."""
        command = super().format_kernel_cmd(extra_arguments)
        if self.way in ("docker", "podman"):
            return [*self.container(), os.environ["COURSE_IMAGE"], "python", *command[1:]]
        limits = [f"--data={self.memory_mb << 20}"] if self.memory_mb else []
        if self.way == "bwrap":
            limits += [f"--nproc={PROCESSES}", f"--fsize={SPACE}"]
        if limits and (prlimit := shutil.which("prlimit")):
            command = [prlimit, *limits, *command]
        if self.way == "none":
            return command
        readable = {path: path for path in (*packages(), *data())} | files_for(self.folder)
        return [*bwrap({self.home: self.home}, readable), *command]

    def container(self) -> list[str]:
        """Return the front of a command that runs it in a container. The image brings Python."""
        readable = {path: path for path in data()} | files_for(self.folder)
        mounts = [f"{real}:{inner}:ro" for real, inner in readable.items()]
        mounts.append(f"{self.home}:{self.home}")
        memory = [f"--memory={self.memory_mb}m"] if self.memory_mb else []
        named = [f"--env={name}" for name in HANDED_ON if name in os.environ and name != "PATH"]
        return [
            *(self.way, "run", "--rm", "--init", f"--name={self.name}", "--network=none"),
            *(
                "--read-only",
                f"--tmpfs=/tmp:size={SPACE}",
                f"--tmpfs={WORK}:size={SPACE}",
                "--cap-drop=ALL",
                "--env=HOME=/tmp",
            ),
            *(f"--pids-limit={PROCESSES}", "--security-opt=no-new-privileges"),
            *(f"--user={os.getuid()}:{os.getgid()}", f"--workdir={WORK}", *memory, *named),
            *(f"--volume={mount}" for mount in mounts),
        ]

    async def cleanup_resources(self, restart: bool = False) -> None:
        """Also end the container: it outlives the command that started it."""
        await super().cleanup_resources(restart)
        shutil.rmtree(self.home, ignore_errors=True)
        if self.way in ("docker", "podman"):
            subprocess.run([self.way, "rm", "--force", self.name], capture_output=True)
