import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtutor.alignment import distance_matrix, dtw, soft_dtw, warp_times

ranges = settings(max_examples=60, deadline=None)
shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def some(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def words(seed: int = 0) -> np.ndarray:
    """Four words of 20 frames, 10 ms each, that glide from one random sound to the next; 6
    features."""
    anchors = np.random.default_rng(seed).normal(size=(9, 6))
    return np.stack(
        [np.interp(np.linspace(0, 8, 80), range(9), anchor) for anchor in anchors.T], axis=1
    )


def stamps(frames: int, hop: float = 0.01) -> np.ndarray:
    return hop / 2 + hop * np.arange(frames)


# Distances


def test_distances_by_hand():
    a, b = (
        torch.tensor([[3.0, 4.0], [1.0, 0.0]]),
        torch.tensor([[3.0, 4.0], [0.0, 2.0], [-6.0, -8.0]]),
    )
    expected = torch.tensor(
        [[0.0, math.sqrt(13), 15.0], [math.sqrt(20), math.sqrt(5), math.sqrt(113)]]
    )
    torch.testing.assert_close(distance_matrix(a, b), expected)
    torch.testing.assert_close(distance_matrix(a, b, "sqeuclidean"), expected**2)
    angles = torch.tensor([[0.0, 0.2, 2.0], [0.4, 1.0, 1.6]])
    torch.testing.assert_close(distance_matrix(a, b, "cosine"), angles, rtol=1e-6, atol=1e-6)
    assert not distance_matrix(a, a).diagonal().any()


def test_like_frames_far_from_the_origin_keep_their_small_distance():
    a = torch.full((30, 40), 1000.0)
    b = a + 0.01
    torch.testing.assert_close(
        distance_matrix(a, b), torch.full((30, 30), 0.01 * math.sqrt(40)), rtol=2e-2, atol=0
    )


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])
def test_a_batch_is_its_members_and_distances_are_differentiable(metric):
    a, b = (torch.tensor(some((2, n, 3), n), requires_grad=True) for n in (4, 5))
    for i in range(2):
        torch.testing.assert_close(
            distance_matrix(a, b, metric)[i], distance_matrix(a[i], b[i], metric)
        )
    assert torch.autograd.gradcheck(
        lambda x, y: soft_dtw(distance_matrix(x, y, metric), 0.5), (a, b)
    )


@pytest.mark.parametrize(
    ("a", "b", "metric", "words"),
    [
        (torch.ones(3, 2), torch.ones(4, 3), "euclidean", r"\(3, 2\) and b \(4, 3\)"),
        (torch.ones(1, 3, 2), torch.ones(2, 3, 2), "euclidean", "expected"),
        (torch.ones(2), torch.ones(2), "euclidean", "expected"),
        (torch.ones(1, 3, 2), torch.ones(3, 2), "euclidean", "expected"),
        (torch.ones(0, 2), torch.ones(4, 2), "euclidean", "a is empty"),
        (
            torch.ones(3, 2),
            torch.tensor([[1.0, math.nan]]),
            "euclidean",
            "b is empty, or holds NaN",
        ),
        (torch.ones(3, 2), torch.zeros(1, 2), "cosine", "b holds a frame of zeros"),
        (torch.ones(3, 2), torch.ones(3, 2), "manhattan", "unknown metric 'manhattan'.*cosine"),
    ],
)
def test_frames_that_cannot_be_compared_are_refused(a, b, metric, words):
    with pytest.raises(ValueError, match=words):
        distance_matrix(a, b, metric)


# Paths


def test_dtw_by_hand():
    path, total = dtw([[1, 9, 9, 9], [9, 1, 1, 9], [9, 9, 9, 1]])
    assert path.tolist() == [[0, 0], [1, 1], [1, 2], [2, 3]]
    assert total == 4.0


