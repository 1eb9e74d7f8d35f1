"""mvsa: the numbers that its data card states, its grouping by text, and that no post is ever
shown."""

from __future__ import annotations

import re

import pytest
import torch

from mmtutor.data import load, mvsa
from mmtutor.data.dataset import DisplayForbidden
from mmtutor.files import store
from mmtutor.files.text import decode


@pytest.fixture
def data(real):
    real("mvsa")
    return load("mvsa")


def test_counts_are_those_of_the_card(data):
    counts = dict(zip(data.classes, torch.bincount(data.labels).tolist(), strict=True))
    assert len(data) == 2000 and counts == {"negative": 596, "neutral": 210, "positive": 1194}
    assert data.classes == ("negative", "neutral", "positive")


def test_encodings_are_those_of_the_card(data):
    assert data.card["encodings"] == {"utf-8": 1522, "gb18030": 478}
    assert not any("\ufffd" in text for text in data.modalities["text"])


def test_each_post_has_its_own_picture_text_and_label(data):
    """Read a second time, from the label file on."""
    folder = store.find(store.manifest("mvsa"))
    tags = dict(re.findall(r"(\d+),(\w+)", (folder / "label" / "train.txt").read_text()))
    for path, text, label in zip(
        data.modalities["image"], data.modalities["text"], data.labels.tolist(), strict=True
    ):
        assert path.is_file() and tags[path.stem] == data.classes[label]
        assert decode(path.with_suffix(".txt").read_bytes())[0].strip() == text
    assert len(set(data.modalities["image"])) == 2000


def test_same_text_same_group_other_text_other_group(data):
    group_of: dict[str, int] = {}
    for text, group in zip(data.modalities["text"], data.groups.tolist(), strict=True):
        assert group_of.setdefault(mvsa.normalise(text), group) == group
    assert len(set(group_of.values())) == len(group_of) < 2000


def test_no_post_is_shown(data):
    first = data.modalities["text"][0]
    with pytest.raises(DisplayForbidden, match="mvsa"):
        data.sample(0)
    for shown in (
        repr(data),
        repr(data.modalities),
        str(data.subset([0, 1]).modalities),
    ):
        assert first not in shown and ".jpg" not in shown


@pytest.mark.parametrize(
    "retweet",
    [
        "RT @someone: What a lovely day! http://t.co/abc123",
        "what a LOVELY day",
        "What a lovely day #2014 https://t.co/xyz @you @me",
        "rt What a lovely day 😀…",
    ],
)
def test_retweets_are_normalised_alike(retweet):
    assert mvsa.normalise(retweet) == "whatalovelyday"


def test_words_that_contain_rt_keep_it():
    assert mvsa.normalise("Art party") == "artparty"


def test_set_that_cannot_be_had_says_how(home):
    with pytest.raises(store.DatasetUnavailable, match="mmtutor data get mvsa --accept-licence"):
        load("mvsa")
