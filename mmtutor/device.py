"""Where to compute: one rule for encoders and training."""

from __future__ import annotations

import torch


def pick_device(device: str | torch.device | None) -> torch.device:
    """Return the device asked for, or with None the best there is: CUDA, else Apple's, else the processor.

    Raises ValueError for a name torch does not know, RuntimeError for a device that this machine does not have.
    """
    if device is None:
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}: use 'cpu', 'cuda', 'cuda:1', 'mps' or None") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise RuntimeError(
            f"device {str(chosen)!r} was asked for, but torch {torch.__version__} sees {torch.cuda.device_count()} "
            "CUDA devices. Use device=None or 'cpu', or install a CUDA build of torch and its driver."
        )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise RuntimeError("device 'mps' was asked for, but this machine has no Apple GPU. Use device=None or 'cpu'.")
    return chosen
