"""From a table of posts to a model of their sentiment: train, evaluate, predict, and a page to try
it on.

    from mmtutor.apps import Options, train
    train("posts.csv", "model", Options(images="pictures"))

The functions are imported on first use, so that the command line starts fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmtutor.apps.commands import Options, evaluate, predict, predict_one, train
    from mmtutor.apps.faults import PostsUnusable
    from mmtutor.apps.folder import ModelUnusable, load
    from mmtutor.apps.posts import Columns

_HOME = {
    "Columns": "posts",
    "ModelUnusable": "folder",
    "Options": "commands",
    "PostsUnusable": "faults",
    "evaluate": "commands",
    "load": "folder",
    "predict": "commands",
    "predict_one": "commands",
    "train": "commands",
}

__all__ = [
    "Columns",
    "ModelUnusable",
    "Options",
    "PostsUnusable",
    "evaluate",
    "load",
    "predict",
    "predict_one",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import the module that holds `name` when it is asked for."""
    if name not in _HOME:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}; it has {', '.join(sorted(_HOME))}"
        )
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
