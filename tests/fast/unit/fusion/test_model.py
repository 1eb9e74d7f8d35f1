import pytest
import torch
from torch import nn

from mmtutor.fusion import (
    BottleneckFusion,
    ConcatFusion,
    CrossAttentionFusion,
    EncoderFusion,
    SelfAttentionFusion,
)
from mmtutor.fusion.model import attention

DIMS = {"image": 5, "text": 3, "audio": 4}
STEPS = {"image": 4, "text": 2, "audio": 3}
SIZES = {"out_features": 6, "heads": 2, "layers": 2}


def make(cls: type, dims=None, **change) -> nn.Module:
    sizes = {**SIZES, **({"bottlenecks": 2} if cls is BottleneckFusion else {}), **change}
    torch.manual_seed(0)
    return cls(DIMS if dims is None else dims, **sizes).eval()


def sequences(batch: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(batch, STEPS[m], d, generator=generator) for m, d in DIMS.items()}


all_three = pytest.mark.parametrize(
    "cls", [CrossAttentionFusion, SelfAttentionFusion, BottleneckFusion]
)


@all_three
def test_sizes_below_one_are_named(cls):
    for size in [*SIZES, *(["bottlenecks"] if cls is BottleneckFusion else [])]:
        for value in (0, -2):
            with pytest.raises(
                ValueError, match=rf"{size} must be a whole number of 1 or more, not {value}"
            ):
                make(cls, **{size: value})


@all_three
def test_heads_must_divide_the_width(cls):
    with pytest.raises(ValueError, match="heads is 4, expected a divisor of out_features = 6"):
        make(cls, heads=4)
    assert make(cls, heads=6)(sequences()).shape == (3, 6)


@all_three
def test_dims_that_hold_nothing_are_refused(cls):
    with pytest.raises(ValueError, match="expected at least one modality"):
        make(cls, dims={})
    with pytest.raises(ValueError, match=r"dims\['text'\] must be a whole number of 1 or more"):
        make(cls, dims={"image": 5, "text": 0})


def test_who_reads_from_others_needs_others():
    with pytest.raises(ValueError, match="at least two modalities: one has nobody to read from"):
        make(CrossAttentionFusion, dims={"image": 5})
    for cls in (SelfAttentionFusion, BottleneckFusion):
        assert make(cls, dims={"image": 5})({"image": torch.randn(3, 5)}).shape == (3, 6)


@all_three
def test_features_of_other_shapes_are_named(cls):
    fusion, x = make(cls), sequences()
    with pytest.raises(
        ValueError, match=r"image.*\(3, 4, 1, 5\), expected \(B, T, 5\) or \(B, 5\)"
    ):
        fusion({**x, "image": x["image"][:, :, None]})
    with pytest.raises(ValueError, match=r"image.*\(5,\)"):
        fusion({**x, "image": torch.zeros(5)})
    with pytest.raises(ValueError, match=r"text.*\(3, 2, 9\), expected \(B, T, 3\)"):
        fusion({**x, "text": torch.zeros(3, 2, 9)})
    with pytest.raises(ValueError, match=r"masks\['text'\].*\(3,\)"):
        fusion(x, None, {"text": torch.ones(3, dtype=torch.bool)})


@all_three
def test_vectors_and_sequences_may_be_mixed_and_vectors_masked(cls):
    fusion, x = make(cls), sequences()
    mixed = {**x, "text": x["text"][:, 0]}
    torch.testing.assert_close(fusion(mixed), fusion({**x, "text": x["text"][:, :1]}))
    one_step = torch.tensor([[True], [False], [True]])
    torch.testing.assert_close(
        fusion(mixed, None, {"text": one_step}), fusion(mixed, {"text": one_step[:, 0]})
    )


@all_three
def test_a_sequence_of_no_steps_is_an_absent_modality(cls):
    fusion, x = make(cls), sequences()
    absent = fusion(x, {"text": torch.zeros(3, dtype=torch.bool)})
    without = {**x, "text": torch.zeros(3, 0, 3)}
    masked = fusion(without, None, {"text": torch.ones(3, 0, dtype=torch.bool)})
    torch.testing.assert_close(masked, absent)


def test_the_bottleneck_takes_only_real_views():
    fusion, x = make(BottleneckFusion), sequences()
    half = {"text": torch.tensor([True, False, True])}
    ours = fusion(x, half)
    everyone = fusion({m: v[:1] for m, v in x.items()})
    torch.testing.assert_close(ours[:1], everyone)
    assert not torch.allclose(ours[1], fusion(x)[1])


