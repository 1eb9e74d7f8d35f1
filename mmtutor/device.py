"""Where to compute: one rule for encoders and training. Taught in chapter 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator


def pick_device(device: str | torch.device | None) -> torch.device:
    """Return the device asked for, or with None the best there is: CUDA, else Apple's, else the
    processor.

    Raises ValueError for a name torch does not know, RuntimeError for a device that this machine
    does not have.
    """
    if device is None:
        available = {"cuda": torch.cuda, "mps": torch.backends.mps}
        return torch.device(next((k for k, v in available.items() if v.is_available()), "cpu"))
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"unknown device {device!r}: use 'cpu', 'cuda', 'cuda:1', 'mps' or None"
        ) from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise RuntimeError(
            f"device {str(chosen)!r} was asked for, but torch {torch.__version__} sees"
            f" {torch.cuda.device_count()} CUDA devices. Use device=None or 'cpu', or install a"
            " CUDA build of torch and its driver."
        )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise RuntimeError(
            "device 'mps' was asked for, but this machine has no Apple GPU. Use device=None or"
            " 'cpu'."
        )
    return chosen


def make_accelerator(device: str | None, mixed: bool = True) -> Accelerator:
    """Return an Accelerator on `device` (None: the best there is); mixed: bf16 on CUDA, full
    precision elsewhere.

    Raises as `pick_device`, and ValueError for one of several GPUs: which it is is for `torchrun`
    to say.
    """
    # not at the top: encoders ask for a device only, and start faster without it
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if device not in (None, "cpu", "cuda", "mps"):  # which of several GPUs is for `torchrun` to say
        raise ValueError(f"device is {device!r}, expected None, 'cpu', 'cuda' or 'mps'")
    kind = pick_device(device).type
    # Accelerate keeps one state per process, device and precision included; each fit chooses anew
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=kind == "cpu", mixed_precision="bf16" if mixed and kind == "cuda" else "no"
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Run a block on one processor thread: small models are slower on several, and far slower on a
    busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
