"""The table tool's speed and memory: features, choosing, predicting, and what end-to-end
training would take.

python -m benchmarks.sentiment         about six minutes on two cores; needs the data set mvsa

The original recipe is measured on five steps by chapter 1's study and counted up to the ten epochs
for which it was published.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.encoders import bare_pictures, bare_texts
from benchmarks.measure import Row, as_table, ratio, turns
from mmtutor import data
from mmtutor.apps import Options, predict, train
from mmtutor.apps.encoding import RowEncoder
from mmtutor.apps.rows import Roles, Rows
from mmtutor.apps.rows import Row as TableRow
from mmtutor.choosing.grouped import GroupedSamples
from mmtutor.choosing.nested import choose
from mmtutor.device import one_thread
from mmtutor.encoders import ImageEncoder, TextEncoder

PART, TURNS = 128, 5  # posts that the encoders are timed on, and how often
FEW, MANY = 1_000, 100_000
EPOCHS, POSTS, RAW = 10, 2000, 500
BATCH = 32  # of the recipe, as in chapter 1's study
STUDY = Path(__file__).resolve().parents[1] / "book" / "01_first_fusion" / "study.py"


def write_table(
    path: Path, texts: Sequence[str], pictures: Sequence[str], labels: Sequence[str], n: int
) -> Path:
    """Write n posts, going round what is given as often as needed; ids make the rows differ."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "text", "image", "label"])
        posts = zip(
            itertools.cycle(texts),
            itertools.cycle(pictures),
            itertools.cycle(labels),
            range(n),
            strict=False,
        )
        table.writerows((k, text, picture, label) for text, picture, label, k in posts)
    return path


def throughput(loaded: data.Dataset) -> Row:
    """The tool's feature extraction from an empty cache, against bare loops over the same two
    networks."""
    text, image = TextEncoder(cache=False), ImageEncoder(cache=False)
    text.model, text.tokenizer, image.model  # noqa: B018  loaded before anything is timed
    paths, texts = loaded.modalities["image"][:PART], list(loaded.modalities["text"][:PART])
    pairs = zip(texts, paths, strict=True)
    posts = [TableRow(k, {"text": t, "image": p.name}) for k, (t, p) in enumerate(pairs)]
    roles = Roles(text="text", image="image")

    def tool() -> None:
        with tempfile.TemporaryDirectory() as cache:
            encoder = RowEncoder(roles, paths[0].parent, cache=cache)
            for m, known in (("text", text), ("image", image)):
                encoder.encoders[m].model = known.model
            encoder.encoders["text"].tokenizer = text.tokenizer
            encoder.encode(posts)

    def bare() -> None:
        bare_pictures(image, paths)
        bare_texts(text, text.tokenizer, texts)

    times = turns({"tool": tool, "bare": bare}, TURNS, warm=1)
    return Row(
        "features, tool / bare loops (80 % of its throughput)",
        ratio(times, "tool", "bare"),
        1 / 0.8,
        "ratio of time",
    )


