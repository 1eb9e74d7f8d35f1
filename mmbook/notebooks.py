"""Execute the book's notebooks, measure them, and check the laws they keep.

    python -m mmbook.notebooks run [PATH ...]    execute from a fresh kernel, store outputs and cost
    python -m mmbook.notebooks check [PATH ...]  check the stored notebooks against the book's laws,
                                                 run nothing

PATH is a notebook or a folder; without one, every notebook of book/ in the order of _toc.yml, and
`check` looks at the sizes of the house too (`mmbook.sizes`).
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmbook import sizes
from mmbook.execution import NotebookFailed, SetMissing, run_notebook
from mmbook.kernel import build_font_cache
from mmbook.reading import book_notebooks, label


def select(names: Sequence[str]) -> list[Path]:
    """Turn command-line names into notebooks. A name that is neither notebook nor folder raises
    FileNotFoundError."""
    chosen = [] if names else book_notebooks()
    for name in names:
        path = Path(name).resolve()
        if path.is_dir():
            listed = [p for p in book_notebooks() if p.is_relative_to(path)]
            inside = listed or sorted(path.rglob("*.ipynb"))
        elif path.is_file() and path.suffix == ".ipynb":
            inside = [path]
        else:
            raise FileNotFoundError(f"{name} is neither a notebook (.ipynb) nor a folder")
        if not inside:
            raise FileNotFoundError(f"{name} holds no notebook")
        chosen += inside
    return list(dict.fromkeys(chosen))


def run_all(paths: Iterable[Path]) -> int:
    """Run each notebook, print a line for each, and return the exit status: 1 if any failed."""
    failed, skipped = [], []
    build_font_cache()
    for path in paths:
        print(f"{label(path)} … ", end="", flush=True)
        try:
            cost = run_notebook(path)
            print(f"{cost.seconds:.1f} s, {cost.memory_mb} MB")
        except SetMissing as reason:
            skipped.append(label(path))
            print(f"skipped, stored outputs kept: {reason}")
        except NotebookFailed as error:
            failed.append(label(path))
            print(f"FAILED, file left as it was\n{error}")
    if skipped:
        print("skipped:", ", ".join(skipped))
    if failed:
        print("failed:", ", ".join(failed), file=sys.stderr)
    return 1 if failed else 0


def verdict(problems: Sequence[str], praise: str) -> int:
    """Print the problems, or the praise where there is none; returns the exit status."""
    print("\n".join(problems) or praise)
    return 1 if problems else 0


def check_all(paths: Iterable[Path]) -> list[str]:
    """Return every broken law of the stored notebooks."""
    from mmbook import laws

    return [problem for path in paths for problem in laws.check_file(path)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbook.notebooks",
        description="Execute notebooks and store their outputs, or check their laws.",
    )
    parser.add_argument("command", choices=("run", "check"))
    parser.add_argument("paths", nargs="*", help="notebooks or folders; default: all")
    options = parser.parse_args(arguments)
    try:
        paths = select(options.paths)
        if options.command == "run":
            return run_all(paths)
        too_large = [] if options.paths else sizes.check()
        return verdict(check_all(paths) + too_large, "all laws kept")
    except FileNotFoundError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("stopped, this notebook was left as it was", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