def test_equals_step_diagonally_at_the_end_and_down_before_across():
    assert dtw(np.zeros((2, 4)))[0].tolist() == [[0, 0], [0, 1], [0, 2], [1, 3]]
    assert dtw(np.zeros((4, 2)))[0].tolist() == [[0, 0], [1, 0], [2, 0], [3, 1]]
    # (1, 1) is dear: around it both ways cost the same; read from the end, (1, 0) goes first, hence
    # the upper way
    around = [[0, 0, 0], [0, 5, 0], [0, 0, 0]]
    assert dtw(around)[0].tolist() == [[0, 0], [0, 1], [1, 2], [2, 2]]


def test_forbidden_cells_are_walked_around_and_a_wall_is_an_error():
    inf = np.inf
    path, total = dtw([[0, inf, inf], [7, inf, 1], [inf, 7, 1]])
    assert (path.tolist(), total) == ([[0, 0], [1, 0], [2, 1], [2, 2]], 15.0)
    wall = np.zeros((3, 4))
    wall[:, 1] = inf
    with pytest.raises(ValueError, match="forbidden cell"):
        dtw(wall)
    with pytest.raises(ValueError, match="matrix 1 of 2: forbid fewer"):
        soft_dtw(torch.tensor(np.stack([np.zeros((3, 4)), wall])), 1.0)


@pytest.mark.parametrize(
    "cost",
    [
        [],
        np.zeros((0, 3)),
        np.zeros(3),
        [[1.0, math.nan]],
        [[0.0, -math.inf]],
        np.zeros((2, 2), complex),
    ],
)
def test_what_is_no_cost_is_refused(cost):
    with pytest.raises(ValueError, match="cost"):
        dtw(cost)
    with pytest.raises(ValueError, match="cost"):
        soft_dtw(torch.as_tensor(np.asarray(cost)), 1.0)


@pytest.mark.parametrize("gamma", [0.0, -1.0, math.nan, math.inf])
def test_gamma_must_be_positive(gamma):
    with pytest.raises(ValueError, match="gamma must be a finite number above 0"):
        soft_dtw(torch.zeros(2, 2), gamma)


def test_soft_dtw_needs_floats_and_keeps_their_width():
    with pytest.raises(ValueError, match="int64"):
        soft_dtw(torch.zeros(2, 2, dtype=torch.int64), 1.0)
    cost = torch.tensor(some((5, 5)), dtype=torch.float32, requires_grad=True)
    total = soft_dtw(cost, 0.001)
    total.backward()
    assert total.dtype == cost.grad.dtype == torch.float32
    assert total.item() == pytest.approx(dtw(cost)[1], abs=1e-2)


@ranges
@given(shapes, st.integers(0, 10**6))
def test_laws_of_dtw(shape, seed):
    cost = some(shape, seed)
    path, total = dtw(cost)
    assert tuple(path[0]) == (0, 0) and tuple(path[-1]) == (shape[0] - 1, shape[1] - 1)
    assert cost[tuple(path.T)].sum() == pytest.approx(total)
    assert dtw(cost.T)[1] == pytest.approx(total)
    assert dtw(cost[::-1, ::-1])[1] == pytest.approx(total)
    assert dtw(2.5 * cost)[1] == pytest.approx(2.5 * total)


@ranges
@given(shapes, st.integers(0, 10**6), st.floats(1e-3, 10.0))
def test_soft_dtw_lies_below_dtw_by_gamma_times_the_logarithm_of_the_paths_at_most(
    shape, seed, gamma
):
    cost = some(shape, seed)
    n, m = shape[0] - 1, shape[1] - 1
    delannoy = sum(math.comb(n, k) * math.comb(m, k) * 2**k for k in range(min(n, m) + 1))
    gap = dtw(cost)[1] - soft_dtw(torch.tensor(cost), gamma).item()
    assert -1e-9 <= gap <= gamma * math.log(delannoy) + 1e-9


