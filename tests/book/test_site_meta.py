"""What pages say of themselves: descriptions, cards, addresses, dates; the sitemap; the index of
terms."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from datetime import date, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from bs4 import BeautifulSoup
from PIL import Image

from mmbook import site
from mmbook.ext import meta
from mmbook.reading import toc_pages

ROOT = Path(__file__).resolve().parents[2]
BASE = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["html"]["baseurl"]
PAGES = toc_pages(ROOT / "_toc.yml")
LENGTH = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"][
    "ogp_description_length"
]


def head(folder: Path, page: str) -> tuple[dict[str, str], BeautifulSoup]:
    soup = BeautifulSoup((folder / f"{page}.html").read_text(encoding="utf-8"), "html.parser")
    return {
        str(m.get("name") or m.get("property")): str(m.get("content"))
        for m in soup.find_all("meta")
    }, soup


def test_every_page_describes_itself_under_the_one_address(built_site):
    seen = {}
    for page in PAGES:
        values, soup = head(built_site, page)
        about = values["description"]
        assert 30 <= len(about) <= LENGTH, f"{page}: {about!r}"
        assert values["og:description"] == about
        if about.endswith("…"):
            words = " ".join(soup.select_one("article").get_text(" ").split())
            assert f"{about[:-1].split()[-1]}" in re.findall(r"[^\s,;:–-]+", words), about
        assert not about.endswith("...")
        assert values["og:title"]
        assert values["og:type"] == ("website" if page == PAGES[0] else "article")
        assert (
            values["og:url"]
            == soup.select_one('link[rel="canonical"]')["href"]
            == f"{BASE}{page}.html"
        )
        assert values["og:image"] == f"{BASE}_static/card.png"
        assert values["og:site_name"] == "mmtutor"
        assert values["twitter:card"] == "summary_large_image"
        seen.setdefault(about, []).append(page)
    assert [pages for pages in seen.values() if len(pages) > 1] == []


def test_card_is_there_and_light(built_site):
    card = built_site / "_static" / "card.png"
    with Image.open(card) as picture:
        assert picture.size == (1200, 630)
    assert card.stat().st_size < 60_000


def test_card_is_drawn_with_the_title_of_the_book():
    page = BeautifulSoup((ROOT / "mmbook" / "site" / "card.html").read_text("utf-8"), "html.parser")
    title = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]
    assert [p.get_text() for p in page.select("p")] == ["mmtutor", title]
    assert (ROOT / "mmbook" / "site" / page.img["src"]).resolve().name == "logo.svg"


def test_sitemap_and_robots_name_every_page(built_site):
    space = {"s": "http://www.sitemaps.org/schemas/sitemap/0.9"}
    root = ElementTree.parse(built_site / "sitemap.xml").getroot()
    assert {e.text for e in root.findall("s:url/s:loc", space)} == {
        f"{BASE}{page}.html" for page in PAGES
    }
    assert f"Sitemap: {BASE}sitemap.xml" in (built_site / "robots.txt").read_text(encoding="utf-8")


CONFIG = """title: Small
only_build_toc_files: true
html: {favicon: "", baseurl: "https://example.org/small/"}
sphinx: {extra_extensions: [mmbook.ext.meta], config: {language: en}}
"""


@pytest.fixture
def repository(tmp_path) -> Path:
    """A repository with a book of two pages: one committed on 5 March 2020 and never touched since,
    one that git does not know, behind a later commit of something else."""
    if shutil.which("git") is None:
        pytest.skip("no git on this machine")
    home = tmp_path / "home"
    home.mkdir()
    texts = {
        "_config.yml": CONFIG,
        "_toc.yml": "format: jb-book\nroot: old\nchapters:\n- file: new\n",
    }
    texts |= {"old.md": "# Old\n", "later.txt": "", "new.md": "# New\n"}
    for name, text in texts.items():
        (home / name).write_text(text, encoding="utf-8")
    git(home, "init", "-q")
    for names, day in (
        (["_config.yml", "_toc.yml", "old.md"], "2020-03-05"),
        (["later.txt"], "2021-11-30"),
    ):
        git(home, "add", *names)
        git(home, "commit", "-qm", "x", day=day)
    return home


def git(home: Path, *words: str, day: str = "") -> None:
    identity = {"NAME": "x", "EMAIL": "x@example.org"} | (
        {"DATE": f"{day}T12:00:00Z"} if day else {}
    )
    variables = {
        f"GIT_{who}_{k}": v for who in ("AUTHOR", "COMMITTER") for k, v in identity.items()
    }
    subprocess.run(["git", "-C", str(home), *words], check=True, env=os.environ | variables)


def shallow(home: Path) -> Path:
    git(home, "clone", "-q", "--depth=1", home.as_uri(), str(home.with_name("copy")))
    shutil.copy(home / "new.md", home.with_name("copy"))
    return home.with_name("copy")


def unpacked(home: Path) -> Path:
    return shutil.copytree(home, home.with_name("copy"), ignore=shutil.ignore_patterns(".git"))


@pytest.mark.parametrize(
    ("copy", "dates"),
    [(lambda home: home, ["5 March 2020"]), (shallow, []), (unpacked, [])],
    ids=["clone", "shallow clone", "zip"],
)
def test_dates_come_from_git_where_git_knows_them(repository, tmp_path, copy, dates):
    """And where it does not, that is no warning, and the sources can be downloaded all the same."""
    built = site.run_jupyter_book(copy(repository), tmp_path / "out")
    texts = [(built / f"{page}.html").read_text(encoding="utf-8") for page in ("old", "new")]
    assert re.findall(r"Last updated on\s+([^.]+?)\.", "".join(texts)) == dates
    assert all("_sources/" in text for text in texts)
    days = re.findall(r"<lastmod>(.*?)</lastmod>", (built / "sitemap.xml").read_text("utf-8"))
    assert days == ["2020-03-05"] * len(dates)


def test_without_git_no_page_is_dated(monkeypatch):
    """The library would take the links to the sources away, Sphinx would show today's date."""
    monkeypatch.setattr(meta.shutil, "which", lambda _: None)
    events = []
    meta.setup(SimpleNamespace(connect=lambda name, *_, **__: events.append(name)))
    assert events == ["html-page-context", "build-finished"]


