"""Alignment against enumeration: every warping path, every CTC labeling, every pair; and against
other libraries."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import eigh
from scipy.special import logsumexp
from sklearn.cross_decomposition import CCA

from mmtutor.alignment import cca, ctc_score, dtw, forced_align, info_nce, recall_at_k, soft_dtw

SHAPES = [(1, 1), (1, 5), (5, 1), (2, 3), (3, 2), (3, 3), (4, 5), (5, 4), (5, 5)]
STEPS = ((1, 1), (1, 0), (0, 1))


# Warping paths


def paths(rows: int, columns: int) -> list[list[tuple[int, int]]]:
    """All warping paths, found from the last cell backwards in the order of the tie rule."""

    def back(i: int, j: int):
        if (i, j) == (0, 0):
            yield [(0, 0)]
        for di, dj in STEPS:
            if i >= di and j >= dj:
                for path in back(i - di, j - dj):
                    yield [*path, (i, j)]

    return list(back(rows - 1, columns - 1))


def price(cost, path) -> float:
    return sum(float(cost[cell]) for cell in path)


def costs(shape: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    """Real numbers of both signs, small whole numbers with many ties, and a matrix with forbidden
    cells."""
    rng = np.random.default_rng([seed, *shape])
    forbidden = rng.random(shape)
    if min(shape) > 1:
        forbidden[0, 1:] = np.inf
        forbidden[-1, 0] = np.inf
    return [rng.normal(size=shape), rng.integers(0, 3, shape), np.zeros(shape), forbidden]


def test_the_enumeration_counts_delannoy_numbers():
    assert [len(paths(n, n)) for n in (1, 2, 3, 4, 5)] == [1, 3, 13, 63, 321]


@pytest.mark.parametrize("shape", SHAPES)
def test_dtw_is_the_cheapest_of_all_paths_and_ties_go_as_promised(shape):
    every = paths(*shape)
    for seed in range(8):
        for cost in costs(shape, seed):
            priced = [price(cost, path) for path in every]
            path, total = dtw(cost)
            assert total == pytest.approx(min(priced), abs=1e-12)
            assert price(cost, map(tuple, path.tolist())) == pytest.approx(total, abs=1e-12)
            # exact sums: the first of the equals in back's order
            if cost.dtype.kind == "i" or not cost.any():
                assert list(map(tuple, path.tolist())) == every[priced.index(min(priced))]


def by_cells(cost: np.ndarray) -> float:
    """The recursion, cell by cell, in a dictionary."""
    total = {}
    for i, j in np.ndindex(*cost.shape):
        before = [total[i - di, j - dj] for di, dj in STEPS if (i - di, j - dj) in total]
        total[i, j] = cost[i, j] + min(before, default=0.0)
    return total[cost.shape[0] - 1, cost.shape[1] - 1]


@pytest.mark.parametrize("shape", [(40, 31), (31, 40), (63, 64), (7, 90), (90, 7)])
def test_dtw_is_the_recursion_over_cells(shape):
    cost = np.random.default_rng(1).normal(size=shape) + 0.3
    path, total = dtw(torch.tensor(cost))
    assert total == pytest.approx(by_cells(cost), abs=1e-10)
    assert cost[tuple(path.T)].sum() == pytest.approx(total, abs=1e-10)
    assert {tuple(s) for s in np.diff(path, axis=0).tolist()} <= set(STEPS)


@pytest.mark.parametrize("gamma", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_soft_dtw_and_its_gradient_are_those_of_all_paths(shape, gamma):
    every = paths(*shape)
    for cost in costs(shape):
        x = torch.tensor(cost, dtype=torch.float64, requires_grad=True)
        weights = np.array([-price(cost, path) / gamma for path in every])
        expected = np.zeros(shape)
        for path, share in zip(every, np.exp(weights - logsumexp(weights)), strict=True):
            expected[tuple(np.array(path).T)] += share
        total = soft_dtw(x, gamma)
        (3 * total).backward()
        assert total.item() == pytest.approx(-gamma * logsumexp(weights), rel=1e-12, abs=1e-12)
        np.testing.assert_allclose(x.grad, 3 * expected, rtol=1e-9, atol=1e-12)


def test_soft_dtw_of_free_cells_counts_paths():
    """Delannoy numbers D(n, n) = Σ_k C(n, k)² 2^k, at n = 60 more than 10^45."""
    count = sum(math.comb(60, k) ** 2 * 2**k for k in range(61))
    assert soft_dtw(torch.zeros(61, 61, dtype=torch.float64), 0.5).item() == pytest.approx(
        -0.5 * math.log(count)
    )


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (1, 3), (3, 1)])
def test_the_gradient_of_soft_dtw_is_that_of_finite_differences(shape):
    x = torch.randn(
        3,
        *shape,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(0),
        requires_grad=True,
    )
    assert torch.autograd.gradcheck(lambda cost: soft_dtw(cost, 0.7), x)


# CTC


def read(labeling: tuple[int, ...], blank: int) -> list[int]:
    """Merge repeats, drop blanks."""
    return [token for token, _ in itertools.groupby(labeling) if token != blank]


def log_softmax(frames: int, classes: int, seed: int, sharp: float = 1.0) -> np.ndarray:
    logits = sharp * np.random.default_rng([seed, frames, classes]).normal(size=(frames, classes))
    return logits - logsumexp(logits, axis=1, keepdims=True)


def runs(labeling: tuple[int, ...], blank: int) -> list[tuple[int, int]]:
    found, t = [], 0
    for token, run in itertools.groupby(labeling):
        length = len(list(run))
        if token != blank:
            found.append((t, t + length))
        t += length
    return found


SENTENCES = [
    (6, 3, [1, 2], 0),
    (6, 3, [1, 1], 0),
    (6, 4, [2], 3),
    (5, 3, [0, 0, 2], 1),
    (6, 3, [0, 1, 0, 1, 0, 1], 2),
]
SENTENCES += [(1, 3, [2], 0), (3, 2, [1, 1], 0), (6, 4, [3, 3, 1], 0), (4, 4, [1, 2, 3], 0)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("frames", "classes", "targets", "blank"), SENTENCES)
def test_ctc_is_the_best_and_the_sum_of_all_labelings(frames, classes, targets, blank, seed):
    scores = log_softmax(frames, classes, seed)
    fitting = [
        x for x in itertools.product(range(classes), repeat=frames) if read(x, blank) == targets
    ]
    logs = [scores[range(frames), x].sum() for x in fitting]
    best = fitting[int(np.argmax(logs))]
    spans = forced_align(scores, targets, blank)
    assert [(s.start, s.end) for s in spans] == runs(best, blank)
    means = [
        scores[s:e, token].mean() for (s, e), token in zip(runs(best, blank), targets, strict=True)
    ]
    assert [s.score for s in spans] == pytest.approx(means)
    assert ctc_score(scores, targets, blank) == pytest.approx(logsumexp(logs), rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("frames", "targets"), [(6, [1, 2, 0]), (6, [1]), (4, [2, 0, 2, 1]), (7, [0, 1, 0])]
)
def test_without_a_blank_each_frame_belongs_to_one_target_in_order(frames, targets, seed):
    # not normalised, both signs
    scores = 3 * np.random.default_rng([seed, frames]).normal(size=(frames, 3))
    splits = [
        (0, *cut, frames) for cut in itertools.combinations(range(1, frames), len(targets) - 1)
    ]
    pieces = [list(itertools.pairwise(split)) for split in splits]
    logs = [
        sum(scores[s:e, t].sum() for (s, e), t in zip(piece, targets, strict=True))
        for piece in pieces
    ]
    spans = forced_align(scores, targets, blank=None)
    assert [(s.start, s.end) for s in spans] == pieces[int(np.argmax(logs))]
    assert sum(s.score * (s.end - s.start) for s in spans) == pytest.approx(max(logs))


@pytest.mark.parametrize(
    ("frames", "length", "sharp"), [(40, 5, 1.0), (120, 50, 3.0), (300, 1, 8.0), (21, 11, 1.0)]
)
def test_the_ctc_score_is_torchs_loss(frames, length, sharp):
    scores = torch.tensor(log_softmax(frames, 9, length, sharp))
    targets = torch.arange(length) % 5 // 2 + 1  # 1 1 2 2 3 1 1 2 2 3: repeats
    if length + int((targets[1:] == targets[:-1]).sum()) > frames:
        targets = torch.arange(length) % 8 + 1
    loss = F.ctc_loss(scores[:, None], targets[None], [frames], [length], blank=0, reduction="sum")
    assert -ctc_score(scores, targets) == pytest.approx(loss.item(), rel=1e-10)


def best_by_lists(scores: np.ndarray, states: list[int], blank: int) -> float:
    """CTC Viterbi state by state, in plain lists: only the score of the best labeling."""
    now = [scores[0, s] if i < 2 else -math.inf for i, s in enumerate(states)]
    for frame in scores[1:]:
        new = []
        for i, s in enumerate(states):
            jump = i >= 2 and s != blank and s != states[i - 2]
            new.append(max(now[max(i - 1, 0) : i + 1] + ([now[i - 2]] if jump else [])) + frame[s])
        now = new
    return max(now[-2:])


def test_a_long_alignment_scores_as_much_as_the_best_labeling():
    scores, targets = log_softmax(400, 12, 0, 2.0), [1 + (i * i) % 11 for i in range(60)]
    spans = forced_align(scores, targets)
    states = [0] + [s for token in targets for s in (token, 0)]
    silent = np.ones(400, bool)
    for span in spans:
        silent[span.start : span.end] = False
    total = scores[silent, 0].sum() + sum(span.score * (span.end - span.start) for span in spans)
    assert total == pytest.approx(best_by_lists(scores, states, 0))


# One space


def pairs(n: int, width: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng([seed, n, width])
    a = rng.normal(size=(n, width))
    return torch.tensor(a), torch.tensor(a + noise * rng.normal(size=(n, width)))


@pytest.mark.parametrize(("n", "temperature"), [(2, 1.0), (7, 0.07), (30, 0.3)])
def test_info_nce_is_cross_entropy_written_by_hand(n, temperature):
    a, b = pairs(n, 5, 0.8)
    s = [[float(x @ y) / math.hypot(*x) / math.hypot(*y) for y in b.numpy()] for x in a.numpy()]
    loss = 0.0
    for i in range(n):
        for row in (s[i], [s[j][i] for j in range(n)]):
            loss -= math.log(
                math.exp(row[i] / temperature) / sum(math.exp(v / temperature) for v in row)
            ) / (2 * n)
    assert info_nce(a, b, temperature).item() == pytest.approx(loss, rel=1e-10)


def test_the_gradient_of_info_nce_is_that_of_finite_differences():
    a, b = (x.requires_grad_() for x in pairs(5, 3, 0.5))
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(info_nce, (a, b, temperature))


@pytest.mark.parametrize("n", [2, 3, 50, 1500])
def test_recall_is_a_double_loop(n):
    a, b = pairs(n, 3, 1.0)
    a, b = a.round(), b.round()  # many cosines tie
    a[a.abs().sum(1) == 0], b[b.abs().sum(1) == 0] = 1.0, 1.0
    cosine = (F.normalize(a) @ F.normalize(b).T).numpy().round(9)
    ranks = [
        sum(row[j] >= row[i] for j in range(n) if j != i) for i, row in enumerate(cosine.tolist())
    ]
    ks = sorted({1, 2, min(5, n), min(100, n), n})
    assert recall_at_k(a, b, ks) == pytest.approx({k: sum(r < k for r in ranks) / n for k in ks})


def two_views(n: int = 400, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two latent causes seen by both, and noise in each: widths 4 and 3, of unequal scales, not
    centred."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 2)) * [1.0, 0.6]
    a = shared @ rng.normal(size=(2, 4)) + rng.normal(size=(n, 4)) * [1, 0.5, 2, 1] + 3
    b = shared @ rng.normal(size=(2, 3)) + rng.normal(size=(n, 3)) * [0.3, 1, 1] - 7
    return torch.tensor(a), torch.tensor(b)


def test_cca_finds_the_directions_of_sklearn():
    a, b = two_views()
    map_a, map_b, rho = cca(a, b, 3)
    theirs = (
        CCA(3, scale=False, max_iter=5000, tol=1e-12)
        .fit(a.numpy(), b.numpy())
        .transform(a.numpy(), b.numpy())
    )
    ours = ((a - a.mean(0)) @ map_a).numpy(), ((b - b.mean(0)) @ map_b).numpy()
    for k in range(3):
        assert rho[k].item() == pytest.approx(
            np.corrcoef(theirs[0][:, k], theirs[1][:, k])[0, 1], abs=1e-6
        )
        for mine, other in zip(ours, theirs, strict=True):
            assert abs(np.corrcoef(mine[:, k], other[:, k])[0, 1]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("shrinkage", [0.0, 0.1, 0.9])
def test_cca_solves_the_generalised_eigenproblem(shrinkage):
    """[[0, C], [Cᵀ, 0]] w = ρ [[A, 0], [0, B]] w, the three matrices cut from the shrunk joint
    covariance."""
    a, b = (x.numpy() for x in two_views(30))
    joint = (1 - shrinkage) * np.cov(np.hstack([a, b]).T)
    joint[:4, :4] += shrinkage * a.var(0, ddof=1).mean() * np.eye(4)
    joint[4:, 4:] += shrinkage * b.var(0, ddof=1).mean() * np.eye(3)
    own = joint.copy()
    own[:4, 4:], own[4:, :4] = 0, 0
    values, vectors = eigh(joint - own, own)
    map_a, map_b, rho = cca(torch.tensor(a), torch.tensor(b), 3, shrinkage)
    np.testing.assert_allclose(rho, values[:-4:-1], rtol=1e-9)
    for k in range(3):
        theirs = vectors[:, -1 - k] * math.sqrt(2)
        theirs *= np.sign(theirs[np.abs(theirs[:4]).argmax()])
        np.testing.assert_allclose(
            np.concatenate([map_a[:, k], map_b[:, k]]), theirs, rtol=1e-6, atol=1e-9
        )
