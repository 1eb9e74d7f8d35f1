"""Answers on their way to a file: row by row, whole or not at all."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmtutor.apps.faults import TableUnusable
from mmtutor.checks import require
from mmtutor.files.whole import whole

KINDS = (".jsonl", ".csv")
FACTS = ("row", "id", "label", "answered_by")


def check_target(
    out: Path | str, kinds: tuple[str, ...] = KINDS, inputs: Iterable[Path | str | None] = ()
) -> Path:
    """Return the path of a file to come; TableUnusable where it cannot be one. kinds: how its name
    may end, () for any way; inputs: files that are read, and folders, which it must not change."""
    out, real = Path(out), Path(out).resolve()
    read = [path for each in inputs if (path := Path(str(each)).resolve()).exists()]
    within = [path for path in read if real.is_relative_to(path)]
    same = [path for path in read if real.exists() and path.samefile(real)]
    for fine, told in (
        (not within + same, f"it is, or lies in, {[*within, *same]}, which this command reads"),
        (not kinds or out.suffix.lower() in kinds, f"answers are written as {' or '.join(kinds)}"),
        (out.absolute().parent.is_dir(), "its folder does not exist"),
        (not out.is_dir(), "it is a folder"),
    ):
        require(fine, f"{out} cannot be written: {told}", TableUnusable)
    return out


def write_json(content: dict, out: Path | str) -> None:
    """Write JSON to a file, whole or not at all."""
    with whole(Path(out), encoding="utf-8") as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_answers(answers: Iterator[dict], out: Path | str, config: dict) -> int:
    """Write a model's answers to a .jsonl or .csv file and return how many; after an error or
    Ctrl-C no file is left. config: the model's.

    In a CSV file the probabilities stand in columns "p(class)", a number's interval in "low" and
    "high", contributions in "from text" and the like.
    """
    out, count = check_target(out), 0
    opinions = [f"p({c})" for c in config["classes"]] or ["low", "high"]
    gains = [f"from {m}" for m in config["dims"]]
    with whole(out, encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [*FACTS[:3], *opinions, *gains, FACTS[3], "problem"])
        as_table = out.suffix.lower() == ".csv"
        if as_table:
            table.writeheader()
        for answer in answers:
            count += 1
            if as_table:
                table.writerow(_cells(answer))
            else:
                file.write(json.dumps(answer, ensure_ascii=False) + "\n")
    return count


def _cells(answer: dict) -> dict[str, object]:
    """Return an answer as the cells of one row, by column; those it does not have are empty."""
    problem = answer.get("problem")
    return {
        **{key: answer.get(key) for key in FACTS},
        **{f"p({c})": p for c, p in answer.get("probabilities", {}).items()},
        **dict(zip(("low", "high"), answer.get("interval", ()), strict=False)),
        **{f"from {m}": v for m, v in answer.get("contributions", {}).items()},
        "problem": problem and f"{problem['column']}: {problem['kind']}: {problem['detail']}",
    }
