"""Neighbours by trees against all pairs, how their time and memory grow with the samples; one
decomposition's time.

One thread. Gaussians of correlation .9, d columns on each side. All pairs: the same estimator by
distance matrices in numpy, N² numbers at once. Gates: 2 × 2 × 2 and, with all cells filled at
random, up to 5 × 5 × 5.
"""

from __future__ import annotations

import math
import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
import torch
from scipy.special import digamma

from benchmarks.measure import Row, interleaved, ratio, turns
from mmtutor.information import infonce_mi, ksg_mi, mine_mi, pid

FEW, MANY, RHO, K = 2_000, 20_000, 0.9, 3
MB = 1e6


def rows() -> list[Row]:
    """Measure all; the limits stand some way above what two slow cores need."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*_neighbours(), *_memory(), *_decompositions(), *_networks()]
    finally:
        torch.set_num_threads(before)


def samples(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y, each (n, d), column by column of correlation RHO."""
    rng = np.random.default_rng([n, d])
    x = rng.standard_normal((n, d))
    return x, RHO * x + math.sqrt(1 - RHO**2) * rng.standard_normal((n, d))


def all_pairs(x: np.ndarray, y: np.ndarray) -> float:
    """Return what `ksg_mi` does for columns of variance 1, from N × N matrices of distances."""
    near = [np.max([np.abs(c[:, None] - c) for c in v.T], 0) for v in (x, y)]
    reach = np.partition(np.maximum(*near), K, axis=1)[:, K]  # the nearest is the sample itself
    counts = [(m < reach[:, None]).sum(1) for m in near]
    return float(digamma(K) + digamma(len(x)) - sum(digamma(c).mean() for c in counts))


def _neighbours() -> list[Row]:
    table = []
    for d, limits in ((1, (0.25, 3.0)), (5, (0.6, 6.0))):
        few, many = samples(FEW, d), samples(MANY, d)
        times = turns(
            {"trees": _call(ksg_mi, few), "pairs": _call(all_pairs, few)}, repeats=5, warm=1
        )
        table.append(
            Row(
                f"KSG, n = 2,000, d = {d}: trees / all pairs",
                ratio(times, "trees", "pairs"),
                limits[0],
                "ratio",
            )
        )
        times = turns({"few": _call(ksg_mi, few), "many": _call(ksg_mi, many)}, repeats=3)
        growth = ratio(times, "many", "few") * FEW / MANY
        table.append(
            Row(f"KSG, d = {d}: time per sample, n = 20,000 / 2,000", growth, limits[1], "ratio")
        )
        table.append(Row(f"KSG, n = 20,000, d = {d}", min(times["many"]), None, "s"))
    return table


def _memory() -> list[Row]:
    """Python's and numpy's own; the trees' nodes, which are not counted, are smaller than the
    samples."""
    table = []
    for d in (1, 5):
        peaks = {n: peak(_call(ksg_mi, samples(n, d))) for n in (FEW, MANY)}
        table.append(Row(f"KSG, n = 20,000, d = {d}: peak memory", peaks[MANY] / MB, 30.0, "MB"))
        growth = peaks[MANY] / peaks[FEW] * FEW / MANY
        table.append(
            Row(f"KSG, d = {d}: memory per sample, n = 20,000 / 2,000", growth, 1.2, "ratio")
        )
    table.append(
        Row(
            "all pairs, n = 2,000, d = 1: peak memory",
            peak(_call(all_pairs, samples(FEW, 1))) / MB,
            None,
            "MB",
        )
    )
    return table


def _decompositions() -> list[Row]:
    table = []
    both = np.zeros((2, 2, 2))
    both[[0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]] = 0.25
    gates = {"AND": both}
    for size in (2, 3, 5):
        gates[f"{size} × {size} × {size} at random"] = (
            np.random.default_rng(size).dirichlet(np.ones(size**3)).reshape((size,) * 3)
        )
    for name, joint in gates.items():
        seconds = interleaved({"broja": _call(pid, (joint, "broja"))}, repeats=5, warm=1)["broja"]
        table.append(Row(f"BROJA, {name}", seconds, 0.3, "s"))
    return table


def _networks() -> list[Row]:
    x, y = samples(FEW, 10)
    actions = {f.__name__: _call(f, (x, y)) for f in (infonce_mi, mine_mi)}
    return [
        Row(f"{name}, n = 2,000, d = 10", s, None, "s")
        for name, s in interleaved(actions, repeats=1, warm=0).items()
    ]


def peak(action: Callable[[], object]) -> int:
    """Return the most bytes that numpy and Python held at one time during the action."""
    tracemalloc.start()
    action()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def _call(function: Callable, arguments: tuple) -> Callable[[], object]:
    return lambda: function(*arguments)


if __name__ == "__main__":
    from benchmarks.measure import as_table

    print(as_table(rows()), file=sys.stdout)
