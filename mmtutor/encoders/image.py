"""Pictures → vectors, with a convolutional network trained on ImageNet and then left as it is.

Taught in chapter 2.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from mmtutor.checks import one_of, whole_number
from mmtutor.encoders import pictures
from mmtutor.encoders.frozen import Batch, FrozenEncoder
from mmtutor.files.weights import WEIGHTS, locate


@dataclass(frozen=True)
class Recipe:
    """How a network wants its pictures, as published with its weights; pixels x in 0..1 become (x -
    mean) / std.

    network: its name in timm. crop: share of the shorter side that the central square keeps.
    """

    dim: int
    network: str
    crop: float
    resample: Image.Resampling
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


RECIPES = {
    "efficientnet-lite0": Recipe(
        1280,
        "tf_efficientnet_lite0",
        0.875,
        Image.Resampling.BICUBIC,
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5),
    ),
}


class ImageEncoder(FrozenEncoder):
    """Mean over the last feature map of a network trained on ImageNet: pictures → (N, D) float32.

    name: "efficientnet-lite0" (D = 1280, comes with the installation; Tan & Le 2019, arXiv
    1905.11946).
    device: "cpu", "cuda", "mps", or None for the best there is. batch_size: pictures at a time.
    cache: True for the usual cache folder, a path for another, False for none. image_size: side in
    pixels, from 32.
    Raises ValueError for an unknown name, RuntimeError for a device that is not there.
    """

    def __init__(
        self,
        name: str = "efficientnet-lite0",
        device: str | torch.device | None = None,
        batch_size: int = 16,
        cache: bool | Path | str = True,
        image_size: int = 224,
    ) -> None:
        """Settle the options; weights are loaded when the first picture needs them."""
        self.name = one_of("image encoder", name, RECIPES)
        self.recipe = RECIPES[name]
        self.dim = self.recipe.dim
        self.image_size = whole_number("image_size", image_size, 32)
        super().__init__(
            device,
            batch_size,
            cache,
            WEIGHTS[name].sha256,
            pictures=pictures.VERSION,
            image_size=self.image_size,
        )

    def grid(self, samples: Sequence[pictures.Picture]) -> Tensor:
        """Return the last feature map before pooling: (N, P, D) float32, P = H·W places row by row
        (49 at 224 px).

        Its mean over the places is what `encode` returns. Not cached: P times as large.
        """
        samples = self._checked(samples)
        places = self._map(torch.zeros(1, 3, self.image_size, self.image_size)).shape[2:].numel()
        out = torch.empty(len(samples), places, self.dim)
        for rows, batch in self._squares(samples, list(range(len(samples)))):
            out[rows] = self._map(batch).flatten(2).transpose(1, 2).to(out)
        return out

    def preprocess(self, picture: pictures.Picture) -> Tensor:
        """Return what the network sees of a picture: (3, S, S) float32, standardised as its
        training data were."""
        (picture,) = pictures.checked([picture])
        return self._standardise(self._square(picture, 0)[None])[0]

    _checked = staticmethod(pictures.checked)
    _key = staticmethod(pictures.key)

    def _build(self) -> nn.Module:
        """Build the network with its 1000-class layer; every shape is compared on loading."""
        import timm

        network = timm.create_model(self.recipe.network, pretrained=False)
        stored = torch.load(locate(self.name), map_location="cpu", weights_only=True).values()
        # the file's tensors bear other names than timm's, but come in the same order
        network.load_state_dict(dict(zip(network.state_dict(), stored, strict=True)))
        # Convolutions run almost twice as fast on the processor when the channels lie next to each
        # other.
        return network.to(memory_format=torch.channels_last)

    def _batches(self, samples: Sequence[pictures.Picture], rows: list[int]) -> Iterator[Batch]:
        for done, batch in self._squares(samples, rows):
            yield done, self._map(batch).mean((2, 3))

    def _squares(self, samples: Sequence[pictures.Picture], rows: list[int]) -> Iterator[Batch]:
        """Read pictures one batch ahead of the network, in threads (decoding releases Python's
        lock)."""
        parts = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:

            def start(part: list[int]) -> list[Future[Tensor]]:
                return [pool.submit(self._square, samples[i], i) for i in part]

            coming = start(parts[0]) if parts else []
            for part, following in zip(parts, [*parts[1:], []], strict=False):
                ready, coming = coming, start(following)
                yield part, self._standardise(torch.stack([future.result() for future in ready]))

    def _square(self, picture: pictures.Picture, index: int) -> Tensor:
        return pictures.square(
            pictures.to_rgb(picture, index), self.image_size, self.recipe.crop, self.recipe.resample
        )

    def _standardise(self, squares: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 → (B, 3, S, S) float32 on the device; the transposition costs nothing,
        being a view."""
        mean, std = (
            torch.tensor(x, device=self.device) * 255 for x in (self.recipe.mean, self.recipe.std)
        )
        return ((squares.to(self.device).float() - mean) / std).permute(0, 3, 1, 2)

    @torch.no_grad()
    def _map(self, batch: Tensor) -> Tensor:
        """(B, 3, S, S) → last feature map (B, D, H, W)."""
        return cast("nn.Module", self.model.forward_features)(batch.to(self.device))