def test_pages_show_the_day_of_their_last_commit(built_site):
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone of the repository")
    git = ["git", "-C", str(ROOT)]
    if subprocess.check_output([*git, "rev-parse", "--is-shallow-repository"]) != b"false\n":
        pytest.skip("a shallow clone knows no page's last commit")
    last = date.fromisoformat(
        subprocess.check_output([*git, "log", "-1", "--format=%cs"], text=True).strip()
    )
    for page in PAGES:
        shown = re.findall(r"Last updated on\s+(.+?)\.", head(built_site, page)[1].get_text(" "))
        (source,) = (path for path in ROOT.glob(f"{page}.*") if path.suffix in (".md", ".ipynb"))
        log = [*git, "log", "-1", "--format=%cs", "--", str(source)]
        day = date.fromisoformat(subprocess.check_output(log, text=True).strip())
        # What a page is made from beside its source counts too, such as the bibliography's entries
        (stated,) = (datetime.strptime(text, "%d %B %Y").date() for text in shown)
        assert day <= stated <= last, page


def test_index_leads_from_each_term_to_the_pages_that_use_it(built_site):
    """The first name of a term stands for all of its names; uses are read from the pages, not from
    the index."""
    first: dict[str, str] = {}
    for dt in head(built_site, "book/glossary")[1].select("dl.glossary > dt"):
        before = dt.find_previous_sibling(["dt", "dd"])
        another = before is not None and before.name == "dt"
        first[dt["id"]] = first[before["id"]] if another else dt["id"]
    uses: dict[str, set[str]] = {ident: set() for ident in first.values()}
    for page in set(PAGES) - {"book/glossary", "book/index_of_terms"}:
        for link in head(built_site, page)[1].select('article a[href*="glossary.html#term-"]'):
            uses[first[link["href"].partition("#")[2]]].add(f"{page.removeprefix('book/')}.html")
    shown = {
        dt.a["href"].partition("#")[2]: {a["href"] for a in dt.find_next_sibling("dd").select("a")}
        for dt in head(built_site, "book/index_of_terms")[1].select("dl.index-of-terms > dt")
    }
    assert shown == uses
    assert len(shown) > 50 and sum(map(bool, uses.values())) > 30
