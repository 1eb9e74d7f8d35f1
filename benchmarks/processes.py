"""Two processes against one: the same training under `torchrun`, each process on one thread."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import torch

from benchmarks.measure import Row
from mmtutor.fusion import ConcatFusion, FusionClassifier
from mmtutor.training import fit
from mmtutor.types import Samples

DIMS = {"image": 1280, "text": 384}


def rows() -> list[Row]:
    """Time the training alone, not the start of the interpreters, in one and in two single-threaded
    processes."""
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    one = _seconds([sys.executable, "-m", "benchmarks.processes"])
    two = _seconds([*torchrun, "-m", "benchmarks.processes"])
    return [
        Row(
            "two processes / one, wide model, batch 1024",
            two / one,
            None,
            "ratio of time (0.5 is ideal)",
        )
    ]


def _seconds(command: list[str]) -> float:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    runs = [
        float(
            subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment
            ).stdout
        )
        for _ in range(3)
    ]
    return sorted(runs)[1]


def main() -> None:
    """Train, and let the first process print the seconds."""
    torch.manual_seed(0)
    data = Samples({m: torch.randn(8192, d) for m, d in DIMS.items()}, torch.randint(0, 3, (8192,)))
    model = FusionClassifier(ConcatFusion(DIMS), classes=3, hidden=512)
    fit(model, data[:1024], epochs=1, lr=1e-3, batch_size=1024, device="cpu")
    start = time.perf_counter()
    fit(model, data, epochs=3, lr=1e-3, batch_size=1024, device="cpu")
    if int(os.environ.get("RANK", 0)) == 0:
        print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
