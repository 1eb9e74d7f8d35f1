"""Build and serve the book: `python -m mmbook.site build | serve | check | fetch | linkcheck`.

`build` is `jupyter-book build --all` with every warning an error. What makes the site light and
checks its laws (`page_laws.py`) happens within Jupyter Book, in `mmbook.ext.site_build`, so that a
plain `jupyter-book build .` gives the same site. Torch is not needed.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from mmbook import root
from mmbook.site import bundle, hosting, page_laws, resources, slim, weight
from mmbook.site.packages import (
    PackagesMissing,
    SiteError,
    digest,
    exit_status,
    fetch,
    install,
    node,
)

__all__ = [
    "PackagesMissing",
    "SiteError",
    "bundle",
    "digest",
    "exit_status",
    "fetch",
    "hosting",
    "install",
    "node",
    "page_laws",
    "resources",
    "slim",
    "weight",
]

# Nitpicky; warnings are errors; list them all before stopping; leave nothing of an earlier build
STRICT = ("-n", "-W", "--keep-going", "--all")
STAMP = "site.sha256"
INPUTS = ("_config.yml", "_toc.yml", "book", "mmbook", "mmtutor/files", "constraints.txt")


def folder(home: Path | None = None) -> Path:
    """Return where the site of the book at `home` stands: `_build/html`."""
    return (home or root()) / "_build" / "html"


def is_current() -> bool:
    """Tell whether `_build/html` was built from the present sources."""
    stamp = folder().with_name(STAMP)
    made_from = stamp.read_text(encoding="utf-8") if stamp.is_file() else ""
    return (folder() / "index.html").is_file() and made_from == digest(root(), INPUTS)


def run_jupyter_book(book: Path, output: Path | None = None, builder: str = "html") -> Path:
    """Build the book in `book` strictly, into `output` (default: where it is); return the folder of
    the result.

    Raises SiteError with the exit code when Jupyter Book reports any warning or error.
    """
    command = shutil.which("jupyter-book", path=str(Path(sys.executable).parent))
    if command is None:
        raise SiteError(
            'jupyter-book is not installed beside this Python: run `pip install -e ".[book]"` or'
            " `make book`"
        )
    options = [*STRICT, "--builder", builder, "--path-output", str(output or book)]
    # On stdout stand only progress and hints, but for broken links
    quiet = subprocess.DEVNULL if builder == "html" and output else None
    done = subprocess.run([command, "build", str(book), *options], stdout=quiet, check=False)
    if done.returncode:
        raise SiteError(
            f"jupyter-book ended with exit code {done.returncode}: mend the warnings and errors"
            " above"
        )
    return (output or book) / "_build" / "html"


def build() -> None:
    """Build the site into `_build/html`, from nothing."""
    run_jupyter_book(root())


def built() -> Path:
    """Return the folder of the site. Raises SiteError where none was built yet."""
    if not (folder() / "index.html").is_file():
        raise SiteError("there is no built site yet: run `make book` first")
    return folder()


def check() -> None:
    """Raise SiteError listing every broken law of the built site."""
    page_laws.demand(built(), root() / "_toc.yml")


def serve(port: int = 8000) -> None:
    """Serve the built site until Ctrl-C."""
    with hosting.server(built(), port) as server:
        print(f"The book is at http://localhost:{server.server_port}/ (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0, or 1 after printing what went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbook.site", description="Build, check and serve the book."
    )
    parser.add_argument("command", choices=["build", "serve", "check", "fetch", "linkcheck"])
    parser.add_argument("--port", type=int, default=8000, help="for serve (default: 8000)")
    options = parser.parse_args(arguments)
    commands = {
        "build": build,
        "serve": lambda: serve(options.port),
        "check": check,
        "fetch": fetch,
        "linkcheck": lambda: run_jupyter_book(root(), builder="linkcheck"),
    }
    return exit_status(commands[options.command])
