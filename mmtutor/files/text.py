"""Text of unknown encoding, read without ever failing.

Taught in chapter 10.
"""


def decode(raw: bytes) -> tuple[str, str]:
    """Return a text and the encoding that fitted first: utf-8, gb18030, else windows-1252, with
    gaps if need be.

    Bytes that fit GB18030 by chance are read as that: where a file is all of one other encoding,
    say which.
    """
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return raw.decode("windows-1252", errors="replace"), "windows-1252"
