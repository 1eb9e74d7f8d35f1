"""All levels of fusion on generated worlds and on real data.

python book/06_which_level/study.py        an hour in two processes
python book/06_which_level/study.py PART   one of the parts below

worlds, lowrank         the four worlds; low rank behind a learnt encoder
corruption              the redundant world, noise at test time
digits, digits_blocks   the digits in noise, one scale per feature or per block
real, blocks            real data sets, likewise
scaling                 the digits at -24 dB under four scalings

`real` and `blocks` need the data sets oasis and mvsa; the others download
nothing. Scores only: no post of mvsa is stored.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import platform
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mmtutor import data
from mmtutor.choosing.comparison import (
    Builder,
    Split,
    calibrated_single,
    joint_models,
    opinions_of,
    tuned,
)
from mmtutor.data import worlds
from mmtutor.evaluation import (
    accuracy,
    folds,
    grouped_split,
    log_loss,
    macro_f1,
)
from mmtutor.fusion import (
    EncoderFusion,
    FusionClassifier,
    LowRankFusion,
    decision,
)
from mmtutor.report import save_results
from mmtutor.training import predict
from mmtutor.types import Samples

RESULTS = Path(__file__).resolve().parent / "results"
SIZES, SEEDS, TEST = (150, 500, 2000), 10, 4000
KINDS = ("redundant", "unique", "complement", "synergy")
NOISES = (0, 1, 2, 4, 8)
CORRUPTED = ("concat linear", "concat MLP", "gated", "encoders + head")
# test conditions: as recorded, noise in dB, no sound
CONDITIONS = (
    "clean",
    -8,
    -12,
    -16,
    -20,
    -24,
    -28,
    "silent",
)
REGIMES = {
    "clean": ("clean",),
    "noise": ("clean", -8, -16, -24),
    "noise and silence": ("clean", -8, -16, -24, "silent"),
}
PAIRINGS = 3  # draws of pairs and of noise
SCALINGS = ("feature", "modality", "chapter 1", "block")
# what is measured again with one scale per block
MEASURED_AGAIN = (
    "concat linear",
    "concat MLP",
    "gated",
    "tensor",
    "encoders + head",
)


def rescaled(split: Split, scaling: str) -> Split:
    """Centre each feature on `train`, then divide by

    feature: its own standard deviation;
    modality: one deviation for all features of a modality;
    chapter 1: likewise, but taken before centring, so that the differences
        between the features' means count as spread, too;
    block: one number per modality, which gives all modalities the same summed
        variance, that of the narrowest one with variance 1 per feature.
    """
    if scaling == "feature":
        return split.standardised()
    width = min(x.shape[1] for x in split.train.features.values())
    shift, size = {}, {}
    for m, x in split.train.features.items():
        shift[m] = x.mean(0)
        centred = x - shift[m]
        size[m] = {
            "modality": centred.square().mean().sqrt(),
            "chapter 1": x.std(),
            "block": (centred.square().sum(1).mean() / width).sqrt(),
        }[scaling]

    def scaled(part: Samples) -> Samples:
        features = {
            m: (x - shift[m]) / size[m] for m, x in part.features.items()
        }
        return dataclasses.replace(part, features=features)

    return Split(*map(scaled, (split.train, split.validation, split.test)))


def encoded_low_rank(dims: dict[str, int], classes: int) -> nn.Module:
    """Return low-rank fusion behind the learnt encoders that "tensor" has."""
    encoders = {m: nn.Linear(d, 8) for m, d in dims.items()}
    fusion = LowRankFusion(dict.fromkeys(dims, 8), 32, 4)
    return FusionClassifier(EncoderFusion(encoders, fusion), classes)


def narrow_low_rank(dims: dict[str, int], classes: int) -> nn.Module:
    """Return low-rank fusion of raw features with a quarter of the products."""
    return FusionClassifier(LowRankFusion(dims, 8, 4), classes)


def fairly_started_low_rank(dims: dict[str, int], classes: int) -> nn.Module:
    """Return low-rank fusion of raw features whose leading 1 weighs, at the
    start, as much as all features together (chapter 3)."""
    fusion = LowRankFusion(dims, 32, 4)
    for factor in fusion.factor.values():
        sign = torch.randint(0, 2, factor.bias.shape) * 2.0 - 1
        factor.bias.data = sign * fusion.rank ** (-0.5 / len(dims))
    return FusionClassifier(fusion, classes)


def world_split(kind: str, n: int, seed: int) -> tuple[Split, float, int]:
    """Return the split of one world (n to learn from, n / 2 to choose on), its
    Bayes accuracy and number of classes."""
    world = getattr(worlds, kind)(seed=seed)
    parts = [
        world.sample(size, seed=3 * seed + k)
        for k, size in enumerate((n, n // 2, TEST))
    ]
    return Split(*parts), world.bayes_accuracy, 4 if kind == "complement" else 2


def world_row(kind: str, n: int, seed: int) -> dict[str, float]:
    """Return method → test accuracy in one world, with the Bayes accuracy."""
    split, bayes, classes = world_split(kind, n, seed)
    answers = opinions_of(split, classes, seed=seed)
    return {
        m: round(accuracy(p.argmax(1), split.test.labels), 4)
        for m, p in answers.items()
    } | {"Bayes": bayes}


def lowrank_row(kind: str, n: int, seed: int) -> dict[str, float]:
    """Return test accuracy of low-rank fusion, mended in four ways."""
    split, _, classes = world_split(kind, n, seed)
    attempts: dict[str, tuple[Builder, dict]] = {
        "behind encoders": (encoded_low_rank, {}),
        "a fair start for the 1": (fairly_started_low_rank, {}),
        "a quarter of the products": (narrow_low_rank, {}),
        "three times the steps": (
            joint_models()["low-rank"],
            {"steps": 450, "lr": 3e-3},
        ),
    }
    return {
        name: round(
            accuracy(
                predict(
                    tuned({name: build}, split, classes, seed=seed, **budget),
                    split.test,
                ).argmax(1),
                split.test.labels,
            ),
            4,
        )
        for name, (build, budget) in attempts.items()
    }


def noisy(
    samples: Samples,
    levels: tuple[float, ...],
    seed: int,
    only: str | None = None,
) -> Samples:
    """Add noise of a random level to one modality per sample (`only`: always
    that one)."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor(levels)[
        torch.randint(len(levels), (len(samples),), generator=generator)
    ][:, None]
    hit_a = (
        torch.rand(len(samples), 1, generator=generator) < 0.5
        if only is None
        else torch.tensor(only == "a")
    )
    features = {}
    for modality, x in samples.features.items():
        hit = hit_a if modality == "a" else ~hit_a
        features[modality] = x + torch.where(hit, size, 0.0) * torch.randn(
            x.shape, generator=generator
        )
    return Samples(features, samples.labels)


