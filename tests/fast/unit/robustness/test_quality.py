import math

import pytest
import torch

from mmtutor.fusion import decision
from mmtutor.robustness import NoiseDetector, quality_vote
from mmtutor.types import Samples

DIMS = {"image": 5, "text": 3}
PROBS = {
    "image": torch.tensor([[0.9, 0.1], [0.2, 0.8]]),
    "text": torch.tensor([[0.5, 0.5], [0.6, 0.4]]),
}
HALF = {m: torch.full((2,), 0.5) for m in PROBS}


def features(n: int, seed: int, dims: dict[str, int] = DIMS) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        m: torch.randn(n, d, generator=generator) * torch.arange(1, d + 1) + 3
        for m, d in dims.items()
    }


def samples(x, present=None) -> Samples:
    return Samples(x, torch.zeros(len(next(iter(x.values())))), present)


def detector() -> NoiseDetector:
    return NoiseDetector().fit(samples(features(300, 0)), samples(features(99, 1)))


def test_noise_lowers_the_quality_of_its_own_modality_only():
    clean = features(200, 2)
    noisy = clean | {
        "image": clean["image"]
        + 8 * torch.randn(200, 5, generator=torch.Generator().manual_seed(3))
    }
    before, after = detector().quality(clean), detector().quality(noisy)
    assert after["image"].mean() < 0.1 < 0.4 < before["image"].mean()
    assert torch.equal(after["text"], before["text"])


def test_the_ends_are_the_mean_and_what_was_never_seen():
    ends = {m: torch.stack([torch.full((d,), 1e6), torch.full((d,), 3.0)]) for m, d in DIMS.items()}
    for m, q in detector().quality(ends).items():
        assert q[0].item() == pytest.approx(1 / 100), m  # 1 / (n + 1), never 0
        assert q[1].item() > 0.95, m
        assert q.dtype == torch.float32


def test_absent_modalities_have_no_quality_and_are_not_looked_at():
    asked = features(4, 2)
    asked["text"][1] = math.nan
    q = detector().quality(asked, {"text": torch.tensor([True, False, True, True])})
    assert q["text"][1] == 0 and bool((q["text"][[0, 2, 3]] > 0).all())
    clean, there = features(300, 0), torch.arange(300) >= 100
    hidden = clean | {"text": torch.where(there[:, None], clean["text"], math.nan)}
    held = samples(features(99, 1))
    one = NoiseDetector().fit(samples(hidden, {"text": there}), held)
    other = NoiseDetector().fit(samples({m: x[100:] for m, x in clean.items()}), held)
    torch.testing.assert_close(
        one.quality(features(9, 4))["text"], other.quality(features(9, 4))["text"]
    )


@pytest.mark.parametrize(
    ("clean", "held", "error", "words"),
    [
        (
            features(1, 0),
            features(9, 1),
            ValueError,
            "clean has 1 samples with 'image' present, expected at least 2",
        ),
        (features(9, 0), features(1, 1), ValueError, "held_out has 1 samples"),
        (features(9, 0), features(9, 1, {"image": 5}), KeyError, r"lacks \['text'\]"),
        (
            features(9, 0),
            features(9, 1, {"image": 5, "text": 4}),
            ValueError,
            r"features\['text'\] has shape \(9, 4\)",
        ),
        (
            {"image": torch.ones(9, 4, 5)},
            {"image": torch.ones(9, 4, 5)},
            ValueError,
            r"expected \(B, 5\)",
        ),
        (
            features(9, 0),
            {m: x * math.nan for m, x in features(9, 1).items()},
            ValueError,
            "held_out features.*NaN",
        ),
    ],
)
def test_samples_it_cannot_learn_from_are_named(clean, held, error, words):
    with pytest.raises(error, match=words):
        NoiseDetector().fit(samples(clean), samples(held))


