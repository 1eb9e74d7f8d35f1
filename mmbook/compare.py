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
        return self.absolute == 0 and self.relative == 0

    def allows(self, stored: float, new: float) -> bool:
        """Whether new may stand for stored. nan agrees with nan only, an infinity with the same
        infinity only."""
        if math.isnan(stored) or math.isnan(new):
            return math.isnan(stored) and math.isnan(new)
        if math.isinf(stored) or math.isinf(new):
            return stored == new
        # The last term forgives the binary rounding of printed decimals: |0.63 - 0.61| must be
        # within 0.02.
        slack = 1e-9 * max(abs(stored), abs(new))
        return abs(new - stored) <= self.absolute + self.relative * abs(stored) + slack


STRICT = Tolerance()
ANY_NUMBER = Tolerance(absolute=math.inf)


def parse_tolerance(tags: list[str]) -> Tolerance:
    """Return the tolerance that a cell's tags state ("tol:0.02" absolute, "rtol:0.05" relative).

    Raises ValueError naming a tag that is not a positive finite number, or a kind stated twice.
    """
    stated: dict[str, float] = {}
    for tag in tags:
        kind, _, text = tag.partition(":")
        if kind not in ("tol", "rtol") or tag == kind:
            continue
        value = float(text) if POSITIVE.fullmatch(text) else 0.0
        if not 0 < value < math.inf:
            raise ValueError(
                f"tag {tag!r} does not state a positive number, as in tol:0.02 or rtol:0.05"
            )
        if kind in stated:
            raise ValueError(f"{kind} is stated twice")
        stated[kind] = value
    return Tolerance(stated.get("tol", 0.0), stated.get("rtol", 0.0))


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


def line_difference(stored: str, new: str, tolerance: Tolerance) -> str | None:
    """Say how two lines differ beyond the tolerance, or return None."""
    if words(stored) != words(new):
        return f"stored {stored!r}, now {new!r}: the words differ"
    for old, fresh in zip(NUMBER.findall(stored), NUMBER.findall(new), strict=True):
        if not tolerance.allows(to_float(old), to_float(fresh)):
            return (
                f"stored {stored!r}, now {new!r}: {old} became {fresh}, allowed is"
                f" {tolerance.absolute:g} absolute, {tolerance.relative:g} relative"
            )
    return None


def text_difference(stored: str, new: str, tolerance: Tolerance = STRICT) -> str | None:
    """Say how two texts differ beyond the tolerance (first differing line), or return None.

    With a strict tolerance every character counts; otherwise every word, every line and every
    number does.
    """
    if stored == new:
        return None
    for number, (old, fresh) in enumerate(
        zip_longest(stored.splitlines(), new.splitlines()), start=1
    ):
        if old is None or fresh is None:
            return f"line {number}: " + (
                f"{fresh!r} is new" if old is None else f"{old!r} is missing"
            )
        if tolerance.strict and old != fresh:
            return f"line {number}: stored {old!r}, now {fresh!r}"
        if not tolerance.strict and (difference := line_difference(old, fresh, tolerance)):
            return f"line {number}: {difference}"
    return "the ends of lines differ" if tolerance.strict else None
