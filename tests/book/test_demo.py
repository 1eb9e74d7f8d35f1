"""The demo's server: it answers as `predict_one` does, to this machine's own page only, and keeps
nothing of a post."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import skimage.data
import torch
from PIL import Image

from mmtutor.apps import cli, commands, demo, folder
from mmtutor.apps.classifier import SentimentModel
from mmtutor.apps.features import PostEncoder
from mmtutor.choosing.heads import OpinionCalibration, heads_of, new_head

CLASSES = ("negative", "neutral & <b>plain</b>", "positive")
DIMS = {"text": 384, "image": 1280}
TEXT = "What a lovely cup of coffee!"


def small_model(
    path: Path, method: str = "early", modalities: tuple[str, ...] = ("text", "image")
) -> Path:
    """A model folder with random heads: no post was needed to make it, and all its answers
    differ."""
    g = torch.Generator().manual_seed(0)
    heads = {}
    for name, reads in heads_of(modalities).items():
        if name in modalities or name == method:
            heads[name] = new_head({m: DIMS[m] for m in reads}, len(CLASSES))
            for m, layer in heads[name].fusion.project.items():
                layer.weight.data = (
                    torch.randn(layer.weight.shape, generator=g) * {"text": 1.5, "image": 0.05}[m]
                )
    calibrations = {name: OpinionCalibration(1.0, (0.0, 0.0, 0.0)) for name in {*heads, method}}
    model = SentimentModel(CLASSES, method, heads, calibrations, (0.5, 0.3, 0.2))
    return folder.save(
        model, PostEncoder(None, "cpu", cache=path.parent / "unused"), {}, "<p></p>", path
    )


def picture_bytes(kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(skimage.data.coffee()).save(file, kind)
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to unpack to width × height pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@contextmanager
def running(tried: demo.Demo) -> Iterator[int]:
    """Serve a demo in a thread; gives the port."""
    with demo.Server(tried, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    return small_model(tmp_path_factory.mktemp("demo") / "tiny")


@pytest.fixture(scope="module")
def tried(model_folder) -> Iterator[demo.Demo]:
    with demo.opened(model_folder, "cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def port(tried) -> Iterator[int]:
    with running(tried) as port:
        yield port


def ask(
    port: int, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request(
            method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


def post(port: int, content: object, **headers: str) -> tuple[int, dict]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    status, got, reply = ask(
        port, "POST", "/predict", body, **{"Content_Type": "application/json"} | headers
    )
    assert got["Content-Type"].startswith("application/json")
    return status, json.loads(reply)


def base(content: bytes) -> str:
    return base64.b64encode(content).decode()


def kept(tried: demo.Demo) -> list[Path]:
    """Every file that the demo has on disk."""
    return [path for path in tried.pictures.parent.rglob("*") if path.is_file()]


# answers
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [("text",), ("image",), ("text", "image")], ids=" and ".join)
def test_it_answers_as_predict_one_does(port, tried, model_folder, tmp_path, parts):
    (tmp_path / "coffee.jpg").write_bytes(picture_bytes())
    text = TEXT if "text" in parts else ""
    image = tmp_path / "coffee.jpg" if "image" in parts else None
    status, said = post(
        port, {"text": text, "picture": base(image.read_bytes()) if image else None}
    )
    assert status == 200
    options = commands.Options(device="cpu", cache=tmp_path / "cache")
    assert said == commands.predict_one(model_folder, text, image, options)
    assert said["answered_by"] == ("early" if len(parts) == 2 else parts[0])
    assert all((said["contributions"][m] != 0) == (m in parts) for m in ("text", "image"))
    assert kept(tried) == []


@pytest.mark.parametrize("text", ["咖啡很好喝", "قهوة رائعة", "☕️ " * 40, "word " * 5000])
def test_any_language_and_length_is_answered(port, text):
    status, said = post(port, {"text": text})
    assert status == 200 and sum(said["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_usual_kinds_of_pictures_are_answered(port, kind):
    assert post(port, {"picture": base(picture_bytes(kind))})[0] == 200


def test_posts_at_once_are_answered_one_after_the_other(port):
    posts = [{"text": TEXT, "picture": base(picture_bytes())}, {"text": "I hate rain."}] * 3
    alone = [post(port, each) for each in posts[:2]] * 3
    together: list = [None] * len(posts)

    def work(i: int) -> None:
        together[i] = post(port, posts[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(posts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone and alone[0][0] == 200


def test_only_one_post_is_in_work_at_a_time(tried, monkeypatch):
    inside, most = [0], [0]
    encode = PostEncoder.encode

    def watched(self, *arguments):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.05)
        inside[0] -= 1
        return encode(self, *arguments)

    monkeypatch.setattr(PostEncoder, "encode", watched)
    threads = [threading.Thread(target=tried.answer, args=(TEXT, None)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_a_model_without_pictures_says_so(tmp_path):
    with demo.opened(small_model(tmp_path / "text", "text", ("text",)), "cpu") as tried:
        tried.warm_up()
        assert tried.facts()["modalities"] == ["text"]
        assert tried.answer(TEXT, picture_bytes())["contributions"]["image"] == 0
        with pytest.raises(demo.Refused, match="trained without any image"):
            tried.answer("", picture_bytes())


def test_model_and_page_are_served(port):
    status, headers, body = ask(port, "GET", "/model")
    facts = json.loads(body)
    assert status == 200 and facts["name"] == "tiny" and facts["method"] == "early"
    assert facts["shares"] == dict(zip(CLASSES, (0.5, 0.3, 0.2), strict=True))
    for path, kind in (
        ("/", "text/html"),
        ("/?a=b", "text/html"),
        ("/demo.css", "text/css"),
        ("/demo.js", "text/java"),
    ):
        status, headers, body = ask(port, "GET", path)
        assert status == 200 and headers["Content-Type"].startswith(kind) and len(body) > 1000
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


# what is refused
# -------------------------------------------------------------------------------------------------

FAULTY = {
    "empty post": ({"text": " \n", "picture": None}, "neither a text nor a picture"),
    "nothing": ({}, "neither a text nor a picture"),
    "no JSON": (b'{"text": ', "no JSON"),
    "no UTF-8": (b'{"text": "\xff"}', "no JSON"),
    "nested": (b"[" * 100_000, "no JSON"),
    "a list": ([1], "JSON object"),
    "another name": ({"text": "a", "path": "/etc/passwd"}, "nothing else"),
    "text is a number": ({"text": 3}, '"text" must be a string'),
    "picture is a list": ({"picture": [1]}, '"picture" a string'),
    "text too long": ({"text": "a" * 100_001}, "100,001 characters, the limit is 100,000"),
    "NUL": ({"text": "a\0b"}, "character '\\x00'"),
    "half a character": (b'{"text": "\\ud83d"}', "character '\\ud83d'"),
    "no base64": ({"picture": "*"}, "no base64"),
    "letters that are no base64": ({"picture": "é"}, "no base64"),
    "empty picture": ({"picture": ""}, "Corrupt picture: the picture: no readable picture"),
    "no picture": (
        {"picture": base(b"hello")},
        "Corrupt picture: the picture: no readable picture",
    ),
    "cut off": (
        {"text": TEXT, "picture": base(picture_bytes()[:5000])},
        "Corrupt picture: the picture: ",
    ),
    "bomb": (
        {"picture": base(bomb(10_000, 9_000))},
        "Picture too large: the picture has 10000 × 9000 pixels",
    ),
    "big bomb": ({"picture": base(bomb(60_000, 60_000))}, "more pixels than is safe"),
    "PostScript": (
        {"picture": base(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")},
        "Corrupt picture",
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_faulty_posts_are_named_and_the_server_goes_on(port, tried, name):
    content, words = FAULTY[name]
    status, said = post(port, content)
    assert status == 400
    assert set(said) == {"error"} and words in said["error"]
    assert str(tried.pictures) not in said["error"]
    assert kept(tried) == []
    assert post(port, {"text": TEXT})[0] == 200


def test_what_no_one_foresaw_is_told_and_the_server_goes_on(port, tried, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(tried.encoder, "encode", lambda posts: 1 / 0)
        status, said = post(port, {"picture": base(picture_bytes())})
    assert (
        status == 500
        and "ZeroDivisionError" in said["error"]
        and "ZeroDivisionError" in capsys.readouterr().err
    )
    assert kept(tried) == []
    assert post(port, {"text": TEXT})[0] == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_what_a_form_of_another_site_can_send_is_refused(port, kind):
    status, said = post(port, {"text": TEXT}, Content_Type=kind)
    assert status == 415 and "application/json" in said["error"]


def test_pages_of_other_sites_are_refused(port):
    for origin in (
        "https://evil.example",
        "null",
        f"http://localhost:{port}",
        f"https://127.0.0.1:{port}",
        "http://127.0.0.1:1",
    ):
        status, said = post(port, {"text": TEXT}, Origin=origin)
        assert status == 403 and "another site" in said["error"]
    assert post(port, {"text": TEXT}, Origin=f"http://127.0.0.1:{port}")[0] == 200
    assert post(port, {"text": TEXT}, Origin="http://localhost:9", Host="localhost:9")[0] == 200
    assert ask(port, "OPTIONS", "/predict", Origin="https://evil.example")[0] == 501


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{}",
        "127.0.0.1.evil.example",
        "localhost.evil:{}",
        "evil.example@127.0.0.1",
        "127.0.0.1:",
        "0.0.0.0:{}",
        "",
    ],
)
def test_names_that_were_pointed_here_are_refused(port, host):
    for method, path, body in (
        ("GET", "/", None),
        ("GET", "/model", None),
        ("POST", "/predict", b'{"text": "a"}'),
    ):
        status, _, reply = ask(
            port, method, path, body, Host=host.format(port), Content_Type="application/json"
        )
        assert status == 403 and b"localhost and 127.0.0.1 only" in reply


@pytest.mark.parametrize("hosts", [[], ["127.0.0.1", "evil.example"]])
def test_exactly_one_host_must_be_named(port, hosts):
    with socket.create_connection(("127.0.0.1", port), timeout=300) as connection:
        connection.sendall(
            b"GET / HTTP/1.1\r\n" + b"".join(b"Host: %s\r\n" % h.encode() for h in hosts) + b"\r\n"
        )
        assert connection.makefile("rb").readline().split()[1] == b"403"


def test_bodies_that_are_too_large_are_refused(port, tried):
    status, said = post(port, b" " * 30_000_001)
    assert status == 413 and "at most 22 MB" in said["error"]
    status, said = post(port, {"picture": base(bytes(22_000_001))})
    assert status == 413 and "the limit is 22 MB" in said["error"]
    status, said = post(port, {"picture": base(bytes(22_000_000)), "text": "\U0001f600" * 50_000})
    assert status == 400 and "no readable picture" in said["error"]  # it was read, all of it
    assert kept(tried) == []


def test_a_body_needs_a_length(port):
    for length in ("", "-1", "1e3", "9" * 40):
        with socket.create_connection(("127.0.0.1", port), timeout=300) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
                + f"Content-Length: {length}\r\n\r\n".encode()
            )
            assert connection.makefile("rb").readline().split()[1] == b"411"


def test_addresses_that_are_not_there(port):
    for method, path in (
        ("GET", "/favicon.ico"),
        ("GET", "/../demo.py"),
        ("GET", "/predict"),
        ("POST", "/"),
        ("GET", "/demo.py"),
    ):
        status, _, body = ask(port, method, path, b"{}", Content_Type="application/json")
        assert status == 404 and "There is no such" in json.loads(body)["error"]


# what is kept, and who can reach it
# --------------------------------------------------------------------------------


def test_a_post_is_on_disk_only_while_it_is_read(tried, monkeypatch):
    seen = []
    answer = demo.answer_chunk

    def look(*arguments):
        seen.extend(kept(tried))
        return answer(*arguments)

    monkeypatch.setattr(demo, "answer_chunk", look)
    tried.answer(TEXT, picture_bytes())
    assert tried.pictures / demo.NAME in seen and len(seen) > 1  # the picture, and features
    assert kept(tried) == []
    if os.name == "posix":
        assert stat.S_IMODE(tried.pictures.parent.stat().st_mode) == 0o700


def test_the_private_folder_goes(model_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with demo.opened(model_folder, "cpu") as tried:
        tried.answer(TEXT, None)
        assert tried.pictures.is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(demo.Refused, match="ending"):
        tried.answer(TEXT, None)
    assert list(tmp_path.iterdir()) == []


def test_it_listens_on_this_machine_only(tried):
    with demo.Server(tried, 0) as server:
        assert server.socket.getsockname()[0] == "127.0.0.1"


def test_ports_that_cannot_be_had(tried):
    with demo.Server(tried, 0) as server:
        taken = server.server_port
        with pytest.raises(OSError, match=rf"port {taken} cannot be taken \(.*in use.*--port"):
            demo.Server(tried, taken)
    with pytest.raises(ValueError, match="the port is 70000, expected 1 to 65535"):
        demo.Server(tried, 70000)


def run_demo(*arguments: str, **changes: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "mmtutor.cli", "demo", *arguments, "--device", "cpu"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | changes
    )


@pytest.fixture
def interruptible():
    """Make Ctrl-C reach programs that a test starts, also where a shell put the tests behind it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGINT for another process")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_command_serves_until_it_is_interrupted(model_folder, tmp_path, sign):
    with run_demo(str(model_folder), "--port", "0", TMPDIR=str(tmp_path)) as process:
        try:
            port = int(
                re.fullmatch(r"open http://127\.0\.0\.1:(\d+) .*\n", process.stdout.readline())[1]
            )
            assert post(port, {"text": TEXT})[0] == 200
            assert len(list(tmp_path.glob("mmtutor-demo-*"))) == 1
            process.send_signal(sign)
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")
    assert "nothing of the posts was kept" in out
    assert list(tmp_path.glob("mmtutor-demo-*")) == []


def test_command_fails_in_words(tried, model_folder, tmp_path, capsys):
    import argparse

    def run(model: Path, port: int) -> int:
        return cli.run(
            argparse.Namespace(command="demo", model=str(model), port=port, device="cpu")
        )

    with demo.Server(tried, 0) as server:
        assert run(model_folder, server.server_port) == 1
        assert f"port {server.server_port} cannot be taken" in capsys.readouterr().err
    assert run(tmp_path / "none", 0) == 1
    assert "is no folder" in capsys.readouterr().err
