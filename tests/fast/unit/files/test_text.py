"""Bytes of unknown encoding become a text, and the encoding is named."""

import pytest

from mmtutor.files.text import decode

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize(
    ("raw", "text", "encoding"),
    [
        (b"plain", "plain", "utf-8"),
        ("joy ☺".encode(), "joy ☺", "utf-8"),
        ("joy…".encode("gb18030"), "joy…", "gb18030"),
        ("好".encode("gb18030"), "好", "gb18030"),
        (b"joy \xff\xff", "joy ÿÿ", "windows-1252"),
        (b"\x81\xff", "\ufffdÿ", "windows-1252"),
        (b"", "", "utf-8"),
    ],
)
def test_decode_never_fails_and_says_what_fitted(raw, text, encoding):
    assert decode(raw) == (text, encoding)
