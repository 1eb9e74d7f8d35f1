"""Any picture a reader may have → the same small RGB square. Files, PIL images, numpy arrays, torch
tensors. Taught in chapter 2.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from mmtutor.checks import as_numpy, require
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

# what is odd in EXIF and costs nothing; here, since encoders read pictures in many threads
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}

Picture = Path | str | Image.Image | np.ndarray | Tensor


class SampleUnreadable(ValueError):
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
    Raises SampleUnreadable, FileNotFoundError or TypeError, each naming the file or the sample.
    """
    with _naming(picture, index):
        if isinstance(picture, Path | str):
            with opened(picture) as image:
                return _rgb(_upright(image))
        if isinstance(picture, Image.Image):
            return _rgb(_upright(picture))
        return _rgb(Image.fromarray(_bytes(_channels_last(picture))))


def opened(path: Path | str) -> Image.Image:
    """Open a picture file of one of the FORMATS; nothing is decoded yet. Raises what Pillow
    raises."""
    try:
        return Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        # Pillow looks for a density in a JPEG's EXIF and gives the file up where that is odd
        content = Path(path).read_bytes()
        before, mark, exif = content.partition(b"Exif\0\0")
        if not mark:
            raise
        image = Image.open(BytesIO(before + b"\0" * len(mark) + exif), formats=FORMATS)
        image.info["exif"] = mark + exif[: 1 << 16]
        return image


def checked(samples: Iterable[object]) -> list[Picture]:
    """Return the samples as a list; TypeError where one picture was given in place of a list, or,
    naming the sample, where something cannot be a picture."""
    one = isinstance(samples, Path | str | bytes | Image.Image)
    if isinstance(samples, np.ndarray | Tensor):
        # (H, W, 3) would otherwise pass for H grey pictures.
        one = samples.ndim < 3 or (
            samples.ndim == 3 and samples.shape[0 if isinstance(samples, Tensor) else -1] in (3, 4)
        )
    require(
        not one,
        f"expected a list of pictures, got one {type(samples).__name__}: write [picture]",
        TypeError,
    )
    pictures = list(samples)
    for index, sample in enumerate(pictures):
        require(
            isinstance(sample, Picture),
            f"sample {index} is a {type(sample).__name__}: expected a path, a PIL image, a numpy"
            " array (H, W, C) or a torch tensor (C, H, W)",
            TypeError,
        )
    return cast("list[Picture]", pictures)


def square(image: Image.Image, size: int, crop: float, resample: Image.Resampling) -> Tensor:
    """Cut the central square, `crop` of the shorter side, and resize it. RGB image → (size, size,
    3) uint8.

    One resampling of the cut instead of resizing everything and cutting afterwards: the same pixels
    but for the rounding of the intermediate size, less work, and a 1 × 10,000 picture stays small.
    """
    side = min(image.size) * crop
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return torch.from_numpy(np.array(image.resize((size, size), resample, box)))


@contextmanager
def _naming(picture: Picture, index: int) -> Iterator[None]:
    """Turn whatever reading a picture raises into an error that names the picture."""
    shown = str(picture) if isinstance(picture, Path | str) else f"a {type(picture).__name__}"
    where = f"sample {index} ({shown})"
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{where} does not exist") from error
    except Exception as error:  # Pillow's readers raise errors of many kinds on damaged files
        raise SampleUnreadable(
            f"{where} is corrupt, too large to be safe, or of an unknown format: {error}", index
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF says. Only that entry is read: what is odd elsewhere in it is no
    reason to lose the picture."""
    image.load()  # which turns a TIFF
    try:
        turn = TURNS[image.getexif()[ExifTags.Base.Orientation]]
    except Exception:  # none, or upright; and Pillow's reader raises errors of many kinds
        return image
    turned = image.transpose(Image.Transpose[turn])
    # all that may tell of a turn goes, or the picture would be turned again when it is read again
    turned.info = {k: v for k, v in turned.info.items() if k == "transparency"}
    return turned


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
        order = "(H, W) or (C, H, W)"
        array = as_numpy(picture.movedim(0, -1) if picture.ndim == 3 else picture)
    else:
        array, order = picture, "(H, W) or (H, W, C)"
    array = np.squeeze(array, 2) if array.shape[2:] == (1,) else array
    require(
        array.ndim in (2, 3) and array.shape[2:] in ((), (3,), (4,)) and 0 not in array.shape,
        f"its shape is {tuple(picture.shape)}, expected {order} with C = 1, 3 or 4, none of them 0",
    )
    return array


def _bytes(array: np.ndarray) -> np.ndarray:
    """Scale an array of any of the accepted types to uint8."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    wide = array.dtype.newbyteorder("=") in (np.uint16, np.int32)  # Pillow's 16 bits are either
    require(
        wide or array.dtype.kind in "bf",
        f"its dtype is {array.dtype}, expected bool, uint8, uint16 or float in 0..1",
    )
    top = 65535 if wide else 1
    require(np.isfinite(array).all(), "it holds NaN or infinite values")
    require(
        array.min() >= 0 and array.max() <= top,
        f"its values lie in {array.min()}..{array.max()}, expected 0..{top} for {array.dtype}",
    )
    return np.round(array * (255 / top)).astype(np.uint8)
