"""The words of `mmtutor train`, `evaluate`, `predict` and `demo`, what they do, and what they say
on which stream. Nothing heavy is imported before a command runs."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from mmtutor.apps.faults import MAX_MEGABYTES, Faults

DEVICES = ("cpu", "cuda", "mps")
Words = dict[str, dict[str, Any]]
LISTED = {"type": lambda text: tuple(filter(None, text.split(","))), "default": ()}

TABLE: Words = {
    "table": {"help": "CSV, TSV, JSON Lines, Parquet or Excel, gzipped or not; - for stdin"}
}
MODEL: Words = {"model": {"help": "the folder that `mmtutor train` made"}}
READING: Words = {
    **{
        f"--{role}": {"metavar": "COLUMN", "help": f"default: the column {role!r}, if there is one"}
        for role in ("text", "image", "audio", "group", "id", "label")
    },
    "--target": {"metavar": "COLUMN", "help": "of a number to predict in place of a label"},
    "--numbers": {**LISTED, "metavar": "A,B", "help": "columns of numbers"},
    "--categories": {**LISTED, "metavar": "A,B", "help": "columns of categories"},
    "--folder": {"metavar": "DIR", "help": "of pictures and sounds (default: the table's own)"},
    "--missing": {
        "type": lambda text: tuple(text.split(",")),
        "metavar": "A,B",
        "help": "cells that are empty (default: nothing, nan, na, n/a, null, <na>, #n/a, None)",
    },
    "--delimiter": {"help": "between cells (default: by the table's name, or what it shows)"},
    "--encoding": {"help": "of the table (default: what fits all of it)"},
    "--quoting": {"choices": ("auto", "yes", "no"), "default": "auto", "help": "of cells"},
    "--max-megabytes": {"type": float, "default": MAX_MEGABYTES, "help": "of a picture or sound"},
    "--device": {"choices": DEVICES, "help": "default: the best there is"},
    "--strict": {"action": "store_true", "help": "stop at the first faulty row; write nothing"},
}
SHOWN = ("macro_f1", "accuracy", "r2", "mae", "n")
"""Scores that are printed beside a file of all."""
TRAINING = ("splits", "repeats", "seed", "decision", "positive", "overwrite")
"""Words that only `train` takes, beside those of `Options`."""
COMMANDS: dict[str, tuple[str, Words]] = {
    "train": (
        "find out what each modality of a table is worth, and make a model of the best way to read"
        " its rows",
        {
            **TABLE,
            "--out": {"required": True, "metavar": "MODEL", "help": "the folder to make"},
            **READING,
            "--slices": {**LISTED, "metavar": "A,B:40:60", "help": "how good for whom"},
            "--positive": {**LISTED, "metavar": "A,B", "help": "classes whose sensitivity is told"},
            "--text-encoder": {
                "default": "minilm",
                "metavar": "NAME",
                "help": "minilm (English, the default), characters (any language, nothing loaded),"
                " or a model of transformers by its name or folder",
            },
            "--decision": {
                "choices": ("balanced", "likeliest"),
                "default": "balanced",
                "help": "the label suits macro-F1 (rare classes count in full) or accuracy",
            },
            "--folds": {
                "type": int,
                "default": 5,
                "dest": "splits",
                "metavar": "N",
                "help": "of the cross-validation (default 5)",
            },
            "--repeats": {"type": int, "default": 3, "metavar": "N", "help": "of it (default 3)"},
            "--seed": {
                "type": int,
                "default": 0,
                "metavar": "N",
                "help": "of the folds (default 0)",
            },
            "--overwrite": {"action": "store_true", "help": "replace a model that is there"},
        },
    ),
    "evaluate": (
        "score a model on a labelled table",
        {
            **MODEL,
            **TABLE,
            **READING,
            "--without": {**LISTED, "metavar": "A,B", "help": "modalities to take as absent"},
            "--json": {"metavar": "FILE", "help": "write the scores there; else they are printed"},
        },
    ),
    "predict": (
        "answer about each row of a table",
        {
            **MODEL,
            **TABLE,
            **READING,
            "--without": {**LISTED, "metavar": "A,B", "help": "modalities to take as absent"},
            "--out": {"metavar": "FILE", "help": ".jsonl or .csv; else JSON Lines are printed"},
        },
    ),
    "demo": (
        "try a model on a page of this machine; bound to localhost only",
        {
            **MODEL,
            "--port": {"type": int, "default": 7860, "help": "0 takes a free one (default 7860)"},
            "--device": {"choices": DEVICES, "help": "default: the best there is"},
        },
    ),
}


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the table tool's commands to those of `mmtutor`."""
    for name, (what, words) in COMMANDS.items():
        parser = commands.add_parser(name, help=what, description=what)
        for word, meaning in words.items():
            parser.add_argument(word, **meaning)


