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
    for name, times in stored.items():
        if times > 1:
            yield Finding(f"{name!r} is glued {times} times")
    for place, cell in page.cells("markdown"):
        for name in cited_names(cell.source):
            if name not in stored:
                text = f"cites {name!r}, which this notebook does not glue"
                yield Finding(text, place, row_with(cell, name))
    for place, cell in page.cells("code"):
        for statement in tree(cell.source).body:
            call = statement.value if isinstance(statement, ast.Expr) else None
            first = call.args[0] if called_name(call) == "glue" and call.args else None
            if isinstance(first, ast.Constant) and first.value not in stored:
                text = f"glues {first.value!r}, but no such value is stored"
                yield Finding(text, place, statement.lineno - 1)
