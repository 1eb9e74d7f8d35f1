"""Robustness against closed forms: physics of the corruptions, enumeration, scikit-learn, and a
world known exactly."""

import io
import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats
from sklearn.covariance import ledoit_wolf
from sklearn.datasets import load_sample_image
from sklearn.linear_model import Ridge

from mmtutor.evaluation import accuracy
from mmtutor.fusion import decision
from mmtutor.robustness import (
    KINDS,
    CrossModalImputer,
    ModalityDropout,
    NoiseDetector,
    corrupt,
    effective_robustness,
    quality_vote,
    relative_robustness,
    robustness_curve,
)
from mmtutor.types import Samples


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photographs() -> torch.Tensor:
    """(2, 3, 60, 90) in 0..1, two cuts of a photograph."""
    photo = torch.from_numpy(np.array(load_sample_image("china.jpg"))).permute(2, 0, 1)
    return torch.stack([photo[:, 100:160, 200:290], photo[:, 300:360, 50:140]]) / 255


# Pictures


@pytest.mark.parametrize("severity", [0.2, 0.7])
def test_picture_noise_has_the_distribution_of_a_gaussian_cut_off_at_both_ends(severity):
    level, sd = 0.3, KINDS["image"]["noise"].value(severity)
    out = corrupt(torch.full((2, 1, 200, 500), level), "image", "noise", severity, seeded())
    normal = stats.norm(level, sd)
    for edge, expected in (
        (out == 0, normal.cdf(0)),
        (out == 1, normal.sf(1)),
        (out < 0.5, normal.cdf(0.5)),
    ):
        assert edge.double().mean().item() == pytest.approx(
            expected, abs=4 * math.sqrt(0.25 / out.numel())
        )


def test_blur_is_the_convolution_written_out_with_the_mirrored_picture():
    x, severity = torch.rand(1, 1, 6, 7, generator=seeded(), dtype=torch.float64), 0.5
    sd = KINDS["image"]["blur"].value(severity) * 6
    reach = range(-int(4 * sd + 0.5), int(4 * sd + 0.5) + 1)
    weight = {k: math.exp(-(k**2) / (2 * sd**2)) for k in reach}

    def mirrored(i: int, n: int) -> int:
        while not 0 <= i < n:
            i = -1 - i if i < 0 else 2 * n - 1 - i
        return i

    total = sum(weight.values()) ** 2
    expected = torch.zeros(6, 7, dtype=torch.float64)
    for i, j, k, m in itertools.product(range(6), range(7), reach, reach):
        expected[i, j] += (
            weight[k] * weight[m] / total * x[0, 0, mirrored(i + k, 6), mirrored(j + m, 7)]
        )
    torch.testing.assert_close(corrupt(x, "image", "blur", severity, seeded())[0, 0], expected)


