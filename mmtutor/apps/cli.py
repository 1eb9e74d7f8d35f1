"""The words of `mmtutor sentiment` and `mmtutor demo`. Nothing heavy is imported before a command
runs."""

import argparse

from mmtutor.apps.faults import MAX_MEGABYTES

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
        "--max-picture-mb",
        type=float,
        default=MAX_MEGABYTES,
        help=f"largest picture file (default {MAX_MEGABYTES:g})",
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
    from mmtutor.apps.actions import run

    return run(options)
