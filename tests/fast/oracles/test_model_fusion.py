"""Model fusions rebuilt by hand in float64, sample by sample and step by step, with no softmax but
exp and sum."""

import copy
import itertools
import math

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
from mmtutor.fusion.model import attention, attention_weights

DIMS = {"image": 5, "text": 3, "audio": 4}
STEPS = {"image": 4, "text": 2, "audio": 3}
BATCH, WIDTH = 4, 6


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(5)


def some(modalities: int, steps: bool = True) -> dict[str, torch.Tensor]:
    chosen = list(DIMS)[:modalities]
    return {
        m: torch.randn(BATCH, *([STEPS[m]] if steps else []), DIMS[m], dtype=torch.float64)
        for m in chosen
    }


def some_missing(modalities: int) -> tuple[dict, dict]:
    """Sample 0 has everything, 1 gaps, 2 lacks image as a whole, 3 has no real step of text."""
    masks = {m: torch.ones(BATCH, STEPS[m], dtype=torch.bool) for m in list(DIMS)[:modalities]}
    masks["image"][1] = torch.tensor([True, False, True, False])
    masks["text"][1] = torch.tensor([False, True])
    masks["text"][3] = False
    return {"image": torch.tensor([True, True, False, True])}, masks


def real_steps(x: dict, present: dict, masks: dict, sample: int) -> dict[str, list[torch.Tensor]]:
    """The steps of one sample that exist, modality → list of (D,)."""
    found = {}
    for m, v in x.items():
        v = v[:, None] if v.dim() == 2 else v
        here = present.get(m, torch.ones(BATCH, dtype=torch.bool))[sample]
        mask = masks.get(m, torch.ones(v.shape[:2], dtype=torch.bool))[sample]
        found[m] = [step for step, real in zip(v[sample], mask, strict=True) if real and here]
    return found


def build(cls: type, modalities: int, **sizes) -> nn.Module:
    """A fusion in float64 whose layer norms are not the identity that they start as."""
    fusion = cls({m: DIMS[m] for m in list(DIMS)[:modalities]}, WIDTH, **sizes).double()
    for module in fusion.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias, 0.0, 0.3)
    return fusion.requires_grad_(False)


def norm(x: torch.Tensor, layer: nn.LayerNorm) -> torch.Tensor:
    centred = x - x.mean()
    return centred / torch.sqrt((centred**2).mean() + layer.eps) * layer.weight + layer.bias


