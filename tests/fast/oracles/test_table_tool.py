"""The parts of the table tool, choosing, its model, its scores, against scikit-learn, brute force,
and the evaluation functions of the book."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, Ridge

from mmtutor.apps import scores
from mmtutor.apps.encoding import Chunk
from mmtutor.apps.gathering import Grouping
from mmtutor.apps.model import train_final
from mmtutor.apps.rows import Row
from mmtutor.apps.scores import class_scores
from mmtutor.choosing.grouped import GroupedSamples
from mmtutor.choosing.heads import calibrate, fit_head, fused
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


def test_with_many_samples_calibration_finds_the_temperature_and_the_shift_that_were_put_in():
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


@pytest.mark.parametrize("names", ["ab", "abc"])
def test_fused_opinions_are_the_books_decision_rules(names):
    told = {m: opinions(20, 3, seed)[0] for seed, m in enumerate(names)}
    g = torch.Generator().manual_seed(0)
    present = {m: torch.rand(20, generator=g) > 0.3 for m in names[1:]}
    for mask in (None, present):
        late, product = fused("late", told, mask), fused("product", told, mask)
        assert torch.allclose(late, decision.average(told, present=mask))
        assert torch.allclose(product, decision.product_rule(told, present=mask))
    assert torch.allclose(fused("late", told), sum(told.values()) / len(names))
    times = torch.stack(list(told.values())).prod(0)
    assert torch.allclose(fused("product", told), times / times.sum(1, keepdim=True))
    shown = torch.stack([present.get(m, torch.ones(20)).double() for m in names])[..., None]
    mean = (torch.stack(list(told.values())) * shown).sum(0) / shown.sum(0)
    assert torch.allclose(fused("late", told, present), mean)


def standardised(x: np.ndarray, there: np.ndarray | None = None) -> np.ndarray:
    """Return features centred, in one scale, as measured on those that are there; zeros for the
    others."""
    there = np.ones(len(x), bool) if there is None else there
    centred = (x - x[there].mean(0)) * there[:, None]
    return centred / np.sqrt((centred[there] ** 2).sum(1).mean())


@pytest.mark.parametrize("strength", [0.5, 15.0])
def test_early_with_absent_modalities_is_logistic_regression_on_zero_filled_features(strength):
    """A third lacks the text, a third the picture; what stands in their slots is not looked at."""
    rng = np.random.default_rng(1)
    x = {"text": 4 + 3 * rng.standard_normal((120, 4)), "image": rng.standard_normal((120, 3)) / 50}
    there = {"text": np.arange(120) % 3 > 0, "image": np.arange(120) % 3 < 2}
    y = np.digitize(x["text"][:, 0] / 3 + x["image"][:, 0] * 50, [0.5, 2.2])
    assert np.bincount(y).min() > 20
    filled = np.hstack([standardised(x[m], there[m]) for m in x])
    theirs = LogisticRegression(C=1 / strength, class_weight="balanced", tol=1e-8, max_iter=10_000)
    expected = theirs.fit(filled, y).predict_proba(filled)
    features = {m: torch.tensor(np.where(there[m][:, None], x[m], np.nan)).float() for m in x}
    present = {m: torch.from_numpy(mask) for m, mask in there.items()}
    head = fit_head(Samples(features, torch.from_numpy(y), present), 3, strength, "cpu")
    found = head(features, present).softmax(1).detach().numpy()
    assert np.abs(found - expected).max() < 2e-3


@pytest.mark.parametrize("l2", [0.3, 0.003])
def test_fit_optimum_on_numbers_is_ridge_regression(l2):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((150, 5)) + 0.5
    y = 3 + x @ [1, -2, 0, 0.5, 0] + rng.standard_normal(150)
    theirs = Ridge(alpha=150 * l2).fit(x, y)
    model = SumFusion({"x": 5}, 1)
    data = Samples({"x": torch.tensor(x).float()}, torch.tensor(y).float())
    fit_optimum(model, data, l2=l2, device="cpu")
    weight, bias = model.project["x"].weight.detach().numpy()[0], model.bias.item()
    assert np.allclose(weight, theirs.coef_, atol=2e-3)
    assert bias == pytest.approx(theirs.intercept_, abs=2e-3)


@pytest.mark.parametrize("strength", [0.5, 15.0])
def test_a_head_on_numbers_is_ridge_regression_on_the_zero_filled_concatenation(strength):
    rng = np.random.default_rng(2)
    x = {"text": 4 + 3 * rng.standard_normal((90, 4)), "image": rng.standard_normal((90, 3)) / 50}
    there = {"text": np.arange(90) % 3 > 0, "image": np.arange(90) % 3 < 2}
    y = x["text"][:, 0] / 3 + x["image"][:, 0] * 50 + rng.standard_normal(90)
    filled = np.hstack([standardised(x[m], there[m]) for m in x])
    expected = Ridge(alpha=strength).fit(filled, y).predict(filled)
    features = {m: torch.tensor(np.where(there[m][:, None], x[m], np.nan)).float() for m in x}
    present = {m: torch.from_numpy(mask) for m, mask in there.items()}
    head = fit_head(Samples(features, torch.tensor(y).float(), present), 1, strength, "cpu")
    found = head(features, present)[:, 0].detach().numpy()
    assert np.abs(found - expected).max() < 2e-3 * expected.std() + 1e-3


def union_find(n: int, links: list[tuple[int, str]]) -> list:
    parent: dict = {}

    def root(x):
        while parent.setdefault(x, x) != x:
            x = parent[x]
        return x

    for row, thing in links:
        parent[root(row)] = root(thing)
    return [root(i) for i in range(n)]


@pytest.mark.parametrize("seed", range(6))
def test_groups_are_those_of_union_and_find(seed):
    """Rows with some of a few texts, pictures and sounds, in chunks; some are in a given group,
    and then in no other."""
    rng = np.random.default_rng(seed)
    n, kinds = 40, ("text", "image", "audio")
    picks = {m: np.where(rng.random(n) < 0.35, rng.integers(0, 20, n), -1) for m in kinds}
    given = [rng.choice(["", "", "", "", "g", "h"]) for _ in range(n)]
    grouping, links = Grouping(), []
    for rows in (range(13), range(13, 26), range(26, n)):
        has = [{m: f"{m} {chr(97 + picks[m][i])}" for m in kinds if picks[m][i] >= 0} for i in rows]
        kept = [Row(i, h, group=given[i]) for i, h in zip(rows, has, strict=True)]
        where = {m: [k for k, h in enumerate(has) if m in h] for m in kinds}
        keys = {m: [has[k][m].encode() for k in places] for m, places in where.items()}
        grouping.add(Chunk(list(kept), kept, {}, where, keys))
        links += [(i, v) for i, h in zip(rows, has, strict=True) for v in h.values()]
    ours, theirs = grouping.numbers(), union_find(n, links)
    assert ours.dtype == np.int64 and 4 < len(set(ours.tolist())) < n
    alike = sum(ours[i] == ours[j] for i in range(n) for j in range(i))
    assert alike > 3
    for i in range(n):
        for j in range(n):
            same = given[i] == given[j] if given[i] or given[j] else theirs[i] == theirs[j]
            assert (ours[i] == ours[j]) == same


def test_rows_that_share_nothing_are_groups_of_their_own():
    grouping = Grouping()
    grouping.add(Chunk([], [Row(i) for i in range(4)], {}, {}, {}))
    assert len(set(grouping.numbers().tolist())) == 4


NAMES = ("text", "image", "audio")
LEVELS = ("text", "early", "late", "product", "early without text", "late without image")


@pytest.fixture(scope="module")
def trained() -> tuple[GroupedSamples, dict]:
    """Return a table of three classes, of which one is rare, and a final model for each method."""
    rng = np.random.default_rng(3)
    y = torch.from_numpy(np.repeat([0, 1, 2], (60, 40, 15)))
    features = {
        m: torch.tensor(rng.standard_normal((115, 4)) + np.eye(3, 4)[y]).float() for m in NAMES
    }
    table = GroupedSamples(features, y, np.arange(115), ("a", "b", "c"))
    with one_thread():
        choice = choose(table, splits=3, repeats=1, device="cpu", progress=False)
        models = {}
        for m in LEVELS:
            won = replace(choice, scores={k: np.full(3, k == m, float) for k in choice.methods})
            models[m] = train_final(table, won, device="cpu")
            assert models[m].name == m
    return table, models


@pytest.mark.parametrize("method", LEVELS)
def test_contributions_are_shapley_values_and_sum_to_probability_minus_share(trained, method):
    """v(S): the probability of the label when the row has only S, as `answer` gives it; v(none):
    the share."""
    table, models = trained
    model, x, n = models[method], table.features, 115
    on, off = torch.ones(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
    answer = model.answer(x, dict.fromkeys(NAMES, on))
    read = set(model.method.reads)
    assert answer.read == [model.method.reads] * n

    def value(players: frozenset) -> torch.Tensor:
        players &= read  # a modality that is not read changes nothing
        if not players:
            return torch.tensor(model.shares, dtype=torch.float64)[answer.label]
        p = model.answer(x, {m: on if m in players else off for m in NAMES}).values
        return p.gather(1, answer.label[:, None])[:, 0]

    for m in NAMES:
        gains = []
        for order in permutations(NAMES):
            before = frozenset(order[: order.index(m)])
            gains.append(value(before | {m}) - value(before))
        assert torch.allclose(answer.contributions[m], sum(gains) / len(gains), atol=1e-6)
        assert (answer.contributions[m].abs().max() > 0.05) == (m in read)
    whole = value(frozenset(NAMES)) - value(frozenset())
    assert torch.allclose(sum(answer.contributions.values()), whole, atol=1e-6)


@pytest.mark.parametrize("method", ["text", "early", "late", "late without text"])
def test_contributions_to_a_number_sum_to_the_answer_minus_the_mean(trained, method):
    """In the target's own unit, whichever modalities a row has."""
    table, rng = trained[0], np.random.default_rng(4)
    y = sum(x[:, 0] for x in table.features.values()) + torch.tensor(rng.standard_normal(115))
    y = ((y - y.mean()) / y.std()).float()
    table = replace(table, labels=y, classes=())
    choice = choose(table, splits=3, repeats=1, device="cpu", progress=False)
    won = replace(choice, scores={k: np.full(3, k == method, float) for k in choice.methods})
    model = train_final(table, won, device="cpu", target=(50.0, 10.0))
    for kinds in (("text", "image", "audio"), ("text", "audio"), ("image",)):
        there = {m: torch.full((115,), m in kinds) for m in NAMES}
        answer = model.answer(table.features, there)
        read = tuple(m for m in kinds if m in model.method.reads) or kinds
        assert answer.read == [read] * 115
        whole = answer.values[:, 0] - 50
        assert torch.allclose(sum(answer.contributions.values()), whole, atol=1e-6)
        assert all((answer.contributions[m] == 0).all() for m in NAMES if m not in read)
    assert model.spread(("image",)) == pytest.approx(10 * choice.calibrations["image"].spread)
    full = model.answer(table.features, dict.fromkeys(NAMES, torch.ones(115, dtype=torch.bool)))
    read = model.method.reads
    if len(read) == 1:
        head = model.heads[read[0]]({read[0]: table.features[read[0]]}).double()
        expected = 50 + 10 * choice.calibrations[read[0]](head)
        assert torch.allclose(full.values, expected, atol=1e-5)
    within = ((full.values[:, 0] - 50) / 10 - y).abs() <= model.spread(read) / 10
    assert within.double().mean() > 0.7


@pytest.mark.parametrize("m", NAMES)
def test_a_single_modality_contributes_all_that_there_is(trained, m):
    table, models = trained
    there = {k: torch.full((115,), k == m) for k in table.features}
    answer = models["late"].answer(table.features, there)
    p = answer.values.gather(1, answer.label[:, None])[:, 0]
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
    scored = class_scores(guess, np.full((len(y), classes), 1 / classes), y, group)
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


def test_scores_are_those_of_the_evaluation_functions():
    guess, y, group = guesses()
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 240)
    found = class_scores(guess, probs, y, group)
    assert found["macro_f1"]["value"] == pytest.approx(macro_f1(guess, y))
    assert found["accuracy"]["value"] == pytest.approx((guess == y).mean())
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
    found = class_scores(guess, np.full((20, 3), 1 / 3), y, np.zeros(20))
    assert found["accuracy"]["interval"] is None and found["macro_f1"]["value"] == pytest.approx(
        macro_f1(guess, y)
    )
