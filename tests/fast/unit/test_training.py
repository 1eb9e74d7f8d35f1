import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmtutor.checks import check_finite
from mmtutor.fusion import BottleneckFusion, ConcatFusion, FusionClassifier
from mmtutor.training import _shares, fit, predict, weights_of_classes
from mmtutor.types import Samples

SCRIPT = Path(__file__).with_name("fit_script.py")


def two_modalities(n=200, seed=0) -> Samples:
    g = torch.Generator().manual_seed(seed)
    x = {"a": torch.randn(n, 6, generator=g), "b": torch.randn(n, 4, generator=g)}
    return Samples(x, (x["a"][:, 0] + x["b"][:, 0] > 0).long())


def linear(seed=0, **options) -> FusionClassifier:
    torch.manual_seed(seed)
    return FusionClassifier(ConcatFusion({"a": 6, "b": 4}), 2, **options)


def test_one_full_batch_step_is_adamw_by_hand():
    data, model, by_hand = two_modalities(), linear(), linear()
    fit(model, data, epochs=1, lr=0.1, weight_decay=0.3, batch_size=200, device="cpu")
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=0.1, weight_decay=0.3)
    F.cross_entropy(by_hand(data.features), data.labels).backward()
    optimizer.step()
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_it_learns_what_only_both_modalities_tell():
    data = two_modalities(600)
    model = linear()
    history = fit(model, data[:400], data[400:500], epochs=40, lr=0.05, batch_size=64)
    accuracy = (predict(model, data[500:]).argmax(1) == data.labels[500:]).float().mean()
    assert accuracy > 0.93  # one modality alone reaches 0.75
    assert history.train_loss[-1] < history.train_loss[0] / 2


def test_the_best_epochs_weights_are_restored_and_patience_stops():
    data = two_modalities(60)
    noise = Samples(
        data.features, data.labels[torch.randperm(60, generator=torch.Generator().manual_seed(1))]
    )
    model = linear(hidden=64)
    history = fit(model, noise[:40], noise[40:], epochs=200, lr=0.02, patience=5)
    assert len(history.validation_loss) == history.best_epoch + 5
    assert history.validation_loss[history.best_epoch - 1] == min(history.validation_loss)
    now = F.cross_entropy(predict(model, noise[40:]), noise.labels[40:]).item()
    assert now == pytest.approx(min(history.validation_loss), rel=1e-5)


def test_same_seed_same_result_other_seed_other_result_and_global_state_untouched():
    def weights(seed):
        model = linear(hidden=8, dropout=0.5)
        fit(model, two_modalities(), epochs=2, lr=0.01, batch_size=32, seed=seed)
        return torch.cat([p.flatten() for p in model.parameters()])

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    model = linear()
    torch.random.set_rng_state(before)
    fit(model, two_modalities(), epochs=1, lr=0.01)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(weights(1), weights(1))
    assert not torch.allclose(weights(1), weights(2))


