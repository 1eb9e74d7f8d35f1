"""The store: lookup order, verification, consent, and downloads from a server that behaves well or
badly."""

from __future__ import annotations

import builtins
import hashlib
import io
import json
import os
import pickle
import re
import subprocess
import sys
from functools import partial
from urllib.parse import quote

import pytest

from mmbook.cards import card_markdown
from mmtutor import cli
from mmtutor.files import checking, store
from mmtutor.files import manifest as packaged

# Published beside the data: the sha256 of each manifest, as its authors wrote it (indent 1).
from tests.source import DOG, spoil, tiny, tree

PUBLISHED = {
    "oasis": "9df0f4be8109c52bc617d1b8679a3c8810224eac857cedc1de5f778dec78d44d",
    "fsdd": "348a3faa4f091be2db6d802007a5a4d73a050ae7666b6c08bd6f1bae138eb63e",
    "ham10000": "3067a8a13e99423b60348f6710eba1854589e1b25407fabb8acaf947cfc02d26",
    "kitti": "27326abcf90bc2274f4b11049569c468c69eb7ffcfe5419a3538df6580a3e992",
    "mvsa": "c95596a9a3551c6e7dd467490db0f1ef80f05a4080519b48034d033e7a68f21c",
    "phone_drive": "370bc3bc29d2fb17ca320b52e7b759c5e591bbf7bdcc49f4369ab8c1f84facdb",
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
    for source, told in zip(data.sources, stated["sources"], strict=True):
        assert vars(source).items() <= told.items()
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
        " store\nprint(len([store.manifest(n) for n in store.names()]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(len(PUBLISHED))


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_packaged_manifest_names_each_file_once_with_its_sha256(name):
    files = packaged_json(name)["files"]
    # Two names that differ in case only are one file on Windows and macOS: the second would
    # overwrite the first.
    assert len({file["path"].casefold() for file in files}) == len(files)
    assert all(re.fullmatch(r"[0-9a-f]{64}", file["sha256"]) for file in files)


@pytest.mark.parametrize("change", ["source", "field"])
def test_malformed_manifest_is_refused(make_set, change):
    data = make_set()
    if change == "source":
        data["files"][0]["source_index"] = 1
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


@pytest.mark.parametrize("how", ["missing", "truncated", "altered", "link"])
def test_differing_file_is_named_with_what_to_do(make_set, lay_out, home, how):
    make_set()
    message = spoil(lay_out(home), how)
    for look in (store.find, store.fetch, partial(store.find, every=True)):
        with pytest.raises(store.DatasetCorrupt, match=f"(?s){message}.*mmtutor data get tiny"):
            look(tiny())


def test_verify_names_every_differing_file(make_set, lay_out, home):
    make_set()
    folder = lay_out(home)
    spoil(folder, "altered")
    (folder / "table.csv").unlink()
    with pytest.raises(store.DatasetCorrupt) as error:
        store.find(tiny(), every=True)
    assert "Dog 1.jpg has sha256" in str(error.value) and "table.csv is missing" in str(error.value)


def test_same_size_and_restored_time_do_not_deceive(make_set, lay_out, home):
    make_set()
    path = lay_out(home) / DOG
    store.find(tiny())
    before = path.stat()
    path.write_bytes(b"F" + path.read_bytes()[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(store.DatasetCorrupt, match=r"Dog 1\.jpg"):
        store.find(tiny())


def test_set_is_found_where_no_cache_can_be_written(make_set, lay_out, tmp_path, monkeypatch):
    make_set()
    monkeypatch.setenv("MMTUTOR_DATA", str(tmp_path / "mirror"))
    folder = lay_out(tmp_path / "mirror")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "file" / "cache"))
    assert store.find(tiny()) == folder


# --- consent


def test_set_on_this_machine_needs_no_consent(make_set, lay_out, home):
    make_set(commercial_use=False)
    folder = lay_out(home)
    assert store.fetch(tiny()) == folder


# --- download


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
            patch.setattr(builtins, "__IPYTHON__", True, raising=False)
            if not notebook:  # another test may have left it
                patch.delattr(builtins, "__IPYTHON__")
            for wanted in (True, False):
                with checking.progress_bar(100, f"wanted {wanted}", wanted) as bar:
                    bar.update(50)
        assert {key for key, text in streams.items() if "wanted True:  50%" in text.getvalue()} == {
            stream
        } - {None}
        assert not any("wanted False" in text.getvalue() for text in streams.values())


def test_no_network_says_what_the_set_is_and_how_to_get_it(make_set, home):
    make_set("http://127.0.0.1:9/", commercial_use=False, licence="CC BY-NC 4.0")
    with pytest.raises(store.DatasetUnavailable) as error:
        store.fetch(tiny(), accept_licence=True)
    assert error.value.reason.startswith("no connection to 127.0.0.1:9")
    for part in (
        "'tiny'",
        "0.1 MB",
        "CC BY-NC 4.0",
        "mmtutor data get tiny --accept-licence",
        "MMTUTOR_DATA",
    ):
        assert part in str(error.value)
    assert not tree(home / "tiny" / "partial") and not (home / "tiny" / "files").exists()


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
    card = card_markdown(tiny())
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
    card, data = card_markdown(store.manifest(name)), packaged_json(name)
    assert f"| samples | {data['n']} |" in card and "see the fields" not in card
    assert ("never show a sample" in card) == (name == "mvsa")
    assert all(source["commit"] in card for source in data["sources"])
    assert all(f"| `{field}` |" in card for field in data["fields"])


def test_a_mistyped_mirror_is_told_and_not_passed_over(tmp_path, monkeypatch):
    """Else every set would be "not on this machine", and nobody would look at the variable."""
    monkeypatch.setenv("MMTUTOR_DATA", str(tmp_path / "mirro"))
    with pytest.raises(store.DatasetUnavailable, match=r"mirro.*No such file.*set MMTUTOR_DATA"):
        store.locate(store.manifest("oasis"))
    assert cli.presence(store.manifest("oasis")) == "unreadable"
