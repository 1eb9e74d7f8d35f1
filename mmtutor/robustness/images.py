"""Pictures made worse: x is (N, C, H, W) float in 0..1, and so is what comes back. `corrupt` checks
and dispatches.

Taught in chapter 8.
"""

import io
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from mmtutor.checks import float_samples, require

# what covers an occluded square: the middle of the range, on black and on white pictures a change
GREY = 0.5


def check(x: object) -> None:
    """Raise TypeError or ValueError, saying what was expected, unless x is pictures (N, C, H, W),
    float, in 0..1."""
    x = float_samples("image samples", x, (4,), "(N, C, H, W) in 0..1")
    require(
        ((x >= 0) & (x <= 1)).all(),
        "image samples have values outside 0..1: divide 8-bit pictures by 255",
    )


def noise(x: Tensor, sd: float, generator: torch.Generator) -> Tensor:
    """x + N(0, sd²), each value on its own, cut off at 0 and 1 as a sensor does."""
    return (
        x + sd * torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    ).clamp(0, 1)


def blur(x: Tensor, sd: float, generator: torch.Generator) -> Tensor:
    """x convolved with a Gaussian whose sd is that share of the shorter side; the mean of each
    channel is kept.

    The picture goes on beyond its edge as its mirror image, edge pixel included. Nothing is drawn
    at random.
    """
    pixels = sd * min(x.shape[2:])
    # (H, H), (W, W): row i holds the weights with which a line's pixels make up blurred pixel i
    rows, columns = (_gaussian_matrix(n, max(pixels, 1e-12)).to(x) for n in x.shape[2:])
    return torch.einsum("ih,nchw,jw->ncij", rows, x, columns).clamp(0, 1)


@lru_cache(maxsize=8)
def _gaussian_matrix(n: int, sd: float) -> Tensor:
    return torch.from_numpy(gaussian_filter1d(np.eye(n), sd, axis=0, mode="reflect"))


def occlusion(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """One grey rectangle per picture, in the picture's own proportions (square in a square),
    anywhere inside.

    Its sides are round(H √share) and round(W √share) pixels, so that its area is `share` up to
    rounding.
    """
    inside = torch.ones(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
    for dim in (2, 3):
        length = x.shape[dim]
        side = round(length * share**0.5)
        start = torch.randint(length - side + 1, (len(x), 1), generator=generator, device=x.device)
        steps = torch.arange(length, device=x.device)
        covered = (steps >= start) & (steps < start + side)  # (N, length)
        inside = inside & covered.reshape(len(x), 1, *((length, 1) if dim == 2 else (1, length)))
    return torch.where(inside, GREY, x)


def brightness(x: Tensor, shift: float, generator: torch.Generator) -> Tensor:
    """x + shift, cut off at 1: an exposure too long. Nothing is drawn at random."""
    return (x + shift).clamp(max=1)


def jpeg(x: Tensor, quality: float, generator: torch.Generator) -> Tensor:
    """x written as 8-bit JPEG of that quality (rounded, 1..100) and read again; nothing is drawn at
    random.

    Raises ValueError unless there are 1 or 3 channels. One picture after the other: a codec takes
    no batch.
    """
    require(
        x.shape[1] in (1, 3),
        f"image samples have {x.shape[1]} channels, expected 1 (grey) or 3 (RGB) for 'jpeg'",
    )
    pixels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    read = np.stack([_through_jpeg(picture, round(quality)) for picture in pixels])  # (N, H, W, C)
    return (torch.from_numpy(read).permute(0, 3, 1, 2).double() / 255).to(x)


def _through_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(
        file, "JPEG", quality=quality
    )
    with Image.open(file) as image:
        return np.asarray(image).reshape(picture.shape)
