"""A model on disk: a folder of safetensors, JSON and HTML, written whole or not at all, checked
before it is read."""

import hashlib
import importlib.metadata as metadata
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from mmtutor.apps import encoding, rows
from mmtutor.apps.model import Model
from mmtutor.checks import require
from mmtutor.choosing.choice import Method, methods_of
from mmtutor.choosing.heads import NumberCalibration, OpinionCalibration, new_head
from mmtutor.choosing.nested import DECISIONS

FORMAT = 2
SUMS = "SHA256SUMS"
FILES = ("config.json", "weights.safetensors", "report.json", "report.html")
PACKAGES = ("mmtutor", "torch", "torchvision", "transformers", "timm")


class ModelUnusable(RuntimeError):
    """A model folder that is not there, half-written, altered or made for other encoders; the
    message says which."""


def check_free(folder: Path | str, overwrite: bool = False) -> Path:
    """Return the path for a new model; FileExistsError where something is there that must not be
    overwritten."""
    folder = Path(folder)
    parent = folder.resolve().parent
    inside = folder.iterdir() if folder.is_dir() else [folder] * folder.exists()
    names = {path.name for path in inside}
    others = sorted(names - {SUMS, *FILES})
    for fine, told in (
        (not names or overwrite, "exists already: name another folder, or say --overwrite"),
        (not names or SUMS in names, "holds no model of this tool: name another folder"),
        (not others, f"holds more than a model, {others}: move them away"),
        (parent.is_dir() and os.access(parent, os.W_OK), f"cannot be made: look at {parent}"),
    ):
        require(fine, f"{folder} {told}; nothing was overwritten", FileExistsError)
    return folder


def save(
    model: Model,
    encoder: encoding.RowEncoder,
    report: dict,
    page: str,
    folder: Path | str,
    overwrite: bool = False,
) -> Path:
    """Write a model under a temporary name beside `folder` and move it into place, so that no half
    of one is found. FileExistsError where something has appeared there that may not be replaced.

    The same model gives the same bytes: no file holds a time, a path or a name of the machine.
    """
    folder = Path(folder).resolve()
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    tensors = {k: v.contiguous() for k, v in nn.ModuleDict(model.heads).state_dict().items()}
    weights = safetensors.torch.save(dict(sorted(tensors.items())))
    contents = [_json(config_of(model, encoder)), weights, _json(report), page.encode()]
    sums = b"".join(line + b"\n" for line in _sums(contents))
    partial.mkdir(parents=True)
    try:
        for name, content in zip((*FILES, SUMS), (*contents, sums), strict=True):
            (partial / name).write_bytes(content)
        _swap(partial, check_free(folder, overwrite))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _swap(partial: Path, folder: Path) -> None:
    """Put `partial` in the place of `folder`, which is kept until the new one stands; what is no
    file of a model is never removed."""
    old = partial.with_name(partial.name + ".old")
    if folder.exists():
        folder.rename(old)
        if added := {path.name for path in old.iterdir()} - {SUMS, *FILES}:
            old.rename(folder)
            raise FileExistsError(f"{folder} holds {sorted(added)} since just now: move them away")
    try:
        partial.rename(folder)
    except BaseException:  # Ctrl-C too
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    for name in (SUMS, *FILES):
        (old / name).unlink(missing_ok=True)
    with suppress(OSError):
        old.rmdir()


