"""From a table of any modalities to what each of them is worth, and to a model: train, evaluate,
predict, and a page to try it on.

    from mmtutor.apps import Options, train
    train("posts.csv", "model", Options(folder="pictures"))

The functions are imported on first use, so that the command line starts fast.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "ModelUnusable": "folder",
    "Options": "commands",
    "Roles": "rows",
    "TableUnusable": "faults",
    "evaluate": "commands",
    "load": "folder",
    "predict": "commands",
    "train": "commands",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    """Import the module that holds `name` when it is asked for."""
    if name not in _HOME:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}; it has {', '.join(sorted(_HOME))}"
        )
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
