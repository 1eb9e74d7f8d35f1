"""Laws about stored outputs: there, in order, quiet, compared in full, readable without a
kernel."""

from __future__ import annotations

import ast
import re
from statistics import median

from nbformat import NotebookNode

from mmbook.compare import Tolerance, numbers, parse_tolerance
from mmbook.laws.cells import GLUE_MIME, called_name, numbered, tags, texts, tree

WARNING = re.compile(r"\b\w*Warning\b:?|\bwarning:", re.MULTILINE)
# nbval's switches, as tags (any case, - or _) and as comments. Only the first pair may ever be
# used.
IGNORE = {"nbval-ignore-output", "pytest-validate-ignore-output"}
FORBIDDEN = {
    "nbval-skip",
    "nbval-raises-exception",
    "raises-exception",
    "nbval-check-output",
    "skip-execution",
}
EXCUSES = {
    "prints-time": re.compile(r"time|perf_counter|seconds|elapsed|duration|clock", re.IGNORECASE),
    "prints-path": re.compile(r"path|folder|file|dir|cwd|root", re.IGNORECASE),
}
MACHINE_PATH = re.compile(
    r"(?<![\w.])/(?:home|Users|root|tmp|var|opt|usr|mnt|private|workspace|content)/\w|\b[A-Za-z]:\\+(?:Users|\w+\\)|file://"
)
STATIC_MIMES = (
    "text/plain",
    "text/html",
    "text/markdown",
    "text/latex",
    "image/png",
    "image/jpeg",
    "image/svg+xml",
)
LIVE_HTML = re.compile(
    r"<\s*(?:script|iframe|object|embed|link)\b|<[^>]*\s(?:on\w+\s*=|src(?:set)?\s*=\s*[\"']?\s*(?:https?:)?//)",
    re.IGNORECASE,
)
ABSOLUTE_FREE, ABSOLUTE_SHARE, RELATIVE_LIMIT = 0.05, 0.2, 0.2


def never_run(nb: NotebookNode) -> bool:
    """Return whether a notebook has code and none of it was executed, so that looking at outputs is
    vain."""
    counts = [cell.execution_count for _, cell in numbered(nb, "code")]
    return bool(counts) and not any(counts)


def executed_in_order(nb: NotebookNode, name: str) -> list[str]:
    """Every code cell was executed, once, from a fresh kernel: execution counts are 1, 2, …, n."""
    if never_run(nb):
        return [f"{name}: never executed, no code cell has a number: run `make notebooks`"]
    problems = []
    for expected, (place, cell) in enumerate(numbered(nb, "code"), start=1):
        if cell.execution_count != expected:
            found = (
                "not executed"
                if cell.execution_count is None
                else f"executed as number {cell.execution_count}"
            )
            problems.append(
                f"{name}: cell {place}: {found}, expected number {expected} of a run from a fresh"
                " kernel"
            )
        if not cell.source.strip():
            problems.append(f"{name}: cell {place}: an empty code cell")
    return problems


def prints_are_stored(nb: NotebookNode, name: str) -> list[str]:
    """A cell that prints without condition has stored what it printed: outputs were not cleared or
    cut out."""
    problems = []
    for place, cell in numbered(nb, "code"):
        calls = [
            s.value
            for s in tree(cell).body
            if isinstance(s, ast.Expr) and called_name(s.value) == "print"
        ]
        to_stdout = [c for c in calls if not any(k.arg == "file" for k in c.keywords)]
        stored = any(o.output_type == "stream" and o.name == "stdout" for o in cell.outputs)
        if to_stdout and not stored:
            problems.append(f"{name}: cell {place}: prints, but no printed output is stored")
        problems += [
            f"{name}: cell {place}: output {number} is empty"
            for number, output in enumerate(cell.outputs)
            if output.output_type in ("display_data", "execute_result") and not output.data
        ]
    return problems


def quiet(nb: NotebookNode, name: str) -> list[str]:
    """No output on stderr, no error, and no text that warns."""
    problems = []
    for place, cell in numbered(nb, "code"):
        for output in cell.outputs:
            if output.output_type == "error":
                problems.append(f"{name}: cell {place}: ended in {output.ename}")
            elif output.output_type == "stream" and output.name == "stderr":
                problems.append(
                    f"{name}: cell {place}: wrote to stderr: {output.text.strip()[:80]!r}"
                )
            elif any(WARNING.search(text) for text in texts(output)):
                problems.append(f"{name}: cell {place}: its output holds a warning")
    return problems


