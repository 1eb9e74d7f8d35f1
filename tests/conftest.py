"""All fixtures of the tests. What is heavy is imported by the fixture that needs it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest
from filelock import FileLock

from mmtutor.files import manifest as packaged
from mmtutor.files import store
from tests.posts import COLOURS, made, mixed_posts, priced_sounds
from tests.source import CONTENT, Source

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from mmtutor.apps.commands import Options
    from tests.browsing import Visit

BOOK = Path(__file__).parent / "book"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies outside the fast lane."""
    for item in items:
        if item.path.is_relative_to(BOOK) or item.path.suffix == ".ipynb":
            item.add_marker("book")


@pytest.fixture
def content() -> dict[str, bytes]:
    """What the files of the small set hold, by path."""
    return dict(CONTENT)


@pytest.fixture
def source() -> Iterator[Source]:
    """A server on the loopback address, serving CONTENT at percent-encoded paths."""
    server = Source()
    server.content = {quote(path): body for path, body in CONTENT.items()}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no mirror, no consent, no proxy, nobody at the terminal; returns the cache
    root."""
    for variable in ("MMTUTOR_DATA", "MMTUTOR_ACCEPT_LICENCE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return tmp_path / "cache"


@pytest.fixture
def make_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> Callable[..., dict[str, Any]]:
    """Write a manifest for a set "tiny" in place of the packaged ones; keywords replace its
    fields."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    monkeypatch.setattr(packaged, "FOLDER", folder)

    def write(base: str = "http://127.0.0.1:9/", **fields: Any) -> dict[str, Any]:
        files = [
            {
                "path": p,
                "sha256": hashlib.sha256(b).hexdigest(),
                "bytes": len(b),
                "source_index": 0,
                "source_path": p,
            }
            for p, b in CONTENT.items()
        ]
        data = {
            "name": "tiny",
            "title": "A tiny set",
            "version": "1",
            "licence": "CC0 1.0",
            "commercial_use": True,
            "citation": "Nobody (2024). Tiny.",
            "sources": [
                {
                    "repo": "nobody/tiny",
                    "commit": "0" * 40,
                    "archive_url": base,
                    "raw_url_base": base,
                }
            ],
            "n": 2,
            "fields": {"tag": "yes or no | never both", "<id>": "a number"},
            "notes": "Made for tests.",
            "files": files,
        }
        data.update(fields)
        (folder / "tiny.json").write_text(json.dumps(data), encoding="utf-8")
        packaged._read.cache_clear()
        return data

    return write


@pytest.fixture
def lay_out() -> Callable[[Path], Path]:
    """Write CONTENT below <root>/tiny/files, and return that folder."""

    def write(root: Path) -> Path:
        for path, body in CONTENT.items():
            target = root / "tiny" / "files" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
        return root / "tiny" / "files"

    return write


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return the folder of a real set, or skip the test by the set's name and the reason; downloads
    nothing.

    A set in the user's cache is linked into one of the test's own, where everything else goes.
    """
    users, own = store.cache_root(), tmp_path / "cache"
    monkeypatch.setenv("MMTUTOR_CACHE", str(own))

    def find(name: str) -> Path:
        if (users / name / "files").is_dir() and not (own / name).exists():
            (own / name).mkdir(parents=True)
            (own / name / "files").symlink_to(users / name / "files", target_is_directory=True)
        try:
            return store.find(store.manifest(name))
        except store.DatasetUnavailable as error:
            pytest.skip(f"data set {name}: {error.reason}")

    return find


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point MMTUTOR_CACHE to an empty folder: the test does not touch the user's."""
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "own-cache"))
    return tmp_path / "own-cache"


