"""fit_optimum: a convex model trained to its one optimum, so that nothing is left to steps, rates
and random starts.

For linear heads on frozen features. The same on CPU, GPU and several processes, through Accelerate
as `training.fit`.

Taught in chapter 10.
"""

from collections.abc import Iterator
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtutor.checks import check_finite, check_labels, positive, require, shaped
from mmtutor.device import make_accelerator
from mmtutor.training import weights_of_classes
from mmtutor.types import Samples

ROWS = 8192
"""Rows per pass through the model: what is in memory at once, however many samples there are."""


def stretch(rows: Tensor) -> Tensor | slice:
    """Return positions as a slice where each follows the one before: what it cuts is not copied."""
    if len(rows) and torch.equal(rows, torch.arange(len(rows)) + rows[0]):
        return slice(int(rows[0]), int(rows[0]) + len(rows))
    return rows


def pieces(rows: Tensor) -> Iterator[Tensor | slice]:
    """Yield positions ROWS at a time, so that a memory map is never copied whole."""
    for start in range(0, len(rows), ROWS):
        yield stretch(rows[start : start + ROWS])


def fit_optimum(
    model: nn.Module,
    train: Samples,
    *,
    l2: float,
    rows: Tensor | None = None,
    class_weights: Tensor | str | None = None,
    device: str | None = None,
    iterations: int = 200,
    tolerance: float = 1e-5,
) -> float:
    """Minimise (1/N) Σ_i w_{y_i} · CE(model(x_i), y_i) + l2/2 · Σ ‖W‖² over the weights; return the
    value reached. For labels that are numbers, ½ (model(x_i) - y_i)² takes the place of CE.

    model: logits (B, C) that are linear in its parameters, else the optimum is a local one and the
    start matters; it is trained from the parameters it has, in place, by full-batch L-BFGS, in eval
    mode. Biases (one-dimensional parameters) are not penalised. With one linear layer this is
    scikit-learn's LogisticRegression with C = 1/(N · l2).
    train: int64 labels, or float ones and a model with one output; memory-mapped features are read
    in pieces of ROWS and never copied whole.
    rows: positions of the N samples to learn from, None for all. l2 > 0: without it separable
    classes have no optimum. class_weights: as `training.fit`. tolerance: largest gradient entry at
    the end.
    Raises ValueError for l2 ≤ 0, empty or non-finite data, labels without an output, numbers and
    more outputs than one, a mask as rows; FloatingPointError for a loss that is not finite.
    Nocedal & Wright, Numerical Optimization, 2006, ch. 7.
    """
    positive("l2 (without it separable classes have no optimum)", l2)
    rows = torch.arange(len(train)) if rows is None else rows
    require(len(rows), "training data hold no samples")
    require(
        rows.dtype == torch.int64,
        f"rows are {rows.dtype}, expected int64 positions: of a mask take nonzero().flatten()",
    )
    for piece in pieces(rows):
        check_finite("training data", train[piece])
    accelerator = make_accelerator(device, mixed=False)
    model.to(accelerator.device).eval()
    weight = _weights(model, train, rows, class_weights, accelerator.device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=iterations,
        tolerance_grad=tolerance,
        tolerance_change=1e-10,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = torch.zeros((), device=accelerator.device)
        for piece in islice(
            pieces(rows), accelerator.process_index, None, accelerator.num_processes
        ):
            batch = train[piece].to(accelerator.device)
            outputs = model(*batch.inputs)
            losses = (
                (outputs[:, 0] - batch.labels).square() / 2
                if batch.labels.is_floating_point()
                else F.cross_entropy(outputs, batch.labels, weight=weight, reduction="none")
            )
            share = losses.sum() / len(rows)
            share.backward()
            total += share.detach()
        for p in parameters:
            gradient = torch.zeros_like(p) if p.grad is None else p.grad
            p.grad = accelerator.reduce(gradient, "sum") + (l2 * p.detach() if p.dim() > 1 else 0)
        penalty = sum(p.detach().square().sum() for p in parameters if p.dim() > 1) * l2 / 2
        value = accelerator.reduce(total, "sum") + penalty
        # here, since the optimiser would stumble over it with another error
        if not bool(value.isfinite()):
            raise FloatingPointError(
                f"the loss became {float(value)}: check the scale of the features"
            )
        return value

    optimizer.step(loss)
    value = float(loss())
    optimizer.zero_grad()
    model.to("cpu")
    return value


def _weights(
    model: nn.Module,
    train: Samples,
    rows: Tensor,
    class_weights: Tensor | str | None,
    device: torch.device,
) -> Tensor | None:
    """Return class weights (C,) on the device, None for none; check labels against the model's
    outputs."""
    learnt = Samples({}, train.labels[rows])
    with torch.no_grad():
        outputs = model(*train[rows[:1]].to(device).inputs)
    if train.labels.is_floating_point():
        shaped("outputs, for labels that are numbers,", outputs, ("B", 1))
        return None
    weight = weights_of_classes(class_weights, learnt.labels, check_labels(outputs, learnt, None))
    return None if weight is None else weight.to(device)
