"""Tables of posts, read row by row: CSV, TSV or JSON Lines, in any encoding, with whatever faults
they have."""

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from mmtutor.apps.faults import PostsUnusable, Problem
from mmtutor.checks import require
from mmtutor.files.text import decode

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "<na>", "#n/a"})
"""What a label says, in lower case, that is none: what spreadsheets and pandas write for an empty
cell."""
BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",  # before UTF-16, whose mark begins like this one
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Columns:
    """Which column holds what. A table may lack text or image, not both; group and id are read
    where they are there."""

    text: str = "text"
    image: str = "image"
    label: str = "label"
    group: str = "group"
    id: str = "id"


@dataclass(frozen=True)
class Post:
    """One row: text ("" for none), image (as written in the table, "" for none), label, group and
    id where given."""

    row: int
    text: str = ""
    image: str = ""
    label: str | None = None
    group: str | None = None
    id: str | None = None


@dataclass
class PostTable:
    """A file of posts. Iterating yields a Post or a Problem for each row, in order; no more than a
    row is in memory.

    path: .csv, .tsv, .tab, .jsonl or .ndjson; delimiter: of a table, None for the one that its name
    says.
    encoding: None decodes a file with the mark of UTF-16 or UTF-32 as that, and otherwise each line
    by itself as UTF-8, else GB18030, else Windows-1252. `encodings` says how many lines were which,
    once the table was read to its end, and `odd_lines` where each encoding other than UTF-8 came
    first.
    columns: see Columns; those in `needed` must be there.
    Raises PostsUnusable for a file that cannot be read as a table of posts at all: it names the
    columns that there are.
    """

    path: Path
    columns: Columns = field(default_factory=Columns)
    needed: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str | None = None
    encodings: Counter[str] = field(default_factory=Counter)
    odd_lines: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look at the file's name and first row, so that a wrong call fails before any work is
        done."""
        self.path = Path(self.path)
        if not self.path.is_file():
            what = "is a folder" if self.path.is_dir() else "does not exist"
            raise PostsUnusable(
                f"{self.path} {what}: expected a table of posts (CSV, TSV or JSON Lines)"
            )
        if self.path.suffix.lower() not in (*DELIMITERS, *JSON_LINES) and self.delimiter is None:
            known = ", ".join((*DELIMITERS, *JSON_LINES))
            raise PostsUnusable(
                f"{self.path.name}: unknown kind of table; expected a name ending in {known}"
            )
        require(
            self.delimiter is None or (len(self.delimiter) == 1 and self.delimiter not in '"\r\n'),
            f"the delimiter {self.delimiter!r} is not one character that can stand between cells",
            PostsUnusable,
        )
        next(iter(self._records()), None)

    def __iter__(self) -> Iterator[Post | Problem]:
        """Yield each row as a Post, or as the Problem that keeps it from being one."""
        seen: dict[str, int] = {}
        for row, record in self._records():
            yield record if isinstance(record, Problem) else self._post(row, record, seen)

    def labelled(self, classes: tuple[str, ...] = ()) -> Iterator[Post | Problem]:
        """Yield each row as a Post with a label, which is among `classes` where some are given, or
        as a Problem."""
        for post in self:
            if isinstance(post, Problem):
                yield post
            elif post.label is None:
                yield Problem(
                    post.row, self.columns.label, "missing label", "the label is empty or NaN"
                )
            elif classes and post.label not in classes:
                yield Problem(
                    post.row,
                    self.columns.label,
                    "unknown label",
                    f"{post.label!r}; the model knows {', '.join(classes)}",
                )
            else:
                yield post

    @property
    def is_json(self) -> bool:
        """Say whether the file holds JSON Lines."""
        return self.path.suffix.lower() in JSON_LINES

    def _post(self, row: int, record: dict[str, str], seen: dict[str, int]) -> Post | Problem:
        cells = {
            name: record.get(getattr(self.columns, name))
            for name in ("text", "image", "label", "group", "id")
        }
        text, image = ((cells[name] or "").strip() for name in ("text", "image"))
        for name, cell in cells.items():
            if (bad := re.search("[\x00\ud800-\udfff]", cell or "")) is not None:
                column = getattr(self.columns, name)
                return Problem(row, column, "not a text", f"it holds the character {bad.group()!r}")
        label, group, key = ((cells[k] or "").strip() or None for k in ("label", "group", "id"))
        if key is not None and seen.setdefault(key, row) != row:
            return Problem(
                row, self.columns.id, "duplicated id", f"{key!r} is the id of row {seen[key]} too"
            )
        if label is not None and label.lower() in MISSING:
            label = None
        if not text and not image:
            return Problem(
                row, self.columns.text, "empty post", "there is neither a text nor a picture"
            )
        return Post(row, text, image, label, group, key)

    def _records(self) -> Iterator[tuple[int, dict[str, str] | Problem]]:
        return self._json_records() if self.is_json else self._table_records()

    def _table_records(self) -> Iterator[tuple[int, dict[str, str] | Problem]]:
        delimiter = self.delimiter or DELIMITERS[self.path.suffix.lower()]
        reader = csv.reader(self._lines(), delimiter=delimiter, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
        except csv.Error as error:
            raise PostsUnusable(
                f"{self.path.name}: row 1 cannot be read as a header: {error}"
            ) from error
        self._check_header(header, delimiter)
        for row in count(2):
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                detail = f"{error}: is a quotation mark never closed, or not doubled?"
                yield row, Problem(row, header[0], "broken quoting", detail)
                continue
            if len(cells) == len(header):
                yield row, dict(zip(header, cells, strict=True))
            elif cells:  # not a blank line, which ends many files and counts in a spreadsheet
                column = header[min(len(cells), len(header)) - 1]
                detail = (
                    f"{len(cells)}, the header has {len(header)}: a {delimiter!r} in a text without"
                    " quotes?"
                )
                yield row, Problem(row, column, "wrong number of cells", detail)

    def _json_records(self) -> Iterator[tuple[int, dict[str, str] | Problem]]:
        for row, line in enumerate(self._lines(), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError(f"a {type(record).__name__}, expected an object")
            except (ValueError, RecursionError) as error:
                yield row, Problem(row, self.columns.text, "no JSON object", str(error))
                continue
            if row == 1:  # later rows may lack what they do not have
                self._check_header(list(record), None)
            cells = {k: v for k, v in record.items() if k in vars(self.columns).values()}
            if odd := next((k for k, v in cells.items() if isinstance(v, dict | list)), ""):
                yield row, Problem(row, odd, "not a text", f"it is a {type(cells[odd]).__name__}")
            else:  # null and NaN, which alone is unequal to itself, are empty cells
                yield row, {k: "" if v is None or v != v else str(v) for k, v in cells.items()}

    def _check_header(self, header: list[str], delimiter: str | None) -> None:
        """Raise PostsUnusable where the columns are not those of posts, with a guess at the
        reason."""
        require(header, f"{self.path.name} is empty: expected a header and rows", PostsUnusable)
        if twice := sorted(
            {
                name
                for name in header
                if header.count(name) > 1 and name in vars(self.columns).values()
            }
        ):
            raise PostsUnusable(
                f"{self.path.name}: the columns {twice} are there twice; name each once"
            )
        required = [getattr(self.columns, name) for name in self.needed if delimiter]
        contents = [self.columns.text, self.columns.image]
        lacking = [name for name in required if name not in header]
        if not lacking and any(name in header for name in contents):
            return
        missing = lacking or [f"{contents[0]} or {contents[1]}"]
        text = (
            f"{self.path.name} has no column {', '.join(map(repr, missing))}; its columns are"
            f" {header}."
        )
        for other in ",\t;|" if delimiter and len(header) == 1 else "":
            if other in header[0]:
                names = header[0].split(other)
                raise PostsUnusable(
                    f"{text} They look separated by {other!r}, as {names}: say --delimiter"
                    f" {other!r}"
                )
        raise PostsUnusable(
            f"{text} Say which column is which with --text-column, --image-column, --label-column"
        )

    def _lines(self) -> Iterator[str]:
        """Yield decoded lines; \\n, \\r\\n and \\r end one."""
        with self.path.open("rb") as file:
            start = file.read(4)
        marked = next((name for bom, name in BOMS.items() if start.startswith(bom)), None)
        encoding = self.encoding or marked
        self.encodings.clear()
        try:
            # latin-1 maps each byte to one character and back: line ends are found before anything
            # is decoded
            with self.path.open(encoding=encoding or "latin-1", newline=None) as file:
                for number, line in enumerate(file, 1):
                    text, name = line, encoding
                    if name is None:
                        text, name = decode(line.encode("latin-1"))
                        if name != "utf-8":
                            self.odd_lines.setdefault(name, number)
                    self.encodings[name] += 1
                    yield text.removeprefix("\ufeff") if number == 1 else text
        except (UnicodeError, LookupError) as error:
            raise PostsUnusable(
                f"{self.path.name} cannot be read as {encoding}: {error}"
            ) from error
