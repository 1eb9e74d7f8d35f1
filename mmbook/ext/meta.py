"""What a page says of itself to search engines and to whoever shares a link to it, and when its
text last changed.

All addresses follow `html_baseurl` in _config.yml. The libraries that do this warn without git or
in a shallow clone, and here a warning ends the build; what cannot be known is left out instead.
"""

from __future__ import annotations

import datetime
import html
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from bs4 import BeautifulSoup
from docutils import nodes
from sphinx.application import Sphinx

LENGTH = 180  # characters of a description: about what a search engine shows
CARD = "_static/card.png"
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
)
MONTHS += ("November", "December")
CARD_ALT = "Three coloured lines, one for each modality, join in one point: the sign of mmtutor"


def description(body: str) -> str:
    """Return the first sentences of a page's running text, cut at a word; empty if it has none."""
    soup = BeautifulSoup(body, "html.parser")
    for hidden in soup.select(
        ".katex-html, .headerlink, annotation, script, style, .admonition, details, aside, table"
    ):
        hidden.decompose()
    text = ""
    for paragraph in soup.find_all("p"):
        text = f"{text} {paragraph.get_text(' ', strip=True)}".strip()
        if len(text) >= LENGTH // 2:
            break
    text = re.sub(r"\s+([.,;:!?)])", r"\1", re.sub(r"\s+", " ", text))
    return (
        text if len(text) <= LENGTH else text[: LENGTH - 1].rpartition(" ")[0].rstrip(",;:") + " …"
    )


@cache
def is_shallow(folder: Path) -> bool:
    """Tell whether git knows only the newest commits, or nothing at all, of a folder."""
    return git(folder, "rev-parse", "--is-shallow-repository") != "false"


def git(folder: Path, *words: str) -> str:
    """Return what git prints about a folder; empty without git or outside a repository."""
    if shutil.which("git") is None:
        return ""
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def changed(path: Path) -> datetime.date | None:
    """Return the day of the last commit of a file; None where that cannot be known.

    In a shallow clone every old file seems to come with the oldest commit there, so no date is
    given at all.
    """
    if is_shallow(path.parent):
        return None
    day = git(path.parent, "log", "-1", "--format=%cs", "--", path.name)
    return datetime.date.fromisoformat(day) if day else None


def spoken(day: datetime.date) -> str:
    """Return a date as the book writes it: 5 March 2026, whatever the language of the machine."""
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def tags(values: dict[str, str]) -> str:
    """Return one <meta> element for each value; Open Graph's names are properties."""
    return "\n".join(
        f'<meta {"property" if name.startswith("og:") else "name"}="{name}"'
        f' content="{html.escape(value)}" />'
        for name, value in values.items()
        if value
    )


def describe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Put the description, the card and the date into the page's context."""
    if doctree is None or not context.get("body"):
        return
    base = str(app.config.html_baseurl or "").rstrip("/")
    title = BeautifulSoup(str(context.get("title", "")), "html.parser").get_text()
    about = description(context["body"])
    values = {
        "description": about,
        "og:title": title,
        "og:type": "website" if page == app.config.root_doc else "article",
        "og:site_name": app.config.project,
        "og:description": about,
        "og:locale": "en",
    }
    if base:
        values |= {
            "og:url": f"{base}/{app.builder.get_target_uri(page)}",
            "og:image": f"{base}/{CARD}",
        }
        values |= {"og:image:width": "1200", "og:image:height": "630", "og:image:alt": CARD_ALT}
    values |= {"twitter:card": "summary_large_image" if base else "summary"}
    context["metatags"] = f"{context.get('metatags', '')}\n{tags(values)}\n"
    day = changed(Path(app.env.doc2path(page)))
    context["last_updated"] = spoken(day) if day else None


def write_lists(app: Sphinx, error: Exception | None) -> None:
    """Write sitemap.xml and robots.txt beside the pages; without an address of the site there is no
    sitemap."""
    base = str(app.config.html_baseurl or "").rstrip("/")
    if error is not None or app.builder.format != "html" or app.builder.name == "linkcheck":
        return
    out = Path(app.outdir)
    lines = ["User-agent: *", "Allow: /"]
    if base:
        lines.append(f"Sitemap: {base}/sitemap.xml")
        entries = []
        for page in sorted(app.env.found_docs):
            day = changed(Path(app.env.doc2path(page)))
            last = f"<lastmod>{day.isoformat()}</lastmod>" if day else ""
            entries.append(
                f"  <url><loc>{escape(f'{base}/{app.builder.get_target_uri(page)}')}</loc>{last}</url>"
            )
        head = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<urlset'
            ' xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
        )
        (out / "sitemap.xml").write_text(
            "\n".join([head, *entries, "</urlset>", ""]), encoding="utf-8"
        )
    (out / "robots.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the handlers. Priority 980: after the theme, before the body is changed for other
    reasons."""
    app.connect("html-page-context", describe, priority=980)
    app.connect("build-finished", write_lists)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
