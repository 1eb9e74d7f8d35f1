"""The parts of `mmtutor sentiment` against scikit-learn, brute force, and the evaluation functions
of the book."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from mmtutor.apps import scores
from mmtutor.apps.classifier import train_final
from mmtutor.apps.scores import figures
from mmtutor.apps.table import _joined
from mmtutor.choosing.grouped import GroupedSamples
from mmtutor.choosing.heads import calibrate, fit_head, late
from mmtutor.choosing.nested import choose
from mmtutor.choosing.optimum import fit_optimum
from mmtutor.device import one_thread
from mmtutor.evaluation import bootstrap_interval, expected_calibration_error, log_loss, macro_f1
from mmtutor.fusion import SumFusion, decision
from mmtutor.types import Samples

pytestmark = pytest.mark.usefixtures("small_models_on_one_thread")


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("l2", [0.3, 0.003])
def test_fit_optimum_is_scikit_learns_logistic_regression(class_weight, l2):
    """Weights, and biases but for the constant that a softmax leaves free; three classes, one of
    them rare."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((150, 5)) + 0.5
    y = np.digitize(x[:, 0] + x[:, 1] + rng.standard_normal(150), [0, 3.2])
    assert np.bincount(y).min() < 20
    theirs = LogisticRegression(
        C=1 / (150 * l2), class_weight=class_weight, tol=1e-8, max_iter=10_000
    ).fit(x, y)
    model = SumFusion({"x": 5}, 3)
    data = Samples({"x": torch.tensor(x, dtype=torch.float32)}, torch.from_numpy(y))
    fit_optimum(model, data, l2=l2, class_weights=class_weight, device="cpu")
    assert np.allclose(model.project["x"].weight.detach().numpy(), theirs.coef_, atol=5e-3)
    bias = model.bias.detach().numpy()
    assert np.allclose(bias - bias.mean(), theirs.intercept_ - theirs.intercept_.mean(), atol=5e-3)


def test_an_early_head_is_logistic_regression_on_the_centred_concatenation():
    rng = np.random.default_rng(1)
    text, image = 4 + 3 * rng.standard_normal((80, 4)), rng.standard_normal((80, 3)) / 50
    y = (text[:, 0] / 3 + image[:, 0] * 50 > 4 / 3).astype(int)
    scaled = [
        (v - v.mean(0)) / np.sqrt(((v - v.mean(0)) ** 2).sum(1).mean()) for v in (text, image)
    ]
    theirs = LogisticRegression(C=1 / 5.0, class_weight="balanced", tol=1e-8, max_iter=10_000)
    p = theirs.fit(np.hstack(scaled), y).predict_proba(np.hstack(scaled))
    features = {"text": torch.tensor(text).float(), "image": torch.tensor(image).float()}
    head = fit_head(Samples(features, torch.from_numpy(y)), 2, 5.0, "cpu")
    # scikit-learn's two-class model penalises one vector w, ours ±w/2 twice: strength 5 here is 10
    # there
    halved = LogisticRegression(C=2 / 5.0, class_weight="balanced", tol=1e-8, max_iter=10_000)
    q = halved.fit(np.hstack(scaled), y).predict_proba(np.hstack(scaled))
    ours = head(features).softmax(1).detach().numpy()
    assert np.abs(ours - q).max() < 2e-3 < np.abs(ours - p).max()