def corruption_row(regime: str, seed: int) -> dict[str, dict[str, float]]:
    """Return test noise on b → method → accuracy in the redundant world,
    trained clean or with corruption."""
    world = worlds.redundant(seed=seed)
    train, validation, test = (
        world.sample(size, seed=3 * seed + k)
        for k, size in enumerate((4000, 2000, TEST))
    )
    if regime == "corrupted":
        train, validation = (
            noisy(s, (0, 0, 1, 2, 4, 8), seed + k)
            for k, s in enumerate((train, validation))
        )
    split = Split(train, validation, test)
    models = {
        m: tuned(
            {m: joint_models()[m]}, split, 2, seed=seed, steps=1000, lr=3e-3
        )
        for m in CORRUPTED
    }
    singles = {
        m: calibrated_single(split, m, 2, seed=seed, steps=1000, lr=3e-3)
        for m in "ab"
    }
    rows = {}
    for level in NOISES:
        spoiled = noisy(test, (float(level),), 100 + seed, only="b")
        probs = {m: speak(spoiled) for m, speak in singles.items()}
        answers = {
            m: predict(models[m], spoiled).softmax(1) for m in CORRUPTED
        } | {
            "average": decision.average(probs),
            "product": decision.product_rule(probs),
            "a alone": probs["a"],
        }
        row = {
            m: round(accuracy(p.argmax(1), test.labels), 4)
            for m, p in answers.items()
        }
        # noise on noise: an observer who knows its size sees b through sqrt(1 +
        # level²)
        known = dataclasses.replace(
            world, noise={"a": 1.0, "b": (1 + level**2) ** 0.5}
        )
        rows[str(level)] = row | {"Bayes": known.bayes_accuracy}
    return rows


