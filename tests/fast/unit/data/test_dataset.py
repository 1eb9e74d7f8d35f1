"""The Dataset that every loader returns: checks on construction, subsets, and what must not be
shown."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from IPython.lib.pretty import pretty

from mmtutor.data.dataset import Dataset, DisplayForbidden, Undisplayed


def make(**changes) -> Dataset:
    fields = {
        "name": "toy",
        "modalities": {
            "image": [Path("a"), Path("b"), Path("c")],
            "text": ["x", "y", "z"],
            "audio": torch.eye(3),
        },
        "labels": torch.tensor([0, 1, 1]),
        "classes": ("no", "yes"),
        "groups": np.array([4, 4, 2]),
        "card": {"licence": "CC0"},
        "targets": {"valence": torch.tensor([0.1, 0.2, 0.3])},
    }
    return Dataset(**{**fields, **changes})


def test_sample_holds_each_modality_of_that_row():
    sample = make().sample(1)
    assert (
        sample["image"] == Path("b")
        and sample["text"] == "y"
        and sample["audio"].tolist() == [0, 1, 0]
    )


@pytest.mark.parametrize(
    "index",
    [[2, 0], np.array([2, 0]), torch.tensor([2, 0]), slice(None, None, -2), [-1, 0]],
    ids=["list", "array", "tensor", "slice", "negative"],
)
def test_subset_cuts_every_column_alike(index):
    part = make().subset(index)
    assert len(part) == 2 and part.classes == ("no", "yes") and part.card == {"licence": "CC0"}
    assert part.modalities["image"] == [Path("c"), Path("a")] and part.modalities["text"] == [
        "z",
        "x",
    ]
    assert part.modalities["audio"].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert part.labels.tolist() == [1, 0] and part.groups.tolist() == [2, 4]
    assert part.targets["valence"].tolist() == pytest.approx([0.3, 0.1])


@pytest.mark.parametrize("mask", [[True, False, True], torch.tensor([True, False, True])])
def test_mask_selects_rows(mask):
    assert make().subset(mask).modalities["text"] == ["x", "z"]


def test_empty_subset_is_a_dataset_without_rows():
    part = make().subset([])
    assert (
        len(part) == 0
        and part.modalities["text"] == []
        and part.modalities["audio"].shape == (0, 3)
    )
    assert "0 samples, 0 groups" in repr(part)


@pytest.mark.parametrize("index", [[3], [-4], [True, False], torch.ones(4, dtype=bool)], ids=str)
def test_index_outside_is_an_error(index):
    with pytest.raises(IndexError):
        make().subset(index)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": np.array([1, 2])}, r"labels has 3 rows, groups have 2"),
        ({"modalities": {"text": ["x"]}}, r"modalities\['text'\] has 1 rows, groups have 3"),
        ({"targets": {"valence": torch.zeros(4)}}, r"targets\['valence'\] has 4 rows"),
        ({"labels": torch.tensor([0, 1, 2])}, r"labels range from 0 to 2, expected 0 to 1"),
        ({"labels": torch.tensor([0, 1, -1])}, r"labels range from -1 to 1, expected 0 to 1"),
        ({"group_names": ("a", "b")}, r"groups range from 2 to 4, expected 0 to 1"),
    ],
)
def test_wrong_column_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        make(**change)


def test_targets_may_be_sequences_and_there_may_be_no_class():
    boxes = [["car"], [], ["cyclist", "car"]]
    data = make(labels=None, classes=(), targets={"objects": boxes, "speed": torch.arange(3.0)})
    assert len(data) == 3 and data.labels is None
    assert repr(data).endswith("modalities image, text, audio; targets objects, speed")
    part = data.subset([2, 0])
    assert part.labels is None and part.targets["objects"] == [["cyclist", "car"], ["car"]]
    assert part.targets["speed"].tolist() == [2, 0] and part.groups.tolist() == [2, 4]
    with pytest.raises(ValueError, match=r"targets\['objects'\] has 2 rows, groups have 3"):
        make(labels=None, targets={"objects": boxes[:2]})


def test_targets_that_must_not_be_shown_are_hidden_too():
    secret = make(targets={"answer": [SECRET] * 3}, card={"do_not_display": True})
    assert SECRET not in repr(secret.targets) + repr(secret.subset([0]).targets)


def test_repr_shows_counts_only():
    for text in (repr(make()), pretty(make())):
        assert (
            "toy: 3 samples, 2 groups; modalities image, text, audio; classes no 1, yes 2" in text
        )


SECRET = "a stranger's tweet"


@pytest.fixture
def secret() -> Dataset:
    return make(
        modalities={"text": [SECRET] * 3, "image": [Path(SECRET)] * 3},
        card={"do_not_display": True, "licence": "none"},
    )


def test_sample_that_must_not_be_shown_is_refused(secret):
    assert secret.do_not_display and not make().do_not_display
    with pytest.raises(
        DisplayForbidden, match=r"toy: .*never to show a sample \(licence: none\)"
    ) as error:
        secret.sample(0)
    assert isinstance(error.value, PermissionError) and SECRET not in str(error.value)


def test_no_form_of_a_hidden_set_shows_a_sample(secret):
    texts = secret.modalities["text"]
    for thing in (
        secret,
        secret.modalities,
        texts,
        texts[:2],
        secret.subset([0]).modalities,
        vars(secret),
    ):
        for shown in (repr(thing), str(thing), pretty(thing)):
            assert SECRET not in shown
    assert SECRET not in repr(pickle.loads(pickle.dumps(texts)))


def test_hidden_samples_can_still_be_measured_on(secret):
    texts = secret.modalities["text"]
    assert isinstance(texts, Undisplayed) and list(texts) == [SECRET] * 3 and texts[0] == SECRET
    assert pickle.loads(pickle.dumps(texts)) == [SECRET] * 3 and secret.subset([1]).modalities[
        "text"
    ] == [SECRET]
