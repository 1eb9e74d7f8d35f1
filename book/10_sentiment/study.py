"""Photographs with captions against tweets: either modality, both, fine-tuning.

python book/10_sentiment/study.py        about 25 minutes on two idle cores
python book/10_sentiment/study.py PART   looks methods curve published weights
                                         hidden finetune

Needs the data sets oasis and mvsa. Scores only: no post of mvsa is stored.
"""

from __future__ import annotations

import copy
import hashlib
import os
import platform
import sys
import time
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score
from torch import Tensor, nn

from mmtutor import data
from mmtutor.choosing.grouped import GroupedSamples
from mmtutor.choosing.heads import STRENGTHS, calibrate, fit_head
from mmtutor.choosing.nested import answers_about
from mmtutor.data.mvsa import normalise
from mmtutor.encoders import ImageEncoder, TextEncoder
from mmtutor.encoders.text import mean_pool
from mmtutor.evaluation import (
    accuracy,
    expected_calibration_error,
    folds,
    grouped_split,
    log_loss,
    macro_f1,
)
from mmtutor.fusion import ConcatFusion, FusionClassifier
from mmtutor.report import save_results
from mmtutor.training import fit, predict
from mmtutor.types import Features, Masks, Present, Samples

RESULTS = Path(__file__).resolve().parent / "results"
SETS = {"photographs": "oasis", "tweets": "mvsa"}
"""Name in the results → data set."""
METHODS = ("text", "image", "early", "late")
REPEATS = 5
SIZES = {
    "photographs": (60, 120, 240, 470),
    "tweets": (100, 200, 400, 800, 1600),
}
RATES = (1e-5, 5e-5, 2e-4)
"""Learning rates that fine-tuning chooses from, on the validation part."""
STARTS = 5
HIDDEN = tuple((lr, decay) for lr in (3e-4, 1e-3) for decay in (0.1, 1.0))
"""Learning rate and weight decay that the hidden layer chooses from."""
EMOJI = ((0x1F000, 0x1FAFF), (0x2600, 0x27BF))
"""Where Unicode keeps emoji and the older pictographs."""


@lru_cache(maxsize=2)
def table_of(name: str) -> GroupedSamples:
    """Return frozen features, labels and groups of a set."""
    loaded = data.load(SETS[name])
    features = {
        "text": TextEncoder("minilm").encode(loaded.modalities["text"]),
        "image": (
            ImageEncoder("efficientnet-lite0").encode(
                loaded.modalities["image"]
            )
        ),
    }
    return GroupedSamples(
        features, loaded.labels, loaded.groups, loaded.classes
    )


def form(text: str) -> list[float]:
    """Return what a text looks like, whatever it says."""
    capitals = sum(c.isupper() for c in text) / max(len(text), 1)
    marks = [
        text.count(mark) for mark in ("#", "@", "http", "!", "?", ".", ",")
    ]
    return [
        len(text),
        len(text.split()),
        capitals,
        text.lower().startswith("rt"),
        *marks,
    ]


def size(path: Path) -> list[float]:
    """Return width, height, their ratio and the logarithm of the bytes of a
    picture file."""
    with Image.open(path) as picture:
        width, height = picture.size
    return [width, height, width / height, np.log(path.stat().st_size)]


def colour(path: Path) -> list[float]:
    """Return mean red, green and blue, contrast and saturation."""
    small = Image.open(path).convert("RGB").resize((64, 64))
    rgb, hsv = np.asarray(small) / 255, np.asarray(small.convert("HSV")) / 255
    return [*rgb.mean((0, 1)), rgb.mean(2).std(), hsv[..., 1].mean()]


SHORTCUTS = {
    "form of the text": ("text", form),
    "size of the picture": ("image", size),
    "colours": ("image", colour),
}


