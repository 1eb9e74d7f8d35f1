"""Heads and calibration: what they start from, that they are centred, and what few samples can make
them say."""

import numpy as np
import pytest
import torch

from mmtutor.choosing import optimum
from mmtutor.choosing.heads import (
    Centred,
    NumberCalibration,
    OpinionCalibration,
    calibrate,
    calibrate_numbers,
    calibrate_opinions,
    fit_head,
    fused,
    new_head,
)
from mmtutor.choosing.scaling import Hats
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


def partly(n=60) -> tuple[Samples, torch.Tensor, torch.Tensor]:
    """Return samples some of which lack the one, some the other modality."""
    data = some(n)
    text, image = torch.arange(n) % 3 > 0, torch.arange(n) % 4 > 1
    image |= ~text
    return Samples(data.features, data.labels, {"text": text, "image": image}), text, image


@pytest.mark.parametrize("rows", [None, torch.tensor([*range(2, 30), 35, 41, *range(50, 60)])])
def test_nothing_of_an_absent_slot_reaches_an_early_head(rows):
    """Whatever stands there, NaN too, the same head comes out, and gives the same answers."""
    data, text, image = partly()
    heads, answers = [], []
    for filling in (0.0, 1e6, torch.nan, torch.inf):
        x = {
            "text": data.features["text"].masked_fill(~text[:, None], filling),
            "image": data.features["image"].masked_fill(~image[:, None], filling),
        }
        filled = Samples(x, data.labels, data.present)
        head = fit_head(filled, 2, 1.5, "cpu", rows=rows)
        heads.append(head.state_dict())
        answers.append(head(x, data.present))
    for state, answer in zip(heads[1:], answers[1:], strict=True):
        assert torch.equal(answer, answers[0]) and answer.isfinite().all()
        assert all(torch.equal(v, state[name]) for name, v in heads[0].items())


def test_an_early_head_centres_each_modality_on_those_who_have_it():
    data, text, image = partly()
    head = fit_head(data, 2, 1.5, "cpu")
    for m, there in (("text", text), ("image", image)):
        assert torch.allclose(head.encoders[m].mean, data.features[m][there].mean(0), atol=1e-4)


def test_hats_in_a_head_are_measured_on_those_who_have_them():
    data, _, image = partly()
    columns = torch.cat([data.features["image"], torch.ones(60, 4)], 1)
    columns[~image] = torch.nan
    features = {"text": data.features["text"], "image": columns}
    mixed = Samples(features, data.labels, {"image": image})
    head = fit_head(mixed, 2, 1.5, "cpu", knots={"image": 3})
    alone = Hats(4, 3)
    alone.measure(columns[image])
    for name, value in alone.state_dict().items():
        assert torch.equal(head.encoders["image"].state_dict()[name], value)
    assert head(features, {"image": image}).isfinite().all()
    assert isinstance(head.encoders["text"], Centred)
    assert head.fusion.project["image"].weight.shape == (2, 12)


def test_a_part_of_a_head_is_a_start_for_fewer_modalities():
    data = some()
    both = fit_head(data, 2, 5.0, "cpu")
    fresh = fit_head(data.only(["text"]), 2, 5.0, "cpu")
    warm = fit_head(data.only(["text"]), 2, 5.0, "cpu", both)
    text = {"text": data.features["text"]}
    assert torch.allclose(fresh(text), warm(text), atol=2e-3)


def test_fused_numbers_are_the_mean_of_those_present():
    told = {"a": torch.tensor([[1.0], [2.0], [3.0]]), "b": torch.tensor([[5.0], [torch.e], [7.0]])}
    present = {"b": torch.tensor([True, False, True])}
    assert fused("late", told)[:, 0].tolist() == pytest.approx([3, (2 + np.e) / 2, 5])
    assert fused("late", told, present)[:, 0].tolist() == pytest.approx([3, 2, 5])
    assert fused("late", {"a": told["a"]})[:, 0].tolist() == [1, 2, 3]


def test_what_an_absent_modality_says_of_a_number_is_not_heard():
    told = {"a": torch.tensor([[1.0], [2.0]]), "b": torch.tensor([[5.0], [torch.nan]])}
    found = fused("late", told, {"b": torch.tensor([True, False])})
    assert found[:, 0].tolist() == [3, 2]


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.4, 2.0), (-1.5, -3.0)])
def test_calibration_finds_the_slope_and_offset_that_were_put_in(slope, offset):
    rng = np.random.default_rng(0)
    v = torch.tensor(1 + 2 * rng.standard_normal((20_000, 1))).float()
    error = torch.tensor(rng.standard_normal(20_000)).float()
    y = offset + slope * v[:, 0] + error
    found = calibrate(v, y)
    assert isinstance(found, NumberCalibration) and found == calibrate_numbers(v, y)
    assert (found.slope, found.offset) == pytest.approx((slope, offset), abs=0.03)
    # four fifths of a normal error are within 1.2816 standard deviations
    assert found.spread == pytest.approx(1.2816, abs=0.03)
    assert found(v).dtype == torch.float64 and found(v).shape == v.shape
    assert torch.equal(found.balanced(v), found(v))
    within = (found(v)[:, 0] - y).abs() <= found.spread
    assert within.double().mean() == pytest.approx(0.8, abs=1e-3)


def test_a_prior_of_slope_one_counts_as_one_sample():
    """Least squares on n samples, and one more at ± the standard deviation, where slope 1 says so:
    by hand for v = -1, 0, 1 and y = 3 v: power 2/3, slope (6 + 2/3) / (2 + 2/3) = 2.5."""
    found = calibrate_numbers(torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([-3.0, 0.0, 3.0]))
    assert (found.slope, found.offset) == pytest.approx((2.5, 0))
    # the errors are ½, 0, ½
    assert found.spread == pytest.approx(0.5)


@pytest.mark.parametrize("n", [1, 4])
def test_predictions_that_are_all_the_same_become_the_mean(n):
    found = calibrate_numbers(torch.full((n, 1), 3.0), torch.arange(n).float())
    assert np.isfinite([found.slope, found.offset, found.spread]).all()
    assert found(torch.tensor([[3.0]])).item() == pytest.approx((n - 1) / 2)


def test_classes_get_the_calibration_of_classes():
    q, y = torch.tensor([[0.6, 0.4], [0.3, 0.7]]), torch.tensor([0, 1])
    assert calibrate(q, y) == calibrate_opinions(q, y)
    assert isinstance(calibrate(q, y), OpinionCalibration)


@pytest.mark.parametrize("knots", [None, {"image": 3}])
def test_a_modality_that_no_training_row_has_says_nothing(knots):
    """A quarter of the groups may hold all of a rare one; those who have it are answered by the
    rest."""
    data = some()
    nobody = Samples(data.features, data.labels, {"image": torch.zeros(60, dtype=torch.bool)})
    head = fit_head(nobody, 2, 5.0, "cpu", knots=knots)
    alone = fit_head(data.only(["text"]), 2, 5.0, "cpu")
    assert torch.allclose(head(data.features), alone({"text": data.features["text"]}), atol=2e-3)
