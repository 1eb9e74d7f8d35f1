"""Write a file whole or not at all. Taught in chapter 2."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal


@contextmanager
def whole(path: Path | str, mode: Literal["w", "wb"] = "w", **options: Any) -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; move it there when the block ends well, else delete it.

    A reader sees the old file or the new one, never half of either, and of two writers the last
    wins. The content is on the disk before the name is. options: those of `open`, such as
    encoding. The folder must exist.
    Raises OSError where the folder cannot be written or is full.
    """
    path = Path(path)
    # Not from tempfile, whose files only their owner may read: others may share the folder.
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with open(temporary, mode.replace("w", "x"), **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
