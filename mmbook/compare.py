"""Compare a stored output with a new one: words exactly, numbers within a stated tolerance."""

import math
import re
from dataclasses import dataclass
from itertools import zip_longest

# A number stands on its own: digits inside a name (resnet18, cell_3) belong to the word and must
# agree exactly.
NUMBER = re.compile(
    r"""(?<![\w.])
        (?:(?<![\w.)\]])[-+−])?           # a sign, unless it is the dash of a range (3-5)
        (?: (?: \d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)? | \d+\.?\d* | \.\d+ ) (?:[eE][-+]?\d+)?
          | (?:nan|NaN|inf|Inf|infinity)\b )""",
    re.VERBOSE,
)
SPACES = re.compile(r"[ \t]+")
RULES = re.compile(r"([-─═_=])\1+")
POSITIVE = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Tolerance:
    """|new - stored| ≤ absolute + relative · |stored|. Both 0: texts must be equal, character by
    character."""

    absolute: float = 0.0
    relative: float = 0.0

    @property
    def strict(self) -> bool:
        """Whether nothing may differ."""
        return self == STRICT

    def allows(self, stored: float, new: float) -> bool:
        """Whether new may stand for stored. nan agrees with nan only, an infinity with the same
        infinity only."""
        # Forgives the binary rounding of printed decimals: |0.63 - 0.61| must be within 0.02
        slack = 1e-9 * max(abs(stored), abs(new))
        margin = self.absolute + self.relative * abs(stored) + slack
        return math.isclose(stored, new, rel_tol=0, abs_tol=margin) or (
            math.isnan(stored) and math.isnan(new)
        )


STRICT = Tolerance()
ANY_NUMBER = Tolerance(absolute=math.inf)


def parse_tolerance(tags: list[str]) -> Tolerance:
    """Return the tolerance that a cell's tags state ("tol:0.02" absolute, "rtol:0.05" relative).

    Raises ValueError naming a tag that is not a positive finite number, or a kind stated twice.
    """
    stated = {"tol": 0.0, "rtol": 0.0}
    for kind, text in (tag.split(":", 1) for tag in tags if re.match("r?tol:", tag)):
        value = float(text) if POSITIVE.fullmatch(text) else 0.0
        if not 0 < value < math.inf:
            raise ValueError(
                f"tag '{kind}:{text}' does not state a positive number, as in tol:0.02 or rtol:0.05"
            )
        if stated[kind]:
            raise ValueError(f"{kind} is stated twice")
        stated[kind] = value
    return Tolerance(stated["tol"], stated["rtol"])


def to_float(text: str) -> float:
    """Return the value of a text that NUMBER matched: thousands commas and the typographic minus
    are understood."""
    return float(text.replace(",", "").replace("−", "-"))


def numbers(text: str) -> list[float]:
    """Return every number in text, in order."""
    return [to_float(number) for number in NUMBER.findall(text)]


def words(line: str) -> list[str]:
    """Return what stands between a line's numbers, with column widths taken out.

    Runs of blanks count as one, at the edge of a number as none; runs of dashes, which rule a
    table, count as one rule.
    """
    return [SPACES.sub(" ", RULES.sub(r"\1\1", part)).strip() for part in NUMBER.split(line)]


def line_difference(stored: str | None, new: str | None, tolerance: Tolerance) -> str | None:
    """Say how two lines differ beyond the tolerance, or return None. A line may be None where the
    other text has no more."""
    if stored is None or new is None:
        return f"{new!r} is new" if stored is None else f"{stored!r} is missing"
    if tolerance.strict:
        return f"stored {stored!r}, now {new!r}" if stored != new else None
    if words(stored) != words(new):
        return f"stored {stored!r}, now {new!r}: the words differ"
    changes = (
        f"stored {stored!r}, now {new!r}: {old} became {fresh}, allowed is"
        f" {tolerance.absolute:g} absolute, {tolerance.relative:g} relative"
        for old, fresh in zip(NUMBER.findall(stored), NUMBER.findall(new), strict=True)
        if not tolerance.allows(to_float(old), to_float(fresh))
    )
    return next(changes, None)


def text_difference(stored: str, new: str, tolerance: Tolerance = STRICT) -> str | None:
    """Say how two texts differ beyond the tolerance (first differing line), or return None.

    With a strict tolerance every character counts; otherwise every word, every line and every
    number does.
    """
    if stored == new:
        return None
    pairs = zip_longest(stored.splitlines(), new.splitlines())
    for number, (old, fresh) in enumerate(pairs, start=1):
        if difference := line_difference(old, fresh, tolerance):
            return f"line {number}: {difference}"
    return "the ends of lines differ" if tolerance.strict else None
