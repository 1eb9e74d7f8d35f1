"""What the rooms above ask of their input, each refusal with an error that names what is wrong.

Taught in chapter 1.
"""

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from mmtutor.types import Samples

Array = Tensor | np.ndarray | Sequence[float]
"""Anything the evaluation functions read: a torch tensor on any device, a numpy array, a list of
numbers."""

NATS_PER_UNIT = {"nats": 1.0, "bits": float(np.log(2))}


def require(met: object, message: str, error: type[Exception] = ValueError) -> None:
    """Raise `error` with this message unless `met`; the message says what is wrong, what was
    expected, what to do. It is made either way: write `if` and `raise` where that costs something
    or could fail."""
    if not met:
        raise error(message)


def whole_number(
    name: str, value: object, low: int = 0, high: int | None = None, hint: str = ""
) -> int:
    """Return `value` as an int; ValueError unless a whole number in low..high (None: no upper end).

    numpy's integers count, True and False do not, nor do floats, however round. hint: what the
    message adds, such as where the upper end comes from.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int | np.integer)
        or not low <= value <= (value if high is None else high)
    ):
        span = f"of {low} or more" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be a whole number {span}, not {value!r}{hint}")
    return int(value)


def is_number(value: object) -> TypeGuard[float]:
    """Say whether `value` is a real number, of numpy's too; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def positive(name: str, value: float, unit: str = "") -> None:
    """Raise ValueError unless `value` is a finite number above 0 (of that unit, such as " s")."""
    require(
        is_number(value) and 0 < value < np.inf,
        f"{name} must be a finite number{unit} above 0, not {value!r}",
    )


def proper_fraction(name: str, value: float, zero: bool = False) -> None:
    """Raise ValueError unless 0 < value < 1; `zero`: unless 0 <= value < 1."""
    span = "in [0, 1)" if zero else "between 0 and 1"
    require(
        is_number(value) and (0 < value < 1 or (zero and value == 0)),
        f"{name} must be a number {span}, not {value!r}",
    )


def per_unit(units: str) -> float:
    """Return how many nats one of these units has; ValueError for units other than "nats" and
    "bits"."""
    return NATS_PER_UNIT[one_of("units", units, NATS_PER_UNIT)]


def known_names(what: str, names: Iterable[str], known: Iterable[str], of: str) -> None:
    """Raise KeyError, naming them, if `what` has names that are not among the `known`."""
    known = list(known)
    unknown = [name for name in names if name not in known]
    require(not unknown, f"{what} names unknown {unknown}; the {of} are {known}", KeyError)


def shaped(name: str, x: Tensor | np.ndarray, shape: tuple[int | str, ...], hint: str = "") -> None:
    """Raise ValueError unless x has this shape, in which a name such as "B" stands for any length.

    hint: what the message adds.
    """
    sizes = zip(x.shape, shape, strict=False)
    if x.ndim != len(shape) or any(n != m for n, m in sizes if not isinstance(m, str)):
        expected = str(shape).replace("'", "")  # (B, 3)
        raise ValueError(f"{name} has shape {tuple(x.shape)}, expected {expected}{hint}")


def one_of(what: str, name: str, known: Iterable[str]) -> str:
    """Return `name` if it is among the `known`; ValueError, naming them, otherwise."""
    known = list(known)
    require(name in known, f"unknown {what} {name!r}; known: {', '.join(known)}")
    return name