def test_soft_dtw_tends_to_dtw_and_its_gradient_to_the_path():
    cost = torch.tensor(some((30, 25)), requires_grad=True)
    path, total = dtw(cost)
    soft = soft_dtw(cost, 1e-5)
    soft.backward()
    on_path = torch.zeros(30, 25, dtype=torch.float64)
    on_path[tuple(path.T)] = 1.0
    assert soft.item() == pytest.approx(total, abs=1e-6)
    torch.testing.assert_close(cost.grad, on_path, atol=1e-6, rtol=0)


def test_matrices_of_a_batch_do_not_touch_each_other():
    costs = torch.tensor(some((3, 6, 4)), requires_grad=True)
    weights = torch.tensor([1.0, 0.0, -2.0])
    (soft_dtw(costs, 0.3) * weights).sum().backward()
    for i in range(3):
        alone = costs[i].detach().requires_grad_()
        soft_dtw(alone, 0.3).backward()
        torch.testing.assert_close(costs.grad[i], weights[i] * alone.grad)
    assert not costs.grad[1].any()


def test_a_forbidden_cell_gets_no_gradient_and_spoils_none():
    cost = torch.zeros(4, 4, dtype=torch.float64)
    cost[0, 1:], cost[1, 0], cost[2:, 1] = torch.inf, torch.inf, torch.inf
    cost.requires_grad_()
    soft_dtw(cost, 1.0).backward()
    assert torch.isfinite(cost.grad).all()
    assert not cost.grad[cost.isinf()].any()
    # the only ways in and out
    assert cost.grad[[0, 1, 3], [0, 1, 3]].tolist() == pytest.approx([1, 1, 1])


def test_a_second_derivative_is_refused():
    cost = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="soft_dtw has no second derivative"):
        torch.autograd.grad(soft_dtw(cost.square(), 1.0), cost, create_graph=True)


@needs_cuda
def test_soft_dtw_on_cuda_is_that_on_the_cpu():
    costs = torch.tensor(some((3, 17, 12)), requires_grad=True)
    there = costs.detach().cuda().requires_grad_()
    here, far = soft_dtw(costs, 0.2), soft_dtw(there, 0.2)
    torch.testing.assert_close(far.cpu(), here)
    here.sum().backward(), far.sum().backward()
    torch.testing.assert_close(there.grad.cpu(), costs.grad)


# Times


def test_times_are_carried_by_hand():
    path = [[0, 0], [1, 1], [1, 2], [1, 3], [2, 4], [3, 4]]
    a, b = [1.0, 2.0, 3.0, 4.0], [10.0, 11.0, 12.0, 16.0, 20.0]
    # frame 1 lies over 11, 12, 16: 13; frames 2 and 3 both over 20
    points = [1.0, 2.0, 1.5, 2.5, 3.5, 0.75, 4.25]
    expected = [10.0, 13.0, 11.5, 16.5, 20.0, 9.75, 20.25]
    np.testing.assert_allclose(warp_times(path, a, b, points), expected)
    np.testing.assert_allclose(
        warp_times(path, a, b, [1.0, 1.5, 3.75], ahead=0.5), [11.0, 12.5, 19.75]
    )


def test_a_change_of_tempo_is_undone():
    a = words()
    grid = np.linspace(0, 79, 136)
    b = np.stack([np.interp(grid, range(80), x) for x in a.T], axis=1)  # 1.7 times as slow
    path, _ = dtw(distance_matrix(torch.tensor(a), torch.tensor(b)))
    points = np.array([0.1, 0.2, 0.37, 0.6, 0.75])
    hop = 0.01 * 79 / 135
    b_times = 0.005 + hop * np.arange(136)  # by these stamps nothing was stretched
    np.testing.assert_allclose(warp_times(path, stamps(80), b_times, points), points, atol=0.006)
    slow = warp_times(path, stamps(80), stamps(136), points)
    np.testing.assert_allclose(slow, 0.005 + (points - 0.005) * 135 / 79, atol=0.01)


