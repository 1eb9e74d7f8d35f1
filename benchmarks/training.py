"""`fit` on cached features against loops written by hand."""

from __future__ import annotations

import statistics

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.measure import Row, ratio, turns
from mmtutor.fusion import ConcatFusion, FusionClassifier
from mmtutor.training import fit
from mmtutor.types import Samples

N, EPOCHS, BATCH, WIDTH = 20_000, 3, 256, 128
DIMS = {"image": WIDTH, "text": WIDTH}


def rows() -> list[Row]:
    """Measure three epochs over 20,000 samples at width 128: where a step is small, what `fit` adds
    to it shows most."""
    torch.manual_seed(0)
    data = Samples({m: torch.randn(N, d) for m, d in DIMS.items()}, torch.randint(0, 3, (N,)))
    times = turns(
        {
            "fit": lambda: fit(
                _model(), data, epochs=EPOCHS, lr=1e-3, batch_size=BATCH, device="cpu"
            ),
            "hand": lambda: _by_hand(_model(), data),
            "loader": lambda: _with_loader(_model(), data),
            "empty": lambda: fit(
                _model(), data[:BATCH], epochs=1, lr=1e-3, batch_size=BATCH, device="cpu"
            ),
        },
        repeats=9,
        warm=2,
    )
    return [
        Row(
            "fit / hand-written loop that indexes tensors (3 epochs)",
            ratio(times, "fit", "hand"),
            1.15,
            "ratio",
        ),
        Row("fit / DataLoader loop", ratio(times, "fit", "loader"), 0.67, "ratio"),
        Row(
            "fit, one epoch of 20,000 samples",
            statistics.median(times["fit"]) / EPOCHS * 1e3,
            None,
            "ms",
        ),
        Row(
            "fit, starting up (one batch)",
            statistics.median(times["empty"]) * 1e3,
            None,
            "ms",
        ),
    ]


def _model() -> FusionClassifier:
    return FusionClassifier(ConcatFusion(DIMS), classes=3, hidden=WIDTH)


def _step(model, optimizer, features, labels) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(features), labels).backward()
    optimizer.step()


def _by_hand(model, data: Samples) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(N).split(BATCH):
            _step(
                model, optimizer, {m: x[rows] for m, x in data.features.items()}, data.labels[rows]
            )


def _with_loader(model, data: Samples) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = DataLoader(
        TensorDataset(*data.features.values(), data.labels), batch_size=BATCH, shuffle=True
    )
    model.train()
    for _ in range(EPOCHS):
        for *xs, labels in loader:
            _step(model, optimizer, dict(zip(DIMS, xs, strict=True)), labels)


if __name__ == "__main__":
    print(*rows(), sep="\n")
