"""Where samples come from: `load(name)` returns a Dataset; `store` finds, downloads and verifies
real ones.

Importing this package imports no torch and no numpy: the site builder reads the manifests through
`mmtutor.files.store`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mmtutor.files.manifest import UnknownDataset

if TYPE_CHECKING:
    from mmtutor.data.dataset import Dataset

WORLD_NAMES = ("redundant", "unique", "complement", "synergy", "mixture")
"""The generated worlds. Each is a function of `mmtutor.data.worlds`, which needs torch; their names
do not."""

_MODULES = {"oasis": "oasis", "mvsa": "mvsa", "digits": "digits"} | dict.fromkeys(
    WORLD_NAMES, "worlds"
)

_OTHERS = ("kitti", "phone_drive")
"""Sets that are not tables of labelled samples: each has a loader of its own in `mmtutor.data`."""


def names() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return tuple(_MODULES)


def load(name: str, **options: Any) -> Dataset:
    """Return the data set `name`: real ("oasis", "mvsa"), composed ("digits") or generated (the
    worlds).

    `options` are those of the set's own function, e.g. `load("oasis", captions="machine")` or
    `load("synergy", n=500)`. A world has its closed forms in the card; for the `World` itself,
    which can draw new samples and knows the exact posterior, call its function in
    `mmtutor.data.worlds`.
    Raises UnknownDataset (a ValueError) listing the known names; TypeError for an option that the
    set does not have; `store.DatasetUnavailable` or `store.DatasetCorrupt` for a real set that
    cannot be had or differs.
    """
    if name in _OTHERS:
        raise UnknownDataset(
            f"{name!r} is not a table of labelled samples: call mmtutor.data.{name}.load() for it"
        )
    if name not in _MODULES:
        raise UnknownDataset(f"unknown data set {name!r}; known: {', '.join(_MODULES)}")
    module = importlib.import_module(f"mmtutor.data.{_MODULES[name]}")
    return module.load(name, **options) if name in WORLD_NAMES else module.load(**options)
