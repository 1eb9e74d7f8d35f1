import copy

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from mmtutor.fusion import BottleneckFusion, ConcatFusion, FusionClassifier, TensorFusion
from mmtutor.training import fit, predict
from mmtutor.types import Samples

X = {"a": torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), "b": torch.ones(5, 1)}


def test_linear_head_is_one_matrix_product():
    model = FusionClassifier(ConcatFusion({"a": 2, "b": 1}), classes=4).eval()
    linear = model.head[-1]
    expected = torch.cat([X["a"], X["b"]], 1) @ linear.weight.T + linear.bias
    torch.testing.assert_close(model(X), expected)


def test_hidden_layer_and_masks_reach_the_fusion():
    model = FusionClassifier(
        ConcatFusion({"a": 2, "b": 1}), classes=4, hidden=8, dropout=0.5
    ).eval()
    assert sum(p.numel() for p in model.parameters()) == (3 * 8 + 8) + (8 * 4 + 4)
    absent = {"a": torch.zeros(5, dtype=torch.bool)}
    rows = model(X, absent)
    torch.testing.assert_close(rows, rows[:1].expand(5, -1))


class Recorder(nn.Module):
    """A fusion that remembers how it was called."""

    out_features = 1

    def forward(self, *inputs):
        self.inputs = inputs
        return inputs[0]["a"][:, :1]


@pytest.mark.parametrize("recompute", [False, True])
def test_what_is_given_is_handed_on_and_masks_only_where_there_are_some(recompute):
    model = FusionClassifier(Recorder(), classes=2, recompute=recompute).train()
    present, masks = (
        {"a": torch.ones(5, dtype=torch.bool)},
        {"a": torch.ones(5, 2, dtype=torch.bool)},
    )
    model(X, present, masks)
    assert len(model.fusion.inputs) == 3
    assert model.fusion.inputs[1] is present and model.fusion.inputs[2] is masks
    model(X)
    assert model.fusion.inputs == (X, None), "a fusion without masks is not given any"


# recompute

WIDE = {"a": 40, "b": 40}


def wide(recompute: bool, dropout: float = 0.0) -> FusionClassifier:
    torch.manual_seed(0)
    return FusionClassifier(
        TensorFusion(WIDE), classes=3, hidden=2, dropout=dropout, recompute=recompute
    ).train()


def wide_features() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {m: torch.randn(64, d, generator=generator, requires_grad=True) for m, d in WIDE.items()}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputing_changes_neither_logits_nor_gradients(dropout):
    results = []
    for recompute in (False, True):
        model, x = wide(recompute, dropout), wide_features()
        torch.manual_seed(7)
        logits = model(x, {"b": torch.arange(64) % 3 > 0})
        logits.pow(2).sum().backward()
        results.append(
            [logits, *(v.grad for v in x.values()), *(p.grad for p in model.parameters())]
        )
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert results[0][1].abs().max() > 0


def kept_for_backward(model: nn.Module, x: dict[str, torch.Tensor]) -> int:
    """Bytes of activations that the graph holds between forward and backward (weights and inputs
    not counted)."""
    known = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *x.values()]}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(x).sum()
    return sum(kept.values())


def test_recomputing_keeps_less_than_a_hundredth_of_the_bytes():
    plain, recomputed = (
        kept_for_backward(wide(recompute), wide_features()) for recompute in (False, True)
    )
    assert plain > 64 * 41 * 41 * 4, "the outer product alone"
    assert recomputed < plain / 100


@pytest.mark.parametrize("recompute", [False, True])
def test_the_outer_product_waits_in_memory_only_if_it_is_not_computed_again(recompute):
    model, fused = wide(recompute), []
    model.fusion.register_forward_hook(
        lambda _, __, out: fused.append(StorageWeakRef(out.untyped_storage()))
    )
    logits = model(wide_features())
    assert [ref.expired() for ref in fused] == [recompute]
    logits.sum().backward()
    assert len(fused) == 1 + recompute


def test_without_training_nothing_is_computed_twice():
    model, calls = wide(recompute=True).eval(), []
    model.fusion.register_forward_hook(lambda *_: calls.append(1))
    model(wide_features()).sum().backward()
    assert len(calls) == 1


# samples with masks