@lru_cache(maxsize=1)
def digits_at(seed: int) -> dict[int | str, data.Dataset]:
    """Return the same pairs of pictures and recordings at each level of noise
    in the sound; the pictures stay."""
    levels = {
        c: None if c == "clean" else c for c in CONDITIONS if c != "silent"
    }
    return {
        c: data.load("digits", image_noise=0.5, snr_db=snr, seed=seed)
        for c, snr in levels.items()
    }


def recorded_under(
    recordings: dict[int | str, data.Dataset],
    rows: np.ndarray,
    conditions: tuple,
) -> Samples:
    """Return the digits `rows` under each of the conditions, one copy after the
    other; names as in CONDITIONS."""
    first, count = recordings["clean"], len(conditions)
    silent = torch.tensor(
        [c == "silent" for c in conditions]
    ).repeat_interleave(len(rows))
    copies = [
        recordings["clean" if c == "silent" else c]
        .modalities["audio"][rows]
        .flatten(1)
        for c in conditions
    ]
    audio = torch.cat(copies)
    audio[silent] = torch.nan  # whoever looks at what is absent gets NaN
    features = {
        "image": first.modalities["image"][rows].flatten(1).repeat(count, 1),
        "audio": audio,
    }
    present = {"image": torch.ones_like(silent), "audio": ~silent}
    return Samples(features, first.labels[rows].repeat(count), present)


def digits_row(
    regime: str, seed: int, accent: int, scaling: str = "feature"
) -> dict[str, dict[str, float]]:
    """Return test condition → method → macro-F1 on the held-out accent, after
    training under REGIMES[regime].

    Each digit is trained on under each condition of the regime, in the same
    number of steps for all; so is validation.
    """
    recordings = digits_at(seed)
    one, voices = (
        recordings["clean"],
        recordings["clean"].targets["voice"].numpy() % 10,
    )
    test = np.flatnonzero(one.groups == accent)
    train = np.flatnonzero(one.groups != accent)
    parts = grouped_split(
        one.labels[train], voices[train], fraction=0.25, seed=seed
    )
    learning = [
        recorded_under(recordings, train[part], REGIMES[regime])
        for part in parts
    ]
    tested = {
        str(c): recorded_under(recordings, test, (c,)) for c in CONDITIONS
    }
    # one split per test condition, standardised alike; the training parts are
    # the same in all
    splits = {
        name: rescaled(Split(*learning, samples), scaling)
        for name, samples in tested.items()
    }
    tune = {"classes": 10, "seed": seed, "lr": 2e-3, "decays": (0.1, 10.0)}
    first = splits["clean"]
    joint = {m: tuned({m: joint_models()[m]}, first, **tune) for m in CORRUPTED}
    singles = {
        m: calibrated_single(first, m, **tune) for m in ("image", "audio")
    }
    rows = {}
    for name, split in splits.items():
        probs = {m: speak(split.test) for m, speak in singles.items()}
        answers = {
            m: predict(model, split.test).softmax(1)
            for m, model in joint.items()
        } | {
            "average": decision.average(probs, present=split.test.present),
            "product": decision.product_rule(probs, present=split.test.present),
            "image alone": probs["image"],
            "audio alone": probs["audio"],
        }
        if name == "silent":
            del answers["audio alone"]
        rows[name] = {
            m: round(macro_f1(p.argmax(1), split.test.labels), 4)
            for m, p in answers.items()
        }
    return rows | {"sizes": {"n_train": len(train), "n_test": len(test)}}