def run(arguments: list[str], **environment: str) -> tuple[float, float]:
    """Run `mmtutor ARGUMENTS` in a process of its own; return seconds and its peak anonymous memory
    in MB."""
    start, peak = time.perf_counter(), 0
    child = subprocess.Popen(
        [sys.executable, "-m", "mmtutor.cli", *arguments],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while child.poll() is None:
        try:
            status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
            peak = max(
                peak,
                next(
                    int(line.split()[1])
                    for line in status.splitlines()
                    if line.startswith("RssAnon")
                ),
            )
        except (OSError, StopIteration):  # not Linux, or it has just ended
            pass
        time.sleep(0.02)
    if child.returncode:
        raise RuntimeError(
            f"mmtutor {' '.join(arguments)} ended with {child.returncode}:"
            f" {child.stderr.read().decode()}"
        )
    return time.perf_counter() - start, peak / 1024


def speed_rows(loaded: data.Dataset, place: Path) -> list[Row]:
    """Choosing and training on all posts, predicting from raw files and from cached features."""
    pictures, labels = (
        [p.name for p in loaded.modalities["image"]],
        [loaded.classes[y] for y in loaded.labels],
    )
    table = write_table(
        place / "posts.csv", list(loaded.modalities["text"]), pictures, labels, POSTS
    )
    first = write_table(place / "first.csv", list(loaded.modalities["text"]), pictures, labels, RAW)
    images = loaded.modalities["image"][0].parent
    options = Options(folder=images, cache=place / "train")
    rows = Rows(options.table(table), options.roles)
    encoder = RowEncoder(rows.roles, **options.encoding_of(table))
    start = time.perf_counter()
    for _ in encoder.chunks(rows):
        pass
    encoding = time.perf_counter() - start
    start = time.perf_counter()
    report = train(table, place / "model", options)
    choosing = time.perf_counter() - start
    call = ["predict", str(place / "model"), str(first), "--folder", str(images)]
    raw, _ = run([*call, "--out", str(place / "answers.csv")], MMTUTOR_CACHE=str(place / "raw"))
    answers = turns(
        {"cached": lambda: sum(1 for _ in predict(place / "model", table, options))}, 5, warm=1
    )["cached"]
    study = subprocess.run(
        [sys.executable, str(STUDY), "recipe"], check=True, capture_output=True, text=True
    )
    step = json.loads(study.stdout)["seconds_per_epoch"] / -(-590 // BATCH)
    endless = EPOCHS * -(-POSTS // BATCH) * step
    best = report["methods"][report["winner"]]
    notes = {
        "winner": best["name"],
        "macro-F1": best["macro_f1"],
        "features, s": encoding,
        "recipe, s a step": step,
    }
    print(json.dumps(notes), file=sys.stderr)
    return [
        Row(f"choosing and training on {POSTS} posts, features cached", choosing, 60, "s"),
        Row(f"predicting {RAW} posts from raw files, start included", raw / RAW, 0.1, "s a post"),
        Row(
            "predicting, features cached, table and files read",
            1000 * float(np.median(answers)) / POSTS,
            0.2,
            "ms a post",
        ),
        Row(
            "choosing and training / original recipe, 10 epochs",
            choosing / endless,
            0.01,
            "ratio of time",
        ),
        Row(
            "the same, extracting features once included",
            (encoding + choosing) / endless,
            None,
            "ratio of time",
        ),
    ]


def modality_row() -> Row:
    """Choosing among five modalities against two of them: made-up features as wide as the tool's,
    2,000 samples, one repeat."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (POSTS,), generator=generator)
    widths = {"text": 384, "image": 1280, "audio": 768, "numbers": 10, "categories": 6}
    features = {}
    for m, width in widths.items():
        noise = torch.randn(POSTS, width, generator=generator)
        features[m] = noise + 2 * torch.eye(3, width)[y]
    features["numbers"][:, 5:] = features["categories"][:, 3:] = 1.0
    features["categories"][:, :3] = torch.randint(0, 14, (POSTS, 3), generator=generator).float()
    five = GroupedSamples(
        features,
        y,
        np.arange(POSTS),
        ("a", "b", "c"),
        knots={"numbers": 6, "categories": 14},
    )

    def run(table: GroupedSamples) -> None:
        with one_thread():
            choose(table, repeats=1, progress=False)

    ways = {"five": lambda: run(five), "two": lambda: run(five.only(["text", "image"]))}
    return Row(
        "choosing among five modalities / two",
        ratio(turns(ways, 3), "five", "two"),
        2.5,
        "ratio of time",
    )


def memory_rows(place: Path) -> list[Row]:
    """Training on and predicting of 100,000 posts against 1,000: the same process, but for the
    table."""
    pictures, rng = place / "pictures", np.random.default_rng(0)
    pictures.mkdir()
    for k in range(40):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(
            pictures / f"{k}.jpg"
        )
    texts = [
        f"{word} {other} day number {k}"
        for k, (word, other) in enumerate(itertools.product(WORDS, WORDS))
    ]
    peaks: dict[tuple[str, int], float] = {}
    for n in (FEW, MANY):
        table = write_table(
            place / f"{n}.csv", texts, [f"{k}.jpg" for k in range(40)], ["bad", "good", "fair"], n
        )
        shared = {"MMTUTOR_CACHE": str(place / "flat")}
        call = [
            "train",
            str(table),
            "--folder",
            str(pictures),
            "--out",
            str(place / f"m{n}"),
            "--repeats",
            "1",
        ]
        _, peaks["training", n] = run([*call, "--folds", "2"], **shared)
        call = ["predict", str(place / f"m{n}"), str(table), "--folder", str(pictures)]
        _, peaks["predicting", n] = run([*call, "--out", str(place / f"{n}.jsonl")], **shared)
    print(
        json.dumps({f"{what} {n}": round(mb) for (what, n), mb in peaks.items()}), file=sys.stderr
    )
    return [
        Row(
            f"memory of {what} {MANY:,} posts / {FEW:,}",
            peaks[what, MANY] / peaks[what, FEW],
            1.15,
            "ratio of peaks",
        )
        for what in ("training", "predicting")
    ]


WORDS = (
    "sun",
    "rain",
    "wind",
    "snow",
    "fog",
    "heat",
    "frost",
    "hail",
    "storm",
    "calm",
    "dawn",
    "dusk",
    "noon",
    "night",
)


def rows() -> list[Row]:
    """Measure everything; raises DatasetUnavailable where mvsa cannot be had."""
    loaded = data.load("mvsa")
    with tempfile.TemporaryDirectory() as place:
        speed = [throughput(loaded), *speed_rows(loaded, Path(place)), modality_row()]
    with tempfile.TemporaryDirectory() as place:
        return speed + memory_rows(Path(place))


if __name__ == "__main__":
    print(as_table(rows()))
