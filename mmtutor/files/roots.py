"""Where files are kept on this machine: the cache, which is ours, and the mirror, only read.

Taught in chapter 2.
"""

import os
from pathlib import Path


class CacheNotWritable(OSError):
    """A folder of the cache cannot be written; the message names it and MMTUTOR_CACHE."""


def cache_root() -> Path:
    """Return the folder for downloads and computed features: $MMTUTOR_CACHE, else the user's cache
    folder."""
    if chosen := os.environ.get("MMTUTOR_CACHE"):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("mmtutor", appauthor=False))


def mirror_root() -> Path | None:
    """Return the folder of ready data sets that $MMTUTOR_DATA names, or None. It is only ever
    read."""
    chosen = os.environ.get("MMTUTOR_DATA")
    return Path(chosen).expanduser().absolute() if chosen else None
