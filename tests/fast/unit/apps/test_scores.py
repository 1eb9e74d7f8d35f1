"""Scores and their intervals against scikit-learn and a plain bootstrap; slices as a person would
cut them."""

import json

import numpy as np
import pytest
from sklearn import metrics

from mmtutor.apps.scores import CUT_ABOVE, class_scores, cut, number_scores, ratios, threshold

N, CLASSES = 240, 3


@pytest.fixture(scope="module")
def groups() -> np.ndarray:
    """Forty groups of one to eleven members."""
    return np.sort(np.random.default_rng(1).integers(40, size=N))


@pytest.fixture(scope="module")
def said():
    """Return guesses, probabilities and truths of three classes, right in about two of three."""
    rng = np.random.default_rng(2)
    y = rng.integers(CLASSES, size=N)
    probs = rng.dirichlet(np.ones(CLASSES), N) * 0.6 + 0.4 * np.eye(CLASSES)[y]
    return probs.argmax(1), probs, y


def redrawn(statistic, groups, times=3000, seed=7) -> np.ndarray:
    """Return the 95 % interval of a statistic of row numbers, whole groups redrawn one by one."""
    rng, members = np.random.default_rng(seed), [np.flatnonzero(groups == g) for g in set(groups)]
    found = []
    for _ in range(times):
        drawn = rng.integers(len(members), size=len(members))
        found.append(statistic(np.concatenate([members[k] for k in drawn])))
    return np.quantile(found, [0.025, 0.975])


def near(interval, other) -> bool:
    """Say whether intervals agree but for the chance in the drawing: 6 % of their width."""
    return np.abs(np.subtract(interval, other)).max() < 0.06 * (other[1] - other[0])


def test_a_ratio_and_its_interval_are_those_of_a_plain_bootstrap(groups):
    rng = np.random.default_rng(0)
    above, below = rng.random(N), rng.integers(1, 4, N)
    one = ratios({"r": (above, below), ("mean", 1): (above, np.ones(N))}, groups)
    assert set(one) == {"r", ("mean", 1)}
    assert one["r"]["value"] == pytest.approx(above.sum() / below.sum())
    assert one["mean", 1]["value"] == pytest.approx(above.mean())
    plain = redrawn(lambda k: above[k].sum() / below[k].sum(), groups)
    assert near(one["r"]["interval"], plain)


def test_rows_of_a_group_are_redrawn_together():
    """Groups whose rows are all right or all wrong say as little as one row each."""
    right, groups = np.repeat(np.arange(100) % 2, 10), np.repeat(np.arange(100), 10)
    parts = {"a": (right, np.ones(1000))}
    together = ratios(parts, groups)["a"]["interval"]
    apart = ratios(parts, np.arange(1000))["a"]["interval"]
    assert np.diff(together)[0] == pytest.approx(np.sqrt(10) * np.diff(apart)[0], rel=0.15)


@pytest.mark.parametrize(
    ("below", "groups", "value"),
    [
        ([0, 0, 0, 0], [0, 1, 2, 3], None),  # nothing to divide by
        ([1, 1, 1, 1], [5, 5, 5, 5], 0.5),  # one group: no redraw differs
        ([2, 0, 0, 0], [0, 1, 2, 3], 1.0),  # some redraw has nothing below
    ],
)
def test_what_cannot_be_told_is_null(below, groups, value):
    found = ratios({"a": (np.array([1, 0, 1, 0]), np.array(below))}, np.array(groups))
    assert found == {"a": {"value": value, "interval": None}}
    json.dumps(found, allow_nan=False)


def test_one_part_that_cannot_be_told_does_not_silence_another():
    rare = (np.array([1, 0, 0, 0]), np.array([1, 0, 0, 0]))
    found = ratios({"rare": rare, "all": (np.eye(4)[0], np.ones(4))}, np.arange(4))
    assert found["rare"]["interval"] is None and found["all"]["interval"] == [0.0, 0.75]


def test_class_scores_are_those_of_scikit_learn(said, groups):
    guess, probs, y = said
    found = class_scores(guess, probs, y, groups)
    assert found["macro_f1"]["value"] == pytest.approx(metrics.f1_score(y, guess, average="macro"))
    assert found["accuracy"]["value"] == pytest.approx(metrics.accuracy_score(y, guess))
    assert found["log_loss"]["value"] == pytest.approx(metrics.log_loss(y, probs))
    assert found["confusion"] == metrics.confusion_matrix(y, guess).tolist()
    assert found["macro_f1"]["level"] == found["accuracy"]["level"] == 0.95
    json.dumps(found, allow_nan=False)


def test_class_intervals_are_those_of_a_plain_bootstrap(said, groups):
    guess, probs, y = said
    found = class_scores(guess, probs, y, groups)
    right = guess == y
    assert near(found["accuracy"]["interval"], redrawn(lambda k: right[k].mean(), groups))
    f1 = redrawn(
        lambda k: np.mean(
            [
                2 * (right & (y == c))[k].sum() / ((y == c)[k].sum() + (guess == c)[k].sum())
                for c in range(CLASSES)
            ]
        ),
        groups,
    )
    assert near(found["macro_f1"]["interval"], f1)


def test_intervals_lie_between_0_and_1_where_nearly_all_is_right():
    y = np.arange(30) % 2
    guess = y.copy()
    guess[0] = 1
    found = class_scores(guess, np.eye(2)[guess], y, np.arange(30))
    for name in ("macro_f1", "accuracy"):
        low, high = found[name]["interval"]
        assert 0 <= low < found[name]["value"] < high <= 1


