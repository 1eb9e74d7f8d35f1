"""A small data set of our own, and a server on the loopback address that sends it well or badly."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import torch

from mmtutor.choosing.grouped import GroupedSamples
from mmtutor.encoders import ImageEncoder, TextEncoder
from mmtutor.files import manifest as packaged
from mmtutor.files import store

CONTENT = {
    "table.csv": b"id,tag\n1,yes\n",
    "images/Dog 1.jpg": b"first picture" * 4000,
    "images/100% é.jpg": b"second picture" * 4000,
}


class Source(ThreadingHTTPServer):
    """Sends `content` by path; `faults[path]` is "truncate", "alter", "longer", "slow", "hang" or
    an HTTP status."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content: dict[str, bytes] = {}
        self.faults: dict[str, str | int] = {}
        self.asked: Counter[str] = Counter()
        self.released = threading.Event()  # what "slow" and "hang" wait for
        self.base = f"http://127.0.0.1:{self.server_port}/pinned/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of these tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Source

    def do_GET(self) -> None:
        path = self.path.removeprefix("/pinned/")
        self.server.asked[path] += 1
        fault = self.server.faults.get(path)
        if isinstance(fault, int) or path not in self.server.content:
            self.send_response(fault if isinstance(fault, int) else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.server.content[path]
        if fault == "alter":
            body = body[:-1] + b"?"
        elif fault == "longer":
            body = body + b"?"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "slow":
            self.server.released.wait(30)
        if fault in ("truncate", "hang"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "hang":
                self.server.released.wait(30)
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


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
    nothing."""
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "cache"))

    def find(name: str) -> Path:
        try:
            return store.find(store.manifest(name))
        except store.DatasetUnavailable as error:
            pytest.skip(f"data set {name}: {error.reason}")

    return find


@pytest.fixture(scope="session")
def image_encoder():
    """The packaged image encoder, small pictures, no cache."""
    encoder = ImageEncoder(device="cpu", cache=False, image_size=64)
    assert encoder.model is not None
    return encoder


@pytest.fixture(scope="session")
def text_encoder():
    """The packaged text encoder, no cache."""
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
