"""Heads here are fitted on one thread, as `train` does."""

from __future__ import annotations

import pytest

from mmtutor.device import one_thread


@pytest.fixture(scope="module", autouse=True)
def small_models_on_one_thread():
    """On several threads these tiny heads take thirty times as long."""
    with one_thread():
        yield