def test_a_class_that_a_redraw_lacks_is_left_out_of_its_mean():
    """One of thirty is of class 1: a third of the redraws lack it, and all answers are right."""
    y = np.eye(30, dtype=int)[0]
    found = class_scores(y, np.eye(2)[y], y, np.arange(30))
    assert found["macro_f1"]["interval"] == [1.0, 1.0] == found["accuracy"]["interval"]


def test_one_group_has_scores_without_intervals(said):
    guess, probs, y = said
    found = class_scores(guess, probs, y, np.zeros(N, int))
    assert found["macro_f1"]["interval"] is None is found["accuracy"]["interval"]
    assert found["accuracy"]["value"] == pytest.approx((guess == y).mean())


def test_bins_tell_how_often_answers_of_that_confidence_are_right(said, groups):
    guess, probs, y = said
    found, sure = class_scores(guess, probs, y, groups), probs.max(1)
    bins = found["calibration"]
    assert sum(b["n"] for b in bins) == N
    assert sum(b["n"] * b["said"] for b in bins) == pytest.approx(sure.sum())
    assert sum(b["n"] * b["right"] for b in bins) == pytest.approx((guess == y).sum())
    ece = sum(b["n"] * abs(b["said"] - b["right"]) for b in bins) / N
    assert found["ece"]["value"] == pytest.approx(ece)
    last = bins[-1]  # the edges are tenths
    assert last["n"] == int((sure > 0.9).sum()) and last["said"] > 0.9


def test_number_scores_are_those_of_scikit_learn(groups):
    rng = np.random.default_rng(4)
    y = rng.normal(50, 10, N)
    guess = y + rng.normal(0, 5, N)
    found = number_scores(guess, y, groups)
    assert found["r2"]["value"] == pytest.approx(metrics.r2_score(y, guess))
    assert found["mae"]["value"] == pytest.approx(metrics.mean_absolute_error(y, guess))
    mae = redrawn(lambda k: np.abs(guess - y)[k].mean(), groups)
    assert near(found["mae"]["interval"], mae)
    # against the mean of all rows, which no redraw moves
    spare = (y - y.mean()) ** 2
    r2 = redrawn(lambda k: 1 - ((guess - y) ** 2)[k].sum() / spare[k].sum(), groups)
    assert near(found["r2"]["interval"], r2)
    assert found["r2"]["interval"][0] < found["r2"]["value"] < found["r2"]["interval"][1]


def test_the_share_explained_of_equal_numbers_is_null():
    found = number_scores(np.arange(4.0), np.ones(4), np.arange(4))
    assert found["r2"] == {"value": None, "interval": None, "level": 0.95}
    assert found["mae"]["value"] == 1.0
    one = number_scores(np.arange(4.0), np.array([0.0, 1, 2, 4]), np.zeros(4))
    assert one["mae"] == {"value": 0.25, "interval": None} and one["r2"]["interval"] is None


def slices(column, values) -> dict[str, list[int]]:
    return {name: np.flatnonzero(m).tolist() for name, m in cut(column, np.array(values, object))}


def test_words_are_a_slice_each_and_the_unknown_come_last():
    found = slices("site", ["b", "a", "", "b"])
    assert found == {"site a": [1], "site b": [0, 3], "site unknown": [2]}
    assert list(found) == ["site a", "site b", "site unknown"]


def test_many_numbers_are_cut_at_thirds():
    ages = [str(n) for n in range(30, 42)]
    found = slices("age", [*ages, ""])
    names = ["age below 33.7", "age from 33.7 below 37.3", "age from 37.3"]
    assert list(found) == [*names, "age unknown"], "three digits are enough to name a slice"
    assert [len(v) for v in found.values()] == [4, 4, 4, 1] and found["age unknown"] == [12]


def test_numbers_are_cut_where_the_user_says():
    found = slices("age:40:60", ["39.9", "40", "59", "60", "", "1e3"])
    assert found == {
        "age below 40": [0],
        "age from 40 below 60": [1, 2],
        "age from 60": [3, 5],
        "age unknown": [4],
    }


def test_few_different_numbers_are_a_slice_each_in_the_order_of_numbers():
    values = [str(n) for n in range(CUT_ABOVE + 2, 2, -1)]
    found = slices("stage", values)
    assert list(found) == [f"stage {n}" for n in range(3, CUT_ABOVE + 3)]
    assert len(slices("stage", [*values, "99"])) == 3


def test_a_word_among_numbers_makes_all_of_them_words():
    found = slices("age", [*map(str, range(12)), "old"])
    assert len(found) == 13 and found["age old"] == [12]


@pytest.mark.parametrize("said", ["nan", "inf"])
def test_what_python_reads_as_no_finite_number_is_a_word(said):
    assert slices("age", [*map(str, range(12)), said])[f"age {said}"] == [12]


def test_the_threshold_lets_pass_nine_of_ten_of_the_others():
    rng = np.random.default_rng(0)
    risk, true = rng.random(2000), rng.random(2000) < 0.3
    t = threshold(risk, true)
    assert (risk[~true] <= t).mean() == pytest.approx(0.9, abs=1e-3)
    # the operating point of the ROC curve at a false positive rate of .1
    fpr, tpr, _ = metrics.roc_curve(true, risk, drop_intermediate=False)
    found = (risk[true] > t).mean()
    assert found == pytest.approx(np.interp(0.1, fpr, tpr), abs=5e-3)
    assert np.isnan(threshold(risk, np.ones(2000, bool)))
