"""Where samples come from: `load(name)` returns a Dataset; `store` finds, downloads and verifies real ones.

Importing this package imports no torch and no numpy: the site builder reads the manifests through `mmtutor.data.store`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mmtutor.data.catalogue import UnknownDataset

if TYPE_CHECKING:
    from mmtutor.data.dataset import Dataset

_LOADERS = {
    "oasis": ("oasis", "load"),
    "mvsa": ("mvsa", "load"),
    "digits": ("digits", "load"),
    "redundant": ("worlds", "redundant"),
    "unique": ("worlds", "unique"),
    "complement": ("worlds", "complement"),
    "synergy": ("worlds", "synergy"),
}


def names() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return tuple(_LOADERS)


def load(name: str, **options: Any) -> Dataset:
    """Return the data set `name`: real ("oasis", "mvsa"), composed ("digits") or generated (the four worlds).

    `options` are those of the set's own function, e.g. `load("oasis", captions="machine")` or `load("synergy", n=500)`.
    A world is returned as `mmtutor.data.worlds.World`, which has the same attributes and closed forms besides.
    Raises UnknownDataset (a ValueError) listing the known names; TypeError for an option that the set does not have;
    `store.DatasetUnavailable` or `store.DatasetCorrupt` for a real set that cannot be had or differs.
    """
    if name not in _LOADERS:
        raise UnknownDataset(f"unknown data set {name!r}; known: {', '.join(_LOADERS)}")
    module, function = _LOADERS[name]
    return getattr(importlib.import_module(f"mmtutor.data.{module}"), function)(**options)