def shortcut_row(name: str) -> dict[str, list[float]]:
    """Return shortcut → macro-F1 over five grouped folds of a forest that is
    shown nothing else."""
    loaded, rows = data.load(SETS[name]), {}
    y = loaded.labels.numpy()
    for shortcut, (modality, look) in SHORTCUTS.items():
        x = np.array(
            [look(sample) for sample in loaded.modalities[modality]], float
        )
        rows[shortcut] = []
        for train, test in folds(y, loaded.groups, splits=5, repeats=1):
            forest = RandomForestClassifier(
                60, min_samples_leaf=5, class_weight="balanced", random_state=0
            )
            score = macro_f1(
                forest.fit(x[train], y[train]).predict(x[test]), y[test]
            )
            rows[shortcut].append(round(score, 4))
    return rows


def look_row(name: str) -> dict:
    """Return counts of classes, of what repeats (reposts and how often their
    labels agree, files), and of signs that the encoder cannot read; shortcuts.

    "reposts": for each text that stands more than once, the labels it has got.
    """
    loaded = data.load(SETS[name])
    y, texts = (
        loaded.labels.numpy(),
        [normalise(text) for text in loaded.modalities["text"]],
    )
    again = {
        text: [k for k, other in enumerate(texts) if other == text]
        for text in sorted(set(texts))
        if text
    }
    reposts = [y[rows].tolist() for rows in again.values() if len(rows) > 1]
    same = [
        np.mean([a == b for a, b in combinations(labels, 2)])
        for labels in reposts
    ]
    raw = loaded.modalities["text"]
    pictographs = [
        any(low <= ord(c) <= high for c in text for low, high in EMOJI)
        for text in raw
    ]
    files = {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in loaded.modalities["image"]
    }
    return {
        "counts": np.bincount(y).tolist(),
        "repeated": sum(map(len, reposts)),
        "reposts": reposts,
        "without words": texts.count(""),
        "with emoji": sum(pictographs),
        "with ??": sum("??" in text for text in raw),
        "unread": TextEncoder("minilm").unread(raw),
        "same words, same label": float(np.mean(same)) if same else None,
        "any two, same label": float(((np.bincount(y) / len(y)) ** 2).sum()),
        "files": len(files),
        "shortcuts": shortcut_row(name),
    }


