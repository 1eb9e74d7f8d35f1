import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from mmtutor.fusion.decision import Stacking


def some(n=60, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    probs = {
        m: torch.randn(n, 3, generator=generator).softmax(1).to(dtype) for m in ("image", "text")
    }
    return probs, probs["image"].argmax(1)


def test_before_fit_there_is_nothing_to_predict_with():
    with pytest.raises(RuntimeError, match="call fit first"):
        Stacking().predict_proba(some()[0])


def test_other_modalities_than_in_training_are_named():
    probs, y = some()
    model = Stacking().fit(probs, y)
    with pytest.raises(KeyError, match=r"lacks \['text'\]"):
        model.predict_proba({"image": probs["image"]})
    with pytest.raises(KeyError, match=r"unknown \['lidar'\]"):
        model.predict_proba({**probs, "lidar": probs["text"]})
    with pytest.raises(KeyError, match="lidar"):
        model.predict_proba(probs, {"lidar": torch.ones(60, dtype=torch.bool)})


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (
            torch.full((60,), 1),
            r"labels \[1\] where somebody is present, expected two or more of 0..2",
        ),
        (
            torch.arange(60) % 4,
            r"labels \[0 1 2 3\] where somebody is present, expected two or more of 0..2",
        ),
        (torch.arange(60) % 3 - 1, r"labels \[-1  0  1\]"),
        (torch.arange(59) % 3, r"shape \(59,\), expected \(60,\)"),
        (torch.zeros(60, 3), r"shape \(60, 3\)"),
    ],
)
def test_labels_that_cannot_be_are_named(y, words):
    with pytest.raises(ValueError, match=words):
        Stacking().fit(some()[0], y)


def test_an_empty_training_set_is_refused():
    with pytest.raises(ValueError, match="expected two or more"):
        Stacking().fit({m: p[:0] for m, p in some()[0].items()}, torch.zeros(0, dtype=torch.long))


def test_opinions_that_are_no_probabilities_are_named():
    probs, y = some()
    bad = {**probs, "text": 2 * probs["text"]}
    with pytest.raises(ValueError, match="text"):
        Stacking().fit(bad, y)
    with pytest.raises(ValueError, match="text"):
        Stacking().fit(probs, y).predict_proba(bad)


def test_a_class_that_training_never_showed_has_probability_zero():
    probs, y = some()
    model = Stacking().fit(probs, torch.where(y == 1, 2, y))
    out = model.predict_proba(probs)
    assert (out[:, 1] == 0).all() and (out[:, [0, 2]] > 0).all()
    torch.testing.assert_close(out.sum(1), torch.ones(60))
    assert ((out[:, 2] > 0.5) == (y > 0)).float().mean() > 0.85, (
        "the columns of 0 and 2 are not swapped"
    )


def test_nobody_present_is_given_the_shares_of_training():
    probs, _ = some()
    y = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
    nobody = {m: torch.zeros(60, dtype=torch.bool) for m in probs}
    out = Stacking().fit(probs, y).predict_proba(probs, nobody)
    torch.testing.assert_close(out, torch.tensor([[1 / 2, 1 / 3, 1 / 6]]).expand(60, 3))
    mixed = {m: torch.arange(60) > 0 for m in probs}
    out = Stacking().fit(probs, y).predict_proba(probs, mixed)
    torch.testing.assert_close(out[0], torch.tensor([1 / 2, 1 / 3, 1 / 6]))
    torch.testing.assert_close(out[1:], Stacking().fit(probs, y).predict_proba(probs)[1:])


def test_rows_in_which_nobody_is_present_teach_nothing_but_their_share():
    probs, y = some()
    here = torch.arange(60) < 40
    present = dict.fromkeys(probs, here)
    model = Stacking().fit(probs, y, present)
    of_those = Stacking().fit({m: p[:40] for m, p in probs.items()}, y[:40])
    torch.testing.assert_close(model.predict_proba(probs), of_those.predict_proba(probs))
    nobody = model.predict_proba(probs, dict.fromkeys(probs, torch.zeros(60, dtype=torch.bool)))
    torch.testing.assert_close(nobody[0], torch.bincount(y, minlength=3) / 60)


def test_what_stands_in_an_absent_slot_changes_nothing():
    probs, y = some()
    present = {"text": torch.arange(60) % 3 > 0}
    spoiled = {**probs, "text": torch.where(present["text"][:, None], probs["text"], float("nan"))}
    ours = Stacking().fit(spoiled, y, present).predict_proba(spoiled, present)
    torch.testing.assert_close(
        ours, Stacking().fit(probs, y, present).predict_proba(probs, present)
    )


def test_the_order_of_modalities_at_prediction_does_not_matter():
    probs, y = some()
    model = Stacking().fit(probs, y)
    turned = model.predict_proba(dict(reversed(probs.items())))
    torch.testing.assert_close(turned, model.predict_proba(probs), rtol=0, atol=0)


def test_it_learns_whom_to_believe():
    probs, y = some(400)
    out = (
        Stacking()
        .fit({m: p[:200] for m, p in probs.items()}, y[:200])
        .predict_proba({m: p[200:] for m, p in probs.items()})
    )
    assert (out.argmax(1) == y[200:]).float().mean() > 0.95  # image knows, text does not
    mean = sum(p[200:] for p in probs.values())
    assert (mean.argmax(1) == y[200:]).float().mean() < 0.85


def test_any_classifier_is_copied_and_left_alone():
    probs, y = some()
    tree = DecisionTreeClassifier(max_depth=3, random_state=0)
    model = Stacking(tree).fit(probs, y)
    assert not hasattr(tree, "tree_") and model.estimator_.get_depth() <= 3
    assert isinstance(Stacking().estimator, LogisticRegression)


def test_labels_of_any_kind_and_opinions_of_any_precision():
    probs, y = some()
    expected = Stacking().fit(probs, y).predict_proba(probs)
    torch.testing.assert_close(Stacking().fit(probs, y.numpy()).predict_proba(probs), expected)
    half = {m: p.bfloat16() for m, p in probs.items()}
    out = Stacking().fit(half, y).predict_proba(half)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=0, atol=0.05)
    learning = {m: p.clone().requires_grad_() for m, p in probs.items()}
    assert not Stacking().fit(learning, y).predict_proba(learning).requires_grad


def test_an_empty_batch_has_an_empty_answer():
    probs, y = some()
    assert Stacking().fit(probs, y).predict_proba({m: p[:0] for m, p in probs.items()}).shape == (
        0,
        3,
    )
