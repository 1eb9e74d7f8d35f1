"""What chapter 1 measures in minutes: what the original recipe costs, and
whether its result on digits hangs on one draw of the noise.

python book/01_first_fusion/study.py           both parts
python book/01_first_fusion/study.py PART      one: original_recipe, noise_draws
python book/01_first_fusion/study.py WAY       one way of the first part (JSON)

original_recipe: an epoch is one pass over 590 posts (the pictures and captions
of oasis), pictures of 224 x 224, 48 tokens, batch 32. Steps cost the same
whatever the pixels show, so generated pictures and sentences stand in for them
and nothing is downloaded.
noise_draws: the lesson's experiment for five draws of pairs and noise. A linear
model trained to its optimum has no random start, so the draws are all that is
left to chance.
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

import numpy as np
import torch
import torch.nn.functional as F

from mmtutor import data
from mmtutor.choosing.optimum import fit_optimum
from mmtutor.evaluation import bootstrap_interval, grouped_split
from mmtutor.fusion import ConcatFusion, FusionClassifier, decision
from mmtutor.original_recipe import (
    OriginalRecipe,
    flops_per_sample,
    meta_inputs,
)
from mmtutor.report import save_results
from mmtutor.training import fit, predict
from mmtutor.types import Samples

POSTS, BATCH, CLASSES, STEPS = 590, 32, 3, 5
FEATURES = 1280 + 384
RESULTS = Path(__file__).resolve().parent / "results"
COMMAND = "python book/01_first_fusion/study.py"
LEVELS, DRAWS = (-16, -22, -28), 5
PENALTIES = (0.1, 0.03, 0.01, 0.003, 0.001)


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
    image.encode(list(pixels))
    text.encode(sentences)
    return {
        "seconds_per_epoch": time.perf_counter() - start,
        "flops_per_sample": None,
    }


def head() -> dict:
    """Train a linear head on cached features with the book's own loop."""
    samples = Samples(
        {"image": torch.randn(POSTS, 1280), "text": torch.randn(POSTS, 384)},
        torch.randint(0, 3, (POSTS,)),
    )
    model = FusionClassifier(
        ConcatFusion({"image": 1280, "text": 384}), CLASSES
    )
    # a head this small is slower on two threads; the other parts use two
    torch.set_num_threads(1)
    fit(model, samples, epochs=2, lr=1e-3, batch_size=BATCH, device="cpu")
    start = time.perf_counter()
    fit(model, samples, epochs=20, lr=1e-3, batch_size=BATCH, device="cpu")
    seconds = (time.perf_counter() - start) / 20
    with torch.device("meta"):
        linear = torch.nn.Linear(FEATURES, CLASSES)
    return {
        "seconds_per_epoch": seconds,
        "flops_per_sample": flops_per_sample(
            linear, torch.empty(4, FEATURES, device="meta")
        ),
    }


WAYS = {"recipe": recipe, "encoders": encoders, "head": head}


def original_recipe() -> dict:
    """Measure each way in a process of its own, so that memory is its own."""
    rows = {}
    for way in WAYS:
        command = [sys.executable, __file__, way]
        answer = subprocess.run(
            command, check=True, capture_output=True, text=True
        )
        rows[way] = json.loads(answer.stdout)
        print(way, rows[way])
    return rows


