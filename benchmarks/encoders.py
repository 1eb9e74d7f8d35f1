"""What the encoders cost above a bare loop over the same network, and how much memory cached
features take to read.

python -m benchmarks.encoders

The bare loop is what a reader would write by hand: open, cut, stack, run; no cache, no hash, no
checks, no bar. The encoders start each time from an empty cache, so hashing and storing
count. Both take turns in one process.
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import Row, as_table, ratio, turns
from mmtutor.encoders import ImageEncoder, TextEncoder
from mmtutor.encoders.cache import FeatureCache, content_key

PICTURES, TEXTS = 32, 128
ROWS, DIM, BATCH = 4000, 1280, 256
OVERHEAD = 1.10
FLAT_MB = 16.0
"""Hashes of 36,000 more rows take about 4 MB; their features take 184."""


def make_pictures(folder: Path) -> list[Path]:
    """Write photographs of 500 × 400 px, cut from scikit-image's, as JPEG."""
    from skimage import data

    sources = [
        Image.fromarray(make()).resize((640, 512))
        for make in (data.chelsea, data.coffee, data.astronaut)
    ]
    paths = []
    for number in range(PICTURES):
        left, top = 2 * number, number
        picture = sources[number % len(sources)].crop((left, top, left + 500, top + 400))
        paths.append(folder / f"{number}.jpg")
        picture.save(paths[-1], quality=90)
    return paths


def make_texts() -> list[str]:
    """Compose captions of 4 to 24 words, each different."""
    words = (
        "a",
        "dog",
        "two",
        "people",
        "the",
        "beach",
        "runs",
        "along",
        "wine",
        "table",
        "red",
        "street",
        "boat",
    )
    lengths = np.random.default_rng(0).integers(4, 25, TEXTS)
    return [
        " ".join(words[(n * 7 + i * i) % len(words)] for i in range(k)) + f" {n}"
        for n, k in enumerate(lengths)
    ]


@torch.no_grad()
def bare_pictures(encoder: ImageEncoder, paths: list[Path]) -> torch.Tensor:
    """Run the image network over JPEG files in a plain loop, in the same batches."""
    found = []
    for start in range(0, len(paths), encoder.batch_size):
        squares = []
        for path in paths[start : start + encoder.batch_size]:
            picture = Image.open(path).convert("RGB")
            side = min(picture.size) * 0.875
            left, top = (picture.width - side) / 2, (picture.height - side) / 2
            small = picture.resize(
                (224, 224), Image.Resampling.BICUBIC, (left, top, left + side, top + side)
            )
            squares.append(torch.from_numpy(np.array(small)))
        batch = torch.stack(squares).to(encoder.device).permute(0, 3, 1, 2) / 127.5 - 1
        found.append(encoder.model.forward_features(batch).mean((2, 3)).cpu())
    return torch.cat(found)


@torch.no_grad()
def bare_forward(encoder: ImageEncoder, batches: list[torch.Tensor]) -> None:
    """Run the image network over batches that are ready: nothing but its arithmetic."""
    for batch in batches:
        encoder.model.forward_features(batch).mean((2, 3)).cpu()


@torch.no_grad()
def bare_texts(encoder: TextEncoder, tokenizer, texts: list[str]) -> torch.Tensor:
    """Run the text network over sentences in a plain loop, in the same number of batches."""
    found = []
    for start in range(0, len(texts), encoder.batch_size):
        part = texts[start : start + encoder.batch_size]
        inputs = tokenizer(
            part, padding="longest", truncation=True, max_length=256, return_tensors="pt"
        )
        hidden = encoder.model(**inputs.to(encoder.device)).last_hidden_state
        weights = inputs["attention_mask"][..., None]
        found.append(((hidden * weights).sum(1) / weights.sum(1)).cpu())
    return torch.cat(found)


def from_empty(encoder: ImageEncoder | TextEncoder, samples: list, folder: str) -> torch.Tensor:
    """Encode with an empty cache."""
    encoder.cache = FeatureCache(encoder.name, {}, encoder.dim, tempfile.mkdtemp(dir=folder))
    return encoder.encode(samples, progress=False)


def epoch(encoder: ImageEncoder, paths: list[Path], head: torch.nn.Linear) -> None:
    """Train a linear head for one epoch, one batch, on what the encoder says of the pictures."""
    features = encoder.encode(paths, progress=False)
    head.zero_grad()
    torch.nn.functional.cross_entropy(head(features), torch.arange(len(paths)) % 3).backward()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter -= 1e-3 * parameter.grad


