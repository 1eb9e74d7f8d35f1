"""The store: lookup order, verification, consent, and downloads from a server that behaves well or
badly."""

from __future__ import annotations

import builtins
import hashlib
import io
import json
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from mmtutor import cli as commands
from mmtutor.files import checking, store
from mmtutor.files import manifest as packaged

# Published beside the data: the sha256 of each manifest, as its authors wrote it (indent 1).
PUBLISHED = {
    "oasis": "9df0f4be8109c52bc617d1b8679a3c8810224eac857cedc1de5f778dec78d44d",
    "fsdd": "348a3faa4f091be2db6d802007a5a4d73a050ae7666b6c08bd6f1bae138eb63e",
    "ham10000": "3067a8a13e99423b60348f6710eba1854589e1b25407fabb8acaf947cfc02d26",
    "kitti": "27326abcf90bc2274f4b11049569c468c69eb7ffcfe5419a3538df6580a3e992",
    "mvsa": "c95596a9a3551c6e7dd467490db0f1ef80f05a4080519b48034d033e7a68f21c",
    "phone_drive": "370bc3bc29d2fb17ca320b52e7b759c5e591bbf7bdcc49f4369ab8c1f84facdb",
}
DOG = "images/Dog 1.jpg"


def tiny() -> store.Manifest:
    return store.manifest("tiny")


