"""Dynamic time warping: which frame of one recording belongs to which frame of another, the order
kept.

A path goes from (0, 0) to (T-1, S-1) by steps (1, 0), (0, 1) and (1, 1); its cost is the sum over
the cells it visits. All cells of an anti-diagonal depend on the two before only, so they are
computed at once: T + S steps, not T · S. Taught in chapter 7.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmtutor.checks import Array, as_numpy, finite, increasing, one_of, positive, require

METRICS = ("euclidean", "sqeuclidean", "cosine")
# mean frame distances by which a point may lie outside of the frames' times: frames are stamped
# at their middle
REACH = 10


def distance_matrix(a: Tensor, b: Tensor, metric: str = "euclidean") -> Tensor:
    """d(a_t, b_s) for all pairs of frames: |a - b|, |a - b|² ("sqeuclidean") or 1 - cos(a, b)
    ("cosine", 0 to 2).

    a: (T, D), b: (S, D), or (B, T, D) and (B, S, D), finite floats of one dtype → (T, S) or (B, T,
    S), differentiable. The differences themselves are squared, since |a|² - 2ab + |b|² loses digits
    where frames are alike. Raises ValueError for other shapes, NaN, an unknown metric, and for a
    frame of zeros with "cosine", which has no direction.
    """
    one_of("metric", metric, METRICS)
    require(
        a.ndim in (2, 3)
        and a.ndim == b.ndim
        and a.shape[:-2] == b.shape[:-2]
        and a.shape[-1] == b.shape[-1],
        f"a is {tuple(a.shape)} and b {tuple(b.shape)}, expected (T, D) and (S, D), or (B, T, D)"
        " and (B, S, D)",
    )
    for name, frames in (("a", a), ("b", b)):
        require(
            frames.numel() and torch.isfinite(frames).all(),
            f"{name} is empty, or holds NaN or infinity: a frame needs finite features",
        )
        require(
            metric != "cosine" or (frames != 0).any(-1).all(),
            f"{name} holds a frame of zeros, which has no direction: leave it out, or use"
            " 'euclidean'",
        )
    if metric == "cosine":
        cosine = F.normalize(a, dim=-1, eps=0.0) @ F.normalize(b, dim=-1, eps=0.0).mT
        return (1 - cosine).clamp(0, 2)
    distance = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.square() if metric == "sqeuclidean" else distance


def dtw(cost: Array) -> tuple[np.ndarray, float]:
    """R[i, j] = cost[i, j] + min(R[i-1, j], R[i, j-1], R[i-1, j-1]): the cheapest path and its
    total R[T-1, S-1].

    cost: (T, S) numbers of any sign; +inf forbids a cell → path (L, 2) int64 with max(T, S) ≤ L ≤ T
    + S - 1, total. Of equally cheap paths: read from the end, the one that steps (1, 1) where it
    can, else (1, 0), else (0, 1). Computed in float64. Raises ValueError for an empty matrix, NaN,
    -inf, and where forbidden cells leave no path. Sakoe and Chiba, Dynamic Programming Algorithm
    Optimization for Spoken Word Recognition, IEEE TASSP 26, 1978.
    """
    c = finite("cost", cost, 2, besides=np.inf, copy=False)
    width = _width(c.shape[1])
    total = np.full((c.shape[0] + 2, width), np.inf)
    total[0, 0], total[1:-1, 1 : c.shape[1] + 1] = 0.0, c
    flat = total.reshape(-1)
    for here in _diagonals(*c.shape):
        sides = np.minimum(flat[_moved(here, -width)], flat[_moved(here, -1)])
        flat[here] += np.minimum(sides, flat[_moved(here, -width - 1)])
    require(
        np.isfinite(total[c.shape]),
        "every path from (0, 0) to the last cell meets a forbidden cell (+inf): forbid fewer",
    )
    return _trace(total, *c.shape), float(total[c.shape])


def soft_dtw(cost: Tensor, gamma: float) -> Tensor:
    """-γ ln Σ_paths exp(-cost(path) / γ): `dtw` with a soft minimum, hence differentiable in every
    cell.

    cost: (T, S) or (B, T, S) float; +inf forbids a cell; gamma: γ > 0, in the units of cost →
    scalar or (B,). Lies below the total of `dtw` and tends to it as γ → 0; negative where many
    paths cost little. Its gradient is, in each cell, the probability that a path drawn with weight
    exp(-cost / γ) visits it: a soft alignment. Computed in float64, returned in the dtype of cost.
    Raises ValueError as `dtw`, and for γ that is not positive; RuntimeError for a second derivative
    (create_graph=True). Cuturi and Blondel, Soft-DTW, ICML 2017 (arXiv 1703.01541).
    """
    require(
        cost.ndim in (2, 3) and cost.numel() and cost.is_floating_point(),
        f"cost must be non-empty floats of shape (T, S) or (B, T, S), not {cost.dtype}"
        f" {tuple(cost.shape)}",
    )
    require(
        (cost > -torch.inf).all(),  # false for NaN, too
        "cost holds NaN or -inf: expected numbers, and +inf for a forbidden cell",
    )
    positive("gamma", gamma)  # the limit 0 is `dtw`
    total = _SoftDtw.apply(cost if cost.ndim == 3 else cost[None], float(gamma))
    if bad := (~total.detach().isfinite()).nonzero()[:, 0].tolist():
        raise ValueError(
            f"every path meets a forbidden cell (+inf) in matrix {bad[0]} of {len(total)}: forbid"
            " fewer"
        )
    return (total if cost.ndim == 3 else total[0]).to(cost.dtype)


def warp_times(
    path: Array, times_a: Array, times_b: Array, points: Array, ahead: float = 0.0
) -> np.ndarray:
    """Carry times of recording a to recording b: f(point + ahead) - ahead, f linear through the
    path.

    f takes the time of a frame of a to the mean time of the frames of b that the path joins with
    it. path: (L, 2) from `dtw`; times_a: (T,), times_b: (S,), seconds, strictly increasing; points:
    (N,) seconds of a → (N,) seconds of b. Before the first and after the last frame a point keeps
    its distance to it. A pause that only b has is joined with the frame of a where a word begins,
    so the word lands inside the pause or before it. With `ahead`, some frames long and shorter than
    the word (0.03), the path is read where both speak again; where b speaks r times as slowly, that
    shifts all points by (r - 1) · ahead. Raises ValueError for a path that does not lead from (0,
    0) to (T-1, S-1) by steps of 0 or 1, for unsorted times, NaN, and a point more than ten mean
    frame distances outside of times_a.
    """
    a, b = increasing("times_a", times_a), increasing("times_b", times_b)
    pairs, at = _checked(path, len(a), len(b)), finite("points", points, 1)
    require(math.isfinite(ahead), f"ahead must be a finite number of seconds, not {ahead!r}")
    reach = REACH * (a[-1] - a[0]) / max(len(a) - 1, 1)
    require(
        a[0] - reach <= at.min() and at.max() <= a[-1] + reach,
        f"points run from {at.min():g} to {at.max():g} s, the frames of a from {a[0]:g} to"
        f" {a[-1]:g} s: expected points among the frames, in seconds",
    )
    joined = np.bincount(pairs[:, 0], weights=b[pairs[:, 1]]) / np.bincount(pairs[:, 0])  # (T,)
    read = at + ahead
    inside = read.clip(a[0], a[-1])
    return np.interp(inside, a, joined) + (read - inside) - ahead


class _SoftDtw(torch.autograd.Function):
    """Forward and backward over anti-diagonals; V = -R / γ in the padded grid, so that the soft
    minimum is a sum."""

    @staticmethod
    def forward(ctx, cost: Tensor, gamma: float) -> Tensor:
        batch, rows, columns = cost.shape
        width = _width(columns)
        value = F.pad(cost.double() / -gamma, (1, width - columns - 1, 1, 1), value=-torch.inf)
        value = value.view(batch, -1).T.contiguous()  # (cells, B)
        value[0] = 0.0
        before = torch.full_like(value, torch.inf)  # ln Σ exp of the three predecessors
        for here in _diagonals(rows, columns):
            reached = torch.logaddexp(value[_moved(here, -width)], value[_moved(here, -1)])
            reached = torch.logaddexp(reached, value[_moved(here, -width - 1)])
            before[here] = reached
            value[here] += reached
        ctx.save_for_backward(value, before)
        ctx.shape, ctx.dtype = cost.shape, cost.dtype
        return -gamma * value[rows * width + columns]

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None]:
        # `once_differentiable` lets a constant upstream pass, though the visits depend on the costs
        # as well
        require(
            not torch.is_grad_enabled(),
            "soft_dtw has no second derivative: call backward or grad without create_graph=True",
            RuntimeError,
        )
        value, before = ctx.saved_tensors
        batch, rows, columns = ctx.shape
        width = _width(columns)
        # out of reach: nobody comes from anywhere
        before = before.masked_fill(before == -torch.inf, torch.inf)
        # exp(V - before of the successor): the share of the successor's paths that come from here,
        # 0 to 1
        down, right, both = ((value[:-by] - before[by:]).exp_() for by in (width, 1, width + 1))
        visits = torch.zeros_like(value)
        visits[rows * width + columns] = upstream
        for here in list(_diagonals(rows, columns))[-2::-1]:
            reached = down[here] * visits[_moved(here, width)]
            reached.addcmul_(right[here], visits[_moved(here, 1)])
            visits[here] = reached.addcmul_(both[here], visits[_moved(here, width + 1)])
        return visits.T.view(batch, rows + 2, width)[:, 1:-1, 1 : columns + 1].to(ctx.dtype), None


def _width(columns: int) -> int:
    """Return the row length of a grid with a border on each side, even, so that the step of a
    diagonal is odd.

    Rows of 1024 numbers would put all cells of a diagonal into the same few places of the
    processor's cache.
    """
    return columns + 2 + columns % 2


def _diagonals(rows: int, columns: int) -> Iterator[slice]:
    """Yield where each anti-diagonal lies in the flattened grid: inner cell (i, j), from (1, 1), is
    i · width + j."""
    step = _width(columns) - 1
    for k in range(2, rows + columns + 1):  # i + j
        first, last = max(1, k - columns), min(rows, k - 1)
        yield slice(first * step + k, last * step + k + 1, step)


def _moved(cells: slice, by: int) -> slice:
    return slice(cells.start + by, cells.stop + by, cells.step)


def _trace(total: np.ndarray, i: int, j: int) -> np.ndarray:
    """Walk back from the last cell to (1, 1) over the cheapest predecessors; the border is +inf."""
    path = [(i, j)]
    while (i, j) != (1, 1):
        corner, above, left = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        if corner <= above and corner <= left:
            i, j = i - 1, j - 1
        elif above <= left:
            i -= 1
        else:
            j -= 1
        path.append((i, j))
    return np.array(path[::-1], dtype=np.int64) - 1


def _checked(path: Array, rows: int, columns: int) -> np.ndarray:
    """Return the path as (L, 2) integers; ValueError unless it warps `rows` frames onto `columns`
    frames."""
    p = as_numpy(path)
    require(
        p.ndim == 2 and p.shape[1] == 2 and p.dtype.kind in "iu" and len(p),
        f"path must be whole numbers (L, 2) as `dtw` returns, not {p.dtype} {p.shape}",
    )
    first, last, end = tuple(p[0].tolist()), tuple(p[-1].tolist()), (rows - 1, columns - 1)
    require(
        first == (0, 0) and last == end,
        f"path leads from {first} to {last}, expected from (0, 0) to {end}, the last of times_a"
        " and times_b",
    )
    steps = np.diff(p, axis=0)
    require(
        np.isin(steps, (0, 1)).all() and steps.any(1).all(),
        "path must go on by (1, 0), (0, 1) or (1, 1) at each step",
    )
    return p
