"""The law about prose: a result is never typed by hand, it comes from the run through a {glue}
role.

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

from __future__ import annotations

import re

from nbformat import NotebookNode

from mmbook.laws.cells import tags

CODE_DIRECTIVES = {
    "code",
    "code-block",
    "code-cell",
    "sourcecode",
    "literalinclude",
    "math",
    "mermaid",
    "raw",
}
NAMING_DIRECTIVES = {
    "figure",
    "image",
    "glue",
    "glue:figure",
    "bibliography",
}  # what follows is a file or a name
FENCE = re.compile(r" {0,3}(`{3,}|~{3,}|:{3,})\s*(.*?)\s*$")
DIRECTIVE = re.compile(r"\{([\w:-]+)\}(.*)")
OPTION = re.compile(r"\s*:(?!alt:)[\w-]+:")
IMAGE_ALT = re.compile(r"<img\b[^>]*?\balt\s*=\s*[\"']([^\"']*)[\"'][^>]*>", re.IGNORECASE)
ROLE = re.compile(r"\{[\w:.+-]+\}(`+)(?:(?!\1).)*\1", re.DOTALL)
CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(?:.*?[^`])??\1(?!`)", re.DOTALL)
MATHS = re.compile(
    r"\$\$.*?\$\$|(?<![\\$])\$(?!\s)(?:\\.|[^$\\\n])+?(?<!\s)\$(?!\d)|\\\(.*?\\\)|\\\[.*?\\\]|\\begin\{(\w+\*?)\}.*?\\end\{\1\}",
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
ALLOWED = (
    re.compile(r"\barXiv[:\s]*\d{4}\.\d{4,5}(?:v\d+)?", re.IGNORECASE),
    re.compile(r"\b(?:doi[:\s]*)?10\.\d{4,9}/\S+", re.IGNORECASE),
    re.compile(
        r"\b(?:Chapters?|Sections?|Parts?|Tables?|Figures?|Fig\.|Equations?|Eq\.|Exercises?|pages?|pp?\.|vol\.|no\.)"
        r"\s*\d+(?:\.\d+)*(?:\s*[-–]\s*\d+(?:\.\d+)*)?",
        re.IGNORECASE,
    ),
    re.compile(r"(?<![\w.])\d+(?: *[×x] *\d+)+(?!\.?\d)(?: *(?:px|pixels?)\b)?"),
    re.compile(r"\b\d+(?:\.\d+)?[\s-]?(?:px|pixels?|k?Hz|d|dimensional|dimensions|bits?)\b"),
    re.compile(
        r"\b(?:Python|PyTorch|CUDA|JupyterLab|CC(?:0| BY(?:-[A-Z]{2})*))\s*[≥>=]*\s*\d+(?:\.\d+)*"
    ),
    re.compile(r"\b95\s?%(?=\s+(?:\w+\s+)?(?:intervals?|confidence))"),
    re.compile(
        r"(?:(?<=[(,–©-])\s?|(?<=\b[Ii]n )|(?<=\bby )|(?<=\bof )|(?<=\bsince )|(?<=\bfrom"
        r" )|(?<=\buntil )"
        r"|(?<=\bbefore )|(?<=\bafter )|(?<=\bal\."
        r" )|\b(?!The|All|These|Those|Over|About|Only|With)[A-Z]\w{2,} \(?)"
        r"(?:19|20)\d\d[a-z]?(?![\w%]|\s%|[.,]\d)"
    ),
    re.compile(r"\b[A-Za-z]\w*-\d+\b(?!\s?%)(?!\.\d)|\b[A-Za-z_]+\d[\w.]*"),
)
NUMBER = re.compile(
    r"[-+−]?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)\s?(?:%|per\s?cent\b|percent\b|percentage\s+points?\b)"
    r"|(?<![\w.])[-+−]?(?:\d+(?:,\d{3})*\.\d+|\.\d+)"
    r"|(?<![\w.])[-+−]?(?:\d{1,3}(?:[,\u202f\u2009\u00a0]\d{3})+|\d{3,})"
)
REFERENCES = re.compile(r"^#{1,6}\s+(?:Further reading|References)\b", re.IGNORECASE | re.MULTILINE)
BARE_INTEGER = re.compile(r"(?<![\w.,])\d+(?:[-–]\d+)?(?![\w%]|[.,]\d|\s%)")


def without_blocks(source: str) -> str:
    """Return a markdown text without its code blocks; of MyST directives the prose inside stays,
    options go."""
    kept: list[str] = []
    fences: list[tuple[str, bool]] = []  # those open around this line: (marks, holds code)
    for line in source.splitlines():
        fence = FENCE.match(line)
        marks, info = fence.groups() if fence else ("", "")
        in_code = bool(fences) and fences[-1][1]
        if fence and not info and fences and marks.startswith(fences[-1][0]):
            fences.pop()
        elif in_code:
            continue
        elif fence:
            directive = DIRECTIVE.match(info)
            name, argument = directive.groups() if directive else ("", "")
            fences.append((marks, name in CODE_DIRECTIVES if directive else marks[0] != ":"))
            kept.append("" if name in NAMING_DIRECTIVES | CODE_DIRECTIVES else argument)
        elif not (fences and OPTION.match(line)):
            kept.append(line)
    return "\n".join(kept)


def without_code(source: str, keep_roles: bool = False) -> str:
    """Return a markdown text with code blocks, code spans, maths and, unless kept, MyST roles taken
    out."""
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match.group())
        return f"\x00{len(kept) - 1}\x00"

    text = ROLE.sub(keep if keep_roles else " ", without_blocks(source))
    text = MATHS.sub(" ", CODE_SPAN.sub(" ", text))
    return re.sub(r"\x00(\d+)\x00", lambda match: kept[int(match.group(1))], text)


def code_blanked(source: str) -> str:
    """Return a markdown text whose code blocks and code spans hold only the letter x; each line
    stays where it was."""
    lines: list[str] = []
    marks = ""  # what closes the block open around this line
    for line in source.split("\n"):
        fence = FENCE.match(line)
        inside = bool(marks)
        if fence and inside and not fence.group(2) and fence.group(1).startswith(marks):
            marks = ""
        elif (
            fence
            and not inside
            and fence.group(1)[0] != ":"
            and not DIRECTIVE.match(fence.group(2))
        ):
            marks = fence.group(1)
        lines.append("x" if (inside or marks) and line.strip() else line)
    return CODE_SPAN.sub(lambda span: re.sub(r"[^\n]", "x", span.group()), "\n".join(lines))


def typed_numbers(source: str) -> list[str]:
    """Return the numbers in a markdown text that look like results typed by hand."""
    text = IMAGE_ALT.sub(r" \1 ", without_code(source))
    for pattern in NOT_PROSE:
        text = pattern.sub(" ", text)
    for pattern in ALLOWED:
        text = pattern.sub(" ", text)
    body, *references = REFERENCES.split(text, maxsplit=1)
    text = "\n".join([body, *(BARE_INTEGER.sub(" ", part) for part in references)])
    return [match.group().strip() for match in NUMBER.finditer(text)]


def numbers_from_glue(nb: NotebookNode, name: str) -> list[str]:
    """No markdown cell and no alternative text holds a typed result. The cell tagged "cost" has a
    law of its own."""
    problems = []
    for place, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown" and "cost" not in tags(cell):
            source, what = cell.source, "prose"
        else:
            source, what = (
                cell.metadata.get("mystnb", {}).get("image", {}).get("alt", ""),
                "alternative text",
            )
        problems += [
            f"{name}: cell {place}: the {what} holds the typed number {number!r}: glue it, or set"
            " it as code or maths"
            for number in typed_numbers(str(source or ""))
        ]
    return problems
