"""The web server of the demo: what it answers to whom, and what it refuses. Standard library
only."""

import base64
import json
import os
import re
import socketserver
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmtutor.apps.demo import Demo

ADDRESS = "127.0.0.1"
"""Where the page is served: this machine. No option changes it, since the page asks nobody who they
are."""
MAX_BODY = 30_000_000
MAX_PICTURE = 22_000_000
"""Bytes of a picture's file: in base64, with the longest text, it stays below MAX_BODY."""
MAX_LETTERS = 100_000
HERE = Path(__file__).parent
PAGES = {
    "/": ("demo.html", "text/html; charset=utf-8"),
    "/demo.css": ("demo.css", "text/css; charset=utf-8"),
    "/demo.js": ("demo.js", "text/javascript; charset=utf-8"),
}
JSON = "application/json; charset=utf-8"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Refused(ValueError):
    """A request that is not answered; the message is for the person who made it, status is
    HTTP's."""

    def __init__(self, message: str, status: int = 400) -> None:
        """Keep the status beside the message."""
        super().__init__(message)
        self.status = status


class Server(ThreadingHTTPServer):
    """The page of one Demo, on 127.0.0.1 only; port 0 takes a free one, OSError says why a port
    cannot be had."""

    # Windows would let two demos share a port; elsewhere the option only spares waiting after an
    # earlier demo's end
    allow_reuse_address = os.name != "nt"

    def __init__(self, demo: "Demo", port: int) -> None:
        """Take the port; `serve_forever` answers."""
        if not 0 <= port <= 65535:
            raise ValueError(f"the port is {port}, expected 1 to 65535, or 0 for a free one")
        self.demo = demo
        self.files = {
            path: (kind, (HERE / name).read_bytes()) for path, (name, kind) in PAGES.items()
        }
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            why = f"port {port} cannot be taken ({error.strerror or error})"
            raise OSError(f"{why}: say --port with another number, or 0 for a free one") from None

    def server_bind(self) -> None:
        """Take the address without asking a name server for its name, as HTTPServer would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet about browsers that went away before their answer."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Four addresses to read, /, /demo.css, /demo.js and /model, and one to post to, /predict."""

    server: Server
    server_version, sys_version = "mmtutor", ""
    timeout = 60
    body = b""

    def do_GET(self) -> None:
        """Answer with the page, a part of it, or what it tells about the model."""
        self._reply(self._get)

    def do_POST(self) -> None:
        """Answer about a post: JSON with text (a string) and picture (base64, or null)."""
        self._reply(self._post)

    def end_headers(self) -> None:
        """Send with every answer what forbids the page all that it does not need."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def _reply(self, make: Callable[[], tuple[str, bytes]]) -> None:
        try:
            if self.command == "POST":  # first: who still sends would not hear a refusal
                self.body = self._read()
            self._check_sender()
            status, (kind, content) = 200, make()
        except Refused as refusal:
            status, kind, content = refusal.status, JSON, _json({"error": str(refusal)})
        except Exception as error:  # the server goes on, whatever one post has met
            print(f"mmtutor: {type(error).__name__}: {error}", file=sys.stderr)
            status, kind, content = (
                500,
                JSON,
                _json({"error": f"It failed: {type(error).__name__}: {error}"}),
            )
        self._send(status, kind, content)

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _check_sender(self) -> None:
        """Refuse pages of other sites: those whose name was pointed at this machine, and those that
        post from afar."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not re.fullmatch(
            r"(localhost|127\.0\.0\.1)(:\d{1,5})?", hosts[0].lower()
        ):
            raise Refused("This page answers to localhost and 127.0.0.1 only.", 403)
        if any(
            origin.lower() != f"http://{hosts[0].lower()}"
            for origin in self.headers.get_all("Origin", [])
        ):
            raise Refused("This request comes from a page of another site.", 403)

    def _get(self) -> tuple[str, bytes]:
        path = self.path.partition("?")[0]
        if path == "/model":
            return JSON, _json(self.server.demo.facts())
        if path not in self.server.files:
            raise Refused("There is no such page: the demo is at /.", 404)
        return self.server.files[path]

    def _post(self) -> tuple[str, bytes]:
        if self.path != "/predict":
            raise Refused("There is no such address: posts go to /predict.", 404)
        # what a form of another site cannot send
        if self.headers.get_content_type() != "application/json":
            raise Refused("Expected Content-Type: application/json.", 415)
        return JSON, _json(self.server.demo.answer(*_read_post(self.body)))

    def _read(self) -> bytes:
        """Return the body. One that is too large is read and dropped."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,15}", length):
            raise Refused("Expected Content-Length: the size of the body.", 411)
        left = int(length)
        if left > MAX_BODY:
            left = min(left, 10 * MAX_BODY)
            while left > 0 and (part := self.rfile.read(min(left, 1 << 16))):
                left -= len(part)
            raise Refused(
                f"The post is too large: at most {MAX_PICTURE // 1_000_000} MB for the picture.",
                413,
            )
        return self.rfile.read(left)


def _read_post(body: bytes) -> tuple[str, bytes | None]:
    """Return text and picture of a request's body; Refused says what is wrong with it."""
    try:
        post = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(f"The body is no JSON: {error}") from error
    if not isinstance(post, dict) or not set(post) <= {"text", "picture"}:
        raise Refused('Expected a JSON object with "text" and "picture", and nothing else.')
    text, picture = post.get("text", ""), post.get("picture")
    if not isinstance(text, str) or not isinstance(picture, str | None):
        raise Refused('"text" must be a string, "picture" a string in base64 or null.')
    if len(text) > MAX_LETTERS:
        raise Refused(f"The text has {len(text):,} characters, the limit is {MAX_LETTERS:,}.")
    if bad := re.search("\x00|[\ud800-\udfff]", text):
        raise Refused(f"The text holds the character {bad.group()!r}, which no text has.")
    if picture is None:
        return text, None
    try:
        content = base64.b64decode(picture, validate=True)
    except ValueError as error:
        raise Refused(f"The picture is no base64: {error}") from error
    if len(content) > MAX_PICTURE:
        raise Refused(f"Picture too large: the limit is {MAX_PICTURE // 1_000_000} MB.", 413)
    return text, content


def _json(content: dict) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
