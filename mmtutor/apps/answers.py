"""Answers on their way to a file: row by row, whole or not at all."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmtutor.apps.faults import PostsUnusable
from mmtutor.apps.features import MODALITIES
from mmtutor.checks import require
from mmtutor.files.whole import whole

KINDS = (".jsonl", ".csv")
FACTS = ("row", "id", "label", "answered_by")


def check_target(
    out: Path | str, kinds: tuple[str, ...] = KINDS, inputs: Iterable[Path | str | None] = ()
) -> Path:
    """Return the path of a file to come; PostsUnusable where it cannot be one. kinds: how its name
    may end, () for any way; inputs: files that are read, and folders, which it must not change."""
    out = Path(out)
    real = out.resolve()
    for path in filter(Path.exists, (Path(each).resolve() for each in inputs if each is not None)):
        require(
            not real.is_relative_to(path) and not (real.exists() and path.samefile(real)),
            f"{out} cannot be written: it is, or lies in, {path}, which this command reads",
            PostsUnusable,
        )
    require(
        not kinds or out.suffix.lower() in kinds,
        f"{out.name}: answers are written as {' or '.join(kinds)}",
        PostsUnusable,
    )
    require(
        out.absolute().parent.is_dir(),
        f"{out} cannot be written: its folder does not exist",
        PostsUnusable,
    )
    require(not out.is_dir(), f"{out} cannot be written: it is a folder", PostsUnusable)
    return out


def write_answers(answers: Iterator[dict], out: Path | str, classes: tuple[str, ...]) -> int:
    """Write answers to a .jsonl or .csv file and return how many; after an error or Ctrl-C no file
    is left.

    In a CSV file the probabilities stand in columns "p(class)", contributions in "from text" and
    "from image".
    """
    out, count = check_target(out), 0
    with whole(out, encoding="utf-8", newline="") as file:
        table = None
        if out.suffix.lower() == ".csv":
            opinions = [*(f"p({c})" for c in classes), *(f"from {m}" for m in MODALITIES)]
            columns = [*FACTS[:3], *opinions, FACTS[3], "problem"]
            table = csv.DictWriter(file, columns, restval="")
            table.writeheader()
        for answer in answers:
            if table is None:
                file.write(json.dumps(answer, ensure_ascii=False) + "\n")
            else:
                table.writerow(_cells(answer))
            count += 1
    return count


def _cells(answer: dict) -> dict[str, object]:
    """Return an answer as the cells of one row, by column; those it does not have are left out."""
    cells = {key: answer[key] for key in FACTS if answer.get(key) is not None}
    cells |= {f"p({c})": p for c, p in answer.get("probabilities", {}).items()}
    cells |= {f"from {m}": v for m, v in answer.get("contributions", {}).items()}
    if problem := answer.get("problem"):
        cells["problem"] = f"{problem['column']}: {problem['kind']}: {problem['detail']}"
    return cells
