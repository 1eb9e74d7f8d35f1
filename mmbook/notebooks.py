"""Execute the book's notebooks, measure them, and check the laws they keep.

    python -m mmbook.notebooks run [PATH ...]    execute from a fresh kernel, store outputs and cost
    python -m mmbook.notebooks check [PATH ...]  check the stored notebooks against the book's laws,
                                                 run nothing

PATH is a notebook or a folder; without one, every notebook of book/ in the order of _toc.yml, and
`check` looks at the sizes of the house too (`mmbook.sizes`).
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmbook import sizes
from mmbook.execution import NotebookFailed, SetMissing, run_notebook
from mmbook.kernel import build_font_cache
from mmbook.reading import book_notebooks, label


def select(names: Sequence[str], pattern: str = "*.ipynb") -> list[Path]:
    """Turn command-line names, of notebooks or folders, into notebooks whose file's name has this
    pattern; no name stands for the whole book. A name that leads to none ends the command."""
    book = book_notebooks()
    found = [] if names else [path for path in book if path.match(pattern)]
    for name in names:
        path = Path(name).resolve()
        inside = [p for p in book if p.is_relative_to(path)] or sorted(path.rglob("*.ipynb"))
        chosen = [p for p in [path, *inside] if p.is_file() and p.match(pattern)]
        if not chosen:
            sys.exit(f"error: {name} is no {pattern}, and no folder that holds one")
        found += chosen
    return list(dict.fromkeys(found))


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
        except KeyboardInterrupt:
            print("stopped, this notebook was left as it was", file=sys.stderr)
            return 130
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


def main(arguments: Sequence[str]) -> int:
    """Carry out one command of the module's docstring; returns the exit status."""
    match arguments:
        case ["run", *names]:
            return run_all(select(names))
        case ["check", *names]:
            too_large = [] if names else sizes.check()
            return verdict(check_all(select(names)) + too_large, "all laws kept")
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
