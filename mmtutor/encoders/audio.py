"""Sounds → log-mel spectrograms, with the face that every encoder has. Taught in chapter 2."""

from torch import Tensor

from mmtutor.checks import one_of
from mmtutor.speech.logmel import LogMel, Recordings


class AudioEncoder(LogMel):
    """A log-mel spectrogram of fixed size, see `LogMel`: N recordings → (N, frames · n_mels).

    name: "log-mel"; .dim = frames · n_mels. Nothing is learnt, and nothing is cached: 2000 short
    clips take under a second. Raises ValueError for another name, and as `LogMel`.
    """

    def __init__(
        self, name: str = "log-mel", sample_rate: int = 22050, n_mels: int = 32, frames: int = 24
    ) -> None:
        """Prepare the window and the mel filters."""
        self.name = one_of("audio encoder", name, ["log-mel"])
        super().__init__(sample_rate, n_mels, frames)
        self.dim = self.frames * self.n_mels

    def encode(self, waveforms: Recordings) -> Tensor:
        """Return the flattened spectrograms: N recordings → (N, frames · n_mels) float32. Raises as
        `spectrogram`."""
        return self.spectrogram(waveforms).flatten(1)
