"""A model on disk: a folder of safetensors, JSON and HTML, written whole or not at all, checked
before it is read."""

import hashlib
import importlib.metadata as metadata
import json
import math
import os
import platform
import shutil
import uuid
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from mmtutor.apps.classifier import DECISIONS, SentimentModel
from mmtutor.apps.features import PostEncoder
from mmtutor.checks import require
from mmtutor.choosing.heads import OpinionCalibration, new_head
from mmtutor.files.weights import WEIGHTS

FORMAT = 1
SUMS = "SHA256SUMS"
CONFIG, WEIGHT_FILE, REPORT, PAGE = (
    "config.json",
    "weights.safetensors",
    "report.json",
    "report.html",
)
FILES = (CONFIG, WEIGHT_FILE, REPORT, PAGE)
PACKAGES = ("mmtutor", "torch", "torchvision", "transformers", "timm")


class ModelUnusable(RuntimeError):
    """A model folder that is not there, half-written, altered or made for other encoders; the
    message says which."""


def check_free(folder: Path | str, overwrite: bool = False) -> Path:
    """Return the path for a new model; FileExistsError where something is there that must not be
    overwritten."""
    folder = Path(folder)
    taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    require(
        not taken or overwrite,
        f"{folder} exists already: name another folder, or say --overwrite to replace a model",
        FileExistsError,
    )
    require(
        not taken or (folder / SUMS).is_file(),
        f"{folder} holds no model of this tool, so it is not overwritten: name another folder",
        FileExistsError,
    )
    if taken and (others := sorted({path.name for path in folder.iterdir()} - {SUMS, *FILES})):
        raise FileExistsError(
            f"{folder} holds more than a model, {others}, so it is not overwritten: move them away"
        )
    parent = folder.resolve().parent
    require(
        parent.is_dir() and os.access(parent, os.W_OK),
        f"{folder} cannot be made: {parent} is no folder that can be written to",
        FileExistsError,
    )
    return folder


def save(
    model: SentimentModel,
    encoder: PostEncoder,
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
    tensors = {
        f"{name}.{k}": v.contiguous()
        for name, head in model.heads.items()
        for k, v in head.state_dict().items()
    }
    contents = {
        CONFIG: _json(config_of(model, encoder)),
        WEIGHT_FILE: save_tensors(dict(sorted(tensors.items()))),
        REPORT: _json(report),
        PAGE: page.encode(),
    }
    partial.mkdir(parents=True)
    try:
        for name, content in contents.items():
            (partial / name).write_bytes(content)
        sums = "".join(f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in FILES)
        (partial / SUMS).write_text(sums, encoding="ascii")
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


def config_of(model: SentimentModel, encoder: PostEncoder) -> dict:
    """Return what, besides the weights, makes the model: names, classes, calibrations, encoders,
    versions."""
    text, image = encoder.text, encoder.image
    return {
        "format": FORMAT,
        "classes": list(model.classes),
        "method": model.method,
        "decision": model.decision,
        "shares": list(model.shares),
        "calibrations": {m: asdict(c) for m, c in sorted(model.calibrations.items())},
        "heads": {m: {k: encoder.dims[k] for k in h.encoders} for m, h in model.heads.items()},
        "encoders": {
            "text": {
                "name": text.name,
                "sha256": WEIGHTS[text.name].sha256,
                "max_tokens": text.max_tokens,
            },
            "image": {
                "name": image.name,
                "sha256": WEIGHTS[image.name].sha256,
                "image_size": image.image_size,
            },
        },
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
    }


def load(folder: Path | str, encoder: PostEncoder | None = None) -> tuple[SentimentModel, dict]:
    """Return the model and its config. Every file is compared with SHA256SUMS first; no code comes
    from the folder.

    encoder: compare its networks with those that the model was trained behind.
    Raises ModelUnusable naming what is missing, differs or does not fit.
    """
    folder = Path(folder)
    contents = _checked(folder)
    try:
        config = json.loads(contents[CONFIG])
        require(
            config["format"] == FORMAT,
            f"{folder} has format {config['format']!r}; this version of mmtutor reads {FORMAT}",
            ModelUnusable,
        )
        tensors = load_tensors(contents[WEIGHT_FILE])
        _check_values(folder, config, tensors)
        heads = {}
        for name, dims in config["heads"].items():
            heads[name] = new_head(dims, len(config["classes"]))
            heads[name].load_state_dict(
                {
                    k.removeprefix(f"{name}."): v
                    for k, v in tensors.items()
                    if k.startswith(f"{name}.")
                }
            )
        calibrations = {
            m: OpinionCalibration(c["temperature"], tuple(c["offsets"]))
            for m, c in config["calibrations"].items()
        }
        model = SentimentModel(
            tuple(config["classes"]),
            config["method"],
            heads,
            calibrations,
            tuple(config["shares"]),
            config["decision"],
        )
        if encoder is not None:
            _check_encoders(folder, config, config_of(model, encoder)["encoders"])
    except (
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        RuntimeError,
        SafetensorError,
    ) as error:
        if isinstance(error, ModelUnusable):
            raise
        raise ModelUnusable(
            f"{folder} does not hold a model of this tool: {type(error).__name__}: {error}"
        ) from error
    return model, config


def _check_values(folder: Path, config: dict, tensors: dict[str, Tensor]) -> None:
    """Raise ModelUnusable, naming the entry, for numbers and names with which no model answers."""
    classes, shares, methods = config["classes"], config["shares"], {*config["heads"], "late"}
    names = all(isinstance(name, str) for name in classes)
    right = {
        "classes": names and len(classes) == len(set(classes)) > 1,
        "method": config["method"] in methods,
        "decision": config["decision"] in DECISIONS,
        "shares": len(shares) == len(classes)
        and all(0 <= share <= 1 for share in shares)
        and math.isclose(sum(shares), 1, abs_tol=1e-3),
        "calibrations": {*config["heads"], config["method"]} <= {*config["calibrations"]},
    }
    for m, fitted in config["calibrations"].items():
        right[f"calibrations of {m!r}"] = (
            0 < fitted["temperature"] < math.inf
            and len(fitted["offsets"]) == len(classes)
            and all(map(math.isfinite, fitted["offsets"]))
        )
    right |= {f"weights {k}": bool(v.isfinite().all()) for k, v in tensors.items()}
    for entry, fine in right.items():
        require(fine, f"{folder}: {entry} holds what no model has: train it again", ModelUnusable)


def _checked(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files; ModelUnusable where one is missing or is not as it was
    written."""
    require(
        folder.is_dir(),
        f"{folder} is no folder: expected a model made by `mmtutor sentiment train`",
        ModelUnusable,
    )
    require(
        (folder / SUMS).is_file(),
        f"{folder} has no {SUMS}: it is no model, or one that was copied in part; train or copy"
        " it again",
        ModelUnusable,
    )
    lines = (folder / SUMS).read_text(encoding="ascii", errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    contents = {}
    for name in FILES:
        path = folder / name
        require(
            path.is_file(),
            f"{path} is missing: the model was copied in part; train or copy it again",
            ModelUnusable,
        )
        contents[name] = path.read_bytes()
        require(
            hashlib.sha256(contents[name]).hexdigest() == sums.get(name),
            f"{path} is not as it was written (its sha256 differs): train or copy the model again",
            ModelUnusable,
        )
    return contents


def _check_encoders(folder: Path, config: dict, current: dict) -> None:
    for m, trained in config["encoders"].items():
        require(
            trained == current[m],
            f"{folder} was trained behind the {m} encoder {trained}, here is {current[m]}:"
            " train it again",
            ModelUnusable,
        )


def _json(content: dict) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
