"""The built site: it keeps its laws, and each law notices when it is broken."""

from __future__ import annotations

import gzip
import random
import re
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

from mmbook import site
from mmbook.reading import toc_pages

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
TOC = toc_pages(ROOT / "_toc.yml")
TERMS = set(
    """modality, early fusion, feature-level fusion, intermediate fusion, model-level fusion,
    late fusion, decision-level fusion, alignment, missing modality, presence mask, encoder,
    embedding, frozen features, pooling, log-mel spectrogram, macro-F1,
    expected calibration error, Brier score, grouped split, Nadeau–Bengio correction,
    bootstrap, Bayes accuracy, redundancy, unique information, synergy""".replace(
        "\n    ", " "
    ).split(", ")
)
GOOD = """<!DOCTYPE html><html lang="en"><head><title>Good</title><link rel="icon" href="x.svg">
<link rel="canonical" href="https://example.org/good"><link rel="stylesheet" href="_static/a.css">
<script src="_static/a.js"></script>
<script>const home = "https://example.org"; fetch("local.json")</script></head>
<body><article><p style="background: url(local.png)">Text and
<a href="https://example.org">a link</a>,
<span lang="zh-Hans">模态</span></p><img src="curve.png" alt="A curve that rises">
<details><summary>Question</summary>Answer</details><table><tr><th>a</th></tr><tr><td>1</td></tr></table>
<span class="math"><span class="katex"><math></math></span></span></article></body></html>"""

# law → (what to replace in the good page, by what), each of which must be noticed
BROKEN: dict[str, list[tuple[str, str]]] = {
    "page_other_hosts": [
        ('src="_static/a.js"', 'src="https://cdn.example.org/a.js"'),
        ('src="_static/a.js"', 'src="//cdn.example.org/a.js"'),
        ('href="_static/a.css"', 'href="https://cdn.example.org/a.css"'),
        (
            'rel="stylesheet" href="_static/a.css"',
            'rel="preconnect" href="https://fonts.example.org"',
        ),
        ('rel="icon" href="x.svg"', 'rel="icon" href="http://example.org/x.svg"'),
        ('src="curve.png"', 'src="https://example.org/curve.png"'),
        ('src="curve.png"', 'src="curve.png" srcset="curve.png 1x, https://example.org/2.png 2x"'),
        ("url(local.png)", "url('https://example.org/a.png')"),
        ("</head>", "<style>@import '//example.org/a.css';</style></head>"),
        ("</head>", '<meta http-equiv="refresh" content="0; url=https://example.org/"></head>'),
        ('fetch("local.json")', 'fetch("https://example.org/a.json")'),
        ('fetch("local.json")', "s.src='https://example.org/a.js'"),
        ("</article>", '<iframe title="x" src="https://example.org"></iframe></article>'),
        ("</article>", '<svg><use href="https://example.org/i.svg#a"/></svg></article>'),
        ("</article>", '<object data="https://example.org/a.pdf"></object></article>'),
    ],
    "unwanted_scripts": [
        ("_static/a.js", "_static/scripts/fontawesome.js?digest=1"),
        ("_static/a.js", "_static/sphinx-thebe.js"),
        ("</head>", '<script src="_static/a.js"></script></head>'),
    ],
    "missing_alternative_text": [
        (' alt="A curve that rises"', ""),
        ("A curve that rises", " "),
        ("A curve that rises", "curve.png"),
        ("A curve that rises", "curve"),
        ("A curve that rises", "../_images/3f2a9c.png"),
        ("A curve that rises", "_images/3f2a9c0d1e2f3a4b5c6d7e8f"),
    ],
    "unnamed_summaries": [("<summary>Question</summary>", "<summary><i></i></summary>")],
    "unmarked_language": [(' lang="zh-Hans"', "")],
    "inline_pictures": [
        ('src="curve.png"', 'src="data:image/png;base64,' + "A" * 5000 + '"'),
        (
            "</article>",
            '<svg><image href="data:image/png;base64,' + "A" * 5000 + '"/></svg></article>',
        ),
    ],
    "forbidden_forms": [
        ("<title>Good</title>", ""),
        ("<title>Good</title>", "<title> </title>"),
        ('<link rel="icon" href="x.svg">', ""),
        (' lang="en"', ""),
        ("</article>", '<iframe src="a.html"></iframe></article>'),
        ("<tr><th>a</th></tr>", ""),
        ('<span class="katex"><math></math></span>', r"\(x^2\)"),
        ('<span class="katex"><math></math></span>', '<span class="katex-error">\\frac</span>'),
        ("<math></math>", ""),
    ],
}


