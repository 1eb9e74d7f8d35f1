"""Any picture a reader may have → the same small RGB square. Files, PIL images, numpy arrays, torch
tensors. Taught in chapter 2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from mmtutor.encoders.cache import content_key

VERSION = 1
"""Raised whenever the same picture would give other pixels: features cached before are then
computed again."""

Image.init()  # registers all of Pillow's formats, so that the names below are known to it
FORMATS = tuple(
    name
    for name in ("JPEG", "MPO", "PNG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "PPM", "ICO")
    if name in Image.OPEN
)
"""Formats of picture files that are read: those of photographs and screens. Others run programs
(EPS) or hold pages."""

Picture = Path | str | Image.Image | np.ndarray | Tensor


class PictureUnreadable(ValueError):
    """A picture that cannot be read; the message names the file or the sample, `index` is the
    sample's number."""

    def __init__(self, message: str, index: int) -> None:
        """Keep the number, so that a caller can leave that sample out and go on."""
        super().__init__(message)
        self.index = index


def key(picture: Picture, index: int) -> bytes:
    """Return the content hash of a picture: of its bytes for a file, of its RGB pixels
    otherwise."""
    if isinstance(picture, Path | str):
        with _naming(picture, index):
            return content_key("file", Path(picture).read_bytes())
    rgb = to_rgb(picture, index)
    return content_key("pixels", repr(rgb.size).encode(), rgb.tobytes())


def to_rgb(picture: Picture, index: int = 0) -> Image.Image:
    """Return the picture as 8-bit RGB, upright; `index` is the sample's number, for error messages.

    EXIF orientation is applied; transparency is laid over white; grey, palette and CMYK are
    converted; 16 bits (0..65535) are scaled to 8; of an animation the first frame is taken. Arrays
    are (H, W) or (H, W, C), tensors (H, W) or (C, H, W), with C = 1, 3 or 4: bool, uint8, uint16,
    or float in 0..1, which is rounded to 8 bits.
    Raises PictureUnreadable, FileNotFoundError or TypeError, each naming the file or the sample.
    """
    with _naming(picture, index):
        if isinstance(picture, Path | str):
            with Image.open(picture, formats=FORMATS) as image:
                return _rgb(ImageOps.exif_transpose(image))
        if isinstance(picture, Image.Image):
            return _rgb(ImageOps.exif_transpose(picture))
        return _rgb(Image.fromarray(_bytes(_channels_last(picture))))


def check_type(picture: object, index: int) -> None:
    """Raise TypeError, naming the sample, unless it is of a kind that can be a picture."""
    if not isinstance(picture, Path | str | Image.Image | np.ndarray | Tensor):
        raise TypeError(
            f"sample {index} is a {type(picture).__name__}: expected a path, a PIL image, a numpy"
            " array (H, W, C) or a torch tensor (C, H, W)"
        )


def check_list(samples: object) -> None:
    """Raise TypeError where one picture was given in place of a list of them."""
    one = isinstance(samples, Path | str | bytes | Image.Image)
    if isinstance(samples, np.ndarray | Tensor):
        channels = (
            samples.shape[0 if isinstance(samples, Tensor) else -1] if samples.ndim == 3 else 0
        )
        one = samples.ndim < 3 or channels in (
            3,
            4,
        )  # (H, W, 3) would otherwise pass for H grey pictures
    if one:
        raise TypeError(
            f"expected a list of pictures, got one {type(samples).__name__}: write [picture]"
        )


def square(image: Image.Image, size: int, crop: float, resample: Image.Resampling) -> Tensor:
    """Cut the central square, `crop` of the shorter side, and resize it. RGB image → (size, size,
    3) uint8.

    One resampling of the cut instead of resizing everything and cutting afterwards: the same pixels
    but for the rounding of the intermediate size, less work, and a 1 × 10,000 picture stays small.
    """
    side = min(image.size) * crop
    left, top = (image.width - side) / 2, (image.height - side) / 2
    small = image.resize((size, size), resample, box=(left, top, left + side, top + side))
    return torch.from_numpy(np.array(small))


@contextmanager
def _naming(picture: Picture, index: int) -> Iterator[None]:
    """Turn whatever reading a picture raises into an error that names the picture."""
    shown = str(picture) if isinstance(picture, Path | str) else f"a {type(picture).__name__}"
    where = f"sample {index} ({shown})"
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{where} does not exist") from error
    except UnidentifiedImageError as error:
        raise PictureUnreadable(
            f"{where} is no picture in a format that Pillow knows, or is corrupt", index
        ) from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error) as error:
        raise PictureUnreadable(f"{where} cannot be read as a picture: {error}", index) from error
    except Image.DecompressionBombError as error:
        raise PictureUnreadable(
            f"{where} is too large to be read safely: {error}", index
        ) from error


def _rgb(image: Image.Image) -> Image.Image:
    """Convert any mode of Pillow's to RGB without losing range or transparency on the way."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_bytes(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _channels_last(picture: np.ndarray | Tensor) -> np.ndarray:
    """Return an array (H, W) or (H, W, 3 | 4), whatever order it came in."""
    if isinstance(picture, Tensor):
        picture = picture.detach().cpu()
        picture = picture.float() if picture.is_floating_point() else picture
        array = (picture.permute(1, 2, 0) if picture.ndim == 3 else picture).numpy()
    else:
        array = picture
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if (
        array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (3, 4))
        or 0 in array.shape
    ):
        order = "(H, W) or (C, H, W)" if isinstance(picture, Tensor) else "(H, W) or (H, W, C)"
        raise ValueError(
            f"its shape is {tuple(picture.shape)}, expected {order} with C = 1, 3 or 4, none of"
            " them 0"
        )
    return array


def _bytes(array: np.ndarray) -> np.ndarray:
    """Scale an array of any of the accepted types to uint8."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ValueError("it holds NaN or infinite values")
        top, scale = 1.0, 255.0
    elif array.dtype.newbyteorder("=") in (
        np.uint16,
        np.int32,
    ):  # Pillow's 16-bit modes come as either
        top, scale = 65535, 1 / 257
    else:
        raise ValueError(
            f"its dtype is {array.dtype}, expected bool, uint8, uint16 or float in 0..1"
        )
    if array.min() < 0 or array.max() > top:
        raise ValueError(
            f"its values lie in {array.min()}..{array.max()}, expected 0..{top:g} for {array.dtype}"
        )
    return np.round(array * scale).astype(np.uint8)
