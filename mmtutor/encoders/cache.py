"""Features on disk, found by what was encoded and by which encoder: computed once, read as a memory
map.

One folder per encoder holds shards (see shards.py), each whole and never changed once it has its
final name. Writers therefore need no lock: two notebooks that encode the same pictures at once both
store them, and the next merge drops one copy. Only merging, which deletes the shards that it
replaces, takes a lock.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from mmtutor.encoders.shards import KEY_BYTES, SUFFIX, Shard, ShardCorrupt, write_shard
from mmtutor.files.roots import CacheNotWritable, cache_root

FLUSH_ROWS = 256
"""Rows kept in memory before they are written: what an interruption may cost."""
MERGE_ROWS = 4096
"""Rows copied at a time when shards are merged."""
LOCK_SECONDS = 30.0
"""How long to wait for another process's merge."""

Compute = Callable[[list[int]], Iterable[tuple[list[int], Tensor]]]
"""Positions to encode → batches (positions, features (B, D)), in any order."""

_log = logging.getLogger(__name__)


def content_key(kind: str, *parts: bytes | memoryview) -> bytes:
    """Return a 16-byte hash of a sample's content; equal content gives equal keys, on every
    machine."""
    digest = hashlib.blake2b(kind.encode(), digest_size=KEY_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))  # so that ("ab", "c") and ("a", "bc") differ
        digest.update(part)
    return digest.digest()


