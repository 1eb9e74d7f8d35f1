"""The trained tool: who answers for which post, what an absent modality may hold, labels of either
decision."""

from dataclasses import replace

import pytest
import torch

from mmtutor.apps.classifier import SentimentModel, train_final
from mmtutor.choosing.heads import late
from mmtutor.choosing.nested import choose

pytestmark = pytest.mark.usefixtures("own_cache", "small_models_on_one_thread")

WHERE = ((-1, -1), (-1, 1), (1, -1), (1, 1))


@pytest.fixture(scope="module")
def table(synthetic):
    lacking = [("image", 7), ("image", 8), ("text", 21)]
    return synthetic(n=100, where=WHERE, noise=0.7, lacking=lacking)


@pytest.fixture(scope="module")
def choice(table):
    return choose(table, splits=3, repeats=1, device="cpu", progress=False)


def model_of(table, choice, method, decision="balanced") -> SentimentModel:
    scores = {m: torch.tensor([float(m == method)]) for m in choice.methods}
    return train_final(table, replace(choice, scores=scores), decision, "cpu")


@pytest.fixture(scope="module")
def models(table, choice) -> dict[str, SentimentModel]:
    return {
        method: model_of(table, choice, method) for method in ("text", "image", "early", "late")
    }


def some(n=6):
    g = torch.Generator().manual_seed(5)
    return {"text": 2 * torch.randn(n, 4, generator=g), "image": 2 * torch.randn(n, 3, generator=g)}


def present(text, image):
    return {
        "text": torch.tensor(text, dtype=torch.bool),
        "image": torch.tensor(image, dtype=torch.bool),
    }


def test_a_model_keeps_the_heads_that_it_needs_trained_on_all_posts_that_each_can_read(
    models, table, monkeypatch
):
    assert (
        set(models["early"].heads)
        == {"text", "image", "early"}
        == set(models["early"].calibrations)
    )
    for method in ("text", "image"):
        assert set(models[method].heads) == {"text", "image"} == set(models[method].calibrations)
    assert set(models["late"].heads) == {"text", "image"} and set(models["late"].calibrations) == {
        "text",
        "image",
        "late",
    }
    assert models["late"].modalities == ("text", "image")
    # 99 posts have a text, 98 a picture: the centre of each head is the mean of just these
    for m, n in (("text", 99), ("image", 98)):
        known = table.features[m][table.present[m]]
        assert len(known) == n
        assert torch.allclose(models["early"].heads[m].encoders[m].mean, known.mean(0), atol=1e-6)
    both = table.samples(table.having(("text", "image")).nonzero().flatten(), ("text", "image"))
    assert torch.allclose(
        models["early"].heads["early"].encoders["text"].mean,
        both.features["text"].mean(0),
        atol=1e-6,
    )


def test_shares_are_those_of_the_training_posts(models):
    assert models["early"].shares == pytest.approx([0.25] * 4)


@pytest.mark.parametrize("method", ["text", "image", "early", "late"])
def test_each_post_is_answered_by_what_it_has(models, method):
    model, x = models[method], some()
    there = present([1, 1, 0, 1, 0, 1], [1, 0, 1, 1, 0, 1])
    for m in x:
        x[m][~there[m]] = torch.nan  # what stands in an absent slot is never looked at
    answer = model.predict(x, there)
    said = {
        name: head({m: x[m] for m in head.encoders}).softmax(1)
        for name, head in model.heads.items()
    }
    if method == "late":
        said["late"] = torch.full((6, 4), torch.nan)
        rows = [0, 3, 5]
        said["late"][rows] = late({m: said[m][rows] for m in ("text", "image")})
    for row, name in enumerate([method, "text", "image", method, None, method]):
        if name is None:
            assert answer.probabilities[row].isnan().all() and answer.label[row] == -1
            assert all(answer.contributions[m][row] == 0 for m in x)
        else:
            q = said[name][row].detach()
            assert torch.allclose(
                answer.probabilities[row], model.calibrations[name](q[None])[0], atol=1e-6
            ), row
            assert answer.label[row] == q.argmax()
    assert answer.contributions["image"][1] == 0 == answer.contributions["text"][2], (
        "an absent modality adds nothing"
    )


def test_one_post_alone_is_answered_as_among_others(models):
    x, there = some(), present([1] * 6, [1, 1, 0, 1, 1, 1])
    whole = models["late"].predict(x, there)
    for i in range(6):
        one = models["late"].predict(
            {m: v[i : i + 1] for m, v in x.items()}, {m: v[i : i + 1] for m, v in there.items()}
        )
        assert torch.allclose(one.probabilities[0], whole.probabilities[i], atol=1e-6)
        assert one.contributions["text"][0] == pytest.approx(
            float(whole.contributions["text"][i]), abs=1e-6
        )


def test_the_two_decisions_differ_where_a_rare_class_is_spoken_for(synthetic):
    """Class b is rare: what speaks for it a little is still most likely a."""
    where = ((-0.5, -0.5),) * 7 + ((0.5, 0.5),)
    table = synthetic(n=160, where=where)
    table = replace(table, labels=(table.labels == 7).long(), classes=("a", "b"))
    choice = choose(table, splits=3, repeats=1, device="cpu", progress=False)
    x = {m: table.features[m] for m in ("text", "image")}
    there = {m: torch.ones(160, dtype=torch.bool) for m in x}
    answers = {
        d: train_final(table, choice, d, "cpu").predict(x, there) for d in ("balanced", "likeliest")
    }
    assert torch.equal(answers["balanced"].probabilities, answers["likeliest"].probabilities)
    likeliest = answers["likeliest"]
    assert train_final(table, choice, device="cpu").shares == pytest.approx([7 / 8, 1 / 8])
    assert torch.equal(likeliest.label, likeliest.probabilities.argmax(1))
    assert (answers["balanced"].label == 1).sum() > (likeliest.label == 1).sum() + 10
    # probabilities are as frequent as the classes; the balanced decision's label need not be the
    # most probable
    assert likeliest.probabilities[:, 1].mean() == pytest.approx(1 / 8, abs=0.05)
    with pytest.raises(ValueError, match="unknown decision 'median'; known: balanced"):
        train_final(table, choice, "median", "cpu")


def test_a_model_without_pictures_reads_texts_only(synthetic):
    table = synthetic(n=40, where=((-2, 0), (2, 0)), lacking=[("image", i) for i in range(40)])
    choice = choose(table, splits=3, repeats=1, device="cpu", progress=False)
    model = train_final(table, choice, device="cpu")
    assert model.modalities == ("text",) and set(model.heads) == {"text"} == set(model.calibrations)
    x = some(3)
    x["image"][:] = torch.nan
    answer = model.predict(x, present([1, 1, 0], [1, 0, 1]))
    assert (
        answer.probabilities.isnan().any(1).tolist() == [False, False, True]
        and answer.label[2] == -1
    )
    p = answer.probabilities.gather(1, answer.label.clamp(min=0)[:, None])[:2, 0]
    assert answer.contributions["text"][:2].tolist() == pytest.approx((p - 0.5).tolist())
    assert answer.contributions["image"].tolist() == [0, 0, 0]
