"""From a notebook's cells to the pieces that stand on slides: roles become text, prose becomes its
first sentences.

`Reader.blocks(cell)` yields Blocks in reading order. A block knows its HTML, roughly how high it is
on a slide (`mmbook/slides/template/slides.css` sets the sizes), and what the speaker says beside
it.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
import subprocess
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup, Tag
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.myst_role import myst_role_plugin
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from pybtex.database import Entry, parse_file
from pybtex.richtext import Text

from mmbook.reading import GLUED_TEXT, Fold, glued_values, pieces, title

LINE, GAP = 34, 14  # px: a line of text, and what stands below a paragraph
LETTERS = 84  # characters in a line of text
FIGURE = (330, 560)  # px: the lowest and the highest that a figure is drawn
# px: letters of code (smallest, in many lines, largest); letters times px in a line
MONO, MONO_WIDTH = (
    (13, 17, 20),
    1870,
)
CODE, PRINTED = 24, 16  # lines that a slide shows of code and of output
TOGETHER = 560  # px: code and what it prints stay on one slide up to this height
# characters of a paragraph that a slide shows at most: on a full slide, on one with room
SAID, MORE = (
    200,
    420,
)
# px: a table and its letters; one that would need smaller ones is cut in two
TABLE_HEIGHT, SMALL = (
    500,
    16,
)
SENTENCE = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!vs)(?<!al)[.?!][\"”)]?(?=\s+[^a-z\s]|\s*$)")
TARGET = re.compile(r"^(?P<text>.+?)\s*<(?P<target>[^<>]+)>$", re.DOTALL)
VARIANT = re.compile(r'<mi mathvariant="(?P<variant>(?!normal)[a-z-]+)">(?P<letter>[A-Za-z])</mi>')
FORMULA = re.compile("\x02(\\d+)\x03")


class SlidesError(RuntimeError):
    """Slides cannot be made; the message says what is wrong, where, and what to do."""


@dataclass
class Block:
    """One piece of a slide.

    kind: heading (with `level`), text, table, figure, code, or choice (`html` is the choice,
    `feedback` its answer).
    html: what the slide shows; more: what it shows where there is room; full: the same with nothing
    cut; notes: what only the speaker sees.
    """

    kind: str
    html: str = ""
    height: int = 0
    full: str = ""
    notes: str = ""
    level: int = 0
    feedback: str = ""
    more: str = ""


def text_of(markup: str) -> str:
    """Return the words of a piece of HTML; a formula counts as ten letters."""
    return html.unescape(re.sub(r"<[^>]*>", "", FORMULA.sub("x" * 10, markup)))


def text_height(markup: str, letters: int = LETTERS, line: int = LINE, gap: int = GAP) -> int:
    """Return how high a paragraph is about to be, in px."""
    return line * max(1, -(-len(text_of(markup)) // letters)) + gap


@cache
def references(path: Path) -> dict[str, Entry]:
    """Return the bibliography's entries by key."""
    return dict(parse_file(str(path)).entries)


def cited(entry: Entry) -> tuple[str, str]:
    """Return who wrote an entry (at most two names) and when."""
    names = [
        str(Text.from_latex(" ".join(p.prelast_names + p.last_names)))
        for p in entry.persons.get("author", [])
    ]
    who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    return who or entry.key, entry.fields.get("year", "no year")


def page_title(path: Path) -> str:
    """Return the title of a page, a notebook or a Markdown file; its name where there is none."""
    if path.with_suffix(".ipynb").is_file():
        nb = nbformat.read(path.with_suffix(".ipynb"), 4)
    elif path.with_suffix(".md").is_file():
        text = path.with_suffix(".md").read_text(encoding="utf-8")
        nb = new_notebook(cells=[new_markdown_cell(text)])
    else:
        return path.name
    return title(nb) or path.name


def styled(match: re.Match[str]) -> str:
    """Return an <mi> with the letter itself: browsers draw ℝ, and not an R that an attribute calls
    double-struck."""
    variant, letter = match["variant"].upper(), match["letter"]
    case = "CAPITAL" if letter.isupper() else "SMALL"
    for name in (
        f"MATHEMATICAL {variant} {case} {letter.upper()}",
        f"{variant} {case} {letter.upper()}",
    ):
        with contextlib.suppress(KeyError):
            return f"<mi>{unicodedata.lookup(name.replace('-ITALIC', ' ITALIC'))}</mi>"
    return match[0]