class Listener:
    """The lesson's experiment on one data set: four accents held out in turn,
    the penalty (and the sound's volume) tuned on held-out voices."""

    def __init__(self, digits: data.Dataset) -> None:
        """Keep what every method shares."""
        self.labels, self.accents = digits.labels, digits.groups
        self.voices = digits.targets["voice"].numpy()

    def train_linear(
        self, samples: Samples, penalty: float
    ) -> FusionClassifier:
        """Softmax regression on the features side by side, at its optimum."""
        dims = {m: x.shape[1] for m, x in samples.features.items()}
        torch.manual_seed(0)
        model = FusionClassifier(ConcatFusion(dims), classes=10)
        fit_optimum(model, samples, l2=penalty, tolerance=1e-4, device="cpu")
        return model

    def tuned(
        self, features: dict, train: np.ndarray, volumes: tuple
    ) -> tuple[Samples, FusionClassifier]:
        """Return scaled samples and the model of the best setting."""

        def scaled(volume: float) -> Samples:
            x = {
                m: (v - v[train].mean(0)) / v[train].std()
                for m, v in features.items()
            }
            if "audio" in x:
                x["audio"] = volume * x["audio"]
            return Samples(x, self.labels)

        rest, held_out = grouped_split(
            self.labels[train], self.voices[train] % 10, fraction=0.25, seed=0
        )
        settings = [(v, p) for v in volumes for p in PENALTIES]
        losses = []
        for volume, penalty in settings:
            samples = scaled(volume)
            model = self.train_linear(samples[train[rest]], penalty)
            logits = predict(model, samples[train[held_out]])
            truth = self.labels[train[held_out]]
            losses.append(F.cross_entropy(logits, truth).item())
        volume, penalty = settings[int(np.argmin(losses))]
        samples = scaled(volume)
        return samples, self.train_linear(samples[train], penalty)

    def opinions(self, features: dict, volumes: tuple = (1.0,)) -> torch.Tensor:
        """Probabilities (N, 10) from models that never heard the accent."""
        probs = torch.empty(len(self.labels), 10)
        for accent in np.unique(self.accents):
            train = np.flatnonzero(self.accents != accent)
            test = np.flatnonzero(self.accents == accent)
            samples, model = self.tuned(features, train, volumes)
            probs[test] = predict(model, samples[test]).softmax(1)
        return probs


def one_draw(seed: int) -> tuple[np.ndarray, dict]:
    """Return the voices, and (level, method) -> (N,) of 0 and 1."""
    right: dict = {}
    for level in LEVELS:
        digits = data.load("digits", image_noise=0.5, snr_db=level, seed=seed)
        x = {m: v.flatten(1) for m, v in digits.modalities.items()}
        listener = Listener(digits)
        picture = listener.opinions({"image": x["image"]})
        sound = listener.opinions({"audio": x["audio"]})
        answers = {
            "picture alone": picture,
            "sound alone": sound,
            "concatenated": listener.opinions(x),
            "averaged": decision.average({"image": picture, "audio": sound}),
            "turned down": listener.opinions(x, volumes=(0.1, 0.3, 1.0)),
        }
        for method, probs in answers.items():
            hits = probs.argmax(1) == digits.labels
            right[level, method] = hits.float().numpy()
    return listener.voices, right


def noise_draws() -> dict:
    """Accuracies per draw; and over all draws the gain of each fusion over the
    better single modality, with an interval over the forty voices."""
    torch.set_num_threads(1)
    voices, draws = [], []
    for seed in range(DRAWS):
        who, right = one_draw(seed)
        voices.append(who)
        draws.append(right)
        print(
            seed, {f"{k}": round(float(v.mean()), 3) for k, v in right.items()}
        )
    everyone = np.concatenate(voices)
    rows: dict = {"draws": DRAWS}
    for level in LEVELS:
        name = f"{level} dB"
        methods = [m for at, m in draws[0] if at == level]
        every = {
            m: np.concatenate([right[level, m] for right in draws])
            for m in methods
        }
        rows[name] = {
            m: [float(right[level, m].mean()) for right in draws]
            for m in methods
        }
        best = max(methods[:2], key=lambda m: every[m].mean())
        rows[name]["best single"] = best
        for method in methods[2:]:
            gap = bootstrap_interval(
                every[method] - every[best], groups=everyone, seed=0
            )
            rows[name][f"{method} minus best"] = [
                gap.estimate,
                gap.low,
                gap.high,
            ]
    return rows


PARTS = {"original_recipe": original_recipe, "noise_draws": noise_draws}


def main(arguments: list[str]) -> None:
    """Measure one way here, or parts, each written to its own file."""
    torch.set_num_threads(2)
    if arguments and arguments[0] in WAYS:
        row = WAYS[arguments[0]]()
        row["peak_mb"] = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        )
        print(json.dumps(row))
        return
    if unknown := [name for name in arguments if name not in PARTS]:
        sys.exit(
            f"unknown part {unknown[0]!r}, expected one of {[*PARTS, *WAYS]}"
        )
    for part in arguments or PARTS:
        save_results(
            RESULTS / f"{part}.json",
            command=f"{COMMAND} {part}",
            machine=(
                f"{platform.machine()}, {os.cpu_count()} cores, 2 threads,"
                f" torch {torch.__version__.split('+')[0]}"
            ),
            rows=PARTS[part](),
        )


if __name__ == "__main__":
    main(sys.argv[1:])
