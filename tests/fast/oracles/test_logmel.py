"""The log-mel against transformers' own spectrogram and filters, and its averaging against
numerical integration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.audio_utils import mel_filter_bank, spectrogram

from mmtutor.encoders import AudioEncoder
from mmtutor.speech.logmel import mel_filters, stretches

# At 16 kHz a window of 25 ms has an even number of samples, so that both put its middle on the same
# sample.
RATE, WINDOW, HOP, FFT = 16000, 400, 160, 512


def their_filters(n_mels, fft, rate):
    return mel_filter_bank(fft // 2 + 1, n_mels, 0.0, rate / 2, rate, norm=None, mel_scale="htk")


@pytest.mark.parametrize(
    ("n_mels", "fft", "rate"), [(32, 1024, 22050), (32, 256, 8000), (80, 512, 16000)]
)
def test_filters(n_mels, fft, rate):
    # transformers warns where a filter is empty; warnings are errors here, so that none is.
    expected = torch.from_numpy(their_filters(n_mels, fft, rate).T).float()
    torch.testing.assert_close(mel_filters(fft, rate, n_mels), expected, atol=1e-5, rtol=1e-5)


def test_the_whole_encoder():
    frames = 10
    # 40 frames: 4 to each stretch
    signal = np.random.default_rng(0).normal(size=(frames * 4 - 1) * HOP + 7)
    signal *= np.linspace(0, 1, len(signal)) ** 2
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    log_mel = spectrogram(
        signal,
        window,
        WINDOW,
        HOP,
        FFT,
        power=2.0,
        center=True,
        pad_mode="constant",
        mel_filters=their_filters(24, FFT, RATE),
        mel_floor=1e-10,
        log_mel="log",
    )
    assert log_mel.shape == (24, 40)
    expected = log_mel.T.reshape(frames, 4, 24).mean(1)
    expected = torch.from_numpy(expected - expected.mean()).float()
    found = AudioEncoder(sample_rate=RATE, n_mels=24, frames=frames).spectrogram([signal])[0]
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("count", [1, 7, 24, 25, 63])
def test_stretches_are_integrals_of_a_staircase(count):
    values = np.random.default_rng(count).normal(size=count)
    fine = 20_000
    staircase = values[(np.arange(24 * fine) + 0.5).astype(np.int64) * count // (24 * fine)]
    expected = torch.from_numpy(staircase.reshape(24, fine).mean(1)).float()
    found = stretches(torch.tensor([count]), count, 24)[0] @ torch.from_numpy(values).float()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
