import pytest
import torch
from torch import nn

from mmtutor.fusion import (
    ConcatFusion,
    FilmFusion,
    GatedFusion,
    LowRankFusion,
    SumFusion,
    TensorFusion,
)

DIMS = {"image": 5, "text": 3, "audio": 4}


def make(cls: type, dims: dict[str, int], **change) -> nn.Module:
    """A fusion of `dims` with the further sizes that its class takes."""
    known = {"out_features": 6, "rank": 2, "condition": "text"}
    wanted = cls.__init__.__annotations__.keys() & known.keys()
    return cls(dims, **{name: known[name] for name in wanted} | change)


every = pytest.mark.parametrize(
    "cls", [ConcatFusion, SumFusion, GatedFusion, TensorFusion, LowRankFusion, FilmFusion]
)


@pytest.mark.parametrize("dims", [{"a": 2}, {"a": 2, "b": 1}, DIMS])
def test_where_nobody_is_present_every_gate_is_closed(dims):
    fusion = GatedFusion(dims, 4)
    x = {m: torch.full((2, d), torch.nan) for m, d in dims.items()}
    nobody = {m: torch.tensor([False, False]) for m in dims}
    assert all((gate == 0).all() for gate in fusion.gates(x, nobody).values())
    assert (fusion(x, nobody) == 0).all()


def test_concat_lays_modalities_side_by_side_in_the_order_of_dims():
    fusion = ConcatFusion({"b": 1, "a": 2})
    out = fusion({"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([[3.0]])})
    assert out.tolist() == [[3.0, 1.0, 2.0]]
    assert fusion.out_features == 3


def test_concat_puts_zero_where_a_modality_is_absent():
    fusion = ConcatFusion({"a": 2, "b": 1})
    x = {"a": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "b": torch.tensor([[5.0], [6.0]])}
    out = fusion(x, {"a": torch.tensor([True, False])})
    assert out.tolist() == [[1.0, 2.0, 5.0], [0.0, 0.0, 6.0]]


NOTHING = "at least one modality"


@pytest.mark.parametrize(
    ("dims", "words"),
    [({}, NOTHING), ({"a": 0}, r"dims\['a'\] must be a whole number of 1 or more")],
)
def test_concat_refuses_dims_that_hold_nothing(dims, words):
    with pytest.raises(ValueError, match=words):
        ConcatFusion(dims)


@every
@pytest.mark.parametrize("dims", [{}, {"image": 5, "text": 0}, {"image": 5, "text": -1}], ids=str)
def test_dims_that_hold_nothing_are_refused(cls, dims):
    words = r"dims\['text'\] must be a whole number of 1 or more" if dims else NOTHING
    with pytest.raises(ValueError, match=words):
        make(cls, dims)


@pytest.mark.parametrize(
    ("cls", "size"),
    [
        (SumFusion, "out_features"),
        (GatedFusion, "out_features"),
        (LowRankFusion, "out_features"),
        (LowRankFusion, "rank"),
        (FilmFusion, "out_features"),
    ],
)
def test_sizes_below_one_are_named(cls, size):
    for value in (0, -3):
        with pytest.raises(
            ValueError, match=rf"{size} must be a whole number of 1 or more, not {value}"
        ):
            make(cls, DIMS, **{size: value})
    assert make(cls, DIMS, **{size: 1})


@pytest.mark.parametrize(("dims", "condition"), [(DIMS, "lidar"), ({"text": 3}, "text")])
def test_a_condition_must_be_one_of_at_least_two_modalities(dims, condition):
    with pytest.raises(
        ValueError, match=rf"condition is '{condition}', expected one of at least two modalities"
    ):
        FilmFusion(dims, 6, condition)


@every
def test_the_callers_dims_may_change_later(cls):
    dims = dict(DIMS)
    fusion = make(cls, dims)
    dims["text"] = 99
    dims["lidar"] = 1
    x = {m: torch.randn(2, d) for m, d in DIMS.items()}
    assert fusion(x).shape == (2, fusion.out_features)


def test_tensor_fusion_is_as_wide_as_the_product():
    assert TensorFusion({"a": 2, "b": 3, "c": 1}).out_features == 3 * 4 * 2


def test_low_rank_fusion_never_has_more_numbers_than_the_sum_of_widths_calls_for():
    dims = {f"m{i}": 9 for i in range(8)}  # the tensor would have 10⁸ entries for each output
    fusion = LowRankFusion(dims, out_features=4, rank=3)
    assert sum(p.numel() for p in fusion.parameters()) == 8 * 10 * 3 * 4
    assert fusion({m: torch.randn(2, 9) for m in dims}).shape == (2, 4)


def test_a_gate_shuts_for_whoever_scores_low():
    fusion = GatedFusion({"a": 1, "b": 1}, out_features=1)
    with torch.no_grad():
        fusion.gate.weight.zero_()
        fusion.gate.bias.copy_(torch.tensor([0.0, 100.0]))
    x = {"a": torch.tensor([[2.0]]), "b": torch.tensor([[-1.0]])}
    gates = fusion.gates(x)
    assert gates["a"].item() < 1e-20 and gates["b"].item() == 1
    torch.testing.assert_close(fusion(x), fusion.candidate["b"](x["b"]).tanh())
    alone = fusion.gates(x, {"b": torch.tensor([False])})
    assert (alone["a"].item(), alone["b"].item()) == (1, 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@every
def test_half_precision_on_cuda_is_near_single_precision_on_the_cpu(cls, dtype):
    torch.manual_seed(0)
    fusion = make(cls, DIMS).to(dtype)
    x = {m: torch.randn(16, d).to(dtype) for m, d in DIMS.items()}
    present = {"text": torch.arange(16) % 3 > 0, "audio": torch.arange(16) % 4 > 0}
    spoiled = {**x, "text": torch.where(present["text"][:, None], x["text"], float("nan"))}
    theirs = fusion.float()({m: v.float() for m, v in x.items()}, present)
    on_gpu = {m: v.cuda().requires_grad_() for m, v in spoiled.items()}
    ours = fusion.to("cuda", dtype)(on_gpu, {m: t.cuda() for m, t in present.items()})
    assert ours.dtype == dtype and torch.isfinite(ours).all()
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(ours.float().cpu(), theirs, rtol=16 * eps, atol=16 * eps)
    ours.float().pow(2).sum().backward()
    assert all(torch.isfinite(v.grad).all() for v in on_gpu.values())