def run(arguments: argparse.Namespace) -> int:
    """Carry out one command; return 0, 1 for data or a model that cannot be used, 130 where it was
    interrupted."""
    if hasattr(sys.stdout, "reconfigure"):  # a terminal that has no ü writes \xfc, and goes on
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _done(arguments)
        sys.stdout.flush()  # here and not at the end of Python, where nobody would catch it
    except BrokenPipeError:  # who read the answers has enough of them, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, RuntimeError, ValueError, KeyError) as problem:
        # the messages of our own errors are enough; other errors tell their name, too
        own = type(problem).__module__.startswith("mmtutor") or type(problem) is FileExistsError
        kind = "" if own else f"{type(problem).__name__}: "
        told = problem.args[0] if isinstance(problem, KeyError) else problem  # not its repr
        print(f"mmtutor: {kind}{told}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "mmtutor: interrupted; features that were finished are kept, nothing else was written",
            file=sys.stderr,
        )
        return 130
    return 0


def _done(arguments: argparse.Namespace) -> None:
    from accelerate import PartialState

    from mmtutor.apps import answers, commands, demo, folder, rows

    said = vars(arguments)
    if arguments.command == "demo":
        demo.serve(arguments.model, port=arguments.port, device=arguments.device)
        return
    columns = {k: v for k, v in said.items() if k in vars(rows.Roles()) and v is not None}
    known = {k: v for k, v in said.items() if k in vars(commands.Options())}
    known["delimiter"] = {"\\t": "\t", "tab": "\t"}.get(arguments.delimiter, arguments.delimiter)
    options, faults = commands.Options(rows.Roles(**columns), **known), Faults(arguments.strict)
    out = said.get("json", said.get("out"))
    if arguments.command == "train":
        settings = {name: said[name] for name in TRAINING}
        report = commands.train(arguments.table, arguments.out, options, faults=faults, **settings)
        if PartialState().is_main_process:
            print("\n".join(report["words"]))
            print(f"{arguments.out}: open {Path(arguments.out) / 'report.html'} in a browser")
    elif arguments.command == "evaluate":
        target = out and answers.check_target(out, (), [arguments.model, arguments.table])
        scores = commands.evaluate(arguments.model, arguments.table, options, faults)
        if target:
            answers.write_json(scores, target)
        print(_json({m: s for m, s in scores.items() if not target or m in SHOWN}, 1))
    else:
        target = out and answers.check_target(out, inputs=[arguments.model, arguments.table])
        found = commands.predict(arguments.model, arguments.table, options, faults)
        if target:
            _, config = folder.load(arguments.model)
            print(f"{target}: {answers.write_answers(found, target, config)} rows")
        else:
            for answer in list(found) if arguments.strict else found:  # strict: all, or nothing
                print(_json(answer))
    lost = [f"faulty rows were left out:\n{faults.summary()}"] if faults.counts else []
    for remark in [*faults.remarks, *lost]:
        print(f"mmtutor: {remark}", file=sys.stderr)


def _json(content: dict, indent: int | None = None) -> str:
    """Return JSON that stdout can write: characters that it has not are escaped."""
    wide = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return json.dumps(content, indent=indent, ensure_ascii=not wide, allow_nan=False)
