"""Laws about glued values: each role on a page has its value, each value one meaning."""

from __future__ import annotations

import ast
import re
from collections import Counter

from nbformat import NotebookNode

from mmbook.laws.cells import called_name, numbered, tree
from mmbook.laws.prose import without_code

ROLE = re.compile(r"\{glue(?::\w+)?\}`([^`]+)`")
DIRECTIVE = re.compile(r"^ {0,3}(?:`{3,}|:{3,})\{glue(?::\w+)?\}\s*(\S+)", re.MULTILINE)


def stored_names(nb: NotebookNode) -> list[str]:
    """Return the name of each glued value among the stored outputs, repeated where it is glued
    twice."""
    return [
        output.metadata["scrapbook"]["name"]
        for _, cell in numbered(nb, "code")
        for output in cell.outputs
        if "scrapbook" in output.get("metadata", {})
    ]


def cited_names(source: str) -> list[str]:
    """Return the names that the glue roles and directives of a markdown text refer to, formats
    (`name:.2f`) cut off."""
    found = ROLE.findall(without_code(source, keep_roles=True)) + DIRECTIVE.findall(source)
    return [name.split("<")[-1].rstrip(">").split(":")[0].strip() for name in found]


def glue_names(nb: NotebookNode, name: str) -> list[str]:
    """Every glue role names a value stored here, no value is glued twice, and each glue() call left
    its value."""
    stored = Counter(stored_names(nb))
    problems = [
        f"{name}: {value!r} is glued {times} times" for value, times in stored.items() if times > 1
    ]
    for place, cell in numbered(nb, "markdown"):
        problems += [
            f"{name}: cell {place}: cites {cited!r}, which this notebook does not glue"
            for cited in cited_names(cell.source)
            if cited not in stored
        ]
    for place, cell in numbered(nb, "code"):
        for statement in tree(cell).body:
            call = statement.value if isinstance(statement, ast.Expr) else None
            first = call.args[0] if called_name(call) == "glue" and call.args else None
            if isinstance(first, ast.Constant) and first.value not in stored:
                problems.append(
                    f"{name}: cell {place}: glues {first.value!r}, but no such value is stored"
                )
    return problems
