"""Features on disk, found by what was encoded and by which encoder: computed once, then read.

One SQLite file per encoder holds a row per sample. SQLite sees to what is hard: many processes that
write at once, one that is killed while it writes, a disk that is full. Each row bears a checksum;
a row or a file that is not what was written is set aside and computed again. Taught in chapter 2.
"""

import hashlib
import json
import logging
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmtutor.checks import require, shaped
from mmtutor.files.roots import CacheNotWritable, cache_root

KEY_BYTES = 16
SPILL_BYTES = 64_000_000
"""Features above this size are handed out as the map of a file that goes with its last reader."""
LOOKUP_KEYS = 256
"""Rows asked for at a time: one question for each would take longer than reading the row."""
LOCK_SECONDS = 30.0
"""How long to wait while another process writes."""


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
        """Name folder and file; nothing is read or written yet."""
        root = cache_root() / "features" if root is None else Path(root).absolute()
        text = json.dumps({"encoder": encoder, "dim": dim, **fingerprint}, sort_keys=True)
        self.folder = root / f"{encoder}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self.path = self.folder / "features.sqlite"
        self.dim = dim

    def fill(self, keys: list[bytes] | np.ndarray, compute: Compute) -> Tensor:
        """Return features (N, D) float32 of `keys`, in order; `compute` is asked for those that are
        not stored yet.

        Each batch is stored as it comes, and stays if `compute` then raises. A table above
        SPILL_BYTES comes as the map of a nameless file, so that it takes no memory until it is
        read.
        Raises CacheNotWritable before anything is computed, if the folder cannot be written.
        """
        keys = _as_keys(keys)
        for attempt in range(4):  # find damage, look through the file, begin a new one, read it
            with self._damage_set_aside():
                features = self.room(len(keys))
                absent = self._read(keys, features)
                if not absent:
                    return torch.from_numpy(features)
                # What was stored and is not found lies in a damaged file, or was deleted meanwhile.
                with self._open_to_write(check=attempt > 0) as database:
                    for positions, batch in compute(absent):
                        self._write(database, [keys[i] for i in positions], batch)
        raise RuntimeError(
            f"features were not all computed, or vanish from {self.folder} as they are written"
        )

    def missing(self, keys: list[bytes] | np.ndarray) -> list[int]:
        """Return the first position of each distinct key that is not stored."""
        with self._damage_set_aside():
            return self._read(_as_keys(keys))
        return self.missing(keys)  # of a file that has been set aside: all

    def room(self, rows: int) -> np.ndarray:
        """Return a table of zeros (rows, D) float32: in memory, or above SPILL_BYTES the map of a
        file without a name, which goes with its last reader. Raises CacheNotWritable where the disk
        has no place for it."""
        if rows * self.dim * 4 <= SPILL_BYTES:
            return np.zeros((rows, self.dim), np.float32)
        # Beside the cache where possible: a system's folder for temporary files may be memory.
        beside = self.folder if os.access(self.folder, os.W_OK) else None
        with self._refusals_named(), tempfile.TemporaryFile(dir=beside) as file:
            return np.memmap(file, np.float32, "w+", shape=(rows, self.dim))

    def _connect(self, mode: str) -> sqlite3.Connection:
        """Open the file: "ro" to read, also where nothing may be written, "rwc" to make or change
        it."""
        return sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}", LOCK_SECONDS, isolation_level=None, uri=True
        )

    @contextmanager
    def _open_to_write(self, check: bool) -> Iterator[sqlite3.Connection]:
        """Find out before hours of encoding, not after them, whether this file can be written.

        check: look through all of it first; DatabaseError where it is damaged.
        """
        with ExitStack() as stack:
            with self._refusals_named():
                self.folder.mkdir(parents=True, exist_ok=True)
                database = stack.enter_context(closing(self._connect("rwc")))
                # Three rows of width 1280 to a page; with the usual 4096 each is cut in two.
                database.execute("PRAGMA page_size = 16384")
                database.execute(
                    "CREATE TABLE IF NOT EXISTS features"
                    " (key BLOB PRIMARY KEY, row BLOB, checksum BLOB)"
                )
                database.execute("PRAGMA user_version = 1")  # writes, which making a table may not
                require(
                    not check or database.execute("PRAGMA integrity_check").fetchone() == ("ok",),
                    "it is damaged inside",
                    sqlite3.DatabaseError,
                )
            yield database

    def _write(self, database: sqlite3.Connection, keys: list[bytes], batch: Tensor) -> None:
        """Write the rows of a batch in one transaction: all of them or none."""
        values = batch.detach().to("cpu", torch.float32).numpy().astype("<f4")
        shaped("features", values, (len(keys), self.dim))
        rows = [(key, row.tobytes()) for key, row in zip(keys, values, strict=True)]
        with self._refusals_named():
            database.execute("BEGIN IMMEDIATE")
            with database:
                database.executemany(
                    "INSERT OR REPLACE INTO features VALUES (?, ?, ?)",
                    [(key, row, _checksum(key, row)) for key, row in rows],
                )

    def _read(self, keys: list[bytes], table: np.ndarray | None = None) -> list[int]:
        """Put the rows of `keys` into a table (N, D), if one is given; return the first position of
        each distinct key whose row is not stored, or not as it was written."""
        first = {key: position for position, key in reversed(list(enumerate(keys)))}
        sound: set[bytes] = set()
        try:
            with closing(self._connect("ro")) as database:
                database.execute("BEGIN")  # one lock for all rows and not one for each
                for start in range(0, len(keys), LOOKUP_KEYS):
                    part = keys[start : start + LOOKUP_KEYS]
                    wanted = ", ".join("?" * len(part))
                    stored = database.execute(
                        f"SELECT key, row, checksum FROM features WHERE key IN ({wanted})", part
                    ).fetchall()
                    rows = {
                        key: row
                        for key, row, checksum in stored
                        if isinstance(row, bytes) and checksum == _checksum(key, row)
                    }
                    sound |= rows.keys()
                    if len(rows) < len(stored):
                        _log.warning(
                            "%s: %d rows do not match their checksums and are computed again",
                            self.path,
                            len(stored) - len(rows),
                        )
                    for position, key in enumerate(part, start):
                        if table is not None and key in rows:
                            table[position] = np.frombuffer(rows[key], "<f4")
        except (sqlite3.OperationalError, UnicodeDecodeError) as error:
            # no such file or table yet; but sqlite3 puts what is damaged into its message, where
            # that is a text at all
            if isinstance(error, UnicodeDecodeError) or "column" in str(error):
                raise sqlite3.DatabaseError("its header is damaged") from error
        return sorted(position for key, position in first.items() if key not in sound)

    @contextmanager
    def _damage_set_aside(self) -> Iterator[None]:
        """Rename the file if SQLite cannot read it in this block, so that a new one takes its
        place."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            _log.warning(
                "%s cannot be read (%s): it is set aside, its features are computed again",
                self.path,
                error,
            )
            with self._refusals_named(), suppress(FileNotFoundError):  # another was faster
                self.path.replace(self.path.with_suffix(".damaged"))

    @contextmanager
    def _refusals_named(self) -> Iterator[None]:
        """Turn what the disk and SQLite refuse in this block into CacheNotWritable."""
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise CacheNotWritable(
                f"features cannot be stored in {self.folder}: {error}. Set the environment variable"
                " MMTUTOR_CACHE to a folder that you can write to, or give cache=False to the"
                " encoder."
            ) from error


def _as_keys(keys: list[bytes] | np.ndarray) -> list[bytes]:
    """Return keys of full length: numpy's S16 drops the zeros at a key's end."""
    return [bytes(key).ljust(KEY_BYTES, b"\0") for key in keys]


def _checksum(key: bytes, row: bytes) -> bytes:
    return hashlib.blake2b(row, digest_size=8, key=key).digest()