def test_attention_with_one_step_to_read_returns_it():
    q, v = torch.randn(2, 3, 4), torch.randn(2, 1, 4)
    torch.testing.assert_close(attention(q, torch.randn(2, 1, 4), v, heads=2), v.expand(2, 3, 4))


# EncoderFusion


def encoders() -> dict[str, nn.Module]:
    return {m: nn.Linear(d, d) for m, d in DIMS.items()}


def test_encoders_for_other_modalities_than_the_fusions_are_named():
    with pytest.raises(KeyError, match=r"encoders lacks \['audio'\]"):
        EncoderFusion({m: e for m, e in encoders().items() if m != "audio"}, ConcatFusion(DIMS))
    with pytest.raises(KeyError, match=r"encoders names unknown \['lidar'\]"):
        EncoderFusion({**encoders(), "lidar": nn.Identity()}, ConcatFusion(DIMS))


def test_masks_and_features_of_unknown_modalities_are_named():
    model, x = EncoderFusion(encoders(), make(CrossAttentionFusion)), sequences()
    with pytest.raises(KeyError, match=r"masks names unknown \['lidar'\]"):
        model(x, None, {"lidar": torch.ones(3, 2, dtype=torch.bool)})
    with pytest.raises(KeyError, match=r"features lacks \['text'\]"):
        model({m: v for m, v in x.items() if m != "text"})
    with pytest.raises(ValueError, match=r"text.*2 samples"):
        model({**x, "text": x["text"][:2]})


def test_an_encoder_may_change_the_number_of_steps_and_the_mask_speaks_of_what_it_returns():
    class EverySecond(nn.Module):
        def forward(self, x):
            return x[:, ::2]

    dims = {"image": 5, "text": 3}
    fusion = make(CrossAttentionFusion, dims=dims)
    model = EncoderFusion({"image": EverySecond(), "text": nn.Identity()}, fusion)
    x = {m: sequences()[m] for m in dims}
    masks = {"image": torch.tensor([[True, True], [True, False], [False, True]])}
    expected = fusion({**x, "image": x["image"][:, ::2]}, None, masks)
    torch.testing.assert_close(model(x, None, masks), expected)


def test_encoders_of_any_kind_of_raw_sample_train_with_the_fusion():
    pictures = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    model = EncoderFusion(
        {"image": pictures, "text": nn.Identity()}, make(BottleneckFusion, {"image": 5, "text": 3})
    )
    x = {"image": torch.randn(3, 3, 2, 2), "text": torch.randn(3, 2, 3)}
    model(x, {"image": torch.tensor([True, True, False])}).pow(2).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in pictures.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "kind", [CrossAttentionFusion, SelfAttentionFusion, BottleneckFusion, EncoderFusion]
)
def test_half_precision_on_cuda_is_near_single_precision_on_the_cpu(kind, dtype):
    model = (
        EncoderFusion(encoders(), make(CrossAttentionFusion))
        if kind is EncoderFusion
        else make(kind)
    )
    model = model.to(dtype)
    x = {m: v.to(dtype) for m, v in sequences(batch=16).items()}
    present = {"text": torch.arange(16) % 3 > 0}
    # some sequences have no real step
    masks = {"image": torch.arange(4) < torch.arange(16)[:, None] % 5}
    spoiled = {**x, "image": torch.where(masks["image"][:, :, None], x["image"], float("nan"))}
    theirs = model.float()({m: v.float() for m, v in x.items()}, present, masks)
    on_gpu = {m: v.cuda().requires_grad_() for m, v in spoiled.items()}
    model = model.to("cuda", dtype)
    ours = model(
        on_gpu, {m: t.cuda() for m, t in present.items()}, {m: t.cuda() for m, t in masks.items()}
    )
    assert ours.dtype == dtype and torch.isfinite(ours).all()
    torch.testing.assert_close(ours.float().cpu(), theirs, rtol=0, atol=32 * torch.finfo(dtype).eps)
    ours.float().pow(2).sum().backward()
    assert all(torch.isfinite(v.grad).all() for v in on_gpu.values())


@all_three
def test_a_sequence_without_any_step_says_nothing(cls):
    fusion, features = make(cls), sequences()
    features["text"] = features["text"][:, :0]
    assert torch.isfinite(fusion(features)).all()


@all_three
def test_no_step_of_an_absent_modality_is_real_whatever_its_mask_says(cls):
    fusion, features = make(cls), sequences()
    present = {"text": torch.tensor([True, False, True])}
    masks = {"text": torch.ones(3, features["text"].shape[1], dtype=torch.bool)}
    claimed = fusion(features, present, masks)
    masks["text"][1] = False
    torch.testing.assert_close(claimed, fusion(features, present, masks))