def image_rows(folder: str) -> list[Row]:
    """Compare the image encoder with the plain loop, and with the network's arithmetic alone."""
    paths = make_pictures(Path(folder))
    encoder = ImageEncoder(cache=folder)
    same = from_empty(encoder, paths, folder) - bare_pictures(encoder, paths)
    assert same.abs().max() < 1e-3, "the bare loop computes something else"
    with torch.no_grad():
        ready = [batch for _, batch in encoder._squares(paths, list(range(len(paths))))]
    times = turns(
        {
            "encoder": lambda: from_empty(encoder, paths, folder),
            "bare": lambda: bare_pictures(encoder, paths),
            "arithmetic": lambda: bare_forward(encoder, ready),
        },
        repeats=11,
    )
    uncached = ImageEncoder(cache=False)
    uncached.model, head = encoder.model, torch.nn.Linear(DIM, 3)
    encoder.encode(paths, progress=False)
    epochs = turns(
        {
            "uncached": lambda: epoch(uncached, paths, head),
            "cached": lambda: epoch(encoder, paths, head),
            "read": lambda: encoder.encode(paths, progress=False),
        },
        repeats=7,
    )
    return [
        Row(
            "image encoder / bare loop, same batches",
            ratio(times, "encoder", "bare"),
            OVERHEAD,
            "ratio",
        ),
        Row(
            "image encoder / forward passes alone",
            ratio(times, "encoder", "arithmetic"),
            None,
            "ratio",
        ),
        Row(
            "image encoder, 224 px",
            len(paths) / statistics.median(times["encoder"]),
            None,
            "pictures/s",
        ),
        Row(
            "image features again, from the cache",
            len(paths) / statistics.median(epochs["read"]),
            None,
            "pictures/s",
        ),
        Row(
            "uncached epoch (encode + head) / cached epoch",
            ratio(epochs, "uncached", "cached"),
            None,
            "ratio",
        ),
    ]


def text_rows(folder: str) -> list[Row]:
    """Compare the text encoder with the plain loop; sorting by length makes it the faster of the
    two."""
    from transformers import AutoTokenizer

    from mmtutor.files.weights import locate

    texts = make_texts()
    encoder = TextEncoder(cache=folder)
    tokenizer = AutoTokenizer.from_pretrained(locate("minilm").parent, local_files_only=True)
    same = from_empty(encoder, texts, folder) - bare_texts(encoder, tokenizer, texts)
    assert same.abs().max() < 1e-3, "the bare loop computes something else"
    times = turns(
        {
            "encoder": lambda: from_empty(encoder, texts, folder),
            "bare": lambda: bare_texts(encoder, tokenizer, texts),
        },
        repeats=11,
    )
    return [
        Row("text encoder / bare loop", ratio(times, "encoder", "bare"), OVERHEAD, "ratio"),
        Row("text encoder", len(texts) / statistics.median(times["encoder"]), None, "texts/s"),
    ]


def anonymous_mb() -> float:
    """Return this process's memory that is not backed by a file, in MB: what a memory map is meant
    to spare."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the system does not report RssAnon")


def peak_while_reading(rows: int, folder: str, copy: bool = False) -> float:
    """Store `rows` features, then read all of them in batches; return by how many MB the process
    grew.

    copy: first copy them into memory, as a reader without a memory map would.
    """

    def compute(missing: list[int]) -> Iterator[tuple[list[int], torch.Tensor]]:
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            yield part, torch.ones(len(part), DIM)

    keys = [content_key("row", str(i).encode()) for i in range(rows)]
    FeatureCache(f"read{rows}", {}, DIM, folder).fill(keys, compute)
    gc.collect()
    before = peak = anonymous_mb()
    features = FeatureCache(f"read{rows}", {}, DIM, folder).fill(keys, compute)
    features = features.clone() if copy else features
    total = 0.0
    for batch in features.split(BATCH):
        total += batch.clone().sum().item()
        peak = max(peak, anonymous_mb())
    assert total == rows * DIM, "not every row was read"
    return peak - before


def memory_rows(folder: str) -> list[Row]:
    """Show that ten times the features take no more memory to read."""
    if not Path("/proc/self/status").exists():
        print("memory while reading: measured on Linux only", file=sys.stderr)
        return []
    once, tenfold = peak_while_reading(ROWS, folder), peak_while_reading(10 * ROWS, folder)
    copied = peak_while_reading(10 * ROWS, folder, copy=True)
    size = 10 * ROWS * DIM * 4 / 2**20
    assert copied > 0.9 * size, "the meter does not see memory that is taken"
    return [
        Row(
            "memory while reading 10x the features (flat): growth",
            max(tenfold - once, 0.0),
            FLAT_MB,
            "MB",
        ),
        Row("  the same without the memory map", copied - once, None, "MB"),
    ]


def rows() -> list[Row]:
    """Run all of them."""
    with tempfile.TemporaryDirectory() as folder:
        return memory_rows(folder) + image_rows(folder) + text_rows(folder)


if __name__ == "__main__":
    print(as_table(rows()))
