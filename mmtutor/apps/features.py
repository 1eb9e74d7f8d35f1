"""From posts to frozen features: chunk by chunk, through the encoders' cache, faulty pictures named
and left out."""

import os
import stat
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from mmtutor.apps.faults import MAX_MEGABYTES, PostsUnusable, Problem
from mmtutor.apps.posts import Post
from mmtutor.checks import require
from mmtutor.encoders import ImageEncoder, TextEncoder
from mmtutor.encoders.cache import FeatureCache
from mmtutor.encoders.pictures import PictureUnreadable, opened

MODALITIES = ("text", "image")
CHUNK = 512
"""Posts in memory at a time, and the most whose features an interruption can cost twice."""
SPILL_ROWS = 4096
"""Rows of a table that are gathered at a time, since it may be larger than memory."""
MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485
"""Pillow's own limit, above which it suspects a decompression bomb; here it is an error, not a
warning."""


class Picture(NamedTuple):
    """A post's picture file and the hash of its content."""

    post: Post
    path: str
    key: bytes


@dataclass(frozen=True)
class Chunk:
    """Some posts, encoded. outcome: for each post itself, or the problem it has; kept: the posts
    without one.

    features[m]: (N_m, D) float32 of the kept posts that have modality m; where[m]: their positions
    among the kept.
    keys[m]: N_m content hashes, under which the features are cached.
    """

    outcome: list[Post | Problem]
    kept: list[Post]
    features: dict[str, Tensor]
    where: dict[str, list[int]]
    keys: dict[str, list[bytes]]

    @property
    def pictures(self) -> dict[int, bytes]:
        """Return position among the kept posts → content hash of its picture."""
        return dict(zip(self.where["image"], self.keys["image"], strict=True))


def parts(posts: Iterable[Post | Problem]) -> Iterator[list[Post | Problem]]:
    """Yield posts CHUNK at a time."""
    posts = iter(posts)
    while part := list(islice(posts, CHUNK)):
        yield part


