"""From recordings to log-mel spectrograms of one size: what a sound looks like to the ear, on a
fixed grid. Taught in chapter 2.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmtutor.checks import float_samples, require, whole_number
from mmtutor.speech.synthesis import Utterance

_WINDOW_SECONDS, _HOP_SECONDS = 0.025, 0.010
_FLOOR = 1e-10  # power below which all is silence: 16-bit quantisation noise lies at about 1e-10
_BATCH = 64

Recordings = Sequence[Tensor | np.ndarray | Utterance] | Tensor | np.ndarray
"""Float samples in -1..1, mono: a list of (T_i,), an array (N, T), or utterances."""


class LogMel:
    """S[f, k] = log Σ_ω M[k, ω] |STFT(x)[f, ω]|², averaged over F equal stretches of time, minus
    its mean.

    Dividing the recording into `frames` stretches, whatever its length, takes out how fast it was
    spoken; subtracting the mean over all cells takes out how loud it was. Windows of 25 ms (Hann)
    every 10 ms; mel bands are triangles from 0 Hz to half the sample rate.
    sample_rate in Hz, of every recording given. Raises ValueError for numbers that leave a mel band
    without a frequency.
    Davis & Mermelstein, IEEE Transactions on Acoustics, Speech, and Signal Processing 28, 1980.
    """

    def __init__(self, sample_rate: int = 22050, n_mels: int = 32, frames: int = 24) -> None:
        """Prepare the window and the mel filters."""
        self.sample_rate = whole_number("sample_rate", sample_rate, 1000)
        self.n_mels = whole_number("n_mels", n_mels, 1)
        self.frames = whole_number("frames", frames, 1)
        self._window = torch.hann_window(round(_WINDOW_SECONDS * sample_rate))
        self._hop = round(_HOP_SECONDS * sample_rate)
        self._n_fft = 1 << (len(self._window) - 1).bit_length()
        self._filters = mel_filters(self._n_fft, self.sample_rate, self.n_mels)

    def spectrogram(self, waveforms: Recordings) -> Tensor:
        """Return N recordings as (N, frames, n_mels) float32, natural logarithm, mean 0 per
        recording.

        waveforms: float samples in -1..1, mono: a list of (T_i,), a tensor (N, T), or `Utterance`s,
        whose sample rate is checked. A recording shorter than the grid repeats itself; a silent one
        gives zeros.
        Raises ValueError naming the recording that is empty, not mono, has NaN or another sample
        rate, TypeError for one that is not of floats.
        """
        require(
            not isinstance(waveforms, (Tensor, np.ndarray)) or waveforms.ndim != 1,
            "expected a list of recordings or a tensor (N, T); wrap a single one: [waveform]",
        )
        signals = [self._checked(i, waveform) for i, waveform in enumerate(waveforms)]
        # Recordings of like length share a batch, so that little is computed on padding.
        order = sorted(range(len(signals)), key=lambda i: len(signals[i]))
        out = torch.empty(len(signals), self.frames, self.n_mels)
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            out[rows] = self._batch([signals[i] for i in rows])
        return out

    def _batch(self, signals: list[Tensor]) -> Tensor:
        """Spectrograms of a few recordings, (B, frames, n_mels), each unaffected by the padding of
        the others."""
        padded = torch.nn.utils.rnn.pad_sequence(signals, batch_first=True)  # (B, T)
        # (B, n_fft // 2 + 1, F)
        spectrum = torch.stft(
            padded,
            self._n_fft,
            self._hop,
            len(self._window),
            self._window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power = torch.view_as_real(spectrum).square().sum(-1) / self._window.square().sum()
        mel = (self._filters @ power / _FLOOR).clamp_min(1).log()  # (B, n_mels, F), 0 is silence
        counts = torch.tensor([1 + len(signal) // self._hop for signal in signals])
        # (B, frames, n_mels)
        grid = stretches(counts, mel.shape[-1], self.frames) @ mel.transpose(1, 2)
        return grid - grid.mean((1, 2), keepdim=True)

    def _checked(self, index: int, waveform: Tensor | np.ndarray | Utterance) -> Tensor:
        """Return recording `index` as (T,) float32 on the CPU."""
        rate = getattr(waveform, "sample_rate", self.sample_rate)
        require(
            rate == self.sample_rate,
            f"recording {index} has {rate} samples per second, this encoder expects"
            f" {self.sample_rate}: make an AudioEncoder(sample_rate={rate}), or resample it",
        )
        signal = float_samples(
            f"recording {index}",
            torch.as_tensor(getattr(waveform, "waveform", waveform)),
            (1,),
            "(T,) in -1..1, mono (divide 16-bit samples by 32768)",
        )
        return signal.detach().to("cpu", torch.float32)


def mel_filters(n_fft: int, sample_rate: int, n_mels: int) -> Tensor:
    """Return M (n_mels, n_fft // 2 + 1): triangles that overlap by half, of height 1, evenly spaced
    in mel.

    mel(f) = 2595 log10(1 + f / 700), f in Hz from 0 to sample_rate / 2.
    Raises ValueError where a band falls between two frequencies of the transform.
    """
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)  # Hz
    frequencies = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = np.minimum(
        (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    ).clip(0)
    require(
        filters.any(1).all(),
        f"{n_mels} mel bands are too many for {n_fft} samples per window at {sample_rate} Hz",
    )
    return torch.from_numpy(filters).float()


def stretches(counts: Tensor, longest: int, frames: int) -> Tensor:
    """Return weights (B, frames, longest) that average each recording's first counts[b] frames over
    equal stretches.

    W[b, i, t] = |[i, i+1)·counts[b]/frames ∩ [t, t+1)| · frames / counts[b]; each row sums to 1.
    """
    edges = torch.arange(frames + 1) * (counts / frames)[:, None]  # (B, frames + 1)
    steps = torch.arange(longest)
    overlap = torch.minimum(edges[:, 1:, None], steps + 1) - torch.maximum(
        edges[:, :-1, None], steps
    )
    return overlap.clamp_min(0) * (frames / counts)[:, None, None]
