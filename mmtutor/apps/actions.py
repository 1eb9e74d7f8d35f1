"""What `mmtutor sentiment` and `mmtutor demo` do, and what they say on which stream."""

import argparse
import json
import os
import sys
from pathlib import Path

from accelerate import PartialState

from mmtutor.apps.answers import check_target, write_answers
from mmtutor.apps.commands import Options, evaluate, predict, predict_one, train
from mmtutor.apps.demo import serve
from mmtutor.apps.faults import Faults, PostsUnusable
from mmtutor.apps.folder import ModelUnusable, load
from mmtutor.apps.posts import Columns
from mmtutor.encoders.cache import CacheNotWritable
from mmtutor.files.weights import EncoderUnavailable, WeightsCorrupt
from mmtutor.files.whole import whole

PLAIN = (
    PostsUnusable,
    ModelUnusable,
    FileExistsError,
    EncoderUnavailable,
    WeightsCorrupt,
    CacheNotWritable,
)
"""Errors whose message is enough; the name of any other is told with it."""


def run(options: argparse.Namespace) -> int:
    """Carry out one command; return 0, 1 for data or a model that cannot be used, 2 for a wrong
    call."""
    if hasattr(sys.stdout, "reconfigure"):  # a terminal that has no ü writes \xfc, and goes on
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if options.command == "demo":
            return serve(options.model, port=options.port, device=options.device)
        status = {"train": _train, "evaluate": _evaluate, "predict": _predict}[options.action](
            options
        )
        sys.stdout.flush()  # here and not at the end of Python, where nobody would catch it
        return status
    except BrokenPipeError:  # who read the answers has enough of them, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, RuntimeError, ValueError) as problem:
        kind = "" if isinstance(problem, PLAIN) else f"{type(problem).__name__}: "
        print(f"mmtutor: {kind}{problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "mmtutor: interrupted; features that were finished are kept, nothing else was written",
            file=sys.stderr,
        )
        return 130


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        arguments.images,
        Columns(*(getattr(arguments, f"{name}_column") for name in vars(Columns()))),
        {"\\t": "\t", "tab": "\t"}.get(arguments.delimiter, arguments.delimiter),
        arguments.encoding,
        arguments.strict,
        arguments.device,
        max_megabytes=arguments.max_picture_mb,
    )


def _train(arguments: argparse.Namespace) -> int:
    faults = Faults(arguments.strict)
    report = train(
        arguments.posts,
        arguments.out,
        _options(arguments),
        splits=arguments.folds,
        repeats=arguments.repeats,
        seed=arguments.seed,
        decision=arguments.decision,
        overwrite=arguments.overwrite,
        faults=faults,
    )
    if PartialState().is_main_process:
        _tell(faults)
        print("\n".join(report["words"]))
        print(
            f"{arguments.out}: the model; open {Path(arguments.out) / 'report.html'} in a browser"
        )
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    inputs = [arguments.model, arguments.posts]
    target = None if arguments.json is None else check_target(arguments.json, (), inputs)
    faults = Faults(arguments.strict)
    result = evaluate(arguments.model, arguments.posts, _options(arguments), faults)
    _tell(faults)
    if target is None:
        print(_json(result, indent=1))
        return 0
    with whole(target, encoding="utf-8") as file:
        file.write(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    for name in ("macro_f1", "accuracy"):
        value, interval = result[name]["value"], result[name]["interval"]
        print(
            f"{name} {value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
        )
    print(f"n {result['n']['value']}")
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    options = _options(arguments)
    single = bool(arguments.text) or arguments.image is not None
    if single == (arguments.posts is not None):
        print(
            "mmtutor: name a table of posts, or one post with --text, --image or both",
            file=sys.stderr,
        )
        return 2
    if single:
        answer = predict_one(arguments.model, arguments.text, arguments.image, options)
        print(_json(answer))
        return 0
    faults = Faults(arguments.strict)
    answers = predict(arguments.model, arguments.posts, options, faults)
    if arguments.out is None:
        for answer in list(answers) if arguments.strict else answers:  # strict: all, or nothing
            print(_json(answer))
    else:
        out = check_target(arguments.out, inputs=[arguments.model, arguments.posts])
        count = write_answers(answers, out, load(arguments.model)[0].classes)
        print(f"{out}: {count} rows")
    _tell(faults)
    return 0


def _json(content: dict, indent: int | None = None) -> str:
    """Return JSON that stdout can write: characters that it has not are escaped."""
    wide = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return json.dumps(content, indent=indent, ensure_ascii=not wide, allow_nan=False)


def _tell(faults: Faults) -> None:
    if faults.total:
        print(f"mmtutor: faulty rows were left out:\n{faults.summary()}", file=sys.stderr)
