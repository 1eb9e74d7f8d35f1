"""The table that choosing reads: masks for what is absent, groups, and no copy of what lies
together."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmtutor.choosing.grouped import GroupedSamples

pytestmark = pytest.mark.usefixtures("small_models_on_one_thread")


def test_a_stretch_of_rows_is_not_copied_and_any_other_choice_is_right(synthetic):
    table = synthetic(n=10)
    stretch = table.samples(torch.tensor([4, 5, 6]), ("image",)).features["image"]
    assert stretch.data_ptr() == table.features["image"][4:].data_ptr() and len(stretch) == 3
    for rows in ([6, 4], [4, 6], [4, 6, 5, 7], [5, 5], [9], []):
        rows = torch.tensor(rows, dtype=torch.long)
        part = table.samples(rows, ("image",))
        assert torch.equal(part.features["image"], table.features["image"][rows])
        assert torch.equal(part.labels, table.labels[rows])


def test_absence_is_a_mask_and_no_mask_means_present(synthetic):
    table = synthetic(n=6, lacking=[("image", 3), ("text", 3), ("text", 5)])
    assert table.having(("image",)).tolist() == [True, True, True, False, True, True]
    assert table.having(("text", "image")).tolist() == [True, True, True, False, True, False]
    assert table.having(()).all()
    plain = GroupedSamples(table.features, table.labels, table.groups, table.classes)
    assert plain.having(("text", "image")).all() and plain.modalities == ("text", "image")
    part = table.only(["text"])
    assert part.modalities == ("text",) and torch.equal(part.present["text"], table.present["text"])
    for ask in (table.having, table.only, lambda names: table.samples(torch.arange(2), names)):
        with pytest.raises(KeyError, match="smell"):
            ask(["smell"])


def test_what_does_not_belong_together_is_refused(synthetic):
    x, y, groups = {"a": torch.zeros(4, 2)}, torch.tensor([0, 1, 0, 1]), np.arange(4)
    with pytest.raises(ValueError, match=r"features\['a'\] has 4 samples, labels have 3"):
        GroupedSamples(x, y[:3], groups[:3], ("n", "p"))
    with pytest.raises(ValueError, match="3 groups, expected one for each of 4"):
        GroupedSamples(x, y, groups[:3], ("n", "p"))
    with pytest.raises(
        ValueError, match=r"cannot be called \['late'\]: those are levels of fusion"
    ):
        GroupedSamples({"late": x["a"]}, y, groups, ("n", "p"))
    with pytest.raises(KeyError, match=r"present names \['b'\], the features are \['a'\]"):
        GroupedSamples(x, y, groups, ("n", "p"), {"b": torch.ones(4, dtype=torch.bool)})


def test_some_of_the_modalities_are_enough_where_any_will_do(synthetic):
    table = synthetic(n=6, lacking=[("image", 3), ("text", 3), ("text", 5)])
    assert table.having_any(("text", "image")).tolist() == [True] * 3 + [False] + [True] * 2
    assert torch.equal(table.having_any(("text",)), table.having(("text",)))


def test_a_part_speaks_of_absence_only_where_someone_in_it_lacks_something(synthetic):
    table = synthetic(n=6, lacking=[("image", 3), ("text", 5)])
    both = ("text", "image")
    assert table.samples(torch.tensor([0, 1, 4]), both).present is None
    part = table.samples(torch.tensor([0, 3, 4]), both)
    assert list(part.present) == ["image"]
    assert part.present["image"].tolist() == [True, False, True]


def numbers_of(table: GroupedSamples, labels: torch.Tensor) -> GroupedSamples:
    return replace(table, labels=labels, classes=())


def test_classes_are_their_own_strata_and_numbers_fall_into_equal_fifths(synthetic):
    table = synthetic(n=50)
    assert torch.equal(table.strata, table.labels) and table.outputs == 2
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    numbers = numbers_of(table, order.float() ** 3)
    assert torch.equal(numbers.strata, order // 10) and numbers.outputs == 1
    part = numbers.only(["image"])
    assert torch.equal(part.strata, numbers.strata) and part.classes == ()


def test_equal_numbers_are_of_one_stratum_and_no_stratum_is_empty(synthetic):
    table = synthetic(n=50)
    for values in (torch.zeros(50), torch.arange(50) % 3, (torch.arange(50) > 44) * 7.0):
        strata = numbers_of(table, values.float()).strata
        assert strata.unique().tolist() == list(range(len(strata.unique())))
        for value in values.unique():
            assert len(strata[values == value].unique()) == 1
        by_size = strata[values.argsort()]
        assert (by_size.diff() >= 0).all(), "larger numbers, later strata"
