"""From rows to frozen features: chunk by chunk, through the encoders' cache, files that cannot be
read named and left out."""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from re import split
from typing import Any, cast
from unicodedata import normalize

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mmtutor.apps.faults import MAX_MEGABYTES, Problem, TableUnusable
from mmtutor.apps.rows import COLUMNS, FILES, Roles, Row
from mmtutor.apps.signals import CharacterEncoder, SoundEncoder
from mmtutor.checks import require
from mmtutor.encoders import ImageEncoder, TextEncoder
from mmtutor.encoders.pictures import SampleUnreadable

CHUNK = 512
"""Rows in memory at a time, and the most whose features an interruption can cost twice."""
SPILL_ROWS = 4096
"""Rows of a table that are gathered at a time, since it may be larger than memory."""
KNOTS, MOST_TOLD = 6, 8
"""Hats that a column of numbers is cut into; kinds of oddities that are told, the common ones."""
UNREAD = 0.05
"""Share of word pieces above which it is told that the encoder does not know them."""
SEVERAL = "several files in a cell, of which the first is read"
WHAT = {"image": "picture", "audio": "sound"}


@dataclass(frozen=True)
class Chunk:
    """Some rows, encoded. outcome: for each row itself, or the problem it has; kept: the rows
    without one.

    features[m]: (N_m, D) float32 of the kept rows that have modality m; where[m]: their positions
    among the kept; keys[m]: of texts and files, their content hashes, under which features are
    cached.
    """

    outcome: list[Row | Problem]
    kept: list[Row]
    features: dict[str, Tensor]
    where: dict[str, list[int]]
    keys: dict[str, list[bytes]]

    def table(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return features (N, D), zeros where absent, and presence (N,), of all modalities."""
        n = len(self.kept)
        features = {m: torch.zeros(n, x.shape[1]) for m, x in self.features.items()}
        present = {m: torch.zeros(n, dtype=torch.bool) for m in features}
        for m, rows in self.where.items():
            features[m][rows], present[m][rows] = self.features[m], True
        return features, present


def parts(rows: Iterable[Row | Problem]) -> Iterator[list[Row | Problem]]:
    """Yield rows CHUNK at a time."""
    rows = iter(rows)
    while part := list(islice(rows, CHUNK)):
        yield part


class RowEncoder:
    """Encodes rows whose files lie in one folder.

    roles: settled, they say which modalities there are. folder: a file's name is a path in it, and
    one that leaves it is refused; None where there is none. text_encoder: "characters", or a name
    that `TextEncoder` knows. vocabulary: the words of each column of categories. cache: True for
    the usual cache folder, or a path. max_megabytes: of the largest file. counts: how often
    something was met that costs nothing but is to be told.
    Raises TableUnusable where folder is none.
    """

    def __init__(
        self,
        roles: Roles,
        folder: Path | str | None = None,
        *,
        text_encoder: str = "minilm",
        vocabulary: tuple[tuple[str, ...], ...] = (),
        device: str | None = None,
        cache: bool | Path | str = True,
        max_megabytes: float = MAX_MEGABYTES,
    ) -> None:
        """Settle the options; networks are loaded when a row needs them."""
        require(
            folder is None or Path(folder).is_dir(),
            f"the folder of pictures and sounds, {folder}, is no folder: say --folder DIR",
            TableUnusable,
        )
        require(
            cache is not False,
            "cache=False, expected True or a folder: rows are found again by what was stored",
        )
        self.roles, self.vocabulary, self.max_megabytes = roles, vocabulary, max_megabytes
        self.root = None if folder is None else os.path.realpath(folder)
        self.counts: Counter[str] = Counter()
        plain = text_encoder == "characters"
        makers: dict[str, Callable[..., Any]] = {
            "text": CharacterEncoder if plain else partial(TextEncoder, text_encoder),
            "image": ImageEncoder,
            "audio": SoundEncoder,
        }
        self.encoders = {
            m: maker(device=device, cache=cache) for m, maker in makers.items() if getattr(roles, m)
        }
        sizes = {"numbers": KNOTS, "categories": max([2, *map(len, vocabulary)])}
        self.knots = {m: sizes[m] for m in COLUMNS if getattr(roles, m)}
        self.dims = {m: encoder.dim for m, encoder in self.encoders.items()}
        self.dims |= {m: 2 * len(getattr(roles, m)) for m in self.knots}

    def chunks(self, rows: Iterable[Row | Problem], progress: str = "") -> Iterator[Chunk]:
        """Yield chunks of CHUNK rows, in order; `progress` names a bar on a terminal, "" shows
        none."""
        with tqdm(desc=progress, unit="row", disable=None if progress else True) as bar:
            for part in parts(rows):
                yield self.encode(part)
                bar.update(len(part))

    def encode(self, rows: list[Row | Problem]) -> Chunk:
        """Return one chunk; a row whose file cannot be had or read becomes a Problem."""
        outcome = list(rows)
        found = {m: self._files(m, outcome) for m in FILES if m in self.encoders}
        read = {m: self._read(m, files, outcome) for m, files in found.items()}
        kept = [row for row in outcome if isinstance(row, Row)]
        where = {m: [k for k, row in enumerate(kept) if m in row.has] for m in self.dims}
        samples = {m: [kept[k].has[m] for k in where[m]] for m in self.dims}
        features, keys = {m: self._columns(m, samples[m]) for m in self.knots}, {}
        for m, files in found.items():  # less the rows that were lost for another file
            left = [k for k, i in enumerate(files) if isinstance(outcome[i], Row)]
            features[m], keys[m] = read[m][left], [[*files.values()][k][1] for k in left]
        if text := self.encoders.get("text"):
            keys["text"] = text.keys(samples["text"])
            features["text"] = text.encode(samples["text"], progress=False, keys=keys["text"])
            # a short text in plain letters has neither too many pieces nor unknown ones
            short = getattr(text, "max_tokens", 0) - 2
            doubtful = [t for t in samples["text"] if len(t) > short or not t.isascii()]
            self.counts.update(text.unread(doubtful))
            self.counts["pieces"] += sum(len(t.split()) for t in samples["text"] if t.isascii())
        features = {m: features[m] for m in self.dims}
        return Chunk(outcome, kept, features, where, keys)

    def recall(self, modality: str, keys: np.ndarray, rows: np.ndarray, n: int) -> Tensor:
        """Return a table (n, D) with the cached features of `keys` in `rows`, zeros elsewhere.

        A large one is the map of a file, see `FeatureCache.room`, which says what it raises.
        """
        cache = self.encoders[modality].cache

        def gone(rows: list[int]) -> Iterator[tuple[list[int], Tensor]]:
            raise RuntimeError(f"{len(rows)} features vanished from {cache.folder} meanwhile")
            yield

        table = cache.room(n)
        for start in range(0, len(keys), SPILL_ROWS):
            part = slice(start, start + SPILL_ROWS)
            table[rows[part]] = cache.fill(keys[part], gone).numpy()
        return torch.from_numpy(table)

    def remarks(self) -> list[str]:
        """Return as sentences what was met that costs nothing but is to be told."""
        counts = Counter(self.counts)
        pieces, unknown = counts.pop("pieces", 0), counts.pop("unknown", 0)
        counts["text longer than the encoder reads, cut"] = counts.pop("cut", 0)
        told = [f"{n:,} × {what}." for what, n in counts.most_common(MOST_TOLD) if n]
        doubt = f"{unknown / max(pieces, 1):.0%} of the word pieces are unknown to the text encoder"
        return told + [f"{doubt}: say --text-encoder characters."] * (unknown > UNREAD * pieces)

    def _columns(self, m: str, values: list[tuple[Any, ...]]) -> Tensor:
        """Return values and whether they are known, (N, 2K); a category is its number in the
        vocabulary, unknown where it is not in it."""
        if m == "categories":
            codes = [{word: k for k, word in enumerate(words)} for words in self.vocabulary]
            cells = [[*zip(row, codes, self.roles.categories, strict=True)] for row in values]
            self.counts.update(
                f"{word!r} in {column!r}, a category that was not learnt"
                for row in cells
                for word, code, column in row
                if word and word not in code
            )
            values = [tuple(code.get(word, np.nan) for word, code, _ in row) for row in cells]
        numbers = torch.tensor(values).reshape(len(values), self.dims[m] // 2).float()
        return torch.cat([numbers.nan_to_num(), (~numbers.isnan()).float()], 1)

    def _files(self, m: str, outcome: list[Row | Problem]) -> dict[int, tuple[str, bytes]]:
        """Return position → path and content hash of each row's file; where it cannot be had, put
        a Problem into its place."""
        rows = {i: row for i, row in enumerate(outcome) if isinstance(row, Row) and m in row.has}
        found = {i: self._file(m, row) for i, row in rows.items()}
        for i, each in found.items():
            outcome[i] = each if isinstance(each, Problem) else outcome[i]
        return {i: each for i, each in found.items() if not isinstance(each, Problem)}

    def _file(self, m: str, row: Row) -> tuple[str, bytes] | Problem:
        """Return path and content hash of a row's file, or why it cannot be had. Nothing is decoded
        here."""
        name, what = row.has[m], WHAT[m]
        fault = partial(Problem, row.row, getattr(self.roles, m))
        if self.root is None:
            return fault(f"no folder of {what}s", f"{name}: say --folder DIR")
        # several names may stand in a cell, those of a list in lines; accents may be written
        # otherwise on the disk
        names = [each for each in split(r"\n" if "\n" in name else r"\s*[;|,]\s*", name) if each]
        ways = (
            (each, os.path.join(self.root, form(each)))
            for each in (name, *names[:1])
            for form in (str, partial(normalize, "NFC"), partial(normalize, "NFD"))
        )
        here = (each for each in ways if os.path.lexists(each[1]))
        read, named = next(here, (name, os.path.join(self.root, name)))
        plain = os.sep not in read and read not in (os.curdir, os.pardir)
        path = named if plain and not os.path.islink(named) else os.path.realpath(named)
        if os.path.commonpath([path, self.root]) != self.root:
            inside = Path(os.path.abspath(named)).is_relative_to(self.root)
            why = "is a link that leads out of" if inside else "is not inside"
            return fault(
                "path leaves the folder", f"{name} {why} the folder of pictures and sounds"
            )
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):  # a folder; or a pipe, which to read never ends
                return fault(f"missing {what}", f"{name} is no file")
            if (megabytes := status.st_size / 1e6) > self.max_megabytes:
                told = f"{name} has {megabytes:.0f} MB, the limit is {self.max_megabytes:g} MB"
                return fault(f"{what} too large", told)
            self.counts[SEVERAL] += len(names) > 1 and read != name
            return path, self.encoders[m].keys([path])[0]
        except (OSError, SampleUnreadable) as error:  # not there, a name too long, no permission
            # the reason without the path, which is no matter of who reads the answers
            reason = getattr(error.__cause__ or error, "strerror", None) or type(error).__name__
            return fault(f"missing {what}", f"{name} cannot be opened: {reason}")

    def _read(
        self, m: str, files: dict[int, tuple[str, bytes]], outcome: list[Row | Problem]
    ) -> Tensor:
        """Encode files; put a Problem in the place of each that turns out unreadable, and encode
        the rest again, from the cache."""
        while True:
            paths, keys = ([each[k] for each in files.values()] for k in (0, 1))
            try:
                return self.encoders[m].encode(paths, progress=False, keys=keys)
            except (SampleUnreadable, FileNotFoundError) as error:
                gone = (k for k, path in enumerate(paths) if not os.path.exists(path))
                bad = error.index if isinstance(error, SampleUnreadable) else next(gone, None)
                if bad is None:
                    raise
                path, reason = str(paths[bad]), str(error.__cause__ or error)
                reason = reason.replace(f" {path!r}", "").replace(path, "")
                for i in [i for i, (_, key) in files.items() if key == keys[bad]]:
                    row = cast(Row, outcome[i])  # the same file may stand in several rows
                    kind, told = f"unreadable {WHAT[m]}", f"{row.has[m]}: {reason}"
                    outcome[i] = Problem(row.row, getattr(self.roles, m), kind, told)
                    del files[i]
