"""A file is written whole or not at all, and readable by those whom the umask lets read."""

from __future__ import annotations

import os

import pytest

from mmtutor.files.whole import whole

pytestmark = pytest.mark.usefixtures("own_cache")


def test_old_content_stands_until_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    with whole(path, encoding="utf-8", newline="\n") as file:
        file.write("neu: ü\n")
        assert path.read_text(encoding="utf-8") == "old"
    assert path.read_bytes() == "neu: ü\n".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), whole(path, "wb") as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_others_may_read_what_the_umask_lets_them_read(tmp_path):
    before = os.umask(0o022)
    try:
        with whole(tmp_path / "a") as file:
            file.write("shared")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
