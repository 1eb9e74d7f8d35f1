"""The command line: `mmtutor doctor` says what works here, `mmtutor data` lists, gets and verifies
data sets.

`mmtutor sentiment` trains, judges and uses a model of the sentiment of posts; `mmtutor demo` shows
one in a browser.
"""

from __future__ import annotations

import argparse
import importlib.metadata as metadata
import platform
import sys
from collections.abc import Callable
from functools import partial

from mmtutor.apps import cli as sentiment_cli

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "accelerate",
    "timm",
    "scikit-learn",
    "matplotlib",
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0 when it did what was asked, 1 when something is missing, 2 for a
    wrong call."""
    parser = argparse.ArgumentParser(prog="mmtutor", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="versions, device, packaged weights, data sets")
    data = commands.add_parser("data", help="data sets: list, get NAME, verify [NAME ...]")
    actions = data.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="all sets, their size and licence, and whether they are here")
    get = actions.add_parser("get", help="download one set")
    get.add_argument("name")
    get.add_argument(
        "--accept-licence", action="store_true", help="you have read the licence and agree to it"
    )
    verify = actions.add_parser("verify", help="compare every file with the packaged manifest")
    verify.add_argument("names", nargs="*", help="sets to verify; without names, all that are here")
    sentiment_cli.add_parsers(commands)
    options = parser.parse_args(arguments)
    if options.command in ("sentiment", "demo"):
        return sentiment_cli.run(options)
    return doctor() if options.command == "doctor" else _data(options)


def doctor() -> int:
    """Print versions, device, packaged weights and data sets; return 1 if any of them is not
    right."""
    checks = [
        *_packages(),
        _row("device", _device),
        _row("efficientnet-lite0", partial(_weights, "ImageEncoder", "efficientnet-lite0")),
        _row("minilm", partial(_weights, "TextEncoder", "minilm")),
        _row("espeak-ng", _speech),
    ]
    sets = _row("list of data sets", _sets)
    for good, what, detail in checks if sets[0] else [*checks, sets]:
        print(f"{'ok     ' if good else 'MISSING'}  {what:<24} {detail}")
    if sets[0]:
        print(f"\nData sets (only some notebooks need one):\n{sets[2]}")
    return 0 if all(good for good, _, _ in [*checks, sets]) else 1


def _row(what: str, check: Callable[[], str]) -> tuple[bool, str, str]:
    """Return the row of one check; where it cannot even be made, the row says why and the other
    checks go on."""
    try:
        return True, what, check()
    except (
        Exception
    ) as problem:  # a package that is absent or half installed raises errors of any kind
        return False, what, f"{type(problem).__name__}: {problem}"


def _packages() -> list[tuple[bool, str, str]]:
    """Say which version of each package is installed."""
    found = [(True, "python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((True, name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append((False, name, f"not installed: pip install {name}"))
    return found


def _device() -> str:
    """Name the device that `fit` and the encoders take by default."""
    import torch

    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()})"
    return (
        "mps (Apple)"
        if torch.backends.mps.is_available()
        else f"cpu, {torch.get_num_threads()} threads"
    )


def _weights(kind: str, name: str) -> str:
    """Load one packaged encoder, which checks the sha256 of its weights first."""
    from mmtutor import encoders

    encoder = getattr(encoders, kind)(name, device="cpu")
    encoder.model  # noqa: B018  encoders load at first use; this is where the sha256 is compared
    return f"weights as published, {encoder.dim} features"


def _speech() -> str:
    """Speak one word."""
    from mmtutor.speech import speak

    return f"speaks: {len(speak('seven').waveform)} samples for one word"


def _sets() -> str:
    """Return the table of data sets."""
    from mmtutor.files.commands import list_sets

    return list_sets()


def _data(options: argparse.Namespace) -> int:
    """Carry out `data list`, `data get` or `data verify`."""
    from mmtutor.files import commands, store

    try:
        if options.action == "list":
            print(commands.list_sets())
            return 0
        if options.action == "get":
            commands.get(options.name, accept_licence=options.accept_licence)
            return 0
        return commands.verify(options.names)
    except (store.UnknownDataset, store.DatasetUnavailable, store.DatasetCorrupt) as problem:
        print(f"mmtutor: {problem}", file=sys.stderr)
        return 2 if isinstance(problem, store.UnknownDataset) else 1


if __name__ == "__main__":
    sys.exit(main())
