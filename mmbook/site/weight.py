"""What a page of the built site weighs, and the laws about it.

Text is counted as gzip level 6, as web hosts send it; pictures and fonts as they are. Fonts are
counted apart: a browser loads only those whose letters occur, once for the whole site.
"""

import gzip
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

from mmbook.site.resources import css_addresses, is_article, read_page, resources

KB = 1024
TEXT_PAGE_LIMIT = 120 * KB  # without formulas and pictures
# with formulas, pictures not counted; also the search page, which carries the index
FORMULA_PAGE_LIMIT = 170 * KB
WHOLE_PAGE_LIMIT = 1536 * KB  # with its pictures
# a larger picture belongs into a file: a browser fetches it beside the text, and later
INLINE_PICTURE_LIMIT = 4 * KB
PARTS = {
    "script": "script",
    "link stylesheet": "style",
    "img": "picture",
    "source": "picture",
    "link icon": "picture",
}


@cache
def weight(path: Path, changed: float) -> int:
    """Return the bytes of a file on its way to a browser. `changed` is its time stamp: a key for
    the cache."""
    content = path.read_bytes()
    if path.suffix in (".html", ".css", ".js", ".svg"):
        content = gzip.compress(content, 6, mtime=0)
    return len(content)


def sent(path: Path) -> int:
    """Return `weight` of a file as it is now, 0 where there is none (which is another law's
    breach)."""
    return weight(path, path.stat().st_mtime) if path.is_file() else 0


def page_parts(path: Path, page: BeautifulSoup | None = None) -> dict[str, int]:
    """Return the bytes of a page by kind: document, style, script, picture, and every font that it
    could ask for."""
    page = page or read_page(path)
    files: dict[str, set[Path]] = {
        "document": {path},
        "style": set(),
        "script": set(),
        "picture": set(),
        "font": set(),
    }
    for tag, address in resources(page):
        parts = urlsplit(address)
        if tag in PARTS and parts.path and not parts.scheme and not parts.netloc:
            files[PARTS[tag]].add((path.parent / unquote(parts.path)).resolve())
    for sheet in files["style"]:
        addresses = css_addresses(sheet.read_text(encoding="utf-8")) if sheet.is_file() else []
        names = [re.split("[?#]", address)[0] for address in addresses]
        files["font"] |= {
            (sheet.parent / name).resolve() for name in names if name.endswith((".woff2", ".woff"))
        }
    return {kind: sum(map(sent, paths)) for kind, paths in files.items()}


def heavy_page(path: Path, page: BeautifulSoup) -> list[str]:
    """A page of text, a page with formulas, and a page with its pictures stay below their
    limits."""
    if not (is_article(page) or path.name == "search.html"):
        return []
    parts = page_parts(path, page)
    whole = sum(parts.values()) - parts["font"]
    rich = page.select_one("article .katex, article img") or path.name == "search.html"
    kind, limit = ("with formulas", FORMULA_PAGE_LIMIT) if rich else ("of text", TEXT_PAGE_LIMIT)
    limits = {
        f"this page {kind}, without pictures and fonts,": (whole - parts["picture"], limit),
        "this page with its pictures": (whole, WHOLE_PAGE_LIMIT),
    }
    return [
        f"{what} weighs {size // KB} KB, limit {most // KB} KB"
        for what, (size, most) in limits.items()
        if size > most
    ]


def inline_pictures(page: BeautifulSoup) -> list[str]:
    """Each picture of more than a few KB is a file of its own, not base64 in the text."""
    return [
        f"a picture of {len(address) // KB} KB stands inside the page ({address[:30]}…): store it"
        " as a file"
        for tag, address in resources(page)
        if tag in ("img", "source", "image")
        and address.startswith("data:")
        and len(address) > INLINE_PICTURE_LIMIT
    ]


def article_parts(site: Path) -> dict[Path, dict[str, int]]:
    """Return the parts of each page of the book."""
    return {path: page_parts(path) for path in site.rglob("*.html") if is_article(read_page(path))}


def report(site: Path) -> list[str]:
    """Return lines for whoever builds: the heaviest page and what its fonts could add."""
    pages = article_parts(site)
    if not pages:
        return []
    whole = {path: sum(parts.values()) - parts["font"] for path, parts in pages.items()}
    bare = {path: whole[path] - parts["picture"] for path, parts in pages.items()}
    text, all_in = max(bare, key=bare.get), max(whole, key=whole.get)
    return [
        f"heaviest page: {bare[text] / KB:.0f} KB as gzip ({text.relative_to(site)}); "
        f"with pictures: {whole[all_in] / KB:.0f} KB ({all_in.relative_to(site)})",
        "fonts come on top, only those whose letters occur: at most"
        f" {pages[text]['font'] / KB:.0f} KB there",
    ]