def config_of(model: Model, encoder: encoding.RowEncoder) -> dict:
    """Return what, besides the weights, makes the model: names, classes, calibrations, columns,
    encoders, versions."""
    return {
        "format": FORMAT,
        "classes": list(model.classes),
        "method": model.name,
        "decision": model.decision,
        "shares": list(model.shares),
        "target": list(model.target),
        "calibrations": {m: asdict(c) for m, c in sorted(model.calibrations.items())},
        "heads": {m: list(h.encoders) for m, h in model.heads.items()},
        "dims": encoder.dims,
        "knots": encoder.knots,
        "roles": asdict(encoder.roles),
        "vocabulary": [list(words) for words in encoder.vocabulary],
        "encoders": _encoders(encoder),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def load(folder: Path | str) -> tuple[Model, dict]:
    """Return the model and its config. Every file is compared with SHA256SUMS first; no code comes
    from the folder.

    Raises ModelUnusable naming what is missing, differs or does not fit.
    """
    settings, weights, *_ = _checked(folder := Path(folder))
    try:
        config = json.loads(settings)
        require(
            config["format"] == FORMAT,
            f"{folder} has format {config['format']!r}; this version of mmtutor reads {FORMAT}:"
            " train it again",
            ModelUnusable,
        )
        tensors = safetensors.torch.load(weights)
        _check_values(folder, config, tensors)
        outputs = len(config["classes"]) or 1
        heads = {
            name: new_head({m: config["dims"][m] for m in reads}, outputs, config["knots"])
            for name, reads in config["heads"].items()
        }
        nn.ModuleDict(heads).load_state_dict(tensors)
        kind = OpinionCalibration if config["classes"] else NumberCalibration
        return Model(
            tuple(config["classes"]),
            config["method"],
            _methods(config)[config["method"]],
            heads,
            {m: kind(**_tuples(c)) for m, c in config["calibrations"].items()},
            tuple(config["shares"]),
            config["decision"],
            tuple(config["target"]),
        ), config
    except ModelUnusable:
        raise
    except Exception as odd:  # what a forged config makes of Python is anybody's guess
        raise ModelUnusable(
            f"{folder} does not hold a model of this tool: {type(odd).__name__}: {odd}"
        ) from odd


def roles_of(config: dict) -> rows.Roles:
    """Return the roles of columns that a model was trained with."""
    return rows.Roles(**_tuples(config["roles"]))


def encoder_of(
    config: dict, model: Path | str, roles: rows.Roles, **options: Any
) -> encoding.RowEncoder:
    """Return the encoder that a model was trained behind, for the columns `roles`; ModelUnusable
    where the packaged networks are no longer the same, or columns are more or fewer."""
    words = tuple(map(tuple, config["vocabulary"]))
    name = config["encoders"].get("text", {}).get("name", "minilm")
    encoder = encoding.RowEncoder(roles, vocabulary=words, text_encoder=name, **options)
    now = {"encoders": _encoders(encoder), "dims": encoder.dims}
    for what, here in now.items():
        require(
            here == config[what],
            f"{model} was trained with the {what} {config[what]}, here are {here}: train it again",
            ModelUnusable,
        )
    return encoder


def _encoders(encoder: encoding.RowEncoder) -> dict:
    each = encoder.encoders.items()
    return {m: {"name": e.name, "sha256": getattr(e, "sha256", None)} for m, e in each}


def _tuples(content: dict) -> dict:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}


def _methods(config: dict) -> dict[str, Method]:
    singles = [m for m in config["heads"] if config["heads"][m] == [m]]
    return methods_of(singles, numbers=not config["classes"])


def _check_values(folder: Path, config: dict, tensors: dict[str, Tensor]) -> None:
    """Raise ModelUnusable, naming the entry, for numbers and names with which no model answers."""
    classes, shares, methods = config["classes"], config["shares"], _methods(config)
    names = all(isinstance(name, str) for name in classes)
    heads = {name for name, reads in config["heads"].items() if {*reads} <= {*config["dims"]}}
    needed = {config["method"], *heads, *({"late"} & {*methods})}
    right = {
        "classes": names and len(classes) == len(set(classes)) != 1,
        "heads": {*config["heads"]} == heads <= {*methods},
        "method": config["method"] in methods
        and (not methods[config["method"]].head or config["method"] in heads),
        "roles": isinstance(config["roles"], dict),
        "vocabulary": isinstance(config["vocabulary"], list)
        and len(config["vocabulary"]) == len(dict(config["roles"]).get("categories", ())),
        "encoders": all(isinstance(e, dict) and "name" in e for e in config["encoders"].values()),
        "decision": config["decision"] in DECISIONS,
        "shares": len(shares) == len(classes)
        and all(0 <= share <= 1 for share in shares)
        and (not classes or math.isclose(sum(shares), 1, abs_tol=1e-3)),
        "target": len(config["target"]) == 2
        and all(map(math.isfinite, config["target"]))
        and config["target"][1] > 0,
        "calibrations": needed <= {*config["calibrations"]},
    }
    for m, fitted in config["calibrations"].items():
        offsets = fitted.get("offsets", ())
        right[f"calibrations of {m!r}"] = (
            len(offsets) == len(classes)
            and all(map(math.isfinite, [*offsets, *(fitted[k] for k in fitted if k != "offsets")]))
            and fitted.get("temperature", 1) > 0 <= fitted.get("spread", 0)
        )
    right |= {f"weights {k}": bool(v.isfinite().all()) for k, v in tensors.items()}
    for entry, fine in right.items():
        require(fine, f"{folder}: {entry} holds what no model has: train it again", ModelUnusable)


def _checked(folder: Path) -> list[bytes]:
    """Return the contents of FILES; ModelUnusable where one is missing or is not as it was
    written."""
    require(
        folder.is_dir(),
        f"{folder} is no folder: expected a model made by `mmtutor train`",
        ModelUnusable,
    )
    paths = [folder / name for name in (SUMS, *FILES)]
    for path in paths:
        require(
            path.is_file(),
            f"{path} is missing: train the model, or copy it, again",
            ModelUnusable,
        )
    sums, *contents = [path.read_bytes() for path in paths]
    for path, line in zip(paths[1:], _sums(contents), strict=True):
        require(
            line in sums.splitlines(),
            f"{path} is not as it was written (its sha256 differs): train it again",
            ModelUnusable,
        )
    return contents


def _sums(contents: Iterable[bytes]) -> list[bytes]:
    """Return the lines of SHA256SUMS on the contents of FILES."""
    pairs = zip(contents, FILES, strict=True)
    return [f"{hashlib.sha256(content).hexdigest()}  {name}".encode() for content, name in pairs]


def _json(content: dict) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