def soup(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


@pytest.mark.parametrize("law", site.page_laws.PAGE_LAWS, ids=lambda law: law.__name__)
def test_good_page_keeps_the_law(law):
    assert law(soup(GOOD)) == []


@pytest.mark.parametrize(
    ("law", "old", "new"),
    [(law, old, new) for law, changes in BROKEN.items() for old, new in changes],
)
def test_law_notices_a_broken_page(law, old, new):
    assert old in GOOD
    assert getattr(site.page_laws, law)(soup(GOOD.replace(old, new, 1)))


def test_every_law_has_a_page_that_breaks_it():
    assert set(BROKEN) == {law.__name__ for law in site.page_laws.PAGE_LAWS}


@pytest.fixture
def small_site(tmp_path) -> Path:
    """A whole site of two pages that keeps every law."""
    (tmp_path / "_static").mkdir()
    files = {
        "good.html": GOOD.replace("</article>", '<a href="other.html#place">b</a></article>'),
        "other.html": GOOD.replace("<p ", '<p id="place" ', 1),
        "x.svg": "<svg/>",
        "curve.png": "",
        "local.png": "",
        "_static/a.css": (
            "a { background: url(../curve.png) } b { background: url(data:image/png;base64,AA) }"
        ),
        "_static/a.js": 'const licence = "https://example.org/licence"; fetch("good.html");',
        "toc.yml": "format: jb-book\nroot: good\nparts:\n"
        "- caption: x\n  chapters:\n  - file: other\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_small_site_keeps_every_law(small_site):
    assert site.page_laws.check_site(small_site, small_site / "toc.yml") == []


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        ("toc.yml", "file: other", "file: planned", "planned is in toc.yml but was not built"),
        ("good.html", "other.html#place", "missing.html", "leads nowhere: missing.html"),
        ("good.html", "other.html#place", "other.html#nowhere", "no place in other.html: #nowhere"),
        ("good.html", 'src="curve.png"', 'src="gone.png"', "leads nowhere: gone.png"),
        ("good.html", 'src="_static/a.js"', 'src="//example.org/a.js"', "asks //example.org/a.js"),
        (
            "_static/a.css",
            "../curve.png",
            "https://example.org/a.woff2",
            "style sheet asks https://example.org",
        ),
        (
            "_static/a.css",
            "a {",
            '@import url("//example.org/b.css"); a {',
            "style sheet asks //example.org",
        ),
        ("_static/a.css", "../curve.png", "gone.woff2", "names a missing gone.woff2"),
        (
            "_static/a.js",
            'fetch("good',
            'fetch("https://example.org/good',
            "script asks https://example.org",
        ),
        (
            "_static/a.js",
            "const",
            'import("https://example.org/m.js"); const',
            "script asks https://example.org",
        ),
    ],
)
def test_site_law_notices(small_site, name, old, new, complaint):
    path = small_site / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert any(
        complaint in breach
        for breach in site.page_laws.check_site(small_site, small_site / "toc.yml")
    )


def weigh(page: Path, text: str, **others: int) -> list[str]:
    """What the law says of a page with `text`, beside files of so many bytes that no packing makes
    smaller."""
    page.write_text(text, encoding="utf-8")
    for name, size in others.items():
        path = {"script": page.parent / "_static" / "a.js", "picture": page.parent / "curve.png"}[
            name
        ]
        # latin-1 text of all letters: about its size as gzip
        letters = random.Random(0).choices(range(256), k=size)
        path.write_bytes(bytes(letters))
    return site.weight.heavy_page(page, soup(text))


