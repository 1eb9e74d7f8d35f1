"""From posts to the table that choosing reads: features on disk, labels, and groups of reposts."""

from collections import defaultdict
from itertools import count

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mmtutor.apps.faults import Faults, PostsUnusable
from mmtutor.apps.features import MODALITIES, PostEncoder, parts
from mmtutor.apps.posts import Post, PostTable
from mmtutor.checks import require
from mmtutor.choosing.grouped import GroupedSamples
from mmtutor.data.mvsa import normalise
from mmtutor.encoders.cache import KEY_BYTES, content_key

MOST_CLASSES = 100


class Grouping:
    """Which posts belong together: those of one given group; of the others, those of the same words
    or picture file."""

    def __init__(self) -> None:
        """Start without posts."""
        self._given: list[int] = []
        self._links: list[tuple[int, int]] = []  # (post, number of its words or of its picture)
        self._names: dict[str, int] = defaultdict(count().__next__)
        self._things: dict[bytes, int] = defaultdict(count().__next__)

    def add(self, post: Post, picture: bytes | None) -> None:
        """Add the next post; picture: the content hash of its picture file, None for none."""
        row = len(self._given)
        self._given.append(-1 if post.group is None else self._names[post.group])
        if words := normalise(post.text) or post.text:  # of emoji and marks alone: the text itself
            self._links.append((row, self._things[content_key("words", words.encode())]))
        if picture is not None:
            self._links.append((row, self._things[picture]))

    def numbers(self) -> np.ndarray:
        """Return the number of each post's group, (N,) int64."""
        known = np.array(self._given)
        return np.where(known >= 0, known, _joined(len(known), self._links) + len(self._names))


def read_table(
    posts: PostTable, encoder: PostEncoder, faults: Faults, progress: bool = True
) -> GroupedSamples:
    """Encode all posts and return them as a table; what is faulty is added to `faults` and left
    out.

    Posts with both come first, then those with a text only, then the rest; else the order is the
    table's. Only hashes, labels and groups of the posts stay in memory. What was encoded before an
    interruption is found in the cache. Groups: those of the group column, where the table has one;
    else posts with the same words (links, mentions and all but letters aside) or the same picture
    file are one group, so that a repost never stands on both sides. Under several processes each
    encodes its share, then all read the cache.
    Raises PostsUnusable where no post is left, or labels are of one class or of more than
    MOST_CLASSES.
    """
    _share_encoding(posts, encoder)
    labels: dict[str, int] = defaultdict(count().__next__)  # a new one gets the next number
    grouping, y = Grouping(), []
    keys = {m: bytearray() for m in MODALITIES}
    has: dict[str, list[bool]] = {m: [] for m in MODALITIES}
    for chunk in encoder.chunks(
        posts.labelled(), posts.columns.image, "features" if progress else ""
    ):
        faults.note(chunk.outcome)
        pictures = chunk.pictures
        for k, post in enumerate(chunk.kept):
            y.append(labels[str(post.label)])
            grouping.add(post, pictures.get(k))
        for m in MODALITIES:
            has[m] += np.isin(np.arange(len(chunk.kept)), chunk.where[m]).tolist()
            keys[m] += b"".join(key.ljust(KEY_BYTES, b"\0") for key in chunk.keys[m])
    classes = _classes(labels, len(y), faults, posts)
    number = np.array([classes.index(name) for name in labels])
    present = {m: np.array(has[m]) for m in MODALITIES}
    # complete posts first, then those with a text: each head then reads few stretches of a map
    order = np.argsort(
        np.where(present["text"] & present["image"], 0, 2 - present["text"]), kind="stable"
    )
    features = {}
    for m in MODALITIES:
        number_of_key, present[m] = np.cumsum(present[m])[order] - 1, present[m][order]
        rows = present[m].nonzero()[0]
        known = np.frombuffer(keys[m], f"S{KEY_BYTES}")[number_of_key[rows]]
        features[m] = encoder.recall(m, known, rows, len(order))
    return GroupedSamples(
        features,
        torch.from_numpy(number[y][order]),
        grouping.numbers()[order],
        classes,
        {m: torch.from_numpy(mask) for m, mask in present.items()},
    )


def _share_encoding(posts: PostTable, encoder: PostEncoder) -> None:
    """Under several processes: encode every n-th chunk here, the others elsewhere; wait until all
    are cached."""
    from accelerate import PartialState

    state = PartialState()  # of the processes that `device.make_accelerator` has found
    if state.num_processes == 1:
        return
    for number, part in enumerate(parts(posts.labelled())):
        if number % state.num_processes == state.process_index:
            encoder.encode(part, posts.columns.image)
    state.wait_for_everyone()


def _classes(labels: dict[str, int], n: int, faults: Faults, posts: PostTable) -> tuple[str, ...]:
    """Return the class names in order: by value where all are numbers, else by name."""
    where = f"{posts.path.name}, column {posts.columns.label!r}"
    require(
        n,
        f"{posts.path.name} holds no usable post.\n{faults.summary() or 'It has no rows.'}",
        PostsUnusable,
    )
    require(
        len(labels) != 1,
        f"{where}: all {n} usable posts are {next(iter(labels))!r}: nothing to tell apart",
        PostsUnusable,
    )
    if len(labels) > MOST_CLASSES:
        shown = ", ".join(map(repr, list(labels)[:3]))
        raise PostsUnusable(
            f"{where}: {len(labels)} different labels ({shown}, …), at most {MOST_CLASSES}: is it"
            " the one?"
        )
    try:
        return tuple(sorted(labels, key=float))
    except ValueError:
        return tuple(sorted(labels))


def _joined(n: int, links: list[tuple[int, int]]) -> np.ndarray:
    """Return the group of each of n posts, where posts linked to the same number, directly or in
    turn, are one."""
    if not links:
        return np.arange(n)
    post, thing = np.array(links).T
    size = n + int(thing.max()) + 1
    _, group = connected_components(
        coo_array((np.ones(len(post)), (post, n + thing)), (size, size)), directed=False
    )
    return group[:n].astype(np.int64)
