import math

import pytest
import torch

from mmtutor.robustness import CrossModalImputer
from mmtutor.types import Samples

DIMS = {"image": 4, "text": 3, "audio": 2}


def world(
    n: int = 200, seed: int = 0, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """Three modalities that say the same two things, each in its own way, about means of their
    own."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 2, generator=generator)
    mix = torch.Generator().manual_seed(42)
    return {
        m: (
            z @ torch.randn(2, d, generator=mix) + 5 + 0.1 * torch.randn(n, d, generator=generator)
        ).to(dtype)
        for m, d in DIMS.items()
    }


def samples(features, present=None) -> Samples:
    return Samples(
        features, torch.zeros(len(next(iter(features.values()))), dtype=torch.int64), present
    )


def absent(n: int, **rows) -> dict[str, torch.Tensor]:
    return {m: torch.tensor([i not in where for i in range(n)]) for m, where in rows.items()}


def test_what_is_there_stays_and_what_is_guessed_is_near_the_truth():
    truth, there = world(20, seed=1), absent(20, image=range(0, 10), text=range(5, 15))
    hidden = {
        m: torch.where(there[m][:, None], x, math.nan) if m in there else x
        for m, x in truth.items()
    }
    kept = {m: x.clone() for m, x in hidden.items()}
    out = CrossModalImputer().fit(samples(world())).transform(samples(hidden, there))
    for m, x in truth.items():
        rows = there.get(m, torch.ones(20, dtype=torch.bool))
        assert torch.equal(out.features[m][rows], x[rows])
        assert (out.features[m] - x).square().mean() < 0.1 * x.var()
        # not in place
        torch.testing.assert_close(hidden[m], kept[m], equal_nan=True, rtol=0, atol=0)
    assert list(out.present) == list(DIMS) and all(
        bool(mask.all()) for mask in out.present.values()
    )


def test_who_has_nothing_stays_absent():
    there = absent(6, image=[0, 1], text=[0, 2], audio=[0])
    out = CrossModalImputer().fit(samples(world())).transform(samples(world(6), there))
    for m, x in world(6).items():
        assert torch.equal(out.features[m][0], x[0])
        assert out.present[m].tolist() == [False] + [True] * 5


def test_a_guess_does_not_depend_on_the_neighbours_or_on_the_order_of_modalities():
    imputer = CrossModalImputer().fit(samples(world()))
    there = absent(20, image=range(0, 10), text=range(5, 15))
    together = imputer.transform(samples(world(20, seed=1), there))
    alone = imputer.transform(samples(world(20, seed=1), there)[7:8])
    backwards = samples(dict(reversed(world(20, seed=1).items())), dict(reversed(there.items())))
    turned = imputer.transform(backwards)
    assert list(turned.features) == ["audio", "text", "image"]
    for m in DIMS:
        torch.testing.assert_close(
            alone.features[m][0], together.features[m][7], rtol=1e-6, atol=1e-6
        )
        torch.testing.assert_close(turned.features[m], together.features[m], rtol=0, atol=0)


def test_incomplete_training_samples_are_left_out():
    features = world(40)
    there = absent(40, text=range(10))
    loud = features | {"image": torch.cat([features["image"][:10] * 100, features["image"][10:]])}
    one = CrossModalImputer().fit(samples(loud, there))
    other = CrossModalImputer().fit(samples(features)[10:])
    asked = samples(world(5, seed=2), absent(5, audio=range(5)))
    torch.testing.assert_close(
        one.transform(asked).features["audio"], other.transform(asked).features["audio"]
    )


def test_dtype_and_labels_pass_through():
    asked = Samples(world(5, dtype=torch.float64), torch.arange(5), absent(5, audio=[3]))
    out = CrossModalImputer().fit(samples(world(dtype=torch.float64))).transform(asked)
    assert all(x.dtype == torch.float64 for x in out.features.values())
    assert torch.equal(out.labels, asked.labels)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_the_gpu_the_guesses_are_the_same():
    train, asked = (
        samples(world()),
        samples(world(20, seed=1), absent(20, image=range(0, 10), text=range(5, 15))),
    )
    here = CrossModalImputer().fit(train).transform(asked)
    there = CrossModalImputer().fit(train.to("cuda")).transform(asked.to("cuda"))
    for m in DIMS:
        assert there.features[m].device.type == "cuda"
        torch.testing.assert_close(there.features[m].cpu(), here.features[m], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.nan, math.inf])
def test_a_penalty_that_cannot_be_is_refused(alpha):
    with pytest.raises(ValueError, match=r"alpha must be a finite number above 0"):
        CrossModalImputer(alpha)


@pytest.mark.parametrize(
    ("features", "present", "error", "words"),
    [
        (
            world(4),
            absent(4, text=range(4)),
            ValueError,
            r"0 of 4 samples are complete.*'image': 4, 'text': 0",
        ),
        (
            world(4),
            absent(4, text=[0, 1], image=[2]),
            ValueError,
            "1 of 4 samples are complete, expected 2",
        ),
        (
            {"image": world(4)["image"]},
            None,
            ValueError,
            r"modalities \['image'\], expected 2 or more",
        ),
        (
            world(4) | {"text": torch.ones(4, 6, 3)},
            None,
            ValueError,
            r"features\['text'\] has shape \(4, 6, 3\)",
        ),
        (
            world(4) | {"text": torch.full((4, 3), math.nan)},
            None,
            ValueError,
            r"train features\['text'\] hold NaN",
        ),
        (world(4), {"lidar": torch.ones(4, dtype=torch.bool)}, KeyError, "lidar"),
    ],
)
def test_training_samples_it_cannot_learn_from_are_named(features, present, error, words):
    with pytest.raises(error, match=words):
        CrossModalImputer().fit(samples(features, present))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"text": None}, KeyError, r"lacks \['text'\]"),
        ({"lidar": torch.ones(4, 2)}, KeyError, r"unknown \['lidar'\]"),
        (
            {"text": torch.ones(4, 5)},
            ValueError,
            r"features\['text'\] has shape \(4, 5\), expected \(B, 3\)",
        ),
        (
            {"text": torch.full((4, 3), math.inf)},
            ValueError,
            r"samples features\['text'\] hold NaN or inf",
        ),
    ],
)
def test_other_samples_than_in_training_are_refused(change, error, words):
    features = {m: x for m, x in (world(4) | change).items() if x is not None}
    with pytest.raises(error, match=words):
        CrossModalImputer().fit(samples(world())).transform(samples(features))


def test_it_must_learn_first():
    with pytest.raises(RuntimeError, match=r"call fit"):
        CrossModalImputer().transform(samples(world(4)))


def test_two_complete_samples_are_enough():
    CrossModalImputer().fit(samples(world(4), absent(4, text=[0, 1])))