class Watched(nn.Module):
    """A linear model behind a dropout layer that notes, at each call, its mode and how many rows it
    was given."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.drop, self.head = nn.Dropout(dropout), nn.Linear(10, 2)
        self.calls: list[tuple[bool, int]] = []

    def forward(self, features, present=None):
        self.calls.append((self.training, len(features["a"])))
        assert self.drop.training == self.training
        return self.head(self.drop(torch.cat([features["a"], features["b"]], 1)))


def test_dropout_acts_in_every_training_batch_and_nowhere_else():
    data, model = two_modalities(50), Watched()
    fit(model, data[:30], data[30:], epochs=3, lr=0.01, batch_size=20)
    one_epoch = [(True, 20), (True, 10), (False, 20)]
    assert model.calls == [(False, 1), *3 * one_epoch]  # the first call asks for the shape only
    assert not model.training
    fit(model.train(), data, epochs=1, lr=0.01)
    assert not model.training and not model.drop.training, "eval mode without validation, too"
    model.train()
    assert torch.equal(predict(model, data), predict(model.train(), data))
    assert model.calls[-1] == (False, 50)


def weights_after(model: nn.Module, data: Samples, **options) -> torch.Tensor:
    fit(model, data, **{"epochs": 2, "lr": 0.05, "batch_size": 32} | options)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_seed_alone_sets_the_order_of_samples():
    data, learnt = two_modalities(100), []
    for seed, surroundings in ((0, 5), (0, 6), (1, 5)):
        model = linear()
        torch.manual_seed(surroundings)
        learnt.append(weights_after(model, data, seed=seed))
    assert torch.equal(learnt[0], learnt[1])
    assert not torch.allclose(learnt[0], learnt[2])
    model, order = linear(), []
    rows = Samples({m: x.clone() for m, x in data.features.items()}, data.labels)
    rows.features["a"][:, 0] = torch.arange(100)

    def note(batch: Samples, generator: torch.Generator) -> Samples:
        order.append(batch.features["a"][:, 0].long())
        return batch

    fit(model, rows, epochs=2, lr=1e-6, batch_size=100, augment=note)
    assert not torch.equal(*order), "another order in each epoch"
    assert torch.equal(*(epoch.sort().values for epoch in order))


def test_the_seed_alone_sets_dropout():
    """All samples are one and the same, so that their order cannot matter."""
    row = two_modalities(1)
    data = row[torch.zeros(64, dtype=torch.long)]
    learnt = []
    for seed, surroundings in ((0, 5), (0, 6), (1, 5)):
        model = linear(dropout=0.5)
        torch.manual_seed(surroundings)
        learnt.append(weights_after(model, data, seed=seed))
    assert torch.equal(learnt[0], learnt[1])
    assert not torch.allclose(learnt[0], learnt[2])


def test_the_seed_alone_sets_what_augment_draws():
    def drawn(seed: int) -> torch.Tensor:
        draws = []

        def note(batch: Samples, generator: torch.Generator) -> Samples:
            draws.append(torch.rand(3, generator=generator))
            return batch

        fit(linear(), two_modalities(20), epochs=2, lr=0.01, augment=note, seed=seed)
        return torch.cat(draws)

    assert torch.equal(drawn(0), drawn(0))
    assert len(torch.cat([drawn(0), drawn(1)]).unique()) == 12, "anew each time and for each seed"


@pytest.mark.parametrize("n", [1, 1024, 1025, 2500])
def test_losses_are_means_over_all_samples_the_last_part_included(n):
    """With lr = 0 nothing moves, so both losses can be computed by hand; the last samples are the
    hardest."""
    data, model = two_modalities(n), linear()
    data.features["a"][-7:] *= 20
    history = fit(model, data, data, epochs=1, lr=0.0, batch_size=300)
    expected = F.cross_entropy(model(data.features), data.labels).item()
    assert history.train_loss == [pytest.approx(expected, rel=1e-5)]
    assert history.validation_loss == [pytest.approx(expected, rel=1e-5)]


def test_predict_returns_one_row_per_sample_in_their_order():
    data, model = two_modalities(1030), linear()
    expected = model(data.features).detach()
    for batch_size in (1, 7, 1024, 5000):
        outputs = predict(model, data, batch_size)
        torch.testing.assert_close(outputs, expected)
        assert not outputs.requires_grad


def test_a_plateau_is_no_better_epoch():
    """With lr = 0 every epoch has the loss of the first, which stays the best."""
    data = two_modalities(40)
    history = fit(linear(), data[:20], data[20:], epochs=50, lr=0.0, patience=4)
    assert len(set(history.validation_loss)) == 1
    assert history.best_epoch == 1
    assert len(history.train_loss) == len(history.validation_loss) == 5
    without = fit(linear(), data[:20], data[20:], epochs=3, lr=0.0)
    assert without.best_epoch == 1
    assert fit(linear(), data, epochs=3, lr=0.0).best_epoch == 3, "nothing to choose by: the last"


def test_class_weights_multiply_each_samples_loss():
    data, model = two_modalities(90), linear()
    weights = torch.tensor([0.5, 3.0])
    history = fit(model, data, epochs=1, lr=0.0, batch_size=40, class_weights=weights)
    losses = F.cross_entropy(model(data.features), data.labels, reduction="none")
    expected = (losses * weights[data.labels]).mean().item()
    assert history.train_loss == [pytest.approx(expected, rel=1e-5)]


def test_the_step_is_that_of_the_mean_over_the_batch():
    """Three batches of unequal size, by hand, in the order that `augment` sees."""
    data, model, by_hand = two_modalities(25), linear(), linear()
    batches = []

    def note(batch: Samples, generator: torch.Generator) -> Samples:
        batches.append(batch)
        return batch

    fit(model, data, epochs=1, lr=0.1, weight_decay=0.3, batch_size=10, augment=note)
    assert [len(batch) for batch in batches] == [10, 10, 5]
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=0.1, weight_decay=0.3)
    for batch in batches:
        optimizer.zero_grad()
        F.cross_entropy(by_hand(batch.features), batch.labels).backward()
        optimizer.step()
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_model_can_be_trained_again():
    data, model = two_modalities(200), linear()
    first = fit(model, data, epochs=5, lr=0.05)
    second = fit(model, data, epochs=5, lr=0.05)
    assert second.train_loss[0] < first.train_loss[0]


def test_balanced_weights_by_hand_and_their_effect():
    labels = torch.tensor([0] * 9 + [1])
    torch.testing.assert_close(
        weights_of_classes("balanced", labels, 2), torch.tensor([10 / 18, 10 / 2])
    )
    with pytest.raises(ValueError, match=r"class \[2\]"):
        weights_of_classes("balanced", labels, 3)
    constant = Samples({"a": torch.zeros(10, 6), "b": torch.zeros(10, 4)}, labels)
    plain, balanced = linear(), linear()
    fit(plain, constant, epochs=300, lr=0.05, weight_decay=0)
    fit(balanced, constant, epochs=300, lr=0.05, weight_decay=0, class_weights="balanced")
    torch.testing.assert_close(
        predict(plain, constant)[0].softmax(0), torch.tensor([0.9, 0.1]), atol=0.01, rtol=0
    )
    torch.testing.assert_close(
        predict(balanced, constant)[0].softmax(0), torch.tensor([0.5, 0.5]), atol=0.01, rtol=0
    )


def test_float_labels_are_a_regression():
    data = two_modalities(300)
    target = data.features["a"][:, 0] * 2 + 1
    model = FusionClassifier(ConcatFusion({"a": 6, "b": 4}), 1)
    fit(model, Samples(data.features, target), epochs=200, lr=0.05, weight_decay=0)
    torch.testing.assert_close(predict(model, data).squeeze(1), target, atol=0.02, rtol=0)


def test_several_outputs_for_one_float_label_are_refused():
    data = two_modalities(3)
    with pytest.raises(ValueError, match=r"one output per sample.*\(1, 3\)"):
        model = FusionClassifier(ConcatFusion({"a": 6, "b": 4}), 3)
        fit(model, Samples(data.features, torch.zeros(3)), epochs=1, lr=0.1)


def test_masked_nan_is_allowed_and_bare_nan_is_named():
    data = two_modalities(50)
    data.features["b"][7] = float("nan")
    with pytest.raises(ValueError, match=r"train features\['b'\].*sample 7"):
        fit(linear(), data, epochs=1, lr=0.1)
    there = torch.ones(50, dtype=torch.bool)
    there[7] = False
    model = linear()
    fit(model, Samples(data.features, data.labels, {"b": there}), epochs=2, lr=0.1)
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of 1 or more, not 0"),
        ({"batch_size": 0}, "batch_size must be a whole number of 1 or more, not 0"),
        ({"patience": 3}, "patience needs a validation split"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"class_weights": "equal"}, "class_weights is 'equal'"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        fit(linear(), two_modalities(20), **{"epochs": 1, "lr": 0.1} | options)


def test_empty_data_and_unequal_lengths_are_named():
    with pytest.raises(ValueError, match="train labels must be a non-empty array"):
        fit(linear(), two_modalities(20)[:0], epochs=1, lr=0.1)
    with pytest.raises(ValueError, match=r"features\['a'\] has 3 samples, labels have 4"):
        Samples({"a": torch.zeros(3, 1)}, torch.zeros(4))


THREE = torch.ones(4, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("tables", "error", "words"),
    [
        ({"present": {"b": THREE[:, 0]}}, KeyError, r"present names \['b'\], the features are"),
        ({"masks": {"b": THREE}}, KeyError, r"masks names \['b'\], the features are \['a'\]"),
        ({"present": {"a": torch.ones(4)}}, TypeError, r"present\['a'\] is torch.float32.*bool"),
        ({"masks": {"a": THREE.long()}}, TypeError, r"masks\['a'\] is torch.int64, .*torch.bool"),
        ({"present": {"a": THREE}}, ValueError, r"\['a'\] has shape \(4, 3\), expected \(N,\)"),
        ({"masks": {"a": THREE[:, 0]}}, ValueError, r"has shape \(4,\), expected \(N, T\)"),
        ({"masks": {"a": THREE[:3]}}, ValueError, r"masks\['a'\] has 3 samples, labels have 4"),
    ],
)
def test_samples_are_refused_with_masks_that_are_none_of_their_features(tables, error, words):
    with pytest.raises(error, match=words):
        Samples({"a": torch.zeros(4, 3, 1)}, torch.zeros(4), **tables)


def test_a_mask_of_other_steps_speaks_of_what_an_encoder_will_make():
    """NaN in the raw input is no padding, though a mask of as many samples says False."""
    raw, mask = torch.zeros(4, 3, 1), torch.zeros(4, 2, dtype=torch.bool)
    check_finite("train", Samples({"a": raw}, torch.zeros(4), masks={"a": mask}))
    raw[2] = float("nan")
    with pytest.raises(ValueError, match=r"train features\['a'\] hold NaN or inf.* sample 2"):
        check_finite("train", Samples({"a": raw}, torch.zeros(4), masks={"a": mask}))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_float_labels_that_are_not_finite_are_named(split, bad):
    splits = {
        name: Samples(two_modalities(20).features, torch.zeros(20))
        for name in ("train", "validation")
    }
    splits[split].labels[3] = bad
    with pytest.raises(
        ValueError,
        match=f"{split} labels holds 1 values that are NaN.*first at .3,",
    ):
        fit(FusionClassifier(ConcatFusion({"a": 6, "b": 4}), 1), **splits, epochs=1, lr=0.1)


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("label", [2, -1, -100])
def test_a_label_that_the_model_has_no_output_for_is_named(split, label):
    splits = {name: two_modalities(20) for name in ("train", "validation")}
    splits[split].labels[3] = label
    model = linear()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(
        ValueError, match=f"{split} labels hold {label}, but the model has 2 classes.*from 0 to 1"
    ):
        fit(model, **splits, epochs=1, lr=0.1)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)), (
        "nothing was trained"
    )


@pytest.mark.parametrize(
    ("weights", "shape"), [(torch.ones(3), r"\(3,\)"), (torch.ones(2, 1), r"\(2, 1\)")]
)
def test_class_weights_of_another_length_are_named(weights, shape):
    with pytest.raises(ValueError, match=rf"class_weights has shape {shape}, expected \(2,\)"):
        fit(linear(), two_modalities(20), epochs=1, lr=0.1, class_weights=weights)


def test_balanced_weights_need_a_sample_of_every_class_of_the_model():
    model = FusionClassifier(ConcatFusion({"a": 6, "b": 4}), 3)
    with pytest.raises(ValueError, match=r"no sample of class \[2\]"):
        fit(model, two_modalities(50), epochs=1, lr=0.1, class_weights="balanced")


def test_integer_labels_need_logits():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, features, present=None):
            return features["a"][:, 0] * self.w

    with pytest.raises(ValueError, match=r"need logits \(B, C\), the model returns shape \(1,\)"):
        fit(Flat(), two_modalities(20), epochs=1, lr=0.1)


def test_a_loss_of_ones_own_may_take_labels_of_any_kind():
    data = two_modalities(20)
    model = linear()
    fit(
        model,
        Samples(data.features, data.labels + 7),
        epochs=1,
        lr=0.1,
        loss=lambda outputs, labels: outputs.sum(1),
    )
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_predict_refuses_what_it_could_only_answer_with_nan():
    data, model = two_modalities(20), linear()
    with pytest.raises(ValueError, match="samples to predict hold no rows"):
        predict(model, data[:0])
    with pytest.raises(ValueError, match="batch_size must be a whole number of 1 or more, not 0"):
        predict(model, data, batch_size=0)
    data.features["b"][7] = float("inf")
    with pytest.raises(ValueError, match=r"samples features\['b'\].*sample 7"):
        predict(model, data)
    there = torch.arange(20) != 7
    assert torch.isfinite(predict(model, Samples(data.features, data.labels, {"b": there}))).all()


def test_a_validation_loss_that_is_not_finite_is_an_error():
    """Training sees small numbers only; one validation sample is finite, yet too large for the
    weights."""
    data, model = two_modalities(40), linear()
    data.features["a"][30] = 3e38
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 50  # 3e38 times any number above 1.14 is more than a float32 holds
    with pytest.raises(FloatingPointError, match="the validation loss became"):
        fit(model, data[:30], data[30:], epochs=1, lr=0.1)


def test_cuda_asked_for_and_absent_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(RuntimeError, match="'cuda' was asked for"):
        fit(linear(), two_modalities(20), epochs=1, lr=0.1, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_trains_in_bf16_to_the_same_accuracy_and_a_second_time():
    data, model, seen = two_modalities(600), linear(), set()

    def loss(outputs, labels):
        seen.add(outputs.device.type)
        return F.cross_entropy(outputs, labels, reduction="none")

    fit(linear(), data, epochs=1, lr=0.05, device="cpu")  # leaves nothing behind
    for _ in range(2):
        fit(
            model,
            data[:400],
            data[400:],
            epochs=40,
            lr=0.05,
            batch_size=64,
            device="cuda",
            loss=loss,
        )
    assert seen == {"cuda"}
    assert (predict(model, data).argmax(1) == data.labels).float().mean() > 0.93


def test_a_loss_that_explodes_is_an_error():
    class Exploding(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, features, present=None):
            return features["a"][:, :2] * self.w * 1e38 * 1e38

    with pytest.raises(FloatingPointError, match="lower lr"):
        fit(Exploding(), two_modalities(20), epochs=1, lr=0.1)


@pytest.mark.processes
def test_two_processes_learn_what_one_learns():
    """101 samples in batches of 10: the last batch has one sample, so one of the two processes has
    none."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    one = subprocess.run(
        [sys.executable, SCRIPT], capture_output=True, text=True, check=True, env=environment
    )
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        SCRIPT,
    ]
    two = subprocess.run(torchrun, capture_output=True, text=True, check=True, env=environment)
    ours = [float(v) for v in one.stdout.split()]
    theirs = [float(v) for v in two.stdout.split()]
    assert ours[0] == 1 and theirs[0] == 2  # the number of processes that took part
    assert len(ours) > 20 and ours[1:] == pytest.approx(theirs[1:], abs=1e-5)


