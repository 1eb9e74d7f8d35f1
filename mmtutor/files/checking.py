"""Is every file of a set exactly the file that the manifest names? Size, sha256, and nothing
outside its folder. Taught in chapter 1.
"""

import builtins
import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmtutor.files.manifest import DatasetCorrupt, File, Manifest


def progress_bar(total: int, what: str, wanted: bool = True) -> Any:
    """Return one tqdm bar over `total` bytes: shown, if wanted, in a terminal and a notebook; quiet
    in logs and pipes.

    In a notebook it goes to stdout, since anything on stderr there reads as a warning.
    """
    from tqdm import tqdm

    notebook = hasattr(builtins, "__IPYTHON__")
    stream = sys.stdout if notebook else sys.stderr
    hidden = not (wanted and (notebook or stream.isatty()))
    return tqdm(total=total, desc=what, unit="B", unit_scale=True, file=stream, disable=hidden)


def assert_inside(data: Manifest, folder: Path) -> None:
    """Raise DatasetCorrupt when a subfolder of `folder` that the manifest uses leads elsewhere, say
    through a link."""
    for parent in sorted({(folder / file.path).parent for file in data.files}):
        if not parent.resolve().is_relative_to(folder.resolve()):
            raise DatasetCorrupt(f"{data.name}: {parent} leads out of {folder}; remove that link")


def problems(data: Manifest, folder: Path, progress: bool = False) -> Iterator[str]:
    """Yield one line for each file under `folder` that is missing, not a plain file, or differs
    from the manifest."""
    with progress_bar(data.total_bytes, f"checking {data.name}", progress) as bar:
        for file in data.files:
            if problem := _problem(file, folder):
                yield f"{folder / file.path} {problem}"
            bar.update(file.bytes)


def _problem(file: File, folder: Path) -> str:
    """Return what is wrong with a file, "" for nothing; one of another size is not read."""
    try:
        info = os.lstat(folder / file.path)
        if not stat.S_ISREG(info.st_mode):
            return "is not a plain file"
        if info.st_size != file.bytes:
            return f"has {info.st_size} bytes, expected {file.bytes}"
        with open(folder / file.path, "rb") as handle:
            sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return (
        f"has sha256 {sha256[:12]}…, expected {file.sha256[:12]}…" if sha256 != file.sha256 else ""
    )
