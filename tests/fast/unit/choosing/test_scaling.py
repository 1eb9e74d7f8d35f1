"""Hat functions: what they are by brute force, where their knots come from, and that what is
unknown says nothing."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mmtutor.choosing import optimum
from mmtutor.choosing.heads import fit_head
from mmtutor.choosing.scaling import Hats
from mmtutor.types import Samples

pytestmark = pytest.mark.usefixtures("small_models_on_one_thread")


def columns_of(values: np.ndarray, known: np.ndarray | None = None) -> Tensor:
    """Return what `Hats` takes: values (N, K), zeros where unknown, then what is known."""
    known = np.ones(values.shape, bool) if known is None else known
    both = np.hstack([np.where(known, values, 0), known])
    return torch.tensor(both, dtype=torch.float32)


def measured(x: Tensor, knots: int, rows: Tensor | None = None) -> Hats:
    hats = Hats(x.shape[1] // 2, knots)
    hats.measure(x, rows)
    return hats


def by_interpolation(
    seen: np.ndarray, known: np.ndarray, knots: int, asked: np.ndarray, asked_known: np.ndarray
) -> np.ndarray:
    """Return the hats of `asked` (B, K) as numpy interpolates them, (B, K · J), measured on
    `seen` (N, K)."""
    ours, theirs = [], []
    for k in range(seen.shape[1]):
        different = np.unique(seen[known[:, k], k])
        places = np.linspace(0, len(different) - 1, min(knots, len(different)))
        bends = different[np.round(places).astype(int)]
        for j in range(knots):
            unit = np.eye(knots)[j, : len(bends)]
            learnt = np.interp(seen[:, k], bends, unit)
            mean = learnt[known[:, k]].mean()
            ours.append((learnt - mean) * known[:, k])
            theirs.append((np.interp(asked[:, k], bends, unit) - mean) * asked_known[:, k])
    return np.stack(theirs, 1) / np.sqrt(np.square(ours).sum() / len(seen))


@pytest.mark.parametrize("pieces", [7, 8192])
@pytest.mark.parametrize("knots", [2, 3, 9])
def test_hats_are_what_numpy_interpolates(knots, pieces, monkeypatch):
    """Columns of many values, of four and of two; some unknown; asked beyond both ends too."""
    monkeypatch.setattr(optimum, "ROWS", pieces)
    rng = np.random.default_rng(0)
    seen = np.stack(
        [100 * rng.standard_normal(60), rng.integers(0, 4, 60), rng.integers(0, 2, 60)], 1
    ).astype(np.float32)
    known, asked_known = rng.random((60, 3)) < 0.8, rng.random((40, 3)) < 0.8
    asked = rng.uniform(-400, 400, (40, 3)).astype(np.float32)
    asked[:20, 1:] = rng.uniform(-1, 4, (20, 2))
    hats = measured(columns_of(seen, known), knots)
    expected = by_interpolation(seen, known, knots, asked, asked_known)
    found = hats(columns_of(asked, asked_known))
    assert found.shape == (40, 3 * knots) and np.allclose(found, expected, atol=1e-5)
    whole = hats(columns_of(seen, known))
    assert float(whole.square().sum(1).mean()) == pytest.approx(1, rel=1e-5)
    assert whole.sum(0).abs().max() < 1e-3, "centred over the known"


def test_numbers_of_categories_are_told_apart_one_by_one():
    """With a knot for each, hats are the centred one-hot code."""
    number = np.random.default_rng(0).integers(0, 5, 70)
    hats = measured(columns_of(number[:, None].astype(float)), 5)
    code = np.eye(5)[number] - np.eye(5)[number].mean(0)
    code /= np.sqrt(np.square(code).sum(1).mean())
    assert np.allclose(hats(columns_of(number[:, None].astype(float))), code, atol=1e-6)


def test_more_knots_than_values_add_nothing():
    """Of three values seven knots know no more than three do: the others stay at 0."""
    x = columns_of(np.random.default_rng(0).integers(0, 3, (50, 1)).astype(float))
    few, many = measured(x, 3)(x), measured(x, 7)(x)
    assert torch.allclose(many[:, :3], few, atol=1e-6)
    assert torch.equal(many[:, 3:], torch.zeros(50, 4))


def test_no_outlier_pulls_the_knots_away():
    values = np.r_[np.arange(99.0), 1e9][:, None]
    knots = measured(columns_of(values), 5).knots[0]
    assert knots[:4].tolist() == pytest.approx([0, 25, 50, 74], abs=1)
    assert torch.isfinite(measured(columns_of(values), 5)(columns_of(values))).all()


@pytest.mark.parametrize("case", ["constant", "nothing known", "one value known"])
def test_a_column_that_tells_nothing_says_nothing(case):
    """Neither in training rows, whatever stands beside it, nor for values never seen."""
    rng = np.random.default_rng(0)
    values, known = rng.standard_normal((30, 2)), np.ones((30, 2), bool)
    if case == "constant":
        values[:, 1] = 7
    else:
        known[:, 1] = (np.arange(30) == 4) & (case == "one value known")
    hats = measured(columns_of(values, known), 4)
    alone = measured(columns_of(values[:, :1]), 4)
    asked = rng.uniform(-50, 50, (10, 2))
    found = hats(columns_of(asked))
    assert torch.allclose(found[:, :4], alone(columns_of(asked[:, :1])), atol=1e-6)
    if case == "nothing known":
        assert found[:, 4:].std(0).max() < 1e-6, "no number is told from another"
    else:
        assert found[:, 4:].abs().max() < 1e-6
    assert torch.isfinite(found).all()


def test_columns_of_which_all_are_unknown_are_zero():
    x = columns_of(np.zeros((6, 2)), np.zeros((6, 2), bool))
    assert torch.equal(measured(x, 3)(x), torch.zeros(6, 6))


def test_knots_means_and_scale_come_from_training_rows_only():
    rng = np.random.default_rng(0)
    values, known = rng.standard_normal((40, 2)), rng.random((40, 2)) < 0.9
    rows = torch.tensor([*range(5, 20), 27, 33])
    alone = measured(columns_of(values, known)[rows], 4)
    others = np.setdiff1d(np.arange(40), rows.numpy())
    values[others], known[others] = 1e6, True
    part = measured(columns_of(values, known), 4, rows)
    for name, buffer in alone.state_dict().items():
        assert torch.equal(part.state_dict()[name], buffer), name


def test_what_is_measured_anew_is_forgotten():
    first, second = (columns_of(np.random.default_rng(s).normal(s, 1, (30, 1))) for s in (0, 9))
    hats = measured(first, 4)
    hats.measure(second)
    assert torch.equal(hats(second), measured(second, 4)(second))


def test_what_is_unknown_says_nothing():
    """A row with an unknown number is answered as by a head from which that column is cut out."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((80, 3))
    y = torch.from_numpy((values.sum(1) > 0).astype(int))
    data = Samples({"columns": columns_of(values)}, y)
    head = fit_head(data, 2, 1.0, "cpu", knots={"columns": 4})
    known = np.ones((80, 3), bool)
    known[:, 1] = False
    with torch.no_grad():
        told = head(data.features)
        found = head({"columns": columns_of(values, known)})
        hats = head.encoders["columns"](data.features["columns"])
        weights = head.fusion.project["columns"].weight.clone()
        weights[:, 4:8] = 0
        assert torch.allclose(found, hats @ weights.T + head.fusion.bias, atol=1e-6)
        assert (told - found).abs().max() > 0.1, "the column does say something where it is known"
        known[:] = False
        nothing = head({"columns": columns_of(values, known)})
    assert torch.equal(nothing, head.fusion.bias.expand(80, 2))
