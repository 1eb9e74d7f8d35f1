"""The law about cost: measured, within the limits, and stated at the top as measured.

It reads the stored measurement, never a clock: a slow machine fails nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real

from mmbook.execution import cost_text
from mmbook.reading import Finding, Notebook, tags

LIMITS = {"seconds": (60, "s"), "memory_mb": (2048, "MB")}
NEAR_TOP = 6  # among the first cells: title, picture, objectives may come before
REMEDY = "run `make notebooks`"


def cost_stated(page: Notebook) -> Iterator[Finding]:
    """Seconds (≤ 60) and memory (≤ 2048 MB) are measured; the one cell tagged "cost", near the top,
    says just that."""
    for key, (limit, unit) in LIMITS.items():
        value = page.own.get(key)
        if not isinstance(value, Real) or isinstance(value, bool) or value <= 0:
            yield Finding(f"metadata mmtutor.{key} holds no measurement ({value!r}): {REMEDY}")
        elif value > limit:
            yield Finding(f"takes {value:g} {unit}, the limit is {limit} {unit}")
    places = [place for place, cell in enumerate(page.nb.cells) if "cost" in tags(cell)]
    if len(places) != 1:
        yield Finding(f"{len(places)} cells are tagged cost, expected one")
        return
    place, cell = places[0], page.nb.cells[places[0]]
    if place >= NEAR_TOP:
        yield Finding(f"the cost stands too far down: among the first {NEAR_TOP} cells", place)
    measured = set(LIMITS) <= set(page.own)
    if cell.cell_type != "markdown" or (measured and cell.source.strip() != cost_text(page.own)):
        yield Finding(f"the cost stated is not the cost measured: {REMEDY}", place)