def opinions(n: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return overconfident opinions and truths; class 0 is common."""
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, n, p=[0.7, *[0.3 / (classes - 1)] * (classes - 1)])
    logits = 2.5 * (1.2 * np.eye(classes)[y] + rng.standard_normal((n, classes)))
    return torch.tensor(logits).softmax(1), torch.from_numpy(y)


@pytest.mark.parametrize(("n", "classes"), [(6, 2), (40, 3), (300, 4)])
def test_calibration_finds_what_a_search_without_gradients_finds(n, classes):
    q, y = opinions(n, classes)
    z, truth = q.clamp(min=1e-12).log().numpy(), y.numpy()
    frequency = (np.bincount(truth, minlength=classes) + 1) / (n + classes)

    def loss(v):
        logits = z / np.exp(v[0]) + v[1:]
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        prior = v[0] ** 2 / 2 + ((v[1:] - np.log(frequency)) ** 2).sum() / 2
        return prior - np.log(p[np.arange(n), truth]).sum()

    found = calibrate(q, y)
    ours = loss(np.r_[np.log(found.temperature), found.offsets])
    options = {"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-7, "fatol": 1e-9}
    theirs = minimize(loss, np.r_[0.3, np.zeros(classes)], method="Nelder-Mead", options=options)
    assert ours <= theirs.fun + 1e-4
    assert np.allclose([np.log(found.temperature), *found.offsets], theirs.x, atol=0.02)


def test_with_many_posts_calibration_finds_the_temperature_and_the_shift_that_were_put_in():
    """Truths are drawn from softmax(ln q / 1.7 + offsets), so with many of them just these come
    out."""
    rng = np.random.default_rng(2)
    q = torch.tensor(2 * rng.standard_normal((40_000, 3))).softmax(1)
    offsets = torch.tensor([1.0, 0.0, -1.0])
    p = (q.log() / 1.7 + offsets).softmax(1)
    y = torch.multinomial(p, 1, generator=torch.Generator().manual_seed(0))[:, 0]
    found = calibrate(q, y)
    assert found.temperature == pytest.approx(1.7, abs=0.06)
    assert np.array(found.offsets) - np.mean(found.offsets) == pytest.approx(
        np.array([1, 0, -1]), abs=0.06
    )
    assert (found(q) - p).abs().mean() < 0.01
    assert found(q).mean(0).tolist() == pytest.approx(
        (torch.bincount(y) / len(y)).tolist(), abs=0.005
    )


def test_late_fusion_is_the_average_of_opinions():
    a, b = opinions(20, 3)[0], opinions(20, 3, 1)[0]
    assert torch.allclose(late({"image": b, "text": a}), decision.average({"text": a, "image": b}))
    assert torch.allclose(late({"text": a, "image": b}), (a + b) / 2)


def union_find(n: int, links: list[tuple[int, int]]) -> list[int]:
    parent: dict = {}

    def root(x):
        while parent.setdefault(x, x) != x:
            x = parent[x]
        return x

    for post, thing in links:
        parent[root(("post", post))] = root(("thing", thing))
    return [root(("post", i)) for i in range(n)]


@pytest.mark.parametrize("seed", range(6))
def test_joined_groups_are_those_of_union_and_find(seed):
    rng = np.random.default_rng(seed)
    n, things = 30, 25
    links = list(
        zip(rng.integers(0, n, 28).tolist(), rng.integers(0, things, 28).tolist(), strict=True)
    )
    ours, theirs = _joined(n, links), union_find(n, links)
    assert 2 < len(set(ours.tolist())) < n
    for i in range(n):
        for j in range(n):
            assert (ours[i] == ours[j]) == (theirs[i] == theirs[j])
    assert _joined(4, []).tolist() == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def trained() -> tuple[GroupedSamples, dict]:
    """Return a table of three classes, of which one is rare, and a final model for each method."""
    rng = np.random.default_rng(3)
    y = torch.from_numpy(np.repeat([0, 1, 2], (60, 40, 15)))
    features = {
        m: torch.tensor(rng.standard_normal((115, 4)) + np.eye(3, 4)[y]).float()
        for m in ("text", "image")
    }
    table = GroupedSamples(features, y, np.arange(115), ("a", "b", "c"))
    with one_thread():
        choice = choose(table, splits=3, repeats=1, device="cpu", progress=False)
        models = {}
        for m in choice.methods:
            won = replace(choice, scores={k: np.array([float(k == m)]) for k in choice.methods})
            models[m] = train_final(table, won, device="cpu")
    return table, models


@pytest.mark.parametrize("method", ["text", "image", "early", "late"])
def test_contributions_are_shapley_values_and_sum_to_probability_minus_share(trained, method):
    """v(S): the probability of the label when the post has only S, as `predict` gives it; v(none):
    the share."""
    table, models = trained
    model, x, n = models[method], table.features, 115
    on, off = torch.ones(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
    answer = model.predict(x, {"text": on, "image": on})
    read = {"text", "image"} if method in ("early", "late") else {method}

    def value(players: frozenset) -> torch.Tensor:
        players &= read  # a method that reads one modality is not changed by the other
        if not players:
            return torch.tensor(model.shares, dtype=torch.float64)[answer.label]
        p = model.predict(x, {m: on if m in players else off for m in x}).probabilities
        return p.gather(1, answer.label[:, None])[:, 0]

    for m in x:
        gains = []
        for order in permutations(x):
            before = frozenset(order[: order.index(m)])
            gains.append(value(before | {m}) - value(before))
        assert torch.allclose(answer.contributions[m], sum(gains) / len(gains), atol=1e-6)
    whole = value(frozenset(x)) - value(frozenset())
    assert torch.allclose(
        answer.contributions["text"] + answer.contributions["image"], whole, atol=1e-6
    )
    assert answer.contributions[method if method in x else "text"].abs().max() > 0.1


@pytest.mark.parametrize("m", ["text", "image"])
def test_a_single_modality_contributes_all_that_there_is(trained, m):
    table, models = trained
    there = {k: torch.full((115,), k == m) for k in table.features}
    answer = models["late"].predict(table.features, there)
    p = answer.probabilities.gather(1, answer.label[:, None])[:, 0]
    share = torch.tensor(models["late"].shares, dtype=torch.float64)[answer.label]
    assert torch.allclose(answer.contributions[m], p - share, atol=1e-9)


def guesses(n=240, groups=60, seed=0):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, n)
    y = (group + rng.integers(0, 2, n)) % 3
    guess = np.where(rng.random(n) < 0.6, y, rng.integers(0, 3, n))
    guess[group % 5 == 0] = (y[group % 5 == 0] + 1) % 3  # whole groups are wrong: groups matter
    return guess, y, group


def intervals(guess, y, group, classes=3):
    scored = figures(guess, np.full((len(y), classes), 1 / classes), y, group, classes)
    return {m: (scored[m]["value"], *scored[m]["interval"]) for m in ("macro_f1", "accuracy")}


def test_intervals_of_scores_are_the_books_bootstrap_over_groups(monkeypatch):
    """With other draws the ends agree within the noise of some thousand of them."""
    monkeypatch.setattr(scores, "RESAMPLES", 6000)
    guess, y, group = guesses()
    ours = intervals(guess, y, group)
    rows = np.stack([guess, y], 1)
    f1 = bootstrap_interval(
        rows, groups=group, statistic=lambda r: macro_f1(r[:, 0], r[:, 1]), resamples=2500, seed=1
    )
    hits = (guess == y).astype(float)
    accuracy = bootstrap_interval(hits, groups=group, resamples=6000, seed=1)
    alone = bootstrap_interval(hits, resamples=6000)
    for name, theirs in (("macro_f1", f1), ("accuracy", accuracy)):
        assert ours[name][0] == pytest.approx(theirs.estimate)
        assert ours[name][1:] == pytest.approx((theirs.low, theirs.high), abs=0.012)
    _, low, high = ours["accuracy"]
    assert high - low > 1.3 * (alone.high - alone.low), "groups widen it"


def test_scores_leave_out_a_class_that_nobody_saw():
    guess, y, group = guesses()
    assert intervals(guess, y, group, 3)["macro_f1"] == intervals(guess, y, group, 7)["macro_f1"]


def test_figures_are_those_of_the_evaluation_functions():
    guess, y, group = guesses()
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 240)
    found = figures(guess, probs, y, group, 4 - 1)
    assert found["macro_f1"]["value"] == pytest.approx(macro_f1(guess, y))
    assert found["accuracy"]["value"] == pytest.approx((guess == y).mean())
    assert found["n"] == {"value": 240, "interval": [240, 240]}
    assert found["ece"]["value"] == expected_calibration_error(probs, y)
    assert found["log_loss"]["value"] == log_loss(probs, y)
    assert found["confusion"] == [
        [int(((y == t) & (guess == s)).sum()) for s in range(3)] for t in range(3)
    ]
    assert (
        found["macro_f1"]["interval"][0]
        < found["macro_f1"]["value"]
        < found["macro_f1"]["interval"][1]
    )


def test_one_group_has_no_interval():
    guess, y, _ = guesses(20)
    found = figures(guess, np.full((20, 3), 1 / 3), y, np.zeros(20), 3)
    assert found["accuracy"]["interval"] is None and found["macro_f1"]["value"] == pytest.approx(
        macro_f1(guess, y)
    )