def test_features_it_cannot_judge_are_named():
    with pytest.raises(RuntimeError, match="call fit"):
        NoiseDetector().quality(features(3, 0))
    with pytest.raises(ValueError, match=r"features\['text'\] hold NaN or inf"):
        detector().quality(features(3, 0) | {"text": torch.full((3, 3), math.inf)})
    with pytest.raises(KeyError, match="lidar"):
        detector().quality(features(3, 0) | {"lidar": torch.ones(3, 2)})


def test_each_sample_is_weighed_by_its_own_quality():
    quality = {"text": torch.tensor([0.25, 1.0]), "image": torch.tensor([0.75, 0.0])}
    torch.testing.assert_close(quality_vote(PROBS, quality), torch.tensor([[0.8, 0.2], [0.6, 0.4]]))


def test_absent_or_worthless_opinions_do_not_count():
    loud = {m: q.clone() for m, q in HALF.items()}
    loud["image"][0] = math.nan
    present = {"image": torch.tensor([False, True]), "text": torch.tensor([True, True])}
    torch.testing.assert_close(
        quality_vote(PROBS, loud, present), torch.tensor([[0.5, 0.5], [0.4, 0.6]])
    )
    nobody = {m: torch.zeros(2, dtype=torch.bool) for m in PROBS}
    torch.testing.assert_close(quality_vote(PROBS, HALF, nobody), torch.full((2, 2), 0.5))
    nothing = {m: torch.zeros(2) for m in PROBS}
    torch.testing.assert_close(quality_vote(PROBS, nothing), torch.full((2, 2), 0.5))


def test_gradients_reach_probabilities_and_quality():
    generator = torch.Generator().manual_seed(0)
    p = [
        torch.rand(3, 4, generator=generator, dtype=torch.float64).softmax(1).requires_grad_()
        for _ in range(2)
    ]
    q = [
        torch.rand(3, generator=generator, dtype=torch.float64).clamp(0.1, 0.9).requires_grad_()
        for _ in range(2)
    ]

    def vote(a, b, u, v):  # rows that a finite step moved off the simplex are within the tolerance
        return quality_vote({"a": a, "b": b}, {"a": u, "b": v})

    assert torch.autograd.gradcheck(vote, (*p, *q))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_the_gpu_qualities_and_votes_are_the_same():
    asked = features(2, 2)
    here, there = (
        detector().quality(asked),
        detector().quality({m: x.cuda() for m, x in asked.items()}),
    )
    vote = quality_vote({m: p.cuda() for m, p in PROBS.items()}, there)
    assert vote.device.type == "cuda"
    torch.testing.assert_close(vote.cpu(), quality_vote(PROBS, here))


@pytest.mark.parametrize(
    ("quality", "error", "words"),
    [
        ({"image": HALF["image"]}, KeyError, r"quality lacks \['text'\]"),
        (HALF | {"lidar": HALF["text"]}, KeyError, r"quality names unknown \['lidar'\]"),
        (
            HALF | {"text": torch.ones(3)},
            ValueError,
            r"quality\['text'\] has shape \(3,\), expected \(2,\)",
        ),
        (HALF | {"text": torch.ones(2, 1)}, ValueError, r"quality\['text'\] has shape \(2, 1\)"),
        (
            HALF | {"text": torch.tensor([0.5, 1.1])},
            ValueError,
            r"quality of \['text'\] .*outside \[0, 1\]",
        ),
        (HALF | {"text": torch.tensor([-0.1, 0.5])}, ValueError, r"quality of \['text'\]"),
        (
            HALF | {"image": torch.tensor([math.nan, 0.5])},
            ValueError,
            r"quality of \['image'\] .*NaN",
        ),
    ],
)
def test_quality_that_cannot_be_is_named(quality, error, words):
    with pytest.raises(error, match=words):
        quality_vote(PROBS, quality)


def test_opinions_are_checked_as_by_every_decision_rule():
    for rule in (decision.average, lambda p: quality_vote(p, HALF)):
        with pytest.raises(ValueError, match=r"probs\['text'\] has rows that are no probabilities"):
            rule(PROBS | {"text": torch.tensor([[0.5, 0.6], [0.5, 0.5]])})
