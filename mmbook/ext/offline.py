"""Keep the built pages on their own host, and usable with a keyboard and a screen reader.

The theme and its helpers add scripts twice, name other hosts, and leave a few elements without a
name. Each handler below mends one of these while a page is written; `mmbook/site/page_laws.py` then
proves the result over the built files.
"""

import re
from typing import Any

import sphinxcontrib.katex
from bs4 import BeautifulSoup
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from mmbook.site.packages import node

LOGGER = logging.getLogger(__name__)
LETTERS = r"\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
CHINESE = re.compile(f"[{LETTERS}]+")
ANY_TEXT = re.compile(f"[{LETTERS}]+|[^{LETTERS}]+")
UNSPOKEN = ["script", "style", "svg", "math", "textarea"]  # what stands there is not marked
THEBE = ("sphinx-thebe", "THEBE_JS_URL")  # live kernels from another host: not on this site


def first_of_each(assets: list[Any]) -> list[Any]:
    """Return scripts or style sheets in order, without repetitions and without thebe."""
    kept: dict[tuple[str, str], Any] = {}
    for asset in assets:
        body = getattr(asset, "attributes", {}).get("body")
        key = (str(getattr(asset, "filename", asset)), str(body or ""))
        if not any(word in "".join(key) for word in THEBE):
            kept.setdefault(key, asset)
    return list(kept.values())


def clean_assets(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Keep one of each script and style sheet."""
    for assets in (context["script_files"], context["css_files"]):
        assets[:] = first_of_each(assets)


def name_summaries(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give each fold of the sidebar a name: "Sections of" and the entry it opens."""
    generate = context.get("generate_toctree_html")
    if generate is None:
        return

    def named(*args: Any, **kwargs: Any) -> BeautifulSoup:
        soup = BeautifulSoup(str(generate(*args, **kwargs)), "html.parser")
        for summary in soup.select("li > details > summary"):
            entry = summary.find_parent("li").find("a")
            summary["aria-label"] = f"Sections of {entry.get_text(strip=True)}"
        return soup

    context["generate_toctree_html"] = named


def mark_chinese(body: str) -> str:
    """Wrap each run of Chinese characters in an element that states its language: for voices, fonts
    and line breaks."""
    if not CHINESE.search(body):
        return body
    soup = BeautifulSoup(body, "html.parser")
    for text in soup.find_all(string=CHINESE):
        if text.find_parent(lang=True) or text.find_parent(UNSPOKEN):
            continue
        for part in ANY_TEXT.findall(text):
            span = soup.new_tag("span", lang="zh-Hans", string=part)
            text.insert_before(span if CHINESE.match(part) else part)
        text.extract()
    return str(soup)


def mend_body(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Replace a deprecated role; mark Chinese text; report formulas that KaTeX cannot read and only
    colours red."""
    body = context.get("body")
    if not body:
        return
    if "katex-error" in body:
        error = BeautifulSoup(body, "html.parser").select_one(".katex-error")
        LOGGER.warning(
            "%s: KaTeX cannot read a formula: %s", page, error.get("title", error.get_text())
        )
    context["body"] = mark_chinese(body.replace('role="doc-biblioentry"', 'role="listitem"'))


def drop_thebe(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Remove the configuration blocks of thebe from the text."""
    for raw in list(doctree.findall(nodes.raw)):
        if "x-thebe-config" in raw.astext() or "kernelName" in raw.astext():
            raw.parent.remove(raw)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the handlers. Priority 990: after the theme has filled the context."""
    server = sphinxcontrib.katex.KaTeXServer
    # On a busy machine its Unix socket can be seen before it listens: the build then fails and
    # leaves a node process behind (2 of 25 starts, measured). Its network variant, on 127.0.0.1,
    # tries again until it listens.
    server.start_server_process = server.start_network_socket
    sphinxcontrib.katex.NODEJS_BINARY = node()
    sphinxcontrib.katex.STARTUP_TIMEOUT = sphinxcontrib.katex.RENDER_TIMEOUT = (
        60.0  # 5 s are too few there
    )
    for handler in (clean_assets, name_summaries, mend_body):
        app.connect("html-page-context", handler, priority=990)
    app.connect("doctree-resolved", drop_thebe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