def draw_formulas(
    page: str, formulas: list[tuple[str, bool]], node: str, web: Path, name: str
) -> str:
    """Put MathML, drawn by KaTeX in node, where `Reader` left the formulas' places."""
    script = Path(__file__).with_name("template") / "maths.cjs"
    done = subprocess.run(
        [node, str(script), str(web)],
        input=json.dumps(formulas),
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise SlidesError(
            f"{name}: KaTeX cannot draw a formula: {done.stderr.strip()}. Mend it in the notebook"
        )
    drawn = [VARIANT.sub(styled, markup) for markup in json.loads(done.stdout)]
    return FORMULA.sub(lambda place: drawn[int(place[1])], page)


def table_size(table: Tag) -> tuple[int, int]:
    """Return the largest letters with which a table is not higher than TABLE_HEIGHT, and how high
    it is then, in px."""
    rows = table.find_all("tr")
    letters = [len(text_of(str(row))) + 4 * len(row.find_all(["td", "th"])) for row in rows]
    # a row with a formula is a little higher
    formulas = sum(bool(FORMULA.search(str(row))) for row in rows)
    for size in range(22, 11, -1):
        lines = sum(-(-n // int(2150 / size)) for n in letters)
        height = (
            int(1.35 * size * lines + (0.3 * size + 1) * len(rows) + 0.4 * size * formulas) + GAP
        )
        if height <= TABLE_HEIGHT:
            break
    return size, height


class Reader:
    """Reads the cells of one lesson. `formulas` collects what `draw_formulas` has to draw."""

    def __init__(self, nb: NotebookNode, path: Path, bibliography: Path) -> None:
        """nb: the notebook; path: where it stands, for messages and for links; bibliography: a
        BibTeX file."""
        self.path, self.bibliography = path, bibliography
        self.glued = {value.name: value.shown for value in glued_values(nb)}
        self.formulas: list[tuple[str, bool]] = []
        self.where = ""
        self.parser = (
            MarkdownIt("commonmark")
            .enable(["table", "strikethrough"])
            .use(dollarmath_plugin, double_inline=True)
            .use(amsmath_plugin)
            .use(myst_role_plugin)
            .use(colon_fence_plugin)
        )
        rules = self.parser.renderer.rules
        # slides lead nowhere: the text of a link is enough
        for rule in (
            "link_open",
            "link_close",
        ):
            rules[rule] = lambda *_: ""
        rules["myst_role"] = lambda tokens, i, *_: html.escape(
            self.role(tokens[i].meta["name"], tokens[i].content)
        )
        rules["math_inline"] = lambda tokens, i, *_: self.formula(tokens[i].content, False)
        rules["math_inline_double"] = lambda tokens, i, *_: self.formula(tokens[i].content, True)

    def error(self, problem: str) -> SlidesError:
        """Return an error that names the notebook and the cell."""
        return SlidesError(f"{self.path}, cell {self.where}: {problem}")

    def formula(self, tex: str, display: bool) -> str:
        """Note a formula and return the mark that holds its place."""
        self.formulas.append((tex.strip(), display))
        return f"\x02{len(self.formulas) - 1}\x03"

    def role(self, name: str, content: str) -> str:
        """Return a role as the plain text that the site would show."""
        match = TARGET.match(content)
        text, target = (match["text"], match["target"]) if match else ("", content)
        if name.startswith("glue"):
            if content not in self.glued:
                raise self.error(
                    f"no stored output glues {content!r}. Mend the name, or run the notebook "
                    f"(make notebooks NB={self.path})"
                )
            return self.glued[content]
        if name in ("cite", "cite:p", "cite:t"):
            known = references(self.bibliography)
            keys = [key.strip() for key in content.split(",")]
            if missing := [key for key in keys if key not in known]:
                raise self.error(f"cites {missing[0]!r}, which is not in {self.bibliography.name}")
            pairs = [cited(known[key]) for key in keys]
            if name == "cite:t":
                return ", ".join(f"{who} ({year})" for who, year in pairs)
            return f"({'; '.join(f'{who}, {year}' for who, year in pairs)})"
        if name == "doc" and not text:
            return page_title(self.path.parent / target)
        return text or target

    def inline(self, source: str) -> str:
        """Return one line of Markdown as HTML."""
        return self.parser.renderInline(source)

    def render(self, tokens: list[Token]) -> str:
        """Return tokens as HTML."""
        return self.parser.renderer.render(tokens, self.parser.options, {})

    def said(self, inline: Token, limit: int = SAID) -> tuple[str, bool]:
        """Return the first sentences of a paragraph as HTML, and whether anything was left out.

        They have at most `limit` characters, unless the first one is longer.
        """
        kept: list[Token] = []
        level, best, length = 0, None, 0
        for token in inline.children or []:
            level += token.nesting
            if token.type == "text" and level == 0:
                for end in SENTENCE.finditer(token.content):
                    part = Token("text", "", 0, content=token.content[: end.end()])
                    if best is None or length + end.end() <= limit:
                        best = [*kept, part]
            kept.append(token)
            length += len(token.content)
        everything = self.render([inline])
        if best is None or length <= limit:
            return everything, False
        short = self.parser.renderer.renderInline(best, self.parser.options, {})
        return short, text_of(short).strip() != text_of(everything).strip()

    def blocks(self, cell: NotebookNode, scratch: bool = False) -> Iterator[Block]:
        """Yield the pieces of a cell; `scratch`: its code is shown too."""
        self.where = cell.get("id", "?")
        if cell.cell_type == "markdown":
            yield from self.markdown(cell.source)
        elif cell.cell_type == "code":
            yield from self.code(cell, scratch)

    def markdown(self, source: str) -> Iterator[Block]:
        """Yield the pieces of a Markdown text; a fold (`<details>`) is a choice, its inside the
        feedback."""
        try:
            parts = list(pieces(source))
        except ValueError as problem:
            raise self.error(str(problem)) from problem
        for part in parts:
            if isinstance(part, Fold):
                feedback = self.parser.render(part.text)
                yield Block("choice", self.inline(part.summary), feedback=feedback)
            else:
                for node in SyntaxTreeNode(self.parser.parse(part)).children:
                    yield from self.element(node)

    def element(self, node: SyntaxTreeNode) -> Iterator[Block]:
        """Yield one heading, paragraph, list, table, formula, directive or fence as blocks."""
        kind = node.type
        if kind == "heading":
            content = node.children[0].content
            yield Block("heading", self.inline(content), level=int(node.tag[1]))
        elif kind == "paragraph":
            inline, full = node.children[0].token, self.render(node.to_tokens())
            shown, cut = self.said(inline)
            more = f"<p>{self.said(inline, MORE)[0]}</p>" if cut else ""
            height, notes = text_height(shown), full if cut else ""
            yield Block("text", f"<p>{shown}</p>", height, full, notes, more=more)
        elif kind in ("bullet_list", "ordered_list"):
            yield from self.list(node)
        elif kind == "table":
            yield from self.table(self.render(node.to_tokens()))
        elif kind in ("math_block", "math_block_label", "amsmath"):
            rows = node.content.count(r"\\") + 1
            shown = f'<div class="formula">{self.formula(node.content, True)}</div>'
            yield Block("text", shown, 30 + 58 * rows, shown)
        elif kind in ("fence", "colon_fence") and node.info.strip().startswith("{"):
            caption = node.info.split("}", 1)[1].strip()
            inside = re.sub(r"\A(?::[\w-]+:.*\n)+", "", node.content)
            if caption:
                yield Block("text", f"<p><strong>{self.inline(caption)}</strong></p>", LINE + GAP)
            yield from self.markdown(inside)
        elif kind in ("fence", "code_block", "colon_fence"):
            yield self.preformatted(node.content)
        elif kind == "html_block" and not text_of(node.content).strip():
            return  # a comment, a target
        elif kind != "hr":
            shown = self.render(node.to_tokens())
            yield Block("text", shown, text_height(shown), shown)

    def list(self, node: SyntaxTreeNode) -> Iterator[Block]:
        """Yield a list item by item, so that a long list can go on on the next slide."""
        items = (token for token in node.to_tokens() if token.type == "inline")
        for number, inline in enumerate(items, int(node.attrs.get("start", 1))):
            shown, cut = self.said(inline)
            full = self.render([inline])
            start = f' start="{number}"' if node.tag == "ol" else ""
            wrap = f"<{node.tag}{start}><li>{{}}</li></{node.tag}>"
            height = text_height(shown, LETTERS - 4, gap=8)
            notes = f"<p>{full}</p>" if cut else ""
            yield Block("text", wrap.format(shown), height, wrap.format(full), notes)

    def table(self, markup: str) -> Iterator[Block]:
        """Yield a table, its own styles dropped, in letters that let it fit on a slide; a long one
        in two halves."""
        table = BeautifulSoup(markup, "html.parser").find("table")
        for tag in [table, *table.find_all(True)]:
            tag.attrs = {k: v for k, v in tag.attrs.items() if k in ("rowspan", "colspan", "scope")}
        size, height = table_size(table)
        rows = table.select("tbody tr")
        if size >= SMALL or len(rows) < 8 or table.select("tbody [rowspan]"):
            table["style"] = f"font-size: {size}px"
            yield Block("table", str(table), height, str(table))
            return
        for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            body = "".join(map(str, part))
            yield from self.table(
                f"<table>{table.find('thead') or ''}<tbody>{body}</tbody></table>"
            )

    def preformatted(self, text: str, limit: int = PRINTED) -> Block:
        """Return code or printed output; what is longer than `limit` lines ends in an ellipsis."""
        lines = text.rstrip("\n").split("\n")
        if len(lines) > limit:
            lines = [*lines[:limit], "…"]
        widest = max(map(len, lines))
        size = max(
            MONO[0], min(MONO[1] if len(lines) > 12 else MONO[2], MONO_WIDTH // max(widest, 1))
        )
        letters = MONO_WIDTH // size
        height = sum(max(1, -(-len(line) // letters)) for line in lines) * (size + 6) + 20 + GAP
        style = f"font-size: {size}px; line-height: {size + 6}px"
        shown = f'<pre style="{style}">{html.escape(chr(10).join(lines))}</pre>'
        return Block("code", shown, height, shown)

    def code(self, cell: NotebookNode, scratch: bool) -> Iterator[Block]:
        """Yield the outputs of a code cell; with `scratch`, before them its code where that is
        short and not hidden."""
        tags = cell.metadata.get("tags", [])
        if "remove-cell" in tags:
            return
        outputs = [o for o in cell.outputs if GLUED_TEXT not in o.get("data", {})]
        printed = [o for o in outputs if o.output_type == "stream" and o.name == "stdout"]
        hidden = {"remove-input", "hide-input", "hide-cell"} & set(tags)
        if scratch and not hidden and printed == outputs and len(cell.source.splitlines()) <= CODE:
            blocks = [self.preformatted(cell.source, CODE)]
            blocks += [self.preformatted(output.text) for output in printed]
            height = sum(block.height for block in blocks)
            if height <= TOGETHER:
                both = "\n".join(block.html for block in blocks)
                yield Block("code", both, height, both)
                return
            yield blocks[0]
        if "remove-output" in tags:
            return
        for output in outputs:
            data = output.get("data", {})
            mime = next(
                (m for m in ("image/png", "image/jpeg", "image/svg+xml") if m in data), None
            )
            if output.output_type == "error":
                raise self.error(
                    "its stored output is an error. Mend the cell and run the notebook"
                )
            if mime:
                yield self.figure(cell, mime, data[mime])
            elif "text/html" in data and "<table" in data["text/html"]:
                yield from self.table(data["text/html"])
            elif output in printed or "text/plain" in data:
                text = output.text if output in printed else data["text/plain"]
                if text.strip():
                    yield self.preformatted(text)

    def figure(self, cell: NotebookNode, mime: str, content: str) -> Block:
        """Return a picture within the page, with the alternative text of the cell; its height is
        filled in later."""
        alt = html.escape(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", ""))
        if mime == "image/svg+xml":
            raise self.error("its picture is SVG, which slides do not show yet: store it as PNG")
        source = f"data:{mime};base64,{''.join(content.split())}"
        shown = f'<figure><img src="{source}" alt="{alt}" style="height: HEIGHTpx"></figure>'
        return Block("figure", shown, FIGURE[0] + GAP, shown, f"<p>{alt}</p>" if alt else "")
