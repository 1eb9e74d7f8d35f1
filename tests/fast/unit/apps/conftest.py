"""Posts made on the spot: coloured squares and short sentences, encoded once per session; tables of
random features."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtutor.apps.commands import Options, train
from mmtutor.device import one_thread

COLOURS = {"good": (30, 160, 60), "bad": (150, 20, 20)}
WORDS = {
    "good": ("happy", "lovely", "wonderful", "sunny", "great", "delightful", "sweet", "cheerful"),
    "bad": ("sad", "awful", "terrible", "gloomy", "horrible", "painful", "bitter", "dreadful"),
}
PLACES = ("park", "station", "school")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Point MMTUTOR_CACHE to an empty folder: no test touches the user's."""
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "own-cache"))


@pytest.fixture(scope="module", autouse=True)
def small_models_on_one_thread():
    """Fit as `train` does: on several threads these tiny heads take thirty times as long."""
    with one_thread():
        yield


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """Return the feature cache that all tests share, so that each post is encoded once."""
    return tmp_path_factory.mktemp("shared-cache") / "features"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Return a folder of 48 small pictures, good-0.png to bad-23.png, greenish and reddish."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for label, colour in COLOURS.items():
        for i in range(24):
            noise = rng.integers(-25, 26, (16, 16, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{label}-{i}.png")
    return folder


def made(label: str, i: int) -> dict[str, str]:
    return {
        "text": f"A {WORDS[label][i % 8]} day at the {PLACES[i // 8]}",
        "image": f"{label}-{i}.png",
        "label": label,
    }


@pytest.fixture(scope="session")
def rows() -> list[dict[str, str]]:
    """Return the 48 posts as a table's rows, the classes in turn."""
    return [made(label, i) for i in range(24) for label in COLOURS]


@pytest.fixture(scope="session")
def write():
    """Return a function that writes rows as CSV and returns the path; columns are those of the
    first row."""

    def write(path: Path, rows: list[dict[str, str]]) -> Path:
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        return path

    return write


@pytest.fixture(scope="session")
def options(pictures, cache) -> Options:
    """Return options with the pictures and the shared cache, on the processor."""
    return Options(images=pictures, device="cpu", cache=cache, progress=False)


@pytest.fixture(scope="session")
def posts(tmp_path_factory, rows, write) -> Path:
    """Return a table of the 48 posts."""
    return write(tmp_path_factory.mktemp("posts") / "posts.csv", rows)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, posts, options) -> Path:
    """Return a model folder trained on the 48 posts."""
    out = tmp_path_factory.mktemp("trained") / "model"
    train(posts, out, options, splits=3, repeats=2)
    return out


@pytest.fixture(scope="session")
def text_only(tmp_path_factory, rows, write, options) -> Path:
    """Return a model folder trained on a table without pictures."""
    folder = tmp_path_factory.mktemp("text-only")
    table = write(folder / "posts.csv", [{k: row[k] for k in ("text", "label")} for row in rows])
    train(table, folder / "model", options, splits=3, repeats=1)
    return folder / "model"
