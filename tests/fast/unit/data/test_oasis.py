"""oasis: the numbers that its data card states, its grouping, and no row without a picture."""

from __future__ import annotations

import csv
from collections import Counter

import numpy as np
import pytest
import torch

from mmtutor.data import load, oasis
from mmtutor.files import store


@pytest.fixture
def folder(real):
    return real("oasis")


@pytest.mark.parametrize(
    ("cuts", "counts"),
    [((3.5, 5.0), [114, 244, 232]), ((4.0, 5.2), [158, 236, 196]), ((4.2, 5.2), [205, 189, 196])],
)
def test_labels_count_as_the_card_says(folder, cuts, counts):
    data = load("oasis", cuts=cuts)
    assert torch.bincount(data.labels).tolist() == counts and data.classes == (
        "negative",
        "neutral",
        "positive",
    )
    valence = data.targets["valence"]
    assert (valence[data.labels == 0] < cuts[0]).all() and (
        valence[data.labels == 2] > cuts[1]
    ).all()


def test_default_cuts_are_those_the_card_recommends(folder):
    assert torch.bincount(load("oasis").labels).tolist() == [158, 236, 196]


def test_ranges_are_those_of_the_card(folder):
    data = load("oasis")
    assert len(data) == 590 and all(path.is_file() for path in data.modalities["image"])
    ranges = {
        t: (round(x.min().item(), 2), round(x.max().item(), 2)) for t, x in data.targets.items()
    }
    assert {t: ranges[t] for t in ("valence", "valence_sd", "arousal")} == {
        "valence": (1.47, 6.49),
        "valence_sd": (0.34, 1.70),
        "arousal": (1.69, 5.46),
    }
    assert ranges["raters"] == (101, 108)
    counts = dict(
        zip(data.card["categories"], torch.bincount(data.targets["category"]).tolist(), strict=True)
    )
    assert counts == {"Animal": 76, "Object": 181, "Person": 168, "Scenery": 165}
    assert data.targets["valence"].mean().item() == pytest.approx(4.50, abs=0.005)
    words = [len(text.split()) for text in data.modalities["text"]]
    assert (min(words), np.median(words), max(words)) == (3, 14, 45)


def test_groups_are_the_188_themes(folder):
    data = load("oasis")
    sizes = Counter(data.group_names[g] for g in data.groups)
    assert (
        len(sizes) == len(data.group_names) == 188
        and sum(size == 1 for size in sizes.values()) == 81
    )
    assert (
        sizes.most_common(2) == [("Dog", 18), ("Wedding", 12)]
        and sizes["Fire"] == sizes["Thunderstorm"] == 11
    )
    for path, group in zip(data.modalities["image"], data.groups, strict=True):
        assert path.stem.rstrip(" 0123456789") == data.group_names[group]


def test_merged_groups_join_kindred_themes_and_nothing_else(folder):
    plain, merged = load("oasis"), load("oasis", merge_themes=True)
    to_merged = {}
    for theme, group in zip(plain.groups, merged.groups, strict=True):
        assert to_merged.setdefault(theme, group) == group  # no theme is torn apart
    by_group: dict[str, set[str]] = {}
    for theme, group in to_merged.items():
        by_group.setdefault(merged.group_names[group], set()).add(plain.group_names[theme])
    joined = {name: themes for name, themes in by_group.items() if len(themes) > 1}
    assert joined["Alcohol/Bar/Drink/Toast/Party"] == {"Alcohol", "Bar", "Drink", "Toast", "Party"}
    assert joined["Fire/Explosion"] == {"Fire", "Explosion"}
    assert all(themes <= set(name.split("/")) for name, themes in joined.items())


@pytest.mark.parametrize(("captions", "file"), list(oasis.CAPTIONS.items()))
def test_each_picture_has_its_own_rating_and_caption(folder, captions, file):
    """Joined a second time, with the csv module, by name."""
    with open(folder / "OASIS.csv", newline=None) as handle:
        valence = {row["Theme"]: float(row["Valence_mean"]) for row in csv.DictReader(handle)}
    lines = [line.split("|") for line in (folder / file).read_text().splitlines()[1:]]
    caption = {name.removesuffix(".jpg"): text for _, name, text in lines}
    data = load("oasis", captions=captions)
    names = [path.stem for path in data.modalities["image"]]
    assert data.modalities["text"] == [caption[name] for name in names]
    assert data.targets["valence"].tolist() == pytest.approx([valence[name] for name in names])


def test_no_row_without_a_picture(folder):
    data = load("oasis")
    names = [path.stem for path in data.modalities["image"]]
    listed = {path.stem for path in (folder / "images").iterdir()}
    assert set(names) == listed and len(names) == len(set(names))
    assert not set(names) & {*store.manifest("oasis").extra["dropped_by_theme"]}
    assert not set(names) & {*store.manifest("oasis").extra["dropped_on_inspection"]}


def test_captions_differ_by_writer(folder):
    human, machine = (
        load("oasis").modalities["text"],
        load("oasis", captions="machine").modalities["text"],
    )
    assert sum(a != b for a, b in zip(human, machine, strict=True)) == 590


def test_pictures_may_be_shown(folder):
    data = load("oasis")
    assert not data.do_not_display and set(data.sample(0)) == {"image", "text"}
    assert "files" not in data.card and data.card["n"] == 590


def test_subset_rows_stay_together(folder):
    data = load("oasis")
    part = data.subset(data.labels == 2)
    assert (
        len(part) == 196 and part.classes == data.classes and (part.targets["valence"] > 5.2).all()
    )


@pytest.mark.parametrize("cuts", [(5.2, 4.0), (0.5, 5.0), (4.0, 7.5), (float("nan"), 5.0)])
def test_cuts_out_of_order_or_range_are_refused(cuts):
    with pytest.raises(ValueError, match="cuts must satisfy 1 ≤ a ≤ b ≤ 7"):
        oasis.load(cuts=cuts)


def test_unknown_captions_name_the_known_ones():
    with pytest.raises(ValueError, match="unknown captions 'robot'; known: human, machine"):
        oasis.load(captions="robot")


@pytest.mark.parametrize(
    ("name", "theme", "merged"),
    [
        ("Dog 12", "Dog", "Dog"),
        ("Crosswalk 1 ", "Crosswalk", "Crosswalk"),
        ("Fire 9", "Fire", "Fire/Explosion"),
        ("Alcohol 3", "Alcohol", "Alcohol/Bar/Drink/Toast/Party"),
        ("Galaxy", "Galaxy", "Galaxy"),
    ],
)
def test_theme_of(name, theme, merged):
    assert oasis.theme_of(name) == theme and oasis.theme_of(name, merge=True) == merged


def test_set_that_cannot_be_had_says_how(home):
    with pytest.raises(store.DatasetUnavailable, match="mmtutor data get oasis --accept-licence"):
        load("oasis")
