"""`mmtutor data list | get | verify`, and `load`, as a person meets them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mmtutor import cli as commands
from mmtutor.data import load, names
from mmtutor.files import store

pytestmark = pytest.mark.usefixtures("own_cache")


def row(table: str, name: str) -> str:
    return next(line for line in table.splitlines() if line.startswith(name))


def test_list_tells_size_licence_and_that_nothing_is_here(home):
    table = commands.list_sets()
    assert row(table, "mvsa").split() == ["mvsa", "2000", "87.0", "unknown", "no", "not", "stated"]
    assert row(table, "fsdd").split()[:5] == ["fsdd", "3000", "21.1", "yes", "no"]
    assert {line.split()[0] for line in table.splitlines()[2:]} == set(store.names())
    assert max(len(line) for line in table.splitlines()) <= 120


def test_list_tells_where_a_set_is(make_set, lay_out, home, tmp_path, monkeypatch):
    make_set()
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("MMTUTOR_DATA", str(tmp_path / "mirror"))
    assert commands.presence(store.manifest("tiny")) == "no"
    (home / "tiny" / "partial").mkdir(parents=True)
    assert commands.presence(store.manifest("tiny")) == "no"  # a try that got nothing
    (home / "tiny" / "partial" / "table.csv").write_bytes(b"id")
    assert commands.presence(store.manifest("tiny")) == "no (download begun)"
    lay_out(home)
    assert commands.presence(store.manifest("tiny")) == "cache"
    folder = lay_out(tmp_path / "mirror")
    assert commands.presence(store.manifest("tiny")) == "MMTUTOR_DATA"
    (folder / "table.csv").write_bytes(b"")
    assert commands.presence(store.manifest("tiny")) == "MMTUTOR_DATA, incomplete"
    assert "MMTUTOR_DATA, incomplete" in row(commands.list_sets(), "tiny")


def test_get_downloads_and_says_where_and_under_what_terms(make_set, source, home, capsys):
    make_set(source.base)
    commands.get("tiny")
    printed = capsys.readouterr()
    assert f"tiny: 0.1 MB in 3 files, verified, in {home / 'tiny' / 'files'}" in printed.out
    assert "licence: CC0 1.0" in printed.out and "cite: Nobody" in printed.out and printed.err == ""


def test_get_mends_what_verify_finds(make_set, source, lay_out, home, capsys):
    make_set(source.base)
    folder = lay_out(home)
    assert commands.verify(["tiny"]) == 0
    (folder / "table.csv").write_bytes(b"")
    assert commands.verify(["tiny"]) == 1
    assert "table.csv has 0 bytes, expected 13" in capsys.readouterr().err
    commands.get("tiny")
    assert commands.verify(["tiny"]) == commands.verify() == 0


@pytest.mark.parametrize("command", [commands.get, lambda name: commands.verify(["fsdd", name])])
def test_unknown_set_lists_the_known_names_before_anything_is_done(command, capsys):
    with pytest.raises(
        store.UnknownDataset, match="known: fsdd, ham10000, kitti, mvsa, oasis, phone_drive"
    ):
        command("oases")
    assert capsys.readouterr().out == ""


def test_get_without_consent_says_what_to_type(home):
    with pytest.raises(store.DatasetUnavailable, match="mmtutor data get oasis --accept-licence"):
        commands.get("oasis")


@pytest.mark.parametrize(("name", "status"), [("oasis", 1), ("oases", 2)])
def test_command_line_ends_with_a_status_of_its_own(home, name, status):
    command = [sys.executable, "-m", "mmtutor.cli", "data", "get", name]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == status and name in done.stderr and "Traceback" not in done.stderr


def test_verify_of_an_absent_set_fails_and_hides_nothing_of_the_others(
    make_set, lay_out, home, capsys, monkeypatch
):
    make_set()
    assert commands.main(["data", "verify"]) == 1
    assert "no data set is on this machine" in capsys.readouterr().err
    assert commands.verify(["tiny"]) == 1 and "it is not on this machine" in capsys.readouterr().err
    folder = lay_out(home)
    monkeypatch.setattr(store, "locate", lambda data: next(looks))
    looks = iter([None, folder, folder])
    assert commands.verify(["tiny", "tiny"]) == 1
    printed = capsys.readouterr()
    assert "tiny: every file matches" in printed.out and "not on this machine" in printed.err


def test_load_of_an_unknown_name_lists_the_known_ones():
    known = "redundant, unique, complement, synergy, mixture, oasis, mvsa, digits, fsdd, ham10000"
    with pytest.raises(store.UnknownDataset, match=f"unknown data set 'oases'; known: {known}"):
        load("oases")


def test_load_knows_every_packaged_set():
    assert set(store.names()) <= set(names())


@pytest.mark.parametrize("name", sorted({*store.names()} - {"fsdd"}))  # which needs no consent
def test_a_set_that_cannot_be_had_says_how_to_get_it(name, home, monkeypatch):
    monkeypatch.setattr("mmtutor.files.download.download", lambda *_: pytest.fail("a download"))
    with pytest.raises(store.DatasetUnavailable, match=f"mmtutor data get {name}"):
        load(name)


def test_load_of_an_unknown_option_names_it():
    with pytest.raises(TypeError, match="caption"):
        load("oasis", caption="human")


def test_importing_the_room_imports_no_torch():
    script = (
        "import sys; import mmtutor.data, mmtutor.cli; print(sorted({'torch', 'numpy'} &"
        " set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
