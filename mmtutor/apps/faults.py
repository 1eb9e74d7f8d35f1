"""What is wrong with a row: named by row and column, counted by kind, and never in the way of the
other rows."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

MAX_MEGABYTES = 50.0
"""Of a picture or a sound: above it the row is faulty, unless another limit is given."""
KEPT = 1000
"""Problems kept in full; beyond them only the counts grow, so that a table of nothing but faults
fits in memory."""


class TableUnusable(ValueError):
    """A table, or what is in it, with which a command cannot go on. Nothing was written."""


@dataclass(unsafe_hash=True)
class Problem(Exception):
    """One fault. row: as a spreadsheet counts them (a header is row 1); kind: what faults are
    counted by."""

    row: int
    column: str
    kind: str
    detail: str

    def __str__(self) -> str:
        """Write "row 7, column 'image': missing picture: cat.jpg does not exist in pictures"."""
        return f"row {self.row}, column {self.column!r}: {self.kind}: {self.detail}"


@dataclass
class Faults:
    """All problems of one run, and what is odd beside them, as sentences. strict: the first problem
    ends it."""

    strict: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    first: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def note(self, outcome: Iterable[object]) -> None:
        """Count those of the rows and problems `outcome` that are problems; raise TableUnusable
        naming the first where strict."""
        for problem in outcome:
            if isinstance(problem, Problem):
                if self.strict:
                    told = "(--strict stops at the first fault; nothing was written)"
                    raise TableUnusable(f"{problem} {told}")
                self.counts[problem.kind] += 1
                self.first += [problem] * (len(self.first) < KEPT)

    def summary(self, most: int = 5) -> str:
        """Return the counts and the first few problems of each kind, for a person; "" where there
        are none."""
        lines = []
        for kind, count in self.counts.most_common():
            shown = [p for p in self.first if p.kind == kind][:most]
            lines.append(f"{count} × {kind}")
            lines += [f"    row {p.row}, column {p.column!r}: {p.detail}" for p in shown]
            lines += [f"    … and {count - len(shown)} more"] * (count > len(shown))
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        """Return counts, the first problems and remarks as JSON can hold them."""
        return {
            "total": self.counts.total(),
            "counts": dict(sorted(self.counts.items())),
            "first": [asdict(problem) for problem in self.first],
            "remarks": self.remarks,
        }