def affine(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    return layer.weight @ x if layer.bias is None else layer.weight @ x + layer.bias


def think(x: torch.Tensor, block: nn.Sequential) -> torch.Tensor:
    first, up, _, down = block
    return x + affine(affine(norm(x, first), up).clamp(min=0), down)


def look(q: torch.Tensor, pairs: list, heads: int, zero_step: bool) -> torch.Tensor:
    """Read (key, value) pairs with one query, head by head; a zero step adds exp(0) = 1 below and
    nothing above."""
    d, parts = len(q) // heads, []
    for h in range(heads):
        cut = slice(h * d, (h + 1) * d)
        weights = [math.exp(float(q[cut] @ k[cut]) / math.sqrt(d)) for k, _ in pairs]
        above = sum(
            (w * v[cut] for w, (_, v) in zip(weights, pairs, strict=True)),
            torch.zeros(d, dtype=q.dtype),
        )
        parts.append(above / (sum(weights) + zero_step))
    return torch.cat(parts)


def mean(steps: list[torch.Tensor]) -> torch.Tensor:
    return sum(steps) / len(steps) if steps else torch.zeros(WIDTH, dtype=torch.float64)


# attention


def some_heads(width: int = 6):
    q, k, v = (torch.randn(BATCH, t, width, dtype=torch.float64) for t in (3, 5, 5))
    real = torch.rand(BATCH, 5) < 0.6
    real[:, 0] = True
    real[0] = torch.tensor([True, False, False, False, False])
    return q, k, v, real


@pytest.mark.parametrize("heads", [1, 2, 3, 6])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_loop_over_queries_and_real_steps(heads, masked):
    q, k, v, real = some_heads()
    out = attention(q, k, v, heads, real if masked else None)
    for b in range(BATCH):
        pairs = [(k[b, s], v[b, s]) for s in range(5) if real[b, s] or not masked]
        for t in range(3):
            torch.testing.assert_close(out[b, t], look(q[b, t], pairs, heads, zero_step=False))


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_what_torchs_own_layer_computes(masked):
    q, k, v, real = some_heads()
    layer = nn.MultiheadAttention(
        6, 2, bias=False, batch_first=True, dtype=torch.float64
    ).requires_grad_(False)
    theirs, _ = layer(q, k, v, key_padding_mask=~real if masked else None)
    wq, wk, wv = layer.in_proj_weight.chunk(3)
    ours = (
        attention(q @ wq.T, k @ wk.T, v @ wv.T, 2, real if masked else None)
        @ layer.out_proj.weight.T
    )
    torch.testing.assert_close(ours, theirs)


def test_attention_by_hand():
    """One query 1, keys 0 and ln 3 (d = 1): weights 1/4 and 3/4 of the values 4 and 8."""
    k, v = torch.tensor([[[0.0], [math.log(3)]]]), torch.tensor([[[4.0], [8.0]]])
    torch.testing.assert_close(attention(torch.ones(1, 1, 1), k, v, 1), torch.tensor([[[7.0]]]))


# CrossAttentionFusion


def cross_by_hand(fusion: CrossAttentionFusion, steps: dict[str, list], heads: int) -> torch.Tensor:
    """steps: modality → its real steps, for one sample; where there are none, others find only the
    step of zeros."""
    x = {m: [affine(s, fusion.project[m]) for s in v] for m, v in steps.items()}
    for layer in fusion.exchange:
        seen = {m: [norm(s, layer.norm[m]) for s in v] for m, v in x.items()}
        after = {}
        for m, own in x.items():
            others, result = [n for n in x if n != m], []
            for s, query_from in zip(own, seen[m], strict=True):
                # one question for each other
                asked = affine(query_from, layer.query[m]).split(WIDTH)
                read = []
                for n, q in zip(others, asked, strict=True):
                    place = [r for r in x if r != n].index(m)  # which of its listeners m is to n
                    told = [
                        affine(t, layer.tell[n]).split(WIDTH)[2 * place : 2 * place + 2]
                        for t in seen[n]
                    ]
                    read.append(look(q, told, heads, zero_step=True))
                result.append(think(s + affine(torch.cat(read), layer.out[m]), layer.think[m]))
            after[m] = result
        x = after
    return affine(torch.cat([mean(x[m]) for m in fusion.dims]), fusion.join)


@pytest.mark.parametrize(
    ("modalities", "layers", "heads"), [(2, 1, 2), (3, 1, 3), (2, 2, 1), (3, 2, 2)]
)
@pytest.mark.parametrize("missing", [False, True])
def test_cross_attention_rebuilt_by_hand(modalities, layers, heads, missing):
    fusion, x = (
        build(CrossAttentionFusion, modalities, heads=heads, layers=layers),
        some(modalities),
    )
    present, masks = some_missing(modalities) if missing else ({}, {})
    out = fusion(x, present, masks)
    for b in range(BATCH):
        torch.testing.assert_close(
            out[b], cross_by_hand(fusion, real_steps(x, present, masks, b), heads)
        )


def test_cross_attention_takes_vectors_as_sequences_of_one_step():
    fusion, x = build(CrossAttentionFusion, 3, heads=2, layers=2), some(3, steps=False)
    out = fusion(x)
    for b in range(BATCH):
        torch.testing.assert_close(out[b], cross_by_hand(fusion, real_steps(x, {}, {}, b), 2))
    torch.testing.assert_close(fusion({m: v[:, None] for m, v in x.items()}), out)


@pytest.mark.parametrize("by_mask", [False, True])
def test_an_absent_modality_is_a_source_that_says_nothing_and_a_reader_nobody_hears(by_mask):
    """The same weights with the absent one's values, and its columns of the joining layer, set to
    0."""
    fusion, x = build(CrossAttentionFusion, 3, heads=2, layers=2), some(3)
    mute = copy.deepcopy(fusion)
    for layer in mute.exchange:
        for value in layer.tell["text"].weight.split(WIDTH)[1::2]:
            value.zero_()
    mute.join.weight[:, WIDTH : 2 * WIDTH] = 0
    nobody = torch.zeros(BATCH, dtype=torch.bool)
    args = (
        (None, {"text": nobody[:, None].expand(-1, STEPS["text"])})
        if by_mask
        else ({"text": nobody},)
    )
    torch.testing.assert_close(fusion(x, *args), mute(x))
    assert not torch.allclose(fusion(x), mute(x))


# SelfAttentionFusion and BottleneckFusion


def self_attention_by_hand(
    block: nn.Module, steps: list[torch.Tensor], heads: int
) -> list[torch.Tensor]:
    # query, key, value of each step
    mixed = [affine(norm(s, block.norm), block.mix).split(WIDTH) for s in steps]
    pairs = [(k, v) for _, k, v in mixed]
    read = [look(q, pairs, heads, zero_step=False) for q, _, _ in mixed]
    return [think(s + affine(r, block.out), block.think) for s, r in zip(steps, read, strict=True)]


@pytest.mark.parametrize(("modalities", "layers", "heads"), [(1, 1, 2), (2, 2, 3), (3, 3, 1)])
@pytest.mark.parametrize("missing", [False, True])
def test_single_stream_rebuilt_by_hand(modalities, layers, heads, missing):
    fusion = build(SelfAttentionFusion, modalities, heads=heads, layers=layers)
    x = some(modalities)
    # of one modality, sample 2 has nobody: only the learnt step is left to be read
    present, masks = some_missing(max(modalities, 2)) if missing else ({}, {})
    masks = {m: mask for m, mask in masks.items() if m in x}
    out = fusion(x, present, masks)
    for b in range(BATCH):
        steps = real_steps(x, present, masks, b)
        stream = [fusion.summary[0]]
        stream += [affine(s, fusion.project[m]) for m in fusion.dims for s in steps[m]]
        for layer in fusion.layers:
            stream = self_attention_by_hand(layer, stream, heads)
        torch.testing.assert_close(out[b], affine(stream[0], fusion.join))


@pytest.mark.parametrize("missing", [False, True])
def test_single_stream_is_torchs_own_transformer_layer(missing):
    fusion, x = build(SelfAttentionFusion, 3, heads=2, layers=1), some(3)
    (ours,) = fusion.layers
    theirs = nn.TransformerEncoderLayer(
        WIDTH, 2, 2 * WIDTH, 0.0, "relu", batch_first=True, norm_first=True, dtype=torch.float64
    ).requires_grad_(False)
    norm, up, _, down = ours.think
    theirs.self_attn.in_proj_weight.copy_(ours.mix.weight)
    theirs.self_attn.in_proj_bias.zero_()
    for mine, copied in (
        (theirs.self_attn.out_proj, ours.out),
        (theirs.norm1, ours.norm),
        (theirs.norm2, norm),
        (theirs.linear1, up),
        (theirs.linear2, down),
    ):
        mine.load_state_dict(copied.state_dict())
    present, masks = some_missing(3) if missing else ({}, {})
    there = [
        masks.get(m, torch.ones(BATCH, STEPS[m], dtype=torch.bool))
        & present.get(m, torch.ones(BATCH, dtype=torch.bool))[:, None]
        for m in DIMS
    ]
    stream = [x[m] @ fusion.project[m].weight.T + fusion.project[m].bias for m in DIMS]
    stream = torch.cat([fusion.summary.expand(BATCH, 1, -1), *stream], 1)
    absent = ~torch.cat([torch.ones(BATCH, 1, dtype=torch.bool), *there], 1)
    read = theirs(stream, src_key_padding_mask=absent)[:, 0]
    expected = read @ fusion.join.weight.T + fusion.join.bias
    torch.testing.assert_close(fusion(x, present, masks), expected)


def bottleneck_by_hand(
    fusion: BottleneckFusion, steps: dict[str, list], heads: int
) -> torch.Tensor:
    x = {m: [affine(s, fusion.project[m]) for s in v] for m, v in steps.items()}
    z = list(fusion.bottleneck)
    for layer in fusion.layers:
        proposals = []
        for m in [m for m in x if x[m]]:
            together = self_attention_by_hand(layer[m], x[m] + z, heads)
            x[m], mine = together[: len(x[m])], together[len(x[m]) :]
            proposals.append(mine)
        z = (
            [sum(column) / len(proposals) for column in zip(*proposals, strict=True)]
            if proposals
            else z
        )
    return affine(torch.cat([*(mean(x[m]) for m in fusion.dims), sum(z) / len(z)]), fusion.join)


@pytest.mark.parametrize(
    ("modalities", "layers", "heads", "bottlenecks"), [(2, 1, 2, 2), (3, 2, 3, 1), (2, 3, 1, 4)]
)
@pytest.mark.parametrize("missing", [False, True])
def test_bottleneck_rebuilt_by_hand(modalities, layers, heads, bottlenecks, missing):
    fusion = build(
        BottleneckFusion, modalities, bottlenecks=bottlenecks, heads=heads, layers=layers
    )
    x = some(modalities)
    present, masks = some_missing(modalities) if missing else ({}, {})
    if missing:
        # of two, sample 2 has nobody
        present = {
            **present,
            "text": torch.tensor([True, True, modalities > 2, True]),
        }
    out = fusion(x, present, masks)
    for b in range(BATCH):
        torch.testing.assert_close(
            out[b], bottleneck_by_hand(fusion, real_steps(x, present, masks, b), heads)
        )


def test_one_modality_alone_passes_through_its_own_bottleneck():
    fusion, x = build(BottleneckFusion, 1, bottlenecks=2, heads=2, layers=2), some(1)
    out = fusion(x)
    for b in range(BATCH):
        torch.testing.assert_close(out[b], bottleneck_by_hand(fusion, real_steps(x, {}, {}, b), 2))


def parts_before_joining(fusion: nn.Module, x: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The averages that the last layer is given: one per modality, and that of the bottleneck."""
    caught = []
    handle = fusion.join.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    fusion(x)
    handle.remove()
    return list(caught[0].split(WIDTH, -1))


@pytest.mark.parametrize(("layers", "hears"), [(1, False), (2, True)])
def test_a_modality_hears_of_another_only_through_the_bottleneck_a_layer_later(layers, hears):
    fusion, x = build(BottleneckFusion, 2, bottlenecks=2, heads=2, layers=layers), some(2)
    image, text, z = parts_before_joining(fusion, x)
    other_image, other_text, other_z = parts_before_joining(fusion, {**x, "text": x["text"] + 1})
    assert not torch.allclose(text, other_text) and not torch.allclose(z, other_z)
    assert torch.equal(image, other_image) is not hears
    if hears:
        assert (image - other_image).abs().amax(1).min() > 1e-6, "in every sample"


@pytest.mark.parametrize(
    "fusion",
    [(CrossAttentionFusion, {}), (SelfAttentionFusion, {}), (BottleneckFusion, {"bottlenecks": 2})],
    ids=lambda f: f[0].__name__,
)
def test_the_order_of_steps_is_not_seen(fusion):
    cls, sizes = fusion
    model, x = build(cls, 3, heads=2, layers=2, **sizes), some(3)
    present, masks = some_missing(3)
    turn = {m: torch.randperm(t) for m, t in STEPS.items()}
    turn["image"] = torch.tensor([2, 3, 1, 0])
    turned = {m: v[:, turn[m]] for m, v in x.items()}
    torch.testing.assert_close(model(turned), model(x))
    turned_masks = {m: mask[:, turn[m]] for m, mask in masks.items()}
    torch.testing.assert_close(model(turned, present, turned_masks), model(x, present, masks))


# EncoderFusion


class Spy(nn.Module):
    """tanh(W x + b), which remembers what it was shown."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width, dtype=torch.float64)

    def forward(self, x):
        self.shown = x.detach()
        return torch.tanh(self.layer(x))


def joint(fusion: nn.Module) -> EncoderFusion:
    return EncoderFusion({m: Spy(d) for m, d in fusion.dims.items()}, fusion)


def test_encoder_fusion_is_the_fusion_of_what_the_encoders_return():
    model, x = joint(ConcatFusion(DIMS)), some(3, steps=False)
    codes = [torch.tanh(x[m] @ e.layer.weight.T + e.layer.bias) for m, e in model.encoders.items()]
    torch.testing.assert_close(model(x), torch.cat(codes, 1))
    model(x).pow(2).sum().backward()
    for m, code in zip(DIMS, codes, strict=True):  # d Σ tanh²/ dW = (2 tanh (1 - tanh²))ᵀ x
        by_hand = (2 * code * (1 - code**2)).T @ x[m]
        torch.testing.assert_close(model.encoders[m].layer.weight.grad, by_hand)


def test_encoder_fusion_shows_zeros_and_hides_what_is_made_of_them():
    model, x = joint(build(CrossAttentionFusion, 3, heads=2, layers=1)), some(3)
    present, masks = some_missing(3)
    out = model(x, present, masks)
    for b in range(BATCH):
        steps = real_steps(x, present, masks, b)
        codes = {m: [model.encoders[m](s).detach() for s in v] for m, v in steps.items()}
        torch.testing.assert_close(out[b], cross_by_hand(model.fusion, codes, 2))
    model(x, present, masks)
    assert (model.encoders["image"].shown[2] == 0).all(), "absent as a whole"
    assert (model.encoders["image"].shown[1] == 0).all(1).tolist() == [False, True, False, True]
    assert (model.encoders["text"].shown[3] == 0).all()
    torch.testing.assert_close(model.encoders["audio"].shown, x["audio"])


def test_an_encoder_learns_nothing_from_samples_without_its_modality():
    model, x = joint(ConcatFusion(DIMS)), some(3, steps=False)
    some_of_it = {"text": torch.tensor([True, False, False, True])}
    model(x, some_of_it).pow(2).sum().backward()
    with_absentees = model.encoders["text"].layer.bias.grad.clone()
    model.zero_grad()
    model({m: v[some_of_it["text"]] for m, v in x.items()}).pow(2).sum().backward()
    torch.testing.assert_close(model.encoders["text"].layer.bias.grad, with_absentees)
    assert with_absentees.abs().min() > 0


# the weights that a reader may look at


@pytest.mark.parametrize("masked", [False, True])
def test_attention_weights_are_those_with_which_values_are_averaged(masked):
    q, k, v, real = some_heads()
    weights = attention_weights(q, k, 3, real if masked else None)
    torch.testing.assert_close(weights.sum(-1), torch.ones(BATCH, 3, 3, dtype=torch.float64))
    averaged = torch.einsum("bhts,bshd->bthd", weights, v.unflatten(-1, (3, 2))).flatten(2)
    torch.testing.assert_close(averaged, attention(q, k, v, 3, real if masked else None))
    if masked:
        assert (weights.transpose(1, 3)[~real] == 0).all()


def test_cross_attention_tells_where_the_first_layer_looked():
    fusion, x = build(CrossAttentionFusion, 2, heads=2, layers=2), some(2)
    present, masks = some_missing(2)
    layers = fusion.weights(x, present, masks)
    assert [set(layer) for layer in layers] == [{("image", "text"), ("text", "image")}] * 2
    first, exchange = layers[0]["image", "text"], fusion.exchange[0]
    assert first.shape == (BATCH, 2, STEPS["image"], STEPS["text"] + 1)
    # steps of image that are real in both samples
    for b, t, h in itertools.product((0, 1), (0, 2), range(2)):
        cut = slice(h * 3, h * 3 + 3)
        asking = norm(affine(x["image"][b, t], fusion.project["image"]), exchange.norm["image"])
        q = affine(asking, exchange.query["image"])
        scores = {STEPS["text"]: 1.0}  # the step of zeros stands last: exp(0)
        for s in [s for s in range(STEPS["text"]) if masks["text"][b, s]]:
            seen = norm(affine(x["text"][b, s], fusion.project["text"]), exchange.norm["text"])
            key = affine(seen, exchange.tell["text"])[:WIDTH]
            scores[s] = math.exp(float(q[cut] @ key[cut]) / math.sqrt(3))
        expected = [scores.get(s, 0.0) / sum(scores.values()) for s in range(STEPS["text"] + 1)]
        torch.testing.assert_close(first[b, h, t], torch.tensor(expected, dtype=torch.float64))
    nothing = first[3]  # no real step of text: all weight lies on the step of zeros
    assert (nothing[..., -1] == 1).all() and (nothing[..., :-1] == 0).all()
