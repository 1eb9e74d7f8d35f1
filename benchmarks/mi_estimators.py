"""Four estimators of mutual information against the exact value, over seeds; writes the results
file of chapter 9.

python -m benchmarks.mi_estimators       two processes (about five minutes on two idle cores)

Gaussian pairs of d columns on each side, column i of x with column i of y of correlation rho, all
else independent. Every estimator gets the same n samples; the networks set half of them aside for
the bound.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import platform
from pathlib import Path

import numpy as np
import torch

from mmtutor.information import histogram_mi, infonce_mi, ksg_mi, mine_mi
from mmtutor.report import save_results

RESULTS = Path(__file__).resolve().parent.parent / "book" / "09_information" / "results"
SEEDS, N = 10, 2000
WIDTHS, DEPENDENCE = (1, 3, 10), (0.3, 0.9)
SIZES = (500, 8000)  # beside N, where there are ten columns
BATCHES = (16, 256)  # beside the usual 64, for InfoNCE with ten strongly dependent columns


def gaussian_pair(n: int, d: int, rho: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y, each (n, d); I(x; y) = -d/2 ln(1 - rho²)."""
    rng = np.random.default_rng([seed, n, d])
    x = rng.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((n, d))


def row(d: int, rho: float, n: int, seed: int) -> dict[str, float]:
    """Return estimator → nats; of the networks the bound on fresh samples and, for comparison, on
    training samples."""
    x, y = gaussian_pair(n, d, rho, seed)
    found = {"histogram": histogram_mi(x[:, 0], y[:, 0])} if d == 1 else {}
    found["KSG"] = ksg_mi(x, y)
    for name, estimate in {"InfoNCE": infonce_mi, "MINE": mine_mi}.items():
        bound = estimate(x, y, batch=64 if name == "InfoNCE" else min(256, n // 2), seed=seed)
        found |= {name: bound.fresh, f"{name}, training": bound.train}
    if (d, rho, n) == (WIDTHS[-1], DEPENDENCE[-1], N):
        for batch in BATCHES:
            found[f"InfoNCE, batch {batch}"] = infonce_mi(x, y, batch=batch, seed=seed).fresh
    return {name: round(float(value), 4) for name, value in found.items()}


SETTINGS = [(d, rho, N) for d in WIDTHS for rho in DEPENDENCE]
SETTINGS += [(WIDTHS[-1], rho, n) for rho in DEPENDENCE for n in SIZES]
PLAN = {
    f"d={d}/rho={rho}/n={n}/{seed}": (d, rho, n, seed)
    for d, rho, n in SETTINGS
    for seed in range(SEEDS)
}


def _task(key: str) -> tuple[str, dict[str, float]]:
    torch.set_num_threads(1)
    return key, row(*PLAN[key])


def main() -> None:
    """Measure all rows and write them when they are whole."""
    found = {}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for key, values in pool.imap_unordered(_task, PLAN):
            found[key] = values
            print(f"estimators {len(found)}/{len(PLAN)} {key}", flush=True)
        pool.close()
        pool.join()  # an orderly end: killed workers would leave their semaphores to a warning
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, 2 processes, torch"
        f" {torch.__version__.split('+')[0]}"
    )
    save_results(
        RESULTS / "estimators.json",
        command="python -m benchmarks.mi_estimators",
        machine=machine,
        rows={key: found[key] for key in PLAN},
    )


if __name__ == "__main__":
    main()
