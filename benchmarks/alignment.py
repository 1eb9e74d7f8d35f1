"""Warping and forced alignment against loops over cells in plain Python, and against a C library
where there is one.

One thread. `dtw`: 1000 × 1000 frames; `soft_dtw`: 500 × 500, forward and backward; `forced_align`:
60 s at 100 frames a second, 60 tokens, 500 targets. The loops do a part of that, and are compared
per cell or per frame and state. Memory is the most that numpy or torch held at one time, inputs not
counted, in multiples of the smallest table that any implementation with a path must keep.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.fusion import peak
from benchmarks.measure import Row, ratio, turns
from mmtutor.alignment import ctc_score, dtw, forced_align, soft_dtw

FRAMES, SOFT, PART = 1000, 500, 200
HEARD, TOKENS, TARGETS, HEARD_PART, TARGETS_PART = 6000, 60, 500, 300, 25
GAMMA, PEER = 0.1, "dtaidistance"


def rows() -> list[Row]:
    """Measure all; the limits leave room for a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*_warping(), *_peer(), *_soft(), *_forced()]
    finally:
        torch.set_num_threads(before)


def cost_of(frames: int, seed: int = 0) -> np.ndarray:
    """|x_i - y_j|² of two random walks."""
    x, y = np.random.default_rng(seed).normal(size=(2, frames)).cumsum(1)
    return np.square(x[:, None] - y)


def dtw_by_cells(cost: list[list[float]]) -> float:
    """The recursion of `dtw` cell by cell: what one writes first."""
    above = [0.0] + [math.inf] * len(cost[0])
    for line in cost:
        here = [math.inf]
        for j, c in enumerate(line):
            here.append(c + min(above[j], above[j + 1], here[j]))
        above = here
        above[0] = math.inf
    return above[-1]


def soft_by_cells(cost: list[list[float]], gamma: float) -> list[list[float]]:
    """Soft-DTW and its gradient cell by cell, algorithms 1 and 2 of the paper."""
    n, m = len(cost), len(cost[0])
    r = [[math.inf] * (m + 2) for _ in range(n + 2)]
    r[0][0] = 0.0
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            three = (r[i - 1][j], r[i][j - 1], r[i - 1][j - 1])
            low = min(three)
            r[i][j] = (
                cost[i - 1][j - 1]
                + low
                - gamma * math.log(sum(math.exp((low - v) / gamma) for v in three))
            )
    e = [[0.0] * (m + 2) for _ in range(n + 2)]
    for i in range(n, 0, -1):
        for j in range(m, 0, -1):
            e[i][j] = float(i == n and j == m)
            for k, q in ((i + 1, j), (i, j + 1), (i + 1, j + 1)):
                if k <= n and q <= m:
                    e[i][j] += e[k][q] * math.exp((r[k][q] - r[i][j] - cost[k - 1][q - 1]) / gamma)
    return [line[1 : m + 1] for line in e[1 : n + 1]]


def ctc_by_states(scores: list[list[float]], targets: list[int]) -> list[int]:
    """CTC Viterbi state by state, blank 0: the state of each frame."""
    states = [0] + [s for token in targets for s in (token, 0)]
    now = [scores[0][s] if i < 2 else -math.inf for i, s in enumerate(states)]
    came = []
    for frame in scores[1:]:
        new, froms = [], []
        for i, s in enumerate(states):
            best, origin = now[i], i
            if i and now[i - 1] > best:
                best, origin = now[i - 1], i - 1
            if i > 1 and s and s != states[i - 2] and now[i - 2] > best:
                best, origin = now[i - 2], i - 2
            new.append(best + frame[s])
            froms.append(origin)
        now = new
        came.append(froms)
    state = len(states) - 1 if now[-1] >= now[-2] else len(states) - 2
    visited = [state]
    for froms in reversed(came):
        state = froms[state]
        visited.append(state)
    return visited[::-1]


def held(action: Callable[[], object]) -> int:
    """Return the most bytes that Python and numpy held at one time in `action`, beyond what was
    there before."""
    action()
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _must_agree(what: str, ours: object, theirs: object) -> None:
    if not np.allclose(ours, theirs, rtol=1e-9, atol=1e-9):
        raise AssertionError(
            f"{what}: ours and the other implementation differ, so their times do not compare"
        )


