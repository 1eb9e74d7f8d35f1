"""Where things are computed: the choice of a device, and that one choice does not bind the next."""

from __future__ import annotations

import pytest
import torch

from mmtutor import device


def machine(monkeypatch: pytest.MonkeyPatch, cuda: int = 0, mps: bool = False) -> None:
    """Pretend that this machine has so many CUDA devices, and Apple's or not."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("has", "best"),
    [({"cuda": 1, "mps": True}, "cuda"), ({"mps": True}, "mps"), ({}, "cpu")],
)
def test_the_best_device_there_is(monkeypatch, has, best):
    machine(monkeypatch, **has)
    assert device.pick_device(None) == torch.device(best)


def test_a_device_that_is_asked_for_is_taken_or_refused(monkeypatch):
    machine(monkeypatch, cuda=2)
    assert device.pick_device("cpu") == torch.device("cpu")
    assert device.pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(RuntimeError, match=r"'cuda:2' was asked for, but torch .* sees 2 CUDA"):
        device.pick_device("cuda:2")
    with pytest.raises(RuntimeError, match="'mps' was asked for, but this machine has no Apple"):
        device.pick_device("mps")
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        device.pick_device("gpu")


def test_one_choice_does_not_bind_the_next(monkeypatch):
    """Accelerate would keep the first device of a process; "meta" stands for a GPU here."""
    assert device.make_accelerator("cpu").device.type == "cpu"
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(device, "pick_device", lambda _: torch.device("meta"))
        elsewhere.setenv("ACCELERATE_TORCH_DEVICE", "meta")
        assert device.make_accelerator(None).device.type == "meta"
    assert device.make_accelerator("cpu").device.type == "cpu"


def test_half_precision_is_for_cuda_alone(monkeypatch):
    assert device.make_accelerator("cpu").mixed_precision == "no"
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(device, "pick_device", lambda _: torch.device("mps"))
        elsewhere.setenv("ACCELERATE_TORCH_DEVICE", "meta")
        assert device.make_accelerator(None).mixed_precision == "no"
    device.make_accelerator("cpu")
