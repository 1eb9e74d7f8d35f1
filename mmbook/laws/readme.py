"""The law about README's table: which chapter rests on which module, and which tests check it."""

from __future__ import annotations

import re
from pathlib import Path

from mmbook.reading import chapter_folders

START, END = "<!-- chapter table -->", "<!-- end -->"
NAMED = re.compile(r"`([^`\s]+/[^`\s]*|[\w.-]+\.(?:py|ipynb|md))`|\]\(([^)#\s]+)[^)]*\)")
ROOMS = ("book", "mmtutor", "tests")


def table_paths(text: str) -> list[str]:
    """Return every path that the table names, in code spans or as link targets.

    Raises ValueError where the markers are missing or in the wrong order.
    """
    if text.count(START) != 1 or END not in text.split(START)[-1]:
        raise ValueError(f"README.md has no table between {START} and {END}")
    table = text.split(START)[1].split(END)[0]
    return list(dict.fromkeys((a or b).removeprefix("./") for a, b in NAMED.findall(table)))


def _covered(path: Path, root: Path, named: list[str]) -> bool:
    """Return whether a path is named itself, or through a folder of its own below the rooms
    (mmtutor/data/)."""
    relative = path.relative_to(root).as_posix()
    folders = [name.rstrip("/") for name in named if name.rstrip("/") not in ROOMS]
    return any(relative == name or relative.startswith(name + "/") for name in folders)


def chapter_table_problems(root: Path) -> list[str]:
    """The table in root/README.md is true and whole.

    Each path it names exists; each chapter folder of book/ (two digits and a name, holding a
    notebook) and each module of mmtutor/ (not __init__.py) is in it; and each of the three columns
    is there.
    """
    try:
        named = table_paths((root / "README.md").read_text(encoding="utf-8"))
    except ValueError as error:
        return [str(error)]
    problems = [
        f"README.md: names {n}, which does not exist" for n in named if not (root / n).exists()
    ]
    problems += [
        f"README.md: the table names nothing in {room}/"
        for room in ROOMS
        if not any(n.startswith(room) for n in named)
    ]
    for chapter in chapter_folders(root):
        relative = chapter.relative_to(root).as_posix()
        if not any(n.rstrip("/") == relative or n.startswith(relative + "/") for n in named):
            problems.append(f"README.md: the table lacks the chapter {relative}")
    modules = [p for p in sorted((root / "mmtutor").rglob("*.py")) if p.name != "__init__.py"]
    missing = [p.relative_to(root).as_posix() for p in modules if not _covered(p, root, named)]
    return problems + [f"README.md: the table lacks the module {name}" for name in missing]
