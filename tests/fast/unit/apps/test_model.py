"""The trained tool: what answers for which row, what an absent modality may hold, what each
modality contributed."""

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
import torch

from mmtutor.apps.model import Answer, Model, shapley, subsets, train_final
from mmtutor.choosing.choice import methods_of
from mmtutor.choosing.nested import choose
from mmtutor.fusion import decision

pytestmark = pytest.mark.usefixtures("own_cache", "small_models_on_one_thread")

NAMES = ("text", "image", "audio")
# the text tells the first bit, the picture the second, the sound a little of both
WHERE = ((-1, -1, -0.5), (-1, 1, 0), (1, -1, 0), (1, 1, 0.5))
LACKING = [("image", 7), ("image", 8), ("text", 21), ("audio", 40), ("text", 40)]
PATTERNS = [t for n in range(4) for t in combinations(NAMES, n)]
QUICK = {"splits": 3, "repeats": 1, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def table(synthetic):
    made = synthetic(100, WHERE, (4, 3, 2), NAMES, noise=0.7, lacking=LACKING)
    return replace(made, labels=torch.where(made.labels == 3, 0, made.labels), classes=tuple("abc"))


@pytest.fixture(scope="module")
def choice(table):
    return choose(table, **QUICK)


def winning(choice, method):
    """Return the choice as if this method had won."""
    return replace(choice, scores={m: np.full(3, float(m == method)) for m in choice.methods})


@pytest.fixture(scope="module")
def models(table, choice) -> dict[str, Model]:
    return {m: train_final(table, winning(choice, m), device="cpu") for m in choice.methods}


@pytest.fixture(scope="module")
def rows():
    """Return features of two rows per pattern of presence, NaN where absent, and that presence."""
    g, n = torch.Generator().manual_seed(5), 2 * len(PATTERNS)
    there = {m: torch.tensor([m in t for t in PATTERNS for _ in range(2)]) for m in NAMES}
    x = {m: torch.randn(n, d, generator=g) for m, d in zip(NAMES, (4, 3, 2), strict=True)}
    return {m: torch.where(there[m][:, None], x[m], torch.nan) for m in NAMES}, there


def heard(head, x, row) -> torch.Tensor:
    """Return a head's opinion on a row, the mean in place of what is absent, which adds nothing."""
    filled = {m: x[m][row].where(~x[m][row].isnan(), e.mean) for m, e in head.encoders.items()}
    return head({m: v[None] for m, v in filled.items()}).softmax(1).detach()


def answered_by(there, reads) -> tuple[str, ...]:
    """Return what a row is answered from."""
    return tuple(m for m in there if m in reads) or there


def expected(model, x, row, players) -> torch.Tensor:
    """Return the probabilities, written down without the model's own bookkeeping."""
    own = {m: heard(model.heads[m], x, row) for m in players}
    if len(players) == 1:
        return model.calibrations[players[0]](own[players[0]])[0]
    name = model.name if set(players) <= set(model.method.reads) else "late"
    if name.startswith("early"):
        return model.calibrations[name](heard(model.heads[name], x, row))[0]
    q = {m: model.calibrations[m].balanced(p) for m, p in own.items()}
    rule = decision.product_rule if name.startswith("product") else decision.average
    return model.calibrations[name](rule(q))[0]


@pytest.mark.parametrize("name", methods_of(NAMES))
def test_each_row_is_answered_by_what_it_has(models, rows, name):
    model, (x, there) = models[name], rows
    assert model.name == name and model.modalities == NAMES
    answer = model.answer(x, there)
    assert answer.read[:2] == [(), ()] and answer.label[:2].tolist() == [-1, -1]
    assert answer.values[:2].isnan().all() and answer.values.dtype == torch.float64
    for row in range(2, len(answer.label)):
        players = answered_by(PATTERNS[row // 2], model.method.reads)
        assert answer.read[row] == players
        found = answer.values[row]
        assert torch.allclose(found, expected(model, x, row, players), atol=1e-6), players
        assert found.sum() == pytest.approx(1)


@pytest.mark.parametrize("name", ["early", "late", "product", "early without text", "audio"])
def test_contributions_are_the_mean_gain_over_all_orders_of_arrival(models, rows, name):
    model, (x, there) = models[name], rows
    answer = model.answer(x, there)
    for row, read in enumerate(answer.read):
        gains = dict.fromkeys(NAMES, 0.0)
        for order in permutations(read):
            before = model.shares[answer.label[row]]
            for k, m in enumerate(order):
                only = {n: torch.tensor([n in order[: k + 1]]) for n in NAMES}
                alone = model.answer({n: v[row, None] for n, v in x.items()}, only)
                after = float(alone.values[0, answer.label[row]])
                gains[m] += after - before
                before = after
        orders = len(list(permutations(read)))
        for m in NAMES:
            assert answer.contributions[m][row] == pytest.approx(gains[m] / orders, abs=1e-6)


@pytest.mark.parametrize("name", methods_of(NAMES))
def test_contributions_sum_to_what_was_gained_over_the_share_of_the_class(models, rows, name):
    answer = models[name].answer(*rows)
    total = torch.stack(list(answer.contributions.values())).sum(0)
    share = torch.tensor(models[name].shares).double()[answer.label]
    said = answer.values.gather(1, answer.label.clamp(min=0)[:, None])[:, 0]
    assert torch.allclose(total[2:], (said - share)[2:], atol=1e-12)
    assert total[:2].tolist() == [0, 0]
    for row, read in enumerate(answer.read):
        assert all(answer.contributions[m][row] == 0 for m in NAMES if m not in read)


def test_shapley_of_a_game_worked_by_hand():
    """Gloves: a has a left one, b and c a right one each, a pair is worth 1: 2/3, 1/6, 1/6."""
    players = ("a", "b", "c")
    value = {t: torch.tensor([float("a" in t and len(t) > 1)]) for t in [(), *subsets(players)]}
    shares = [float(shapley(m, players, value)) for m in players]
    assert shares == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    assert list(subsets(("a", "b"))) == [("a",), ("b",), ("a", "b")]


@pytest.mark.parametrize("name", ["late", "early", "image"])
def test_a_row_alone_is_answered_as_among_others(models, rows, name):
    x, there = rows
    whole = models[name].answer(x, there)
    for i in range(2, len(whole.label)):
        one = models[name].answer(
            {m: v[i, None] for m, v in x.items()}, {m: v[i, None] for m, v in there.items()}
        )
        assert torch.allclose(one.values[0], whole.values[i], atol=1e-6)
        assert one.label[0] == whole.label[i] and one.read[0] == whole.read[i]
        for m in NAMES:
            assert torch.allclose(one.contributions[m][0], whole.contributions[m][i], atol=1e-6)


def test_columns_that_the_table_lacks_and_that_the_model_does_not_know(models, rows):
    """No features of the sound at all, and a modality that the model was not trained with."""
    x, there = rows
    silent = there | {"audio": torch.zeros(len(there["text"]), dtype=torch.bool)}
    usual = models["late"].answer(x, silent)
    told = {m: x[m] for m in ("text", "image")} | {"numbers": torch.ones(16, 2)}
    known = {m: there[m] for m in ("text", "image")} | {"numbers": torch.ones(16).bool()}
    answer = models["late"].answer(told, known)
    assert torch.equal(answer.values.nan_to_num(-1), usual.values.nan_to_num(-1))
    assert answer.read == usual.read and answer.contributions["numbers"].tolist() == [0.0] * 16
    only_numbers = [k for k, t in enumerate(PATTERNS) if not {"text", "image"} & {*t}]
    assert {k // 2 for k in torch.nonzero(answer.label == -1).flatten().tolist()} == {*only_numbers}


def test_a_model_keeps_what_it_needs_trained_on_every_row_that_each_head_can_read(models, table):
    singles = {*NAMES}
    assert {*models["early"].heads} == singles | {"early"}
    assert {*models["early"].calibrations} == singles | {"early", "late"}
    assert {*models["product"].heads} == singles
    assert {*models["product"].calibrations} == singles | {"product", "late"}
    assert {*models["text"].calibrations} == singles | {"late"}
    assert {*models["early without text"].heads} == singles | {"early without text"}
    assert {*models["early without text"].heads["early without text"].encoders} == singles - {
        "text"
    }
    for m, n in zip(NAMES, (98, 98, 99), strict=True):
        known = table.features[m][table.present[m]]
        assert len(known) == n
        for head in ("early", m):  # all that have m, whatever else they lack
            assert torch.allclose(models["early"].heads[head].encoders[m].mean, known.mean(0))
    assert models["early"].shares == pytest.approx([0.5, 0.25, 0.25])


def test_a_strength_that_was_chosen_is_used(table, choice, models):
    strong = replace(winning(choice, "early"), strengths=dict.fromkeys(choice.strengths, 1e4))
    weights = train_final(table, strong, device="cpu").heads["early"].fusion.project["text"].weight
    usual = models["early"].heads["early"].fusion.project["text"].weight
    assert weights.norm() < 0.2 * usual.norm()


def test_the_two_decisions_differ_where_a_rare_class_is_spoken_for(synthetic):
    """Class b is rare: what speaks for it a little is still most likely a."""
    table = synthetic(n=160, where=((-0.5, -0.5),) * 7 + ((0.5, 0.5),))
    table = replace(table, labels=(table.labels == 7).long(), classes=("a", "b"))
    choice = choose(table, **QUICK)
    there = {m: torch.ones(160, dtype=torch.bool) for m in ("text", "image")}
    answers = {
        d: train_final(table, choice, d, "cpu").answer(table.features, there)
        for d in ("balanced", "likeliest")
    }
    balanced, likeliest = answers["balanced"], answers["likeliest"]
    assert torch.equal(balanced.values, likeliest.values)
    assert train_final(table, choice, device="cpu").shares == pytest.approx([7 / 8, 1 / 8])
    assert torch.equal(likeliest.label, likeliest.values.argmax(1))
    assert (balanced.label == 1).sum() > (likeliest.label == 1).sum() + 10
    # probabilities are as frequent as the classes; the balanced decision's label need not be the
    # most probable, and its contributions are to the label that was said
    assert likeliest.values[:, 1].mean() == pytest.approx(1 / 8, abs=0.05)
    moved = torch.nonzero((balanced.label == 1) & (likeliest.label == 0)).flatten()
    gained = sum(balanced.contributions[m][moved] for m in there)
    assert torch.allclose(gained, balanced.values[moved, 1] - 1 / 8)


def test_a_modality_that_was_left_out_is_not_read(synthetic):
    table = synthetic(n=40, where=((-2, 0), (2, 0)), lacking=[("image", i) for i in range(38)])
    choice = choose(table, **QUICK)
    model = train_final(table, choice, device="cpu")
    assert choice.left_out == ("image",) and model.modalities == ("text",)
    assert {*model.heads} == {"text"} == {*model.calibrations}
    g = torch.Generator().manual_seed(0)
    x = {"text": torch.randn(3, 4, generator=g), "image": torch.full((3, 3), torch.nan)}
    there = {"text": torch.tensor([True, True, False]), "image": torch.tensor([True, False, True])}
    answer = model.answer(x, there)
    assert answer.values.isnan().any(1).tolist() == [False, False, True]
    assert answer.label[2] == -1 and answer.read == [("text",), ("text",), ()]
    p = answer.values.gather(1, answer.label.clamp(min=0)[:, None])[:2, 0]
    assert answer.contributions["text"][:2].tolist() == pytest.approx((p - 0.5).tolist())
    assert answer.contributions["image"].tolist() == [0, 0, 0]


MEAN, DEVIATION = 250.0, 40.0


@pytest.fixture(scope="module")
def priced(synthetic):
    """Return a table of a number, in units of its deviation, that a text and two columns tell; of
    the columns one is bent and some of its values are unknown."""
    rng = np.random.default_rng(3)
    table = synthetic(150, ((0,),), (4,), ("text",), lacking=[("text", i) for i in range(9)])
    columns = rng.uniform(-2, 2, (150, 2)).astype("float32")
    known = np.ones((150, 2), "float32")
    known[::10, 1] = 0
    text = table.features["text"][:, 0].nan_to_num(0).numpy()
    y = text + np.abs(columns[:, 0]) + 0.5 * columns[:, 1] + 0.1 * rng.standard_normal(150)
    y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)
    features = table.features | {"numbers": torch.from_numpy(np.hstack([columns, known]))}
    present = table.present | {"numbers": torch.arange(150) % 30 != 1}
    return replace(
        table, features=features, labels=y, classes=(), present=present, knots={"numbers": 5}
    )


@pytest.fixture(scope="module")
def compared(priced):
    return choose(priced, **QUICK)


@pytest.mark.parametrize("name", ["text", "numbers", "early", "late"])
def test_numbers_are_told_in_their_own_unit_and_shared_out_over_the_mean(priced, compared, name):
    model = train_final(priced, winning(compared, name), device="cpu", target=(MEAN, DEVIATION))
    answer = model.answer(priced.features, priced.present)
    assert isinstance(answer, Answer) and answer.values.shape == (150, 1)
    total = torch.stack(list(answer.contributions.values())).sum(0)
    silent = torch.tensor([not r for r in answer.read])
    assert torch.nonzero(silent).flatten().tolist() == [1]  # neither a text nor numbers
    assert answer.label.tolist() == [-1 if k == 1 else 0 for k in range(150)]
    assert torch.allclose(total[~silent], answer.values[~silent, 0] - MEAN, atol=1e-9)
    for row in (0, 31, 40, 77):  # without a text; without numbers; one unknown; whole
        read = answer.read[row]
        key = read[0] if len(read) == 1 else name
        with torch.no_grad():
            parts = {m: model.heads[m]({m: priced.features[m][row, None]}) for m in read}
            if key == "early":
                parts = {key: model.heads[key]({m: priced.features[m][row, None] for m in read})}
        if key == "late":
            own = [model.calibrations[m](v) for m, v in parts.items()]
            parts = {key: torch.stack(own).mean(0)}
        said = float(model.calibrations[key](parts[key]))
        assert float(answer.values[row, 0]) == pytest.approx(MEAN + DEVIATION * said, abs=1e-4)
        assert model.spread(read) == pytest.approx(DEVIATION * model.calibrations[key].spread)
    assert 0 < model.spread(("numbers",)) < 2 * DEVIATION


def test_numbers_are_learnt(priced, compared):
    scores = {m: each.mean() for m, each in compared.scores.items()}
    assert compared.best() == "early" and scores["early"] > 0.8
    assert max(scores["text"], scores["numbers"]) < 0.7
    model = train_final(priced, winning(compared, "early"), device="cpu", target=(MEAN, DEVIATION))
    whole = priced.having(priced.modalities)
    answer = model.answer(priced.features, priced.present)
    error = answer.values[whole, 0] - (MEAN + DEVIATION * priced.labels[whole])
    within = (error.abs() <= model.spread(priced.modalities)).double().mean()
    assert error.abs().mean() < 0.4 * DEVIATION and 0.7 < within < 0.98


def test_a_model_of_classes_has_no_spread(models):
    assert models["early"].spread(NAMES) == 0.0 == models["early"].spread(("text",))
