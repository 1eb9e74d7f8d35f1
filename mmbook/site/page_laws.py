"""The laws of the built site, as functions that return one line per breach and an empty list when
all is well.

A line names the built page, and the address, picture or words to look for in its source.
`mmbook/site` runs them at the end of each build, `tests/book/test_site.py` runs each on pages that
keep and on pages that break it.
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

from mmbook.reading import toc_pages
from mmbook.site.packages import SiteError
from mmbook.site.resources import css_addresses, read_page, resources
from mmbook.site.weight import heavy_page, inline_pictures

ELSEWHERE = re.compile(r"^\s*(?:(?:https?|wss?|ftp):)?//", re.IGNORECASE)
SCRIPT_REQUEST = re.compile(
    r"""(?:\bimport\s*\(?|\bfrom|importScripts\(|fetch\(|\.open\([^,()]{1,20},|\.(?:src|href)\s*=|sendBeacon\()"""
    r"""\s*["'`]((?:https?:)?//[^"'`]+)""",
    re.IGNORECASE,
)
FILE_NAME = re.compile(r"^\S+\.(?:png|jpe?g|gif|svg|webp)$|^[0-9a-f]{24,}$|^_?image", re.IGNORECASE)
FORBIDDEN = {  # what is wrong → the CSS selector of what must not be on a page
    "no title": "html:not(:has(title)), title:empty",
    "no favicon": 'html:not(:has(link[rel~="icon"]))',  # it is asked for, and logged as an error
    "the page does not state its language": "html:not([lang])",
    "frame without title": "iframe:not([title])",
    "table without header cells": "table:not([role=presentation], [role=none]):not(:has(th))",
    "formula not understood": ".katex-error",
    "formula without MathML, which is read aloud": ".katex:not(:has(math))",
    "formula left as source": ":is(span, div).math:not(:has(.katex, .katex-error))",
}
CHINESE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")


def css_other_hosts(css: str) -> list[str]:
    """A style sheet asks no other host."""
    return [
        f"style sheet asks {address}" for address in css_addresses(css) if ELSEWHERE.match(address)
    ]


def script_other_hosts(script: str) -> list[str]:
    """A script imports, fetches and inserts nothing from another host."""
    return [f"script asks {address}" for address in SCRIPT_REQUEST.findall(script)]


def page_other_hosts(page: BeautifulSoup) -> list[str]:
    """A page loads nothing from another host: no script, style, font, picture, frame,
    preconnect."""
    found = [
        f"<{tag}> asks {address}" for tag, address in resources(page) if ELSEWHERE.match(address)
    ]
    for style in page.find_all("style"):
        found += css_other_hosts(style.get_text())
    for tag in page.find_all(style=True):
        found += css_other_hosts(str(tag["style"]))
    for script in page.find_all("script", src=False):
        found += script_other_hosts(script.get_text())
    return found


def unwanted_scripts(page: BeautifulSoup) -> list[str]:
    """No icon script, no live-kernel script, no script twice."""
    sources = [str(script["src"]) for script in page.find_all("script", src=True)]
    unwanted = [
        s for s in sources if re.search(r"fontawesome|thebe|mathjax|require", s, re.IGNORECASE)
    ]
    return [f"unwanted script {s}" for s in unwanted] + [
        f"script twice: {s}" for s in set(sources) if sources.count(s) > 1
    ]


def missing_alternative_text(page: BeautifulSoup) -> list[str]:
    """Each picture has an alternative text that is not its file name."""
    found = []
    for image in page.find_all("img"):
        text, name = (
            str(image.get("alt") or "").strip(),
            Path(urlsplit(str(image.get("src", ""))).path).name,
        )
        if not text or FILE_NAME.match(text) or text in (name, Path(name).stem):
            found.append(
                f"picture {name or '(inline)'} has the alternative text {text!r}; say in words what"
                " it shows"
            )
    return found


def forbidden_forms(page: BeautifulSoup) -> list[str]:
    """Nothing on the page has a form that FORBIDDEN names."""
    return [
        f"{fault}: {tag.get_text(' ', strip=True)[:60]!r}"
        for fault, selector in FORBIDDEN.items()
        for tag in page.select(selector)
    ]


def unnamed_summaries(page: BeautifulSoup) -> list[str]:
    """Each <summary> has a text or an aria-label."""
    return [
        f"fold without a name in <{summary.parent.parent.name if summary.parent.parent else '?'}>"
        for summary in page.select("summary:not([aria-label])")
        if not summary.get_text(strip=True)
    ]


def unmarked_language(page: BeautifulSoup) -> list[str]:
    """Chinese text in the article stands in an element that says so."""
    return [
        f"Chinese text not marked: {text.strip()[:30]!r}"
        for article in page.select("article")
        for text in article.find_all(string=CHINESE)
        if not any(str(parent.get("lang", "")).startswith("zh") for parent in text.parents)
    ]


PAGE_LAWS: tuple[Callable[[BeautifulSoup], list[str]], ...] = (
    page_other_hosts,
    unwanted_scripts,
    missing_alternative_text,
    forbidden_forms,
    unnamed_summaries,
    unmarked_language,
    inline_pictures,
)


@cache
def identifiers(path: Path) -> frozenset[str]:
    """Return the ids and anchor names of a page."""
    page = read_page(path)
    return frozenset(
        str(tag.get(key)) for key in ("id", "name") for tag in page.find_all(attrs={key: True})
    )


def broken_links(path: Path, page: BeautifulSoup, site: Path) -> list[str]:
    """Each address on this site that a page names exists: files, and the places in pages that links
    lead to."""
    found = []
    links = [("a", str(a["href"])) for a in page.find_all("a", href=True)]
    for tag, address in [*resources(page), *links]:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc or address in ("", "#"):
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file() or not target.is_relative_to(site.resolve()):
            found.append(f"<{tag}> leads nowhere: {address}")
        elif (
            parts.fragment
            and target.suffix == ".html"
            and unquote(parts.fragment) not in identifiers(target)
        ):
            found.append(f"<{tag}> leads to no place in {target.name}: #{parts.fragment}")
    return found


def unbuilt_pages(site: Path, toc: Path) -> list[str]:
    """Each page in the table of contents was built."""
    return [
        f"{page} is in {toc.name} but was not built"
        for page in toc_pages(toc)
        if not (site / f"{page}.html").is_file()
    ]


def style_sheet_breaches(path: Path) -> list[str]:
    """A style sheet asks no other host, and each file that it names is there."""
    css = path.read_text(encoding="utf-8")
    names = [
        re.split("[?#]", address)[0]
        for address in css_addresses(css)
        if not (address.startswith("data:") or ELSEWHERE.match(address))
    ]
    return css_other_hosts(css) + [
        f"names a missing {name}" for name in names if name and not (path.parent / name).is_file()
    ]


def page_breaches(path: Path, site: Path) -> list[str]:
    """Every law of a page."""
    page = read_page(path)
    found = [breach for law in PAGE_LAWS for breach in law(page)]
    return found + broken_links(path, page, site) + heavy_page(path, page)


def check_site(site: Path, toc: Path) -> list[str]:
    """Return every breach on every page, style sheet and script of a built site, the file's name
    before each."""
    identifiers.cache_clear()
    site = site.resolve()
    kinds: dict[str, Callable[[Path], list[str]]] = {
        "*.html": lambda path: page_breaches(path, site),
        "*.css": style_sheet_breaches,
        "*.js": lambda path: script_other_hosts(path.read_text(encoding="utf-8")),
    }
    found = unbuilt_pages(site, toc)
    for pattern, law in kinds.items():
        for path in sorted(site.rglob(pattern)):
            page = path.relative_to(site).as_posix()
            found += [f"{page}: {breach}" for breach in law(path)]
    return found


def demand(site: Path, toc: Path) -> None:
    """Raise SiteError that lists every breach of a built site."""
    if breaches := check_site(site, toc):
        raise SiteError("the built site breaks its laws:\n" + "\n".join(breaches))
