"""The command line: `mmtutor doctor` says what works here, `mmtutor data` lists, gets and verifies data sets."""

from __future__ import annotations

import argparse
import importlib.metadata as metadata
import platform
import sys

PACKAGES = ("torch", "torchvision", "transformers", "accelerate", "timm", "scikit-learn", "matplotlib")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0 when it did what was asked, 1 when something is missing, 2 for a wrong call."""
    parser = argparse.ArgumentParser(prog="mmtutor", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="versions, device, packaged weights, data sets")
    data = commands.add_parser("data", help="data sets: list, get NAME, verify [NAME ...]")
    actions = data.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="all sets, their size and licence, and whether they are here")
    get = actions.add_parser("get", help="download one set")
    get.add_argument("name")
    get.add_argument("--accept-licence", action="store_true", help="you have read the licence and agree to it")
    verify = actions.add_parser("verify", help="compare every file with the packaged manifest")
    verify.add_argument("names", nargs="*", help="sets to verify; without names, all that are here")
    options = parser.parse_args(arguments)
    return doctor() if options.command == "doctor" else _data(options)


def doctor() -> int:
    """Print versions, device, packaged weights and data sets; return 1 if a package or a weight file is not right."""
    checks = [*_packages(), _device(), *_weights(), *_speech()]
    for good, what, detail in checks:
        print(f"{'ok     ' if good else 'MISSING'}  {what:<24} {detail}")
    print("\nData sets (only some notebooks need one):")
    from mmtutor.data.commands import list_sets

    print(list_sets())
    return 0 if all(good for good, _, _ in checks) else 1


def _packages() -> list[tuple[bool, str, str]]:
    """Say which version of each package is installed."""
    found = [(True, "python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((True, name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append((False, name, f"not installed: pip install {name}"))
    return found


def _device() -> tuple[bool, str, str]:
    """Name the device that `fit` and the encoders take by default."""
    import torch

    if torch.cuda.is_available():
        return True, "device", f"cuda ({torch.cuda.get_device_name()})"
    name = "mps (Apple)" if torch.backends.mps.is_available() else f"cpu, {torch.get_num_threads()} threads"
    return True, "device", name


def _weights() -> list[tuple[bool, str, str]]:
    """Load each packaged encoder, which checks the sha256 of its weights first."""
    from mmtutor.encoders import ImageEncoder, TextEncoder

    found = []
    for make, name in ((ImageEncoder, "efficientnet-lite0"), (TextEncoder, "minilm")):
        try:
            encoder = make(name, device="cpu")
            encoder.model  # noqa: B018  encoders load at first use; this is where the sha256 is compared
            found.append((True, name, f"weights as published, {encoder.dim} features"))
        except Exception as problem:  # whatever is wrong with a weight file, the doctor reports it and goes on
            found.append((False, name, str(problem)))
    return found


def _speech() -> list[tuple[bool, str, str]]:
    """Speak one word."""
    from mmtutor.data.speech import SpeechUnavailable, speak

    try:
        return [(True, "espeak-ng", f"speaks: {len(speak('seven').waveform)} samples for one word")]
    except SpeechUnavailable as problem:
        return [(False, "espeak-ng", str(problem))]


def _data(options: argparse.Namespace) -> int:
    """Carry out `data list`, `data get` or `data verify`."""
    from mmtutor.data import commands, store

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
