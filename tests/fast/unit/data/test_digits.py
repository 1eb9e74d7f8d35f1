"""Digits: each picture hears its own digit, nothing occurs twice, and options change only what they
name."""

from __future__ import annotations

import hashlib
import wave

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler

from mmtutor.data import digits, load
from mmtutor.speech import espeak

SCOTLAND = digits.ACCENTS.index("en-gb-scotland")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A cache that speaking 2000 words has filled once, for all tests of this file."""
    root = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMTUTOR_CACHE", str(root))
        load("digits")
    return root


@pytest.fixture
def cached(spoken, monkeypatch):
    """Use that cache, and fail where anything is spoken again."""
    monkeypatch.setenv("MMTUTOR_CACHE", str(spoken))
    monkeypatch.setattr(espeak, "synthesise", lambda asked: pytest.fail("spoke again"))


def content(waveform):
    return hashlib.sha256(waveform.numpy().tobytes()).digest()


def test_pictures_are_those_of_scikit_learn(cached):
    data = load("digits")
    pixels, labels = load_digits(return_X_y=True)
    assert torch.equal(
        data.modalities["image"], torch.from_numpy(pixels).float().reshape(1797, 1, 8, 8) / 16
    )
    assert data.labels.tolist() == labels.tolist()
    assert data.modalities["audio"].shape == (1797, 24, 32) and "waveform" not in data.modalities
    assert (
        data.classes[7] == "seven" and data.card["sample_rate"] == 22050 and data.card["n"] == 1797
    )


def test_each_picture_hears_its_digit_in_its_accent_and_nothing_twice(cached):
    data = load("digits", waveforms=True)
    source = digits._espeak()
    waveforms = source.modalities["waveform"]
    known = {
        content(w): (d, g)
        for w, d, g in zip(waveforms, source.labels.tolist(), source.groups.tolist(), strict=True)
    }
    heard = [content(waveform) for waveform in data.modalities["waveform"]]
    assert [known[key] for key in heard] == list(
        zip(data.labels.tolist(), data.groups.tolist(), strict=True)
    )
    assert len(set(heard)) == 1797


def test_every_accent_says_every_digit(cached):
    data = load("digits")
    assert data.group_names == ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-029")
    counts = np.histogram2d(data.groups, data.labels.numpy(), bins=(4, 10))[0]
    assert counts.min() >= 25 and counts.max() <= 50


def test_the_audio_is_the_log_mel_of_the_waveform(cached):
    from mmtutor.encoders import AudioEncoder

    data = load("digits", snr_db=-3.0, waveforms=True)
    again = AudioEncoder(sample_rate=data.card["sample_rate"]).spectrogram(
        data.modalities["waveform"][:20]
    )
    torch.testing.assert_close(data.modalities["audio"][:20], again, atol=1e-4, rtol=0)


def test_a_seed_gives_the_same_again_and_another_seed_other_pairs(cached):
    options = {"image_noise": 0.5, "snr_db": 0.0}
    first, same, other = (load("digits", seed=seed, **options) for seed in (3, 3, 4))
    for modality in ("image", "audio"):
        assert torch.equal(first.modalities[modality], same.modalities[modality])
        assert not torch.equal(first.modalities[modality], other.modalities[modality])
    assert (first.groups == same.groups).all() and (first.groups != other.groups).any()


def test_an_option_changes_only_what_it_names(cached):
    plain = load("digits", waveforms=True)
    noisy = load("digits", image_noise=0.5, waveforms=True)
    assert torch.equal(plain.modalities["audio"], noisy.modalities["audio"])
    loud, louder = (load("digits", snr_db=snr, waveforms=True) for snr in (0.0, -20.0))
    assert torch.equal(plain.modalities["image"], louder.modalities["image"])
    assert (plain.groups == louder.groups).all()
    clean, once, ten_times = (data.modalities["waveform"][5] for data in (plain, loud, louder))
    torch.testing.assert_close(ten_times - clean, 10 * (once - clean), atol=1e-4, rtol=1e-3)


def test_noise_is_as_strong_as_asked_for(cached):
    clean, noisy = (
        load("digits", waveforms=True),
        load("digits", image_noise=0.5, snr_db=-6.0, waveforms=True),
    )
    added = noisy.modalities["image"] - clean.modalities["image"]
    assert added.std().item() == pytest.approx(0.5, abs=0.005) and added.mean().abs() < 0.005
    twice = load("digits", image_noise=1.0)
    torch.testing.assert_close(twice.modalities["image"] - clean.modalities["image"], 2 * added)
    pairs = zip(clean.modalities["waveform"], noisy.modalities["waveform"], strict=True)
    powers = torch.tensor([[a.square().mean(), (b - a).square().mean()] for a, b in pairs])
    assert (10 * (powers[:, 0] / powers[:, 1]).log10()).mean().item() == pytest.approx(-6, abs=0.05)


def test_fusion_wins_in_some_noise_and_loses_in_more(cached):
    """The lesson's two truths, with ridge regression: a linear model in closed form."""
    scores = {}
    for snr_db in (-16.0, -24.0):
        data = load("digits", image_noise=0.5, snr_db=snr_db)
        held_out, labels = data.groups == SCOTLAND, data.labels.numpy()
        tables = [data.modalities[m].flatten(1).numpy() for m in ("image", "audio")]
        for name, table in zip(
            ("image", "audio", "both"), [*tables, np.concatenate(tables, 1)], strict=True
        ):
            scaled = StandardScaler().fit(table[~held_out]).transform(table)
            model = RidgeClassifier(alpha=300).fit(scaled[~held_out], labels[~held_out])
            scores[name, snr_db] = model.score(scaled[held_out], labels[held_out])
    assert scores["both", -16.0] > max(scores["image", -16.0], scores["audio", -16.0]) + 0.05, (
        scores
    )
    assert scores["both", -24.0] < scores["image", -24.0] - 0.05, scores
    assert scores["audio", -24.0] > 0.12, scores  # it does hold something: chance is .10


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"speech": "human"}, "unknown speech 'human'; known: espeak, fsdd"),
        ({"image_noise": -0.1}, "image_noise must be"),
        ({"image_noise": float("nan")}, "image_noise must be"),
        ({"snr_db": float("nan")}, "snr_db must be"),
        ({"snr_db": float("inf")}, "snr_db must be a number of decibels, or None"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 0.5}, "seed must be"),
    ],
)
def test_impossible_options(options, match):
    with pytest.raises(ValueError, match=match):
        load("digits", **options)