def test_a_pause_pulls_the_next_word_into_it_and_reading_ahead_mends_that():
    a = words()
    # 400 ms that sound most like the beginning of the third word
    silence = np.full((40, 6), 0.0) + a[40]
    b = np.concatenate([a[:40], silence, a[40:]])
    path, _ = dtw(distance_matrix(torch.tensor(a), torch.tensor(b)))
    onset = stamps(80)[40:41]
    naive, mended = (
        warp_times(path, stamps(80), stamps(120), onset, ahead)[0] for ahead in (0.0, 0.03)
    )
    assert abs(naive - (onset[0] + 0.4)) > 0.15
    assert mended == pytest.approx(onset[0] + 0.4, abs=0.005)


GOOD = ([[0, 0], [1, 1], [2, 1]], [0.0, 1.0, 2.0], [0.0, 1.0], [0.5])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({0: [[0, 0], [2, 1]]}, "go on by"),
        ({0: [[0, 0], [1, 1], [1, 1], [2, 1]]}, "go on by"),
        ({0: [[0, 0], [1, 1], [0, 1], [1, 1], [2, 1]]}, "go on by"),
        ({0: [[0, 0], [1, 1]]}, r"to \(1, 1\), expected from \(0, 0\) to \(2, 1\)"),
        ({0: [[1, 0], [2, 1]]}, r"from \(1, 0\)"),
        ({0: [[0.0, 0.0], [1.0, 1.0], [2.0, 1.0]]}, "whole numbers"),
        ({0: np.zeros((0, 2), int)}, "whole numbers"),
        ({1: [0.0, 2.0, 2.0]}, "times_a must increase strictly"),
        ({2: [1.0, 0.0]}, "times_b must increase strictly"),
        ({2: [0.0, math.nan]}, "times_b holds 1 values that are NaN"),
        ({3: [math.nan]}, "points holds"),
        ({3: [0.5, 12.1]}, "points run from 0.5 to 12.1 s, the frames of a from 0 to 2 s"),
        ({3: [-10.1]}, "points run from -10.1"),
        ({3: []}, "points must be a non-empty"),
    ],
)
def test_what_is_no_warp_is_refused(change, words):
    np.testing.assert_allclose(warp_times(*GOOD), [0.5])
    with pytest.raises(ValueError, match=words):
        warp_times(*(change.get(i, value) for i, value in enumerate(GOOD)))


@pytest.mark.parametrize("ahead", [math.nan, math.inf])
def test_ahead_must_be_finite(ahead):
    with pytest.raises(ValueError, match="ahead must be a finite number"):
        warp_times(*GOOD, ahead=ahead)


@ranges
@given(shapes, st.integers(0, 10**6))
def test_carried_times_never_run_backwards_and_the_diagonal_changes_nothing(shape, seed):
    rng = np.random.default_rng(seed)
    a, b = (np.cumsum(rng.uniform(0.1, 1, n)) for n in shape)
    points = np.sort(rng.uniform(a[0], a[-1], 20))
    carried = warp_times(dtw(some(shape, seed))[0], a, b, points)
    assert (np.diff(carried) >= -1e-12).all()
    same = np.arange(len(a))[:, None].repeat(2, 1)
    np.testing.assert_allclose(warp_times(same, a, a, points, ahead=0.05), points)


def test_a_small_step_down_the_gradient_lowers_the_distance_as_much_as_promised():
    a = torch.tensor(some((8, 2), 1), requires_grad=True)
    b = torch.tensor(some((11, 2), 2))
    before = soft_dtw(distance_matrix(a, b, "sqeuclidean"), 0.1)
    (slope,) = torch.autograd.grad(before, a)
    after = soft_dtw(distance_matrix(a - 0.01 * slope, b, "sqeuclidean"), 0.1)
    expected = 0.01 * slope.square().sum()
    assert (before - after).item() == pytest.approx(expected.item(), rel=0.1)
