"""From raw signals to vectors: a frozen pretrained network per modality, its features cached by
content.

Every encoder has `.name`, `.dim` and `.encode(samples) -> Tensor (N, D)`. The classes are imported
on first use: asking for one modality does not load the libraries of the others.
Taught in chapter 2.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmtutor.encoders.audio import AudioEncoder
    from mmtutor.encoders.image import ImageEncoder
    from mmtutor.encoders.text import TextEncoder
    from mmtutor.files.weights import EncoderUnavailable

_HOME = {
    "AudioEncoder": "encoders.audio",
    "EncoderUnavailable": "files.weights",
    "ImageEncoder": "encoders.image",
    "TextEncoder": "encoders.text",
}

__all__ = ["AudioEncoder", "EncoderUnavailable", "ImageEncoder", "TextEncoder"]


def __getattr__(name: str) -> Any:
    """Import the module that holds `name` when it is asked for."""
    if name not in _HOME:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}; it has {', '.join(sorted(_HOME))}"
        )
    return getattr(import_module(f"mmtutor.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """List the encoders for tab completion."""
    return sorted({*globals(), *_HOME})
