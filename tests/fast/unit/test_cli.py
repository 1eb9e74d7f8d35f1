import subprocess
import sys

import pytest

from mmtutor import cli
from mmtutor.files import store


def test_doctor_finds_packages_weights_and_voice(capsys):
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    for word in (
        "torch",
        "scikit-fuzzy",
        "efficientnet-lite0",
        "minilm",
        "espeak-ng",
        "device",
        "oasis",
    ):
        assert word in said
    assert "MISSING" not in said


def test_doctor_reports_altered_weights_and_goes_on(capsys, monkeypatch):
    import mmtutor.encoders.text

    def broken(name, device):
        raise RuntimeError(f"{name}: sha256 differs")

    monkeypatch.setattr(mmtutor.encoders.text, "TextEncoder", broken)
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "MISSING  minilm" in said and "sha256 differs" in said and "ok       espeak-ng" in said


@pytest.mark.parametrize(
    ("module", "row", "others"),
    [
        ("transformers", "minilm", ("efficientnet-lite0", "espeak-ng")),
        ("mmtutor.speech", "espeak-ng", ("efficientnet-lite0", "minilm")),
    ],
)
def test_doctor_reports_what_cannot_be_imported_and_goes_on(
    module, row, others, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, None)
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert [
        line.split("  ")[1].strip() for line in said.splitlines() if line.startswith("MISSING")
    ] == [row]
    assert module in said and all(f"ok       {other}" in said for other in others)


def test_doctor_reports_a_damaged_list_of_sets_and_goes_on(capsys, monkeypatch):
    def damaged():
        raise store.DatasetCorrupt("manifest oasis.json is damaged")

    monkeypatch.setattr(cli, "list_sets", damaged)
    assert cli.main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "MISSING  list of data sets" in printed and "oasis.json" in printed
    assert "ok       espeak-ng" in printed


def test_doctor_without_torch_is_a_table_and_not_a_traceback():
    """In a process of its own, since libraries that once failed to import torch stay broken."""
    script = (
        "import sys; sys.modules['torch'] = None; from mmtutor import cli;"
        " sys.exit(cli.main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for row in ("device", "efficientnet-lite0", "minilm", "espeak-ng"):
        assert f"MISSING  {row}" in done.stdout
    assert "oasis" in done.stdout  # the list of data sets needs no torch


def test_data_list_names_every_set(capsys):
    assert cli.main(["data", "list"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in store.names())


def test_an_unknown_set_names_the_known_ones(capsys):
    assert cli.main(["data", "get", "oassis"]) == 2
    said = capsys.readouterr().err
    assert "oassis" in said and "mvsa" in said


def test_a_restricted_set_is_not_fetched_without_consent(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("MMTUTOR_DATA", raising=False)
    monkeypatch.delenv("MMTUTOR_ACCEPT_LICENCE", raising=False)
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path))
    assert cli.main(["data", "get", "oasis"]) == 1
    said = capsys.readouterr().err
    assert "--accept-licence" in said and "MB" in said
    assert not list(tmp_path.rglob("*.jpg"))


def test_a_wrong_call_exits_with_two(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["data"])
    assert stop.value.code == 2