def spoken(n: int = 120, seed: int = 0) -> Samples:
    """Class 1 has a large first feature in one of the real steps of `audio`, class 0 only in padded
    ones."""
    generator = torch.Generator().manual_seed(seed)
    audio, length = (
        torch.randn(n, 5, 3, generator=generator),
        torch.randint(1, 5, (n,), generator=generator),
    )
    y = torch.randint(0, 2, (n,), generator=generator)
    audio[torch.arange(n), torch.where(y == 1, length - 1, length), 0] += 6
    masks = {"audio": torch.arange(5) < length[:, None]}
    features = {"audio": audio, "text": torch.randn(n, 2, generator=generator)}
    return Samples(features, y, {"text": torch.rand(n, generator=generator) < 0.8}, masks)


@pytest.mark.parametrize(
    "index", [slice(2, 7), [5, 0, 9], torch.arange(120) % 2 == 0], ids=["slice", "list", "mask"]
)
def test_samples_are_cut_alike_with_their_masks(index):
    data = spoken()
    rows = torch.arange(120)[index]
    cut = data[index]
    assert len(cut) == len(rows) == len(cut.masks["audio"])
    assert torch.equal(cut.masks["audio"], data.masks["audio"][rows])
    assert torch.equal(cut.features["audio"], data.features["audio"][rows])
    assert torch.equal(cut.present["text"], data.present["text"][rows])
    assert torch.equal(cut.labels, data.labels[rows])


def test_samples_are_moved_with_their_masks():
    moved = spoken().to("meta")
    tables = [
        *moved.features.values(),
        *moved.present.values(),
        *moved.masks.values(),
        moved.labels,
    ]
    assert len(tables) == 5 and all(t.device.type == "meta" for t in tables)


def test_samples_give_a_model_masks_only_where_there_are_some():
    data = spoken()
    assert data.inputs == (data.features, data.present, data.masks)
    assert len(Samples(data.features, data.labels, data.present).inputs) == 2
    assert len(Samples(data.features, data.labels)[:3].inputs) == 2


def test_masks_of_another_length_are_named():
    data = spoken()
    with pytest.raises(ValueError, match=r"masks\['audio'\] has 5 samples, labels have 120"):
        Samples(data.features, data.labels, None, {"audio": data.masks["audio"][:5]})


def bottleneck() -> FusionClassifier:
    torch.manual_seed(0)
    return FusionClassifier(
        BottleneckFusion({"audio": 3, "text": 2}, 8, bottlenecks=2, heads=2, layers=1), 2
    )


def test_fit_trains_on_samples_with_masks():
    train, test = spoken(200), spoken(200, seed=1)
    model = bottleneck()
    before = copy.deepcopy(model.state_dict())
    history = fit(model, train, epochs=15, lr=0.02, batch_size=50, device="cpu")
    assert all(not torch.equal(before[name], p) for name, p in model.state_dict().items())
    assert history.train_loss[-1] < history.train_loss[0] / 2
    assert (predict(model, test).argmax(1) == test.labels).float().mean() > 0.85
    # the same large number is in every sample
    unmasked = Samples(test.features, test.labels, test.present)
    assert (predict(model, unmasked).argmax(1) == test.labels).float().mean() < 0.75


def test_padding_of_training_samples_changes_nothing_that_is_learnt():
    train, losses = spoken(60), []
    spoiled = {
        **train.features,
        "audio": torch.where(train.masks["audio"][:, :, None], train.features["audio"], 1e6),
    }
    for features in (train.features, spoiled):
        data = Samples(features, train.labels, train.present, train.masks)
        losses.append(
            fit(bottleneck(), data, epochs=2, lr=0.01, batch_size=20, device="cpu").train_loss
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_dropout_acts_on_the_fused_features_and_on_the_hidden_layer():
    fusion = ConcatFusion({"a": 4})
    assert [type(layer) for layer in FusionClassifier(fusion, 2, dropout=0.5).head] == [
        nn.Dropout,
        nn.Linear,
    ]
    hidden = FusionClassifier(fusion, 2, hidden=3, dropout=0.5).head
    assert [type(layer) for layer in hidden] == [
        nn.Dropout,
        nn.Linear,
        nn.ReLU,
        nn.Dropout,
        nn.Linear,
    ]
    assert {layer.p for layer in hidden if isinstance(layer, nn.Dropout)} == {0.5}
