"""What pages say of themselves: descriptions, cards, addresses, dates; the sitemap; the index of
terms."""

from __future__ import annotations

import datetime
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup
from PIL import Image

from mmbook import site
from tests.book.builders import extension

ROOT = Path(__file__).resolve().parents[2]
BASE = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["html"]["baseurl"]
PAGES = site.checks.toc_pages(ROOT / "_toc.yml")
meta = extension("meta")


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
        assert 30 <= len(about) <= meta.LENGTH, f"{page}: {about!r}"
        assert values["og:description"] == about
        assert values["og:title"] and values["og:type"] in ("website", "article")
        assert (
            values["og:url"]
            == soup.select_one('link[rel="canonical"]')["href"]
            == f"{BASE}{page}.html"
        )
        assert values["og:image"] == f"{BASE}_static/card.png"
        assert values["twitter:card"] == "summary_large_image"
        seen.setdefault(about, []).append(page)
    assert [pages for pages in seen.values() if len(pages) > 1] == []


def test_card_is_there_and_light(built_site):
    card = built_site / "_static" / "card.png"
    with Image.open(card) as picture:
        assert picture.size == (1200, 630)
    assert card.stat().st_size < 60_000


def test_sitemap_and_robots_name_every_page(built_site):
    space = {"s": "http://www.sitemaps.org/schemas/sitemap/0.9"}
    root = ElementTree.parse(built_site / "sitemap.xml").getroot()
    assert {e.text for e in root.findall("s:url/s:loc", space)} == {
        f"{BASE}{page}.html" for page in PAGES
    }
    assert f"Sitemap: {BASE}sitemap.xml" in (built_site / "robots.txt").read_text(encoding="utf-8")


def test_description_is_prose_cut_at_a_word():
    body = (
        '<h1>x</h1><div class="admonition"><p>No.</p></div><p>The <b>first</b> sentence .</p><p>'
        + "word " * 60
    )
    about = meta.description(body)
    assert about.startswith("The first sentence. word")
    assert about.endswith("word …")
    assert len(about) <= meta.LENGTH
    assert meta.description("<h1>x</h1>") == ""


def test_quotes_in_a_description_stay_inside_it():
    made = BeautifulSoup(
        meta.tags({"og:title": 'a "b" <c> & d', "description": ""}), "html.parser"
    ).find_all("meta")
    assert [(m["property"], m["content"]) for m in made] == [("og:title", 'a "b" <c> & d')]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with two files, changed on two days, and a function that runs git in it."""
    if shutil.which("git") is None:
        pytest.skip("no git on this machine")
    meta.is_shallow.cache_clear()
    home = tmp_path / "home"
    home.mkdir()

    def git(*words: str, day: str = "2020-01-01") -> None:
        identity = [
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@example.org",
            "-c",
            "commit.gpgsign=false",
        ]
        dates = {"GIT_AUTHOR_DATE": f"{day}T12:00:00Z", "GIT_COMMITTER_DATE": f"{day}T12:00:00Z"}
        for name, value in dates.items():
            monkeypatch.setenv(name, value)
        subprocess.run(["git", "-C", str(home), *identity, *words], check=True, capture_output=True)

    git("init", "-q")
    for name, day in (("old.md", "2020-03-05"), ("new.md", "2021-11-30")):
        (home / name).write_text(name, encoding="utf-8")
        git("add", name)
        git("commit", "-qm", name, day=day)
    return home


def test_date_is_that_of_the_files_last_commit(repository):
    assert meta.changed(repository / "old.md") == datetime.date(2020, 3, 5)
    assert meta.changed(repository / "new.md") == datetime.date(2021, 11, 30)
    assert meta.spoken(datetime.date(2020, 3, 5)) == "5 March 2020"


def test_no_date_is_given_where_git_cannot_know_it(repository, tmp_path, monkeypatch):
    (repository / "untracked.md").write_text("x", encoding="utf-8")
    assert meta.changed(repository / "untracked.md") is None
    shallow = tmp_path / "shallow"
    subprocess.run(
        ["git", "clone", "-q", "--depth=1", repository.as_uri(), str(shallow)], check=True
    )
    assert meta.changed(shallow / "old.md") is None
    (tmp_path / "zip").mkdir()
    (tmp_path / "zip" / "old.md").write_text("x", encoding="utf-8")
    assert meta.changed(tmp_path / "zip" / "old.md") is None
    monkeypatch.setattr(meta.shutil, "which", lambda _: None)
    meta.is_shallow.cache_clear()
    assert meta.changed(repository / "old.md") is None


def test_pages_show_the_day_of_their_last_commit(built_site):
    for page in PAGES:
        source = next(
            path for suffix in (".md", ".ipynb") if (path := ROOT / f"{page}{suffix}").is_file()
        )
        day = meta.changed(source)
        shown = re.findall(r"Last updated on (.+?)\.", head(built_site, page)[1].get_text(" "))
        assert shown == ([meta.spoken(day)] if day else []), page


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