def _warping() -> list[Row]:
    whole, part = cost_of(FRAMES), cost_of(PART)
    lists = part.tolist()
    _must_agree("dtw", dtw(part)[1], dtw_by_cells(lists))
    times = turns(
        {"ours": lambda: dtw(whole), "loop": lambda: dtw_by_cells(lists)}, repeats=9, warm=2
    )
    cells = (FRAMES / PART) ** 2
    return [
        Row("dtw 1000²", 1e3 * sorted(times["ours"])[4], None, "ms"),
        Row(
            "dtw 1000² / loop over cells (200², scaled)",
            ratio(times, "ours", "loop") / cells,
            0.15,
            "ratio",
        ),
        Row(
            "dtw 1000²: peak memory / the table of totals",
            held(lambda: dtw(whole)) / whole.nbytes,
            1.3,
            "ratio",
        ),
    ]


def _peer() -> list[Row]:
    """dtaidistance, in C, from two sequences of numbers; ours from the same, the distances
    included."""
    if importlib.util.find_spec(PEER) is None:
        print(
            f"{PEER} is not installed: dtw is compared with loops only (pip install {PEER})",
            file=sys.stderr,
        )
        return []
    from dtaidistance import dtw as peer

    x, y = np.random.default_rng(0).normal(size=(2, FRAMES)).cumsum(1)
    _must_agree("dtw", dtw(np.square(x[:, None] - y))[1], peer.distance_fast(x, y) ** 2)
    actions = {
        "ours": lambda: dtw(np.square(x[:, None] - y)),
        "theirs": lambda: peer.warping_path_fast(x, y),
    }
    times = turns(actions, repeats=15, warm=2)
    return [Row(f"dtw 1000² with path / {PEER} (C)", ratio(times, "ours", "theirs"), 6.0, "ratio")]


def _soft() -> list[Row]:
    whole = torch.tensor(cost_of(SOFT), requires_grad=True)
    part = torch.tensor(cost_of(PART), requires_grad=True)
    lists = part.tolist()

    def both(cost: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(soft_dtw(cost, GAMMA), cost)[0]

    _must_agree("soft_dtw", both(part), soft_by_cells(lists, GAMMA))
    times = turns(
        {"ours": lambda: both(whole), "loop": lambda: soft_by_cells(lists, GAMMA)},
        repeats=7,
        warm=1,
    )
    cells = (SOFT / PART) ** 2
    memory = peak(lambda: both(whole)) / (8 * SOFT**2)
    return [
        Row("soft_dtw 500², forward and backward", 1e3 * sorted(times["ours"])[3], None, "ms"),
        Row(
            "soft_dtw 500² / loop over cells (200², scaled)",
            ratio(times, "ours", "loop") / cells,
            0.3,
            "ratio",
        ),
        Row("soft_dtw 500²: peak memory / one float64 table", memory, 8.0, "ratio"),
    ]


def _sentence(frames: int, targets: int) -> tuple[np.ndarray, list[int]]:
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(frames, TOKENS, generator=generator).double().log_softmax(1).numpy()
    return log_probs, torch.randint(1, TOKENS, (targets,), generator=generator).tolist()


def _forced() -> list[Row]:
    log_probs, targets = _sentence(HEARD, TARGETS)
    few, some = _sentence(HEARD_PART, TARGETS_PART)
    lists = few.tolist()
    visited = np.array(ctc_by_states(lists, some))
    starts = [int(np.argmax(visited == 2 * i + 1)) for i in range(TARGETS_PART)]
    _must_agree("forced_align", [span.start for span in forced_align(few, some)], starts)
    actions = {
        "align": lambda: forced_align(log_probs, targets),
        "score": lambda: ctc_score(log_probs, targets),
        "loop": lambda: ctc_by_states(lists, some),
    }
    times = turns(actions, repeats=7, warm=1)
    cells = HEARD * (2 * TARGETS + 1) / (HEARD_PART * (2 * TARGETS_PART + 1))
    back = HEARD * (2 * TARGETS + 1)  # one byte for each frame and state
    memory = held(lambda: forced_align(log_probs, targets)) / back
    return [
        Row("forced_align 60 s, 500 targets", 1e3 * sorted(times["align"])[3], None, "ms"),
        Row(
            "forced_align / loop over states (3 s, scaled)",
            ratio(times, "align", "loop") / cells,
            0.4,
            "ratio",
        ),
        Row("ctc_score / forced_align", ratio(times, "score", "align"), 5.0, "ratio"),
        Row("forced_align: peak memory / one byte a state", memory, 2.5, "ratio"),
    ]


if __name__ == "__main__":
    from benchmarks.measure import as_table

    print(as_table(rows()), file=sys.stdout)
