import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtutor.alignment import cca, contrastive, info_nce, recall_at_k

ranges = settings(max_examples=40, deadline=None)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def some(n: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng([seed, n, width]).normal(size=(n, width)))


# InfoNCE


@pytest.mark.parametrize("n", [2, 5, 64])
def test_info_nce_is_the_logarithm_of_n_where_all_is_alike(n):
    same = torch.ones(n, 3, dtype=torch.float64)
    assert info_nce(same, 2 * same, 0.1).item() == pytest.approx(math.log(n))


def test_info_nce_of_orthogonal_pairs_by_hand():
    """Own cosine 1, all others 0: -ln(e^(1/τ) / (e^(1/τ) + N - 1))."""
    a = 3 * torch.eye(4, dtype=torch.float64)
    assert info_nce(a, a, 0.5).item() == pytest.approx(math.log(1 + 3 * math.exp(-2)))
    assert info_nce(a, a.roll(1, 0), 0.5).item() == pytest.approx(
        math.log(1 + 3 * math.exp(-2)) + 2
    )
    assert info_nce(a, a, 0.01).item() == pytest.approx(0, abs=1e-12)


def test_both_directions_count():
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    own, other = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    expected = (
        (own + other) / 2 + math.log(2)
    ) / 2  # a asks b: the first is right, the second wrong; b asks a: ln 2
    assert info_nce(a, b, 1.0).item() == pytest.approx(expected)
    assert info_nce(b, a, 1.0).item() == pytest.approx(expected)


@ranges
@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 10**6), st.floats(0.05, 5))
def test_laws_of_info_nce(n, width, seed, temperature):
    a, b = some(n, width, seed), some(n, width, seed + 1)
    loss = info_nce(a, b, temperature).item()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert info_nce(b, a, temperature).item() == pytest.approx(loss)
    assert info_nce(a[order], b[order], temperature).item() == pytest.approx(loss)
    assert info_nce(
        a * torch.arange(1, n + 1)[:, None], 7 * b, temperature
    ).item() == pytest.approx(loss)
    assert 0 <= loss <= math.log(n) + 2 / temperature


def test_a_learnable_temperature_gets_a_gradient_without_a_warning():
    temperature = torch.tensor(0.2, requires_grad=True)
    info_nce(some(6, 3).float(), some(6, 3, 1).float(), temperature).backward()
    assert temperature.grad != 0


@pytest.mark.parametrize("temperature", [0.0, -0.1, math.nan, math.inf, torch.tensor(-1.0)])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
        info_nce(some(3, 2), some(3, 2, 1), temperature)


@pytest.mark.parametrize(
    "function", [lambda a, b: info_nce(a, b, 0.1), lambda a, b: recall_at_k(a, b, [1])]
)
@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (
            torch.ones(3, 2),
            torch.ones(4, 2),
            r"a is \(3, 2\) and b \(4, 2\), expected both \(N, D\)",
        ),
        (torch.ones(3, 2), torch.ones(3, 3), r"expected both \(N, D\)"),
        (torch.ones(3), torch.ones(3), r"expected both \(N, D\)"),
        (torch.ones(1, 2), torch.ones(1, 2), "2 pairs"),
        (torch.ones(3, 0), torch.ones(3, 0), "1 column"),
        (torch.ones(2, 2), torch.tensor([[1.0, 1.0], [0.0, 0.0]]), "row 1 of b is zero"),
        (torch.zeros(2, 2), torch.ones(2, 2), "row 0 of a is zero"),
        (
            torch.tensor([[1.0, math.nan], [1.0, 1.0]]),
            torch.ones(2, 2),
            "a must hold finite floats",
        ),
        (torch.ones(2, 2), torch.full((2, 2), math.inf), "b must hold finite floats"),
        (torch.ones(2, 2, dtype=torch.int64), torch.ones(2, 2, dtype=torch.int64), "torch.int64"),
    ],
)
def test_what_is_no_pair_is_refused(function, a, b, words):
    with pytest.raises(ValueError, match=words):
        function(a, b)


# Recall


def test_recall_by_hand():
    """a₀ finds its partner first, a₁ second, a₂ at 4 degrees before b₃ at 6, a₃ third."""
    a, b = (
        torch.tensor(
            [[math.cos(math.radians(t)), math.sin(math.radians(t))] for t in angles]
        ).double()
        for angles in ([0.0, 0.0, 96.0, 0.0], [0.0, 40.0, 100.0, 90.0])
    )
    assert recall_at_k(a, 5 * b, [1, 2, 3, 4]) == {1: 0.5, 2: 0.75, 3: 1.0, 4: 1.0}


