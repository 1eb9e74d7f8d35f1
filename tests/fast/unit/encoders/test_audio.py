"""Log-mels: where a tone lies, what length and loudness change, and recordings that are not what
they should be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmtutor.encoders import AudioEncoder
from mmtutor.speech import Mark, Utterance
from mmtutor.speech.logmel import mel_filters, stretches

pytestmark = pytest.mark.usefixtures("own_cache")

RATE = 22050


def tone(frequency, seconds=0.5, rate=RATE):
    return torch.sin(2 * math.pi * frequency * torch.arange(round(seconds * rate)) / rate)


def noise(seconds, seed=0):
    return torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def mel(frequency):
    return 2595 * math.log10(1 + frequency / 700)


@pytest.mark.parametrize("frequency", [200, 1000, 4000, 9000])
def test_a_tone_lies_in_its_mel_band(frequency):
    loudest = AudioEncoder().spectrogram([tone(frequency)])[0].mean(0).argmax().item()
    assert loudest == pytest.approx(mel(frequency) / mel(RATE / 2) * 33 - 1, abs=0.6)


def test_a_rising_tone_rises_from_frame_to_frame():
    time = torch.arange(RATE) / RATE
    chirp = torch.sin(2 * math.pi * (300 * time + 2500 * time**2))
    bands = AudioEncoder().spectrogram([chirp])[0, 1:-1].argmax(1)
    assert (bands.diff() >= 0).all() and bands[-1] - bands[0] > 12


def test_length_is_divided_out():
    pulses = torch.zeros(round(1.2 * RATE))
    pulses[::110] = 1  # twice per step of 220 samples, so that every window holds the same
    short, long = AudioEncoder().spectrogram([pulses[: round(0.4 * RATE)], pulses])
    inner = slice(2, -2)  # the first and last windows stand half on silence
    constants = short[inner] - long[inner]
    torch.testing.assert_close(constants, constants.mean().expand_as(constants), atol=1e-3, rtol=0)
    assert long[inner].std(0).max() < 1e-3 < 0.5 < long[inner].std(1).min()


def test_loudness_is_divided_out():
    loud, quiet = AudioEncoder().spectrogram([noise(0.5), 0.01 * noise(0.5)])
    torch.testing.assert_close(loud, quiet, atol=1e-4, rtol=0)
    assert loud.mean().abs() < 1e-5 and loud.std() > 0.3


def test_each_recording_is_its_own_affair_and_keeps_its_place():
    recordings = [noise(seconds, seed) for seed, seconds in enumerate((0.9, 0.011, 0.3, 1.7, 0.3))]
    encoder = AudioEncoder()
    together = encoder.spectrogram(recordings)
    for recording, expected in zip(recordings, together, strict=True):
        torch.testing.assert_close(encoder.spectrogram([recording])[0], expected, atol=1e-4, rtol=0)
    assert together.shape == (5, 24, 32) and len({row.sum().item() for row in together.abs()}) == 5


def test_encode_is_the_spectrogram_flattened():
    encoder = AudioEncoder("log-mel", sample_rate=16000, n_mels=20, frames=7)
    recordings = torch.stack([noise(0.2, seed) for seed in range(3)])
    encoded = encoder.encode(recordings)
    assert (encoder.name, encoder.dim, encoded.dtype) == ("log-mel", 140, torch.float32)
    assert torch.equal(encoded.reshape(3, 7, 20), encoder.spectrogram(list(recordings.numpy())))


def test_gradient_and_double_precision_are_left_behind():
    given = noise(0.2).double().requires_grad_()
    assert not AudioEncoder().encode([given]).requires_grad


def test_no_recordings_are_no_rows():
    assert AudioEncoder().encode([]).shape == (0, 768)


# Recordings that are not what they should be


def test_silence_is_zeros():
    assert not AudioEncoder().encode([torch.zeros(5000)]).any()


@pytest.mark.parametrize("samples", [1, 80, 220])
def test_ten_milliseconds_fill_the_grid_by_repeating_themselves(samples):
    grid = AudioEncoder().spectrogram([noise(1)[:samples]])[0]
    assert torch.isfinite(grid).all() and grid.std() > 0
    torch.testing.assert_close(grid[0], grid[11])


def test_a_short_utterance_is_checked_against_the_sample_rate():
    utterance = Utterance("a", tone(440, rate=8000), 8000, (Mark(0, 0.5, "a"),), ())
    with pytest.raises(
        ValueError, match=r"recording 0 has 8000 .* expects 22050.*sample_rate=8000"
    ):
        AudioEncoder().encode([utterance])
    right = AudioEncoder(sample_rate=8000)
    assert torch.equal(right.encode([utterance]), right.encode([utterance.waveform]))


@pytest.mark.parametrize(
    ("recording", "match"),
    [
        (torch.empty(0), r"recording 1: shape \(0,\)"),
        (torch.zeros(2, 100), r"recording 1: shape \(2, 100\), expected \(T,\) .*mono"),
        (torch.tensor([0.0, float("nan")]), "recording 1: NaN"),
        (np.array([0.0, np.inf]), "recording 1: NaN or inf"),
        (torch.zeros(100, dtype=torch.int16), r"recording 1: torch.int16, .*divide .* by 32768"),
    ],
)
def test_what_is_no_recording_is_named(recording, match):
    error = TypeError if "int16" in match else ValueError
    with pytest.raises(error, match=match):
        AudioEncoder().encode([tone(440), recording])


def test_a_single_waveform_is_not_taken_for_many_recordings():
    with pytest.raises(ValueError, match=r"wrap a single one: \[waveform\]"):
        AudioEncoder().encode(tone(440))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"name": "whisper"}, "unknown audio encoder 'whisper'; known: log-mel"),
        ({"sample_rate": 0}, "sample_rate must be a whole number of 1000 or more"),
        ({"sample_rate": float("nan")}, "sample_rate must be"),
        ({"n_mels": 0}, "n_mels must be"),
        ({"frames": 2.5}, "frames must be"),
        ({"n_mels": 200, "sample_rate": 8000}, "200 mel bands are too many"),
    ],
)
def test_impossible_encoders(options, match):
    with pytest.raises(ValueError, match=match):
        AudioEncoder(**options)


# The parts


def test_every_frequency_between_the_outer_centres_weighs_one_in_all():
    filters = mel_filters(4096, RATE, 32)
    peaks = filters.argmax(1)
    torch.testing.assert_close(
        filters.sum(0)[peaks[0] : peaks[-1]], torch.ones(peaks[-1] - peaks[0])
    )


def test_stretches_of_a_recording_that_divides_evenly_are_its_parts():
    weights = stretches(torch.tensor([6, 3]), 8, 3)
    assert torch.equal(weights[0, 1], torch.tensor([0, 0, 0.5, 0.5, 0, 0, 0, 0]))
    assert torch.equal(weights[1, :, :3], torch.eye(3))


def test_stretches_average_a_straight_line_to_the_middle_of_each():
    counts = torch.tensor([100, 37, 24, 5, 1])
    weights = stretches(counts, 100, 24)
    torch.testing.assert_close(weights.sum(2), torch.ones(5, 24))
    # Each frame is as wide as one step, so averaging t + 1/2 over [a, b) is off by less than half a
    # step.
    middles = (torch.arange(24) + 0.5) * counts[:, None] / 24
    assert ((weights @ (torch.arange(100) + 0.5)) - middles).abs().max() <= 0.5
    assert not weights[1, :, 37:].any()
