import dataclasses
import math

import numpy as np
import pytest
import torch

from mmtutor import information
from mmtutor.information import neural

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 2))
Y = X[:, :1] + 0.3 * RNG.standard_normal((200, 1))
each_bound = pytest.mark.parametrize("estimate", [information.infonce_mi, information.mine_mi])


@each_bound
def test_the_same_seed_gives_the_same_bound_and_leaves_the_global_generator_alone(estimate):
    state = torch.random.get_rng_state()
    a, b, c = (estimate(X, Y, batch=32, steps=20, seed=s) for s in (3, 3, 4))
    assert a == b != c
    assert torch.equal(state, torch.random.get_rng_state())


@each_bound
def test_bits_are_nats_over_ln_two(estimate):
    nats, bits = (estimate(X, Y, batch=32, steps=50, units=u) for u in ("nats", "bits"))
    for name in ("fresh", "train", "ceiling"):
        if getattr(nats, name) is not None:
            assert getattr(bits, name) == pytest.approx(getattr(nats, name) / math.log(2))


def test_only_infonce_has_a_ceiling_and_a_bound_stays_as_it_is():
    bound = information.infonce_mi(X, Y, batch=20, steps=1)
    assert bound.ceiling == pytest.approx(math.log(20))
    assert information.mine_mi(X, Y, batch=20, steps=1).ceiling is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        bound.fresh = 9.0


@each_bound
def test_fresh_samples_are_judged_and_not_learnt(estimate):
    """Shuffled fresh pairs hold nothing: the fresh value falls, the training value does not
    notice."""
    fresh = RNG.permutation(X), Y
    kept, lost = (estimate(X, Y, fresh=f, batch=32, steps=150) for f in ((X, Y), fresh))
    assert lost.train == pytest.approx(kept.train, abs=0.1) and kept.train > 0.3
    assert lost.fresh < 0.1 < 0.3 < kept.fresh


@each_bound
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fresh": 0.0}, "between 0 and 1, not 0.0"),
        ({"fresh": 1.0}, "between 0 and 1"),
        ({"fresh": True}, "between 0 and 1"),
        ({"fresh": (X, Y[:-1])}, "fresh x has 200 samples and fresh y 199"),
        ({"fresh": (X[:, :1], Y)}, "fresh x has 1 columns, expected 2"),
        ({"fresh": (X, X)}, "fresh y has 2 columns, expected 1"),
        (
            {"fresh": 0.1, "batch": 30},
            r"batch must be a whole number from 2 to 20, not 30: there are 180 .* 20 fresh",
        ),
        ({"batch": 1}, "batch must be a whole number from 2"),
        ({"batch": 16.0}, "batch must be a whole number"),
        ({"batch": 16, "steps": 0}, "steps must be a whole number of 1 or more, not 0"),
        ({"x": X[:-1]}, "x has 199 samples and y 200"),
        ({"y": np.ones(200), "batch": 16}, "y is constant"),
        ({"x": np.where(X > 2, np.nan, X)}, "x holds"),
    ],
)
def test_what_cannot_be_is_named(estimate, change, words):
    arguments = {"x": X, "y": Y} | change
    with pytest.raises(ValueError, match=words):
        estimate(**arguments)


@each_bound
def test_units_of_the_samples_do_not_matter(estimate):
    plain = estimate(X, Y, batch=32, steps=50)
    moved = estimate(1e6 * X - 5e6, torch.from_numpy(1e-6 * Y), batch=32, steps=50)
    assert moved.fresh == pytest.approx(plain.fresh, abs=1e-2)


def test_contrast_by_hand():
    a, b = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    # scores [[1, 0], [2, 2]]: ln of softmax on the diagonal, + ln 2
    expected = (-math.log(1 + math.exp(-1)) - math.log(2)) / 2 + math.log(2)
    assert neural._contrast(a, b).item() == pytest.approx(expected)
    assert neural._contrast(torch.stack([a, b]), torch.stack([b, b])).shape == ()


def test_the_gradient_is_divided_by_the_moving_average():
    """∂/∂T_i of mean T - mean e^T / E: 1/B on true pairs, e^T_i / (B E) on false ones, E = .99 old
    + .01 new."""
    true, false = torch.tensor([0.3, -1.0]), torch.tensor([0.5, 2.0, -1.0])
    true.requires_grad_(), false.requires_grad_()
    old = 4.0
    loss, after = neural._donsker_varadhan_loss(true, false, torch.tensor(math.log(old)))
    loss.backward()
    average = 0.99 * old + 0.01 * false.exp().mean().item()
    assert after.exp().item() == pytest.approx(average, rel=1e-6)
    torch.testing.assert_close(true.grad, torch.full((2,), -0.5))
    torch.testing.assert_close(false.grad, false.detach().exp() / 3 / average)


def test_the_first_average_is_the_batch_itself():
    false = torch.tensor([0.0, math.log(3)])
    _, after = neural._donsker_varadhan_loss(torch.zeros(2), false, None)
    assert after.exp().item() == pytest.approx(2.0)


def test_scores_that_overflow_are_compared_all_the_same():
    loss, after = neural._donsker_varadhan_loss(
        torch.tensor([500.0]), torch.tensor([400.0, 400.0]), None
    )
    assert loss.item() == pytest.approx(-499) and after.item() == pytest.approx(400)


def test_a_critic_that_left_the_numbers_is_reported():
    with pytest.raises(RuntimeError, match=r"diverged.*fewer steps or a larger batch"):
        neural._evaluate(lambda a, b: math.nan, (X, Y), (X, Y), None, 1.0)


def test_both_sides_are_standardised_by_the_training_samples_alone():
    """Whoever scales by all samples has looked at the fresh ones."""
    fresh = (3 * X + 5, 0.1 * Y - 7)
    generator = torch.Generator().manual_seed(0)
    train, held = neural._sides(X, Y, fresh, 16, generator)
    for given, other, known, judged in zip((X, Y), fresh, train, held, strict=True):
        columns = given.reshape(len(given), -1)
        mean, std = columns.mean(0), columns.std(0)
        np.testing.assert_allclose(known, (columns - mean) / std, rtol=0, atol=1e-5)
        expected = (other.reshape(len(other), -1) - mean) / std
        np.testing.assert_allclose(judged, expected, rtol=1e-5, atol=1e-4)


def test_a_share_that_is_set_aside_is_drawn_at_random_and_each_sample_is_on_one_side():
    place = np.arange(200.0)
    sides = [
        neural._sides(place, 2 * place, 0.25, 16, torch.Generator().manual_seed(seed))
        for seed in (0, 1)
    ]
    drawn = []
    for (x_train, y_train), (x_held, y_held) in sides:
        assert (len(x_train), len(x_held)) == (150, 50)
        torch.testing.assert_close(x_train, y_train)  # pairs stay together
        torch.testing.assert_close(x_held, y_held)
        order = torch.cat([x_train, x_held])[:, 0].argsort(stable=True)
        assert len(torch.cat([x_train, x_held]).unique()) == 200
        drawn.append(set(order.argsort()[150:].tolist()))
    assert drawn[0] != drawn[1]
    for held in drawn:  # 50 of 200 at random: about half of them in either half
        assert 10 < sum(row < 100 for row in held) < 40
