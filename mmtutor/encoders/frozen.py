"""What the image and the text encoder share: a frozen network, a device, batches, the cache, a
progress
bar. Taught in chapter 2.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mmtutor.checks import require, whole_number
from mmtutor.device import pick_device
from mmtutor.encoders.cache import FeatureCache

Batch = tuple[list[int], Tensor]
"""Positions of the samples, and their features (B, D)."""


class FrozenEncoder(ABC):
    """A pretrained network that is only read: raw samples → vectors (N, D) float32, on the
    processor, without gradient.

    The weights are loaded when a sample is first encoded, not before: features that are all cached
    need no network. Subclasses say how a sample is checked and hashed, how the network is built and
    how batches run through it.
    """

    name: str
    dim: int

    def __init__(
        self,
        device: str | torch.device | None,
        batch_size: int,
        cache: bool | Path | str,
        sha256: str,
        **fingerprint: object,
    ) -> None:
        """Settle device, batch size and cache folder; see the subclasses for their meaning. sha256:
        of the weights; fingerprint: what else changes the features."""
        self.device = pick_device(device)
        self.batch_size = whole_number("batch_size", batch_size, 1)
        self.sha256, fingerprint["weights"] = sha256, sha256
        root = None if isinstance(cache, bool) else cache
        self.cache = (
            None
            if cache is False  # a name may be a folder's path
            else FeatureCache(Path(self.name).name, fingerprint, self.dim, root)
        )

    @cached_property
    def model(self) -> nn.Module:
        """The network, in evaluation mode, its parameters frozen."""
        return self._build().eval().requires_grad_(False).to(self.device)

    def keys(self, samples: Sequence[Any]) -> list[bytes]:
        """Return the content hash of each sample, under which its features are cached. Raises as
        `encode`."""
        return [self._key(sample, i) for i, sample in enumerate(self._checked(samples))]

    def encode(
        self, samples: Sequence[Any], progress: bool = True, keys: list[bytes] | None = None
    ) -> Tensor:
        """Return one vector per sample: (N, D) float32, (0, D) for none.

        Cached features may come as the map of a file, see `FeatureCache.fill`. `progress` shows a
        bar on a terminal; where stderr is no terminal (a notebook, a log) it stays quiet. keys:
        what `keys` has returned for these samples, so that they are not read and hashed a second
        time.
        Raises TypeError or ValueError naming the sample that cannot be encoded, ValueError for
        another number of keys than samples, EncoderUnavailable where weights cannot be had,
        CacheNotWritable where features cannot be stored. Batches finished before that stay cached.
        """
        samples = self._checked(samples)
        require(
            keys is None or len(keys) == len(samples),
            f"{len(samples if keys is None else keys)} keys for {len(samples)} samples",
        )

        def compute(rows: list[int]) -> Iterator[Batch]:
            with tqdm(
                total=len(rows), desc=self.name, unit="sample", disable=None if progress else True
            ) as bar:
                for done, features in self._batches(samples, rows):
                    yield done, features
                    bar.update(len(done))

        if self.cache is not None:
            return self.cache.fill(self.keys(samples) if keys is None else keys, compute)
        out = torch.empty(len(samples), self.dim)
        for rows, features in compute(list(range(len(samples)))):
            out[rows] = features.to(out)
        return out

    @abstractmethod
    def _checked(self, samples: Sequence[Any]) -> Sequence[Any]:
        """Return the samples as a list; raise TypeError or ValueError naming what is no sample."""

    @abstractmethod
    def _key(self, sample: Any, index: int, /) -> bytes:
        """Return the hash of a sample's content; `index` is its number, for error messages."""

    @abstractmethod
    def _build(self) -> nn.Module:
        """Load the network."""

    @abstractmethod
    def _batches(self, samples: Sequence[Any], rows: list[int]) -> Iterator[Batch]:
        """Encode the samples at `rows`, a batch at a time."""

    def __repr__(self) -> str:
        """Name the encoder, its width and where it runs."""
        return f"{type(self).__name__}({self.name!r}, dim={self.dim}, device={str(self.device)!r})"
