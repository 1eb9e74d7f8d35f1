"""What the original recipe costs beside frozen, cached features.

python book/01_first_fusion/study.py        all three ways, each in a process
python book/01_first_fusion/study.py PART   one: recipe, encoders or head (JSON)

The epoch is one pass over 590 posts (the pictures and captions of oasis),
pictures of 224 × 224, 48 tokens, batch 32. Steps cost the same whatever the
pixels show, so generated pictures and sentences stand in for them and nothing
is downloaded.
"""

from __future__ import annotations

import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from mmtutor.original_recipe import (
    OriginalRecipe,
    flops_per_sample,
    meta_inputs,
)
from mmtutor.report import save_results

POSTS, BATCH, CLASSES, STEPS = 590, 32, 3, 5
FEATURES = 1280 + 384
RESULTS = Path(__file__).resolve().parent / "results" / "original_recipe.json"


def recipe() -> dict:
    """Train the original recipe for a few steps; an epoch is so many steps of
    median length."""
    torch.manual_seed(0)
    model = OriginalRecipe(CLASSES)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    pictures, tokens = (
        torch.randn(BATCH, 3, 224, 224),
        torch.randint(1000, 20000, (BATCH, 48)),
    )
    labels, seconds = torch.randint(0, CLASSES, (BATCH,)), []
    for _ in range(STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(model(pictures, tokens), labels).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    with torch.device("meta"):
        shapes = OriginalRecipe(CLASSES)
    flops = flops_per_sample(shapes, *meta_inputs(4))
    return {
        "seconds_per_epoch": (
            math.ceil(POSTS / BATCH) * statistics.median(seconds)
        ),
        "flops_per_sample": flops,
    }


def encoders() -> dict:
    """Run the two packaged encoders, uncached, over as many generated pictures
    and sentences."""
    # here: memory is measured per part
    from mmtutor.encoders import (
        ImageEncoder,
        TextEncoder,
    )

    image, text = (
        ImageEncoder("efficientnet-lite0", cache=False),
        TextEncoder("minilm", cache=False),
    )
    pixels = torch.randint(
        0, 256, (POSTS, 400, 500, 3), dtype=torch.uint8
    ).numpy()
    sentences = [
        f"a picture of {i} things beside a river on a quiet evening in spring"
        for i in range(POSTS)
    ]
    start = time.perf_counter()
    image.encode(list(pixels)), text.encode(sentences)
    return {
        "seconds_per_epoch": time.perf_counter() - start,
        "flops_per_sample": None,
    }


def head() -> dict:
    """Train a linear head on cached features with the book's own loop."""
    from mmtutor.fusion import ConcatFusion, FusionClassifier
    from mmtutor.training import fit
    from mmtutor.types import Samples

    data = Samples(
        {"image": torch.randn(POSTS, 1280), "text": torch.randn(POSTS, 384)},
        torch.randint(0, 3, (POSTS,)),
    )
    model = FusionClassifier(
        ConcatFusion({"image": 1280, "text": 384}), CLASSES
    )
    # a head this small is slower on two threads; the other parts use two
    torch.set_num_threads(1)
    fit(model, data, epochs=2, lr=1e-3, batch_size=BATCH, device="cpu")
    start = time.perf_counter()
    fit(model, data, epochs=20, lr=1e-3, batch_size=BATCH, device="cpu")
    seconds = (time.perf_counter() - start) / 20
    with torch.device("meta"):
        linear = torch.nn.Linear(FEATURES, CLASSES)
    return {
        "seconds_per_epoch": seconds,
        "flops_per_sample": flops_per_sample(
            linear, torch.empty(4, FEATURES, device="meta")
        ),
    }


PARTS = {"recipe": recipe, "encoders": encoders, "head": head}


def main(arguments: list[str]) -> None:
    """Measure one part here, or all parts in processes of their own."""
    torch.set_num_threads(2)
    if arguments:
        if arguments[0] not in PARTS:
            sys.exit(
                f"unknown part {arguments[0]!r}, expected one of {list(PARTS)}"
            )
        row = PARTS[arguments[0]]()
        row["peak_mb"] = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        )
        print(json.dumps(row))
        return
    rows = {}
    for part in PARTS:
        command = [sys.executable, __file__, part]
        rows[part] = json.loads(
            subprocess.run(
                command, check=True, capture_output=True, text=True
            ).stdout
        )
        print(part, rows[part])
    save_results(
        RESULTS,
        command="python book/01_first_fusion/study.py",
        machine=(
            f"{platform.machine()}, {os.cpu_count()} cores, 2 threads, torch"
            f" {torch.__version__.split('+')[0]}"
        ),
        rows=rows,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
