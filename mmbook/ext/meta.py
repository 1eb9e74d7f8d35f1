"""What the site tells search engines: when a page last changed, sitemap.xml and robots.txt.

What a page says of itself to whoever shares a link comes from sphinxext-opengraph, which cuts
descriptions within a word; its date from sphinx-last-updated-by-git. The sitemap is written here:
sphinx-sitemap lists the pages of the last run only, so that an incremental build loses all others.
"""

import datetime
import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from jinja2 import Template
from sphinx.application import Sphinx
from sphinx.config import Config

SITEMAP = Template("""<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
{%- for address, day in pages %}
  <url><loc>{{ address | e }}</loc>{% if day %}<lastmod>{{ day }}</lastmod>{% endif %}</url>
{%- endfor %}
</urlset>
""")
ROBOTS = Template("""User-agent: *
Allow: /
{% if base %}Sitemap: {{ base }}/sitemap.xml
{% endif %}""")
PART_OF_A_WORD = re.compile(r"""[\s,;:–-]+\S*\.\.\.(?=")""")  # at the end of what was cut


def date_pages(app: Sphinx, config: Config) -> None:
    """Set how dates are read and shown.

    Where git cannot know a date (a downloaded zip, a shallow clone), the page shows none, which is
    no reason to warn.
    """
    config.html_last_updated_fmt = "%-d %B %Y"
    config.git_last_updated_timezone = "UTC"
    config.git_untracked_show_sourcelink = True
    config.suppress_warnings = [*config.suppress_warnings, "git"]


def end_at_a_word(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Let a description that sphinxext-opengraph has cut end behind a whole word."""
    context["metatags"] = PART_OF_A_WORD.sub("…", context.get("metatags", ""))


def last_change(app: Sphinx, page: str) -> str:
    """Return the day of a page's last commit, such as 2026-03-05; empty where it is not known."""
    timestamp, _ = getattr(app.env, "git_last_updated", {}).get(page) or (None, None)
    if timestamp is None:
        return ""
    return datetime.datetime.fromtimestamp(int(timestamp), datetime.UTC).date().isoformat()


def write_lists(app: Sphinx, error: Exception | None) -> None:
    """Write sitemap.xml and robots.txt beside the pages; without an address of the site there is no
    sitemap."""
    if error or app.builder.name != "html":
        return
    base = str(app.config.html_baseurl or "").rstrip("/")
    pages = [
        (f"{base}/{app.builder.get_target_uri(page)}", last_change(app, page))
        for page in sorted(app.env.found_docs)
    ]
    if base:
        Path(app.outdir, "sitemap.xml").write_text(SITEMAP.render(pages=pages), encoding="utf-8")
    Path(app.outdir, "robots.txt").write_text(ROBOTS.render(base=base), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the events. Without git on the machine no page is dated."""
    if shutil.which("git"):
        app.setup_extension("sphinx_last_updated_by_git")
        app.connect("config-inited", date_pages, priority=100)
    app.connect("html-page-context", end_at_a_word, priority=900)
    app.connect("build-finished", write_lists)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
