"""The comparison of all levels: it learns what can be learnt, looks at no test label, and gives
each method its due."""

import pytest
import torch
from torch import nn

from mmtutor.choosing import comparison
from mmtutor.choosing.comparison import (
    BEST_SINGLE,
    Split,
    calibrated_single,
    decisions,
    joint_models,
    opinions_of,
    single_models,
    tuned,
)
from mmtutor.data import worlds
from mmtutor.evaluation import accuracy, log_loss
from mmtutor.fusion import decision
from mmtutor.training import History, fit, predict
from mmtutor.types import Samples

pytestmark = pytest.mark.usefixtures("small_models_on_one_thread")


def split_of(kind: str, n: int = 300, seed: int = 0) -> Split:
    world = getattr(worlds, kind)(seed=seed)
    return Split(*(world.sample(size, seed=k) for k, size in enumerate((n, n // 2, 1000))))


@pytest.fixture(scope="module")
def synergy():
    split = split_of("synergy")
    return split, opinions_of(split, 2, methods=["concat linear", "tensor"], steps=100)


def test_each_method_gives_probabilities_for_each_test_sample(synergy):
    split, answers = synergy
    for p in answers.values():
        assert p.shape == (len(split.test), 2)
        torch.testing.assert_close(p.sum(1), torch.ones(len(p)), atol=1e-4, rtol=0)
    assert {BEST_SINGLE, "a alone", "b alone", "tensor", "product", "stacking, trees"} <= set(
        answers
    )
    assert "gated" not in answers


def test_a_product_sees_the_synergy_that_sums_and_decisions_cannot(synergy):
    split, answers = synergy
    score = {m: accuracy(p.argmax(1), split.test.labels) for m, p in answers.items()}
    assert score["tensor"] > 0.75
    assert all(abs(score[m] - 0.5) < 0.08 for m in score if m != "tensor")


def test_test_labels_are_not_looked_at(synergy):
    split, answers = synergy
    blind = Split(
        split.train,
        split.validation,
        Samples(split.test.features, torch.zeros_like(split.test.labels)),
    )
    again = opinions_of(blind, 2, methods=["tensor"], steps=100)
    for method in (BEST_SINGLE, "tensor", "stacking, linear"):
        torch.testing.assert_close(again[method], answers[method])


def test_the_best_single_modality_is_the_one_with_the_lower_validation_loss():
    split = split_of("unique")  # b knows nothing
    answers = opinions_of(split, 2, methods=[], steps=60)
    assert torch.equal(answers[BEST_SINGLE], answers["a alone"])
    swapped = Split(
        *(
            Samples({"a": s.features["b"], "b": s.features["a"]}, s.labels)
            for s in (split.train, split.validation, split.test)
        )
    )
    answers = opinions_of(swapped, 2, methods=[], steps=60)
    assert torch.equal(answers[BEST_SINGLE], answers["b alone"])


def test_tuning_keeps_the_builder_with_the_lowest_validation_loss():
    split = split_of("synergy")
    both = {name: joint_models()[name] for name in ("tensor", "concat linear")}
    chosen = predict(tuned(both, split, 2, steps=100), split.validation).softmax(1)
    alone = [
        predict(tuned({name: build}, split, 2, steps=100), split.validation).softmax(1)
        for name, build in both.items()
    ]
    losses = [log_loss(p, split.validation.labels) for p in alone]
    assert log_loss(chosen, split.validation.labels) == pytest.approx(min(losses))
    assert losses[0] != pytest.approx(losses[1])


def test_the_same_seed_gives_the_same_model_and_another_seed_another():
    split = split_of("redundant", n=100)
    first, again, other = (
        tuned(single_models(), split.only(["a"]), 2, seed=s, steps=20) for s in (1, 1, 2)
    )
    seen = split.only(["a"]).test
    assert torch.equal(predict(first, seen), predict(again, seen))
    assert not torch.equal(predict(first, seen), predict(other, seen))


@pytest.mark.parametrize("name", joint_models())
def test_each_joint_model_takes_any_number_of_modalities_and_every_weight_learns(name):
    torch.manual_seed(0)
    dims = {"image": 12, "text": 7, "audio": 9}
    model = joint_models()[name](dims, 4)
    assert isinstance(model, nn.Module)
    out = model({m: torch.randn(5, d) for m, d in dims.items()})
    assert out.shape == (5, 4)
    out.pow(2).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_part_of_the_modalities_keeps_all_that_belongs_to_them():
    masks, there = torch.ones(3, 4, dtype=torch.bool), torch.tensor([True, False, True])
    samples = Samples(
        {"a": torch.ones(3, 2), "b": torch.zeros(3, 4, 5)},
        torch.arange(3),
        {"a": there, "b": ~there},
        {"b": masks},
    )
    part = samples.only(["b"])
    assert list(part.features) == list(part.present) == list(part.masks) == ["b"]
    assert part.features["b"] is samples.features["b"] and torch.equal(part.present["b"], ~there)
    assert samples.only(["a"]).masks == {} and torch.equal(part.labels, samples.labels)
    with pytest.raises(KeyError, match=r"no modality \['smell'\], there are \['a', 'b'\]"):
        samples.only(["a", "smell"])


def test_a_single_modality_learns_from_those_who_have_it_and_is_calibrated_on_those():
    split = split_of("redundant")
    there = torch.arange(300) % 3 > 0

    def hidden(part: Samples) -> Samples:
        here = there[: len(part)]
        return Samples(
            part.features | {"b": part.features["b"].masked_fill(~here[:, None], torch.nan)},
            part.labels,
            {"b": here},
        )

    speak = calibrated_single(
        Split(hidden(split.train), hidden(split.validation), split.test), "b", 2, steps=60
    )
    kept = [part[there[: len(part)]].only(["b"]) for part in (split.train, split.validation)]
    same = calibrated_single(Split(*kept, split.test.only(["b"])), "b", 2, steps=60)
    assert torch.equal(speak(split.test), same(split.test))
    # calibrated: no further temperature lowers the validation loss
    known = speak(kept[1]).log()
    loss = [log_loss((known / t).softmax(1), kept[1].labels) for t in (0.8, 1.0, 1.25)]
    assert loss[1] == min(loss)


def test_standardising_uses_the_training_part_only():
    split = split_of("redundant", n=100)
    shifted = Samples({m: x + 5 for m, x in split.test.features.items()}, split.test.labels)
    mended = Split(split.train, split.validation, shifted).standardised()
    torch.testing.assert_close(
        mended.train.features["a"].mean(0), torch.zeros(16), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(mended.train.features["a"].std(0), torch.ones(16))
    expected = (
        split.test.features["a"] + 5 - split.train.features["a"].mean(0)
    ) / split.train.features["a"].std(0)
    torch.testing.assert_close(mended.test.features["a"], expected)


@pytest.mark.parametrize("steps", [4, 16])
def test_a_mask_of_steps_to_come_does_not_touch_features_that_are_none(steps):
    """An encoder will make a sequence of them; the mask may even have the features' own shape."""
    split = split_of("redundant", n=100)
    masks = {"a": torch.arange(steps).expand(100, steps) < 2}
    masked = Samples(split.train.features, split.train.labels, None, masks)
    mended = Split(masked, split.validation, split.test).standardised()
    expected = split.standardised().train.features["a"]
    torch.testing.assert_close(mended.train.features["a"], expected)


def test_standardising_does_not_look_at_what_is_absent():
    split = split_of("redundant", n=100)
    there = torch.arange(100) % 3 > 0
    features = dict(split.train.features)
    features["b"] = features["b"].masked_fill(~there[:, None], torch.nan)
    train = Samples(features, split.train.labels, {"b": there})
    mended = Split(train, split.validation, split.test).standardised()
    known = split.train.features["b"][there]
    expected = (split.test.features["b"] - known.mean(0)) / known.std(0)
    torch.testing.assert_close(mended.test.features["b"], expected)
    torch.testing.assert_close(mended.test.features["a"], split.standardised().test.features["a"])
    nobody = Samples(features, split.train.labels, {"b": torch.zeros(100, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"fewer than two training samples have \['b'\]"):
        Split(nobody, split.validation, split.test).standardised()


def test_standardising_looks_at_real_steps_only():
    split, g = split_of("redundant", n=100), torch.Generator().manual_seed(0)
    steps, real = torch.randn(100, 5, 3, generator=g), torch.rand(100, 5, generator=g) > 0.4
    there = torch.arange(100) % 3 > 0
    features = {"a": steps.masked_fill(~real[..., None], torch.nan)}
    features["a"][~there] = torch.nan
    train = Samples(features, split.train.labels, {"a": there}, {"a": real})
    mended = Split(train, train, Samples({"a": steps}, train.labels)).standardised()
    known = steps[real & there[:, None]]
    torch.testing.assert_close(mended.test.features["a"], (steps - known.mean(0)) / known.std(0))
    whole = Samples({"a": steps}, train.labels)
    masked = Samples({"a": steps}, train.labels, None, {"a": torch.ones(100, 5, dtype=torch.bool)})
    a, b = (Split(s, s, s).standardised().test.features["a"] for s in (whole, masked))
    assert torch.equal(a, b)


def test_all_present_is_the_same_as_nothing_said():
    split = split_of("redundant", n=100)
    present = dict.fromkeys("ab", torch.ones(100, dtype=torch.bool))
    train = Samples(split.train.features, split.train.labels, present)
    mended = Split(train, split.validation, split.test).standardised()
    for m, x in split.standardised().test.features.items():
        assert torch.equal(mended.test.features[m], x)


def test_reliability_is_accuracy_above_chance_on_held_out_opinions():
    g = torch.Generator().manual_seed(0)
    y = torch.randint(4, (200,), generator=g)
    sure = torch.nn.functional.one_hot(y, 4).float() * 0.9 + 0.025
    held = {"good": sure, "poor": torch.full((200, 4), 0.25)}
    test = {m: torch.randn(50, 4, generator=g).softmax(1) for m in held}
    poor = accuracy(held["poor"].argmax(1), y)
    trust = {"good": 0.99, "poor": min(max((poor - 0.25) / 0.75, 0.01), 0.99)}
    answers = decisions(test, held, y)
    torch.testing.assert_close(answers["weighted vote"], decision.weighted_vote(test, trust))
    torch.testing.assert_close(answers["Dempster–Shafer"], decision.dempster_shafer(test, trust))
    torch.testing.assert_close(answers["product"], decision.product_rule(test))


def test_every_contestant_is_trained_with_the_same_weights_and_the_same_corruption(monkeypatch):
    """Two singles of two kinds, two joint models, each with two decays; and stacking is weighted
    alike."""
    split, trained, seeds = split_of("redundant", n=60), [], set()

    def augment(samples: Samples, generator: torch.Generator) -> Samples:
        return samples

    def watched_fit(model, train, validation, **options):
        trained.append((tuple(train.features), options["augment"], options["class_weights"]))
        seeds.add(options["seed"])
        return fit(model, train, validation, **options)

    def watched_decisions(probs, held_out, y, class_weights=None):
        trained.append(("stacking", augment, class_weights))
        return {}

    monkeypatch.setattr(comparison, "fit", watched_fit)
    monkeypatch.setattr(comparison, "decisions", watched_decisions)
    options = {"augment": augment, "class_weights": "balanced", "steps": 1, "seed": 5}
    opinions_of(split, 2, methods=["gated", "concat linear"], **options)
    assert [names for names, _, _ in trained].count(("a", "b")) == 4
    assert len(trained) == 2 * 2 * 2 + 2 * 2 + 1
    assert all(a is augment and weights == "balanced" for _, a, weights in trained)
    assert seeds == {5}


def test_stacking_weighs_classes_where_it_is_told_to():
    g = torch.Generator().manual_seed(0)
    y = (torch.rand(200, generator=g) < 0.1).long()
    hint = torch.stack([torch.zeros(200), 0.5 * y], 1)
    held = {m: (torch.randn(200, 2, generator=g) + hint).softmax(1) for m in "ab"}
    plain, balanced = (decisions(held, held, y, weights) for weights in (None, "balanced"))
    for method in ("stacking, linear", "stacking, trees"):
        assert plain[method][:, 1].mean() < balanced[method][:, 1].mean() - 0.1
    torch.testing.assert_close(plain["average"], balanced["average"])


def test_the_model_that_was_best_at_its_best_epoch_is_taken(monkeypatch):
    """`fit` leaves it with the weights of that epoch, whatever came after."""
    falls, stays = nn.Linear(1, 2), nn.Linear(1, 2)
    losses = {falls: [0.9, 0.3, 0.8], stays: [0.5, 0.5, 0.5]}

    def recorded(model, *samples, **options) -> History:
        return History(validation_loss=losses[model])

    monkeypatch.setattr(comparison, "fit", recorded)
    split = split_of("redundant", n=60)
    for first, second in ((falls, stays), (stays, falls)):
        builders = {"one": lambda *a, m=first: m, "two": lambda *a, m=second: m}
        assert tuned(builders, split, 2) is falls


def test_the_best_single_has_the_lowest_log_loss_not_the_most_hits(monkeypatch):
    split = split_of("redundant", n=60)
    y, nth = split.validation.labels, torch.arange(len(split.validation))

    def opinions(wrong: torch.Tensor, confidence: float) -> torch.Tensor:
        guess = torch.where(wrong, 1 - y, y)
        p = torch.nn.functional.one_hot(guess, 2).double()
        return p * (2 * confidence - 1) + 1 - confidence

    held_out = {"a": opinions(nth % 10 == 0, 0.9999), "b": opinions(nth % 5 == 0, 0.6)}
    assert accuracy(held_out["a"].argmax(1), y) > accuracy(held_out["b"].argmax(1), y)
    assert log_loss(held_out["a"], y) > log_loss(held_out["b"], y)
    tested = {
        m: torch.tensor([[p, 1 - p]]).double().repeat(len(split.test), 1)
        for m, p in (("a", 0.9), ("b", 0.2))
    }

    def single(split_of_all, modality, classes, **training):
        return lambda part: (held_out if part is split.validation else tested)[modality]

    monkeypatch.setattr(comparison, "calibrated_single", single)
    answers = opinions_of(split, 2, methods=[])
    assert torch.equal(answers[BEST_SINGLE], tested["b"])