def real_samples(name: str) -> tuple[Samples, np.ndarray, np.ndarray, int]:
    """Return frozen features and labels, the groups of the test split, those of
    the validation split, and classes."""
    if name.startswith("digits"):
        loaded = data.load(
            "digits", image_noise=0.5, snr_db=float(name.split()[1])
        )
        features = {m: x.flatten(1) for m, x in loaded.modalities.items()}
        return (
            Samples(features, loaded.labels),
            loaded.groups,
            loaded.targets["voice"].numpy() % 10,
            10,
        )
    from mmtutor.encoders import ImageEncoder, TextEncoder

    loaded = data.load({"photographs": "oasis", "tweets": "mvsa"}[name])
    features = {
        "image": (
            ImageEncoder("efficientnet-lite0").encode(
                loaded.modalities["image"]
            )
        ),
        "text": TextEncoder("minilm").encode(loaded.modalities["text"]),
    }
    return Samples(features, loaded.labels), loaded.groups, loaded.groups, 3


def real_row(
    name: str, fold: int, scaling: str = "feature"
) -> dict[str, dict[str, float]]:
    """Return method → macro-F1, accuracy and log loss on one test fold: a
    held-out accent, theme or text.

    With one scale per block the networks with attention are left out, and
    low-rank fusion stands behind the same encoders as the tensor.
    """
    samples, groups, inner, classes = real_samples(name)
    digits = name.startswith("digits")
    train, test = list(
        folds(
            samples.labels,
            groups,
            splits=4 if digits else 5,
            repeats=1 if digits else 2,
        )
    )[fold]
    rest, held_out = grouped_split(
        samples.labels[train], inner[train], fraction=0.25, seed=fold
    )
    parts = train[rest], train[held_out], test
    split = rescaled(Split(*(samples[part] for part in parts)), scaling)
    budget = {
        "seed": fold,
        "class_weights": None if digits else "balanced",
        "lr": 2e-3,
        "decays": (0.1, 10.0),
    }
    methods = None if scaling == "feature" else list(MEASURED_AGAIN)
    answers = opinions_of(split, classes, methods=methods, **budget)
    if scaling != "feature":
        model = tuned({"": encoded_low_rank}, split, classes, **budget)
        answers["low-rank behind encoders"] = predict(
            model, split.test
        ).softmax(1)
    y = split.test.labels
    return {
        m: {
            "macro_f1": round(macro_f1(p.argmax(1), y), 4),
            "accuracy": round(accuracy(p.argmax(1), y), 4),
            "log_loss": round(
                log_loss(
                    p.clamp(min=1e-6) / p.clamp(min=1e-6).sum(1, keepdim=True),
                    y,
                ),
                4,
            ),
        }
        for m, p in answers.items()
    } | {"sizes": {"n_train": len(train), "n_test": len(test)}}


@lru_cache(maxsize=1)
def loud_digits(pairing: int) -> data.Dataset:
    """Return the digits at -24 dB, in one draw of pairs and of noise."""
    return data.load("digits", image_noise=0.5, snr_db=-24, seed=pairing)


