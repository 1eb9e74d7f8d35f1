"""Answers on their way to a file: row by row, under a temporary name until the last one is
written."""

from __future__ import annotations

import csv
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from mmtutor.apps.faults import PostsUnusable
from mmtutor.apps.features import MODALITIES

KINDS = (".jsonl", ".csv")


def check_target(out: Path | str) -> Path:
    """Return the path of a file of answers to come; PostsUnusable where it cannot be one."""
    out = Path(out)
    if out.suffix.lower() not in KINDS:
        raise PostsUnusable(f"{out.name}: answers are written as {' or '.join(KINDS)}")
    if not out.absolute().parent.is_dir():
        raise PostsUnusable(f"{out} cannot be written: its folder does not exist")
    if out.is_dir():
        raise PostsUnusable(f"{out} cannot be written: it is a folder")
    return out


def write_answers(answers: Iterator[dict], out: Path | str, classes: tuple[str, ...]) -> int:
    """Write answers to a .jsonl or .csv file and return how many; after an error or Ctrl-C no file
    is left.

    In a CSV file the probabilities stand in columns "p(class)", contributions in "from text" and
    "from image".
    """
    out = check_target(out)
    partial, count = out.with_name(f".{out.name}.{uuid.uuid4().hex}"), 0
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            write = (
                _csv_writer(file, classes) if out.suffix.lower() == ".csv" else _json_writer(file)
            )
            for answer in answers:
                write(answer)
                count += 1
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _json_writer(file):
    return lambda answer: file.write(json.dumps(answer, ensure_ascii=False) + "\n")


def _csv_writer(file, classes: tuple[str, ...]):
    names = [f"p({c})" for c in classes]
    sources = [f"from {m}" for m in MODALITIES]
    table = csv.DictWriter(
        file, ["row", "id", "label", *names, *sources, "answered_by", "problem"], restval=""
    )
    table.writeheader()

    def write(answer: dict) -> None:
        flat = {key: answer[key] for key in ("row", "id", "label", "answered_by") if key in answer}
        flat |= {f"p({c})": p for c, p in answer.get("probabilities", {}).items()}
        flat |= {f"from {m}": v for m, v in answer.get("contributions", {}).items()}
        if problem := answer.get("problem"):
            flat["problem"] = f"{problem['column']}: {problem['kind']}: {problem['detail']}"
        table.writerow({key: "" if value is None else value for key, value in flat.items()})

    return write