def test_heavy_pages_are_noticed(small_site):
    page = small_site / "good.html"
    rich = page.read_text(encoding="utf-8")
    plain = re.sub(r'<img[^>]*>|<span class="math">.*</span></span>', "", rich)
    assert "katex" in rich and "katex" not in plain
    assert weigh(page, plain, script=100_000) == []
    assert weigh(page, plain, script=130_000)[0].endswith("limit 120 KB")
    assert weigh(page, rich, script=130_000) == []
    assert weigh(page, rich, script=180_000)[0].endswith("limit 170 KB")
    assert weigh(page, rich, script=100_000, picture=1_000_000) == []
    assert weigh(page, rich, script=100_000, picture=1_600_000)[0].endswith("limit 1536 KB")
    search = page.with_name("search.html")
    assert weigh(search, plain.replace("article", "div"), script=130_000) == []
    assert weigh(search, plain.replace("article", "div"), script=180_000)[0].endswith(
        "limit 170 KB"
    )


def test_parts_of_a_page_are_weighed_apart(small_site):
    page = small_site / "good.html"
    font = small_site / "_static" / "a.woff2"
    before = site.weight.page_parts(page)
    sheet = small_site / "_static" / "a.css"
    sheet.write_text(
        sheet.read_text(encoding="utf-8") + "@font-face { src: url(a.woff2?v=1) }", encoding="utf-8"
    )
    font.write_bytes(b"f" * 5000)
    (small_site / "curve.png").write_bytes(b"p" * 3000)
    after = site.weight.page_parts(page)
    assert before["font"] == 0
    assert after["font"] == 5000
    assert after["picture"] - before["picture"] == 3000
    assert after["style"] > before["style"]
    assert after["document"] == before["document"] == len(gzip.compress(page.read_bytes(), 6))


def test_report_names_the_heaviest_page(small_site):
    (small_site / "big.html").write_text(
        GOOD.replace("Text", random.Random(0).randbytes(9000).hex()), encoding="utf-8"
    )
    first, second = site.weight.report(small_site)
    assert "(big.html)" in first
    assert "at most 0 KB" in second


def test_built_site_keeps_every_law(built_site):
    assert site.page_laws.check_site(built_site, ROOT / "_toc.yml") == []


def test_every_page_of_the_contents_can_be_reached_from_the_first(built_site):
    first = soup((built_site / f"{TOC[0]}.html").read_text(encoding="utf-8"))
    linked = {
        (built_site / "book" / a["href"].split("#")[0]).resolve()
        for a in first.select("nav.bd-links a[href]")
    }
    missing = [page for page in TOC[1:] if (built_site / f"{page}.html").resolve() not in linked]
    assert len(TOC) >= 6
    assert missing == []


def test_index_leads_to_the_first_page(built_site):
    page = soup((built_site / "index.html").read_text(encoding="utf-8"))
    assert page.select_one("a")["href"] == f"{TOC[0]}.html"


def test_launch_buttons_lead_to_the_configured_repository(built_site):
    repository = CONFIG["repository"]["url"].removeprefix("https://github.com/")
    lessons = [page for page in TOC if (ROOT / f"{page}.ipynb").is_file()]
    assert lessons
    for page in lessons:
        html = soup((built_site / f"{page}.html").read_text(encoding="utf-8"))
        links = [a["href"] for a in html.select("a[href]")]
        branch, opened, fetched = "main", page, f"_sources/{page}.ipynb"
        if page.endswith("/exercises"):
            name = page.split("/")[1]
            branch, opened, fetched = "student", f"{name}/{name}", f"student/{name}.ipynb"
            edition = (built_site / fetched).read_text(encoding="utf-8")
            copied = (built_site / "_sources" / f"{page}.ipynb").read_text(encoding="utf-8")
            for secret in ("BEGIN SOLUTION", "BEGIN HIDDEN"):
                assert secret not in edition + copied
            assert "BEGIN HIDDEN" not in str(html)  # solutions are there, folded
        colab = f"https://colab.research.google.com/github/{repository}/blob/{branch}/"
        assert f"{colab}{opened}.ipynb" in links
        binder = f"https://mybinder.org/v2/gh/{repository}/{branch}?urlpath=lab/tree/{opened}"
        assert any(link.startswith(binder) for link in links)
        assert any(link.endswith(fetched) for link in links)


