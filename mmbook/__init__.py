"""The tools behind the book: run the notebooks, check its laws, build its site, derive the student
edition of the exercises."""

from pathlib import Path

PARTS_OF_A_CHECKOUT = ("_config.yml", "_toc.yml", "book")


def root(start: Path | None = None, strict: bool = True) -> Path:
    """Return the book's root: the checkout around `start` (default: the working directory).

    An editable install knows its own checkout, so from elsewhere that one is meant. Raises
    FileNotFoundError where there is neither; not strict: the working directory, for what is only
    imported there.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if all((folder / part).exists() for part in PARTS_OF_A_CHECKOUT):
            return folder
    if start is None and not strict:
        return here
    raise FileNotFoundError(
        f"{here} is not within a checkout of the book (a folder with"
        f" {', '.join(PARTS_OF_A_CHECKOUT)}): change into one, or clone the repository"
    )
