"""The words of `mmtutor sentiment` and `mmtutor demo`. Nothing heavy is imported before a command
runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
import uuid
from pathlib import Path

DESCRIPTION = (
    "a model of the sentiment of posts with a text, a picture or both: train, evaluate, predict"
)


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add `sentiment` and `demo` to the commands of `mmtutor`."""
    sentiment = commands.add_parser("sentiment", help=DESCRIPTION, description=DESCRIPTION)
    actions = sentiment.add_subparsers(dest="action", required=True)
    train = actions.add_parser(
        "train", help="choose among text, image, early and late fusion, and train the choice"
    )
    train.add_argument(
        "posts",
        help="CSV, TSV or JSON Lines with the columns text, image, label (group and id if any)",
    )
    train.add_argument("--out", required=True, metavar="MODEL", help="the folder to make")
    train.add_argument("--overwrite", action="store_true", help="replace a model that is there")
    train.add_argument("--folds", type=int, default=5, help="of the cross-validation (default 5)")
    train.add_argument("--repeats", type=int, default=3, help="of the cross-validation (default 3)")
    train.add_argument("--seed", type=int, default=0, help="of the folds (default 0)")
    train.add_argument(
        "--decision",
        choices=("balanced", "likeliest"),
        default="balanced",
        help="the label suits macro-F1 (rare classes count in full) or accuracy",
    )
    evaluate = actions.add_parser("evaluate", help="score a model on labelled posts")
    evaluate.add_argument("model")
    evaluate.add_argument("posts")
    evaluate.add_argument(
        "--json", metavar="FILE", help="write the scores there; else they are printed"
    )
    predict = actions.add_parser("predict", help="answer about a table of posts, or about one post")
    predict.add_argument("model")
    predict.add_argument("posts", nargs="?")
    predict.add_argument("--text", default="", help="of one post")
    predict.add_argument("--image", metavar="FILE", help="of one post")
    predict.add_argument(
        "--out", metavar="FILE", help="write .jsonl or .csv there; else JSON Lines are printed"
    )
    for parser in (train, evaluate, predict):
        _common(parser)
    demo = commands.add_parser(
        "demo", help="try a model on a page of this machine", description="bound to localhost only"
    )
    demo.add_argument("model")
    demo.add_argument("--port", type=int, default=7860, help="0 takes a free one (default 7860)")
    demo.add_argument("--device", choices=("cpu", "cuda", "mps"), default=None)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images", metavar="DIR", help="the folder of the pictures (default: the table's own)"
    )
    for name in ("text", "image", "label", "group", "id"):
        parser.add_argument(
            f"--{name}-column", default=name, metavar="NAME", help=f"default {name!r}"
        )
    parser.add_argument("--delimiter", help="between the cells of a table (default: by its name)")
    parser.add_argument(
        "--encoding", help="of the table (default: UTF-8, GB18030 or Windows-1252, line by line)"
    )
    parser.add_argument(
        "--max-picture-mb", type=float, default=50.0, help="largest picture file (default 50)"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda", "mps"), default=None, help="default: the best there is"
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first faulty row; nothing is written"
    )


def run(options: argparse.Namespace) -> int:
    """Carry out one command; return 0, 1 for data or a model that cannot be used, 2 for a wrong
    call."""
    from mmtutor.apps.faults import PostsUnusable
    from mmtutor.apps.folder import ModelUnusable
    from mmtutor.encoders.cache import CacheNotWritable
    from mmtutor.files.weights import EncoderUnavailable, WeightsCorrupt

    if hasattr(sys.stdout, "reconfigure"):  # a terminal that has no ü writes \xfc, and goes on
        sys.stdout.reconfigure(errors="backslashreplace")
    known = (
        PostsUnusable,
        ModelUnusable,
        FileExistsError,
        EncoderUnavailable,
        WeightsCorrupt,
        CacheNotWritable,
    )
    try:
        if options.command == "demo":
            from mmtutor.apps.demo import serve

            return serve(options.model, port=options.port, device=options.device)
        return {"train": _train, "evaluate": _evaluate, "predict": _predict}[options.action](
            options
        )
    except known as problem:
        print(f"mmtutor: {problem}", file=sys.stderr)
        return 1
    except (OSError, RuntimeError, ValueError) as problem:
        print(f"mmtutor: {type(problem).__name__}: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "mmtutor: interrupted; features that were finished are kept, nothing else was written",
            file=sys.stderr,
        )
        return 130


