"""Where samples come from: `load(name)` returns a Dataset, real ones through `mmtutor.files`.

Importing this package imports no torch and no numpy. Taught in chapter 1.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from mmtutor.files.manifest import UnknownDataset
from mmtutor.files.store import fetched

if TYPE_CHECKING:
    from mmtutor.data.dataset import Dataset

WORLD_NAMES = ("redundant", "unique", "complement", "synergy", "mixture")
"""The generated worlds. Each is a function of `mmtutor.data.worlds`, which needs torch; their names
do not."""

_LOADERS = {name: f"worlds:{name}" for name in WORLD_NAMES} | {
    "oasis": "oasis:load",
    "mvsa": "mvsa:load",
    "digits": "digits:load",
    "fsdd": "fsdd:load",
    "ham10000": "ham10000:load",
    "kitti": "kitti:dataset",
    "phone_drive": "phone_drive:dataset",
}
"""name → module and function that load it, imported when it is asked for."""


def names() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return tuple(_LOADERS)


def fetch(name: str, accept_licence: bool = False) -> None:
    """Make sure that a real set is on this machine: download it where it is not.

    accept_licence: you have read the licence and agree to it; of a set that lies here already
    nothing is asked. Raises as `load`, and DatasetUnavailable where the licence is not accepted.
    """
    fetched(name, accept_licence)


def load(name: str, **options: Any) -> "Dataset":
    """Return the data set `name`: real ("oasis", "mvsa", "fsdd", "ham10000", "kitti",
    "phone_drive"), composed ("digits") or generated (the worlds).

    `options` are those of the set's own function, e.g. `load("oasis", captions="machine")` or
    `load("synergy", n=500)`. A world has its closed forms in the card; for the `World` itself,
    which can draw new samples and knows the exact posterior, call its function in
    `mmtutor.data.worlds`.
    Raises UnknownDataset (a ValueError) listing the known names; TypeError for an option that the
    set does not have; `store.DatasetUnavailable` or `store.DatasetCorrupt` for a real set that
    cannot be had or differs.
    """
    if name not in _LOADERS:
        raise UnknownDataset(f"unknown data set {name!r}; known: {', '.join(_LOADERS)}")
    made = resolve_name(f"mmtutor.data.{_LOADERS[name]}")(**options)
    return made.dataset() if name in WORLD_NAMES else made
