"""Information against closed forms, brute force, scikit-learn, other solvers and the generated
worlds."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize
from scipy.special import digamma, entr
from sklearn.feature_selection import mutual_info_regression

from mmtutor import information
from mmtutor.data import worlds

MEASURES = ["imin", "broja"]
BITS = (0, 1)
ranges = settings(max_examples=40, deadline=None)


def gaussian(n: int, d: int, rho: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """d independent pairs of correlation rho: I = -d/2 ln(1 - rho²)."""
    rng = np.random.default_rng([seed, n, d])
    x = rng.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((n, d))


def exact(d: int, rho: float) -> float:
    return -d / 2 * math.log(1 - rho**2)


# Gaussians


@pytest.mark.parametrize(("d", "rho"), [(1, 0.3), (1, -0.9), (10, 0.3), (10, 0.9)])
def test_gaussian_information_is_the_sum_over_pairs(d, rho):
    cov = np.block([[np.eye(d), rho * np.eye(d)], [rho * np.eye(d), np.eye(d)]])
    assert information.gaussian_mi(cov, d) == pytest.approx(exact(d, rho), rel=1e-12)
    assert information.gaussian_mi(cov, d, units="bits") == pytest.approx(
        exact(d, rho) / math.log(2), rel=1e-12
    )


@ranges
@given(seed=st.integers(0, 10**6), split=st.integers(1, 4))
def test_gaussian_information_is_that_of_the_canonical_correlations(seed, split):
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((5, 7))
    cov = factor @ factor.T
    whiten = [
        np.linalg.inv(np.linalg.cholesky(c)) for c in (cov[:split, :split], cov[split:, split:])
    ]
    rho = np.linalg.svd(whiten[0] @ cov[:split, split:] @ whiten[1].T)[1]
    found = information.gaussian_mi(cov, split)
    assert found == pytest.approx(-0.5 * np.log(1 - rho**2).sum(), rel=1e-7, abs=1e-9)
    maps = np.zeros((5, 5))  # any invertible map of each side on its own changes nothing
    maps[:split, :split], maps[split:, split:] = (
        rng.standard_normal((s, s)) + 3 * np.eye(s) for s in (split, 5 - split)
    )
    if min(np.linalg.svd(maps)[1]) > 0.05:
        assert information.gaussian_mi(maps @ cov @ maps.T, split) == pytest.approx(
            found, rel=1e-6, abs=1e-8
        )
    if split > 1:  # looking at one coordinate less tells no more
        assert information.gaussian_mi(cov[1:, 1:], split - 1) <= found + 1e-9


# Neighbours


def brute_force_ksg(x: np.ndarray, y: np.ndarray, k: int) -> float:
    """Algorithm 1 of Kraskov et al., sample by sample over all pairs; columns brought to variance
    1."""
    x, y = (np.reshape(v, (len(v), -1)) for v in (x, y))
    x, y = ((v - v.mean(0)) / v.std(0) for v in (x, y))
    total = 0.0
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        in_x = [max(abs(a - b) for a, b in zip(x[i], x[j], strict=True)) for j in others]
        in_y = [max(abs(a - b) for a, b in zip(y[i], y[j], strict=True)) for j in others]
        reach = sorted(max(pair) for pair in zip(in_x, in_y, strict=True))[k - 1]
        total += digamma(sum(d < reach for d in in_x) + 1) + digamma(
            sum(d < reach for d in in_y) + 1
        )
    return digamma(k) + digamma(len(x)) - total / len(x)


@pytest.mark.parametrize(
    ("k", "dx", "dy", "n"), [(1, 1, 1, 40), (3, 1, 1, 120), (3, 2, 3, 90), (7, 3, 1, 8)]
)
def test_trees_count_what_brute_force_counts(k, dx, dy, n):
    rng = np.random.default_rng([k, dx, dy])
    x = rng.standard_normal((n, dx)) * 10 ** rng.uniform(-3, 3, dx)
    y = np.tanh(x[:, :1] / x.std()) + 0.5 * rng.standard_normal((n, dy))
    assert information.ksg_mi(x, y, k) == pytest.approx(brute_force_ksg(x, y, k), abs=1e-12)


@pytest.mark.parametrize(("rho", "seed"), list(itertools.product([0.0, 0.3, 0.9], range(2))))
def test_neighbours_find_the_gaussian_and_agree_with_scikit_learn(rho, seed):
    """Both are KSG 1; scikit-learn adds noise of 1e-10 and cuts at 0, neither of which matters here
    but at rho 0."""
    x, y = gaussian(2000, 1, rho, seed)
    found = information.ksg_mi(x[:, 0], y[:, 0])
    peer = mutual_info_regression(x, y[:, 0], n_neighbors=3, random_state=seed)[0]
    assert max(found, 0) == pytest.approx(peer, abs=1e-6)
    assert found == pytest.approx(exact(1, rho), abs=0.08)


def test_neighbours_sag_where_there_is_much_to_know_in_many_dimensions():
    x, y = gaussian(1000, 10, 0.9)
    assert 1 < information.ksg_mi(x, y) < 0.5 * exact(10, 0.9)


@pytest.mark.parametrize("kind", ["redundant", "unique", "complement", "synergy"])
def test_worlds_hold_the_information_that_they_say(kind):
    """Seen along the bit's direction, which is all that matters, against the label with a
    jitter."""
    world = getattr(worlds, kind)()
    samples = world.sample(4000)
    seen = {m: samples.features[m].double() @ world.directions[m][0] for m in "ab"}
    for look in ("a", "b", "ab"):
        x = torch.stack([seen[m] for m in look], 1)
        assert information.ksg_mi(x, samples.labels, jitter=1e-6) == pytest.approx(
            world.information[look], abs=0.04
        )
        units = information.ksg_mi(x, samples.labels, jitter=1e-6, units="bits") * math.log(2)
        assert units == pytest.approx(information.ksg_mi(x, samples.labels, jitter=1e-6))


# Grids and tables


def by_entropies(p: np.ndarray) -> float:
    return float(entr(p.sum(0)).sum() + entr(p.sum(1)).sum() - entr(p).sum())


def tables(*shape: int) -> st.SearchStrategy[np.ndarray]:
    """Tables with entries from 1e-6 to 1 and many zeros, divided by their sum."""
    entries = st.one_of(st.just(0.0), st.floats(1e-6, 1), st.floats(0.1, 1))
    return (
        hnp.arrays(float, shape, elements=entries)
        .filter(lambda p: p.sum() > 0.1)
        .map(lambda p: p / p.sum())
    )


@ranges
@given(p=tables(3, 4))
def test_discrete_information_by_entropies_order_and_processing(p):
    found = information.discrete_mi(p)
    assert found == pytest.approx(by_entropies(p), abs=1e-9)
    assert information.discrete_mi(p[::-1, [2, 0, 3, 1]].T) == pytest.approx(found, abs=1e-12)
    assert (
        information.discrete_mi(np.stack([p[:, 0] + p[:, 3], p[:, 1] + p[:, 2]], 1))
        <= found + 1e-12
    )


def test_known_tables():
    """A binary symmetric channel with flips of .1: ln 2 - H(.1)."""
    flips = 0.1
    channel = np.array([[1 - flips, flips], [flips, 1 - flips]]) / 2
    capacity = math.log(2) + flips * math.log(flips) + (1 - flips) * math.log(1 - flips)
    assert information.discrete_mi(channel) == pytest.approx(capacity, abs=1e-12)
    assert information.discrete_mi(np.eye(8) / 8, units="bits") == pytest.approx(3)


def test_the_grid_has_equal_shares_and_its_two_errors():
    """Between the axes cut at quantiles of a Gaussian, integrated exactly, and Miller's bias at
    independence."""
    x, y = gaussian(20_000, 1, 0.9)
    edges = np.concatenate([[-np.inf], np.quantile(x, [0.25, 0.5, 0.75]), [np.inf]])
    rows = np.digitize(x[:, 0], edges[1:-1])
    columns = np.digitize(y[:, 0], np.quantile(y, [0.25, 0.5, 0.75]))
    counted = np.array(
        [[((rows == i) & (columns == j)).mean() for j in range(4)] for i in range(4)]
    )
    found = information.histogram_mi(x[:, 0], y[:, 0], 4)
    assert found == pytest.approx(by_entropies(counted), abs=1e-12)
    assert 0.4 < found < exact(1, 0.9) - 0.15, "a coarse grid loses information"
    assert information.histogram_mi(np.exp(x[:, 0]), -y[:, 0], 4) == pytest.approx(found, abs=1e-3)
    chance = [
        information.histogram_mi(*np.random.default_rng(s).standard_normal((2, 500)), 8)
        for s in range(40)
    ]
    assert np.mean(chance) == pytest.approx(7 * 7 / 1000, rel=0.2)


# Decomposition


def gate(*outcomes: tuple[int, int, int]) -> np.ndarray:
    p = np.zeros((4, 4, 4))
    for outcome in outcomes:
        p[outcome] += 1 / len(outcomes)
    return p


AND_REDUNDANT = 0.75 * math.log2(4 / 3) + 0.25 * 2 - 0.5  # H(Y) - H(Y | X1), as p(Y = 1) = 1/4
GATES = {
    "XOR": (gate(*((a, b, a ^ b) for a in BITS for b in BITS)), (0, 0, 0, 1)),
    "AND": (gate(*((a, b, a & b) for a in BITS for b in BITS)), (AND_REDUNDANT, 0, 0, 0.5)),
    "RDN": (gate((0, 0, 0), (1, 1, 1)), (1, 0, 0, 0)),
    "UNQ": (gate(*((a, b, a) for a in BITS for b in BITS)), (0, 1, 0, 0)),
    "RDNXOR": (
        gate(*((2 * r + a, 2 * r + b, 2 * r + (a ^ b)) for r in BITS for a in BITS for b in BITS)),
        (1, 0, 0, 1),
    ),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", GATES)
def test_gates_of_the_literature(name, measure):
    joint, expected = GATES[name]
    assert information.pid(joint, measure, "bits") == pytest.approx(expected, abs=1e-7)
    swapped = information.pid(joint.transpose(1, 0, 2), measure, "bits")
    assert swapped == pytest.approx([expected[i] for i in (0, 2, 1, 3)], abs=1e-7)


def test_the_classic_objection_two_independent_bits_copied():
    joint = gate(*((a, b, 2 * a + b) for a in BITS for b in BITS))
    assert information.pid(joint, "imin", "bits") == pytest.approx((1, 0, 0, 1), abs=1e-12)
    assert information.pid(joint, "broja", "bits") == pytest.approx((0, 1, 1, 0), abs=1e-7)


@pytest.mark.parametrize("measure", MEASURES)
@ranges
@given(p=tables(3, 2, 3))
def test_consistency_order_and_bounds(measure, p):
    r, u1, u2, s = information.pid(p, measure)
    first, second = by_entropies(p.sum(1)), by_entropies(p.sum(0))
    assert r + u1 == pytest.approx(first, abs=1e-8)
    assert r + u2 == pytest.approx(second, abs=1e-8)
    assert r + u1 + u2 + s == pytest.approx(by_entropies(p.reshape(6, 3)), abs=1e-8)
    assert min(r, u1, u2, s) >= 0
    relabelled = information.pid(p[[2, 0, 1]][:, ::-1][..., [1, 2, 0]], measure)
    assert relabelled == pytest.approx((r, u1, u2, s), abs=1e-8)


def test_imin_takes_the_lesser_source_for_each_outcome():
    """X1 knows whether Y = 0, X2 whether Y = 1: R is less than what either says on the whole."""
    joint = gate(*((int(y == 0), int(y == 1), y) for y in range(3)))
    # of Y = 0 source 2 says ln 3/2 (one of three becomes one of two), of Y = 1 source 1, of Y = 2
    # both
    expected = math.log(3 / 2)
    assert information.pid(joint).redundant == pytest.approx(expected, abs=1e-12)
    assert expected < by_entropies(joint.sum(1)) - 0.2


@ranges
@given(p=tables(3, 3, 3))
def test_imin_by_its_definition(p):
    """R = Σ_y p(y) min_i Σ_x p(x|y) log p(y|x)/p(y), in loops."""
    target, redundant = p.sum((0, 1)), 0.0
    for y in range(3):
        if target[y] > 0:
            said = []
            for source in (p.sum(1), p.sum(0)):
                terms = [
                    (row[y] / target[y], row[y] / row.sum() / target[y])
                    for row in source
                    if row[y] > 0
                ]
                said.append(sum(share * math.log(ratio) for share, ratio in terms))
            redundant += target[y] * min(said)
    assert information.pid(p, "imin").redundant == pytest.approx(redundant, abs=1e-9)


def by_alternating_projections(p: np.ndarray, rounds: int = 20_000) -> tuple[float, float]:
    """H(Y|X1,X2)'s maximum as Banerjee, Rauh and Montúfar 2018, and a bound on how far off: max ln
    ratio - mean."""
    first, second, target = p.sum(1, keepdims=True), p.sum(0, keepdims=True), p.sum((0, 1))
    cells = (first * second / np.where(target > 0, target, 1)).sum(2, keepdims=True)
    b = (second > 0).astype(float)

    def over(above, below):
        return np.divide(
            above,
            below,
            out=np.zeros(np.broadcast_shapes(above.shape, below.shape)),
            where=below > 0,
        )

    for _ in range(rounds):
        a = over(first, (cells * b).sum(1, keepdims=True))
        b = over(second, (cells * a).sum(0, keepdims=True))
        q = cells * a * b
        new = q.sum(2, keepdims=True)
        ratio = np.log(np.where(new > 0, over(new, cells), 1))
        gap = ratio.max() - (new * ratio).sum() + np.abs(q.sum(1, keepdims=True) - first).sum()
        if gap < 1e-8:
            break
        cells = new
    return float(entr(q).sum() - entr(new).sum()), gap


@pytest.mark.parametrize(
    ("shape", "alpha", "seed"),
    [((2, 2, 2), 1, 0), ((3, 3, 3), 1, 1), ((3, 4, 2), 0.3, 2), ((5, 5, 5), 0.3, 3)],
)
def test_broja_by_alternating_projections(shape, alpha, seed):
    p = np.random.default_rng(seed).dirichlet(np.full(math.prod(shape), alpha)).reshape(shape)
    kept, gap = by_alternating_projections(p)
    assert gap < 1e-6, "the oracle must have arrived"
    least = float(entr(p.sum((0, 1))).sum()) - kept
    found = information.pid(p, "broja")
    assert found.unique1 == pytest.approx(least - by_entropies(p.sum(0)), abs=2 * gap + 1e-8)


@pytest.mark.parametrize("tiny", [0.0, 1e-10, 1e-6, 0.02])
@pytest.mark.parametrize("seed", range(4))
def test_broja_by_two_numbers_for_binary_tables(seed, tiny):
    """2 × 2 × 2: one free number for each y, the mass moved to the diagonal; one bounded search in
    another."""
    noise = np.random.default_rng(seed).dirichlet(np.ones(8)).reshape(2, 2, 2)
    p = (1 - tiny) * GATES["AND"][0][:2, :2, :2] + tiny * noise if tiny else noise
    move = np.array([[1.0, -1.0], [-1.0, 1.0]])

    def joint_information(t: tuple[float, float]) -> float:
        q = np.maximum(p + move[:, :, None] * np.array(t), 0)
        return by_entropies(q.reshape(4, 2))

    ends = [(-min(p[0, 0, y], p[1, 1, y]), min(p[0, 1, y], p[1, 0, y])) for y in BITS]

    def best(f, low: float, high: float) -> float:
        inner = optimize.minimize_scalar(
            f, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
        )
        return min(inner.fun, f(low), f(high))

    least = best(lambda s: best(lambda t: joint_information((s, t)), *ends[1]), *ends[0])
    expected = by_entropies(p.reshape(4, 2)) - least
    assert information.pid(p, "broja").synergy == pytest.approx(expected, abs=1e-7)


# Networks


@pytest.mark.parametrize("estimate", [information.infonce_mi, information.mine_mi])
def test_networks_come_near_from_below_on_fresh_samples(estimate):
    x, y = gaussian(2000, 1, 0.9)
    bound = estimate(x, y, fresh=gaussian(2000, 1, 0.9, seed=1), steps=400)
    assert 0.65 < bound.fresh < exact(1, 0.9) + 0.05
    assert bound.fresh <= bound.train + 0.05


@pytest.mark.parametrize("estimate", [information.infonce_mi, information.mine_mi])
def test_what_a_critic_says_of_its_training_samples_is_no_bound(estimate):
    x, y = gaussian(500, 10, 0.3)
    bound = estimate(x, y, fresh=gaussian(2000, 10, 0.3, seed=1), steps=500)
    assert bound.train > exact(10, 0.3) + 0.2
    assert bound.fresh < exact(10, 0.3)


def test_mine_passes_where_infonce_must_stop():
    """False pairs are truly false: had one in twenty been a true pair, ln 20 = 3.0 would be the
    end."""
    x, y = gaussian(1000, 10, 0.9)
    assert (
        math.log(20) + 0.3
        < information.mine_mi(x, y, fresh=gaussian(1000, 10, 0.9, seed=1), steps=400).fresh
    )


def test_infonce_stops_at_the_logarithm_of_its_batch():
    x, y = gaussian(1000, 10, 0.9)
    bound = information.infonce_mi(x, y, batch=16, steps=300)
    assert bound.ceiling == pytest.approx(math.log(16))
    assert 2 < bound.fresh <= bound.train <= bound.ceiling < exact(10, 0.9)
