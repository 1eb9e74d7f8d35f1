"""Every test here writes into its own cache folder; networks are loaded once per session."""

from __future__ import annotations

import pytest

from mmtutor.encoders import ImageEncoder, TextEncoder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Point MMTUTOR_CACHE to an empty folder."""
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def image_encoder():
    """The packaged image encoder, small pictures, no cache."""
    encoder = ImageEncoder(device="cpu", cache=False, image_size=64)
    assert encoder.model is not None
    return encoder


@pytest.fixture(scope="session")
def text_encoder():
    """The packaged text encoder, no cache."""
    encoder = TextEncoder(device="cpu", cache=False)
    assert encoder.model is not None
    return encoder
