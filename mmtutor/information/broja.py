"""The minimum behind the BROJA decomposition: the least joint information that two given pairs of
marginals allow.

Taught in chapter 9.
"""

import numpy as np

# Nats: how far above the minimum the barrier leaves the result, at most
GAP = 1e-9

# Newton steps allowed for one height of the barrier; some ten are needed
STEPS = 100


def least_joint_information(p: np.ndarray) -> float:
    """min_q I_q(X1, X2; Y) in nats over all tables q with q(x1, y) = p(x1, y) and q(x2, y) = p(x2,
    y).

    p: (X1, X2, Y), checked. As p(y) stays, it is the convex problem of minimising -H_q(Y | X1, X2),
    solved by Newton's method with a barrier -μ Σ ln q that keeps q > 0, μ falling to 0 (Boyd and
    Vandenberghe, Convex Optimization, 2004, sections 11.2 and 11.3). Steps are made of
    `_exchanges`, so that the marginals never change. Alternating projections find the same minimum
    with less code, but not in 20,000 rounds where cells are nearly empty.
    Raises RuntimeError if Newton's method does not come to rest.
    """
    first, second, target = p.sum(1), p.sum(0), p.sum((0, 1))
    start = first[:, None, :] * (second / np.where(target > 0, target, 1.0))  # independent given y
    support = start > 0
    q, moves = start[support], _exchanges(first, second)[:, support]  # (n,), (moves, n)
    i, j, _ = np.nonzero(support)
    pairs, pair = np.unique(i * len(second) + j, return_inverse=True)
    # (pairs x1, x2; n): which q belong to it
    cells = (pair == np.arange(len(pairs))[:, None]).astype(float)
    entropy = -float(target[target > 0] @ np.log(target[target > 0]))
    weight = 1 / len(q)
    while len(moves) and weight * len(q) > GAP:
        weight /= 10
        q = _centre(q, moves, cells, weight)
    return entropy + _objective(q, cells)


def _objective(q: np.ndarray, cells: np.ndarray) -> float:
    """-H_q(Y | X1, X2) = Σ q ln q(y | x1, x2)."""
    return float(q @ np.log(q / (cells.T @ (cells @ q))))


def _centre(q: np.ndarray, moves: np.ndarray, cells: np.ndarray, weight: float) -> np.ndarray:
    """Minimise the objective plus barrier over q + span(moves) by Newton's method with
    backtracking."""

    def height(q: np.ndarray) -> float:
        return _objective(q, cells) - weight * float(np.log(q).sum())

    grouped = moves @ cells.T  # (moves, pairs)
    for _ in range(STEPS):
        pairs = cells @ q
        slope = moves @ (np.log(q / (cells.T @ pairs)) - weight / q)
        curve = (moves * (1 / q + weight / q**2)) @ moves.T - (grouped / pairs) @ grouped.T
        # nearly empty cells have curvatures of 1e10: equations of like size
        scale = 1 / np.sqrt(np.diag(curve))
        amount = (
            -scale * np.linalg.lstsq(curve * np.outer(scale, scale), scale * slope, rcond=None)[0]
        )
        step, gain = amount @ moves, -float(slope @ amount)
        if gain < weight / 100:  # a gain of the barrier's own kind, hence measured by its weight
            return q
        falling = step < 0
        length = min(1.0, 0.99 * float(np.min(-q[falling] / step[falling], initial=np.inf)))
        while height(q + length * step) > height(q) - 0.1 * length * gain and length > 1e-12:
            length /= 2
        q = q + length * step
    raise RuntimeError(
        f"the minimum was not reached in {STEPS} Newton steps, with cells down to {q.min():.1g}"
    )


def _exchanges(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """All ways to move mass that leave both marginals alone: + (i, j) - (i, j0) - (i0, j) + (i0,
    j0), for each y.

    first: p(x1, y), second: p(x2, y) → (moves, X1, X2, Y), a basis; i0, j0: the most frequent
    labels given y.
    """
    moves_by_label = [np.zeros((0, len(first), len(second), first.shape[1]))]
    for y, (a, b) in enumerate(zip(first.T, second.T, strict=True)):
        i0, j0 = a.argmax(), b.argmax()
        others = np.setdiff1d(np.flatnonzero(a), i0), np.setdiff1d(np.flatnonzero(b), j0)
        i, j = (v.ravel() for v in np.meshgrid(*others, indexing="ij"))
        move, k = np.zeros((len(i), *moves_by_label[0].shape[1:])), np.arange(len(i))
        move[k, i, j, y] = move[k, i0, j0, y] = 1
        move[k, i, j0, y] = move[k, i0, j, y] = -1
        moves_by_label.append(move)
    return np.concatenate(moves_by_label)
