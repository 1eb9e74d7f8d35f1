"""`mmtutor demo`: a page of this machine on which a model is tried. No other machine can reach it,
nothing is kept."""

import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from mmtutor.apps import folder
from mmtutor.apps.classifier import SentimentModel
from mmtutor.apps.commands import answer_chunk, record
from mmtutor.apps.demo_server import ADDRESS, MAX_LETTERS, MAX_PICTURE, Refused, Server
from mmtutor.apps.faults import Problem
from mmtutor.apps.features import PostEncoder
from mmtutor.apps.posts import Post
from mmtutor.checks import require

NAME = "the picture"
"""Of the one picture that is on disk at a time: the encoder's messages about it then read well."""


@dataclass
class Demo:
    """A loaded model that answers about one post at a time and keeps nothing of it. pictures: a
    private folder."""

    name: str
    model: SentimentModel
    encoder: PostEncoder
    pictures: Path
    closed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def facts(self) -> dict[str, object]:
        """Return what the page tells about the model."""
        return {
            "name": self.name,
            "method": self.model.method,
            "modalities": list(self.model.modalities),
            "decision": self.model.decision,
            "shares": dict(zip(self.model.classes, self.model.shares, strict=True)),
            "max_picture": MAX_PICTURE,
            "max_letters": MAX_LETTERS,
        }

    def answer(self, text: str, picture: bytes | None) -> dict[str, object]:
        """Return label, probabilities, contributions and answered_by, as `predict_one`; Refused
        says what is wrong."""
        text = text.strip()
        require(
            text or picture is not None,
            "There is neither a text nor a picture: give one of them, or both.",
            Refused,
        )
        with self.lock:
            if self.closed:
                raise Refused("The demo is ending.", 503)
            path = self.pictures / NAME
            try:
                if picture is not None:
                    path.write_bytes(picture)
                chunk = self.encoder.encode([Post(1, text, "" if picture is None else NAME)])
                chunk, answer = answer_chunk(chunk, self.model, self.encoder)
                if isinstance(problem := chunk.outcome[0], Problem):
                    raise Refused(f"{problem.kind.capitalize()}: {problem.detail}.")
                facts = record(self.model, chunk.kept[0], answer, 0)
                return {k: v for k, v in facts.items() if k not in ("row", "id")}
            finally:
                path.unlink(missing_ok=True)
                for cache in self.encoder.caches.values():  # features tell about a post, too
                    shutil.rmtree(cache.folder, ignore_errors=True)

    def warm_up(self) -> None:
        """Load both networks, so that the first post does not wait for them."""
        grey = BytesIO()
        Image.new("RGB", (8, 8), "grey").save(grey, "PNG")
        for text, picture in (("hello", None), ("", grey.getvalue())):
            if ("text" if text else "image") in self.model.modalities:
                self.answer(text, picture)

    def close(self) -> None:
        """Wait for the post in work, and answer no other."""
        with self.lock:
            self.closed = True


@contextmanager
def opened(model_folder: Path | str, device: str | None = None) -> Iterator[Demo]:
    """Give a Demo of a model folder; whatever it writes lies in a folder that only this user can
    open, and goes.

    Raises ModelUnusable, and what the encoders raise.
    """
    with TemporaryDirectory(prefix="mmtutor-demo-", ignore_cleanup_errors=True) as private:
        pictures = Path(private) / "pictures"
        pictures.mkdir()
        encoder = PostEncoder(pictures, device, cache=Path(private) / "features")
        model, _ = folder.load(model_folder, encoder)
        demo = Demo(Path(model_folder).resolve().name, model, encoder, pictures)
        try:
            yield demo
        finally:
            demo.close()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Make the end of the terminal, and `kill`, end the demo as Ctrl-C does, so that its private
    folder goes."""
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        names = []  # only the main thread may say what signals do
    before = {
        name: signal.signal(getattr(signal, name), signal.default_int_handler) for name in names
    }
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def serve(model_folder: Path | str, *, port: int = 7860, device: str | None = None) -> int:
    """Serve the page until Ctrl-C; return 0 then. Port 0 takes a free one; the address is printed
    once all is loaded.

    Raises OSError where the port cannot be taken, ModelUnusable for a folder that is no whole
    model.
    """
    with _ended_by_signals(), opened(model_folder, device) as demo, Server(demo, port) as server:
        demo.warm_up()
        print(f"open http://{ADDRESS}:{server.server_port} (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nthe demo has ended; nothing of the posts was kept", flush=True)
    return 0
