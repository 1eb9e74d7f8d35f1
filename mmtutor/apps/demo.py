"""`mmtutor demo`: a page of this machine on which a model is tried. No other machine can reach it,
nothing is kept."""

import base64
import logging
import shutil
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

from flask import Flask, Response, request, send_file
from werkzeug import exceptions as refused
from werkzeug.serving import BaseWSGIServer, make_server

from mmtutor.apps import commands, faults, folder, reading, rows
from mmtutor.checks import require
from mmtutor.choosing.heads import LIKELY

ADDRESS = "127.0.0.1"
"""Where the page is served: this machine. No option changes it, since the page asks nobody who they
are."""
MAX_MEGABYTES, MAX_BODY, MAX_LETTERS = 20, 60_000_000, 100_000
"""Of a file; bytes of a request, in which two such files have room in base64; of a cell."""
PAGES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; "
        "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
FORMS: dict[str, tuple[Any, str]] = {
    "text": (str, "a string"),
    "image": (str | None, "base64 or null"),
    "audio": (str | None, "base64 or null"),
    "numbers": (dict, "column: string"),
    "categories": (dict, "column: string"),
}
"""What a request may hold: its types in Python, and in words."""
NAMES = {"image": "the picture", "audio": "the sound"}
"""Of the files that are on disk while they are read: the encoder's messages then read well."""


class Demo:
    """A loaded model that answers about one row at a time and keeps nothing of it. home: a folder
    that only this user can open.

    Raises ModelUnusable, and what the encoders raise.
    """

    def __init__(self, model_folder: Path | str, home: Path | str, device: str | None) -> None:
        """Load the model and all its networks, for which nobody should wait later."""
        self.name = Path(model_folder).resolve().name
        self.lock = Lock()
        self.model, config = folder.load(model_folder)
        self.private = Path(home, "row")
        self.private.mkdir()
        self.encoder = folder.encoder_of(
            config,
            model_folder,
            folder.roles_of(config),
            folder=self.private,
            cache=self.private,
            device=device,
            max_megabytes=MAX_MEGABYTES,
        )
        for encoder in self.encoder.encoders.values():
            getattr(encoder, "model", None)  # loads it

    def facts(self) -> dict[str, Any]:
        """Return what the page tells about the model, and which fields it needs."""
        roles, vocabulary = self.encoder.roles, self.encoder.vocabulary
        return {
            "name": self.name,
            "classes": self.model.classes,
            "shares": dict(zip(self.model.classes, self.model.shares, strict=True)),
            "decision": self.model.decision,
            "modalities": self.model.modalities,
            "numbers": roles.numbers,
            "categories": dict(zip(roles.categories, vocabulary, strict=True)),
            "target": roles.target,
            "mean": self.model.target[0],
            "likely": LIKELY,
            "max_megabytes": MAX_MEGABYTES,
        }

    def answer(self, given: Any) -> dict[str, Any]:
        """Return what `predict` says about a row given as modality → value, see FORMS, and remarks
        on what is odd about it; an HTTPException says what is wrong."""
        with self.lock:
            require(self.private.parent.is_dir(), "The demo is ending.", refused.ServiceUnavailable)
            self.private.mkdir(exist_ok=True)
            try:
                row = rows.Rows(
                    reading.Table([self._cells(given)]), rows.Roles(), stored=self.encoder.roles
                )
                quiet = faults.Faults(), commands.Options(progress=False), ""
                chunk, answer = next(commands.answers(row, self.encoder, self.model, *quiet))
                if isinstance(found := chunk.outcome[0], faults.Problem):
                    raise refused.BadRequest(
                        f"{found.kind.capitalize()} ({found.column}): {found.detail.rstrip('.')}."
                    )
                return {
                    **commands.record(self.model, found, answer, 0),
                    "remarks": self.encoder.remarks(),
                }
            finally:
                shutil.rmtree(self.private)  # features tell about a row, too
                self.encoder.counts.clear()

    def _cells(self, given: Any) -> dict[str, str]:
        """Return column → cell. Files are written; what stands in their cells are their names."""
        known, roles = self.model.modalities, self.encoder.roles
        expected = ", ".join(f"{m} ({FORMS[m][1]})" for m in known)
        good = isinstance(given, dict) and all(
            m in known and isinstance(value, FORMS[m][0]) for m, value in given.items()
        )
        require(good, f"Expected JSON with {expected}, and nothing else.", refused.BadRequest)
        cells = dict.fromkeys(roles.columns, "")
        for m, value in given.items():
            if m in NAMES and value is not None:
                try:
                    (self.private / NAMES[m]).write_bytes(base64.b64decode(value, validate=True))
                except ValueError as error:
                    raise refused.BadRequest(f"No base64: {NAMES[m]}: {error}.") from error
                value = NAMES[m]
            cells |= value if m in rows.COLUMNS else {getattr(roles, m): value or ""}
        for column, cell in cells.items():
            require(
                column in roles.columns and isinstance(cell, str) and len(cell) <= MAX_LETTERS,
                f"{column!r} must be a column that the model reads, with a string of at most"
                f" {MAX_LETTERS:,} characters.",
                refused.BadRequest,
            )
        return cells