def test_a_collapsed_encoder_finds_nothing():
    for n in (2, 50, 3000):
        same = torch.randn(1, 64, generator=torch.Generator().manual_seed(n)).expand(n, 64)
        assert recall_at_k(same, 3 * same, [1, n - 1, n]) == {1: 0.0, n - 1: 0.0, n: 1.0}


def test_a_duplicate_of_the_partner_stands_before_it():
    b = torch.eye(4)
    b[1] = b[0]
    assert recall_at_k(torch.eye(4), b, [1, 2]) == {1: 0.5, 2: 0.75}


def test_recall_asks_in_one_direction():
    a = torch.tensor([[1.0, 0.0], [1.0, 0.1]])
    b = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert recall_at_k(a, b, [1]) == {1: 0.5}
    assert recall_at_k(b, torch.tensor([[1.0, 0.1], [1.0, 0.0]]), [1]) == {1: 0.0}


def test_blocks_do_not_show(monkeypatch):
    a = some(101, 3)
    b = a + some(101, 3, 1)
    whole = recall_at_k(a, b, [1, 5, 20])
    monkeypatch.setattr(contrastive, "ROWS_AT_ONCE", 10)
    assert recall_at_k(a, b, [1, 5, 20]) == whole
    assert 0.02 < whole[1] < whole[5] < whole[20] < 1


@pytest.mark.parametrize("ks", [[], [0], [4], [1, 2.5], [True], [-1]])
def test_k_runs_from_one_to_n(ks):
    with pytest.raises(ValueError, match=r"k must be a whole number from 1 to 3|ks is empty"):
        recall_at_k(some(3, 2), some(3, 2, 1), ks)


@ranges
@given(st.integers(2, 30), st.integers(0, 10**6))
def test_laws_of_recall(n, seed):
    a, b = some(n, 3, seed), some(n, 3, seed + 1)
    found = recall_at_k(a, b, range(1, n + 1))
    assert list(found) == list(range(1, n + 1))
    assert sorted(found.values()) == list(found.values()) and found[n] == 1.0
    assert recall_at_k(a, a, [1]) == {1: 1.0}
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert recall_at_k(a[order], 2 * b[order], found) == found


# CCA


def test_cca_of_independent_standard_columns_is_their_correlation():
    """a = (p, q), b = (p + q, p - 2r), with p, q, r orthogonal and of one variance: a explains b₀
    fully."""
    p, q, r = (
        torch.tensor(v, dtype=torch.float64).repeat(2)
        for v in ([1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1])
    )
    a, b = torch.stack([p, q], 1), torch.stack([p + q, p - 2 * r], 1)
    _, _, rho = cca(a, b, 2)
    # the part of p - 2r without (p + q): ½(p - q) - 2r, of which a explains ½(p - q): ρ² = ½ / (½ +
    # 4)
    torch.testing.assert_close(rho, torch.tensor([1.0, 1 / 3], dtype=torch.float64))


@ranges
@given(st.integers(8, 40), st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6))
def test_laws_of_cca(n, da, db, seed):
    a = some(n, da, seed)
    b = some(n, db, seed + 1) + a[:, :1]
    k = min(da, db)
    map_a, map_b, rho = cca(a, b, k)
    x, y = (a - a.mean(0)) @ map_a, (b - b.mean(0)) @ map_b
    eye = torch.eye(k, dtype=torch.float64)
    torch.testing.assert_close(x.T @ x / (n - 1), eye, atol=1e-7, rtol=0)
    torch.testing.assert_close(y.T @ y / (n - 1), eye, atol=1e-7, rtol=0)
    torch.testing.assert_close(x.T @ y / (n - 1), torch.diag(rho), atol=1e-7, rtol=0)
    assert (rho.diff() <= 1e-12).all() and (rho >= 0).all() and (rho <= 1).all()
    assert (map_a.gather(0, map_a.abs().argmax(0, keepdim=True)) > 0).all()
    # any invertible map of either side
    turned = a @ (some(da, da, seed + 2) + 4 * torch.eye(da)) + 5
    torch.testing.assert_close(cca(turned, 9 * b - 3, k)[2], rho, atol=1e-6, rtol=0)
    torch.testing.assert_close(cca(b, a, k)[2], rho, atol=1e-9, rtol=0)
    for first in range(1, k):
        torch.testing.assert_close(cca(a, b, first)[0], map_a[:, :first])


