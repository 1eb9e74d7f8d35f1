"""Feature fusions against their published equations: einsum, explicit loops, and linear layers with
copied weights."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmtutor.fusion import (
    ConcatFusion,
    FilmFusion,
    GatedFusion,
    LowRankFusion,
    SumFusion,
    TensorFusion,
)

WIDTHS = {"image": 3, "text": 2, "audio": 4, "lidar": 1}
EINSUM = {1: "bi->bi", 2: "bi,bj->bij", 3: "bi,bj,bk->bijk", 4: "bi,bj,bk,bl->bijkl"}
BATCH = 5


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(3)


def some(dims: dict[str, int], batch: int = BATCH) -> dict[str, torch.Tensor]:
    return {
        m: torch.randn(batch, d, dtype=torch.float64, requires_grad=True) for m, d in dims.items()
    }


def first(count: int) -> dict[str, int]:
    return dict(list(WIDTHS.items())[:count])


def with_one(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.ones(len(x), 1, dtype=x.dtype), x], 1)


def assert_same_values_and_gradients(ours, theirs, inputs):
    torch.testing.assert_close(ours, theirs)
    towards = torch.randn_like(ours)
    gradients = [torch.autograd.grad(h, inputs, towards, retain_graph=True) for h in (ours, theirs)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


# TensorFusion


@pytest.mark.parametrize(
    "order", [["image"], ["text", "image"], ["image", "text"], ["audio", "text", "image"]]
)
def test_tensor_fusion_is_the_einsum_in_the_order_of_dims(order):
    x = some({m: WIDTHS[m] for m in sorted(order)})
    fusion = TensorFusion({m: WIDTHS[m] for m in order})
    product = torch.einsum(EINSUM[len(order)], *(with_one(x[m]) for m in order))
    assert product.shape[1:] == tuple(WIDTHS[m] + 1 for m in order)
    assert_same_values_and_gradients(fusion(x), product.flatten(1), list(x.values()))


def test_tensor_fusion_of_four_is_the_einsum():
    x = some(WIDTHS)
    product = torch.einsum(EINSUM[4], *(with_one(v) for v in x.values()))
    assert_same_values_and_gradients(TensorFusion(WIDTHS)(x), product.flatten(1), list(x.values()))


def test_tensor_fusion_by_hand():
    """[1; 2; 3] ⊗ [1; 5] = 1·[1 5], 2·[1 5], 3·[1 5]."""
    out = TensorFusion({"a": 2, "b": 1})(
        {"a": torch.tensor([[2.0, 3.0]]), "b": torch.tensor([[5.0]])}
    )
    assert out.tolist() == [[1, 5, 2, 10, 3, 15]]


@pytest.mark.parametrize("away", ["image", "text", "audio"])
def test_an_absent_modality_leaves_the_block_of_products_of_the_others(away):
    dims = first(3)
    x, others = some(dims), [m for m in dims if m != away]
    out = TensorFusion(dims)(x, {away: torch.zeros(BATCH, dtype=torch.bool)})
    block = out.unflatten(1, [d + 1 for d in dims.values()]).movedim(1 + list(dims).index(away), -1)
    expected = torch.einsum(EINSUM[2], *(with_one(x[m]) for m in others))
    torch.testing.assert_close(block[..., 0], expected)
    alone = TensorFusion({m: dims[m] for m in others})({m: x[m] for m in others})
    torch.testing.assert_close(block[..., 0].flatten(1), alone)
    assert (block[..., 1:] == 0).all()


# LowRankFusion


def factors_of(weight: torch.Tensor, fusion: LowRankFusion) -> None:
    """Write weight (out, d_1 + 1, ..., d_M + 1) into the factors: one term for each entry of all
    axes but the last."""
    *axes, last = weight.shape[1:]
    terms = list(itertools.product(*(range(n) for n in axes)))
    assert fusion.rank == len(terms)
    for position, factor in enumerate(fusion.factor.values()):
        rows = torch.zeros(
            fusion.rank, fusion.out_features, factor.in_features + 1, dtype=weight.dtype
        )
        for r, entry in enumerate(terms):
            if position < len(axes):
                rows[r, :, entry[position]] = 1.0
            else:
                rows[r] = weight[(slice(None), *entry)].reshape(-1, last)
        factor.bias.data = rows[..., 0].flatten()
        factor.weight.data = rows[..., 1:].flatten(0, 1)


@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_low_rank_fusion_at_full_rank_is_a_linear_layer_behind_the_tensor(modalities):
    dims, out = first(modalities), 2
    sizes = [d + 1 for d in dims.values()]
    tensor, linear = TensorFusion(dims), nn.Linear(math.prod(sizes), out, dtype=torch.float64)
    fusion = LowRankFusion(dims, out, rank=math.prod(sizes[:-1])).double()
    weight = linear.weight.detach().clone()
    weight[:, 0] += linear.bias.detach()  # the product of all the ones is the first
    factors_of(weight.reshape(out, *sizes), fusion)
    x = some(dims)
    assert_same_values_and_gradients(fusion(x), linear(tensor(x)), list(x.values()))
    absent = {"text": torch.tensor([True, False, False, True, False])}
    torch.testing.assert_close(fusion(x, absent), linear(tensor(x, absent)))


@pytest.mark.parametrize(("modalities", "rank"), [(1, 1), (2, 1), (3, 4)])
def test_low_rank_fusion_is_the_sum_over_its_terms_of_products(modalities, rank):
    dims, out = first(modalities), 3
    fusion, x = LowRankFusion(dims, out, rank).double(), some(dims)
    expected = torch.zeros(BATCH, out, dtype=torch.float64)
    for b, r, o in itertools.product(range(BATCH), range(rank), range(out)):
        term = 1.0
        for m, factor in fusion.factor.items():
            row = r * out + o
            term *= factor.bias[row].item() + sum((factor.weight[row] * x[m][b]).tolist())
        expected[b, o] += term
    torch.testing.assert_close(fusion(x), expected)


@pytest.mark.parametrize("modalities", range(2, 9))
@pytest.mark.parametrize("rank", [1, 5])
def test_low_rank_fusion_starts_with_outputs_of_about_unit_variance(modalities, rank):
    """Products of 8 normal numbers have heavy tails: 10⁵ outputs, and bounds of a factor of two."""
    dims = {f"m{i}": 20 + 10 * i for i in range(modalities)}
    fusion = LowRankFusion(dims, 1000, rank)
    with torch.no_grad():
        out = fusion({m: torch.randn(200, d) for m, d in dims.items()})
    assert 0.5 < out.var() < 2
    assert abs(out.mean()) < 0.1


# SumFusion


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_sum_fusion_is_a_linear_layer_behind_concat(modalities):
    dims = first(modalities)
    fusion, x = SumFusion(dims, 6).double(), some(dims)
    linear = nn.Linear(sum(dims.values()), 6, dtype=torch.float64)
    with torch.no_grad():
        linear.bias.copy_(fusion.bias)
        for m, block in zip(dims, linear.weight.split(list(dims.values()), 1), strict=True):
            block.copy_(fusion.project[m].weight)
    assert_same_values_and_gradients(fusion(x), linear(ConcatFusion(dims)(x)), list(x.values()))
    absent = {"image": torch.tensor([True, False, False, True, False])}
    torch.testing.assert_close(fusion(x, absent), linear(ConcatFusion(dims)(x, absent)))


# GatedFusion


def test_two_gates_are_the_gated_multimodal_unit():
    """h_v = tanh(W_v x_v), h_t = tanh(W_t x_t), z = σ(W_z [x_v; x_t]), h = z h_v + (1 - z) h_t
    (with biases).

    The softmax of two scores s_1, s_2 is σ(s_1 - s_2), so W_z is the difference of the gate layer's
    two halves.
    """
    dims, out = first(2), 4
    fusion, x = GatedFusion(dims, out).double(), some(dims)
    w = fusion.gate.weight[:out] - fusion.gate.weight[out:]
    b = fusion.gate.bias[:out] - fusion.gate.bias[out:]
    z = 1 / (1 + torch.exp(-(torch.cat([x["image"], x["text"]], 1) @ w.T + b)))
    h = {m: torch.tanh(x[m] @ layer.weight.T + layer.bias) for m, layer in fusion.candidate.items()}
    by_hand = z * h["image"] + (1 - z) * h["text"]
    assert_same_values_and_gradients(fusion(x), by_hand, list(x.values()))
    everybody = {m: torch.ones(BATCH, dtype=torch.bool) for m in dims}
    assert_same_values_and_gradients(fusion(x, everybody), by_hand, list(x.values()))
    torch.testing.assert_close(fusion.gates(x)["image"], z)


@pytest.mark.parametrize("modalities", [1, 2, 3, 4])
def test_gates_sum_to_one_and_are_zero_where_absent(modalities):
    dims = first(modalities)
    fusion, x = GatedFusion(dims, 3).double(), some(dims)
    one = torch.ones(BATCH, 3, dtype=torch.float64)
    torch.testing.assert_close(sum(fusion.gates(x).values()), one)
    if modalities == 1:
        return
    absent = {"text": torch.tensor([True, False, True, False, False])}
    gates = fusion.gates(x, absent)
    torch.testing.assert_close(sum(gates.values()), one)
    assert (gates["text"][~absent["text"]] == 0).all() and (gates["text"][absent["text"]] > 0).all()


def test_three_gates_are_a_softmax_over_those_present():
    dims, out = first(3), 2
    fusion, x = (
        GatedFusion(dims, out).double().requires_grad_(False),
        {m: v.detach() for m, v in some(dims).items()},
    )
    present = {
        "text": torch.tensor([True, False, True, False, False]),
        "audio": torch.tensor([True] * 4 + [False]),
    }
    output = fusion(x, present)
    for b in range(BATCH):
        here = [m for m in dims if m not in present or present[m][b]]
        shown = torch.cat(
            [x[m][b] if m in here else torch.zeros(dims[m], dtype=torch.float64) for m in dims]
        )
        scores = fusion.gate.weight @ shown + fusion.gate.bias
        for o in range(out):
            weigh = {m: math.exp(scores[i * out + o]) for i, m in enumerate(dims) if m in here}
            layers = {m: fusion.candidate[m] for m in here}
            value = {m: math.tanh(layers[m].weight[o] @ x[m][b] + layers[m].bias[o]) for m in here}
            expected = sum(weigh[m] * value[m] for m in here) / sum(weigh.values())
            assert output[b, o].item() == pytest.approx(expected, rel=1e-12)


def test_one_gated_modality_is_its_tanh_layer_and_nobody_is_zero():
    fusion, x = GatedFusion({"image": 3}, 4).double(), some({"image": 3})
    layer = fusion.candidate["image"]
    torch.testing.assert_close(
        fusion(x), torch.tanh(F.linear(x["image"], layer.weight, layer.bias))
    )
    for modalities in (1, 2, 3):
        dims = first(modalities)
        nobody = {m: torch.zeros(BATCH, dtype=torch.bool) for m in dims}
        assert (GatedFusion(dims, 4).double()(some(dims), nobody) == 0).all()


# FilmFusion


def film(condition: str = "text") -> tuple[FilmFusion, dict[str, torch.Tensor]]:
    return FilmFusion(first(3), 4, condition).double(), some(first(3))


def test_film_by_hand():
    fusion, x = film()
    gamma = x["text"] @ fusion.generator.weight[:4].T
    beta = x["text"] @ fusion.generator.weight[4:].T
    content = fusion.content
    u = content.bias + sum(x[m] @ content.project[m].weight.T for m in ("image", "audio"))
    assert_same_values_and_gradients(fusion(x), (1 + gamma) * u + beta, list(x.values()))


@pytest.mark.parametrize("condition", ["image", "text", "audio"])
def test_film_without_its_condition_is_the_sum_of_the_others(condition):
    fusion, x = film(condition)
    others = {m: v for m, v in x.items() if m != condition}
    plain = SumFusion({m: WIDTHS[m] for m in others}, 4).double()
    plain.load_state_dict(fusion.content.state_dict())
    zero = {**x, condition: torch.zeros(BATCH, WIDTHS[condition], dtype=torch.float64)}
    torch.testing.assert_close(fusion(zero), plain(others), rtol=0, atol=0)
    absent = {condition: torch.zeros(BATCH, dtype=torch.bool)}
    torch.testing.assert_close(fusion(x, absent), plain(others), rtol=0, atol=0)
    assert not torch.allclose(fusion(x), plain(others))


def test_film_with_others_absent_scales_and_shifts_what_is_left():
    fusion, x = film()
    nobody_else = {m: torch.zeros(BATCH, dtype=torch.bool) for m in ("image", "audio")}
    gamma, beta = (x["text"] @ half.T for half in fusion.generator.weight.split(4))
    torch.testing.assert_close(fusion(x, nobody_else), (1 + gamma) * fusion.content.bias + beta)