# Real recordings


def test_fsdd_pairs_recordings_of_six_speakers_by_digit(real):
    recordings = real("fsdd") / "recordings"
    data = load("digits", speech="fsdd", waveforms=True)
    assert data.group_names == ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    assert data.card["sample_rate"] == 8000 and "CC BY-SA 4.0" in data.card["licence"]
    assert data.modalities["audio"].shape == (1797, 24, 32) and set(data.groups.tolist()) == set(
        range(6)
    )
    named = {}
    for path in recordings.glob("*.wav"):
        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768
        named[samples.astype(np.float32).tobytes()] = path.stem.split("_")[:2]
    heard = [named[waveform.numpy().tobytes()] for waveform in data.modalities["waveform"]]
    expected = [
        [str(d), data.group_names[g]]
        for d, g in zip(data.labels.tolist(), data.groups.tolist(), strict=True)
    ]
    assert heard == expected
    assert len({waveform.numpy().tobytes() for waveform in data.modalities["waveform"]}) == 1797


def test_fsdd_has_signal_in_every_speakers_voice(real):
    real("fsdd")
    data = load("digits", speech="fsdd")
    features, labels = data.modalities["audio"].flatten(1).numpy(), data.labels.numpy()
    for speaker in range(6):
        held_out = data.groups == speaker
        model = RidgeClassifier(alpha=300).fit(features[~held_out], labels[~held_out])
        assert model.score(features[held_out], labels[held_out]) > 0.25, data.group_names[speaker]


def test_fsdd_alone_is_the_recordings_with_their_speakers(real):
    real("fsdd")
    data = load("fsdd")
    assert len(data) == 3000 and data.classes[7] == "seven" and data.card["sample_rate"] == 8000
    assert torch.bincount(data.labels).tolist() == [300] * 10
    assert np.bincount(data.groups).tolist() == [500] * 6
    assert data.group_names[data.groups[0]] == "george" and int(data.labels[0]) == 0
    waveform = data.modalities["waveform"][0]
    assert waveform.dtype == torch.float32 and 0 < waveform.abs().max() <= 1
