"""The table of contents: which pages the book has, in which order."""

from pathlib import Path

from sphinx_external_toc.parsing import parse_toc_yaml

from mmbook import root

ROOT = root(strict=False)
NO_SOURCES = {".ipynb_checkpoints", "_build"}


def label(path: Path) -> str:
    """Return path as messages show it: from the repository where it lies inside, with slashes."""
    path = Path(path).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


def toc_pages(toc: Path) -> list[str]:
    """Return the pages that a `_toc.yml` lists, without endings, the root first.

    Raises sphinx-external-toc's MalformedError where the site could not read it either.
    """
    return [page.removesuffix(".ipynb").removesuffix(".md") for page in parse_toc_yaml(toc)]


def book_notebooks(root: Path = ROOT) -> list[Path]:
    """Return all notebooks under root/book: those in _toc.yml in its order, then others by name."""
    present = sorted(p for p in (root / "book").rglob("*.ipynb") if not NO_SOURCES & set(p.parts))
    toc = root / "_toc.yml"
    listed = [root / f"{page}.ipynb" for page in (toc_pages(toc) if toc.exists() else [])]
    return list(dict.fromkeys([path for path in listed if path in present] + present))


def chapter_folders(root: Path = ROOT) -> list[Path]:
    """Return the folders of the chapters (two digits and a name, holding a notebook), in order."""
    return sorted({path.parent for path in (root / "book").glob("[0-9][0-9]_*/*.ipynb")})


def book_sheets(root: Path = ROOT) -> list[Path]:
    """Return the exercise sheets of the book, by chapter."""
    return sorted((root / "book").glob("[0-9][0-9]_*/exercises.ipynb"))
