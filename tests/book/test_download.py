"""Fetching a set from a server: only what is listed, whole or not at all, and with consent."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from functools import partial
from urllib.parse import quote

import pytest

from mmtutor import cli as commands
from mmtutor.files import manifest as packaged
from mmtutor.files import store

# Published beside the data: the sha256 of each manifest, as its authors wrote it (indent 1).
from tests.source import DOG, spoil, tiny, tree


@pytest.mark.parametrize(
    "path",
    ["/etc/x", "../x", "a/../../x", "C:/x", "c:x", "a\\..\\x", "a//x", "./x", "", "a/", "x\0y"],
)
def test_manifest_path_that_leaves_the_folder_is_refused(make_set, source, home, path, content):
    body = content["table.csv"]
    digest = hashlib.sha256(body).hexdigest()
    source.content["x"] = body
    make_set(
        source.base,
        files=[
            {
                "path": path,
                "sha256": digest,
                "bytes": len(body),
                "source_index": 0,
                "source_path": "x",
            }
        ],
    )
    with pytest.raises(store.DatasetCorrupt, match="is refused: expected a plain path"):
        store.fetch(tiny())
    assert not source.asked and not home.exists()


def test_mirror_comes_before_cache_before_download(
    make_set, source, home, lay_out, tmp_path, monkeypatch, content
):
    make_set(source.base)
    downloaded = store.fetch(tiny())
    assert downloaded == home / "tiny" / "files" and sum(source.asked.values()) == len(content)
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("MMTUTOR_DATA", str(tmp_path / "mirror"))
    assert store.fetch(tiny()) == downloaded
    in_mirror = lay_out(tmp_path / "mirror")
    assert store.fetch(tiny()) == store.find(tiny()) == in_mirror
    assert sum(source.asked.values()) == len(content)


def test_find_never_downloads(make_set, source, home):
    make_set(source.base)
    with pytest.raises(store.DatasetUnavailable, match=r"it is not on this machine"):
        store.find(tiny())
    assert not source.asked and not home.exists()


def test_differing_mirror_is_refused_and_never_written(
    make_set, source, lay_out, tmp_path, monkeypatch
):
    make_set(source.base)
    folder = lay_out(tmp_path / "mirror")
    (folder / DOG).write_bytes(b"cat")
    before = tree(tmp_path / "mirror")
    monkeypatch.setenv("MMTUTOR_DATA", str(tmp_path / "mirror"))
    with pytest.raises(
        store.DatasetCorrupt,
        match=r"(?s)Dog 1\.jpg has 3 bytes, expected 52000.*unset MMTUTOR_DATA",
    ):
        store.fetch(tiny(), accept_licence=True, repair=True)
    assert tree(tmp_path / "mirror") == before and not source.asked


@pytest.mark.parametrize("how", ["missing", "truncated", "altered", "link"])
def test_get_mends_a_cached_set_by_the_bad_file_alone(
    make_set, source, lay_out, home, how, content
):
    make_set(source.base)
    folder = lay_out(home)
    spoil(folder, how)
    assert store.fetch(tiny(), repair=True) == folder
    assert tree(folder) == content and source.asked == {quote(DOG): 1}


def test_folder_that_leads_elsewhere_is_refused(make_set, source, lay_out, home, tmp_path, content):
    make_set(source.base)
    folder = lay_out(home)
    outside = tmp_path / "outside"
    (folder / "images").rename(outside)
    (folder / "images").symlink_to(outside)
    for look in (store.find, partial(store.find, every=True)):
        with pytest.raises(store.DatasetCorrupt, match=r"images leads out of"):
            look(tiny())
    (outside / "Dog 1.jpg").write_bytes(b"mine")
    # the link is replaced, what it led to is left alone
    assert tree(store.fetch(tiny(), repair=True)) == content
    assert (outside / "Dog 1.jpg").read_bytes() == b"mine"


def test_download_does_not_write_through_a_link(make_set, source, home, tmp_path):
    make_set(source.base)
    (tmp_path / "outside").mkdir()
    (home / "tiny").mkdir(parents=True)
    (home / "tiny" / "partial").symlink_to(tmp_path / "outside")
    with pytest.raises(store.DatasetCorrupt, match="is a link"):
        store.fetch(tiny())
    assert not tree(tmp_path / "outside") and not source.asked


def test_restricted_set_asks_for_consent(make_set, source, home):
    make_set(source.base, commercial_use="unknown", licence="not stated")
    with pytest.raises(store.DatasetUnavailable) as error:
        store.fetch(tiny())
    text = str(error.value)
    for part in (
        "not stated",
        "0.1 MB in 3 files",
        "nobody/tiny",
        "Nobody (2024)",
        "commercial use: unknown",
    ):
        assert part in text
    assert (
        "mmtutor data get tiny --accept-licence" in text
        and "MMTUTOR_ACCEPT_LICENCE=tiny" in error.value.reason
    )
    assert not source.asked and not home.exists()


@pytest.mark.parametrize("way", ["argument", "variable", "terminal"])
def test_consent_lets_the_download_begin(make_set, source, monkeypatch, capsys, way, content):
    make_set(source.base, commercial_use=False, licence="CC BY-NC 4.0")
    monkeypatch.setenv("MMTUTOR_ACCEPT_LICENCE", "oasis, tiny" if way == "variable" else "oasis")
    monkeypatch.setattr(store, "_interactive", lambda: way == "terminal")
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert tree(store.fetch(tiny(), accept_licence=way == "argument")) == content
    shown = capsys.readouterr().out
    expected = ["CC BY-NC 4.0", "commercial use: no", "0.1 MB", source.base, "Nobody (2024)"]
    assert all((part in shown) == (way == "terminal") for part in expected)


@pytest.mark.parametrize("answer", ["", "n", "maybe"])
def test_anything_but_yes_is_no(make_set, source, monkeypatch, answer):
    make_set(source.base, commercial_use=False)
    monkeypatch.setattr(store, "_interactive", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    with pytest.raises(store.DatasetUnavailable, match="its licence was not accepted"):
        store.fetch(tiny())
    assert not source.asked


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """One try only: pooch waits seconds between tries."""
    monkeypatch.setattr("mmtutor.files.download.RETRIES", 0)


def test_full_download_takes_exactly_the_listed_files(make_set, source, home, capfd, content):
    source.content["images/Excluded%201.jpg"] = b"never to be fetched"
    make_set(source.base)
    folder = store.fetch(tiny())
    assert tree(folder) == content and source.asked == {quote(path): 1 for path in content}
    assert sorted(path.name for path in (home / "tiny").iterdir()) in (
        ["files"],
        ["download.lock", "files"],
    )
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""  # no bar, no log lines where no one watches


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_downloaded_files_can_be_shared_by_a_class(make_set, source, content):
    make_set(source.base)
    assert {stat.S_IMODE((store.fetch(tiny()) / path).stat().st_mode) for path in content} == {
        0o644
    }


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (
            "truncate",
            store.DatasetUnavailable,
            r"no connection to 127.*, or one that broke, while reading images/Dog 1\.jpg",
        ),
        (404, store.DatasetUnavailable, r"answered 404 for images/Dog 1\.jpg"),
        (500, store.DatasetUnavailable, r"answered 500 for images/Dog 1\.jpg"),
        ("alter", store.DatasetCorrupt, r"sent another images/Dog 1\.jpg than the manifest names"),
        ("longer", store.DatasetCorrupt, r"sent another images/Dog 1\.jpg than the manifest names"),
    ],
)
def test_bad_source_leaves_nothing_half_written_and_resumes(
    make_set, source, home, monkeypatch, fault, error, message, content
):
    # in the manifest's order: the table, then the bad file
    monkeypatch.setattr("mmtutor.files.download.THREADS", 1)
    make_set(source.base)
    source.faults[quote(DOG)] = fault
    with pytest.raises(error, match=message):
        store.fetch(tiny())
    assert not (home / "tiny" / "files").exists()
    kept = tree(home / "tiny" / "partial")
    assert "table.csv" in kept and DOG not in kept and kept.items() <= content.items()
    with pytest.raises(store.DatasetUnavailable):
        store.find(tiny())  # what is there so far does not pass for the set
    source.faults.clear()
    assert tree(store.fetch(tiny())) == content
    assert source.asked["table.csv"] == 1 and source.asked[quote(DOG)] == 2


def test_retry_gets_over_a_passing_fault(make_set, source, monkeypatch, content):
    monkeypatch.setattr("mmtutor.files.download.RETRIES", 1)
    make_set(source.base)
    source.faults[quote(DOG)] = "truncate"
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: source.faults.clear())
    assert tree(store.fetch(tiny())) == content


def test_cache_that_cannot_be_written_is_named(make_set, source, tmp_path, monkeypatch):
    make_set(source.base)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        store.DatasetUnavailable, match=r"(?s)cannot write to the cache folder.*set MMTUTOR_CACHE"
    ):
        store.fetch(tiny())
    assert not source.asked


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="needs rights to lay down, that is, root",
)
@pytest.mark.parametrize(
    ("mode", "message"), [(0o755, "cannot write to the cache folder"), (0o700, "cannot look into")]
)
def test_cache_of_another_user_is_named(make_set, source, monkeypatch, mode, message):
    make_set(source.base)
    tiny()
    # without rights the test's manifests cannot be listed
    monkeypatch.setattr(packaged, "names", lambda: ("tiny",))
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, mode)
        monkeypatch.setenv("MMTUTOR_CACHE", folder)
        os.seteuid(65534)
        try:
            with pytest.raises(
                store.DatasetUnavailable, match=rf"(?s){message}.*Permission denied.*MMTUTOR_CACHE"
            ):
                store.fetch(tiny())
            assert commands.presence(tiny()) == ("no" if mode == 0o755 else "unreadable")
        finally:
            os.seteuid(0)
    assert not source.asked


def fetch_in_another_process() -> subprocess.Popen[str]:
    script = (
        "import sys; from pathlib import Path; from mmtutor.files import manifest, store\n"
        "import mmtutor.files.download; print('begin', flush=True)\n"
        "manifest.FOLDER = Path(sys.argv[1]); print(store.fetch(store.manifest('tiny')))\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(packaged.FOLDER)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once_download_each_file_once(make_set, source, home, content):
    make_set(source.base)
    source.faults[quote(DOG)] = "slow"
    processes = [fetch_in_another_process() for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["begin\n"] * 2
    time.sleep(0.7)  # long enough for the second to ask for the files as well, were there no lock
    source.released.set()
    ends = [process.communicate(timeout=300) for process in processes]
    assert ends == [(f"{home / 'tiny' / 'files'}\n", "")] * 2
    assert tree(home / "tiny" / "files") == content and source.asked == {
        quote(path): 1 for path in content
    }


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_killed_download_is_taken_up_again(make_set, source, home, content):
    make_set(source.base)
    source.faults[quote(DOG)] = "hang"
    with fetch_in_another_process() as process:
        partial = home / "tiny" / "partial"
        deadline = time.monotonic() + 300
        while not (partial / "table.csv").exists() or not list(partial.glob("images/tmp*")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert list(partial.glob("images/tmp*"))  # half a file, under no final name
    assert not (partial / DOG).exists() and not (home / "tiny" / "files").exists()
    source.faults.clear()
    assert tree(store.fetch(tiny())) == content and source.asked["table.csv"] == 1


def test_both_an_old_copy_and_a_begun_download(make_set, source, lay_out, home, content):
    make_set(source.base)
    folder = lay_out(home)
    shutil.copytree(folder, home / "tiny" / "partial")
    (folder / DOG).write_bytes(b"")
    assert (
        tree(store.fetch(tiny(), repair=True)) == content
        and not (home / "tiny" / "partial").exists()
    )
