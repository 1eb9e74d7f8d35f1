"""What is wrong with a post: named by row and column, counted by kind, and never in the way of the
other posts."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

MAX_MEGABYTES = 50.0
"""Of a picture's file: above it the post is faulty, unless another limit is given."""
KEPT = 1000
"""Problems kept in full; beyond them only the counts grow, so that a table of nothing but faults
fits in memory."""


class PostsUnusable(ValueError):
    """A table, or what is in it, with which a command cannot go on. Nothing was written."""


@dataclass(frozen=True)
class Problem:
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
    """All problems of one run. strict: the first one ends it."""

    strict: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    first: list[Problem] = field(default_factory=list)

    def add(self, problem: Problem) -> None:
        """Count a problem; raise PostsUnusable naming it where strict."""
        if self.strict:
            raise PostsUnusable(
                f"{problem} (--strict stops at the first fault; nothing was written)"
            )
        self.counts[problem.kind] += 1
        if len(self.first) < KEPT:
            self.first.append(problem)

    def note(self, outcome: Iterable[object]) -> None:
        """Add those of the posts and problems `outcome` that are problems."""
        for each in outcome:
            if isinstance(each, Problem):
                self.add(each)

    @property
    def total(self) -> int:
        """Return how many problems there were."""
        return sum(self.counts.values())

    def summary(self, most: int = 5) -> str:
        """Return the counts and the first few problems of each kind, for a person; "" where there
        are none."""
        lines = []
        for kind, count in self.counts.most_common():
            lines.append(f"{count} × {kind}")
            shown = [p for p in self.first if p.kind == kind][:most]
            lines += [f"    row {p.row}, column {p.column!r}: {p.detail}" for p in shown]
            if count > len(shown):
                lines.append(f"    … and {count - len(shown)} more")
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        """Return counts and the first problems as JSON can hold them."""
        return {
            "total": self.total,
            "counts": dict(sorted(self.counts.items())),
            "first": [asdict(problem) for problem in self.first],
        }