@pytest.fixture
def file_size_limit():
    """Return a context in which no file may grow beyond so many bytes: writing fails as on a full
    disk."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(scope="module")
def small_models_on_one_thread() -> Iterator[None]:
    """Fit as `train` does: on several threads tiny heads take thirty times as long."""
    from mmtutor.device import one_thread

    with one_thread():
        yield


@pytest.fixture(scope="session")
def image_encoder():
    """The packaged image encoder, small pictures, no cache."""
    from mmtutor.encoders import ImageEncoder

    encoder = ImageEncoder(device="cpu", cache=False, image_size=64)
    assert encoder.model is not None
    return encoder


@pytest.fixture(scope="session")
def text_encoder():
    """The packaged text encoder, no cache."""
    from mmtutor.encoders import TextEncoder

    encoder = TextEncoder(device="cpu", cache=False)
    assert encoder.model is not None
    return encoder


@pytest.fixture(scope="session")
def synthetic():
    """Return a function that makes GroupedSamples without encoders.

    where: per class, where each of its modalities stands on the first axis of its features;
    lacking: which samples lack a modality, as (modality, position): features there are NaN;
    groups: (N,), by default each sample alone.
    """
    import numpy as np
    import torch

    from mmtutor.choosing.grouped import GroupedSamples

    def synthetic(
        n=120,
        where=((-1, -1), (1, 1)),
        dims=(4, 3),
        names=("text", "image"),
        noise=1.0,
        groups=None,
        lacking=(),
        seed=0,
        spread=1.0,
    ):
        rng = np.random.default_rng(seed)
        y = np.arange(n) % len(where)
        features, present = {}, {}
        for k, (m, d) in enumerate(zip(names, dims, strict=True)):
            x = noise * rng.standard_normal((n, d))
            x[:, 0] += spread * np.array(where)[y, k]
            features[m] = torch.tensor(x, dtype=torch.float32)
            present[m] = torch.tensor([(m, i) not in set(lacking) for i in range(n)])
            features[m][~present[m]] = torch.nan
        groups = np.arange(n) if groups is None else np.asarray(groups)
        classes = tuple("abcdefgh"[: len(where)])
        return GroupedSamples(features, torch.from_numpy(y), groups, classes, present)

    return synthetic


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """Return the feature cache that all tests share, so that each post is encoded once."""
    return tmp_path_factory.mktemp("shared-cache") / "features"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Return a folder of 48 small pictures, good-0.png to bad-23.png, greenish and reddish."""
    import numpy as np
    from PIL import Image

    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for label, colour in COLOURS.items():
        for i in range(24):
            noise = rng.integers(-25, 26, (16, 16, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{label}-{i}.png")
    return folder


@pytest.fixture(scope="session")
def rows() -> list[dict[str, str]]:
    """Return the 48 posts as a table's rows, the classes in turn."""
    return [made(label, i) for i in range(24) for label in COLOURS]


@pytest.fixture(scope="session")
def write():
    """Return a function that writes rows as CSV and returns the path; columns are those of the
    first row."""

    def write(path: Path, rows: list[dict[str, str]]) -> Path:
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        return path

    return write


@pytest.fixture(scope="session")
def options(pictures, cache) -> Options:
    """Return options with the pictures and the shared cache, on the processor."""
    from mmtutor.apps.commands import Options

    return Options(folder=pictures, device="cpu", cache=cache, progress=False)


@pytest.fixture(scope="session")
def posts(tmp_path_factory, rows, write) -> Path:
    """Return a table of the 48 posts."""
    return write(tmp_path_factory.mktemp("posts") / "posts.csv", rows)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, posts, options) -> Path:
    """Return a model folder trained on the 48 posts."""
    from mmtutor.apps.commands import train

    out = tmp_path_factory.mktemp("trained") / "model"
    train(posts, out, options, splits=3, repeats=2)
    return out


@pytest.fixture(scope="session")
def text_only(tmp_path_factory, rows, write, options) -> Path:
    """Return a model folder trained on a table without pictures."""
    from mmtutor.apps.commands import train

    folder = tmp_path_factory.mktemp("text-only")
    table = write(folder / "posts.csv", [{k: row[k] for k in ("text", "label")} for row in rows])
    train(table, folder / "model", options, splits=3, repeats=1)
    return folder / "model"


@pytest.fixture(scope="session")
def posts_model(tmp_path_factory) -> Path:
    """Return a model folder trained on texts and pictures, to tell three classes apart."""
    from mmtutor.apps.commands import Options, train

    folder = tmp_path_factory.mktemp("posts-model")
    options = Options(folder=folder, device="cpu", cache=folder / "cache", progress=False)
    train(mixed_posts(folder), folder / "tiny", options, splits=5, repeats=2)
    return folder / "tiny"


@pytest.fixture(scope="session")
def sounds_model(tmp_path_factory) -> Path:
    """Return a model folder trained on sounds, numbers and categories, to tell a number."""
    from mmtutor.apps.commands import Options, Roles, train

    pytest.importorskip("soundfile")
    folder = tmp_path_factory.mktemp("sounds-model")
    columns = {"numbers": ("weight", "age & size"), "categories": ("sky",)}
    roles = Roles(audio="tone", target="price", **columns)
    options = Options(roles, folder, device="cpu", cache=folder / "cache", progress=False)
    train(priced_sounds(folder), folder / "prices", options, splits=5, repeats=2)
    return folder / "prices"


@pytest.fixture(scope="session")
def one_builder() -> FileLock:
    """Whoever holds it may write into `_build`: two workers do not fetch or build at once."""
    from mmbook import site

    folder = site.folder().parent
    folder.mkdir(exist_ok=True)
    return FileLock(folder / "tests.lock")


@pytest.fixture(scope="session")
def node_packages(one_builder: FileLock) -> Path:
    """The folder with KaTeX and PurgeCSS; skips, naming the reason, where npm's registry cannot be
    reached."""
    from mmbook import site

    try:
        with one_builder:
            return site.fetch()
    except site.PackagesMissing as error:
        pytest.skip(f"the site cannot be built: {error}")


@pytest.fixture(scope="session")
def built_site(node_packages: Path, one_builder: FileLock) -> Path:
    """The folder of the site, built now unless it stands there, built from the very same
    sources."""
    from mmbook import site

    with one_builder:
        if not site.is_current():
            site.build()
    return site.folder()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; skips, naming the reason, where this machine has none."""
    from playwright.sync_api import sync_playwright

    from mmbook.browser import QUIET, NoBrowser, chromium

    try:
        found = chromium()
    except NoBrowser as error:
        pytest.skip(str(error))
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=QUIET)
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[[str, str], tuple[Page, Visit]]]:
    """A function that opens an address in a view and returns the page with what was noticed."""
    from tests.browsing import PATIENCE, VIEWS, Visit

    contexts = []

    def visit(url: str, view: str) -> tuple[Page, Visit]:
        width, height, scheme = VIEWS[view]
        # what fades in would be measured half faded
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page, seen = context.new_page(), Visit()
        page.on(
            "console",
            lambda m: seen.errors.append(m.text) if m.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("requestfailed", lambda request: seen.errors.append(f"failed: {request.url}"))
        page.on(
            "response",
            lambda a: seen.errors.append(f"{a.status}: {a.url}") if a.status >= 400 else None,
        )
        page.on("request", lambda request: seen.hosts.add(urlsplit(request.url).hostname or ""))
        page.goto(url, wait_until="networkidle")
        return page, seen

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def address(built_site: Path) -> Iterator[str]:
    """Where the built site is served on this machine."""
    from tests.browsing import serve

    yield from serve(built_site)
