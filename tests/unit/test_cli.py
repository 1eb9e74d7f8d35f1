import pytest

from mmtutor import cli
from mmtutor.data import store


def test_doctor_finds_packages_weights_and_voice(capsys):
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    for word in ("torch", "efficientnet-lite0", "minilm", "espeak-ng", "device", "oasis"):
        assert word in said
    assert "MISSING" not in said


def test_doctor_reports_altered_weights_and_goes_on(capsys, monkeypatch):
    import mmtutor.encoders

    def broken(name, device):
        raise RuntimeError(f"{name}: sha256 differs")

    monkeypatch.setattr(mmtutor.encoders, "TextEncoder", broken, raising=False)
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "MISSING  minilm" in said and "sha256 differs" in said and "ok       espeak-ng" in said


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
