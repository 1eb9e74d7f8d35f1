"""Make slides from the chapters: `python -m mmbook.slides [CHAPTER ...]` writes
`_build/slides/<chapter>.html`.

Each lesson's page of the built site becomes a reveal.js presentation that needs no network: a `##`
section is a column of slides, a `###` finding begins a new slide below. Slides show first
sentences, figures, tables and short code; the whole prose is in the speaker's notes (key S).
Nothing is run: all results are those of the site. reveal.js and KaTeX's fonts come from npm at the
versions and sha512 sums of `mmbook/site/npm/web/package-lock.json` (see `mmbook/site`).
"""

import argparse
import os
import shutil
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from mmbook import root, site
from mmbook.reading import toc_pages
from mmbook.slides.deck import read_slides, words

TEMPLATE = Path(__file__).with_name("template")
REVEAL = "reveal.js"
PAGES = Environment(loader=FileSystemLoader(TEMPLATE))


def lessons(home: Path) -> list[Path]:
    """Return the lessons that the table of contents names, in its order."""
    pages = toc_pages(home / "_toc.yml")
    return [home / f"{page}.ipynb" for page in pages if page.endswith("/lesson")]


def convert(path: Path, pages: Path) -> tuple[str, str]:
    """Return the title and the HTML of the slides of one lesson: `path` is its page, below the
    folder `pages` of the site. Their pictures are named as seen from that folder."""
    article = site.resources.read_article(path)
    for image in article.select('img:not([src^="data:"])'):
        place = os.path.relpath(path.parent / str(image["src"]), pages)
        image["src"] = Path(place).as_posix()
    deck = read_slides(article, path.relative_to(pages).as_posix())
    title = words(article.h1)
    template = PAGES.get_template("slides.html.j2")
    return title, template.render(title=title, slides=deck, reveal=REVEAL)


def lay_out_reveal(web: Path, target: Path) -> None:
    """Copy what the slides load: reveal.js with its style sheet, notes plugin and licence, KaTeX's
    style sheet and fonts, and our own files."""
    source = web / "node_modules" / "reveal.js"
    files = [
        source / name
        for name in ("dist/reveal.js", "dist/reveal.css", "plugin/notes/notes.js", "LICENSE")
    ]
    if missing := [str(path) for path in files if not path.is_file()]:
        raise site.SiteError(
            f"reveal.js is not whole: {missing[0]} is missing. Remove {web} and run `make slides`"
            " again"
        )
    shutil.copytree(web / "static" / "katex", target)
    look = root() / "book" / "_static" / "schematic.css"
    for path in [*files, look, TEMPLATE / "slides.css", TEMPLATE / "start.js"]:
        shutil.copy(path, target)


def build(chosen: list[str], output: Path | None = None) -> Path:
    """Make the slides of the chosen chapters (none: all) and the index; then replace `output`."""
    output = output or root() / "_build" / "slides"
    every = [path.parent.name for path in lessons(root())]
    if unknown := [name for name in chosen if name not in every]:
        raise site.SiteError(f"there is no chapter {unknown[0]!r}: choose from {', '.join(every)}")
    pages, staging = site.built(), output.with_name(output.name + "-staging")
    shutil.rmtree(staging, ignore_errors=True)
    lay_out_reveal(site.fetch(), staging / REVEAL)
    shutil.copytree(pages / "_images", staging / "_images")
    titles = {}
    for name in chosen or every:
        titles[name], page = convert(pages / "book" / name / "lesson.html", pages)
        (staging / f"{name}.html").write_text(page, encoding="utf-8")
    index = PAGES.get_template("index.html.j2").render(chapters=titles, reveal=REVEAL)
    (staging / "index.html").write_text(index, encoding="utf-8")
    shutil.rmtree(output, ignore_errors=True)
    staging.rename(output)
    return output


def main(arguments: list[str] | None = None) -> int:
    """Make the slides; return 0, or 1 after printing what went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbook.slides", description="Make slides from the chapters."
    )
    parser.add_argument(
        "chapters", nargs="*", help="folders of book/, such as 03_feature_fusion (default: all)"
    )
    chosen = parser.parse_args(arguments).chapters
    return site.exit_status(lambda: print(f"Made. Open {build(chosen) / 'index.html'}"))