def test_shrinkage_tames_what_few_samples_invent():
    a, b = some(20, 15), some(20, 15, 1)  # independent
    fresh_a, fresh_b = some(2000, 15, 2), some(2000, 15, 3)
    loose, shrunk = (cca(a, b, 1, shrinkage=s) for s in (0.0, 0.8))
    assert loose[2].item() > 0.999 and shrunk[2].item() < 0.5
    for map_a, map_b, _ in (loose, shrunk):
        scores = np.corrcoef((fresh_a @ map_a)[:, 0], (fresh_b @ map_b)[:, 0])
        assert abs(scores[0, 1]) < 0.1


@pytest.mark.parametrize("shrinkage", [0.01, 0.5, 0.99])
def test_shrunk_correlations_stay_below_one_though_variances_differ(shrinkage):
    a = some(50, 4) * torch.tensor([10.0, 1.0, 0.1, 0.1])
    rho = cca(a, a, 4, shrinkage)[2]
    variance = torch.linalg.eigvalsh(torch.cov(a.T)).flip(0)
    mean = variance.mean()
    expected = (1 - shrinkage) * variance / ((1 - shrinkage) * variance + shrinkage * mean)
    torch.testing.assert_close(rho, expected)


def test_cca_keeps_the_dtype_and_computes_in_double():
    a, b = some(60, 3), some(60, 2, 1)
    a, b = (a + 1000).float(), b.float()
    for ours, exact in zip(cca(a, b, 2), cca(a.double(), b.double(), 2), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, exact.float())


@pytest.mark.parametrize(
    ("a", "b", "dims", "shrinkage", "words"),
    [
        (some(9, 3), some(8, 2), 1, 0.0, r"\(9, 3\) and b \(8, 2\), expected \(N, Da\)"),
        (some(9, 3), some(9, 2), 3, 0.0, "dims must be a whole number from 1 to 2, not 3"),
        (some(9, 3), some(9, 2), 0, 0.0, "dims must be"),
        (some(9, 3), some(9, 2), 1.5, 0.0, "dims must be"),
        (some(9, 3), some(9, 2), 1, 1.0, "shrinkage must be a number in \\[0, 1\\)"),
        (some(9, 3), some(9, 2), 1, -0.1, "shrinkage"),
        (some(9, 3), some(9, 2), 1, math.nan, "shrinkage"),
        (
            torch.ones(9, 1).double(),
            some(9, 2),
            1,
            0.0,
            "covariance of a, 1 columns from 9 samples, has no inverse",
        ),
        (torch.ones(9, 1).double(), some(9, 2), 1, 0.5, "has no inverse"),
        (some(9, 3), some(9, 1).repeat(1, 2), 1, 0.0, "covariance of b.*shrinkage > 0"),
        (some(4, 4), some(4, 2), 1, 0.0, "covariance of a, 4 columns from 4 samples"),
        (some(9, 3) * math.nan, some(9, 2), 1, 0.0, "finite floats"),
        (some(1, 3), some(1, 2), 1, 0.0, "2 pairs"),
    ],
)
def test_what_has_no_canonical_correlation_is_refused(a, b, dims, shrinkage, words):
    with pytest.raises(ValueError, match=words):
        cca(a, b, dims, shrinkage)


@needs_cuda
def test_on_cuda_all_is_as_on_the_cpu():
    a, b = some(50, 4), some(50, 4, 1)
    torch.testing.assert_close(info_nce(a.cuda(), b.cuda(), 0.1).cpu(), info_nce(a, b, 0.1))
    assert recall_at_k(a.cuda(), b.cuda(), [1, 9]) == recall_at_k(a, b, [1, 9])
    torch.testing.assert_close(cca(a.cuda(), b.cuda(), 2, 0.1)[0].cpu(), cca(a, b, 2, 0.1)[0])


@pytest.mark.parametrize("seed", range(10))
def test_no_canonical_correlation_exceeds_one_by_rounding(seed):
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    _, _, correlations = cca(x, x @ torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0]).double()), 4)
    assert bool((correlations <= 1).all()) and bool((correlations > 1 - 1e-9).all())
