"""ham10000: the counts that its data card states, and records that are the table's own rows."""

from __future__ import annotations

import csv
import math
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from mmtutor.data import load
from mmtutor.files import store

COUNTS = {"akiec": 228, "bcc": 327, "bkl": 553, "df": 73, "mel": 614, "nv": 1107, "vasc": 98}


@pytest.fixture
def lesions(real):
    real("ham10000")
    return load("ham10000")


def test_counts_are_those_of_the_card(lesions):
    assert len(lesions) == 3000 and lesions.classes == tuple(COUNTS)
    assert torch.bincount(lesions.labels).tolist() == list(COUNTS.values())
    assert int(lesions.targets["malignant"].sum()) == 1169
    record = lesions.modalities["record"]
    assert Counter(row["sex"] for row in record) == {"male": 1730, "female": 1256, "unknown": 14}
    assert sum(math.isnan(row["age"]) for row in record) == 14
    sites = Counter(row["site"] for row in record)
    assert len(sites) == 15 and sites["back"] == 685 and sites["unknown"] == 50


def test_each_lesion_is_a_group_with_one_picture(lesions):
    assert len(np.unique(lesions.groups)) == len(lesions.group_names) == 3000
    assert all(path.is_file() for path in lesions.modalities["image"])
    with Image.open(lesions.modalities["image"][7]) as picture:
        assert picture.size == (200, 150)


def test_every_column_belongs_to_its_picture(lesions):
    """Read a second time, with the csv module, for some of the rows."""
    folder = store.find(store.manifest("ham10000"))
    with open(folder / "HAM10000_metadata.csv", encoding="ascii", newline="") as handle:
        rows = {row["image_id"]: row for row in csv.DictReader(handle)}
    for i in range(0, 3000, 71):
        sample, row = lesions.sample(i), rows[lesions.modalities["image"][i].stem]
        assert sample["record"]["sex"] == row["sex"]
        assert sample["record"]["site"] == row["localization"]
        assert row["age"] == "" or sample["record"]["age"] == float(row["age"])
        assert lesions.classes[lesions.labels[i]] == row["dx"]
        assert lesions.group_names[lesions.groups[i]] == row["lesion_id"]
        assert lesions.targets["confirmed_by"][i] == row["dx_type"]
        assert bool(lesions.targets["malignant"][i]) == (row["dx"] in ("mel", "bcc", "akiec"))


def test_how_a_diagnosis_was_made_is_no_modality(lesions):
    """follow_up occurs with nv only, so it gives the label away."""
    assert set(lesions.modalities) == {"image", "record"}
    assert all(set(row) == {"age", "sex", "site"} for row in lesions.modalities["record"])
    confirmed = np.array(lesions.targets["confirmed_by"])
    assert set(lesions.labels[confirmed == "follow_up"].tolist()) == {lesions.classes.index("nv")}
