"""From posts to frozen features: chunk by chunk, through the encoders' cache, faulty pictures named
and left out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from mmtutor.apps.faults import PostsUnusable, Problem
from mmtutor.apps.posts import Post
from mmtutor.encoders import ImageEncoder, TextEncoder
from mmtutor.encoders.pictures import FORMATS, PictureUnreadable

MODALITIES = ("text", "image")
CHUNK = 512
"""Posts in memory at a time, and the most whose features an interruption can cost twice."""
SPILL_BYTES, SPILL_ROWS = 64_000_000, 4096
"""Features of a table above this size are gathered in a file, so many rows at a time, and not in
memory."""
MAX_MEGABYTES = 50.0
MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485
"""Pillow's own limit, above which it suspects a decompression bomb; here it is an error, not a
warning."""


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
        if cache is False:
            raise ValueError(
                "cache=False, expected True or a folder: posts are found again by what was stored"
                " of them"
            )
        if images is not None and not Path(images).is_dir():
            raise PostsUnusable(f"the folder of pictures, {images}, is no folder: say --images DIR")
        self.root = None if images is None else os.path.realpath(images)
        self.max_megabytes = max_megabytes
        self.encoders = {
            "text": TextEncoder(device=device, cache=cache),
            "image": ImageEncoder(device=device, cache=cache),
        }

    @property
    def dims(self) -> dict[str, int]:
        """Return the width of each modality's features."""
        return {m: encoder.dim for m, encoder in self.encoders.items()}

    def chunks(
        self, posts: Iterable[Post | Problem], image_column: str, progress: str = ""
    ) -> Iterator[Chunk]:
        """Yield chunks of CHUNK posts, in order; `progress` names a bar on a terminal, "" shows
        none."""
        posts = iter(posts)
        with tqdm(desc=progress, unit="post", disable=None if progress else True) as bar:
            while part := list(islice(posts, CHUNK)):
                yield self.encode(part, image_column)
                bar.update(len(part))

    def encode(self, posts: list[Post | Problem], image_column: str = "image") -> Chunk:
        """Return one chunk; a post whose picture cannot be had or read becomes a Problem in
        `image_column`."""
        outcome = list(posts)
        pictures: dict[int, tuple[str, bytes]] = {}
        for i, post in enumerate(posts):
            if isinstance(post, Post) and post.image:
                found = self._file(post, image_column)
                if isinstance(found, Problem):
                    outcome[i] = found
                else:
                    pictures[i] = found
        self._look(outcome, pictures, image_column)
        seen = self._pictures(outcome, pictures, image_column)
        kept = [i for i, post in enumerate(outcome) if isinstance(post, Post)]
        where = {
            "text": [k for k, i in enumerate(kept) if outcome[i].text],
            "image": [k for k, i in enumerate(kept) if outcome[i].image],
        }
        texts = [outcome[kept[k]].text for k in where["text"]]
        keys = {
            "text": self.encoders["text"].keys(texts),
            "image": [pictures[kept[k]][1] for k in where["image"]],
        }
        features = {
            "text": self.encoders["text"].encode(texts, progress=False, keys=keys["text"]),
            "image": seen,
        }
        return Chunk(outcome, [outcome[i] for i in kept], features, where, keys)

    def recall(self, modality: str, keys: np.ndarray, rows: np.ndarray, n: int) -> Tensor:
        """Return a table (n, D) with the cached features of `keys` in `rows`, zeros elsewhere.

        A large one is the map of a file that goes with its last reader.
        """
        cache = self.encoders[modality].cache

        def gone(rows: list[int]) -> Iterator[tuple[list[int], Tensor]]:
            raise RuntimeError(f"{len(rows)} features vanished from {cache.folder} meanwhile")
            yield

        if len(keys) * cache.dim * 4 <= SPILL_BYTES:
            table = np.zeros((n, cache.dim), np.float32)
        else:
            # a file without a name: it is gone with the last who maps it
            with TemporaryFile(dir=cache.folder) as file:
                table = np.memmap(file, np.float32, "w+", shape=(n, cache.dim))
        for start in range(0, len(keys), SPILL_ROWS):
            part = slice(start, start + SPILL_ROWS)
            table[rows[part]] = cache.fill(keys[part], gone).numpy()
        return torch.from_numpy(table)

    def _file(self, post: Post, column: str) -> tuple[str, bytes] | Problem:
        """Return path and content hash of a post's picture, or why it cannot be had. Nothing is
        decoded here."""
        if self.root is None:
            return Problem(
                post.row, column, "no folder of pictures", f"{post.image}: say --images DIR"
            )
        path = os.path.realpath(os.path.join(self.root, post.image))
        if not Path(path).is_relative_to(self.root):
            return Problem(
                post.row,
                column,
                "path leaves the folder",
                f"{post.image} is not inside the folder of pictures",
            )
        try:
            status = os.stat(path)
            if not stat.S_ISREG(
                status.st_mode
            ):  # a folder; or a pipe, which to read would wait for ever
                return Problem(post.row, column, "missing picture", f"{post.image} is no file")
            if (megabytes := status.st_size / 1e6) > self.max_megabytes:
                detail = (
                    f"{post.image} has {megabytes:.0f} MB, the limit is {self.max_megabytes:g} MB"
                )
                return Problem(post.row, column, "picture too large", detail)
            return path, self.encoders["image"].keys([path])[0]
        except FileNotFoundError:
            return Problem(
                post.row,
                column,
                "missing picture",
                f"{post.image} is not in the folder of pictures",
            )
        except (
            OSError,
            PictureUnreadable,
        ) as error:  # a name too long, no permission; the reason without the path
            reason = getattr(error.__cause__ or error, "strerror", None) or type(error).__name__
            return Problem(
                post.row, column, "missing picture", f"{post.image} cannot be opened: {reason}"
            )

    def _look(
        self, outcome: list[Post | Problem], pictures: dict[int, tuple[str, bytes]], column: str
    ) -> None:
        """Look at the headers of pictures that are not cached: sizes that no photograph has are not
        decoded."""
        rows = list(pictures)
        for k in (
            self.encoders["image"].cache.missing([pictures[i][1] for i in rows]) if rows else []
        ):
            post, (path, _) = outcome[rows[k]], pictures[rows[k]]
            if problem := _header_problem(post, path, column):
                twins = [
                    i for i in rows if i in pictures and pictures[i][1] == pictures[rows[k]][1]
                ]
                for i in twins:  # the same file may stand in several rows
                    outcome[i] = Problem(outcome[i].row, column, problem.kind, problem.detail)
                    del pictures[i]

    def _pictures(
        self, outcome: list[Post | Problem], pictures: dict[int, tuple[str, bytes]], column: str
    ) -> Tensor:
        """Encode pictures; each that turns out unreadable is left out and the rest encoded again,
        from the cache."""
        while True:
            rows = list(pictures)
            paths, keys = [pictures[i][0] for i in rows], [pictures[i][1] for i in rows]
            try:
                return self.encoders["image"].encode(paths, progress=False, keys=keys)
            except PictureUnreadable as error:
                i = rows[error.index]
                detail = f"{outcome[i].image}: {error.__cause__ or error}"
                outcome[i] = Problem(
                    outcome[i].row,
                    column,
                    "corrupt picture",
                    detail.replace(paths[error.index], ""),
                )
                del pictures[i]


def _header_problem(post: Post, path: str, column: str) -> Problem | None:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", Image.DecompressionBombWarning
            )  # an error below, with our words
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        return Problem(
            post.row,
            column,
            "picture too large",
            f"{post.image} unpacks to more pixels than is safe",
        )
    except Exception as error:  # Pillow's readers raise errors of many kinds on broken files
        return Problem(
            post.row,
            column,
            "corrupt picture",
            f"{post.image}: no readable picture ({type(error).__name__})",
        )
    if width * height > MAX_PIXELS:
        size = f"{width} × {height} pixels"
        return Problem(
            post.row,
            column,
            "picture too large",
            f"{post.image} has {size}, the limit is {MAX_PIXELS:,}",
        )
    return None
