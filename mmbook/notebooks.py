"""Execute the book's notebooks, measure them, and check the laws they keep.

    python -m mmbook.notebooks run [PATH ...]    execute from a fresh kernel, store outputs and cost
    python -m mmbook.notebooks check [PATH ...]  check the stored notebooks against the book's laws,
                                                 run nothing

PATH is a notebook or a folder; without one, every notebook of book/ in the order of _toc.yml.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmbook.execution import NotebookFailed, SetMissing, run_notebook
from mmbook.kernel import build_font_cache
from mmbook.reading import book_notebooks, label


def select(names: Sequence[str]) -> list[Path]:
    """Turn command-line names into notebooks. A name that is neither notebook nor folder raises
    FileNotFoundError."""
    if not names:
        return book_notebooks()
    chosen: list[Path] = []
    for name in names:
        path = Path(name).resolve()
        if path.is_dir():
            inside = [p for p in book_notebooks() if p.is_relative_to(path)] or sorted(
                path.rglob("*.ipynb")
            )
            if not inside:
                raise FileNotFoundError(f"{name} holds no notebook")
            chosen += inside
        elif path.is_file() and path.suffix == ".ipynb":
            chosen.append(path)
        else:
            raise FileNotFoundError(f"{name} is neither a notebook (.ipynb) nor a folder")
    return list(dict.fromkeys(chosen))


def run_all(paths: Iterable[Path]) -> int:
    """Run each notebook, print a line for each, and return the exit status: 1 if any failed."""
    failed, skipped = [], []
    build_font_cache()
    for path in paths:
        print(f"{label(path)} … ", end="", flush=True)
        try:
            cost = run_notebook(path)
        except SetMissing as reason:
            skipped.append(path)
            print(f"skipped, stored outputs kept: {reason}")
        except NotebookFailed as error:
            failed.append(path)
            print(f"FAILED, file left as it was\n{error}")
        else:
            print(f"{cost.seconds:.1f} s, {cost.memory_mb} MB")
    if skipped:
        print("skipped:", ", ".join(map(label, skipped)))
    if failed:
        print("failed:", ", ".join(map(label, failed)), file=sys.stderr)
    return 1 if failed else 0


def check_all(paths: Iterable[Path]) -> int:
    """Print every broken law of the stored notebooks and return the exit status: 1 if there is
    any."""
    from mmbook import laws

    problems = [problem for path in paths for problem in laws.check_file(path)]
    print("\n".join(problems) if problems else "all laws kept")
    return 1 if problems else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbook.notebooks", description="Run or check the book's notebooks."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "execute and store outputs"),
        ("check", "check the laws, execute nothing"),
    ):
        commands.add_parser(name, help=text).add_argument(
            "paths", nargs="*", help="notebooks or folders; default: all"
        )
    options = parser.parse_args(arguments)
    try:
        paths = select(options.paths)
    except FileNotFoundError as error:
        parser.error(str(error))
    try:
        return run_all(paths) if options.command == "run" else check_all(paths)
    except KeyboardInterrupt:
        print("stopped, this notebook was left as it was", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