class FeatureCache:
    """Features of one encoder: key → row of width `dim`.

    encoder: a readable name; fingerprint: everything that changes the features (weights,
    preprocessing, sizes), as a dict that JSON can write; root: the folder of all caches, by default
    `<cache root>/features`, where the cache root is MMTUTOR_CACHE or the user's cache folder.
    """

    def __init__(
        self, encoder: str, fingerprint: dict[str, object], dim: int, root: Path | str | None = None
    ) -> None:
        """Name the folder; nothing is read or written yet."""
        if root is None:
            root = cache_root() / "features"
        text = json.dumps({"encoder": encoder, "dim": dim, **fingerprint}, sort_keys=True)
        self.folder = Path(root) / f"{encoder}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self.dim = dim
        self._open: dict[str, Shard] = {}

    def fill(
        self, keys: list[bytes] | np.ndarray, compute: Compute, flush_rows: int = FLUSH_ROWS
    ) -> Tensor:
        """Return features (N, D) float32 of `keys`, in order; `compute` is asked for those that are
        not stored yet.

        What `compute` has yielded is stored even if it then raises. Where all rows lie in one shard
        in order, which a complete call brings about, the tensor is a copy-on-write memory map;
        otherwise a copy in memory.
        Raises CacheNotWritable before anything is computed, if the folder cannot be written.
        """
        if len(keys) == 0:
            return torch.empty(0, self.dim)
        wanted = _as_keys(keys)
        for _ in range(
            3
        ):  # another process may merge or delete shards between two looks at the folder
            missing = self.missing(wanted)
            if missing:
                self._check_writable()
                self._store(wanted, compute(missing), flush_rows)
            found = self._read(wanted)
            if found is not None:
                return torch.from_numpy(found)
        raise RuntimeError(
            f"features were not all computed, or vanish from {self.folder} as they are written"
        )

    def missing(self, keys: list[bytes] | np.ndarray) -> list[int]:
        """Return the first position of each distinct key that is not stored."""
        wanted = _as_keys(keys)
        known = np.zeros(len(wanted), bool)
        for shard in self._shards():
            known |= shard.find(wanted) >= 0
        _, first = np.unique(wanted, return_index=True)
        return sorted(int(i) for i in first if not known[i])

    def _shards(self) -> list[Shard]:
        """Open the folder's shards, largest first; corrupt ones are removed, so that their rows are
        computed again."""
        names = (
            sorted(path.name for path in self.folder.glob(f"*{SUFFIX}"))
            if self.folder.is_dir()
            else []
        )
        for name in names:
            if name not in self._open:
                self._open_shard(self.folder / name)
        self._open = {name: self._open[name] for name in names if name in self._open}
        return sorted(self._open.values(), key=lambda shard: -len(shard.keys))

    def _open_shard(self, path: Path) -> None:
        try:
            self._open[path.name] = Shard.open(path, self.dim)
        except FileNotFoundError:
            return  # merged by another process since the folder was listed
        except ShardCorrupt as error:
            _log.warning("%s: its features are computed again", error)
            with suppress(
                OSError
            ):  # in a cache that is only read, the bad file stays and is passed over each time
                path.unlink()

    def _check_writable(self) -> None:
        """Find out before hours of encoding, not after them."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise self._not_writable(error) from error

    def _not_writable(self, error: OSError) -> CacheNotWritable:
        return CacheNotWritable(
            f"Features cannot be stored in {self.folder}: {error.strerror or error}. Set the"
            " environment variable MMTUTOR_CACHE to a folder that you can write to, or make the"
            " encoder with cache=False."
        )

    def _store(
        self, keys: np.ndarray, batches: Iterable[tuple[list[int], Tensor]], flush_rows: int
    ) -> None:
        """Write computed batches to shards of about `flush_rows` rows; what is finished survives an
        exception."""
        positions: list[int] = []
        blocks: list[np.ndarray] = []
        try:
            for rows, features in batches:
                values = features.detach().to("cpu", torch.float32).numpy()
                if values.shape != (len(rows), self.dim):
                    raise ValueError(
                        f"features have shape {values.shape}, expected {(len(rows), self.dim)}"
                    )
                positions.extend(rows)
                blocks.append(values)
                if len(positions) >= flush_rows:
                    self._write(keys[positions], blocks)
                    positions, blocks = [], []
        finally:
            if positions:
                self._write(keys[positions], blocks)

    def _write(self, keys: np.ndarray, blocks: Iterable[np.ndarray]) -> Path:
        try:
            return write_shard(self.folder, keys, blocks, self.dim)
        except OSError as error:
            raise self._not_writable(error) from error

    def _read(self, keys: np.ndarray) -> np.ndarray | None:
        """Return the rows of `keys`: a stretch of one map, else merged, else gathered; None if some
        are not there."""
        shards = self._shards()
        run = _first_run(shards, keys)
        if run is not None:
            return run
        owner, rows = _owners(shards, keys)
        if (owner < 0).any():
            return None
        used = [shards[i] for i in np.unique(owner)]
        # Merging only what is wanted whole keeps the disk from growing, however often random
        # subsets are asked for.
        if len(used) > 1 and all(shard.within(keys) for shard in used):
            with suppress(
                OSError
            ):  # a cache that is only read stays in pieces: the same rows, gathered below
                return self._merge(keys)
        return _gather(shards, owner, rows, self.dim)

    def _merge(self, keys: np.ndarray) -> np.ndarray | None:
        """Put the rows of `keys` into one shard, in order, and delete the shards that it makes
        superfluous."""
        self._check_writable()
        with FileLock(self.folder / ".lock", timeout=LOCK_SECONDS):
            shards = self._shards()
            if _first_run(shards, keys) is None:
                owner, rows = _owners(shards, keys)
                if (owner < 0).any():
                    return None
                parts = [slice(i, i + MERGE_ROWS) for i in range(0, len(keys), MERGE_ROWS)]
                self._write(
                    keys, (_gather(shards, owner[part], rows[part], self.dim) for part in parts)
                )
                shards = self._shards()
            kept = next(shard for shard in shards if shard.run(keys) is not None)
            for shard in shards:
                if shard is not kept and shard.within(kept.keys):
                    with suppress(
                        OSError
                    ):  # Windows refuses while another process reads it; it goes next time
                        shard.path.unlink()
            self._sweep()
            return kept.run(keys)

    def _sweep(self) -> None:
        """Delete what processes that were killed while writing left behind, once it is a day
        old."""
        for path in self.folder.glob("*.part"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > 86_400:
                    path.unlink()


def _as_keys(keys: list[bytes] | np.ndarray) -> np.ndarray:
    return np.asarray(keys, f"S{KEY_BYTES}")


def _first_run(shards: list[Shard], keys: np.ndarray) -> np.ndarray | None:
    """Return the first stretch of a shard that holds `keys` in order, None if there is none."""
    return next((run for shard in shards if (run := shard.run(keys)) is not None), None)


def _owners(shards: list[Shard], keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each key, the index of a shard that has it (-1: none) and its row there. Both
    (N,) int64."""
    owner, rows = np.full(len(keys), -1), np.zeros(len(keys), np.int64)
    for index, shard in enumerate(shards):
        found = shard.find(keys)
        take = (found >= 0) & (owner < 0)
        owner[take], rows[take] = index, found[take]
    return owner, rows


def _gather(shards: list[Shard], owner: np.ndarray, rows: np.ndarray, dim: int) -> np.ndarray:
    """Copy rows out of several shards. owner, rows: (N,) → (N, D) float32."""
    out = np.empty((len(owner), dim), np.float32)
    for index in np.unique(owner):
        out[owner == index] = shards[index].features[rows[owner == index]]
    return out