@pytest.mark.parametrize("severity", [0.01, 0.1, 0.4, 1.0])
def test_blur_agrees_with_scipy_and_keeps_the_mean(severity):
    x = photographs().double()
    out = corrupt(x, "image", "blur", severity, seeded())
    sd = KINDS["image"]["blur"].value(severity) * 60
    expected = ndimage.gaussian_filter(x.numpy(), (0, 0, sd, sd), mode="reflect", truncate=4)
    torch.testing.assert_close(out, torch.from_numpy(expected), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(out.mean((2, 3)), x.mean((2, 3)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(40, 40), (30, 80)])
def test_one_rectangle_of_the_asked_area_lies_anywhere_in_each_picture(height, width):
    share, n = KINDS["image"]["occlusion"].value(0.25), 4000
    out = corrupt(torch.zeros(n, 2, height, width), "image", "occlusion", 0.25, seeded())
    covered = out[:, 0] == 0.5
    assert torch.equal(out[:, 1] == 0.5, covered) and bool(((out == 0) | (out == 0.5)).all())
    # √0.25 divides both sides, so the area is the share without rounding
    assert covered.sum((1, 2)).unique().tolist() == [round(share * height * width)]
    for dim, length in ((1, height), (2, width)):
        line = covered.any(3 - dim)  # (N, length): which rows, then which columns are touched
        # with the area: a full rectangle of that height
        assert line.sum(1).unique().tolist() == [length // 2]
        first = line.double().argmax(1)
        counts = torch.bincount(first, minlength=length // 2 + 1).numpy()
        assert len(counts) == length // 2 + 1
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("severity", [0.0, 0.03, 0.5, 0.9, 1.0])
def test_the_occluded_area_is_the_share_up_to_the_rounding_of_two_sides(severity):
    covered = corrupt(torch.zeros(3, 1, 33, 57), "image", "occlusion", severity, seeded()) == 0.5
    for count in covered.sum((1, 2, 3)).tolist():
        root = math.sqrt(severity)
        assert abs(count - severity * 33 * 57) <= 0.5 * (33 * root + 57 * root) + 0.25


def test_brightness_adds_and_saturates():
    x = torch.tensor([0.0, 0.3, 0.9]).reshape(1, 1, 1, 3)
    out = corrupt(x, "image", "brightness", 0.25, seeded())
    torch.testing.assert_close(out.flatten(), torch.tensor([0.25, 0.55, 1.0]))


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_a_file_of_that_quality_holds(channels):
    x = photographs()[:, :channels] * 0.9  # no whole numbers of 255, so that rounding matters
    assert torch.equal(corrupt(x, "image", "jpeg", 0.0, seeded()), x)
    out = corrupt(x, "image", "jpeg", 0.8, seeded())  # quality 100 - 95 · 0.8 = 24
    for picture, ours in zip(x, out, strict=True):
        rows = np.round(picture.numpy() * 255).astype(np.uint8)
        image = (
            Image.fromarray(rows[0])
            if channels == 1
            else Image.merge("RGB", [Image.fromarray(r) for r in rows])
        )
        file = io.BytesIO()
        image.save(file, format="JPEG", quality=24)
        theirs = Image.open(file).convert("RGB")
        for channel, band in zip(ours, theirs.split(), strict=False):
            torch.testing.assert_close(channel, torch.from_numpy(np.array(band)) / 255)


# Texts


def test_typos_hit_the_asked_share_a_third_each():
    length, share = 30_000, KINDS["text"]["typos"].value(0.1)
    # no letter a to z, neighbours differ
    text = "".join(chr(0x4E00 + i % 20_000) for i in range(length))
    (out,) = corrupt([text], "text", "typos", 0.1, seeded())
    slack = 4 * math.sqrt(length * share / 3)
    replaced = sum("a" <= c <= "z" for c in out)
    deleted = length - len(out)
    order = [ord(c) for c in out if c > "z"]
    swapped = sum(b < a and a - b < 100 for a, b in itertools.pairwise(order))
    for count in (replaced, deleted):
        assert count == pytest.approx(length * share / 3, abs=slack)
    # a pair stays visible unless one of the two edits beside it touches it: at a share of 0.1, nine
    # in ten do
    assert 0.8 * length * share / 3 < swapped < length * share / 3 + slack
    letters = np.bincount([ord(c) - ord("a") for c in out if "a" <= c <= "z"], minlength=26)
    assert stats.chisquare(letters).pvalue > 1e-3


def test_a_replacement_is_never_the_letter_itself():
    (out,) = corrupt(["e" * 20_000], "text", "typos", 1.0, seeded())
    swapped = out.count("e")  # of equal letters: what is swapped looks the same
    assert swapped == pytest.approx(20_000 / 3, abs=4 * math.sqrt(20_000 / 4))
    others = np.bincount([ord(c) - ord("a") for c in out], minlength=26)
    others = np.delete(others, ord("e") - ord("a"))
    assert stats.chisquare(others).pvalue > 1e-3


def test_two_characters_end_as_the_nine_pairs_of_edits_say():
    out = corrupt(["αβ"] * 9000, "text", "typos", 1.0, seeded())
    found = ["".join("x" if "a" <= c <= "z" else c for c in text) for text in out]
    # swap, delete or replace α; then delete what stands last, or replace it, twice as often, since
    # it has no next
    expected = {"β": 1, "βx": 2, "": 1, "x": 2 + 1, "xx": 2}
    assert set(found) == set(expected)
    assert (
        stats.chisquare(
            [found.count(k) for k in expected], [1000 * c for c in expected.values()]
        ).pvalue
        > 1e-3
    )


def test_a_single_character_is_deleted_or_replaced():
    out = corrupt(["e"] * 3000, "text", "typos", 1.0, seeded())
    assert "e" not in out
    assert out.count("") == pytest.approx(1000, abs=4 * math.sqrt(3000 * 2 / 9))


@pytest.mark.parametrize("severity", [0.1, 0.6, 1.0])
def test_dropped_words_are_the_asked_share_and_the_rest_keeps_its_order(severity):
    words = [f"w{i}" for i in range(20_000)]
    (out,) = corrupt([" ".join(words)], "text", "dropped words", severity, seeded())
    left = out.split(" ") if out else []
    assert len(left) == pytest.approx(
        20_000 * (1 - severity), abs=4 * math.sqrt(20_000 * severity * (1 - severity))
    )
    assert [int(w[1:]) for w in left] == sorted({int(w[1:]) for w in left})


# Recordings


@pytest.mark.parametrize("severity", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("as_list", [False, True])
def test_noisy_audio_has_the_asked_signal_to_noise_ratio(severity, as_list):
    time = torch.arange(200_000) / 8000
    x = torch.stack(
        [a * torch.sin(2 * torch.pi * f * time) for a, f in ((0.01, 440), (0.5, 100))]
    ).double()
    out = corrupt(list(x) if as_list else x, "audio", "noise", severity, seeded())
    asked = KINDS["audio"]["noise"].value(severity)
    assert asked == pytest.approx(30 - 50 * severity)
    for clean, noisy in zip(x, out, strict=True):
        ratio = 10 * math.log10(clean.square().mean() / (noisy - clean).square().mean())
        assert ratio == pytest.approx(asked, abs=0.06)  # 4 · 10 / ln 10 · √(2 / 200 000)


def test_clipping_cuts_each_recording_at_a_share_of_its_own_peak():
    x = torch.tensor([[0.1, -0.4, 0.3], [10.0, 5.0, -20.0]])
    out = corrupt(x, "audio", "clipping", 0.5, seeded())
    torch.testing.assert_close(out, torch.tensor([[0.1, -0.2, 0.2], [10.0, 5.0, -10.0]]))


@pytest.mark.parametrize("severity", [0.05, 0.5, 1.0])
def test_dropouts_silence_whole_stretches_of_the_asked_share(severity):
    x = torch.ones(2000, 200)
    out = corrupt(x, "audio", "dropouts", severity, seeded())
    stretches = out.reshape(2000, 20, 10)
    lost = (stretches == 0).all(2)
    assert bool(((stretches == 1).all(2) | lost).all())
    assert (lost.sum(1) == round(20 * severity)).all()
    # each as often as any other; counts without replacement vary less than the test allows for
    if severity < 1:
        assert stats.chisquare(lost.sum(0).numpy()).pvalue > 1e-3


# Streams


def test_lag_shifts_and_repeats_the_first_value():
    x = torch.arange(20.0)[:, None] + torch.tensor([0.0, 100.0])
    out = corrupt(x, "stream", "lag", 0.3, seeded())  # 0.5 · 0.3 · 20 = 3 steps
    expected = torch.tensor([0.0, 0, 0, *range(17)])[:, None] + torch.tensor([0.0, 100.0])
    torch.testing.assert_close(out, expected)


def test_jitter_reads_at_an_index_with_a_rounded_gaussian_error():
    x = torch.arange(1000.0).repeat(40, 1)[:, :, None] + torch.tensor([0.0, 5000.0])
    out = corrupt(x, "stream", "jitter", 0.02, seeded())
    sd = KINDS["stream"]["jitter"].value(0.02) * 1000
    assert sd == pytest.approx(2)
    error = out - x
    assert torch.equal(error[..., 0], error[..., 1])  # one clock for all channels
    inner = error[:, 20:-20, 0].flatten().long()
    counts = torch.bincount((inner + 8).clamp(0, 16), minlength=17).numpy()
    edges = np.array([-np.inf, *np.arange(-7.5, 8), np.inf])
    expected = np.diff(stats.norm(0, sd).cdf(edges)) * len(inner)
    assert stats.chisquare(counts, expected).pvalue > 1e-3
    assert out[..., 0].min() == 0 and out[..., 0].max() == 999


def test_stream_noise_is_measured_by_the_spread_of_each_channel():
    x = (
        torch.randn(2, 50_000, 3, generator=seeded(1), dtype=torch.float64)
        * torch.tensor([0.1, 10.0, 0.0])
        + 7
    )
    out = corrupt(x, "stream", "noise", 0.25, seeded())
    ratio = (out - x).std(1, correction=0)[:, :2] / x.std(1, correction=0)[:, :2]
    torch.testing.assert_close(
        ratio, torch.full((2, 2), 0.5, dtype=torch.float64), rtol=0.015, atol=0
    )
    assert torch.equal(out[..., 2], x[..., 2])


# Modality dropout


def left_by_enumeration(p: dict[str, float], who: frozenset[str]) -> dict[frozenset[str], float]:
    """Write out every outcome of the independent coins, then share the empty one among all."""
    chances: dict[frozenset[str], float] = {}
    for coins in itertools.product([False, True], repeat=len(who)):
        kept = frozenset(m for m, stays in zip(sorted(who), coins, strict=True) if stays)
        weight = math.prod(1 - p[m] if m in kept else p[m] for m in who)
        for outcome in [kept] if kept else [frozenset([m]) for m in who]:
            chances[outcome] = chances.get(outcome, 0.0) + weight / (1 if kept else len(who))
    return chances


@pytest.mark.parametrize(
    "p", [{"a": 0.5, "b": 0.5}, {"a": 0.9, "b": 0.3}, {"a": 0.8, "b": 0.6, "c": 0.4}]
)
def test_modality_dropout_leaves_each_set_with_the_enumerated_probability(p):
    n = 40_000
    for who in (frozenset(p), frozenset(list(p)[1:])):
        present = {m: torch.full((n,), m in who) for m in p}
        after = ModalityDropout(p)(present, seeded())
        sets = [
            frozenset(m for m, there in zip(p, row, strict=True) if there)
            for row in zip(*after.values(), strict=True)
        ]
        expected = left_by_enumeration(p, who)
        assert sum(expected.values()) == pytest.approx(1)
        assert set(sets) <= set(expected)
        counts = [sets.count(k) for k in expected]
        assert (
            len(expected) == 1
            or stats.chisquare(counts, [n * c for c in expected.values()]).pvalue > 1e-3
        )
        for m in who:  # what the docstring says of one modality
            stays = sum(c for k, c in expected.items() if m in k)
            assert stays == pytest.approx(1 - p[m] + math.prod(p[k] for k in who) / len(who))


# Guessing what is missing


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 500.0])
def test_the_imputer_is_one_ridge_regression_per_pattern(alpha):
    dims, n = {"a": 6, "b": 3, "c": 4}, 80
    everything = torch.randn(n, 13, generator=seeded(), dtype=torch.float64) @ torch.randn(
        13, 13, generator=seeded(1), dtype=torch.float64
    ) + torch.arange(13.0)
    split = dict(zip(dims, everything.split(list(dims.values()), 1), strict=True))
    train = {m: x[:60] for m, x in split.items()}
    patterns = [who for who in itertools.product([True, False], repeat=3) if any(who)]
    rows = torch.tensor(patterns * 2)
    test = {m: x[60 : 60 + len(rows)] for m, x in split.items()}
    present = dict(zip(dims, rows.T, strict=True))
    hidden = {m: torch.where(present[m][:, None], x, math.nan) for m, x in test.items()}
    imputer = CrossModalImputer(alpha).fit(Samples(train, torch.zeros(60)))
    out = imputer.transform(Samples(hidden, torch.zeros(len(rows)), present))
    for who in patterns:
        known = [m for m, there in zip(dims, who, strict=True) if there]
        mine = (rows == torch.tensor(who)).all(1)
        for m in set(dims) - set(known):
            model = Ridge(alpha).fit(np.hstack([train[k] for k in known]), train[m])
            expected = model.predict(np.hstack([test[k][mine] for k in known]))
            np.testing.assert_allclose(out.features[m][mine], expected, rtol=1e-7, atol=1e-8)


# Quality


def test_quality_is_the_rank_of_the_mahalanobis_distance_among_held_out_samples():
    generator = np.random.default_rng(0)
    mix = generator.normal(size=(8, 8))
    clean, held, new = (generator.normal(size=(n, 8)) @ mix + 2 for n in (30, 20, 15))
    new[::3] *= 3
    detector = NoiseDetector().fit(
        *(Samples({"m": torch.tensor(x)}, torch.zeros(len(x))) for x in (clean, held))
    )
    covariance, _ = ledoit_wolf(clean)

    def distance(x):
        centred = x - clean.mean(0)
        return np.einsum("nd,nd->n", centred, np.linalg.solve(covariance, centred.T).T)

    expected = [(1 + (distance(held) >= d).sum()) / 21 for d in distance(new)]
    assert len(set(expected)) > 5
    np.testing.assert_allclose(detector.quality({"m": torch.tensor(new)})["m"], expected)
    same = detector.quality({"m": torch.tensor(held)})["m"]  # a tie counts as "at least as unusual"
    np.testing.assert_allclose(sorted(same.tolist()), np.arange(2, 22) / 21)


def test_quality_of_clean_samples_is_uniform_also_where_features_outnumber_samples():
    generator = np.random.default_rng(1)
    counts = np.zeros(10)
    # fresh training and held-out samples each time: what exchangeability promises
    for _ in range(60):
        clean, held, new = (
            Samples({"m": torch.tensor(generator.normal(size=(n, 30)))}, torch.zeros(n))
            for n in (20, 9, 10)
        )
        q = NoiseDetector().fit(clean, held).quality(new.features)["m"]
        counts += np.bincount((q * 10).round().long().numpy() - 1, minlength=10)
    # samples of one round share their held-out distances, which spreads the counts: a wide
    # tolerance around 60 each
    assert counts.sum() == 600 and abs(counts - 60).max() < 40


def test_a_vote_by_quality_is_a_weighted_vote_sample_by_sample():
    generator = np.random.default_rng(2)
    probs = {m: torch.tensor(generator.dirichlet(np.ones(4), 12)) for m in ("a", "b", "c")}
    quality = {m: torch.tensor(generator.random(12)) for m in probs}
    present = {m: torch.tensor(generator.random(12) < 0.7) for m in probs}
    present["c"][:] = True
    out = quality_vote(probs, quality, present)
    for i in range(12):
        one = {m: p[i : i + 1] for m, p in probs.items()}
        weights = {m: float(q[i]) for m, q in quality.items()}
        expected = decision.weighted_vote(
            one, weights, {m: mask[i : i + 1] for m, mask in present.items()}
        )
        torch.testing.assert_close(out[i : i + 1], expected)
    torch.testing.assert_close(
        quality_vote(probs, decision.trust(probs, present), present),
        decision.fuzzy_rules(probs, present),
    )


# Curves


def test_the_gain_of_a_sum_of_two_witnesses_is_gone_where_theory_says():
    """a, b = 1.5 y + N(0, 1); sign(a + b) is right with Φ(3 / √(2 + σ²)) when b gets noise of sd σ,
    a alone Φ(1.5)."""
    n, worst = 200_000, 3.0
    y = (torch.rand(n, generator=seeded()) < 0.5).long()
    x = 1.5 * (2 * y - 1)[:, None] + torch.randn(n, 2, generator=seeded(1))
    severities = [0.0, 0.2, math.sqrt(2) / worst, 1.0]

    def change(samples, severity):
        noise = worst * severity * torch.randn(n, generator=seeded(2))
        return torch.stack([samples[:, 0], samples[:, 1] + noise], 1)

    # independent samples, redrawn by the handful: faster
    draws = {
        "groups": torch.arange(n) % 250,
        "resamples": 100,
    }

    def hits(said, truth):
        return float((said == truth).mean())

    fusion, alone = (
        robustness_curve(predict, x, change, severities, y, hits, **draws)
        for predict in (lambda z: (z.sum(1) > 0).long(), lambda z: (z[:, 0] > 0).long())
    )
    exact = [stats.norm.cdf(3 / math.sqrt(2 + (worst * s) ** 2)) for s in severities]
    without = stats.norm.cdf(1.5)
    assert fusion.estimates == pytest.approx(exact, abs=4 * 0.5 / math.sqrt(n))
    assert all(
        score.low < value < score.high for score, value in zip(fusion.scores, exact, strict=True)
    )
    assert accuracy((x[:, 0] > 0).long(), y) == alone.estimates[0] == alone.estimates[3]
    effective, relative = effective_robustness(fusion, alone), relative_robustness(fusion, alone)
    assert effective == pytest.approx([e - without for e in exact], abs=0.004)
    assert relative == pytest.approx(
        [(e - without) / (exact[0] - without) for e in exact], rel=0.06, abs=0.06
    )
    assert relative[0] == 1 and relative[2] == pytest.approx(0, abs=0.06) and relative[3] < -0.5
