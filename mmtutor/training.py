"""fit: a small training loop on Accelerate, the same code on CPU, GPU (bf16), Apple and several
processes.

Batches are cut by indexing tensors; a DataLoader that collates cached features sample by sample
doubles the epoch. Taught in chapter 1.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from mmtutor.checks import (
    check_arguments,
    check_finite,
    check_labels,
    require,
    shaped,
    whole_number,
)
from mmtutor.device import make_accelerator
from mmtutor.types import Samples

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs (B, ...), labels (B,)) → one loss per sample (B,)."""

Augment = Callable[[Samples, torch.Generator], Samples]
"""(a training batch, a generator on its device) → the batch as the model sees it this time."""


@dataclass
class History:
    """What happened: one loss per epoch, and which epoch's weights the model now has (counted from
    1)."""

    train_loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    best_epoch: int = 0


def fit(
    model: nn.Module,
    train: Samples,
    validation: Samples | None = None,
    *,
    epochs: int,
    lr: float,
    weight_decay: float = 0.01,
    batch_size: int = 256,
    class_weights: Tensor | str | None = None,
    patience: int | None = None,
    loss: Loss | None = None,
    augment: Augment | None = None,
    seed: int = 0,
    device: str | None = None,
) -> History:
    """Minimise the mean loss over `train` with AdamW; keep the weights of the epoch best on
    `validation`.

    model(features, present), or (features, present, masks) where the samples have masks, → outputs.
    Labels int64: cross-entropy over (B, C) logits; labels float: squared error.
    class_weights: (C,) tensor, or "balanced" for N / (C · N_c), computed from `train`; classes
    only.
    patience: stop after that many epochs without a better validation loss (None: never stop early).
    augment: what is done to each training batch, anew in every epoch (corruption, dropped
    modalities), such as `robustness.ModalityDropout`; validation samples stay as they were given.
    batch_size is the size over all processes together; under `torchrun` each takes its share, and
    since the loss is normalised over the whole batch, the gradient is that of one process. seed:
    order of samples, dropout and `augment`.
    device: None takes the best there is (CUDA with bf16, Apple, CPU); "cpu" and "cuda" insist.
    The model is trained in place and returned to the CPU in eval mode.
    Raises ValueError for empty or non-finite data, labels that the model has no output for and bad
    arguments, RuntimeError for a device that is not there, FloatingPointError when a loss stops
    being finite.
    """
    check_arguments(train, validation, epochs, batch_size, patience)
    accelerator = make_accelerator(device)
    # Accelerate passes over a model that it has prepared before, so a second fit moves it itself
    wrapped = accelerator.prepare(model.to(accelerator.device))
    # The plain optimizer: Accelerate's wrapper looks for an optional package at each of its steps,
    # and has nothing to add where gradients are neither scaled nor accumulated
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    train = train.to(accelerator.device)
    validation = None if validation is None else validation.to(accelerator.device)
    loss = loss or _default_loss(model, train, validation, class_weights, accelerator)
    history, best = History(), None
    # on the CPU: the same order on every device and in every process
    order = torch.Generator().manual_seed(seed)
    draws = torch.Generator(accelerator.device).manual_seed(seed + accelerator.process_index)
    with torch.random.fork_rng():  # dropout is seeded, the caller's random state is left alone
        torch.manual_seed(seed + accelerator.process_index)
        for epoch in tqdm(
            range(1, epochs + 1),
            "fit",
            disable=None if accelerator.is_main_process else True,
            leave=False,
        ):
            shares = _shares(len(train), batch_size, order, accelerator)
            history.train_loss.append(
                _epoch(wrapped, optimizer, accelerator, train, loss, shares, augment, draws)
            )
            if validation is None:
                history.best_epoch = epoch
                continue
            current = _validation_loss(wrapped, validation, loss, accelerator)
            if current < min(history.validation_loss, default=float("inf")):
                history.best_epoch, best = epoch, copy.deepcopy(model.state_dict())
            history.validation_loss.append(current)
            if patience is not None and epoch - history.best_epoch >= patience:
                break
    if best is not None:
        model.load_state_dict(best)
    model.to("cpu").eval()
    return history


def predict(model: nn.Module, samples: Samples, batch_size: int = 1024) -> Tensor:
    """Return the model's outputs (N, ...) for `samples`, in eval mode, without gradient, computed
    on its device.

    Raises ValueError for empty samples, a batch_size below 1, and for NaN or inf in a modality that
    is present.
    """
    whole_number("batch_size", batch_size, 1)
    require(
        len(samples),
        "samples to predict hold no rows: an empty split, or a mask that selects none?",
    )
    check_finite("samples", samples)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    model.eval()
    with torch.inference_mode():
        parts = [
            model(*batch.inputs).float().cpu()
            for batch in (
                samples[i : i + batch_size].to(device) for i in range(0, len(samples), batch_size)
            )
        ]
    return torch.cat(parts)


