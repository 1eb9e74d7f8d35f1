"""The command line: `mmtutor doctor` says what works here, `mmtutor data` lists, gets and verifies
data sets.

`mmtutor train` finds out what each modality of a table is worth and makes a model, `mmtutor
evaluate` and `mmtutor predict` use one, `mmtutor demo` shows it in a browser.
"""

import argparse
import importlib.metadata as metadata
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from textwrap import shorten

from mmtutor.apps import cli as table_cli
from mmtutor.files import store
from mmtutor.files.manifest import Manifest, manifest, names

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "accelerate",
    "timm",
    "scikit-learn",
    "scikit-fuzzy",
    "matplotlib",
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0 when it did what was asked, 1 when something is missing, 2 for a
    wrong call."""
    parser = argparse.ArgumentParser(prog="mmtutor", description=__doc__)
    parser.set_defaults(run=table_cli.run)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "doctor", help="versions, device, packaged weights, data sets"
    ).set_defaults(run=lambda _: doctor())
    actions = commands.add_parser(
        "data", help="data sets: list, get NAME, verify [NAME ...]"
    ).add_subparsers(dest="action", required=True)
    actions.add_parser(
        "list", help="all sets, their size and licence, and whether they are here"
    ).set_defaults(run=lambda _: print(list_sets()))
    get_one = actions.add_parser("get", help="download one set")
    get_one.set_defaults(run=lambda options: get(options.name, options.accept_licence))
    get_one.add_argument("name")
    get_one.add_argument(
        "--accept-licence", action="store_true", help="you have read the licence and agree to it"
    )
    compare = actions.add_parser("verify", help="compare every file with the packaged manifest")
    compare.set_defaults(run=lambda options: verify(options.names))
    compare.add_argument(
        "names", nargs="*", help="sets to verify; without names, all that are here"
    )
    table_cli.add_parsers(commands)
    options = parser.parse_args(arguments)
    try:
        return options.run(options) or 0  # what has nothing to say of its success has done it
    except (store.UnknownDataset, store.DatasetUnavailable, store.DatasetCorrupt) as problem:
        print(f"mmtutor: {problem}", file=sys.stderr)
        return 2 if isinstance(problem, store.UnknownDataset) else 1


def doctor() -> int:
    """Print versions, device, packaged weights and data sets; return 1 if any of them is not
    right."""
    checks: dict[str, Callable[[], str]] = {
        "python": platform.python_version,
        **{name: partial(metadata.version, name) for name in PACKAGES},
        "device": _device,
        "efficientnet-lite0": partial(_weights, "image", "ImageEncoder", "efficientnet-lite0"),
        "minilm": partial(_weights, "text", "TextEncoder", "minilm"),
        "espeak-ng": _speech,
        "list of data sets": lambda: f"only some notebooks need one\n\n{list_sets()}",
    }
    rows = [_row(what, check) for what, check in checks.items()]
    for good, what, detail in rows:
        print(f"{'ok     ' if good else 'MISSING'}  {what:<24} {detail}")
    return 0 if all(good for good, _, _ in rows) else 1


def _row(what: str, check: Callable[[], str]) -> tuple[bool, str, str]:
    """Return the row of one check; where it cannot even be made, the row says why and the other
    checks go on."""
    try:
        return True, what, check()
    except metadata.PackageNotFoundError:
        return False, what, f"not installed: pip install {what}"
    except Exception as problem:  # what is half installed raises errors of any kind
        return False, what, f"{type(problem).__name__}: {problem}"


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


def _weights(module: str, kind: str, name: str) -> str:
    """Load one packaged encoder, which checks the sha256 of its weights first."""
    encoder = getattr(import_module(f"mmtutor.encoders.{module}"), kind)(name, device="cpu")
    encoder.model  # noqa: B018  encoders load at first use; this is where the sha256 is compared
    return f"weights as published, {encoder.dim} features"


def _speech() -> str:
    """Speak one word."""
    from mmtutor.speech import speak

    return f"speaks: {len(speak('seven').waveform)} samples for one word"


def list_sets() -> str:
    """Return a table of all sets: name, samples, size, commercial use, where it is on this machine,
    licence."""
    rows: list[tuple[str, ...]] = [
        ("name", "samples", "MB", "commercial", "present", "licence"),
        *(
            (
                data.name,
                str(data.n),
                f"{data.total_bytes / 1e6:.1f}",
                data.commercial,
                presence(data),
                shorten(data.licence, 48, placeholder="…"),
            )
            for data in map(manifest, names())
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def presence(data: Manifest) -> str:
    """Say where a set lies, by its files' sizes: "MMTUTOR_DATA" or "cache" (or "…, incomplete"),
    "no", "unreadable"."""
    try:
        folder = store.locate(data)
    except store.DatasetUnavailable:
        return "unreadable"
    if folder is None:
        return (
            "no (download begun)"
            if any(p.is_file() for p in (store.cache_root() / data.name / "partial").rglob("*"))
            else "no"
        )
    place = "MMTUTOR_DATA" if store.in_mirror(folder) else "cache"
    complete = all(
        (folder / f.path).is_file() and (folder / f.path).stat().st_size == f.bytes
        for f in data.files
    )
    return place if complete else f"{place}, incomplete"


def get(name: str, accept_licence: bool = False) -> None:
    """Make sure that a set is on this machine, downloading or mending it; print where and its
    terms.

    Raises UnknownDataset and what `store.fetch` raises; the command line prints that and ends with
    another status.
    """
    data = manifest(name)
    folder = store.fetch(data, accept_licence, repair=True)
    print(f"{name}: {data.size}, verified, in {folder}")
    print(f"licence: {data.licence}\ncite: {data.citation}")


def verify(chosen: Sequence[str] = ()) -> int:
    """Hash every file of the named sets, or of all that are here; print a line each; return 0 if
    all match, else 1.

    Raises UnknownDataset before anything is hashed, DatasetUnavailable where no set is here.
    """
    sets = [manifest(name) for name in chosen] or [
        data for data in map(manifest, names()) if store.locate(data) is not None
    ]
    if not sets:
        raise store.DatasetUnavailable(
            "no data set is on this machine; `mmtutor data list` shows what there is"
        )
    status = 0
    for data in sets:
        try:
            print(f"{data.name}: every file matches, in {store.find(data, every=True)}")
        except (store.DatasetUnavailable, store.DatasetCorrupt) as error:
            print(error, file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
