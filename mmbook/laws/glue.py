"""Laws about glued values: each role on a page has its value, each value one meaning."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

from mmbook.laws.prose import without_code
from mmbook.reading import Finding, Notebook, called_name, glued_values, row_with, tree

ROLE = re.compile(r"\{glue(?::\w+)?\}`([^`]+)`")
DIRECTIVE = re.compile(r"^ {0,3}(?:`{3,}|:{3,})\{glue(?::\w+)?\}\s*(\S+)", re.MULTILINE)


def cited_names(source: str) -> list[str]:
    """Return the names that the glue roles and directives of a markdown text refer to, formats
    (`name:.2f`) cut off."""
    cited = ROLE.findall(without_code(source, keep_roles=True)) + DIRECTIVE.findall(source)
    return [name.split("<")[-1].rstrip(">").split(":")[0].strip() for name in cited]


def glue_names(page: Notebook) -> Iterator[Finding]:
    """Every glue role names a value stored here, no value is glued twice, and each glue() call left
    its value."""
    stored = Counter(value.name for value in glued_values(page.nb))
    twice = ((name, times) for name, times in stored.items() if times > 1)
    yield from (Finding(f"{name!r} is glued {times} times") for name, times in twice)
    yield from (
        Finding(f"cites {name!r}, which this notebook does not glue", n, row_with(cell, name))
        for n, cell in page.cells("markdown")
        for name in cited_names(cell.source)
        if name not in stored
    )
    yield from (
        Finding(f"glues {name!r}, but no such value is stored", n, row)
        for n, cell in page.cells("code")
        for name, row in glue_calls(cell.source)
        if name not in stored
    )


def glue_calls(source: str) -> list[tuple[str, int]]:
    """Return (name, row) of each statement glue("name", ...) at the top level of a cell."""
    calls = (statement.value for statement in tree(source).body if isinstance(statement, ast.Expr))
    return [
        (call.args[0].value, call.lineno - 1)
        for call in calls
        if called_name(call) == "glue" and call.args and isinstance(call.args[0], ast.Constant)
    ]