def weights_of_classes(wanted: Tensor | str | None, labels: Tensor, classes: int) -> Tensor | None:
    """Return what `class_weights` asks for: (C,) on the device of `labels`, None for none.

    "balanced": w_c = N / (C · N_c), so that every class weighs the same in the mean loss.
    Raises ValueError naming the classes that have no sample, for another word, and for a tensor of
    another length.
    """
    if wanted is None:
        return None
    if isinstance(wanted, Tensor):
        shaped("class_weights", wanted, (classes,), ": one per class of the model")
        return wanted.to(labels.device)
    require(
        wanted == "balanced",
        f"class_weights is {wanted!r}, expected 'balanced', a (C,) tensor or None",
    )
    counts = torch.bincount(labels, minlength=classes)
    require(
        not (empty := (counts == 0).nonzero().flatten().tolist()),
        f"no sample of class {empty} in the training data: its weight would be infinite",
    )
    return len(labels) / (classes * counts.float())


def _epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    train: Samples,
    loss: Loss,
    shares: Iterator[tuple[Tensor, float]],
    augment: Augment | None,
    draws: torch.Generator,
) -> float:
    """Train one epoch; return the mean loss over the training samples, as it was while they
    passed."""
    model.train()
    precision = accelerator.autocast if accelerator.native_amp else nullcontext
    total = torch.zeros((), device=accelerator.device)
    for rows, weight in shares:
        batch = train.take(rows.to(accelerator.device))
        if augment is not None:
            batch = augment(batch, draws)
            require(
                len(batch) == len(rows),
                f"augment made {len(batch)} samples of a batch of {len(rows)}, expected as many",
            )
        with precision():
            outputs = model(*batch.inputs)
        mine = loss(outputs.float(), batch.labels).sum()
        optimizer.zero_grad()
        (mine * weight).backward()
        optimizer.step()
        if weight:
            total += mine.detach()
    return _mean("training", accelerator.reduce(total, "sum"), train)


def _shares(
    samples: int, batch_size: int, order: torch.Generator, accelerator: Accelerator
) -> Iterator[tuple[Tensor, float]]:
    """Yield (rows, weight): this process's rows of each shuffled batch, and what the sum of their
    losses is multiplied by to become the mean over the whole batch.

    Gradients are averaged over P processes, so the weight is P / batch size.
    """
    for batch in torch.randperm(samples, generator=order).split(batch_size):
        mine = batch[accelerator.process_index :: accelerator.num_processes]
        # a process left without rows must still take part in the averaging: it runs one row that
        # counts for nothing
        weight = accelerator.num_processes / len(batch)
        yield (mine, weight) if len(mine) else (batch[:1], 0.0)


def _validation_loss(
    model: nn.Module, validation: Samples, loss: Loss, accelerator: Accelerator
) -> float:
    """Return the mean validation loss, the same number in every process, so that all stop at the
    same epoch."""
    model.eval()
    total = torch.zeros((), device=accelerator.device)
    with torch.inference_mode(), accelerator.autocast():
        for batch in (validation[i : i + 1024] for i in range(0, len(validation), 1024)):
            total += loss(model(*batch.inputs).float(), batch.labels).sum()
    return _mean("validation", accelerator.reduce(total, "mean"), validation)


def _mean(part: str, total: Tensor, samples: Samples) -> float:
    """Return the mean of a loss that was summed over `samples`; FloatingPointError if it is
    none."""
    mean = total.item() / len(samples)
    require(
        math.isfinite(mean),
        f"the {part} loss became {mean}: lower lr, or check the scale of the features",
        FloatingPointError,
    )
    return mean


def _default_loss(
    model: nn.Module,
    train: Samples,
    validation: Samples | None,
    class_weights: Tensor | str | None,
    accelerator: Accelerator,
) -> Loss:
    """Return cross-entropy for integer labels, squared error for float ones, one value per
    sample."""
    model.eval()  # of one row, without dropout and its random numbers, only the shape matters
    with torch.no_grad(), accelerator.autocast():
        outputs = model(*train[:1].inputs)
    if train.labels.is_floating_point():
        require(
            class_weights is None,
            "class_weights need integer class labels; these labels are floats (a regression)",
        )
        require(
            outputs.shape in ((1,), (1, 1)),  # broadcast, each would meet every label
            "float labels need one output per sample, the model returns"
            f" {tuple(outputs.shape)} for one",
        )
        return lambda outputs, labels: F.mse_loss(
            outputs.reshape(labels.shape), labels.float(), reduction="none"
        )
    classes = check_labels(outputs, train, validation)
    weight = weights_of_classes(class_weights, train.labels, classes)
    return lambda outputs, labels: F.cross_entropy(outputs, labels, weight=weight, reduction="none")
