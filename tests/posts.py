"""Tables made on the spot: coloured squares, short sentences, tones, numbers and categories."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"good": (30, 160, 60), "bad": (150, 20, 20)}
WORDS = {
    "good": ("happy", "lovely", "wonderful", "sunny", "great", "delightful", "sweet", "cheerful"),
    "bad": ("sad", "awful", "terrible", "gloomy", "horrible", "painful", "bitter", "dreadful"),
}
PLACES = ("park", "station", "school")
NAMES = [first + second for first in "KLMNRST" for second in ("ari", "eo", "ina", "ora", "uli")]


def made(label: str, i: int) -> dict[str, str]:
    """Return the row of post `i` of a class."""
    return {
        "text": f"A {WORDS[label][i % 8]} day at the {PLACES[i // 8]}",
        "image": f"{label}-{i}.png",
        "label": label,
    }


CLASSES = ("negative", "neutral & <b>plain</b>", "positive")
SHADES = ((150, 20, 20), (110, 110, 110), (30, 160, 60))
SAID = (
    ("sad", "awful", "terrible", "gloomy", "horrible", "painful", "bitter", "dreadful"),
    ("usual", "quiet", "long", "short", "normal", "busy", "plain", "regular"),
    ("happy", "lovely", "wonderful", "sunny", "great", "delightful", "sweet", "cheerful"),
)
SKIES = ("<i>fog</i>", "rain", "sun")


def mixed_posts(folder: Path) -> list[dict[str, str]]:
    """Return posts of three classes, of which mostly only the text tells the first and only the
    picture the last; write the pictures."""
    rng, rows = np.random.default_rng(0), []
    for i in range(120):
        label = i % 3
        said, shown = (0, 1, 1)[label], (1, 1, 2)[label]
        if i % 10 == 0:
            said, shown = rng.integers(3, size=2)
        noise = rng.integers(-25, 26, (16, 16, 3))
        pixels = np.clip(np.array(SHADES[shown]) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        text = f"A {SAID[said][i // 3 % 8]} day with {NAMES[i % 35]} and {NAMES[-i // 4]}"
        rows.append({"text": text, "image": f"{i}.png", "label": CLASSES[label]})
    return rows


def priced_sounds(folder: Path) -> list[dict[str, str]]:
    """Return sounds with numbers, categories, and a price that depends on all of them; write the
    sounds."""
    rng, rows = np.random.default_rng(0), []
    for i in range(120):
        weight, age, sky, high = rng.uniform(0, 10), rng.uniform(0, 50), i % 3, int(rng.integers(2))
        (folder / f"{i}.wav").write_bytes(tone((300, 1200)[high], rng))
        price = 100 + 6 * weight + 40 * high + 20 * sky + rng.normal()
        rows.append(
            {
                "tone": f"{i}.wav",
                "weight": f"{weight:.3f}",
                "age & size": f"{age:.1f}" if i % 5 else "",
                "sky": SKIES[sky] if i % 7 else "",
                "price": f"{price:.2f}",
            }
        )
    return rows


def tone(hertz: float, rng: np.random.Generator) -> bytes:
    """Return half a second of a tone with noise as a WAV file."""
    time, file = np.arange(4000) / 8000, io.BytesIO()
    signal = np.sin(2 * np.pi * hertz * time) + 0.05 * rng.standard_normal(len(time))
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes((12000 * signal).astype("<i2").tobytes())
    return file.getvalue()
