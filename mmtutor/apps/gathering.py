"""From rows to the table that choosing reads: features on disk, targets, and groups of what is
repeated."""

from collections import defaultdict
from itertools import count

import numpy as np
import torch
from accelerate import PartialState
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mmtutor.apps.encoding import Chunk, RowEncoder, parts
from mmtutor.apps.faults import Faults
from mmtutor.apps.rows import Rows, Survey, canonical
from mmtutor.choosing.grouped import GroupedSamples
from mmtutor.data.mvsa import normalise
from mmtutor.encoders.cache import KEY_BYTES, content_key


class Grouping:
    """Which rows belong together: those of one given group; of the others, those of the same words
    or the same file."""

    def __init__(self) -> None:
        """Start without rows."""
        self._given: list[int] = []
        self._links: list[tuple[int, int]] = []  # (row, number of its words or of its file)
        self._names: dict[str, int] = defaultdict(count().__next__)
        self._things: dict[bytes, int] = defaultdict(count().__next__)

    def add(self, chunk: Chunk) -> None:
        """Add the rows of a chunk."""
        start = len(self._given)
        for k, row in enumerate(chunk.kept, start):
            self._given.append(-1 if not row.group else self._names[canonical(row.group)])
            text = row.has.get("text", "")
            if words := normalise(text) or text:  # of emoji and marks alone: the text itself
                self._links.append((k, self._things[content_key("words", words.encode())]))
        for m in chunk.keys.keys() - {"text"}:
            pairs = zip(chunk.where[m], chunk.keys[m], strict=True)
            self._links += [(start + k, self._things[key]) for k, key in pairs]

    def numbers(self) -> np.ndarray:
        """Return the number of each row's group, (N,) int64."""
        known, n = np.array(self._given), len(self._given)
        row, thing = np.array(self._links, int).reshape(-1, 2).T
        size = n + len(self._things)
        links = coo_array((np.ones(len(row)), (row, n + thing)), (size, size))
        joined = connected_components(links, directed=False)[1][:n].astype(np.int64)
        return np.where(known >= 0, known, joined + len(self._names))


def gather(
    rows: Rows, found: Survey, encoder: RowEncoder, faults: Faults, progress: bool = True
) -> tuple[GroupedSamples, np.ndarray]:
    """Encode all rows; return them as a table, and their slices (N, K); what is faulty is added to
    `faults` and left out.

    Rows that have all modalities come first, those with the same ones together; else the order is
    the table's. Only hashes, columns, targets and groups stay in memory. What was encoded before an
    interruption is found in the cache. Groups: those of the group column, where there is one; else
    rows of the same words (links, mentions and all but letters aside) or the same file are one, so
    that a repost never stands on both sides. Numbers as targets are standardised. Under several
    processes each encodes its share, then all read the cache.
    """
    _share_encoding(rows, encoder)
    number = {name: k for k, name in enumerate(found.classes)}
    grouping = Grouping()
    y: list[float] = []
    slices: list[tuple[str, ...]] = []
    stored: dict[str, list[np.ndarray]] = {m: [] for m in encoder.dims}  # keys, or columns
    has: dict[str, list[np.ndarray]] = {m: [] for m in encoder.dims}
    for chunk in encoder.chunks(rows.labelled(found.names), "features" if progress else ""):
        faults.note(chunk.outcome)
        grouping.add(chunk)
        y += [number[str(row.label)] if number else float(str(row.label)) for row in chunk.kept]
        slices += [row.slices for row in chunk.kept]
        for m in encoder.dims:
            has[m].append(np.isin(np.arange(len(chunk.kept)), chunk.where[m]))
            stored[m].append(
                chunk.features[m].numpy()
                if m in encoder.knots
                else np.array(chunk.keys[m], f"S{KEY_BYTES}")
            )
    present = {m: np.concatenate(masks) for m, masks in has.items()}
    # complete rows first, then alike ones together: each head then reads few stretches of a map
    order = np.lexsort([~mask for mask in reversed(present.values())])
    features = {}
    for m, mask in present.items():
        place, held = (np.cumsum(mask) - 1)[order][mask[order]], mask[order].nonzero()[0]
        in_place = np.concatenate(stored[m])[place]
        if m in encoder.knots:
            features[m] = torch.zeros(len(order), encoder.dims[m])
            features[m][held] = torch.from_numpy(in_place)
        else:
            features[m] = encoder.recall(m, in_place, held, len(order))
    mean, deviation = found.target
    targets = torch.tensor(y, dtype=torch.float64)[order]
    targets = targets.long() if number else ((targets - mean) / deviation).float()
    table = GroupedSamples(
        features,
        targets,
        grouping.numbers()[order],
        found.classes,
        {m: torch.from_numpy(mask[order]) for m, mask in present.items()},
        encoder.knots,
    )
    shape = len(order), len(rows.roles.slices)
    return table, np.array(slices, object).reshape(shape)[order]


def _share_encoding(rows: Rows, encoder: RowEncoder) -> None:
    """Under several processes: encode every n-th chunk here, the others elsewhere; wait until all
    are cached."""
    state = PartialState()  # of the processes that `device.make_accelerator` has found
    if state.num_processes > 1:
        for number, part in enumerate(parts(rows.labelled())):
            if number % state.num_processes == state.process_index:
                encoder.encode(part)
        encoder.counts.clear()
        state.wait_for_everyone()
