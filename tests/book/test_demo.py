"""The demo's server: it answers as `predict` does, to this machine's own page only, and keeps
nothing of what it was shown."""

from __future__ import annotations

import argparse
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
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from mmtutor.apps import cli, commands, demo
from mmtutor.apps.encoding import RowEncoder
from tests.posts import CLASSES, SKIES, tone

TEXT = "What a lovely cup of coffee!"
SOUND = tone(1200, np.random.default_rng(7))


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
    server = demo.server_of(tried, 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.port
    server.shutdown()
    thread.join()


@pytest.fixture(scope="module")
def tried(posts_model, tmp_path_factory) -> demo.Demo:
    return demo.Demo(posts_model, tmp_path_factory.mktemp("home"), "cpu")


@pytest.fixture(scope="module")
def port(tried) -> Iterator[int]:
    with running(tried) as port:
        yield port


@pytest.fixture(scope="module")
def heard(sounds_model, tmp_path_factory) -> demo.Demo:
    return demo.Demo(sounds_model, tmp_path_factory.mktemp("home"), "cpu")


@pytest.fixture(scope="module")
def sounds_port(heard) -> Iterator[int]:
    with running(heard) as port:
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
    """All that the demo has on disk."""
    return list(tried.private.parent.rglob("*"))


# answers
# -------------------------------------------------------------------------------------------------


def predicted(model_folder: Path, folder: Path, cells: dict[str, str]) -> dict:
    """What `predict` says about one row of a table."""
    options = commands.Options(folder=folder, device="cpu", cache=folder / "cache", progress=False)
    return next(commands.predict(model_folder, [cells], options))


@pytest.mark.parametrize("parts", [("text",), ("image",), ("text", "image")], ids=" and ".join)
def test_it_answers_as_predict_does(port, tried, posts_model, tmp_path, parts):
    (tmp_path / "coffee.jpg").write_bytes(picture_bytes())
    row = {"text": TEXT, "image": base(picture_bytes())}
    cells = {"text": TEXT, "image": "coffee.jpg"}
    status, said = post(port, {"image": None} | {m: row[m] for m in parts})
    assert status == 200
    said.pop("remarks")
    empty = dict.fromkeys(cells, "")
    assert said == predicted(posts_model, tmp_path, empty | {m: cells[m] for m in parts})
    assert said["answered_by"] == " + ".join(parts)
    assert set(said["probabilities"]) == set(CLASSES)
    assert all((said["contributions"][m] != 0) == (m in parts) for m in ("text", "image"))
    assert kept(tried) == []


SAMPLE = {
    "audio": base(SOUND),
    "numbers": {"weight": "7.5", "age & size": ""},
    "categories": {"sky": SKIES[0]},
}


@pytest.mark.parametrize(
    "parts", [("audio",), ("numbers",), ("categories",), tuple(SAMPLE)], ids=" and ".join
)
def test_it_tells_a_number_as_predict_does(sounds_port, heard, sounds_model, tmp_path, parts):
    (tmp_path / "a.wav").write_bytes(SOUND)
    cells = {"tone": "a.wav", "weight": "7.5", "age & size": "", "sky": SKIES[0]}
    read = {"audio": ("tone",), "numbers": ("weight",), "categories": ("sky",)}
    status, said = post(sounds_port, {m: SAMPLE[m] for m in parts})
    assert status == 200 and said.pop("remarks") == []
    told = {column: cells[column] for m in parts for column in read[m]}
    assert said == predicted(sounds_model, tmp_path, dict.fromkeys(cells, "") | told)
    assert said["answered_by"] == " + ".join(parts)
    low, high = said["interval"]
    assert low < said["label"] < high
    mean = json.loads(ask(sounds_port, "GET", "/model")[2])["mean"]
    assert sum(said["contributions"].values()) == pytest.approx(said["label"] - mean, abs=1e-4)
    assert kept(heard) == []


def test_what_is_odd_about_a_row_is_told_and_forgotten(port, sounds_port):
    assert "cut" in post(port, {"text": "word " * 5000})[1]["remarks"][0]
    remarks = post(sounds_port, {"numbers": {"weight": "1"}, "categories": {"sky": "hail"}})[1]
    assert "'hail' in 'sky', a category that was not learnt" in remarks["remarks"][0]
    for _ in range(2):
        assert post(port, {"text": TEXT})[1]["remarks"] == []
        assert post(sounds_port, {"numbers": {"weight": "1"}})[1]["remarks"] == []


@pytest.mark.parametrize("text", ["咖啡很好喝", "قهوة رائعة", "☕️ " * 40, "word " * 5000])
def test_any_language_and_length_is_answered(port, text):
    status, said = post(port, {"text": text})
    assert status == 200 and sum(said["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_usual_kinds_of_pictures_are_answered(port, kind):
    assert post(port, {"image": base(picture_bytes(kind))})[0] == 200


def test_posts_at_once_are_answered_one_after_the_other(port):
    posts = [{"text": TEXT, "image": base(picture_bytes())}, {"text": "I hate rain."}] * 3
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
    encode = RowEncoder.encode

    def watched(self, *arguments):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.05)
        inside[0] -= 1
        return encode(self, *arguments)

    monkeypatch.setattr(RowEncoder, "encode", watched)
    threads = [threading.Thread(target=tried.answer, args=({"text": TEXT},)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_models_and_page_are_served(port, sounds_port):
    facts = json.loads(ask(port, "GET", "/model")[2])
    assert facts["name"] == "tiny" and facts["modalities"] == ["text", "image"]
    assert facts["classes"] == list(CLASSES) and facts["target"] is None
    assert facts["shares"] == pytest.approx(dict.fromkeys(CLASSES, 1 / 3))
    assert facts["decision"] == "balanced"
    facts = json.loads(ask(sounds_port, "GET", "/model")[2])
    assert facts["name"] == "prices" and facts["modalities"] == ["audio", "numbers", "categories"]
    assert facts["numbers"] == ["weight", "age & size"]
    assert facts["categories"] == {"sky": list(SKIES)}
    assert facts["classes"] == [] and facts["target"] == "price" and 150 < facts["mean"] < 200
    for path, kind in (
        ("/", "text/html"),
        ("/?a=b", "text/html"),
        ("/demo.css", "text/css"),
        ("/demo.js", "text/javascript"),
    ):
        status, headers, body = ask(port, "GET", path)
        assert status == 200 and headers["Content-Type"].startswith(kind) and len(body) > 1000


def test_every_answer_forbids_what_the_page_does_not_need(port):
    for method, path, host in (
        ("GET", "/", "localhost"),
        ("GET", "/none", "localhost"),
        ("POST", "/predict", "localhost"),
        ("GET", "/", "evil.example"),
    ):
        _, headers, _ = ask(port, method, path, b"{}", Host=host)
        assert headers["Content-Security-Policy"].startswith(
            "default-src 'none'; script-src 'self'"
        )
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers


# what is refused
# -------------------------------------------------------------------------------------------------

JSON = "Expected JSON with text (a string), image (base64 or null), and nothing else."
FAULTY = {
    "empty row": ({"text": " \n", "image": None}, "it has no text and no image"),
    "nothing": ({}, "it has no text and no image"),
    "no JSON": (b'{"text": ', JSON),
    "no UTF-8": (b'{"text": "\xff"}', JSON),
    "nested": (b"[" * 100_000, "nested too deeply"),
    "a list": ([1], JSON),
    "another name": ({"text": "a", "path": "/etc/passwd"}, JSON),
    "a modality it does not read": ({"text": "a", "audio": base(b"a")}, JSON),
    "text is a number": ({"text": 3}, JSON),
    "text is nothing": ({"text": None}, JSON),
    "picture is a list": ({"image": [1]}, JSON),
    "text too long": ({"text": "a" * 100_001}, "a string of at most 100,000 characters"),
    "NUL": ({"text": "a\0b"}, "character '\\x00'"),
    "half a character": (b'{"text": "\\ud83d"}', "character '\\ud83d'"),
    "no base64": ({"image": "*"}, "No base64: the picture: "),
    "letters that are no base64": ({"image": "é"}, "No base64: the picture: "),
    "empty picture": ({"image": ""}, "Unreadable picture (image): the picture: "),
    "no picture": ({"image": base(b"hello")}, "Unreadable picture (image): the picture: "),
    "cut off": (
        {"text": TEXT, "image": base(picture_bytes()[:5000])},
        "Unreadable picture (image): the picture: ",
    ),
    "bomb": ({"image": base(bomb(10_000, 9_000))}, "Unreadable picture (image): the picture: "),
    "big bomb": (
        {"image": base(bomb(60_000, 60_000))},
        "Image size (3600000000 pixels) exceeds limit",
    ),
    "large file": ({"image": base(bytes(20_500_000))}, "the limit is 20 MB"),
    "PostScript": (
        {"image": base(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")},
        "Unreadable picture",
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_faulty_rows_are_named_and_the_server_goes_on(port, tried, name):
    content, words = FAULTY[name]
    status, said = post(port, content)
    assert status == 400
    assert set(said) == {"error"} and words in said["error"]
    assert str(tried.private.parent) not in said["error"]
    assert kept(tried) == []
    assert post(port, {"text": TEXT})[0] == 200


COLUMN = "must be a column that the model reads, with a string of at most 100,000 characters"
FAULTY_CELLS = {
    "no sound": ({"audio": base(b"hello")}, "Unreadable sound (tone): the sound: "),
    "cut off": ({"audio": base(SOUND[:20])}, "Unreadable sound (tone): the sound: "),
    "no number": ({"numbers": {"weight": "heavy"}}, "Not a number (weight): 'heavy'"),
    "infinite": ({"numbers": {"weight": "inf"}}, "Not a number (weight): 'inf'"),
    "another column": ({"numbers": {"height": "3"}}, f"'height' {COLUMN}"),
    "a number": ({"numbers": {"weight": 3}}, f"'weight' {COLUMN}"),
    "a list": ({"numbers": ["3"]}, "numbers (column: string), categories (column: string), and"),
    "nothing": ({"categories": None}, "Expected JSON with audio (base64 or null), numbers"),
    "a list of words": ({"categories": {"sky": ["sun"]}}, f"'sky' {COLUMN}"),
}


@pytest.mark.parametrize("name", FAULTY_CELLS)
def test_faulty_cells_are_named_and_the_server_goes_on(sounds_port, heard, name):
    content, words = FAULTY_CELLS[name]
    status, said = post(sounds_port, content)
    assert status == 400
    assert set(said) == {"error"} and words in said["error"]
    assert kept(heard) == []
    assert post(sounds_port, SAMPLE)[0] == 200


def test_what_no_one_foresaw_is_told_and_the_server_goes_on(port, tried, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(tried.encoder, "encode", lambda rows: 1 / 0)
        status, said = post(port, {"image": base(picture_bytes())})
    assert status == 500 and "error in the application" in said["error"]
    assert "ZeroDivisionError" in caplog.text
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
    assert ask(port, "OPTIONS", "/predict", Origin="https://evil.example")[0] == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{}",
        "127.0.0.1.evil.example",
        "localhost.evil:{}",
        "evil.example@127.0.0.1",
        "127.0.0.1, evil.example",
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
        assert status == 400 and b"is not trusted" in reply


def test_no_second_host_can_be_named(port):
    with socket.create_connection(("127.0.0.1", port), timeout=300) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n")
        assert connection.makefile("rb").readline().split()[1] == b"400"


def test_bodies_that_are_too_large_are_refused(port, tried):
    status, said = post(port, b" " * 60_000_001)
    assert status == 413 and "exceeds the capacity limit" in said["error"]
    status, said = post(port, {"image": base(bytes(20_000_000)), "text": "\U0001f600" * 50_000})
    assert status == 400 and "Unreadable picture" in said["error"]  # it was read, all of it
    assert kept(tried) == []


@pytest.mark.parametrize("length", ["", "-1", "1e3", "9" * 40])
def test_a_length_that_is_none_is_refused(port, length):
    with socket.create_connection(("127.0.0.1", port), timeout=300) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {length}\r\n\r\n".encode()
        )
        assert connection.makefile("rb").readline().split()[1] in (b"400", b"413")


def test_addresses_that_are_not_there(port):
    for method, path, expected in (
        ("GET", "/favicon.ico", 404),
        ("GET", "/../demo.py", 404),
        ("GET", "/demo.py", 404),
        ("GET", "/demo.html", 404),
        ("GET", "/static/demo.py", 404),
        ("GET", "/predict", 405),
        ("POST", "/", 405),
    ):
        status, _, body = ask(port, method, path, b"{}", Content_Type="application/json")
        assert status == expected and set(json.loads(body)) == {"error"}


# what is kept, and who can reach it
# --------------------------------------------------------------------------------


def test_a_row_is_on_disk_only_while_it_is_read(tried, monkeypatch):
    seen = []
    record = commands.record

    def look(*arguments):
        seen.extend(kept(tried))
        return record(*arguments)

    monkeypatch.setattr(commands, "record", look)
    tried.answer({"text": TEXT, "image": base(picture_bytes())})
    assert tried.private / "the picture" in seen
    assert any(path.suffix == ".sqlite" for path in seen)  # features
    assert kept(tried) == []


def test_once_its_folder_is_gone_nothing_is_read(posts_model, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    tried = demo.Demo(posts_model, home, "cpu")
    tried.private.rmdir()
    home.rmdir()
    with pytest.raises(demo.refused.ServiceUnavailable, match="ending"):
        tried.answer({"text": TEXT})
    assert not home.exists()


def test_it_listens_on_this_machine_only(tried):
    server = demo.server_of(tried, 0)
    assert server.socket.getsockname()[0] == "127.0.0.1"
    server.server_close()


def run_demo(*arguments: str, **changes: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "mmtutor.cli", "demo", *arguments, "--device", "cpu"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | changes
    )


@pytest.fixture
def signals():
    """Make Ctrl-C reach programs that a test starts, also where a shell put the tests behind it;
    leave all signals as they were."""
    numbers = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGINT for another process")
@pytest.mark.parametrize("sign", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_command_serves_until_it_is_interrupted(posts_model, tmp_path, sign):
    with run_demo(str(posts_model), "--port", "0", TMPDIR=str(tmp_path)) as process:
        try:
            port = int(
                re.fullmatch(r"open http://127\.0\.0\.1:(\d+) .*\n", process.stdout.readline())[1]
            )
            assert post(port, {"text": TEXT})[0] == 200
            (home,) = tmp_path.glob("mmtutor-demo-*")
            assert stat.S_IMODE(home.stat().st_mode) == 0o700 and list(home.iterdir()) == []
            process.send_signal(getattr(signal, sign))
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")
    assert "nothing of what it was shown was kept" in out
    assert list(tmp_path.glob("mmtutor-demo-*")) == []


@pytest.mark.usefixtures("signals")
def test_command_fails_in_words(tried, posts_model, tmp_path, capsys):
    def run(model: Path, port: int) -> int:
        words = {"command": "demo", "model": str(model), "port": port, "device": "cpu"}
        return cli.run(argparse.Namespace(**words))

    assert run(tmp_path / "none", 0) == 1
    assert "is no folder" in capsys.readouterr().err
    assert run(posts_model, 70000) == 1
    assert "the port is 70000, expected 1 to 65535" in capsys.readouterr().err
    server = demo.server_of(tried, 0)
    with pytest.raises(SystemExit) as ended:
        run(posts_model, server.port)
    server.server_close()
    assert ended.value.code == 1
    assert f"Port {server.port} is in use by another program" in capsys.readouterr().err