def as_numpy(values: Array | float, copy: bool = True) -> np.ndarray:
    """Return the values as a numpy array on the CPU, gradients left behind; floats of any width
    become float64."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    array = np.asarray(values)
    return array.astype(np.float64, copy=copy) if array.dtype.kind == "f" else array


def finite(
    name: str, values: Array, ndim: int, besides: float | None = None, copy: bool = True
) -> np.ndarray:
    """Return `values` as float64 with `ndim` dimensions; ValueError for NaN, infinity, emptiness or
    another shape. besides: +inf or -inf, where that one has a meaning; copy: False for a large
    table that is only read."""
    array = as_numpy(values, copy)
    require(
        array.ndim == ndim and array.size,
        f"{name} must be a non-empty array of {ndim} dimension(s), not of shape {array.shape}",
    )
    require(array.dtype.kind in "biuf", f"{name} must hold numbers, not {array.dtype}")
    array = array.astype(np.float64, copy=False)
    if len(bad := np.argwhere(~(np.isfinite(array) | (array == besides)))):
        infinite = "infinite" if besides is None else f"{-besides:+}"
        raise ValueError(
            f"{name} holds {len(bad)} values that are NaN or {infinite}, the first at"
            f" {tuple(map(int, bad[0]))}"
        )
    return array


def whole_labels(
    name: str, y: Array, n: int | None = None, classes: int | None = None
) -> np.ndarray:
    """Return labels (N,) as int64; ValueError unless whole numbers >= 0, n of them, below
    `classes`."""
    array = as_numpy(y)
    require(
        array.ndim == 1 and array.size and array.dtype.kind in "biu",
        f"{name} must be a non-empty array (N,) of whole numbers, not {array.dtype} {array.shape}",
    )
    require(
        n is None or len(array) == n,
        f"{name} has {len(array)} entries, expected {n}: one per sample",
    )
    array = array.astype(np.int64)
    span = ">= 0" if classes is None else f"in 0..{classes - 1}"
    require(
        array.min() >= 0 and (classes is None or array.max() < classes),
        f"{name} must be {span}, but run from {array.min()} to {array.max()}",
    )
    return array


def increasing(name: str, times: Array) -> np.ndarray:
    """Return stamps (T,) as float64; ValueError unless finite and each later than the last."""
    stamps = finite(name, times, 1)
    if len(disorder := np.flatnonzero(np.diff(stamps) <= 0)):
        i = int(disorder[0])
        raise ValueError(
            f"stamps of {name} must increase strictly, but {stamps[i]!r} at {i} is followed by"
            f" {stamps[i + 1]!r}: sort them and merge those that repeat; float32 cannot tell"
            " seconds since 1970 apart"
        )
    return stamps


def group_numbers(groups: Array | None, n: int) -> np.ndarray | None:
    """Return the group of each of n samples as a number 0, 1, ... (N,), None for None; ValueError
    for another length."""
    if groups is None:
        return None
    names = as_numpy(groups)
    shaped("groups", names, (n,), f": one group for each of the {n} samples")
    return np.unique(names, return_inverse=True)[1]


def columns(name: str, values: Array) -> np.ndarray:
    """Return samples (N,) or (N, D) as float64 (N, D); ValueError for NaN, infinity, another shape,
    or one sample."""
    array = as_numpy(values)
    rows = finite(name, array, 2 if array.ndim == 2 else 1).reshape(len(array), -1)
    require(len(rows) >= 2, f"{name} has {len(rows)} sample, expected at least 2")
    return rows


def pair(x: Array, y: Array, names: tuple[str, str] = ("x", "y")) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64 (N, D); ValueError as `columns`, and where they differ in the number
    of samples."""
    a, b = columns(names[0], x), columns(names[1], y)
    require(
        len(a) == len(b),
        f"{names[0]} has {len(a)} samples and {names[1]} {len(b)}: row i of both must be one"
        " sample",
    )
    return a, b


def varying(name: str, values: np.ndarray) -> None:
    """Raise ValueError, naming the column of `values` (N, D), if one never changes."""
    if len(still := np.flatnonzero(values.max(0) == values.min(0))):
        raise ValueError(f"{name} is constant in column {still[0]}: it tells nothing, leave it out")


def table(name: str, joint: Array, ndim: int) -> np.ndarray:
    """Return a table of probabilities as float64 with sum 1; ValueError unless `ndim` axes, entries
    >= 0, sum 1."""
    p = finite(name, joint, ndim)
    require(
        p.min() >= 0 and abs(p.sum() - 1) <= 1e-5,
        f"{name} is no table of probabilities: its smallest entry is {p.min():.4g}, its sum"
        f" {p.sum():.6g}, expected >= 0 and 1. If it holds counts, divide by their sum.",
    )
    return p / p.sum()  # float32 tables miss 1 by up to 1e-6


