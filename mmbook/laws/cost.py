"""The law about cost: measured, within the limits, and stated at the top as measured."""

from __future__ import annotations

from numbers import Real

from nbformat import NotebookNode

from mmbook.execution import cost_text
from mmbook.laws.cells import tags

MAX_SECONDS, MAX_MB = 60, 2048
NEAR_TOP = 6  # among the first cells: title, picture, objectives may come before
REMEDY = "run `make notebooks`"


def cost_stated(nb: NotebookNode, name: str) -> list[str]:
    """Seconds (≤ 60) and memory (≤ 2048 MB) are measured; the one cell tagged "cost", near the top,
    says just that."""
    own = nb.metadata.get("mmtutor", {})
    problems = []
    for key, limit, unit in (("seconds", MAX_SECONDS, "s"), ("memory_mb", MAX_MB, "MB")):
        value = own.get(key)
        if not isinstance(value, Real) or isinstance(value, bool) or value <= 0:
            problems.append(
                f"{name}: metadata mmtutor.{key} holds no measurement ({value!r}): {REMEDY}"
            )
        elif value > limit:
            problems.append(f"{name}: takes {value:g} {unit}, the limit is {limit} {unit}")
    places = [place for place, cell in enumerate(nb.cells) if "cost" in tags(cell)]
    if len(places) != 1:
        problems.append(f"{name}: {len(places)} cells are tagged cost, expected one")
        return problems
    cell = nb.cells[places[0]]
    if places[0] >= NEAR_TOP:
        problems.append(
            f"{name}: cell {places[0]}: the cost stands too far down: among the first {NEAR_TOP}"
            " cells"
        )
    measured = {"seconds", "memory_mb"} <= set(own)
    if cell.cell_type != "markdown" or (measured and cell.source.strip() != cost_text(own)):
        problems.append(
            f"{name}: cell {places[0]}: the cost stated is not the cost measured: {REMEDY}"
        )
    return problems
