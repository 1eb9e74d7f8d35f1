"""Generated worlds: what comes back, what stays the same, what is refused."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtutor.data import load, names, worlds
from mmtutor.data.dataset import Dataset
from mmtutor.data.world import World
from mmtutor.files import store
from mmtutor.types import Samples

PURE = ("redundant", "unique", "complement", "synergy")
TERMS = ("redundant", "unique_a", "unique_b", "synergy")


@pytest.mark.parametrize("name", PURE)
def test_a_world_gives_two_named_modalities_and_labels(name):
    world = worlds.WORLDS[name](dim=5)
    sample = world.sample(50)
    assert isinstance(sample, Samples)
    assert {m: (tuple(x.shape), x.dtype) for m, x in sample.features.items()} == {
        "a": ((50, 5), torch.float32),
        "b": ((50, 5), torch.float32),
    }
    assert sample.labels.dtype == torch.int64
    assert set(sample.labels.tolist()) == set(range(len(world.classes)))


def test_classes_are_the_binary_digits_of_the_parts():
    assert worlds.synergy().classes == ("0", "1")
    assert worlds.complement().classes == ("00", "01", "10", "11")
    assert worlds.mixture(redundant=1, synergy=1).classes == ("00", "01", "10", "11")
    assert len(worlds.mixture(redundant=1, unique=1, complement=1, synergy=1).classes) == 32


def test_seeds_fix_directions_and_samples_separately():
    world = worlds.redundant(seed=3)
    assert torch.equal(
        world.sample(20, seed=1).features["a"],
        worlds.redundant(seed=3).sample(20, seed=1).features["a"],
    )
    assert not torch.equal(
        world.sample(20, seed=1).features["a"], world.sample(20, seed=2).features["a"]
    )
    assert not torch.equal(world.directions["a"], worlds.redundant(seed=4).directions["a"])
    assert not torch.equal(world.directions["a"], world.directions["b"])
    noisier = dataclasses.replace(world, noise={"a": 1.0, "b": 4.0})
    assert torch.equal(noisier.directions["b"], world.directions["b"])
    assert noisier.bayes_accuracy < world.bayes_accuracy


def test_directions_are_gram_schmidt_and_do_not_hang_on_the_sign_of_a_lapack_build():
    rows = np.random.default_rng([5, 0]).standard_normal((16, 2)).T
    first = rows[0] / np.linalg.norm(rows[0])
    second = rows[1] - (rows[1] @ first) * first
    expected = np.stack([first, second / np.linalg.norm(second)])
    np.testing.assert_allclose(
        worlds.redundant(seed=5).directions["a"].numpy(), expected, atol=1e-12
    )


def test_directions_and_samples_never_share_a_random_stream(monkeypatch):
    """numpy pads seeds with zeros, so [3, 0] and [3, 0, 0] would be one stream: noise would repeat
    the directions."""
    states = []
    make = np.random.default_rng

    def recording(seed: list[int]) -> np.random.Generator:
        generator = make(seed)
        states.append(str(generator.bit_generator.state))
        return generator

    monkeypatch.setattr(np.random, "default_rng", recording)
    for seed in range(3):
        world = worlds.redundant(seed=seed)
        for drawn in range(3):
            world.sample(2, seed=drawn)
    assert len(states) == 12, "three worlds' directions and nine samples"
    assert len(set(states)) == 12


@pytest.mark.parametrize("name", PURE)
def test_a_mixture_of_one_part_is_the_pure_world(name):
    pure, mixed = worlds.WORLDS[name](), worlds.mixture(**{name: 1.0})
    ours, theirs = pure.sample(30), mixed.sample(30)
    assert torch.equal(ours.features["b"], theirs.features["b"])
    assert torch.equal(ours.labels, theirs.labels)
    assert (pure.bayes_accuracy, pure.information) == (mixed.bayes_accuracy, mixed.information)


weights = st.floats(0.01, 4)


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(st.sampled_from(PURE), weights, min_size=1),
    st.floats(0.1, 4),
    st.fixed_dictionaries({"a": st.floats(0.2, 5), "b": st.floats(0.2, 5)}),
)
def test_information_keeps_its_laws_in_every_world(parts, strength, noise):
    world = World("mixture", parts, strength=strength, noise=noise)
    i = world.information
    slack = 1e-9
    assert all(i[term] >= -slack for term in TERMS)
    assert max(i["a"], i["b"]) - slack <= i["ab"] <= i["label"] + slack
    assert math.fsum(i[term] for term in TERMS) == pytest.approx(i["ab"], abs=slack)
    assert i["redundant"] + i["unique_a"] == pytest.approx(i["a"], abs=slack)
    assert i["redundant"] + i["unique_b"] == pytest.approx(i["b"], abs=slack)
    assert i["redundant"] - i["synergy"] == pytest.approx(i["interaction"], abs=slack)
    chance = 1 / len(world.classes)
    for alone in (world.bayes_accuracy_of("a"), world.bayes_accuracy_of("b")):
        assert chance - slack <= alone <= world.bayes_accuracy + slack <= 1 + 2 * slack


def test_more_noise_never_tells_more():
    clear, noisy = (
        worlds.mixture(redundant=1, synergy=1, complement=1, noise=s) for s in (0.7, 1.4)
    )
    assert all(clear.information[k] > noisy.information[k] for k in ("a", "b", "ab"))
    assert clear.bayes_accuracy > noisy.bayes_accuracy


@pytest.mark.parametrize("name", PURE)
def test_an_absent_modality_tells_nothing_whatever_stands_there(name):
    world = worlds.WORLDS[name]()
    x = world.sample(40, seed=1).features
    present = {"a": torch.ones(40, dtype=torch.bool), "b": torch.arange(40) % 2 == 0}
    ruined = {"a": x["a"], "b": torch.where(present["b"][:, None], x["b"], torch.nan)}
    masked = world.bayes_probabilities(ruined, present)
    both, alone = (
        world.bayes_probabilities(x),
        world.bayes_probabilities({"a": x["a"]}, modalities=("a",)),
    )
    torch.testing.assert_close(masked, torch.where(present["b"][:, None], both, alone))
    torch.testing.assert_close(masked.sum(dim=1), torch.ones(40))


def test_the_posterior_answers_in_the_features_dtype_and_survives_extremes():
    world = worlds.synergy(noise=1e-3)
    x = world.sample(10).features
    assert world.bayes_probabilities(x).dtype == torch.float32
    exact = world.bayes_probabilities({m: v.double() for m, v in x.items()})
    assert exact.dtype == torch.float64
    assert exact.isfinite().all()


def test_load_returns_a_dataset_with_the_closed_forms_in_its_card():
    data = load("complement", n=25, seed=2, noise=0.5)
    world = worlds.complement(25, seed=2, noise=0.5)
    assert len(data) == 25
    own = world.sample(25, seed=0)
    assert torch.equal(data.modalities["a"], own.features["a"])
    assert torch.equal(data.labels, own.labels)
    assert data.classes == world.classes
    assert data.card["bayes_accuracy"] == world.bayes_accuracy
    assert data.card["information"] == world.information
    assert len(set(data.groups.tolist())) == 25
    assert not data.do_not_display


@pytest.mark.parametrize("name", [*PURE, "mixture"])
def test_the_one_door_to_all_sets_opens_the_worlds_as_datasets(name):
    options = {"redundant": 0.5, "synergy": 0.5} if name == "mixture" else {"noise": 0.5}
    data = load(name, n=30, seed=1, **options)
    world = getattr(worlds, name)(30, seed=1, **options)
    assert type(data) is Dataset and data.name == name and len(data) == 30
    own = world.sample(30, seed=0)
    assert torch.equal(data.modalities["b"], own.features["b"])
    assert torch.equal(data.labels, own.labels)
    assert data.card["bayes_accuracy"] == world.bayes_accuracy
    assert len(data.subset([0, 2])) == 2


def test_the_door_and_the_worlds_know_the_same_names():
    assert set(worlds.WORLDS) == set(names()) - {"digits", *store.names()}
    with pytest.raises(TypeError, match="strenght"):
        load("synergy", strenght=2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be a whole number of 1 or more"),
        ({"n": 2.5}, "n must be a whole number"),
        ({"n": True}, "n must be a whole number"),
        ({"seed": -1}, "seed must be a whole number of 0 or more"),
        ({"noise": 0}, "noise of 'a' must be a finite number above 0"),
        ({"noise": -1.0}, "noise of 'a'"),
        ({"noise": float("nan")}, "noise of 'a'"),
        ({"noise": {"a": 1.0, "b": 0.0}}, "noise of 'b'"),
        ({"noise": {"a": 1.0}}, "exactly a and b"),
        ({"strength": 0}, "strength must be a finite number above 0"),
        ({"strength": "strong"}, "strength must be a finite number above 0"),
        ({"strength": True}, "strength must be a finite number above 0"),
        ({"dim": 1}, "dim must be a whole number of 2 or more.*synergy.*nuisance"),
    ],
)
def test_bad_parameters_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        worlds.synergy(**options)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: worlds.mixture(), "one positive weight or more among .*redundant"),
        (lambda: worlds.mixture(synergy=-1), "weight of 'synergy'"),
        (lambda: worlds.mixture(unique=float("inf")), "weight of 'unique'"),
        (
            lambda: worlds.mixture(redundant=1, unique=1, synergy=1, dim=3),
            "dim must be a whole number of 4 or more",
        ),
        (
            lambda: World("x", {"antagonism": 1.0}),
            "unknown world 'antagonism'; known: redundant",
        ),
        (
            lambda: load("antagonism"),
            "unknown data set 'antagonism'; known: redundant, .*mixture",
        ),
        (lambda: worlds.synergy().sample(0), "n must be a whole number of 1 or more"),
        (lambda: worlds.synergy().sample(3, seed=-2), "seed must be a whole number of 0 or more"),
    ],
)
def test_worlds_that_cannot_be_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_the_posterior_refuses_features_of_another_world():
    world = worlds.redundant()
    x = world.sample(4).features
    with pytest.raises(
        KeyError, match=r"unknown \['c'\]; the modalities of a world are \['a', 'b'\]"
    ):
        world.bayes_accuracy_of("c")
    with pytest.raises(
        KeyError, match=r"unknown \['c'\]; the modalities of a world are \['a', 'b'\]"
    ):
        world.bayes_probabilities({**x, "c": x["a"]})
    with pytest.raises(KeyError, match=r"unknown \['b'\]; the features are \['a'\]"):
        world.bayes_probabilities({"a": x["a"]})
    with pytest.raises(ValueError, match=r"features\['a'\] must be \(N, 16\), not \(4, 3\)"):
        world.bayes_probabilities({"a": x["a"][:, :3], "b": x["b"]})
    with pytest.raises(ValueError, match=r"differ in length: \{'a': 4, 'b': 3\}"):
        world.bayes_probabilities({"a": x["a"], "b": x["b"][:3]})
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        world.bayes_probabilities({"a": x["a"] * math.nan, "b": x["b"]})
    with pytest.raises(ValueError, match="give 'a', 'b' or both"):
        world.bayes_probabilities(x, modalities=())
    with pytest.raises(ValueError, match=r"present\['b'\] must be \(4,\) bool"):
        world.bayes_probabilities(x, present={"b": torch.ones(3, dtype=torch.bool)})
