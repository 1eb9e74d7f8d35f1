"""Files turned into rows of cells: CSV, TSV, JSON Lines, Parquet or Excel, in one encoding that is
told or found out, with whatever faults they have. What the columns mean is not known here."""

import csv
import gzip
import importlib
import json
import re
import tempfile
import weakref
import zlib
from codecs import register_error
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, count, islice, repeat, takewhile
from pathlib import Path
from typing import Any
from warnings import catch_warnings

from charset_normalizer import from_bytes

from mmtutor.apps.faults import Problem, TableUnusable
from mmtutor.checks import require

EXPECTED = "expected a table: CSV, TSV, JSON Lines, Parquet or Excel (.xlsx)"
KINDS = {
    **{".csv": ",", ".tsv": "\t", ".tab": "\t", ".jsonl": "json", ".ndjson": "json"},
    **{".parquet": "polars", ".xlsx": "openpyxl"},
}
"""What cuts a row, by the end of a file's name: a delimiter, or a library."""
MAGIC = {b"PAR1\x15": "polars", b"PK\3\4": "openpyxl", b"\xd0\xcf\x11\xe0": "openpyxl"}
"""Who reads what begins so, whatever its name; the last is an old or a protected Excel file."""
SEP = re.compile(r'"?sep=([^"\r\n])\1*"?[\r\n]*', re.IGNORECASE)
"""The line that tells Excel a delimiter, with the padding that Excel adds to it."""
SPAN, LARGEST, SAMPLE, SLICE = 1000, 100_000_000, 5000, 4096
"""Lines of a row, characters of a cell (a quotation mark that is open for longer was never closed);
lines that tell an encoding; rows of Parquet at a time."""
MARKS = {
    **{b"\xef\xbb\xbf": "utf-8", b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32"},
    **{b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"},  # last: the mark of UTF-32 begins like these
}
ENCODINGS = [
    *("cp1252", "cp1250", "iso8859_2", "cp1251", "koi8_r", "cp866", "cp1253", "cp1254", "cp1255"),
    *("cp1256", "cp874", "mac_roman", "cp850", "cp932", "euc_jp", "gb18030", "big5", "cp949"),
]
"""What tables are written in where it is no Unicode; others are rare enough to be told."""
ODD = re.compile(
    r"[^\W\d_](?:[²³¹¼½¾]|[^\w\x00-\x7f\u2010-\u203a])|[A-Za-z][\u0250-\u1dff\u2e80-\uffef]"
    r"|[\u3131-\u318e\uff61-\uff9f]"
)
"""What words seldom hold and a wrong encoding makes: a sign or another script after a letter,
halves of Korean syllables, Japanese letters of half the width."""
LONE = "mmtutor.lone"
"""How to decode what cannot be: each byte as a lone surrogate, as Python does above ASCII only."""


register_error(
    LONE,
    lambda error: (
        "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]),  # type: ignore[attr-defined]
        error.end,  # type: ignore[attr-defined]
    ),
)
csv.field_size_limit(LARGEST)


class Table:
    """A table, row by row: iterating yields (row, cells or the Problem that there is instead), as
    often as one likes, with no more than SPAN lines in memory.

    source: a path, "-" for standard input, or records; a pipe is copied, and what is compressed
    with gzip unpacked. delimiter, encoding: None finds it out. quoting: whether `"` encloses a
    cell; "auto" says yes to CSV, and elsewhere what keeps more rows.
    row: as a spreadsheet counts, where the header is row 1; of JSON Lines and records the number.
    Blank lines are no rows, but count. A row that cannot be cut costs its first line only.
    cells: texts by column, "" for none, but lists and dicts as they are where there are any. A byte
    that does not fit the encoding is a lone surrogate in its cell.
    Raises TableUnusable at once for what is no table.
    """

    def __init__(
        self,
        source: Path | str | Iterable[Mapping[str, object]],
        *,
        delimiter: str | None = None,
        encoding: str | None = None,
        quoting: str = "auto",
    ) -> None:
        """Refuse what is no table, and find out what was not told."""
        require(
            delimiter is None or (len(delimiter) == 1 and delimiter not in '"\r\n'),
            f"the delimiter {delimiter!r} is not one character that can stand between cells",
            TableUnusable,
        )
        require(
            quoting in ("auto", "yes", "no"),
            f"quoting is {quoting!r}; expected auto, yes or no",
            TableUnusable,
        )
        self.name, self.columns, self.notes = "records", list[str](), list[str]()
        self._delimiter, self._encoding, self._quoting = delimiter or "", encoding or "", quoting
        self._rows, self._first_row = Table._objects, 1
        self._values = None if isinstance(source, str | Path) else list(source)
        with self._refusing():
            if isinstance(source, str | Path):
                self._open(Path(source))
            if self._rows is Table._objects:
                objects = (each for _, each in self._objects() if isinstance(each, dict))
                self.columns = self.columns or list(dict.fromkeys(chain.from_iterable(objects)))
                require(
                    self.columns or any(True for _ in self._objects()),
                    f"there is nothing in {self.name}; {EXPECTED}",
                    TableUnusable,
                )

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
        """Yield each row's number and its cells, or the Problem that it has."""
        with self._refusing():
            yield from self._rows(self)

    @contextmanager
    def _refusing(self, kind: type[Exception] = OSError) -> Iterator[None]:
        """Name the file that cannot be opened, unpacked, decoded or understood."""
        try:
            yield
        except (OSError, EOFError, zlib.error, UnicodeError, LookupError, kind) as error:
            advice = "pip install 'mmtutor[tables]'" if isinstance(error, ImportError) else EXPECTED
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise TableUnusable(f"{self.name} cannot be read: {why}; {advice}") from error

    def _open(self, path: Path) -> None:
        """Find out what kind of table it is, then all that must be known before its first row."""
        piped = str(path) in ("-", "/dev/stdin")
        self._path, self.name = path, "standard input" if piped else path.name or str(path)
        with open(0 if piped else path, "rb", closefd=not piped) as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"
            if packed or piped or not path.is_file():
                self._keep(gzip.GzipFile(fileobj=file) if packed else file)
        with self._path.open("rb") as file:
            head = file.read(4096)
        require(head, f"{self.name} is empty; {EXPECTED}", TableUnusable)
        usual = KINDS.get(Path(path.name.lower().removesuffix(".gz")).suffix, self._delimiter)
        kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), usual)
        if kind in MAGIC.values():
            self._convert(kind)
            self._encoding = "utf-8"
        self._encoding = self._encoding or self._found_encoding(head)
        first = next((line for line in self._lines() if line.strip()), "")
        if kind in ("json", *MAGIC.values()) or (not kind and first.lstrip().startswith("{")):
            require(
                not self._delimiter,
                f"{self.name} has no delimiter that could be {self._delimiter!r}: leave it out",
                TableUnusable,
            )
        else:
            self._set_delimiter(kind, first)
            self._set_header()

    def _keep(self, chunks: Iterable[bytes]) -> None:
        """Make a copy, to read it instead, that goes when this table does."""
        with tempfile.NamedTemporaryFile(delete=False) as file:
            self._path = Path(file.name)
            weakref.finalize(self, self._path.unlink, missing_ok=True)
            file.writelines(chunks)

    def _convert(self, library: str) -> None:
        """Turn Parquet or Excel into JSON Lines, so that each fault of it is found now."""
        with self._refusing(Exception):
            table = {"polars": _parquet, "openpyxl": self._excel}[library](
                importlib.import_module(library), self._path
            )
            rows = enumerate(table, 2)
            self._first_row, header = next((pair for pair in rows if pair[1]), (1, []))
            self._set_names([str(_cell(each)) for each in header])
            records = (
                dict(zip(self.columns, map(_cell, cells), strict=bool(cells))) for _, cells in rows
            )
            self._keep(f"{json.dumps(each) if each else ''}\n".encode() for each in records)

    def _excel(self, openpyxl: Any, path: Path) -> Iterator[Sequence[object]]:
        """Yield the rows of the first sheet, each as wide as the widest."""
        with path.open("rb") as file, catch_warnings(action="ignore"):  # of colours and the like
            sheet, *others = openpyxl.load_workbook(file, read_only=True, data_only=True).worksheets
            self._note(others, f"has {1 + len(others)} sheets; read is {sheet.title!r}")
            sheet.reset_dimensions()  # some programs write wrong ones
            sheet.calculate_dimension(force=True)
            for cells in sheet.iter_rows(values_only=True):
                whole = [int(c) if isinstance(c, float) and c.is_integer() else c for c in cells]
                yield whole if any(each is not None for each in whole) else []

    def _note(self, needed: object, words: str) -> None:
        self.notes += [f"{self.name} {words}"] if needed else []

    def _lines(self) -> Iterator[str]:
        """Yield decoded lines; \\n, \\r\\n and \\r end one, and stay as they are."""
        with self._path.open(encoding=self._encoding, errors=LONE, newline="") as file:
            for number, line in enumerate(file):
                yield line if number else line.removeprefix("\ufeff")

    def _found_encoding(self, head: bytes) -> str:
        """Return the file's one encoding: that of its mark or its zeros, UTF-8 where it fits most
        lines beyond ASCII, else what makes words of them."""
        even, odd = (head[start::2].count(0) for start in (0, 1))
        found = [name for mark, name in MARKS.items() if head.startswith(mark)]
        if max(even, odd) > max(len(head) / 40, 4 * min(even, odd)):  # as ends of lines make, alone
            found.append("utf-16-le" if odd > even else "utf-16-be")
        self._encoding = "utf-8"
        beyond = list(islice((line for line in self._lines() if not line.isascii()), SAMPLE))
        misfits = [line for line in beyond if re.search("[\udc80-\udcff]", line)]
        if not found and 2 * len(misfits) > len(beyond):
            raw = "".join(beyond).encode(errors="surrogateescape")
            best = min(from_bytes(raw, cp_isolation=ENCODINGS), key=_strangeness, default=None)
            found = [best.encoding if best and _strangeness(best)[-1] else "cp1252"]
        encoding = [*found, "utf-8"][0]
        self._note(
            encoding != "utf-8",
            f"is written in {encoding}, as far as can be told; --encoding insists on another",
        )
        return encoding

    def _set_delimiter(self, usual: str, first: str) -> None:
        """Choose what was told, what a line "sep=;" says, what the name says where the header holds
        it, else what the header holds most of."""
        often, sep = max("\t,;|", key=first.count), SEP.fullmatch(first)
        self._sep = sep[1] if sep else ""
        found = self._sep or (usual if usual in first or often not in first else often)
        self._note(
            not self._delimiter and found != usual,
            f"is cut at {found!r}, as its first line says; --delimiter insists on another",
        )
        self._delimiter = self._delimiter or found or often
        certain = self._quoting == "auto" and "," in (usual, self._delimiter)
        self._quoting = "yes" if certain else self._quoting

    def _set_header(self) -> None:
        """Find the header, and whether quotation marks enclose cells."""
        auto, plain, marked = self._quoting == "auto", self._header(False), self._header(True)
        self._quoted = self._quoting == "yes" or (auto and isinstance(marked[1], list))
        self._header_row, header = marked if self._quoted else plain
        require(
            isinstance(header, list),
            f"{self.name}: row {self._header_row} cannot be read as a header: {header}; {EXPECTED}",
            TableUnusable,
        )
        self._set_names([*header])
        if auto and plain == marked and len(header) > 1 and any('"' in x for x in self._lines()):
            self._quoted = max((True, False), key=self._kept)
        self._note(
            auto and not self._quoted,
            'is cut as if " were a letter, which keeps more rows; --quoting yes insists',
        )
        self._rows = Table._cells

    def _header(self, quoted: bool) -> tuple[int, list[str] | str]:
        """Return the first row that is not blank, after "sep=;", or why there is none."""
        self._quoted = quoted
        filled = (
            (row, cells)
            for row, (line, cells) in enumerate(self._cut(0), 1)
            if line.replace(self._delimiter, "").strip()
        )
        return next(islice(filled, len(self._sep), None), (1, "there is nothing in it"))

    def _set_names(self, header: list[str]) -> None:
        """Name the columns, each differently."""
        names = dict[str, None]()
        for number, cell in enumerate(header, 1):
            name = cell.strip() or f"column {number}"
            tries = chain([name], (f"{name}.{time}" for time in count(2)))
            names[next(each for each in tries if each not in names)] = None
        self.columns = list(names)
        self._note(
            self.columns != [cell.strip() for cell in header],
            f"names columns twice or not at all: they are {self.columns}",
        )

    def _kept(self, quoted: bool) -> tuple[int, int]:
        """Return what a reading keeps, in rows, then in lines that are no problem."""
        self._quoted = quoted
        kinds = Counter(isinstance(each, Problem) for _, each in self._cells())
        return kinds[False], -kinds[True]

    def _cells(self) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
        """Yield the rows below the header."""
        width = len(self.columns)
        for row, (line, cells) in islice(enumerate(self._cut(width), 1), self._header_row, None):
            if isinstance(cells, list) and len(cells) == width:
                yield row, dict(zip(self.columns, cells, strict=True))
            elif isinstance(cells, str):
                why = f"{cells}: is a quotation mark never closed, or not doubled?"
                yield row, Problem(row, self.columns[0], "broken quoting", why)
            elif line.replace(self._delimiter, "").strip():
                why = f"{len(cells)}, the header has {width}: a {self._delimiter!r} in a text?"
                column = self.columns[min(len(cells), width) - 1]
                yield row, Problem(row, column, "wrong number of cells", why)

    def _cut(self, width: int) -> Iterator[tuple[str, list[str] | str]]:
        """Yield each row's first line and its cells, or why it has none. All but the first line of
        a row that is not `width` cells wide are rows by themselves."""
        lines = chain(self._lines(), repeat(""))  # which no line of a file is
        ahead = deque(islice(lines, SPAN), SPAN)  # forgets the first when there are more
        while ahead[0]:
            reader = csv.reader(
                ahead,
                delimiter=self._delimiter,
                quoting=csv.QUOTE_MINIMAL if self._quoted else csv.QUOTE_NONE,
                strict=True,
            )
            try:
                cells: list[str] | str = next(reader)
            except csv.Error as error:
                cells = str(error)
            yield ahead[0], cells
            whole = isinstance(cells, list) and len(cells) == width
            ahead.extend(islice(lines, reader.line_num if whole else 1))

    def _objects(self) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
        """Yield the objects of JSON Lines, or the records."""
        lines = enumerate(self._lines(), self._first_row)
        values = ((row, _parsed(line)) for row, line in lines if line.strip())
        for row, value in values if self._values is None else enumerate(self._values, 1):
            if isinstance(value, Mapping):
                cells = {str(name).strip(): _cell(each) for name, each in value.items()}
                yield row, dict.fromkeys(self.columns, "") | cells
            else:
                told = str(value) if isinstance(value, Exception) else f"a {type(value).__name__}"
                column = next(iter(self.columns), "")
                yield row, Problem(row, column, "no JSON object", f"{told}, expected an object")


def _strangeness(match: Any) -> tuple[int, int, bool]:
    """Rank a reading of bytes by how little it looks like words, then Western ones first."""
    western = "cp1252" in match.could_be_from_charset
    return round(10 * match.chaos), len(ODD.findall(str(match))), not western


def _parquet(polars: Any, path: Path) -> Iterator[Sequence[object]]:
    """Return the names, then the rows."""
    table = polars.scan_parquet(path, glob=False)
    slices = (table.slice(start, SLICE).collect().rows() for start in count(0, SLICE))
    rows = chain.from_iterable(takewhile(bool, slices))
    return chain([table.collect_schema().names()], rows)


def _parsed(line: str) -> object:
    """Return what a line of JSON says, or why it says nothing."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return error


def _cell(value: Any) -> object:
    """Return a value as a text, "" for none, unless it is a list or a dict."""
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    none = value is None or (isinstance(value, float) and value != value)
    return value if isinstance(value, list | dict) else "" if none else text
