"""Which column holds what, and a table's rows as samples of any modalities, or as the faults that
keep them from being one."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from mmtutor.apps.faults import Faults, Problem, TableUnusable
from mmtutor.apps.reading import Table
from mmtutor.checks import require

MISSING = ("", "nan", "na", "n/a", "null", "<na>", "#n/a", "None")
"""What a cell says, in any case but for the last, that is empty: what spreadsheets and pandas
write. "none" is a word: there are classes of that name."""
INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060\xad \t\r\n\xa0"
FILES = ("image", "audio")
SINGLE = ("group", "id", "label", "target")
COLUMNS = ("numbers", "categories")
MODALITIES = ("text", *FILES, *COLUMNS)
MOST_CLASSES, MOST_CATEGORIES, LARGEST, EXACT = 100, 200, 1e30, 2**53
"""Of a label, of a column of categories; the largest number, and up to where floats tell each whole
one from the next."""
FEW, MANY = 20, 20_000
"""Values that a column which names groups has at least, and that are counted at most."""


@dataclass(frozen=True)
class Roles:
    """Which column of a table holds what; None: the column of that name, if there is one.

    numbers, categories: several columns each, together one modality. target: of a number to
    predict in place of a label. slices: columns of which the report tells how good the model is for
    each of their values; numbers are cut, at thirds or as "age:40:60" says. missing: cells that are
    empty, see MISSING.
    """

    text: str | None = None
    image: str | None = None
    audio: str | None = None
    group: str | None = None
    id: str | None = None
    label: str | None = None
    target: str | None = None
    numbers: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    missing: tuple[str, ...] = MISSING

    @property
    def columns(self) -> dict[str, str]:
        """Return column → what it is read as."""
        found: dict[str, str] = {}
        for name in (*(each.name for each in fields(self)[:7]), *COLUMNS, "slices"):
            value = getattr(self, name) or ()
            for column in (value,) if isinstance(value, str) else value:
                found.setdefault(column.partition(":")[0] if name == "slices" else column, name)
        return found

    def settled(
        self, table: Table, labelled: bool = False, stored: "Roles | None" = None
    ) -> "Roles":
        """Return the roles with the columns that this table has; stored: the roles that a model was
        trained with, taken where none is said, whose columns may be absent.

        Raises TableUnusable where a column that was named is not there, or there is nothing to
        read.
        """
        said = {k: v for k, v in vars(self).items() if v != getattr(Roles, k)}
        roles = replace(stored or self, **said)
        # a later table may name groups and ids though the first did not
        names = ("group", "id") if stored else [each.name for each in fields(self)[:6]]
        unread = {*table.columns} - {*roles.columns}
        free: dict[str, Any] = {n: n for n in names if not getattr(roles, n) and n in unread}
        if roles.target:
            free.pop("label", None)
        roles = replace(roles, **free)
        wanted = roles.columns.items()
        needed = {roles.label, roles.target} if labelled else set()
        may_lack = {*(stored.columns if stored else ())} - {*Roles(**said).columns} - needed
        for column, role in wanted:
            like = [c for c in table.columns if c.casefold() == column.casefold()]
            hint = f" Do you mean {like[0]!r}?" if like else ""
            require(
                column in table.columns or column in may_lack,
                f"{table.name} has no column {column!r}, which is to be read as {role}.{hint} Its"
                f" columns are {table.columns}",
                TableUnusable,
            )
        told = roles.target or roles.label
        several = [*roles.numbers, *roles.categories, roles.text, roles.image, roles.audio]
        ends = [end for each in roles.slices for end in each.split(":")[1:]]
        numbers = pd.to_numeric(pd.Series(ends, dtype=object), errors="coerce")
        readable = any(c in table.columns and role in MODALITIES for c, role in wanted)
        lacking = ["text, image or audio"] * (not readable) + ["label"] * (labelled and not told)
        for fine, why in (
            (not told or told not in several, f"{told!r} is to be predicted, so not to be read"),
            (numbers.notna().all(), f"no numbers to cut slices at: {', '.join(roles.slices)}"),
            (
                not lacking,
                f"{table.name} has no column {' and none '.join(lacking)}; its columns are"
                f" {table.columns}. Say which is which with --text, --image, --audio, --numbers,"
                " --categories, --label or --target",
            ),
        ):
            require(fine, why, TableUnusable)
        return roles


@dataclass(frozen=True)
class Row:
    """One sample. has[modality]: its text, the name of its file, or its columns (numbers as floats,
    NaN where missing; categories as words, "" where missing); a modality that it lacks is not
    there. label: the class, or the number as a text."""

    row: int
    has: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    group: str = ""
    id: str = ""
    slices: tuple[str, ...] = ()


class Rows:
    """The rows of a table in their roles; iterating yields a Row or a Problem for each, in order.

    Nothing but the ids stays in memory. read: column → role; remarks: columns that are not read, or
    not there.
    """

    def __init__(
        self, table: Table, roles: Roles, labelled: bool = False, stored: Roles | None = None
    ) -> None:
        """Settle the roles; raises TableUnusable as `Roles.settled`."""
        self.table, self.name = table, table.name
        self.roles = roles.settled(table, labelled, stored)
        read = self.read = self.roles.columns
        absent = [c for c, role in read.items() if role in MODALITIES and c not in table.columns]
        self.unread = [c for c in table.columns if c not in read]
        told = {"not read": self.unread, "missing, and taken as empty": absent}
        self.remarks = [f"Columns {k}: {', '.join(names)}." for k, names in told.items() if names]

    def __iter__(self) -> Iterator[Row | Problem]:
        """Yield each row as a Row, or as the Problem that keeps it from being one."""
        seen: dict[str, int] = {}
        for number, cells in self.table:
            try:
                row = cells if isinstance(cells, Problem) else self._row(number, cells)
                if isinstance(row, Row) and row.id and seen.setdefault(row.id, number) != number:
                    raise Problem(
                        number,
                        str(self.roles.id),
                        "duplicated id",
                        f"{row.id!r} is the id of row {seen[row.id]} too",
                    )
                yield row
            except Problem as problem:
                yield problem

    def labelled(self, names: dict[str, str] | None = None) -> Iterator[Row | Problem]:
        """Yield the rows that have a label, as it is called in `names` (`canonical` → class), None
        for any, or the Problem that they have none."""
        column = str(self.roles.target or self.roles.label)
        for row in self:
            if isinstance(row, Row) and row.label is None:
                yield Problem(row.row, column, "missing label", "the cell is empty")
            elif isinstance(row, Problem) or names is None or self.roles.target:
                yield row
            elif (name := names.get(canonical(str(row.label)))) is not None:
                yield replace(row, label=name)
            else:
                detail = f"{row.label!r}; the model knows {', '.join(names.values())}"
                yield Problem(row.row, column, "unknown label", detail)

    def _row(self, number: int, cells: dict[str, Any]) -> Row:
        roles = self.roles
        words = {c: self._cell(number, cells.get(c, ""), c, r) for c, r in self.read.items()}
        values = {c: self._number(number, words[c], c) for c in (*roles.numbers, roles.target) if c}
        named = {m: words.get(getattr(roles, m), "") for m in (*SINGLE, *FILES, "text")}
        has: dict[str, Any] = {m: named[m] for m in ("text", *FILES) if named[m]}
        for m, cells_of in (("numbers", values), ("categories", words)):
            if any(words[c] for c in getattr(roles, m)):
                has[m] = tuple(cells_of[c] for c in getattr(roles, m))
        if not has:
            kinds = [m for m in MODALITIES if getattr(roles, m)]
            column = next(c for c, role in self.read.items() if role in MODALITIES)
            raise Problem(number, column, "empty row", f"it has no {' and no '.join(kinds)}")
        label = str(values[str(roles.target)]) if named["target"] else named["label"]
        slices = tuple(words[each.partition(":")[0]] for each in roles.slices)
        return Row(number, has, label or None, named["group"], named["id"], slices)

    def _cell(self, row: int, value: Any, column: str, role: str) -> str:
        """Return what a cell says, "" where it is empty; a list of files with a name a line."""
        if role in FILES and isinstance(value, list) and all(isinstance(v, str) for v in value):
            value = "\n".join(v for v in value if v.lower() not in self.roles.missing)
        if not isinstance(value, str):
            raise Problem(row, column, "not a text", f"it is a {type(value).__name__}")
        if bad := re.search("[\x00\ud800-\udfff]", value):
            raise Problem(row, column, "not a text", f"it holds the character {bad.group()!r}")
        value = value.strip()
        return "" if {value, value.lower()} & {*self.roles.missing} else value

    def _number(self, row: int, word: str, column: str) -> float:
        """Return the number of a cell, NaN where it is empty."""
        value = float(pd.to_numeric(word, errors="coerce"))
        if word and not abs(value) <= LARGEST:
            raise Problem(row, column, "not a number", f"{word!r}: write it as 1234.5")
        return value


def canonical(label: str) -> str:
    """Return what equal labels have in common: numbers their value, as far as floats tell it, words
    their characters, however accents are written and whatever invisible stands at the ends."""
    word = unicodedata.normalize("NFC", label).strip(INVISIBLE)
    value = float(pd.to_numeric(word, errors="coerce"))
    return repr(value + 0.0) if abs(value) < EXACT else word  # of -0 and 0 one


@dataclass
class Survey:
    """What is to be known of a table before anything is encoded.

    classes: names in order, by value where all are numbers; none where the target is a number,
    whose mean and standard deviation are `target`. names: canonical label → class; counts: class →
    rows. vocabulary: the words of each column of categories. remarks: what is odd, as sentences.
    """

    classes: tuple[str, ...]
    names: dict[str, str]
    counts: Counter[str]
    target: tuple[float, float]
    vocabulary: tuple[tuple[str, ...], ...]
    remarks: list[str]


def survey(rows: Rows) -> Survey:
    """Read the table once. Raises TableUnusable, with the counted faults, where no row is left,
    labels are of one class or of more than MOST_CLASSES, or a column of categories has more than
    MOST_CATEGORIES."""
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    numbers: list[float] = []
    words: list[Counter[str]] = [Counter() for _ in rows.roles.categories]
    lost = Faults()
    for row in rows.labelled():
        lost.note([row])
        if isinstance(row, Row):
            label = str(row.label)
            if rows.roles.target:
                numbers.append(float(label))
            else:
                counts[names.setdefault(canonical(label), label.strip(INVISIBLE))] += 1
            for column, word in zip(words, row.has.get("categories", ()), strict=False):
                column[word] += bool(word)
    kinds: list[Any] = numbers or list(counts)
    where = f"{rows.name}, column {rows.roles.target or rows.roles.label!r}"
    reason = f"\n{lost.summary() or ('' if kinds else 'The table has no rows.')}".rstrip()
    shown = ", ".join(map(repr, list(counts)[:3]))
    for fine, told in (
        (kinds, f"{rows.name} holds no usable row.{reason}"),
        (
            len(set(kinds)) > 1,
            f"{where}: all usable rows are {next(iter(kinds), None)!r}: nothing to tell apart."
            + reason,
        ),
        (
            len(counts) <= MOST_CLASSES,
            f"{where}: {len(counts)} different labels ({shown}, …), at most {MOST_CLASSES}: is it"
            " the one? Of a number, say --target",
        ),
        *(
            (
                len(+found) <= MOST_CATEGORIES,
                f"{rows.name}, column {c!r}: {len(+found)} different categories, at most"
                f" {MOST_CATEGORIES}: is it an id, a text, or numbers?",
            )
            for c, found in zip(rows.roles.categories, words, strict=True)
        ),
    ):
        require(fine, told, TableUnusable)
    return Survey(
        in_order(counts),
        names,
        counts,
        (float(np.mean(numbers)), float(np.std(numbers))) if numbers else (0.0, 1.0),
        tuple(in_order(found) for found in words),
        [*rows.table.notes, *rows.remarks, *_look_alikes(counts), *_repeating(rows)],
    )


def in_order(words: Iterable[str]) -> tuple[str, ...]:
    """Return words without the empty one, by value where all are numbers, else by name."""
    named = [word for word in words if word]
    numbers = pd.to_numeric(pd.Series(named, dtype=object), errors="coerce").notna().all()
    return tuple(sorted(named, key=float if numbers else str))


def _repeating(rows: Rows) -> list[str]:
    """Return a sentence on columns that may name groups: of those that nothing reads, each whose
    values repeat, though there are many of them."""
    seen: dict[str, set[int]] = {c: set() for c in rows.unread if not rows.roles.group}
    n = 0
    for _, cells in rows.table:
        known, n = {} if isinstance(cells, Problem) else cells, n + 1
        for column, values in seen.items():
            if column in known and len(values) < MANY:
                values.add(hash(str(known[column])))
    told = [
        f"{c} ({len(v)} values)" for c, v in seen.items() if MANY > len(v) > FEW and 2 * len(v) <= n
    ]
    hint = "if rows of one value resemble each other, as a person's do, say --group"
    return [f"Values repeat in {', '.join(told)}: {hint}."] if told else []


def _look_alikes(counts: Counter[str]) -> list[str]:
    """Return a sentence about labels that differ in no more than case or shape."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        plain = unicodedata.normalize("NFKC", name).casefold()
        alike["".join(c for c in plain if c not in INVISIBLE)].append(name)
    told = ", ".join(f"{name} {n:,}" for name, n in counts.most_common())
    pairs = "; ".join(" and ".join(map(repr, each)) for each in alike.values() if len(each) > 1)
    return [f"Labels look alike but are different classes: {pairs} ({told})."] if pairs else []
