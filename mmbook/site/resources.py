"""Read a built page: what it loads by itself, what its style sheets name."""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from bs4 import BeautifulSoup, Tag

from mmbook.site.packages import SiteError

CSS_URL = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", re.IGNORECASE)
ATTRIBUTES = (
    "src",
    "srcset",
    "poster",
    "data",
    "background",
    "action",
    "formaction",
    "xlink:href",
    "manifest",
)
# <link> relations that a browser does not fetch
PLAIN_LINKS = {
    "canonical",
    "license",
    "author",
    "alternate",
    "me",
}


def read_page(path: Path) -> BeautifulSoup:
    """Return the parsed page at `path`; the few read last are remembered, so nobody may change what
    this returns."""
    return parsed(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def parsed(path: Path, changed: int) -> BeautifulSoup:
    """Parse a page; `changed` is its time stamp, a key for the cache."""
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def read_article(path: Path) -> Tag:
    """Return the article of a built page, for the caller to change.

    Raises SiteError where there is no such page.
    """
    if not path.is_file():
        raise SiteError(f"{path} is not there: run `make book` first")
    page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    return page.select_one("article")


def is_article(page: BeautifulSoup) -> bool:
    """Tell whether a page is one of the book's own, not a redirect or a template."""
    return page.select_one("article") is not None


def css_addresses(css: str) -> list[str]:
    """Return every address that a style sheet names in url() or @import."""
    return [(a or b).strip() for a, b in CSS_URL.findall(css)]


def resources(page: BeautifulSoup) -> Iterator[tuple[str, str]]:
    """Yield (tag, address) of everything that a browser loads for a page by itself; links to follow
    are left out."""
    for tag in page.find_all(True):
        for attribute in ATTRIBUTES:
            if value := tag.get(attribute):
                parts = str(value).split(",") if attribute == "srcset" else [str(value)]
                yield from (
                    (tag.name, part.split()[0] if attribute == "srcset" else part)
                    for part in parts
                    if part.strip()
                )
        if tag.name in ("use", "image", "feImage") and tag.get("href"):
            yield tag.name, str(tag["href"])
        if tag.name == "link" and tag.get("href") and not set(tag.get("rel", [])) & PLAIN_LINKS:
            yield f"link {' '.join(tag.get('rel', []))}", str(tag["href"])
        if tag.name == "meta" and str(tag.get("http-equiv", "")).lower() == "refresh":
            yield "meta refresh", str(tag.get("content", "")).partition("url=")[2]
