"""Heads and calibration: what they start from, that they are centred, and what few samples can make
them say."""

import numpy as np
import pytest
import torch

from mmtutor.choosing import optimum
from mmtutor.choosing.heads import (
    Centred,
    OpinionCalibration,
    calibrate,
    fit_head,
    heads_of,
    new_head,
)
from mmtutor.types import Samples

pytestmark = pytest.mark.usefixtures("small_models_on_one_thread")


def some(n=60, seed=0) -> Samples:
    g = torch.Generator().manual_seed(seed)
    x = {"text": 3 + torch.randn(n, 5, generator=g), "image": 100 * torch.randn(n, 4, generator=g)}
    return Samples(x, (x["text"][:, 0] + x["image"][:, 0] / 100 > 3).long())


def test_centred_features_have_mean_zero_and_mean_square_one_in_one_scale(monkeypatch):
    monkeypatch.setattr(optimum, "ROWS", 7)  # in pieces
    x = 5 + torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1.0, 10.0, 0.1]
    )
    centred = Centred(3)
    assert torch.equal(centred(x), x), "before it has measured anything it changes nothing"
    centred.measure(x)
    z = centred(x)
    assert z.mean(0).abs().max() < 1e-5
    assert z.square().sum(1).mean() == pytest.approx(1, rel=1e-5)
    assert torch.allclose(z.std(0) / z.std(0)[0], x.std(0) / x.std(0)[0], rtol=1e-4), (
        "proportions are kept"
    )


def test_constant_features_do_not_divide_by_zero():
    centred = Centred(2)
    centred.measure(torch.full((4, 2), 7.0))
    assert torch.isfinite(centred(torch.full((4, 2), 7.0))).all()


def test_a_new_head_has_no_opinion():
    head = new_head({"text": 5, "image": 4}, 3)
    assert torch.equal(head(some().features), torch.zeros(60, 3))


def test_a_head_fits_its_training_data_and_strength_holds_it_back():
    data = some()
    weak, strong = fit_head(data, 2, 0.01, "cpu"), fit_head(data, 2, 1000.0, "cpu")
    right = (weak(data.features).argmax(1) == data.labels).float().mean()
    assert right > 0.95
    assert strong(data.features).std() < 0.2 * weak(data.features).std()


def test_a_head_does_not_depend_on_where_it_starts():
    data = some()
    fresh = fit_head(data, 2, 5.0, "cpu")
    start = fit_head(data[:30], 2, 0.5, "cpu")
    before = [p.clone() for p in start.parameters()]
    warm = fit_head(data, 2, 5.0, "cpu", start)
    assert torch.allclose(fresh(data.features), warm(data.features), atol=2e-3)
    assert all(torch.equal(p, q) for p, q in zip(start.parameters(), before, strict=True)), (
        "the start is left alone"
    )


def test_calibration_by_hand():
    """q = (.8, .2) at temperature 2 with offsets (0, ln 3): odds 2 : 1 · 3, so 2/5 and 3/5."""
    p = OpinionCalibration(2.0, (0.0, float(np.log(3))))(torch.tensor([[0.8, 0.2]]))
    assert p.dtype == torch.float64 and p[0].tolist() == pytest.approx([2 / 5, 3 / 5])


def test_calibration_bears_certainty_about_the_wrong_class():
    q = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = calibrate(q, torch.tensor([1, 0, 1]))
    assert np.isfinite([found.temperature, *found.offsets]).all()
    p = found(q)
    assert p.sum(1).tolist() == pytest.approx([1, 1, 1]) and p[0, 1] > 0.1


def test_few_samples_say_nothing_extreme_about_a_class_that_none_of_them_has():
    q = torch.tensor([[0.6, 0.3, 0.1], [0.3, 0.6, 0.1]])
    p = calibrate(q, torch.tensor([0, 1]))(q)
    assert (p[:, 2] > 0.01).all() and (p[:, 2] < 1 / 3).all()


def test_each_modality_has_a_head_and_several_have_one_together():
    assert heads_of(["audio"]) == {"audio": ("audio",)}
    assert heads_of(("a", "b", "c")) == {
        "a": ("a",),
        "b": ("b",),
        "c": ("c",),
        "early": ("a", "b", "c"),
    }


def test_a_head_that_learns_from_some_rows_never_looks_at_the_others(monkeypatch):
    """In pieces, some of which are stretches: as if the rows had been cut out before."""
    monkeypatch.setattr(optimum, "ROWS", 7)
    data, rows = some(), torch.tensor([*range(3, 20), 25, 31, *range(40, 58)])
    alone = fit_head(data[rows], 2, 5.0, "cpu")
    others = torch.ones(60, dtype=torch.bool)
    others[rows] = False
    for x in data.features.values():
        x[others] = torch.nan
    data.labels[others] = 7
    head = fit_head(data, 2, 5.0, "cpu", rows=rows)
    kept = data[rows].features
    assert torch.equal(head(kept), alone(kept))