def test_augment_changes_each_training_batch_anew_and_leaves_validation_alone():
    data, seen = two_modalities(60), []

    def watch(batch: Samples, generator: torch.Generator) -> Samples:
        noise = torch.randn(len(batch), 1, generator=generator)
        seen.append((batch.features["a"].clone(), noise))
        return Samples({**batch.features, "a": noise.expand(-1, 6)}, batch.labels)

    def learnt(seed: int) -> torch.Tensor:
        seen.clear()
        model = linear()
        history = fit(
            model,
            data,
            data[:20],
            epochs=2,
            lr=0.05,
            batch_size=40,
            augment=watch,
            seed=seed,
            device="cpu",
        )
        last = F.cross_entropy(predict(model, data[:20]), data.labels[:20]).item()
        # measured on samples as given
        assert min(history.validation_loss) == pytest.approx(last, abs=1e-6)
        return model.head[-1].weight

    first = learnt(0).clone()
    # every sample, as given, in each of two epochs
    assert [len(x) for x, _ in seen] == [
        40,
        20,
        40,
        20,
    ]
    for epoch in (seen[:2], seen[2:]):
        assert torch.equal(
            torch.cat([x for x, _ in epoch]).sort(0).values, data.features["a"].sort(0).values
        )
    assert not torch.equal(seen[0][1], seen[2][1])
    assert torch.equal(first, learnt(0)) and not torch.equal(first, learnt(1))
    with pytest.raises(ValueError, match="augment made 39 samples of a batch of 40"):
        fit(
            linear(),
            data,
            epochs=1,
            lr=0.05,
            batch_size=40,
            augment=lambda batch, _: batch[1:],
            device="cpu",
        )