def tree(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


# --- the packaged manifests
# -------------------------------------------------------------------------------------


def packaged_json(name: str) -> dict:
    return json.loads((packaged.FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_manifest_object_holds_what_the_file_states(name):
    data, stated = store.manifest(name), packaged_json(name)
    card = data.facts()
    assert card.keys() == stated.keys() - {"files"} | {
        "bytes",
        "n_files",
        "do_not_display",
        "subset_rule",
    }
    for key in stated.keys() - {"files", "sources"}:
        assert card[key] == stated[key]
    assert [vars(source) for source in data.sources] == stated["sources"]
    for file, entry in zip(data.files, stated["files"], strict=True):
        base = stated["sources"][entry["source_index"]]["raw_url_base"]
        assert (file.path, file.sha256, file.bytes) == (
            entry["path"],
            entry["sha256"],
            entry["bytes"],
        )
        assert file.url == base + quote(entry["source_path"])
    assert (card["bytes"], card["n_files"]) == (data.total_bytes, len(data.files))


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_packaged_manifest_has_the_published_sha256(name):
    text = json.dumps(packaged_json(name), indent=1, ensure_ascii=False)
    digests = {hashlib.sha256((text + end).encode()).hexdigest() for end in ("", "\n")}
    assert PUBLISHED[name] in digests


def test_every_published_set_is_packaged():
    assert set(store.names()) == set(PUBLISHED)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_packaged_manifest_equals_the_mirrors(name):
    root = store.mirror_root()
    if root is None or not (root / name / "manifest.json").is_file():
        pytest.skip(f"data set {name}: MMTUTOR_DATA has no manifest of it to compare with")
    assert packaged_json(name) == json.loads(
        (root / name / "manifest.json").read_text(encoding="utf-8")
    )


def test_store_needs_the_standard_library_only():
    script = (
        "import sys\nfor name in ('torch', 'numpy', 'pandas', 'pooch', 'requests', 'tqdm',"
        " 'platformdirs', 'filelock'):\n    sys.modules[name] = None\nfrom mmtutor.files import"
        " store\nprint(len([store.card_markdown(store.manifest(n)) for n in store.names()]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(len(PUBLISHED))


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


@pytest.mark.parametrize("change", ["twice", "case", "digest", "source", "field"])
def test_malformed_manifest_is_refused(make_set, change):
    data = make_set()
    first = data["files"][0]
    if change in ("twice", "case"):
        data["files"].append(
            {**first, "path": first["path"] if change == "twice" else first["path"].upper()}
        )
    elif change == "digest":
        first["sha256"] = "abc"
    elif change == "source":
        first["source_index"] = 1
    else:
        del data["licence"]
    (packaged.FOLDER / "tiny.json").write_text(json.dumps(data), encoding="utf-8")
    packaged._read.cache_clear()
    with pytest.raises(store.DatasetCorrupt, match=r"tiny\.json"):
        tiny()


def test_unknown_set_lists_the_known_ones():
    with pytest.raises(
        ValueError, match="unknown data set 'oases'; known: fsdd, ham10000, kitti, mvsa, oasis"
    ):
        store.manifest("oases")


# --- where a set is looked for
# ----------------------------------------------------------------------------------


def test_mirror_comes_before_cache_before_download(
    make_set, source, home, lay_out, tmp_path, monkeypatch, content
):
    make_set(source.base)
    downloaded = store.fetch(tiny())
    assert downloaded == home / "tiny" / "files" and sum(source.asked.values()) == len(content)
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
        store.DatasetCorrupt, match=r"Dog 1\.jpg has 3 bytes, expected 52000.*unset MMTUTOR_DATA"
    ):
        store.fetch(tiny(), accept_licence=True, repair=True)
    assert tree(tmp_path / "mirror") == before and not source.asked


def test_relative_mirror_gives_absolute_paths(make_set, lay_out, tmp_path, monkeypatch):
    make_set()
    lay_out(tmp_path / "mirror")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMTUTOR_DATA", "mirror")
    assert store.find(tiny()) == tmp_path / "mirror" / "tiny" / "files"


def test_cache_root_follows_the_variable_else_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "here"))
    assert store.cache_root() == tmp_path / "here"
    monkeypatch.delenv("MMTUTOR_CACHE")
    assert store.cache_root().name == "mmtutor" or store.cache_root().parent.name == "mmtutor"


# --- verification
# -----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("how", ["missing", "truncated", "altered", "link"])
def test_differing_file_is_named_with_what_to_do(make_set, lay_out, home, how):
    make_set()
    message = spoil(lay_out(home), how)
    for look in (store.find, store.fetch, store.verify):
        with pytest.raises(store.DatasetCorrupt, match=f"(?s){message}.*mmtutor data get tiny"):
            look(tiny())


@pytest.mark.parametrize("how", ["missing", "truncated", "altered", "link"])
def test_get_mends_a_cached_set_by_the_bad_file_alone(
    make_set, source, lay_out, home, how, content
):
    make_set(source.base)
    folder = lay_out(home)
    spoil(folder, how)
    assert store.fetch(tiny(), repair=True) == folder
    assert tree(folder) == content and source.asked == {quote(DOG): 1}


def test_verify_names_every_differing_file(make_set, lay_out, home):
    make_set()
    folder = lay_out(home)
    spoil(folder, "altered")
    (folder / "table.csv").unlink()
    with pytest.raises(store.DatasetCorrupt) as error:
        store.verify(tiny())
    assert "Dog 1.jpg has sha256" in str(error.value) and "table.csv is missing" in str(error.value)


def test_folder_that_leads_elsewhere_is_refused(make_set, source, lay_out, home, tmp_path, content):
    make_set(source.base)
    folder = lay_out(home)
    outside = tmp_path / "outside"
    (folder / "images").rename(outside)
    (folder / "images").symlink_to(outside)
    for look in (store.find, store.verify):
        with pytest.raises(store.DatasetCorrupt, match=r"images leads out of"):
            look(tiny())
    (outside / "Dog 1.jpg").write_bytes(b"mine")
    assert (
        tree(store.fetch(tiny(), repair=True)) == content
    )  # the link is replaced, what it led to is left alone
    assert (outside / "Dog 1.jpg").read_bytes() == b"mine"


def test_download_does_not_write_through_a_link(make_set, source, home, tmp_path):
    make_set(source.base)
    (tmp_path / "outside").mkdir()
    (home / "tiny").mkdir(parents=True)
    (home / "tiny" / "partial").symlink_to(tmp_path / "outside")
    with pytest.raises(store.DatasetCorrupt, match="is a link"):
        store.fetch(tiny())
    assert not tree(tmp_path / "outside") and not source.asked


@pytest.fixture
def hashed(monkeypatch):
    """Counts how many files are read for their hash."""
    read: list[str] = []
    content = checking._content
    monkeypatch.setattr(
        checking,
        "_content",
        lambda entry, folder: (read.append(entry.path), content(entry, folder))[1],
    )
    monkeypatch.setattr(checking, "_SETTLED_NS", 0)
    return read


def test_unchanged_files_are_hashed_once_across_processes(make_set, lay_out, home, hashed):
    make_set()
    folder = lay_out(home)
    time.sleep(0.05)
    store.find(tiny())
    assert len(hashed) == 3
    store.find(tiny())
    store.verify(tiny())  # asked for by name: hashes whatever is known
    assert len(hashed) == 6
    os.utime(folder / DOG, ns=(1, 1))
    store.find(tiny())
    assert len(hashed) == 9


def test_same_size_and_restored_time_do_not_deceive_the_stamp(make_set, lay_out, home, hashed):
    make_set()
    path = lay_out(home) / DOG
    time.sleep(0.05)
    store.find(tiny())
    before = path.stat()
    path.write_bytes(b"F" + path.read_bytes()[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(store.DatasetCorrupt, match=r"Dog 1\.jpg"):
        store.find(tiny())


def test_new_manifest_voids_the_stamp(make_set, lay_out, home, hashed):
    make_set()
    lay_out(home)
    time.sleep(0.05)
    store.find(tiny())
    make_set(version="2")
    store.find(tiny())
    assert len(hashed) == 6


def test_files_changed_a_moment_ago_are_not_taken_on_trust(
    make_set, lay_out, home, hashed, monkeypatch
):
    monkeypatch.setattr(checking, "_SETTLED_NS", 3_000_000_000)
    make_set()
    lay_out(home)
    store.find(tiny())
    store.find(tiny())
    assert len(hashed) == 6


def test_set_is_found_where_no_stamp_can_be_written(
    make_set, lay_out, tmp_path, monkeypatch, hashed
):
    make_set()
    monkeypatch.setenv("MMTUTOR_DATA", str(tmp_path / "mirror"))
    folder = lay_out(tmp_path / "mirror")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "file" / "cache"))
    time.sleep(0.05)
    assert store.find(tiny()) == folder


# --- consent


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


def test_set_on_this_machine_needs_no_consent(make_set, lay_out, home):
    make_set(commercial_use=False)
    folder = lay_out(home)
    assert store.fetch(tiny()) == folder


# --- download


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
            r"the connection to 127.* broke while reading images/Dog 1\.jpg",
        ),
        (404, store.DatasetUnavailable, r"answered 404 for images/Dog 1\.jpg"),
        (500, store.DatasetUnavailable, r"answered 500 for images/Dog 1\.jpg"),
        ("alter", store.DatasetCorrupt, r"sent another images/Dog 1\.jpg than the manifest names"),
        ("longer", store.DatasetCorrupt, r"images/Dog 1\.jpg .*more than the expected 52000 bytes"),
    ],
)
def test_bad_source_leaves_nothing_half_written_and_resumes(
    make_set, source, home, monkeypatch, fault, error, message, content
):
    monkeypatch.setattr(
        "mmtutor.files.download.THREADS", 1
    )  # in the manifest's order: the table, then the bad file
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


