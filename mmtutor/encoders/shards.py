"""One file of cached features: written whole or not at all, checked when opened, read as a memory
map.

The format is safetensors, so any tool can read it: `features` (N, D) float32, `keys` (N, 16) uint8,
one content hash per row, and `checksum` (32,) uint8, blake2b of the two tables before it.
safetensors' own writer wants every table in memory at once and has no checksum; here the rows
stream through, and the checksum comes last.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

KEY_BYTES = 16
CHECKSUM_BYTES = 32
READ_BYTES = 1 << 20
SUFFIX = ".safetensors"


class ShardCorrupt(RuntimeError):
    """A cache file whose content is not what was written; the message names it."""


@dataclass(frozen=True)
class Shard:
    """An open cache file: keys (N,) of 16 bytes, features (N, D) mapped copy-on-write, `order`
    sorting the keys."""

    path: Path
    keys: np.ndarray
    features: np.ndarray
    order: np.ndarray

    @classmethod
    def open(cls, path: Path, dim: int) -> Shard:
        """Check the file and map it. Raises ShardCorrupt, or FileNotFoundError where a merge has
        just deleted it."""
        try:
            start, rows = _read_header(path, dim)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ShardCorrupt(f"{path} has no readable header ({error})") from error
        if path.stat().st_size != start + rows * (dim * 4 + KEY_BYTES) + CHECKSUM_BYTES:
            raise ShardCorrupt(f"{path} has the wrong size for {rows} rows of width {dim}")
        _check(path, start, rows * (dim * 4 + KEY_BYTES))
        # Mode "c": what is written into the mapped array stays in memory, and torch takes it
        # without a warning.
        features = np.memmap(path, "<f4", "c", start, (rows, dim))
        keys = np.fromfile(path, f"S{KEY_BYTES}", rows, offset=start + rows * dim * 4)
        return cls(path, keys, features, np.argsort(keys, kind="stable"))

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the row of each key, -1 where this shard lacks it. keys: (N,) → (N,) int64."""
        place = np.searchsorted(self.keys, keys, sorter=self.order).clip(max=len(self.keys) - 1)
        rows = self.order[place]
        return np.where(self.keys[rows] == keys, rows, -1)

    def run(self, keys: np.ndarray) -> np.ndarray | None:
        """Return the rows that hold exactly `keys` in this order, still mapped; None if there is no
        such stretch."""
        for start in {0, int(self.find(keys[:1])[0])} - {-1}:
            if np.array_equal(self.keys[start : start + len(keys)], keys):
                return self.features[start : start + len(keys)]
        return None

    def within(self, keys: np.ndarray) -> bool:
        """Say whether every row of this shard is among `keys`."""
        return bool(np.isin(self.keys, keys).all())


def write_shard(folder: Path, keys: np.ndarray, blocks: Iterable[np.ndarray], dim: int) -> Path:
    """Write rows, block by block, under a temporary name; move them into place; return the final
    path.

    keys: (N,) of 16 bytes; blocks: arrays (·, D) that make up the N rows. Raises OSError and leaves
    nothing behind where the folder cannot be written or the disk is full.
    """
    digest = hashlib.blake2b(digest_size=CHECKSUM_BYTES)
    temporary = (
        folder / f"{uuid.uuid4().hex}.part"
    )  # not from tempfile: others may read a shared cache
    try:
        with temporary.open("xb") as file:
            file.write(_header(len(keys), dim))
            for block in blocks:
                _write_table(file, digest, np.ascontiguousarray(block, "<f4"))
            _write_table(file, digest, keys)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        path = temporary.with_suffix(SUFFIX)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _write_table(file, digest, table: np.ndarray) -> None:
    data = table.tobytes()
    digest.update(data)
    file.write(data)


def _header(rows: int, dim: int) -> bytes:
    """Return the safetensors header: its length (8 bytes), then JSON padded to a multiple of 8."""
    sizes = {"features": rows * dim * 4, "keys": rows * KEY_BYTES, "checksum": CHECKSUM_BYTES}
    kinds = {
        "features": ("F32", [rows, dim]),
        "keys": ("U8", [rows, KEY_BYTES]),
        "checksum": ("U8", [CHECKSUM_BYTES]),
    }
    tables, end = {}, 0
    for name, size in sizes.items():
        dtype, shape = kinds[name]
        tables[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(tables).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _read_header(path: Path, dim: int) -> tuple[int, int]:
    """Return where the data start, in bytes, and the number of rows; ValueError unless it is a
    header of ours."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(min(length, 4096))
    rows = json.loads(text)["features"]["shape"][0]
    if rows < 1 or _header(rows, dim)[8:] != text:
        raise ValueError(f"not a table of width {dim}")
    return 8 + length, rows


def _check(path: Path, start: int, size: int) -> None:
    """Compare the checksum with the tables; they are read in pieces, so memory stays flat."""
    digest = hashlib.blake2b(digest_size=CHECKSUM_BYTES)
    with path.open("rb") as file:
        file.seek(start)
        for place in range(0, size, READ_BYTES):
            digest.update(file.read(min(READ_BYTES, size - place)))
        if file.read() != digest.digest():
            raise ShardCorrupt(f"{path} does not match its checksum")
