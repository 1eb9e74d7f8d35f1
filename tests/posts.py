"""Posts made on the spot: coloured squares and short sentences."""

from __future__ import annotations

COLOURS = {"good": (30, 160, 60), "bad": (150, 20, 20)}
WORDS = {
    "good": ("happy", "lovely", "wonderful", "sunny", "great", "delightful", "sweet", "cheerful"),
    "bad": ("sad", "awful", "terrible", "gloomy", "horrible", "painful", "bitter", "dreadful"),
}
PLACES = ("park", "station", "school")


def made(label: str, i: int) -> dict[str, str]:
    """Return the row of post `i` of a class."""
    return {
        "text": f"A {WORDS[label][i % 8]} day at the {PLACES[i // 8]}",
        "image": f"{label}-{i}.png",
        "label": label,
    }
