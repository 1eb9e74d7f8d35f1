"""The table that choosing reads: masks for what is absent, groups, and no copy of what lies
together."""

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