def test_bar_shows_where_someone_watches_and_never_on_a_notebooks_stderr(monkeypatch):
    for notebook, terminal, stream in [
        (False, True, "err"),
        (False, False, None),
        (True, False, "out"),
    ]:
        streams = {"out": io.StringIO(), "err": io.StringIO()}
        streams["err"].isatty = lambda terminal=terminal: terminal
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", streams["out"])
            patch.setattr(sys, "stderr", streams["err"])
            if notebook:
                patch.setattr(builtins, "__IPYTHON__", True, raising=False)
            for wanted in (True, False):
                with checking.progress_bar(100, f"wanted {wanted}", wanted) as bar:
                    bar.update(50)
        assert {key for key, text in streams.items() if "wanted True:  50%" in text.getvalue()} == {
            stream
        } - {None}
        assert not any("wanted False" in text.getvalue() for text in streams.values())


def test_retry_gets_over_a_passing_fault(make_set, source, monkeypatch, content):
    monkeypatch.setattr("mmtutor.files.download.RETRIES", 1)
    make_set(source.base)
    source.faults[quote(DOG)] = "truncate"
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: source.faults.clear())
    assert tree(store.fetch(tiny())) == content


def test_no_network_says_what_the_set_is_and_how_to_get_it(make_set, home):
    make_set("http://127.0.0.1:9/", commercial_use=False, licence="CC BY-NC 4.0")
    with pytest.raises(store.DatasetUnavailable) as error:
        store.fetch(tiny(), accept_licence=True)
    assert error.value.reason.startswith("no connection to 127.0.0.1:9 (is there a network?)")
    for part in (
        "'tiny'",
        "0.1 MB",
        "CC BY-NC 4.0",
        "mmtutor data get tiny --accept-licence",
        "MMTUTOR_DATA",
    ):
        assert part in str(error.value)
    assert not tree(home / "tiny" / "partial") and not (home / "tiny" / "files").exists()


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
    monkeypatch.setattr(
        packaged, "names", lambda: ("tiny",)
    )  # without rights the test's manifests cannot be listed
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
    ends = [process.communicate(timeout=60) for process in processes]
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
        deadline = time.monotonic() + 30
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


# --- errors and cards
# -------------------------------------------------------------------------------------------


def test_unavailable_survives_the_way_to_another_process():
    error = pickle.loads(pickle.dumps(store.manifest("oasis").unavailable("no network")))
    assert error.reason == "no network" and "Open Affective" in str(error)


def test_card_tells_what_a_reader_must_know(make_set):
    data = make_set(
        commercial_use=False,
        do_not_display=True,
        notes="See <guid> and a_b at https://example.org/a_b.",
    )
    card = store.card_markdown(tiny())
    lines = card.splitlines()
    assert lines[:2] == ["(card-tiny)=", "## A tiny set"]
    assert (
        "| samples | 2 |" in lines
        and "| commercial use | no |" in lines
        and "| licence | CC0 1.0 |" in lines
    )
    assert (
        f"[nobody/tiny](https://github.com/nobody/tiny/tree/{data['sources'][0]['commit']})" in card
    )
    assert "| `tag` | yes or no \\| never both |" in lines and "never show a sample" in card
    assert "See &lt;guid&gt; and a\\_b at <https://example.org/a_b>." in card


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_card_of_each_set_states_its_manifest(name):
    card, data = store.card_markdown(store.manifest(name)), packaged_json(name)
    assert f"| samples | {data['n']} |" in card and "see the fields" not in card
    assert ("never show a sample" in card) == (name == "mvsa")
    assert all(source["commit"] in card for source in data["sources"])
    assert all(f"| `{field}` |" in card for field in data["fields"])