def _options(arguments: argparse.Namespace):
    from mmtutor.apps.commands import Options
    from mmtutor.apps.posts import Columns

    delimiter = {"\\t": "\t", "tab": "\t"}.get(arguments.delimiter, arguments.delimiter)
    columns = Columns(
        *(
            getattr(arguments, f"{name}_column")
            for name in ("text", "image", "label", "group", "id")
        )
    )
    return Options(
        arguments.images,
        columns,
        delimiter,
        arguments.encoding,
        arguments.strict,
        arguments.device,
        max_megabytes=arguments.max_picture_mb,
    )


def _train(arguments: argparse.Namespace) -> int:
    from accelerate import PartialState

    from mmtutor.apps.commands import train

    report = train(
        arguments.posts,
        arguments.out,
        _options(arguments),
        splits=arguments.folds,
        repeats=arguments.repeats,
        seed=arguments.seed,
        decision=arguments.decision,
        overwrite=arguments.overwrite,
    )
    if PartialState().is_main_process:
        _tell_problems(report["problems"])
        print("\n".join(report["words"]))
        print(
            f"{arguments.out}: the model; open {Path(arguments.out) / 'report.html'} in a browser"
        )
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from mmtutor.apps.commands import evaluate

    target = None if arguments.json is None else Path(arguments.json)
    if target is not None and not target.absolute().parent.is_dir():
        raise OSError(f"{target} cannot be written: its folder does not exist")
    if target is not None and target.is_dir():
        raise OSError(f"{target} cannot be written: it is a folder")
    result = evaluate(arguments.model, arguments.posts, _options(arguments))
    _tell_problems(result["problems"])
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if target is None:
        print(text, end="")
        return 0
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    for name in ("macro_f1", "accuracy"):
        value, interval = result[name]["value"], result[name]["interval"]
        print(
            f"{name} {value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
        )
    print(f"n {result['n']['value']}")
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from mmtutor.apps.answers import check_target, write_answers
    from mmtutor.apps.commands import predict, predict_one
    from mmtutor.apps.faults import Faults
    from mmtutor.apps.folder import load

    options = _options(arguments)
    single = bool(arguments.text) or arguments.image is not None
    if single == (arguments.posts is not None):
        print(
            "mmtutor: name a table of posts, or one post with --text, --image or both",
            file=sys.stderr,
        )
        return 2
    if single:
        print(
            json.dumps(
                predict_one(arguments.model, arguments.text, arguments.image, options),
                ensure_ascii=False,
            )
        )
        return 0
    faults = Faults(arguments.strict)
    answers = predict(arguments.model, arguments.posts, options, faults)
    if arguments.out is None:
        for answer in list(answers) if arguments.strict else answers:  # strict: all, or nothing
            print(json.dumps(answer, ensure_ascii=False))
    else:
        out = check_target(arguments.out)
        count = write_answers(answers, out, load(arguments.model)[0].classes)
        print(f"{out}: {count} rows")
    _tell(faults.summary())
    return 0


def _tell_problems(problems: dict) -> None:
    from mmtutor.apps.faults import Faults, Problem

    faults = Faults()
    faults.counts.update(problems["counts"])
    faults.first = [Problem(**p) for p in problems["first"]]
    _tell(faults.summary())


def _tell(summary: str) -> None:
    if summary:
        print(f"mmtutor: faulty rows were left out:\n{summary}", file=sys.stderr)
