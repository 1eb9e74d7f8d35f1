"""What the table tool reads beside the core's encoders: sound files, and text in any language by
its characters."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from math import gcd
from pathlib import Path

import numpy as np
import torch
from scipy.signal import resample_poly
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor

from mmtutor.checks import require
from mmtutor.encoders import AudioEncoder
from mmtutor.encoders.cache import FeatureCache, content_key
from mmtutor.encoders.pictures import SampleUnreadable
from mmtutor.files.weights import EncoderUnavailable

RATE, FRAMES, MELS = 16_000, 24, 32
LOUDEST = 1e6
MOST_SECONDS, RATES = 600, range(1000, 400_001)


class SoundEncoder:
    """Sound files → log-mel spectrograms of FRAMES stretches and MELS bands, see `AudioEncoder`;
    channels are averaged, other sample rates brought to RATE.

    Formats are those of libsndfile: WAV, FLAC, Ogg, MP3 and others (extra `tables`).
    """

    name, dim = "log-mel", FRAMES * MELS

    def __init__(self, device: str | None = None, cache: bool | Path | str = True) -> None:
        """Prepare the filters; device: for the sake of the other encoders. EncoderUnavailable says
        where there is no libsndfile."""
        try:
            self._soundfile = import_module("soundfile")
        except (ImportError, OSError) as error:
            raise EncoderUnavailable(
                f"sound files cannot be read ({error}): pip install 'mmtutor[tables]'"
            ) from error
        self._mel = AudioEncoder(self.name, RATE, MELS, FRAMES)
        root = None if isinstance(cache, bool) else cache
        self.cache = FeatureCache(self.name, {"sounds": 1, "rate": RATE}, self.dim, root)

    def _waveform(self, path: str) -> Tensor:
        """Return a sound file as (T,) float32 at RATE."""
        with self._soundfile.SoundFile(path) as file:
            require(file.samplerate in RATES, f"{file.samplerate} samples a second are no sound's")
            require(len(file) <= MOST_SECONDS * file.samplerate, f"longer than {MOST_SECONDS} s")
            mono, rate = file.read(dtype="float32", always_2d=True).mean(1), file.samplerate
        require(np.abs(mono).max(initial=0) < LOUDEST, "its samples are no sound's")  # NaN, too
        step = gcd(rate, RATE)
        return torch.from_numpy(resample_poly(mono, RATE // step, rate // step))

    def keys(self, paths: Sequence[str]) -> list[bytes]:
        """Return the content hash of each file."""
        return [content_key("sound", Path(path).read_bytes()) for path in paths]

    def encode(self, paths: Sequence[str], progress: bool, keys: list[bytes]) -> Tensor:
        """Return (N, FRAMES · MELS) float32; SampleUnreadable names the file that holds no
        sound."""

        def compute(rows: list[int]) -> Iterator[tuple[list[int], Tensor]]:
            for i in rows:
                try:
                    yield [i], self._mel.encode([self._waveform(paths[i])])
                except Exception as error:  # libsndfile's, and those of what is no sound
                    raise SampleUnreadable(f"{paths[i]} is no readable sound", i) from error

        return self.cache.fill(keys, compute)


class CharacterEncoder:
    """Texts → counts of their pieces of one to four characters, hashed to `dim` numbers: any
    language, nothing learnt, nothing downloaded.

    Logarithms of counts, each text of length 1. Weinberger et al., Feature Hashing for Large Scale
    Multitask Learning, ICML 2009 (arXiv 0902.2206).
    """

    name, dim = "characters", 2048

    def __init__(self, device: str | None = None, cache: bool | Path | str = True) -> None:
        """Prepare the hash; device: for the sake of the other encoders."""
        self._counts = HashingVectorizer(
            analyzer="char_wb", ngram_range=(1, 4), n_features=self.dim, norm=None
        )
        root = None if isinstance(cache, bool) else cache
        self.cache = FeatureCache(self.name, {"characters": 1}, self.dim, root)

    def keys(self, texts: Sequence[str]) -> list[bytes]:
        """Return the content hash of each text."""
        return [content_key("text", text.encode()) for text in texts]

    def encode(self, texts: Sequence[str], progress: bool, keys: list[bytes]) -> Tensor:
        """Return (N, dim) float32."""

        def compute(rows: list[int]) -> Iterator[tuple[list[int], Tensor]]:
            counts = self._counts.transform([texts[i] for i in rows]).toarray()
            signed = torch.from_numpy(counts).float()
            yield rows, torch.nn.functional.normalize(signed.sign() * signed.abs().log1p())

        return self.cache.fill(keys, compute)

    def unread(self, texts: Sequence[str]) -> dict[str, int]:
        """Return nothing: every character is read."""
        return {}