def probabilities(probs: Array, tolerance: float = 2e-3) -> np.ndarray:
    """Return (N, C) probabilities as float64; ValueError unless C >= 2, entries >= 0 and rows sum
    to one.

    bfloat16 keeps eight bits, so its rows miss one by up to 2e-3: the tolerance lets them through
    and catches logits.
    """
    array = finite("probabilities", probs, 2)
    require(
        array.shape[1] >= 2,
        f"probabilities must have one column per class (C >= 2), not shape {array.shape}",
    )
    sums = array.sum(axis=1)
    off = np.flatnonzero((np.abs(sums - 1) > tolerance) | (array.min(axis=1) < -tolerance))
    if len(off):
        row = int(off[0])
        raise ValueError(
            f"{len(off)} of {len(array)} rows are no probabilities: row {row} sums to"
            f" {sums[row]:.4g}, its smallest entry is {array[row].min():.4g}. If these are logits,"
            " take softmax first."
        )
    return array


def float_samples(what: str, x: object, dims: tuple[int, ...], shape: str) -> Tensor:
    """Return x; TypeError unless a float tensor, ValueError for another number of axes than `dims`
    allows, emptiness, NaN or infinity. shape: what the messages ask for."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{what}: {given}, expected float tensors {shape}")
    require(
        x.dim() in dims and x.numel(),
        f"{what}: shape {tuple(x.shape)}, expected {shape}, not empty",
    )
    require(torch.isfinite(x).all(), f"{what}: NaN or inf, expected finite values")
    return x


def check_arguments(
    train: Samples, validation: Samples | None, epochs: int, batch_size: int, patience: int | None
) -> None:
    """Refuse what would train on nothing, or silently learn from NaN."""
    whole_number("epochs", epochs, 1)
    whole_number("batch_size", batch_size, 1)
    if patience is not None:
        whole_number("patience", patience, 1)
        require(
            validation is not None,
            "patience needs a validation split to watch; pass validation=... or leave patience out",
        )
    for name, samples in _parts(train, validation):
        finite(f"the column of {name} labels", samples.labels, 1)
        check_finite(name, samples)


def _parts(train: Samples, validation: Samples | None) -> list[tuple[str, Samples]]:
    """Return the parts that there are, by name."""
    return [("train", train)] + ([] if validation is None else [("validation", validation)])


def check_finite(name: str, samples: Samples, rows: int = 4096) -> None:
    """Raise ValueError naming the modality that holds NaN or inf where it is present; in pieces, to
    stay in memory."""
    for modality, x in samples.features.items():
        present, real = (samples.present or {}).get(modality), (samples.masks or {}).get(modality)
        for start in range(0, len(x), rows):
            piece = slice(start, start + rows)
            bad = ~torch.isfinite(x[piece])
            if real is not None and real.shape == x.shape[:-1]:  # else of what is made of x
                bad &= real[piece, :, None].to(bad.device)
            bad = bad.flatten(1).any(1)
            if present is not None:
                bad &= present[piece].to(bad.device)
            if bad.any():
                raise ValueError(
                    f"{name} features[{modality!r}] hold NaN or inf, first in sample"
                    f" {start + int(bad.nonzero()[0])}: mask it"
                )


def check_labels(outputs: Tensor, train: Samples, validation: Samples | None) -> int:
    """Return the number of classes C of the model's outputs (B, C); raise ValueError for a label
    outside 0..C-1.

    Without this, torch answers with an index error on the CPU and with a dead process on CUDA.
    """
    require(
        outputs.ndim == 2,
        f"integer labels need logits (B, C), the model returns shape {tuple(outputs.shape)}",
    )
    classes = outputs.shape[1]
    for name, samples in _parts(train, validation):
        for label in (int(samples.labels.min()), int(samples.labels.max())):
            require(
                0 <= label < classes,
                f"{name} labels hold {label}, but the model has {classes} classes: "
                f"expected labels from 0 to {classes - 1}, or a model with more outputs",
            )
    return classes
