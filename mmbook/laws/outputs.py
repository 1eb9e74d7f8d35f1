"""Laws about stored outputs: in order, quiet, compared in full, readable without a kernel."""

import re
from collections.abc import Iterator
from statistics import median

from nbformat import NotebookNode

from mmbook.compare import Tolerance, numbers, parse_tolerance
from mmbook.reading import (
    GLUE_MIME,
    GLUED_TEXT,
    Finding,
    Notebook,
    found,
    glued_values,
    holding,
    tags,
    texts,
    top_level_calls,
)

WARNING = re.compile(r"\b\w*Warning\b:?|\bwarning:", re.MULTILINE)
# nbval's switches, as tags (any case, - or _) and as comments. Only the first pair may be used.
IGNORE = {"nbval-ignore-output", "pytest-validate-ignore-output"}
FORBIDDEN = {
    "nbval-skip",
    "nbval-raises-exception",
    "raises-exception",
    "nbval-check-output",
    "skip-execution",
}
COMMENT = re.compile(r"^[ \t]*#+[ \t]*(.*?)[ \t]*$", re.MULTILINE)
EXCUSES = {
    "prints-time": re.compile(r"time|perf_counter|seconds|elapsed|duration|clock", re.IGNORECASE),
    "prints-path": re.compile(r"path|folder|file|dir|cwd|root", re.IGNORECASE),
}
MACHINE_PATH = re.compile(
    r"(?<![A-Za-z0-9_.])/(?:home|Users|root|tmp|var|opt|usr|mnt|private|workspace|content)/\w"
    r"|(?<![A-Za-z0-9_])[A-Za-z]:\\+(?:Users|\w+\\)|file://"
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
    r"<\s*(?:script|iframe|object|embed|link)\b"
    r"|<[^>]*\s(?:on\w+\s*=|src(?:set)?\s*=\s*[\"']?\s*(?:https?:)?//)",
    re.IGNORECASE,
)
ABSOLUTE_FREE, ABSOLUTE_SHARE, RELATIVE_LIMIT = 0.05, 0.2, 0.2


def never_run(page: Notebook) -> bool:
    """Return whether a notebook has code and none of it was executed, so that looking at outputs is
    vain."""
    counts = [cell.execution_count for _, cell in page.cells("code")]
    return bool(counts) and not any(counts)


def executed_in_order(page: Notebook) -> Iterator[Finding]:
    """Every code cell was executed, once, from a fresh kernel: execution counts are 1, 2, …, n."""
    if never_run(page):
        yield Finding("never executed, no code cell has a number: run `make notebooks`")
        return
    for expected, (place, cell) in enumerate(page.cells("code"), start=1):
        count = cell.execution_count
        is_now = "not executed" if count is None else f"executed as number {count}"
        yield from found(
            {
                f"{is_now}, expected number {expected} of a run from a fresh kernel": (
                    count != expected
                ),
                "an empty code cell": not cell.source.strip(),
            },
            place,
        )


def prints_are_stored(page: Notebook) -> Iterator[Finding]:
    """A cell that prints without condition has stored what it printed: outputs were not cleared or
    cut out."""
    for place, cell in page.cells("code"):
        prints = [
            call
            for call in top_level_calls(cell.source, "print")
            if not any(keyword.arg == "file" for keyword in call.keywords)
        ]
        if prints and not any(output.get("name") == "stdout" for output in cell.outputs):
            yield Finding("prints, but no printed output is stored", place, prints[0].lineno - 1)
        yield from (
            Finding(f"output {number} is empty", place)
            for number, output in enumerate(cell.outputs)
            if not output.get("data", True)
        )


def quiet(page: Notebook) -> list[Finding]:
    """No output on stderr, no error, and no text that warns."""
    return [Finding(text, n) for n, output in page.outputs() if (text := noise(output))]


