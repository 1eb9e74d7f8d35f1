"""Everything that the site needs beside Sphinx itself, as events of the build.

Before: fetch what comes from npm, look at the forms of notebooks and exercises. Behind: copy what
Sphinx wrote (`_build/html-full`), make the copy light, check its laws, and only then put it at
`_build/html`. So an incremental build finds the pages as Sphinx left them, nothing is made light
twice, and a build that fails leaves the site that stood there before.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterable
from html import escape
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util.logging import getLogger

import mmbook
from mmbook import site
from mmbook.laws import book_problems
from mmbook.sheets import check_forms

LOGGER = getLogger(__name__)
# MyST-NB reports line 3 of the second cell of a notebook as line 20003
NOTEBOOK_LINE = re.compile(r"(?<=\.ipynb):(\d+)(\d{4})\b")
REDIRECT = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="refresh" content="0; url={page}"><link rel="icon" href="data:,"></head>
<body><main><h1>{title}</h1><p><a href="{page}">Open the book</a></p></main></body>
</html>
"""


def fetch_packages(app: Sphinx, config: Config) -> None:
    """Have KaTeX's style sheet and fonts at hand; read all pages again when an extension changed.

    Sphinx refuses static folders that do not exist, later in the same event.
    """
    web = site.fetch(mmbook.root(Path(app.srcdir)))
    static = os.path.relpath(web / "static", app.srcdir)
    config.html_static_path = [*config.html_static_path, static]
    config.mmbook_extensions = site.digest(Path(mmbook.__file__).parent, ("ext",))


def in_words(place: re.Match[str]) -> str:
    """Say "cell 2, line 3" where MyST-NB wrote ":20003" behind the name of a notebook."""
    return f", cell {place[1]}, line {int(place[2])}"


def readable_place(record: logging.LogRecord) -> bool:
    """Name cell and line in the warnings about notebooks."""
    if isinstance(place := getattr(record, "location", None), str):
        record.location = NOTEBOOK_LINE.sub(in_words, place)
    return True


def write_redirect(app: Sphinx, pages: Path) -> None:
    """Make `index.html` lead to the book's first page, with a link for those whose browser does not
    follow."""
    page = f"{app.config.root_doc}.html"
    title = escape(app.config.html_title or app.config.project)
    (pages / "index.html").write_text(REDIRECT.format(title=title, page=page), encoding="utf-8")


def make_light(pages: Path, web: Path) -> None:
    """Slim a built site in place; say by how much."""
    site.slim.drop_leftovers(pages)
    saved = {
        "icon fonts": site.slim.cut_icon_fonts(pages),
        "style sheets": site.slim.purge_css(pages, web, site.node()),
    }
    site.bundle.bundle_css(pages)
    site.bundle.defer_scripts(pages)
    for name, (before, after) in saved.items():
        LOGGER.info("%s: %d KB -> %d KB", name, before / 1024, after / 1024)


def check_sources(book: Path) -> None:
    """Raise SiteError where a notebook or an exercise sheet would make an unsound page."""
    if problems := book_problems(book):
        raise site.SiteError("the notebooks do not make sound pages:\n" + "\n".join(problems))
    try:
        check_forms(book)
    except RuntimeError as error:
        raise site.SiteError(str(error)) from error


class SiteBuild:
    """One build of the site: what its events have to remember."""

    target: Path  # where the site will stand
    inputs: str  # the digest of what it is made from

    def begin(self, app: Sphinx) -> None:
        """Check the sources; let Sphinx write beside the site that stands there."""
        if app.builder.name != "html":
            return
        check_sources(Path(app.srcdir))
        self.inputs = site.digest(Path(app.srcdir), site.INPUTS)
        self.target = Path(app.outdir)
        app.outdir = app.builder.outdir = app.outdir.with_name("html-full")
        if not app.env.all_docs:  # nothing is known of what an earlier build left there
            shutil.rmtree(app.outdir, ignore_errors=True)

    def finish(self, app: Sphinx, error: Exception | None) -> None:
        """Copy what Sphinx wrote, make it light, check it; then replace the site."""
        if error or app.builder.name != "html":
            return
        if app.keep_going and app._warncount:
            LOGGER.info("warnings are errors here: %s stays as it was", self.target)
            return
        try:
            self.replace_site(app)
        except RuntimeError as problem:
            # Raised here, it would be buried: Sphinx would call all handlers a second time
            LOGGER.error("%s", problem)
            app.statuscode = 1

    def replace_site(self, app: Sphinx) -> None:
        """Put the site at its place, or raise RuntimeError and leave what stands there."""
        staging = self.target.with_name("staging")
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(app.outdir, staging)
        write_redirect(app, staging)
        make_light(staging, site.fetch(mmbook.root(Path(app.srcdir))))
        site.page_laws.demand(staging, Path(app.srcdir, "_toc.yml"))
        shutil.rmtree(self.target)
        staging.rename(self.target)
        self.target.with_name(site.STAMP).write_text(self.inputs, encoding="utf-8")
        for line in site.weight.report(self.target):
            LOGGER.info(line)
        app.outdir = app.builder.outdir = type(app.outdir)(self.target)


def forget_removed(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> Iterable[str]:
    """Delete the pages whose sources are gone."""
    for page in removed:
        Path(app.outdir, f"{page}.html").unlink(missing_ok=True)
    return ()


def keep_index(app: Sphinx, env: BuildEnvironment) -> Iterable[str]:
    """Name the pages with index entries: of these, Sphinx's search index forgets all that are not
    written again."""
    return [page for page, entries in env.get_domain("index").entries.items() if entries]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the events, before and behind those of all other extensions."""
    building = SiteBuild()
    app.add_config_value("mmbook_extensions", "", "env")
    app.connect("config-inited", fetch_packages, priority=100)
    app.connect("builder-inited", building.begin, priority=0)
    app.connect("env-get-outdated", forget_removed)
    app.connect("env-updated", keep_index)
    app.connect("build-finished", building.finish, priority=999)
    for handler in logging.getLogger("sphinx").handlers:
        handler.addFilter(readable_place)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
