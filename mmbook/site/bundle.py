"""Let a page be drawn sooner: one style sheet instead of a dozen, and scripts that wait for the
text.

A browser draws nothing before it has every style sheet and script of a page's head; over a phone's
network each of them costs a round trip. Both functions change the folder they are given, so hand
them a clean build, never the sources.
"""

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

HEAD_END = "</head>"
SHEET = re.compile(
    r"""[ \t]*<link\b(?=[^>]*rel=["']stylesheet["'])[^>]*\bhref=["']([^"']+)["'][^>]*>\n?"""
)
OPENING = re.compile(r"(<script\b(?![^>]*defer)[^>]*\bsrc=[^>]*)>")
OPTION = re.compile(r"<script>\s*(DOCUMENTATION_OPTIONS\.[^<]*?)\s*</script>")
IMPORT = re.compile(r"""@import\s+(?:url\()?["']?([^"')]+)["']?\)?\s*;""")
COMMENT = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|url\([^)]*\))|/\*.*?\*/""", re.DOTALL)
CHARSET = re.compile(r"""@charset\s+["'][^"']*["'];?""")
ADDRESS = re.compile(r"""url\(\s*(["']?)(?!data:|#|[a-z]+:|/)([^"')]+)\1\s*\)""", re.IGNORECASE)


def heads(site: Path) -> dict[Path, tuple[str, ...]]:
    """Return the head of each page with a style sheet, and what follows it; a redirect has none."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(site.rglob("*.html"))}
    found = {path: text.partition(HEAD_END) for path, text in texts.items() if SHEET.search(text)}
    if not found:
        raise RuntimeError(f"no page under {site} has a style sheet: has the theme changed?")
    return found


def file_of(page: Path, address: str) -> Path:
    """Return the file that an address in a page names."""
    return (page.parent / urlsplit(address).path).resolve()


def flat_css(sheet: Path, home: Path) -> str:
    """Return a style sheet without comments, what it imports put in place, its addresses relative
    to `home`."""
    css = COMMENT.sub(lambda match: match[1] or "", sheet.read_text(encoding="utf-8"))
    css = CHARSET.sub("", css)

    def moved(match: re.Match[str]) -> str:
        target = (sheet.parent / re.split("[?#]", match[2])[0]).resolve()
        return f'url("{os.path.relpath(target, home)}")'.replace(os.sep, "/")

    parts = IMPORT.split(ADDRESS.sub(moved, css) if "@import" not in css else css)
    if len(parts) == 1:
        return parts[0]
    if parts[0].strip():
        raise RuntimeError(
            f"{sheet} imports a style sheet behind its own rules: a browser would ignore that"
        )
    imported = [flat_css((sheet.parent / address).resolve(), home) for address in parts[1::2]]
    return "\n".join([*imported, *(ADDRESS.sub(moved, part) for part in parts[2::2])])


def bundle_css(site: Path) -> tuple[int, int]:
    """Join the style sheets that every page loads into one; return how many files a page asked for
    before and after."""
    site = site.resolve()
    pages = heads(site)
    named = {
        page: [file_of(page, a) for a in SHEET.findall(head)] for page, (head, *_) in pages.items()
    }
    first, *others = named.values()
    common = [sheet for sheet in first if all(sheet in sheets for sheets in others)]
    home = site / "_static"
    css = "\n".join(flat_css(sheet, home) for sheet in common)
    bundle = home / f"book-{hashlib.sha256(css.encode()).hexdigest()[:12]}.css"
    bundle.write_text(css, encoding="utf-8")
    for page, (head, *rest) in pages.items():
        page.write_text("".join([with_bundle(head, page, common, bundle), *rest]), encoding="utf-8")
    left = {sheet for sheets in named.values() for sheet in sheets} - set(common)
    for sheet in home.rglob("*.css"):
        if sheet not in left and sheet != bundle:
            sheet.unlink()  # joined, or loaded by no page
    most = max(map(len, named.values()))
    return most, most - len(common) + 1


def with_bundle(head: str, page: Path, common: list[Path], bundle: Path) -> str:
    """Return a page's head with the bundle where the first of the joined style sheets stood, and
    without the others."""
    address = os.path.relpath(bundle, page.parent).replace(os.sep, "/")
    joined = [link for link in SHEET.finditer(head) if file_of(page, link[1]) in common]
    new = f'<link rel="stylesheet" href="{address}" />\n'
    for link in joined:
        head, new = head.replace(link[0], new, 1), ""
    return head


def defer_scripts(site: Path) -> int:
    """Let the scripts of each page's head run, in their order, when the text is there; return how
    many pages changed.

    Inline scripts stay, for what they set is read by the others; one that reads what another script
    has set, Sphinx's options, waits for the others.
    """
    changed = 0
    for page, (head, *rest) in heads(site).items():
        later = OPENING.sub(r"\1 defer>", head)
        later = OPTION.sub(
            r'<script>document.addEventListener("DOMContentLoaded", () => { \1 });</script>', later
        )
        page.write_text("".join([later, *rest]), encoding="utf-8")
        changed += later != head
    return changed