def noise(output: NotebookNode) -> str:
    """Say what is wrong with an output that is not quiet, or return ''."""
    if output.output_type == "error":
        return f"ended in {output.ename}"
    if output.output_type == "stream" and output.name == "stderr":
        return f"wrote to stderr: {output.text.strip()[:80]!r}"
    return "its output holds a warning" if any(map(WARNING.search, texts(output))) else ""


def nothing_ignored(page: Notebook) -> Iterator[Finding]:
    """No output escapes comparison, except where a tag says that it prints a time or a path, and
    the code does."""
    for place, cell in page.cells("code"):
        comments = set(COMMENT.findall(cell.source))
        marks = {mark.lower().replace("_", "-") for mark in comments | set(tags(cell))}
        excuses = {tag: names for tag, names in EXCUSES.items() if tag in tags(cell)}
        yield from found(
            {
                **{f"{mark} is not allowed": mark in marks for mark in sorted(FORBIDDEN)},
                "ignores its output without the tag prints-time or prints-path": (
                    marks & IGNORE and not excuses
                ),
                **{
                    f"tagged {tag}, but its code names no such thing": not names.search(cell.source)
                    for tag, names in excuses.items()
                },
            },
            place,
        )


def tolerances(page: Notebook) -> Iterator[Finding]:
    """A tolerance tag is well formed, has a number to apply to, and is small beside it.

    Allowed: rtol up to 0.2; tol, and a glued value's own tolerance, up to 0.05 or to 0.2 of the
    typical number shown.
    """
    for place, cell in page.cells("code"):
        shown = [number for output in cell.outputs for number in printed_numbers(output)]
        try:
            faults = excess(parse_tolerance(tags(cell)), shown)
        except ValueError as error:
            faults = [str(error)]
        yield from (Finding(text, place) for text in faults)
    yield from (
        Finding(f"glued: {text}", value.cell)
        for value in glued_values(page.nb)
        for text in excess(Tolerance(value.tolerance), numbers(value.shown))
    )


def printed_numbers(output: NotebookNode) -> list[float]:
    """Return the numbers of an output that a cell's tolerance applies to: not glued, no infinities
    or nan."""
    data = output.get("data", {})
    text = output.get("text", data.get("text/plain", "")) if GLUED_TEXT not in data else ""
    return [abs(n) for n in numbers(text) if 0 < abs(n) < float("inf")]


def excess(stated: Tolerance, shown: list[float]) -> list[str]:
    """Say what is wrong with a tolerance beside the numbers it applies to."""
    if not shown:
        return [] if stated.strict else ["states a tolerance, but shows no number"]
    limit = max(ABSOLUTE_FREE, ABSOLUTE_SHARE * median(map(abs, shown)))
    return holding(
        {
            f"tolerance {stated.absolute:g} is too wide: at most {limit:.2g} beside the numbers"
            " shown": stated.absolute > limit,
            f"relative tolerance {stated.relative:g} is too wide: at most {RELATIVE_LIMIT:g}": (
                stated.relative > RELATIVE_LIMIT
            ),
        }
    )


def static(page: Notebook) -> Iterator[Finding]:
    """Outputs need no kernel, no script and no other host to be read."""
    for place, output in page.outputs():
        for mime, content in output.get("data", {}).items():
            if mime.removeprefix(GLUE_MIME) not in STATIC_MIMES:
                yield Finding(f"an output of type {mime} needs a kernel or a script", place)
            elif mime in ("text/html", "image/svg+xml") and LIVE_HTML.search(str(content)):
                yield Finding("HTML that runs a script or asks another host", place)


def no_machine_paths(page: Notebook) -> list[Finding]:
    """No output shows where the author's files lie, unless the cell is tagged prints-path."""
    return [
        Finding(f"shows a path of the author's machine ({path.group()}…)", place)
        for place, output in page.outputs()
        if "prints-path" not in tags(page.nb.cells[place])
        if (path := MACHINE_PATH.search("\n".join(texts(output))))
    ]