def server_of(demo: Demo, port: int) -> BaseWSGIServer:
    """Return what serves /, /demo.css, /demo.js, /model and, to what is posted, /predict; port 0
    takes a free one. Where a port cannot be had it says so and ends the program."""
    require(0 <= port <= 65535, f"the port is {port}, expected 1 to 65535, or 0 for a free one")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line for each request
    app = Flask(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY, TRUSTED_HOSTS=["localhost", ADDRESS])

    @app.before_request
    def refuse_other_sites() -> None:
        own = request.host_url.rstrip("/")  # raises where it is a name that was pointed here
        require(
            request.headers.get("Origin", own) == own,
            "This request comes from a page of another site.",
            refused.Forbidden,
        )

    @app.after_request
    def forbid_all_else(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @app.errorhandler(refused.HTTPException)
    def tell(error: refused.HTTPException) -> tuple[dict[str, Any], int]:
        return {"error": error.description}, error.code or 500

    @app.get("/", defaults={"kind": "html"})
    @app.get("/demo.<any(css, js):kind>")
    def page(kind: str) -> Response:
        return send_file(f"demo.{kind}", PAGES[kind])

    @app.post("/predict")
    def predict() -> dict[str, Any]:
        require(  # what a form of another site cannot send
            request.is_json,
            "Expected Content-Type: application/json.",
            refused.UnsupportedMediaType,
        )
        return demo.answer(request.get_json(silent=True))

    app.add_url_rule("/model", view_func=demo.facts)
    app.register_error_handler(
        RecursionError, lambda _: tell(refused.BadRequest("The JSON is nested too deeply."))
    )
    return make_server(ADDRESS, port, app, threaded=True)


def serve(model_folder: Path | str, *, port: int = 7860, device: str | None = None) -> int:
    """Serve the page until Ctrl-C, SIGTERM or the end of the terminal; return 0 then. The address
    is printed once all is loaded. Raises what `Demo` and `server_of` raise."""
    for name in {"SIGTERM", "SIGHUP"} & {*dir(signal)}:
        signal.signal(getattr(signal, name), signal.default_int_handler)
    with TemporaryDirectory(prefix="mmtutor-demo-") as home:
        demo = Demo(model_folder, home, device)
        server = server_of(demo, port)
        print(f"open http://{ADDRESS}:{server.port} (Ctrl-C ends it)", flush=True)
        server.serve_forever()
        with demo.lock:  # once the row in work is answered, no other one is
            shutil.rmtree(home)
    print("\nthe demo has ended; nothing of what it was shown was kept", flush=True)
    return 0