def methods_row(name: str, split: str) -> dict:
    """Return method → lists over the folds: macro-F1, accuracy, and ECE and log
    loss before and after calibration.

    split: "grouped" as it should be, or "random", which lets kindred posts
    stand on both sides. Balanced opinions are scored as they are ("raw") and
    calibrated on the answers of the other folds of the same repeat.
    """
    table = table_of(name)
    groups = table.groups if split == "grouped" else None
    plan = list(folds(table.labels, groups, splits=5, repeats=REPEATS))
    by_fold = []
    for number, (train, test) in enumerate(plan):
        learnt = torch.zeros(len(table), dtype=torch.bool)
        learnt[train] = True
        answers, _ = answers_about(
            table, learnt, torch.from_numpy(test), METHODS, seed=number
        )
        by_fold.append(answers)
    rows = {
        m: {
            key: []
            for key in (
                "macro_f1",
                "accuracy",
                "ece_raw",
                "loss_raw",
                "ece",
                "loss",
            )
        }
        for m in METHODS
    }
    y = table.labels
    for number, (_, test) in enumerate(plan):
        mates = [
            k
            for k in range(number // 5 * 5, number // 5 * 5 + 5)
            if k != number
        ]
        for m in METHODS:
            q = by_fold[number][m]
            fitted = calibrate(
                torch.cat([by_fold[k][m] for k in mates]),
                y[np.concatenate([plan[k][1] for k in mates])],
            )
            scores = {
                "macro_f1": macro_f1(q.argmax(1), y[test]),
                "accuracy": accuracy(q.argmax(1), y[test]),
                "ece_raw": expected_calibration_error(q, y[test]),
                "loss_raw": log_loss(q, y[test]),
                "ece": expected_calibration_error(fitted(q), y[test]),
                "loss": log_loss(fitted(q), y[test]),
            }
            for key, value in scores.items():
                rows[m][key].append(round(value, 4))
    sizes = {"n_train": len(plan[0][0]), "n_test": len(plan[0][1])}
    return {
        "methods": rows,
        "sizes": sizes,
        "counts": torch.bincount(y).tolist(),
    }


def weights_row(name: str, class_weights: str | None) -> dict:
    """Return class → recall, and macro-F1 and accuracy, of early fusion over
    ten grouped folds.

    class_weights: "balanced", or None for a loss in which a common class counts
    more.
    """
    table = table_of(name)
    rows: dict[str, list[float]] = {
        key: [] for key in ("macro_f1", "accuracy", *table.classes)
    }
    for train, test in folds(table.labels, table.groups, splits=5, repeats=2):
        learn, judge = (
            table.samples(torch.from_numpy(i), ("text", "image"))
            for i in (train, test)
        )
        guess = predict(
            fit_head(learn, 3, 2.0, class_weights=class_weights), judge
        ).argmax(1)
        rows["macro_f1"].append(round(macro_f1(guess, judge.labels), 4))
        rows["accuracy"].append(round(accuracy(guess, judge.labels), 4))
        for c, label in enumerate(table.classes):
            rows[label].append(
                round(float((guess == c)[judge.labels == c].double().mean()), 4)
            )
    return {
        "scores": rows,
        "sizes": {"n_train": len(train), "n_test": len(test)},
    }


def rescaled(known: Samples, *others: Samples) -> list[Samples]:
    """Return samples with each modality centred, and scaled to the same total
    variance, by the samples known (one scale per block, as in chapter 6)."""
    narrowest = min(x.shape[1] for x in known.features.values())
    middle = {m: x.mean(0) for m, x in known.features.items()}
    size = {
        m: (x.var(0).sum() / narrowest).sqrt()
        for m, x in known.features.items()
    }
    return [
        Samples(
            {m: (x - middle[m]) / size[m] for m, x in part.features.items()},
            part.labels,
        )
        for part in (known, *others)
    ]


def hidden_layer(known: Samples, seed: int) -> FusionClassifier:
    """Return an untrained head with one hidden layer."""
    torch.manual_seed(seed)
    dims = {m: x.shape[1] for m, x in known.features.items()}
    return FusionClassifier(ConcatFusion(dims), 3, hidden=64)


def plain_loss(model: nn.Module, samples: Samples) -> float:
    """Return the mean cross-entropy of a model on samples."""
    logits = predict(model, samples)
    return float(nn.functional.cross_entropy(logits, samples.labels))


def hidden_fold(
    table: GroupedSamples, train: np.ndarray, test: np.ndarray, seeds: range
) -> dict:
    """Return macro-F1 on one fold of the linear head, and of the hidden layer
    from each start: stopped early on the held-out quarter ("part"), and trained
    anew on all of the training part for as many epochs ("all").

    Linear head and hidden layer choose one setting of four on that quarter.
    """
    rest, held = grouped_split(
        table.labels[train], table.groups[train], fraction=0.25, seed=seeds[0]
    )
    rows = (train[rest], train[held], train, test)
    inner, choose, whole, judge = (
        table.samples(torch.from_numpy(i), ("text", "image")) for i in rows
    )
    strength = min(
        STRENGTHS, key=lambda s: plain_loss(fit_head(inner, 3, s), choose)
    )
    guess = predict(fit_head(whole, 3, strength), judge).argmax(1)
    found = {"linear": macro_f1(guess, judge.labels), "part": [], "all": []}
    found["epochs"] = []
    inner, choose, asked = rescaled(inner, choose, judge)
    whole, judge = rescaled(whole, judge)
    options = {"batch_size": 64, "class_weights": "balanced", "device": "cpu"}
    for seed in seeds:
        tried = []
        for lr, decay in HIDDEN:
            model = hidden_layer(inner, seed)
            setting = {"lr": lr, "weight_decay": decay, "seed": seed, **options}
            history = fit(
                model, inner, choose, epochs=30, patience=5, **setting
            )
            loss = plain_loss(model, choose)
            tried.append((loss, len(tried), model, setting, history.best_epoch))
        _, _, model, setting, epochs = min(tried)
        again = hidden_layer(whole, seed)
        fit(again, whole, epochs=epochs, **setting)
        for key, net, part in (("part", model, asked), ("all", again, judge)):
            guess = predict(net, part).argmax(1)
            found[key].append(macro_f1(guess, judge.labels))
        found["epochs"].append(epochs)
    return found


def hidden_row(name: str) -> dict:
    """Return the lists of `hidden_fold` over ten grouped folds, five starts
    each."""
    table = table_of(name)
    plan = list(folds(table.labels, table.groups, splits=5, repeats=2))
    rows: dict[str, list] = {}
    for number, (train, test) in enumerate(plan):
        seeds = range(STARTS * number, STARTS * (number + 1))
        found = hidden_fold(table, train, test, seeds)
        for key, value in found.items():
            rows.setdefault(key, []).append(np.round(value, 4).tolist())
        print(name, number, {k: v[-1] for k, v in rows.items()}, flush=True)
    sizes = {"n_train": len(train), "n_test": len(test)}
    return {"scores": rows, "sizes": sizes}


def curve_row(name: str, size: int) -> dict:
    """Return method → macro-F1 over ten grouped folds, learning from about
    `size` posts of each training part."""
    table = table_of(name)
    plan = list(folds(table.labels, table.groups, splits=5, repeats=2))
    rows: dict[str, list[float]] = {m: [] for m in METHODS}
    for number, (train, test) in enumerate(plan):
        learnt = torch.zeros(len(table), dtype=torch.bool)
        if size < 0.95 * len(train):
            share = size / len(train)
            _, part = grouped_split(
                table.labels[train],
                table.groups[train],
                fraction=share,
                seed=number,
            )
            train = train[part]
        learnt[train] = True
        answers, _ = answers_about(
            table, learnt, torch.from_numpy(test), METHODS, seed=number
        )
        for m in METHODS:
            rows[m].append(
                round(macro_f1(answers[m].argmax(1), table.labels[test]), 4)
            )
    return {
        "methods": rows,
        "sizes": {
            "n_train": min(size, len(plan[0][0])),
            "n_test": len(plan[0][1]),
        },
    }


def published_row(name: str) -> dict[str, list[float]]:
    """Return metric → one value per fold of early fusion, over five times five
    grouped folds: the metrics that papers on these posts print, beside
    macro-F1."""
    table = table_of(name)
    y = table.labels
    rows: dict[str, list[float]] = {
        key: [] for key in ("accuracy", "weighted_f1", "macro_f1")
    }
    plan = folds(y, table.groups, splits=5, repeats=REPEATS)
    for number, (train, test) in enumerate(plan):
        learnt = torch.zeros(len(table), dtype=torch.bool)
        learnt[train] = True
        answers, _ = answers_about(
            table, learnt, torch.from_numpy(test), ["early"], seed=number
        )
        guess, truth = answers["early"].argmax(1), y[test]
        weighted = f1_score(truth, guess, average="weighted")
        rows["accuracy"].append(round(accuracy(guess, truth), 4))
        rows["weighted_f1"].append(round(float(weighted), 4))
        rows["macro_f1"].append(round(macro_f1(guess, truth), 4))
    return rows


class LastBlock(nn.Module):
    """A copy of an encoder's last block, a pooling, and a linear layer: what
    fine-tuning may change here.

    features[m] as `below` gives them → logits (B, C). Starts as the frozen
    encoder with the head given.
    """

    def __init__(
        self, modality: str, network: nn.Module, head: nn.Module
    ) -> None:
        """Copy the last block of `network`, and the chosen head."""
        super().__init__()
        self.modality = modality
        parts = (
            [network.encoder.layer[-1]]
            if modality == "text"
            else [network.blocks[-1], network.conv_head, network.bn2]
        )
        self.block = copy.deepcopy(nn.ModuleList(parts)).requires_grad_(True)
        self.head = copy.deepcopy(head)

    def train(self, mode: bool = True) -> LastBlock:
        """Leave batch normalisation and dropout as they are in use: a few
        hundred posts are no basis for statistics."""
        return super().train(False)

    def forward(
        self,
        features: Features,
        present: Present | None = None,
        masks: Masks | None = None,
    ) -> Tensor:
        """Return logits (B, C) of what enters the last block."""
        x = features[self.modality]
        if self.modality == "image":
            for layer in self.block:
                x = layer(x)
            return self.head({"image": x.mean((2, 3))})
        # of this batch: no time is spent on padding
        longest = int(masks["text"].sum(1).max())
        x, mask = x[:, :longest], masks["text"][:, :longest]
        hidden = self.block[0](
            x,
            attention_mask=torch.where(mask, 0.0, torch.finfo(x.dtype).min)[
                :, None, None
            ],
        )
        return self.head(
            {
                "text": mean_pool(
                    hidden[0] if isinstance(hidden, tuple) else hidden, mask
                )
            }
        )


@torch.no_grad()
def below(name: str, modality: str) -> tuple[Samples, nn.Module]:
    """Return what enters the last block, for all posts, and the network.
    Computed once: it is frozen."""
    loaded = data.load(SETS[name])
    if modality == "image":
        encoder = ImageEncoder("efficientnet-lite0", cache=False)
        network, maps = encoder.model, []
        for i in range(0, len(loaded.labels), 16):
            pictures = loaded.modalities["image"][i : i + 16]
            x = torch.stack([encoder.preprocess(p) for p in pictures])
            maps.append(network.blocks[:-1](network.bn1(network.conv_stem(x))))
        return Samples({"image": torch.cat(maps)}, loaded.labels), network
    encoder = TextEncoder("minilm", cache=False)
    network, entering = encoder.model, {}

    def keep(module: nn.Module, inputs: tuple, options: dict) -> None:
        entering["x"] = inputs[0] if inputs else options["hidden_states"]

    network.encoder.layer[-1].register_forward_pre_hook(keep, with_kwargs=True)
    ids = encoder._ids(list(loaded.modalities["text"]))
    longest = max(map(len, ids))
    x, mask = (
        torch.zeros(len(ids), longest, encoder.dim),
        torch.zeros(len(ids), longest, dtype=torch.bool),
    )
    for i in range(0, len(ids), 32):
        real, _, _ = encoder._run(ids[i : i + 32])
        x[i : i + 32, : real.shape[1]], mask[i : i + 32, : real.shape[1]] = (
            entering["x"],
            real,
        )
    return Samples({"text": x}, loaded.labels, masks={"text": mask}), network


def finetuned(
    start: LastBlock, learn: Samples, choose: Samples, seed: int
) -> tuple[LastBlock, float]:
    """Return the model of the learning rate and epoch with the lowest loss, and
    its seconds."""
    tried = {}
    for rate in RATES:
        model, begin = copy.deepcopy(start), time.perf_counter()
        history = fit(
            model,
            learn,
            choose,
            epochs=6,
            lr=rate,
            batch_size=32,
            class_weights="balanced",
            patience=2,
            seed=seed,
            device="cpu",
        )
        tried[min(history.validation_loss)] = (
            model,
            time.perf_counter() - begin,
        )
    return tried[min(tried)]


def finetune_row(name: str, modality: str) -> dict:
    """Return, over five grouped folds, macro-F1 of a frozen encoder with a head
    and with its last block fine-tuned.

    Both learn from three quarters of the training part and choose on the rest:
    the head its strength, fine-tuning its learning rate and its epoch, starting
    from the chosen head. "frozen, all": the head trained on both. Seconds: of
    one head, and of fine-tuning at one rate.
    """
    table, (entering, network) = table_of(name), below(name, modality)
    rows: dict[str, list[float]] = {
        k: []
        for k in (
            "frozen",
            "fine-tuned",
            "frozen, all",
            "s frozen",
            "s fine-tuned",
        )
    }
    for number, (train, test) in enumerate(
        folds(table.labels, table.groups, splits=5, repeats=1)
    ):
        rest, part = grouped_split(
            table.labels[train], table.groups[train], fraction=0.25, seed=number
        )
        indices = (train[rest], train[part], test, train)
        learn, choose, judge, whole = (
            table.samples(torch.from_numpy(i), (modality,)) for i in indices
        )
        y = judge.labels
        start = time.perf_counter()
        heads = {s: fit_head(learn, 3, s) for s in STRENGTHS}
        rows["s frozen"].append((time.perf_counter() - start) / len(STRENGTHS))
        best = min(
            heads,
            key=lambda s: _balanced_loss(
                predict(heads[s], choose), choose.labels
            ),
        )
        rows["frozen"].append(
            macro_f1(predict(heads[best], judge).argmax(1), y)
        )
        rows["frozen, all"].append(
            macro_f1(predict(fit_head(whole, 3, best), judge).argmax(1), y)
        )
        parts = entering[train[rest]], entering[train[part]]
        model, seconds = finetuned(
            LastBlock(modality, network, heads[best]), *parts, number
        )
        rows["s fine-tuned"].append(seconds)
        rows["fine-tuned"].append(
            macro_f1(predict(model, entering[test], batch_size=64).argmax(1), y)
        )
        print(
            name,
            modality,
            number,
            {k: round(v[-1], 3) for k, v in rows.items()},
            flush=True,
        )
    rounded = {k: [round(float(x), 4) for x in v] for k, v in rows.items()}
    return {
        "scores": rounded,
        "sizes": {"n_train": len(train), "n_test": len(test)},
    }


def _balanced_loss(logits: Tensor, y: Tensor) -> float:
    weight = torch.bincount(y).clamp(min=1).float().reciprocal()
    return float(nn.functional.cross_entropy(logits, y, weight=weight))


PLANS = {
    "looks": (look_row, {name: (name,) for name in SETS}),
    "methods": (
        methods_row,
        {
            f"{name}/{split}": (name, split)
            for name in SETS
            for split in ("grouped", "random")
        },
    ),
    "curve": (
        curve_row,
        {
            f"{name}/{size}": (name, size)
            for name in SETS
            for size in SIZES[name]
        },
    ),
    "published": (published_row, {"tweets": ("tweets",)}),
    "weights": (
        weights_row,
        {
            f"{name}/{kind or 'plain'}": (name, kind)
            for name in SETS
            for kind in ("balanced", None)
        },
    ),
    "hidden": (hidden_row, {"photographs": ("photographs",)}),
    "finetune": (
        finetune_row,
        {f"{name}/{m}": (name, m) for name in SETS for m in ("text", "image")},
    ),
}


def main(names: list[str]) -> None:
    """Measure the named files (default: all) and write each when it is
    whole."""
    for name in names:
        if name not in PLANS:
            sys.exit(f"unknown part {name!r}, expected some of {list(PLANS)}")
    for name in names or PLANS:
        measure, plan = PLANS[name]
        torch.set_num_threads(1)
        rows = {}
        for key, arguments in plan.items():
            rows[key] = measure(*arguments)
            print(f"{name} {len(rows)}/{len(plan)} {key}", flush=True)
        machine = (
            f"{platform.machine()}, {os.cpu_count()} cores, torch"
            f" {torch.__version__.split('+')[0]}"
        )
        save_results(
            RESULTS / f"{name}.json",
            command=f"python book/10_sentiment/study.py {name}",
            machine=machine,
            rows=rows,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