class PostEncoder:
    """Encodes posts whose pictures lie in one folder, with the packaged encoders.

    images: the folder; a post's picture is a path in it, and one that leaves it is refused. device:
    as the encoders'.
    cache: True for the usual cache folder, or a path. max_megabytes: largest picture file.
    Raises PostsUnusable where images is no folder.
    """

    def __init__(
        self,
        images: Path | str | None,
        device: str | None = None,
        cache: bool | Path | str = True,
        max_megabytes: float = MAX_MEGABYTES,
    ) -> None:
        """Settle the options; networks are loaded when a post needs them."""
        require(
            cache is not False,
            "cache=False, expected True or a folder: posts are found again by what was stored"
            " of them",
        )
        require(
            images is None or Path(images).is_dir(),
            f"the folder of pictures, {images}, is no folder: say --images DIR",
            PostsUnusable,
        )
        self.root = None if images is None else os.path.realpath(images)
        self.max_megabytes = max_megabytes
        self.text = TextEncoder(device=device, cache=cache)
        self.image = ImageEncoder(device=device, cache=cache)
        self.encoders = {"text": self.text, "image": self.image}
        self.caches = {m: cast(FeatureCache, each.cache) for m, each in self.encoders.items()}

    @property
    def dims(self) -> dict[str, int]:
        """Return the width of each modality's features."""
        return {m: encoder.dim for m, encoder in self.encoders.items()}

    def chunks(
        self, posts: Iterable[Post | Problem], image_column: str, progress: str = ""
    ) -> Iterator[Chunk]:
        """Yield chunks of CHUNK posts, in order; `progress` names a bar on a terminal, "" shows
        none."""
        with tqdm(desc=progress, unit="post", disable=None if progress else True) as bar:
            for part in parts(posts):
                yield self.encode(part, image_column)
                bar.update(len(part))

    def encode(self, posts: list[Post | Problem], image_column: str = "image") -> Chunk:
        """Return one chunk; a post whose picture cannot be had or read becomes a Problem in
        `image_column`."""
        outcome = list(posts)
        pictures: dict[int, Picture] = {}
        for i, post in enumerate(posts):
            if isinstance(post, Post) and post.image:
                picture = self._file(post, image_column)
                if isinstance(picture, Problem):
                    outcome[i] = picture
                else:
                    pictures[i] = picture
        self._look(outcome, pictures, image_column)
        pixels = self._pictures(outcome, pictures, image_column)
        kept = {i: post for i, post in enumerate(outcome) if isinstance(post, Post)}
        texts = [post.text for post in kept.values() if post.text]
        where = {
            "text": [k for k, post in enumerate(kept.values()) if post.text],
            "image": [k for k, post in enumerate(kept.values()) if post.image],
        }
        keys = {
            "text": self.text.keys(texts),
            "image": [pictures[i].key for i, post in kept.items() if post.image],
        }
        features = {
            "text": self.text.encode(texts, progress=False, keys=keys["text"]),
            "image": pixels,
        }
        return Chunk(outcome, list(kept.values()), features, where, keys)

    def recall(self, modality: str, keys: np.ndarray, rows: np.ndarray, n: int) -> Tensor:
        """Return a table (n, D) with the cached features of `keys` in `rows`, zeros elsewhere.

        A large one is the map of a file, see `FeatureCache.room`, which says what it raises.
        """
        cache = self.caches[modality]

        def gone(rows: list[int]) -> Iterator[tuple[list[int], Tensor]]:
            raise RuntimeError(f"{len(rows)} features vanished from {cache.folder} meanwhile")
            yield

        table = cache.room(n)
        for start in range(0, len(keys), SPILL_ROWS):
            part = slice(start, start + SPILL_ROWS)
            table[rows[part]] = cache.fill(keys[part], gone).numpy()
        return torch.from_numpy(table)

    def _file(self, post: Post, column: str) -> Picture | Problem:
        """Return a post's picture file, or why it cannot be had. Nothing is decoded here."""

        def problem(kind: str, detail: str) -> Problem:
            return Problem(post.row, column, kind, f"{post.image}{detail}")

        if self.root is None:
            return problem("no folder of pictures", ": say --images DIR")
        # accented letters may be written otherwise on the disk than in the table
        ways = [post.image, *(unicodedata.normalize(form, post.image) for form in ("NFC", "NFD"))]
        paths = [os.path.join(self.root, way) for way in ways]
        named = next(filter(os.path.lexists, paths), paths[0])
        path = os.path.realpath(named)
        if not Path(path).is_relative_to(self.root):
            inside = Path(os.path.abspath(named)).is_relative_to(self.root)
            why = "is a link that leads out of" if inside else "is not inside"
            return problem("path leaves the folder", f" {why} the folder of pictures")
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):  # a folder; or a pipe, which to read never ends
                return problem("missing picture", " is no file")
            if (megabytes := status.st_size / 1e6) > self.max_megabytes:
                limit = f"the limit is {self.max_megabytes:g} MB"
                return problem("picture too large", f" has {megabytes:.0f} MB, {limit}")
            return Picture(post, path, self.image.keys([path])[0])
        except FileNotFoundError:
            return problem("missing picture", " is not in the folder of pictures")
        except (OSError, PictureUnreadable) as error:  # a name too long, no permission
            # the reason without the path, which is no matter of who reads the answers
            reason = getattr(error.__cause__ or error, "strerror", None) or type(error).__name__
            return problem("missing picture", f" cannot be opened: {reason}")

    def _look(
        self, outcome: list[Post | Problem], pictures: dict[int, Picture], column: str
    ) -> None:
        """Look at the headers of pictures that are not cached: sizes that no photograph has are not
        decoded."""
        new = list(pictures.values())
        for k in self.caches["image"].missing([picture.key for picture in new]) if new else []:
            if problem := _header_problem(new[k], column):
                twins = [i for i, picture in pictures.items() if picture.key == new[k].key]
                for i in twins:  # the same file may stand in several rows
                    outcome[i] = replace(problem, row=pictures.pop(i).post.row)

    def _pictures(
        self, outcome: list[Post | Problem], pictures: dict[int, Picture], column: str
    ) -> Tensor:
        """Encode pictures; each that turns out unreadable is left out and the rest encoded again,
        from the cache."""
        while True:
            rows = list(pictures)
            paths = [picture.path for picture in pictures.values()]
            keys = [picture.key for picture in pictures.values()]
            try:
                return self.image.encode(paths, progress=False, keys=keys)
            except PictureUnreadable as error:
                post, path, _ = pictures.pop(rows[error.index])
                detail = f"{post.image}: {error.__cause__ or error}".replace(path, "")
                outcome[rows[error.index]] = Problem(post.row, column, "corrupt picture", detail)


def _header_problem(picture: Picture, column: str) -> Problem | None:
    row, name = picture.post.row, picture.post.image
    try:
        with warnings.catch_warnings():
            # of sizes, an error below with our words; of odd EXIF
            warnings.simplefilter("ignore")
            with opened(picture.path) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        return Problem(
            row, column, "picture too large", f"{name} unpacks to more pixels than is safe"
        )
    except Exception as error:  # Pillow's readers raise errors of many kinds on broken files
        return Problem(
            row, column, "corrupt picture", f"{name}: no readable picture ({type(error).__name__})"
        )
    if width * height > MAX_PIXELS:
        return Problem(
            row,
            column,
            "picture too large",
            f"{name} has {width} × {height} pixels, the limit is {MAX_PIXELS:,}",
        )
    return None
