"""Sound files of every kind → the same spectrogram, texts of any language → counts of their pieces;
what is no sound is named."""

import re
import sys
from collections import Counter

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import resample
from sklearn.utils import murmurhash3_32

from mmtutor.apps import signals
from mmtutor.apps.signals import FRAMES, MELS, MOST_SECONDS, RATE, CharacterEncoder, SoundEncoder
from mmtutor.encoders import AudioEncoder
from mmtutor.encoders.pictures import SampleUnreadable
from mmtutor.files.weights import EncoderUnavailable

pytestmark = pytest.mark.usefixtures("own_cache", "small_models_on_one_thread")

NOISE = 0.2 * np.random.default_rng(0).standard_normal(RATE)


def encoded(*paths) -> torch.Tensor:
    encoder, names = SoundEncoder(), [str(path) for path in paths]
    return encoder.encode(names, False, encoder.keys(names))


def sounding(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    """Return a tone that grows louder."""
    time = np.arange(int(rate * seconds)) / rate
    return 0.5 * time / seconds * np.sin(2 * np.pi * hertz * time)


# sounds


def test_a_sound_is_its_log_mel_spectrogram(tmp_path):
    soundfile.write(tmp_path / "a.wav", NOISE, RATE, "FLOAT")
    expected = AudioEncoder("log-mel", RATE, MELS, FRAMES).encode([NOISE.astype(np.float32)])
    torch.testing.assert_close(encoded(tmp_path / "a.wav"), expected, rtol=1e-4, atol=1e-4)
    assert SoundEncoder().dim == FRAMES * MELS == expected.shape[1]


def test_each_sound_gets_its_own_row_in_order(tmp_path):
    paths = [tmp_path / f"{hertz}.wav" for hertz in (200, 800, 3000)]
    for path in paths:
        soundfile.write(path, sounding(int(path.stem), RATE), RATE)
    bands = [each.reshape(FRAMES, MELS)[-1].argmax().item() for each in encoded(*paths)]
    assert bands == sorted({*bands}), "the higher the tone, the higher the band"
    assert torch.equal(encoded(*paths[::-1]), encoded(*paths).flip(0))


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_formats_of_one_sound_agree_whatever_the_file_is_called(tmp_path, kind):
    soundfile.write(tmp_path / "plain.wav", NOISE, RATE, "FLOAT")
    soundfile.write(tmp_path / "other.jpg", NOISE, RATE, format=kind)
    plain, other = encoded(tmp_path / "plain.wav", tmp_path / "other.jpg")
    lossy = kind in ("OGG", "MP3")
    low = (plain - other).reshape(FRAMES, MELS)[:, :24]  # what is high is left out by the lossy
    assert low.abs().mean() < (0.5 if lossy else 1e-3) < plain.std()


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_averaged(tmp_path, channels):
    parts = np.zeros((len(NOISE), channels))
    for k in range(channels):  # each sounds in turn, and is silent else
        parts[k::channels, k] = channels * NOISE[k::channels]
    soundfile.write(tmp_path / "many.wav", parts, RATE, "FLOAT")
    soundfile.write(tmp_path / "mono.wav", NOISE, RATE, "FLOAT")
    many, mono = encoded(tmp_path / "many.wav", tmp_path / "mono.wav")
    torch.testing.assert_close(many, mono, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rate", [22_050, 32_000, 44_100, 48_000, 96_000, 17_001])
def test_sample_rates_are_brought_to_one(tmp_path, rate):
    """Against a resampling through the Fourier transform."""
    soundfile.write(tmp_path / "plain.wav", NOISE, RATE, "FLOAT")
    soundfile.write(tmp_path / "other.wav", resample(NOISE, rate), rate, "FLOAT")
    plain, other = encoded(tmp_path / "plain.wav", tmp_path / "other.wav")
    below = (plain - other).reshape(FRAMES, MELS)[1:-1, :-2]  # a filter takes the uppermost
    assert below.abs().mean() < 0.1 < plain.std()


@pytest.mark.parametrize("rate", [8000, 11_025])
def test_a_low_sample_rate_keeps_the_tone_where_it_is(tmp_path, rate):
    for name, own in (("low", rate), ("plain", RATE)):
        soundfile.write(tmp_path / f"{name}.wav", sounding(1000, own), own)
    low, plain = encoded(tmp_path / "low.wav", tmp_path / "plain.wav")
    of = [each.reshape(FRAMES, MELS)[-1].argmax() for each in (low, plain)]
    assert of[0] == of[1]


def test_silence_and_single_samples_are_defined(tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "short.wav", np.array([0.5]), RATE)
    silent, short = encoded(tmp_path / "silent.wav", tmp_path / "short.wav")
    assert not silent.any() and short.isfinite().all()


def bad_sounds(folder):
    (folder / "text.wav").write_text("no sound")
    (folder / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "none.wav", np.zeros(0), RATE)
    soundfile.write(folder / "nan.wav", np.array([0.1, np.nan, 0.1]), RATE, "FLOAT")
    soundfile.write(folder / "inf.wav", np.array([0.1, np.inf, 0.1]), RATE, "FLOAT")
    soundfile.write(folder / "long.flac", np.zeros(MOST_SECONDS * 8000 + 1), 8000)
    (folder / "cut.wav").write_bytes((folder / "nan.wav").read_bytes()[:30])


@pytest.mark.parametrize("name", ["text.wav", "empty.wav", "none.wav", "nan.wav", "inf.wav"])
def test_what_is_no_sound_is_named_with_its_number(tmp_path, name):
    bad_sounds(tmp_path)
    soundfile.write(tmp_path / "good.wav", NOISE, RATE)
    with pytest.raises(SampleUnreadable, match=re.escape(name)) as caught:
        encoded(tmp_path / "good.wav", tmp_path / name)
    assert caught.value.index == 1 and caught.value.__cause__ is not None


def test_a_cut_header_and_what_is_too_long_are_named(tmp_path):
    bad_sounds(tmp_path)
    for name, cause in (("cut.wav", ""), ("long.flac", f"longer than {MOST_SECONDS} s")):
        with pytest.raises(SampleUnreadable, match=name) as caught:
            encoded(tmp_path / name)
        assert cause in str(caught.value.__cause__)


@pytest.mark.parametrize("rate", [3_000_017, 100_000_007])
def test_a_sample_rate_that_no_sound_has_is_named_and_costs_nothing(tmp_path, monkeypatch, rate):
    """A file of two kilobytes may else take gigabytes: a filter of twenty times the rate."""
    soundfile.write(tmp_path / "forged.wav", NOISE[:1000], rate)
    monkeypatch.setattr(signals, "resample_poly", lambda *_: pytest.fail("a filter is made"))
    with pytest.raises(SampleUnreadable, match="forged") as caught:
        encoded(tmp_path / "forged.wav")
    assert str(rate) in str(caught.value.__cause__)


def test_sounds_are_cached_by_content_and_those_before_a_bad_one_stay(tmp_path, monkeypatch):
    bad_sounds(tmp_path)
    soundfile.write(tmp_path / "good.wav", NOISE, RATE)
    with pytest.raises(SampleUnreadable):
        encoded(tmp_path / "good.wav", tmp_path / "text.wav")
    (tmp_path / "good.wav").rename(tmp_path / "moved.mp3")
    monkeypatch.setattr(AudioEncoder, "encode", lambda *_: pytest.fail("encoded again"))
    assert encoded(tmp_path / "moved.mp3", tmp_path / "moved.mp3").any(1).tolist() == [True, True]


def test_another_folder_for_the_cache(tmp_path):
    assert SoundEncoder(cache=tmp_path / "c").cache.folder.parent == tmp_path / "c"
    assert CharacterEncoder(cache=tmp_path / "c").cache.folder.parent == tmp_path / "c"


def test_an_absent_library_is_named_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(EncoderUnavailable, match=r"sound files .*pip install 'mmtutor\[tables\]'"):
        SoundEncoder()


# characters


def counted(*texts) -> torch.Tensor:
    encoder = CharacterEncoder()
    return encoder.encode(texts, False, encoder.keys(texts))


def by_hand(text: str) -> np.ndarray:
    """Return the signed logarithms of counts of the pieces of each padded word, of length 1."""
    pieces: Counter[str] = Counter()
    for word in text.lower().split():
        padded = f" {word} "
        for n in range(1, 5):
            pieces.update(padded[i : i + n] for i in range(max(1, len(padded) - n + 1)))
            if n >= len(padded):
                break  # the whole word counts once
    vector = np.zeros(CharacterEncoder.dim)
    for piece, n in pieces.items():
        number = murmurhash3_32(piece)
        vector[abs(number) % len(vector)] += n if number >= 0 else -n
    vector = np.sign(vector) * np.log1p(np.abs(vector))
    return vector / max(np.linalg.norm(vector), 1e-12)


TEXTS = [
    "A sunny day, a sunny day",
    "今天天气很好",
    "ฉันไม่ชอบฝนตก",
    "😀 😀🎉",
    "ъ",
    "naïve Übung\t\n x",
]


def test_characters_are_counted_hashed_and_brought_to_length_1():
    features = counted(*TEXTS)
    expected = np.stack([by_hand(text) for text in TEXTS])
    torch.testing.assert_close(features, torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(len(TEXTS)))
    assert features.shape == (6, CharacterEncoder.dim) and features.dtype == torch.float32


def test_texts_that_share_a_part_are_nearer_in_any_language():
    for one, like, other in (
        ("schönes Wetter heute", "schöne Wetterlage", "grauer Alltag"),
        ("今天天气很好", "今天天气不好", "他去图书馆借书"),
        ("😀😀🎉", "😀🎉", "😭🤢"),
    ):
        a, b, c = counted(one, like, other)
        assert a @ b > a @ c + 0.2


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_a_text_without_characters_is_zero(text):
    assert not counted(text).any() and counted().shape == (0, CharacterEncoder.dim)


def test_every_character_is_read():
    assert CharacterEncoder().unread(["word " * 10_000, "😀"]) == {}
    long = "a" * 50_000
    assert not torch.equal(*counted(long, long + "bcd")), "nothing is cut"


def test_texts_are_cached_by_content(monkeypatch):
    first = counted(*TEXTS)
    encoder = CharacterEncoder()
    encoder._counts = None  # what is cached needs it no more
    keys = encoder.keys(TEXTS[::-1])
    assert torch.equal(encoder.encode(TEXTS[::-1], False, keys), first.flip(0))
    assert len({*keys}) == len(TEXTS)