def scaling_row(pairing: int, accent: int) -> dict[str, dict[str, float]]:
    """Return scaling → method → macro-F1 on a held-out accent at -24 dB."""
    loaded = loud_digits(pairing)
    samples = Samples(
        {m: x.flatten(1) for m, x in loaded.modalities.items()}, loaded.labels
    )
    voices = loaded.targets["voice"].numpy() % 10
    test = np.flatnonzero(loaded.groups == accent)
    train = np.flatnonzero(loaded.groups != accent)
    learn, choose = grouped_split(
        loaded.labels[train], voices[train], fraction=0.25, seed=pairing
    )
    raw = Split(samples[train[learn]], samples[train[choose]], samples[test])
    start = 4 * pairing + accent
    tune = {"seed": start, "lr": 2e-3, "decays": (0.1, 10.0)}
    rows = {}
    for scaling in SCALINGS:
        split = rescaled(raw, scaling)
        whole = scaling in ("feature", "block")
        joint = CORRUPTED if whole else CORRUPTED[:2]
        answers = {
            m: predict(
                tuned({m: joint_models()[m]}, split, 10, **tune), split.test
            ).softmax(1)
            for m in joint
        }
        if whole:
            probs = {
                m: calibrated_single(split, m, 10, **tune)(split.test)
                for m in ("image", "audio")
            }
            answers |= {
                "average": decision.average(probs),
                "product": decision.product_rule(probs),
                "image alone": probs["image"],
                "audio alone": probs["audio"],
            }
        rows[scaling] = {
            m: round(macro_f1(p.argmax(1), split.test.labels), 4)
            for m, p in answers.items()
        }
    return rows | {"sizes": {"n_train": len(train), "n_test": len(test)}}


# name → folds
REAL = {
    "digits -16": 4,
    "digits -20": 4,
    "digits -24": 4,
    "photographs": 10,
    "tweets": 10,
}
PLANS: dict[str, tuple[Callable, dict[str, tuple]]] = {
    "worlds": (
        world_row,
        {
            f"{kind}/{n}/{seed}": (kind, n, seed)
            for n in SIZES
            for seed in range(SEEDS)
            for kind in KINDS
        },
    ),
    "corruption": (
        corruption_row,
        {
            f"{regime}/{seed}": (regime, seed)
            for seed in range(SEEDS)
            for regime in ("clean", "corrupted")
        },
    ),
    "digits": (
        digits_row,
        {
            f"{regime}/{seed}/{accent}": (regime, seed, accent)
            for seed in range(PAIRINGS)
            for accent in range(4)
            for regime in REGIMES
        },
    ),
    "real": (
        real_row,
        {
            f"{name}/{fold}": (name, fold)
            for name, count in REAL.items()
            for fold in range(count)
        },
    ),
    "lowrank": (
        lowrank_row,
        {
            f"{kind}/500/{seed}": (kind, 500, seed)
            for seed in range(SEEDS)
            for kind in KINDS[:3]
        },
    ),
    "scaling": (
        scaling_row,
        {
            f"{pairing}/{accent}": (pairing, accent)
            for pairing in range(PAIRINGS)
            for accent in range(4)
        },
    ),
    "blocks": (
        real_row,
        {
            f"{name}/{fold}": (name, fold, "block")
            for name in ("tweets", "photographs")
            for fold in range(REAL[name])
        },
    ),
    "digits_blocks": (
        digits_row,
        {
            f"noise/{seed}/{accent}": ("noise", seed, accent, "block")
            for seed in range(PAIRINGS)
            for accent in range(4)
        },
    ),
}


def _task(job: tuple[str, str]) -> tuple[str, dict]:
    torch.set_num_threads(1)
    measure, rows = PLANS[job[0]]
    return job[1], measure(*rows[job[1]])


def main(names: list[str]) -> None:
    """Measure the named files (default: all) and write each when it is
    whole."""
    for name in names:
        if name not in PLANS:
            sys.exit(f"unknown part {name!r}, expected some of {list(PLANS)}")
    for name in names or PLANS:
        keys = list(PLANS[name][1])
        rows = {}
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            for key, row in pool.imap_unordered(
                _task, [(name, key) for key in keys]
            ):
                rows[key] = row
                print(f"{name} {len(rows)}/{len(keys)} {key}", flush=True)
            pool.close()
            # an orderly end: killed workers leave semaphores and a warning
            pool.join()
        machine = (
            f"{platform.machine()}, {os.cpu_count()} cores, 2 processes, torch"
            f" {torch.__version__.split('+')[0]}"
        )
        save_results(
            RESULTS / f"{name}.json",
            command=f"python book/06_which_level/study.py {name}",
            machine=machine,
            rows={key: rows[key] for key in keys},
        )


if __name__ == "__main__":
    main(sys.argv[1:])
