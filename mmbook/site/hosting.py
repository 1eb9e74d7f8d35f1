"""Serve a folder on this computer, compressed as a real web host would do it."""

import gzip
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TEXT = (".html", ".css", ".js", ".json", ".svg", ".txt", ".md", ".ipynb", ".map")
KINDS = {  # stated here because some systems register other types for these endings
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".ipynb": "application/x-ipynb+json",
}


class CompressedHandler(SimpleHTTPRequestHandler):
    """Files of one folder; text goes out as gzip to whoever accepts it."""

    protocol_version = "HTTP/1.1"
    extensions_map = SimpleHTTPRequestHandler.extensions_map | KINDS

    def do_GET(self) -> None:
        """Answer with the compressed file, or leave folders, other types and errors to the
        parent."""
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if self.path.split("?")[0].endswith("/") else path
        if (
            path.suffix not in TEXT
            or not path.is_file()
            or "gzip" not in self.headers.get("Accept-Encoding", "")
        ):
            super().do_GET()
            return
        content = gzip.compress(path.read_bytes(), compresslevel=6, mtime=0)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Vary", "Accept-Encoding")
        self.end_headers()
        self.wfile.write(content)

    def end_headers(self) -> None:
        """Forbid caching: whoever rebuilds the book wants to see the new one."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of `folder` on 127.0.0.1 only; port 0 takes any free one. The caller runs and
    closes it."""
    return ThreadingHTTPServer(
        ("127.0.0.1", port), partial(CompressedHandler, directory=str(folder))
    )