def nothing_ignored(nb: NotebookNode, name: str) -> list[str]:
    """No output escapes comparison, except where a tag says that it prints a time or a path, and
    the code does."""
    problems = []
    for place, cell in numbered(nb, "code"):
        comments = {
            line.strip().lstrip("#").strip()
            for line in cell.source.splitlines()
            if line.strip()[:1] == "#"
        }
        marks = {mark.lower().replace("_", "-") for mark in comments | set(tags(cell))}
        excuses = set(EXCUSES) & set(tags(cell))
        problems += [
            f"{name}: cell {place}: {mark} is not allowed" for mark in sorted(marks & FORBIDDEN)
        ]
        if marks & IGNORE and not excuses:
            problems.append(
                f"{name}: cell {place}: ignores its output without the tag prints-time or"
                " prints-path"
            )
        problems += [
            f"{name}: cell {place}: tagged {excuse}, but its code names no such thing"
            for excuse in sorted(excuses)
            if not EXCUSES[excuse].search(cell.source)
        ]
    return problems


def tolerances(nb: NotebookNode, name: str) -> list[str]:
    """A tolerance tag is well formed, has a number to apply to, and is small beside it.

    Allowed: rtol up to 0.2; tol, and a glued value's own tolerance, up to 0.05 or to 0.2 of the
    typical number shown.
    """
    problems = []
    for place, cell in numbered(nb, "code"):
        where = f"{name}: cell {place}"
        try:
            stated = parse_tolerance(tags(cell))
        except ValueError as error:
            problems.append(f"{where}: {error}")
            continue
        shown = [number for output in cell.outputs for number in _printed(output)]
        if not stated.strict:
            problems += [f"{where}: {text}" for text in _excess(stated, shown)]
        for output in cell.outputs:
            given = output.get("metadata", {}).get("mmtutor", {}).get("tolerance", 0.0)
            glued = numbers(output.get("data", {}).get(GLUE_MIME + "text/plain", "").strip("'\""))
            if given:
                problems += [f"{where}: glued: {text}" for text in _excess(Tolerance(given), glued)]
    return problems


def _printed(output: NotebookNode) -> list[float]:
    """Return the numbers of an output that a cell's tolerance applies to: not glued, no infinities
    or nan."""
    if GLUE_MIME + "text/plain" in output.get("data", {}):
        return []
    text = (
        output.text
        if output.output_type == "stream"
        else output.get("data", {}).get("text/plain", "")
    )
    return [abs(n) for n in numbers(text) if 0 < abs(n) < float("inf")]


def _excess(stated: Tolerance, shown: list[float]) -> list[str]:
    """Say what is wrong with a tolerance beside the numbers it applies to."""
    if not shown:
        return ["states a tolerance, but shows no number"]
    problems = []
    limit = max(ABSOLUTE_FREE, ABSOLUTE_SHARE * median(abs(n) for n in shown))
    if stated.absolute > limit:
        problems.append(
            f"tolerance {stated.absolute:g} is too wide: at most {limit:.2g} beside the numbers"
            " shown"
        )
    if stated.relative > RELATIVE_LIMIT:
        problems.append(
            f"relative tolerance {stated.relative:g} is too wide: at most {RELATIVE_LIMIT:g}"
        )
    return problems


def static(nb: NotebookNode, name: str) -> list[str]:
    """Outputs need no kernel, no script and no other host to be read."""
    problems = []
    for place, cell in numbered(nb, "code"):
        for output in cell.outputs:
            for mime, content in output.get("data", {}).items():
                if mime.removeprefix(GLUE_MIME) not in STATIC_MIMES:
                    problems.append(
                        f"{name}: cell {place}: an output of type {mime} needs a kernel or a script"
                    )
                elif mime in ("text/html", "image/svg+xml") and LIVE_HTML.search(str(content)):
                    problems.append(
                        f"{name}: cell {place}: HTML that runs a script or asks another host"
                    )
    return problems


def no_machine_paths(nb: NotebookNode, name: str) -> list[str]:
    """No output shows where the author's files lie, unless the cell is tagged prints-path."""
    problems = []
    for place, cell in numbered(nb, "code"):
        found = [
            m.group() for o in cell.outputs for text in texts(o) if (m := MACHINE_PATH.search(text))
        ]
        if found and "prints-path" not in tags(cell):
            problems.append(
                f"{name}: cell {place}: shows a path of the author's machine ({found[0]}…)"
            )
    return problems
