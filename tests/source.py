"""A small data set of our own, and a server on the loopback address that sends it well or badly."""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mmtutor.files import store

CONTENT = {
    "table.csv": b"id,tag\n1,yes\n",
    "images/Dog 1.jpg": b"first picture" * 4000,
    "images/100% é.jpg": b"second picture" * 4000,
}
DOG = "images/Dog 1.jpg"


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
            self.server.released.wait(600)
        if fault in ("truncate", "hang"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "hang":
                self.server.released.wait(600)
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def tiny() -> store.Manifest:
    return store.manifest("tiny")


def tree(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def spoil(folder: Path, how: str) -> str:
    path = folder / DOG
    if how == "missing":
        path.unlink()
        return r"Dog 1\.jpg is missing"
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
        return r"Dog 1\.jpg has 51999 bytes, expected 52000"
    if how == "altered":
        path.write_bytes(b"F" + path.read_bytes()[1:])
        return r"Dog 1\.jpg has sha256 \w{12}…, expected"
    path.rename(folder.parent / "elsewhere.jpg")
    path.symlink_to(folder.parent / "elsewhere.jpg")
    return r"Dog 1\.jpg is not a plain file"