def test_padded_steps_may_hold_anything_and_real_ones_may_not():
    masks = {"audio": torch.tensor([[True, True, False]] * 6)}
    x = torch.ones(6, 3, 2)
    x[:, 2] = float("nan")
    fusion = BottleneckFusion({"audio": 2}, 4, bottlenecks=1, heads=1, layers=1)
    samples = Samples({"audio": x}, torch.arange(6) % 2, masks=masks)
    model = FusionClassifier(fusion, classes=2)
    # no NaN
    assert all(
        loss == loss for loss in fit(model, samples, epochs=1, lr=1e-3, device="cpu").train_loss
    )
    assert predict(model, samples).isfinite().all()
    x[4, 1] = float("nan")
    with pytest.raises(ValueError, match=r"audio.*first in sample 4"):
        fit(model, samples, epochs=1, lr=1e-3, device="cpu")


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_shares_of_all_processes_are_the_batch_and_weigh_one(processes):
    """Gradients are averaged over processes, so each sample must weigh processes / batch size."""
    shares = [
        list(
            _shares(
                10,
                4,
                torch.Generator().manual_seed(0),
                SimpleNamespace(process_index=p, num_processes=processes),
            )
        )
        for p in range(processes)
    ]
    seen = []
    for batch, size in zip(zip(*shares, strict=True), (4, 4, 2), strict=True):
        working = [(rows, weight) for rows, weight in batch if weight]
        assert all(weight == pytest.approx(processes / size) for _, weight in working)
        assert all(len(rows) == 1 for rows, weight in batch if not weight)
        seen.append(torch.cat([rows for rows, _ in working]))
        assert len(seen[-1]) == size
    assert sorted(torch.cat(seen).tolist()) == list(range(10))
