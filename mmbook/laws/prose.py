"""Laws about numbers in prose: a result is never typed by hand, it comes from the run through a
{glue} role, each role has its value, and each value one meaning.

Banned in markdown cells and in alternative texts: decimals, percentages, and whole numbers of three
digits or more. Not looked at: code, maths, link targets, raw HTML tags, roles ({cite}, {glue},
{ref}, …), numbers in headings' front. Allowed, because they are names, settings or references
rather than results:

- years 1900 to 2099 after a name, a bracket, a comma or a word such as in, since, from;
- page, chapter, section, figure and equation numbers; arXiv identifiers and DOIs;
- sizes: 8×8, 224 × 224, 224 px, 512-d, 384-dimensional, 384 dimensions, 22050 Hz, 16 kHz;
- names with a number: ResNet-18, ResNet-152, Python 3.11, CC BY 4.0, 8-bit;
- the level of an interval: 95 % interval, 95% confidence;
- under the headings "Further reading" and "References": whole numbers (volumes, pages).

Any other number that is no result (a learning rate, a definition) goes into a code span or a
formula.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

from mmbook.reading import (
    Finding,
    Notebook,
    glued_values,
    row_with,
    spaced,
    tags,
    top_level_calls,
)
from mmbook.reading.markdown import DIRECTIVE, fenced_lines
from mmbook.words import Words, words_of

# What follows these is a file or a name
NAMING_DIRECTIVES = {"figure", "image", "glue", "glue:figure", "bibliography"}
OPTION = re.compile(r"\s*:(?!alt:)[\w-]+:")
IMAGE_ALT = re.compile(r"<img\b[^>]*?\balt\s*=\s*[\"']([^\"']*)[\"'][^>]*>", re.IGNORECASE)
# A code span, or a role of MyST, which is a code span with a name in front
SPAN = re.compile(
    r"(?:\{(?P<role>[\w:.+-]+)\})?(?<!`)(?P<marks>`+)(?!`)"
    r"(?P<content>(?:.*?[^`])??)(?P=marks)(?!`)",
    re.DOTALL,
)
MATHS = re.compile(
    r"\$\$.*?\$\$|(?<![\\$])\$(?!\s)(?:\\.|[^$\\\n])+?(?<!\s)\$(?!\d)"
    r"|\\\(.*?\\\)|\\\[.*?\\\]|\\begin\{(\w+\*?)\}.*?\\end\{\1\}",
    re.DOTALL,
)
NOT_PROSE = (
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"<(style|script|svg)\b.*?</\1>", re.DOTALL | re.IGNORECASE),
    re.compile(r"<(?:https?|mailto):[^>]*>"),
    re.compile(r"</?[A-Za-z][^>]*>"),
    re.compile(r"(?<=\])\((?:[^()]|\([^()]*\))*\)"),  # the target of a link or picture
    re.compile(r"(?<=\])\[[^\]]*\]"),  # a reference link's label
    re.compile(r"^\s*\[[^\]]+\]:\s.*$", re.MULTILINE),
    re.compile(r"^\s*\([\w:.-]+\)=\s*$", re.MULTILINE),  # a label
    re.compile(r"^#{1,6}\s+[\d.]+", re.MULTILINE),  # a heading's own number
    re.compile(r"\b(?:https?://|www\.)\S+"),
)
NUMBERED = r"\s*\d+(?:\.\d+)*(?:\s*[-–]\s*\d+(?:\.\d+)*)?\s*"
YEAR = r"\s*(?:19|20)\d\d[a-z]?(?![\w%]|\s%|[.,]\d)\s*"
NUMBER = (
    r"(?<![\w.])[-+−]?(?:\d+(?:,\d{3})*\.\d+|\.\d+)"
    r"|(?<![\w.])[-+−]?(?:\d{1,3}(?:[,\u202f\u2009\u00a0]\d{3})+|\d{3,})"
)
SHARE = r"[-+−]?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)\s?"
BARE_INTEGER = re.compile(r"(?<![\w.,])\d+(?:[-–]\d+)?(?![\w%]|[.,]\d|\s%)")


@cache
def allowed(words: Words) -> list[re.Pattern[str]]:
    """Return what looks like a number in prose and is no result: names, settings, references."""

    def beside(templates: tuple[str, ...], number: str) -> str:
        escaped = (re.escape(spaced(t)).replace(r"\ ", "").split(r"\#") for t in templates)
        return "|".join(rf"(?<![A-Za-z]){before}{number}{after}" for before, after in escaped)

    units, levels_of = ("|".join(map(re.escape, w)) for w in (words.units, words.levels_of))
    return [
        re.compile(r"\barXiv[:\s]*\d{4}\.\d{4,5}(?:v\d+)?", re.IGNORECASE),
        re.compile(r"\b(?:doi[:\s]*)?10\.\d{4,9}/\S+", re.IGNORECASE),
        re.compile(beside(words.numbered, NUMBERED), re.IGNORECASE),
        re.compile(rf"(?<![\w.])\d+(?: *[×x] *\d+)+(?!\.?\d)(?: *(?:px|{units})(?!\w))?"),
        re.compile(rf"\b\d+(?:\.\d+)?[\s-]?(?:px|k?Hz|d|{units})(?![A-Za-z0-9_])"),
        re.compile(
            r"\b(?:Python|PyTorch|CUDA|JupyterLab|CC(?:0| BY(?:-[A-Z]{2})*))\s*[≥>=]*\s*"
            r"\d+(?:\.\d+)*"
        ),
        re.compile(rf"\b95\s?%(?=\s+(?:\w+\s+)?(?:{levels_of}))"),
        re.compile(
            rf"(?<=[(,–©-]){YEAR}|{beside(words.years, YEAR)}"
            rf"|\b(?!{'|'.join(words.not_names) or '$'})[A-Z]\w{{2,}} \(?{YEAR}"
        ),
        re.compile(r"\b[A-Za-z]\w*-\d+\b(?!\s?%)(?!\.\d)|\b[A-Za-z_]+\d[\w.]*"),
    ]


@cache
def number_pattern(words: Words) -> re.Pattern[str]:
    """Return the pattern of a number that looks like a result: a share, a decimal, 3 digits."""
    in_words = [re.escape(word).replace(r"\ ", r"\s+") + "(?![A-Za-z])" for word in words.percent]
    return re.compile(rf"{SHARE}(?:{'|'.join(['%', *in_words])})|{NUMBER}")


def without_blocks(source: str) -> str:
    """Return a markdown text without its code blocks; of MyST directives the prose inside stays,
    options go."""
    kept: list[str] = []
    for line, code, is_fence, inside in fenced_lines(source):
        if is_fence and not code and (directive := DIRECTIVE.search(line)):
            kept.append("" if directive[1] in NAMING_DIRECTIVES else directive[2])
        elif not (is_fence or code or (inside and OPTION.match(line))):
            kept.append(line)
    return "\n".join(kept)


def without_code(source: str) -> str:
    """Return a markdown text with code blocks, code spans, maths and MyST roles taken out."""
    return MATHS.sub(" ", SPAN.sub(" ", without_blocks(source)))


def typed_numbers(source: str, words: Words | None = None) -> list[str]:
    """Return the numbers in a markdown text that look like results typed by hand.

    words: those of the text's language; None: those of the book's.
    """
    words = words or words_of()
    text = IMAGE_ALT.sub(r" \1 ", without_code(source))
    for pattern in NOT_PROSE:
        text = pattern.sub(" ", text)
    text = spaced(text)
    for pattern in allowed(words):
        text = pattern.sub(" ", text)
    heading = rf"^#{{1,6}}\s+(?:{'|'.join(map(re.escape, words.bibliography))})(?![A-Za-z])"
    body, *references = re.split(heading, text, maxsplit=1, flags=re.IGNORECASE | re.MULTILINE)
    text = "\n".join([body, *(BARE_INTEGER.sub(" ", part) for part in references)])
    return [match.group().strip() for match in number_pattern(words).finditer(text)]


def numbers_from_glue(page: Notebook) -> Iterator[Finding]:
    """No markdown cell and no alternative text holds a typed result. The cell tagged "cost" has a
    law of its own."""
    for place, cell in enumerate(page.nb.cells):
        source, what = cell.source, "prose"
        if cell.cell_type != "markdown" or "cost" in tags(cell):
            image = cell.metadata.get("mystnb", {}).get("image", {})
            source, what = str(image.get("alt") or ""), "alternative text"
        yield from (
            Finding(
                f"the {what} holds the typed number {number!r}: glue it, or set it as code or"
                " maths",
                place,
                row_with(cell, number),
            )
            for number in typed_numbers(source, page.words)
        )


# Roles and their values
# -------------------------------------------------------------------------------------------------

GLUE_DIRECTIVE = re.compile(r"^ {0,3}(?:`{3,}|:{3,})\{glue(?::\w+)?\}\s*(\S+)", re.MULTILINE)


def cited_names(source: str) -> list[str]:
    """Return the names that the glue roles and directives of a markdown text refer to, formats
    (`name:.2f`) cut off."""
    spans = SPAN.finditer(without_blocks(source))
    roles = [span["content"] for span in spans if (span["role"] or "").split(":")[0] == "glue"]
    return [
        name.split("<")[-1].rstrip(">").split(":")[0].strip()
        for name in (*roles, *GLUE_DIRECTIVE.findall(source))
    ]


def glue_names(page: Notebook) -> Iterator[Finding]:
    """Every glue role names a value stored here, no value is glued twice, and each glue() call left
    its value."""
    stored = Counter(value.name for value in glued_values(page.nb))
    yield from (
        Finding(f"{name!r} is glued {times} times") for name, times in stored.items() if times > 1
    )
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
    return [
        (call.args[0].value, call.lineno - 1)
        for call in top_level_calls(source, "glue")
        if call.args and isinstance(call.args[0], ast.Constant)
    ]
