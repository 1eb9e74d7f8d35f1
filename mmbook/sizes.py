"""How big is the house? `python -m mmbook.sizes` prints the rooms and fails above a limit.

Counted are statements (`ast.stmt`) without docstrings, so that neither comments nor short lines
cost anything. The limits are those of the design: the core may grow with its chapters.
"""

import ast
import sys
from collections import Counter
from pathlib import Path

from mmbook.reading import ROOT, chapter_folders

# Chapters → statements. 4,300 is meant for ten chapters: above it lie the bootstrap over starts and
# groups, which replaced four copies in studies and pages, and a loader that waits for its chapter
CORE = {10: 4360, 17: 5300}
APPS, BOOK = 1414, 3000  # apps: 1,200 was meant before sounds, numbers, slices and five formats
COURSE = 300  # mmbook/course: what a hub grades with, apart from what checks and builds the book
SHARE = 1 / 5  # of the core that one room may take


def statements(source: str) -> int:
    """Return the number of statements of a module, docstrings not counted."""
    return sum(
        isinstance(node, ast.stmt) and not is_text(node) for node in ast.walk(ast.parse(source))
    )


def is_text(node: ast.stmt) -> bool:
    """Return whether a statement is a text that stands alone, as a docstring does."""
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def room_sizes(folder: Path) -> Counter[str]:
    """Return the statements of each room, a folder or module that stands directly in `folder`."""
    sizes: Counter[str] = Counter()
    for path in sorted(folder.rglob("*.py")):
        room = path.relative_to(folder).parts[0].removesuffix(".py")
        sizes[room] += statements(path.read_text(encoding="utf-8"))
    return sizes


def core_limit(chapters: int) -> int:
    """Return how many statements the core may have with so many chapters."""
    (few, low), (many, high) = CORE.items()
    return round(low + (high - low) * (min(max(chapters, few), many) - few) / (many - few))


def size_table(root: Path = ROOT) -> list[tuple[str, int, int]]:
    """Return (what, size, limit), in statements, of core, apps, mmbook and each room of the core,
    largest room first."""
    rooms, book = room_sizes(root / "mmtutor"), room_sizes(root / "mmbook")
    apps, course = rooms.pop("apps", 0), book.pop("course", 0)
    core = rooms.total()
    return [
        ("core", core, core_limit(len(chapter_folders(root)))),
        ("apps", apps, APPS),
        ("mmbook", book.total(), BOOK),
        ("mmbook/course", course, COURSE),
        *((f"core/{room}", size, int(core * SHARE)) for room, size in rooms.most_common()),
    ]


def size_problems(root: Path = ROOT) -> list[str]:
    """Return what is too large."""
    return [
        f"{what}: {size} statements, at most {limit}"
        for what, size, limit in size_table(root)
        if size > limit
    ]


def check() -> list[str]:
    """Print the table of sizes; returns what is too large."""
    print(f"{'statements':<20}{'measured':>10}{'limit':>10}")
    for what, size, limit in size_table():
        print(f"{what:<20}{size:>10}{limit:>10}")
    return size_problems()


if __name__ == "__main__":
    sys.exit("\n".join(check()) or 0)