def test_sources_name_one_repository():
    url = CONFIG["repository"]["url"]
    named = re.compile(r"https://github\.com/[\w.-]+/mmtutor\b")
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in (ROOT / "book").rglob("*")
        if path.suffix in (".md", ".ipynb")
    }
    wrong = [
        f"{path}: {found}"
        for path, text in texts.items()
        for found in named.findall(text)
        if found != url
    ]
    assert wrong == []


def test_data_cards_are_made_from_the_packaged_manifests(built_site):
    from mmtutor.files import store

    article = soup(
        (built_site / "book" / "data_cards.html").read_text(encoding="utf-8")
    ).select_one("article")
    assert len(store.names()) >= 2
    for name in store.names():
        card = (
            article.find("code", string=re.compile(rf"^{name}$"))
            .find_parent("section")
            .get_text(" ")
        )
        manifest = store.manifest(name)
        assert manifest.title in card
        assert str(manifest.n) in card
        assert all(source.repo in card for source in manifest.sources)


def test_map_shows_lessons_as_links_and_the_rest_as_planned(built_site):
    intro = soup((built_site / "book" / "intro.html").read_text(encoding="utf-8"))
    rows = intro.select("#map-of-the-book tbody tr")
    assert len(rows) == 17
    for row in rows:
        number = int(row.td.get_text())
        written = any(page.startswith(f"book/{number:02}_") for page in TOC)
        assert bool(row.select_one("a[href*=lesson]")) == written
        assert bool(row.select_one(".planned")) != written


def test_glossary_has_the_terms_of_the_field_each_with_its_chinese_term(built_site):
    page = soup((built_site / "book" / "glossary.html").read_text(encoding="utf-8"))
    entries: list[list[str]] = [[]]
    for child in page.select_one("dl.glossary").find_all(["dt", "dd"], recursive=False):
        if child.name == "dd":
            entries.append([])
        else:
            entries[-1].append(child.get_text().rstrip("#").strip())
    entries.pop()
    without = [
        names for names in entries if not any(site.page_laws.CHINESE.search(name) for name in names)
    ]
    terms = {name for names in entries for name in names}
    assert without == []
    assert terms >= TERMS


def test_digest_follows_the_sources_and_no_leftover_of_a_run(tmp_path):
    (tmp_path / "book" / "__pycache__").mkdir(parents=True)
    page = tmp_path / "book" / "page.md"
    page.write_text("one", encoding="utf-8")
    first = site.digest(tmp_path, ("book",))
    (tmp_path / "book" / "__pycache__" / "x.pyc").write_text("cache", encoding="utf-8")
    (tmp_path / "book" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "book" / ".ipynb_checkpoints" / "x.ipynb").write_text("old", encoding="utf-8")
    assert site.digest(tmp_path, ("book",)) == first
    page.write_text("two", encoding="utf-8")
    second = site.digest(tmp_path, ("book",))
    page.rename(tmp_path / "book" / "other.md")
    assert len({first, second, site.digest(tmp_path, ("book",))}) == 3


def test_a_schematic_is_part_of_its_page_and_brings_no_rules_of_its_own(built_site):
    """So it follows the theme, and the slides find it as a figure."""
    drawn = []
    for path in built_site.glob("book/**/*.html"):
        page = soup(path.read_text(encoding="utf-8"))
        assert not page.select("article svg style, article p > svg.schematic"), path
        drawn += page.select("article svg.schematic > desc")
    assert len(drawn) >= len(list((ROOT / "book").glob("*/figures/*.svg")))
