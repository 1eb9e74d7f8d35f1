"""Texts made worse: a list of strings in, a list of as many strings out. `corrupt` checks and
dispatches.

Taught in chapter 8.
"""

import string
from itertools import compress

import torch

from mmtutor.checks import require

SWAP, DELETE, REPLACE = 1, 2, 3
LETTERS = string.ascii_lowercase


def check(x: object) -> None:
    """Raise TypeError or ValueError, saying what was expected, unless x is a list of texts."""
    if not isinstance(x, list):
        raise TypeError(f"text samples are a {type(x).__name__}, expected a list of strings")
    require(x, "text samples are an empty list, expected at least one string")
    for index, text in enumerate(x):
        require(
            isinstance(text, str),
            f"text sample {index} is a {type(text).__name__}, expected a string",
            TypeError,
        )


def typos(texts: list[str], share: float, generator: torch.Generator) -> list[str]:
    """Hit each character with probability `share`: swap it with the next, delete it, or replace it,
    a third each.

    Edits are made one after the other, from left to right. The last character has no next: instead
    of being swapped it is replaced. Replacements are letters a to z other than the one that was
    there.
    """
    lengths = [len(text) for text in texts]
    size, device = (sum(lengths),), generator.device
    edits = torch.randint(SWAP, REPLACE + 1, size, generator=generator, device=device)
    hit = torch.rand(size, generator=generator, device=device) < share
    edits = torch.where(hit, edits, 0)
    # a multiple of 25 and of 26: which of the other letters, whether the character is itself one of
    # the 26 or not
    letters = torch.randint(25 * 26, size, generator=generator, device=device)
    return [
        _mistyped(text, mine.tolist(), drawn.tolist())
        for text, mine, drawn in zip(
            texts, edits.split(lengths), letters.split(lengths), strict=True
        )
    ]


def dropped_words(texts: list[str], share: float, generator: torch.Generator) -> list[str]:
    """Leave out each word with probability `share`; the rest is joined by single spaces, and may be
    the empty text.

    Words are what white space separates: a Chinese sentence without spaces is one word.
    """
    words = [text.split() for text in texts]
    lengths = [len(each) for each in words]
    kept = torch.rand(sum(lengths), generator=generator, device=generator.device) >= share
    return [
        " ".join(compress(each, mine.tolist()))
        for each, mine in zip(words, kept.split(lengths), strict=True)
    ]


def _mistyped(text: str, edits: list[int], letters: list[int]) -> str:
    characters = list(text)
    for i, edit in enumerate(edits):
        if edit == SWAP and i + 1 < len(characters):
            characters[i], characters[i + 1] = characters[i + 1], characters[i]
        elif edit == DELETE:
            characters[i] = ""
        elif edit:
            others = LETTERS.replace(characters[i].lower(), "")
            characters[i] = others[letters[i] % len(others)]
    return "".join(characters)
