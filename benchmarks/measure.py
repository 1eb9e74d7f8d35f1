"""How things are measured here: interleaved in one process, medians, ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure: `value` in `unit`; `limit` is the most it may be, None for a figure shown for
    orientation."""

    name: str
    value: float
    limit: float | None
    unit: str

    @property
    def good(self) -> bool:
        """Say whether the limit is kept."""
        return self.limit is None or self.value <= self.limit


def turns(
    actions: dict[str, Callable[[], object]], repeats: int, warm: int = 0
) -> dict[str, list[float]]:
    """Return the seconds of each action, turn by turn, the order reversed at every turn; `warm`
    turns go first.

    A slow moment of the machine hits all actions alike.
    """
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(warm + repeats):
        for name in list(actions) if turn % 2 else reversed(actions):
            start = time.perf_counter()
            actions[name]()
            if turn >= warm:
                times[name].append(time.perf_counter() - start)
    return times


def ratio(times: dict[str, list[float]], above: str, below: str) -> float:
    """Return the median over the turns of one action's time divided by another's.

    Taken within a turn, since what else the machine does meanwhile moves numerator and denominator
    together.
    """
    return statistics.median(a / b for a, b in zip(times[above], times[below], strict=True))


def interleaved(
    actions: dict[str, Callable[[], object]], repeats: int = 15, warm: int = 2
) -> dict[str, float]:
    """Return the median seconds of each action, the actions taking turns."""
    return {
        name: statistics.median(seconds) for name, seconds in turns(actions, repeats, warm).items()
    }


def as_table(rows: list[Row]) -> str:
    """Return the rows as a plain-text table."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'what':<{width}}  {'value':>9}  {'limit':>9}  unit"]
    for row in rows:
        limit = "" if row.limit is None else f"{row.limit:9.2f}"
        verdict = "" if row.good else "   <-- above the limit"
        lines.append(f"{row.name:<{width}}  {row.value:9.2f}  {limit:>9}  {row.unit}{verdict}")
    return "\n".join(lines)
