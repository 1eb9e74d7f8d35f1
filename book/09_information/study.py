"""Estimators of mutual information against the exact value, and real pairs.

python book/09_information/study.py        all files
python book/09_information/study.py PART   estimators, fusion (five minutes
                                           each) or pairs

`estimators` draws Gaussian pairs; `fusion` draws worlds whose information is
known, from five seeds each; `pairs` reads pictures, captions and tweets, and
needs oasis and mvsa. Scores, bounds and counts only: no post of mvsa is stored.
The Gaussian pairs have d columns on each side, column i of x with column i of y
of correlation rho, all else independent. Every estimator gets the same n
samples; the networks set half of them aside for the bound.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import platform
import runpy
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from mmtutor.alignment import cca
from mmtutor.choosing.comparison import (
    Split,
    calibrated_single,
    joint_models,
    tuned,
)
from mmtutor.data import worlds
from mmtutor.evaluation import (
    accuracy,
    apply_temperature,
    folds,
    grouped_split,
    log_loss,
    temperature_scale,
)
from mmtutor.fusion import decision
from mmtutor.information import (
    discrete_mi,
    gaussian_mi,
    histogram_mi,
    infonce_mi,
    ksg_mi,
    mine_mi,
    pid,
    plug_in_joint,
)
from mmtutor.report import save_results
from mmtutor.training import predict
from mmtutor.types import Samples

BOOK = Path(__file__).resolve().parents[1]
RESULTS = BOOK / "09_information" / "results"
# features and tuned heads of the study of captions: the same here, so that the
# chapters agree
chapter_8 = SimpleNamespace(
    **runpy.run_path(str(BOOK / "08_robustness" / "study.py"))
)

SEEDS, N = 10, 2000
COLUMNS, DEPENDENCE = (1, 3, 10), (0.3, 0.9)
SIZES = (500, 8000)  # beside N, where there are ten columns
# beside the usual 64, for InfoNCE with ten strongly dependent columns
BATCHES = (
    16,
    256,
)

DIMS = (1, 2, 4, 8)
HALVES = 12
SMALL = 590  # tweets, where there shall be as many as photographs
BATCH, SHUFFLES = 128, 10
SHRINKAGES, WIDTHS, TEMPERATURES = (
    (0.5, 0.9, 0.97, 0.99, 0.997, 0.999),
    (8, 32, 64, 128),
    (0.05, 0.1, 0.2, 0.5, 1.0, 3.0),
)
PAIRS = (
    "picture, human caption",
    "picture, machine caption",
    "human caption, machine caption",
    "picture, tweet",
    "picture, tweet, all posts",
)


def gaussian_pair(
    n: int, d: int, rho: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y, each (n, d); I(x; y) = -d/2 ln(1 - rho²)."""
    rng = np.random.default_rng([seed, n, d])
    x = rng.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((n, d))


def estimator_row(d: int, rho: float, n: int, seed: int) -> dict[str, float]:
    """Return estimator → nats; of the networks the bound on fresh samples and,
    for comparison, on training samples."""
    x, y = gaussian_pair(n, d, rho, seed)
    estimates = {"histogram": histogram_mi(x[:, 0], y[:, 0])} if d == 1 else {}
    estimates["KSG"] = ksg_mi(x, y)
    for name, estimate in {"InfoNCE": infonce_mi, "MINE": mine_mi}.items():
        bound = estimate(
            x, y, batch=64 if name == "InfoNCE" else min(256, n // 2), seed=seed
        )
        estimates |= {name: bound.fresh, f"{name}, training": bound.train}
    if (d, rho, n) == (COLUMNS[-1], DEPENDENCE[-1], N):
        for batch in BATCHES:
            estimates[f"InfoNCE, batch {batch}"] = infonce_mi(
                x, y, batch=batch, seed=seed
            ).fresh
    return {name: round(float(value), 4) for name, value in estimates.items()}


SETTINGS = [(d, rho, N) for d in COLUMNS for rho in DEPENDENCE]
SETTINGS += [(COLUMNS[-1], rho, n) for rho in DEPENDENCE for n in SIZES]
PLAN = {
    f"d={d}/rho={rho}/n={n}/{seed}": (d, rho, n, seed)
    for d, rho, n in SETTINGS
    for seed in range(SEEDS)
}


def _task(key: str) -> tuple[str, dict[str, float]]:
    torch.set_num_threads(1)
    return key, estimator_row(*PLAN[key])


@cache
def pair(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return both sides of a pair (N, D), labels and groups; of tweets one post
    per text, so that no retweet counts."""
    if "tweet" in name:
        dataset, pictures = chapter_8.loaded("mvsa")
        keep = np.sort(np.unique(dataset.groups, return_index=True)[1])
        words = chapter_8.minilm().encode(dataset.modalities["text"]).numpy()
        return (
            pictures[keep],
            words[keep],
            dataset.labels.numpy()[keep],
            dataset.groups[keep],
        )
    dataset, pictures = chapter_8.loaded("oasis")
    side = {
        "picture": pictures,
        "human caption": chapter_8.texts(chapter_8.HUMAN, 0),
        "machine caption": chapter_8.texts(chapter_8.MACHINE, 0),
    }
    return (
        *(side[part] for part in name.split(", ")),
        dataset.labels.numpy(),
        dataset.groups,
    )


def halves(name: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions to learn directions on, and to measure on; no theme in
    both."""
    x, _, y, groups = pair(name)
    rows = np.arange(len(x))
    if name == "picture, tweet":  # as many as there are photographs
        rows = np.sort(
            np.random.default_rng(number).choice(rows, SMALL, replace=False)
        )
    learn, measure = grouped_split(
        y[rows], groups[rows], fraction=0.5, seed=number
    )
    return rows[learn], rows[measure]


def reduced(x: np.ndarray, learn: np.ndarray, dims: int) -> Tensor:
    """Strongest components of standardised columns, both as learnt on `learn`:
    (N, dims)."""
    plain = StandardScaler().fit(x[learn]).transform(x)
    cut = PCA(dims, random_state=0).fit(plain[learn]).transform(plain)
    return torch.from_numpy(cut / np.sqrt(cut[learn].var(0).sum()))


def matching(a: Tensor, b: Tensor, temperature: float, seed: int = 0) -> float:
    """InfoNCE's bound with fixed features: ln B + E ln softmax of the own
    partner's cosine; a, b: (N, D)."""
    scores = normalize(a) @ normalize(b).T / temperature
    size, generator = min(BATCH, len(a)), torch.Generator().manual_seed(seed)
    bounds = []
    for _ in range(50):
        rows = torch.randperm(len(a), generator=generator)[:size]
        bounds.append(scores[rows][:, rows].log_softmax(1).diagonal().mean())
    return float(np.log(size) + torch.stack(bounds).mean())


def tuned_space(
    a: Tensor,
    b: Tensor,
    y: np.ndarray,
    groups: np.ndarray,
    learn: np.ndarray,
    seed: int,
) -> dict:
    """Choose shrinkage, width and temperature of a common space on held-out
    groups of `learn`."""
    rest, held = (
        learn[part]
        for part in grouped_split(
            y[learn], groups[learn], fraction=0.3, seed=seed
        )
    )
    trials = {}
    for shrinkage in SHRINKAGES:
        u, v, _ = cca(a[rest], b[rest], dims=max(WIDTHS), shrinkage=shrinkage)
        for width in WIDTHS:
            one, two = (
                (x[held] - x[rest].mean(0)) @ w[:, :width]
                for x, w in ((a, u), (b, v))
            )
            trials |= {
                (shrinkage, width, t): matching(one, two, t)
                for t in TEMPERATURES
            }
    return dict(
        zip(
            ("shrinkage", "width", "temperature"),
            max(trials, key=trials.get),
            strict=True,
        )
    )


def estimates(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Return both estimates between columns (N, d) and (N, d), in nats; the
    jitter is for captions that repeat."""
    return {
        "KSG": ksg_mi(a, b, jitter=1e-6),
        "Gaussian": gaussian_mi(np.cov(np.hstack([a, b]).T), a.shape[1]),
    }


def pair_row(name: str, number: int) -> dict:
    """Return estimates between both sides of a pair, on groups that had no part
    in finding the directions.

    "PCA" and "CCA": estimator → one number per entry of DIMS, as measured and
    with the pairs shuffled; "matching": the bound from finding the partner
    among BATCH, and the same for shuffled pairs.
    """
    x, y, labels, groups = pair(name)
    learn, measure = halves(name, number)
    a, b = (reduced(v, learn, chapter_8.COMPONENTS) for v in (x, y))
    chosen = tuned_space(a, b, labels, groups, learn, number)
    u, v, _ = cca(
        a[learn], b[learn], dims=max(WIDTHS), shrinkage=chosen["shrinkage"]
    )
    spaces = {"PCA": (a[measure], b[measure])}
    spaces["CCA"] = tuple(
        (z - z[learn].mean(0))[measure] @ w for z, w in ((a, u), (b, v))
    )
    result: dict = {
        "n_train": len(learn),
        "n_test": len(measure),
        "chosen": chosen,
    }
    orders = [
        torch.from_numpy(np.random.default_rng(k).permutation(len(measure)))
        for k in range(SHUFFLES)
    ]
    for space, (one, two) in spaces.items():
        by_width: dict[str, list[float]] = {}
        for d in DIMS:
            p, q = one[:, :d].numpy(), two[:, :d].numpy()
            chance = [estimates(p, q[order.numpy()]) for order in orders]
            for estimator, value in estimates(p, q).items():
                by_width.setdefault(estimator, []).append(round(value, 4))
                by_width.setdefault(f"{estimator}, shuffled", []).append(
                    round(float(np.mean([c[estimator] for c in chance])), 4)
                )
        result[space] = by_width
    one, two = (z[:, : chosen["width"]] for z in spaces["CCA"])
    result["matching"] = round(matching(one, two, chosen["temperature"]), 4)
    by_chance = [
        matching(one, two[order], chosen["temperature"]) for order in orders
    ]
    return result | {"matching, shuffled": round(float(np.mean(by_chance)), 4)}


LABELLED = {
    "human captions": 4,
    "machine captions": 4,
    "tweets": 2,
    "590 tweets": 8,
}
"""Rounds of five folds; each round of "590 tweets" draws as many posts anew as
there are photographs."""


def labelled(
    name: str, round_number: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return features by modality, labels and groups."""
    dataset, pictures = chapter_8.loaded(
        "mvsa" if "tweets" in name else "oasis"
    )
    rows = np.arange(len(pictures))
    if "tweets" in name:
        words = chapter_8.minilm().encode(dataset.modalities["text"]).numpy()
    else:
        words = chapter_8.texts(
            chapter_8.HUMAN if name == "human captions" else chapter_8.MACHINE,
            0,
        )
    if name == "590 tweets":
        rows = np.sort(
            np.random.default_rng(round_number).choice(
                rows, SMALL, replace=False
            )
        )
    return (
        {"image": pictures[rows], "text": words[rows]},
        dataset.labels.numpy()[rows],
        dataset.groups[rows],
    )


def entropy(y: np.ndarray) -> float:
    """Return the entropy of the labels, in nats."""
    shares = np.bincount(y) / len(y)
    return float(-(shares * np.log(shares)).sum())


def label_round(
    name: str, round_number: int
) -> tuple[dict, np.ndarray, np.ndarray]:
    """Return method → nats per fold, and of each sample the class that picture
    and text speak for most, one round."""
    x, y, groups = labelled(name, round_number)
    gained: dict[str, list[float]] = {}
    leaning = np.zeros((2, len(y)), dtype=np.int64)
    for rows, test in folds(
        y, groups, splits=chapter_8.SPLITS, repeats=1, seed=round_number
    ):
        rest, held = grouped_split(
            y[rows], groups[rows], fraction=0.25, seed=round_number
        )
        voices = chapter_8.speakers(
            {m: v[rows] for m, v in x.items()},
            y[rows],
            rest,
            held,
            balanced=False,
        )
        prior = np.bincount(y[rows]) / len(rows)
        opinions = chapter_8.with_pools(
            {
                m: speak({k: v[test] for k, v in x.items()})
                for m, speak in voices.items()
            },
            prior,
        )
        for m, p in opinions.items():
            gained.setdefault(m, []).append(
                round(entropy(y) - log_loss(p, y[test]), 4)
            )
        for k, m in enumerate(x):
            leaning[k, test] = (opinions[m] / prior).argmax(1)
    return gained, leaning, y


def dependent(one: np.ndarray, two: np.ndarray, y: np.ndarray) -> float:
    """I(one; two | y) from counts, in nats."""
    return sum(
        np.mean(y == c) * discrete_mi(plug_in_joint(one[y == c], two[y == c]))
        for c in np.unique(y)
    )


def label_row(name: str, round_number: int) -> dict:
    """Return nats per fold and method, the table of both opinions and the
    class, and how it scatters over groups."""
    gained, (one, two), y = label_round(name, round_number)
    groups = labelled(name, round_number)[2]
    rng = np.random.default_rng(round_number)
    within = [np.flatnonzero(y == c) for c in np.unique(y)]
    by_chance = []
    for _ in range(200):
        mixed = two.copy()
        for rows in within:
            mixed[rows] = rng.permutation(two[rows])
        by_chance.append(dependent(one, mixed, y))
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    drawn = []
    for _ in range(200):
        rows = np.concatenate(
            [members[i] for i in rng.integers(0, len(members), len(members))]
        )
        table = plug_in_joint(one[rows], two[rows], y[rows])
        drawn.append(
            [
                *pid(table, "broja"),
                *pid(table, "imin"),
                dependent(one[rows], two[rows], y[rows]),
            ]
        )
    independence = (
        dependent(one, two, y),
        np.mean(by_chance),
        np.quantile(by_chance, 0.975),
    )
    return {
        "entropy": round(entropy(y), 4),
        "gained": gained,
        "counts": (
            (plug_in_joint(one, two, y) * len(y)).round().astype(int).tolist()
        ),
        "scatter": np.std(drawn, axis=0, ddof=1).round(4).tolist(),
        "dependent": [round(float(v), 4) for v in independence],
    }


MIXTURES = {
    "R + C": {"redundant": 0.5, "complement": 0.5},
    "3C + S": {"complement": 0.75, "synergy": 0.25},
    "U + S": {"unique": 0.65, "synergy": 0.35},
}
KINDS = ("redundant", "unique", "complement", "synergy")
COPIED = "copied"  # b is a once more: what it tells is told twice
JOINT = ("concat linear", "concat MLP", "tensor")
# the first version of the page looked at seeds 0 to 9
WORLD_SEEDS = range(10, 15)


def world_of(name: str, seed: int) -> worlds.World:
    """Return one of the four worlds, a mixture, or what "copied" copies."""
    if name in MIXTURES:
        return worlds.mixture(seed=seed, **MIXTURES[name])
    return getattr(worlds, "unique" if name == COPIED else name)(seed=seed)


def world_split(name: str, seed: int) -> Split:
    """Return 2000 samples to learn from, 1000 to choose on, 4000 to judge."""
    parts = [
        world_of(name, seed).sample(n, seed=3 * seed + k)
        for k, n in enumerate((2000, 1000, 4000))
    ]
    if name == COPIED:
        parts = [
            Samples(dict.fromkeys("ab", p.features["a"]), p.labels)
            for p in parts
        ]
    return Split(*parts)


def pool_weights(opinions: dict[str, Tensor], y: Tensor) -> dict[str, float]:
    """Weights >= 0 of a log-linear pool with the lowest log loss: a stack of
    opinions with one number per modality."""
    logs = torch.stack(
        [p.double().clamp(min=1e-12).log() for p in opinions.values()]
    )

    def loss(w: np.ndarray) -> float:
        pooled = torch.einsum("m,mnc->nc", torch.tensor(w), logs)
        return cross_entropy(pooled, y).item()

    found = minimize(loss, np.ones(len(logs)), bounds=[(0, None)] * len(logs))
    return dict(zip(opinions, map(float, found.x), strict=True))


def calibrated_joint(
    name: str, split: Split, classes: int, **tune
) -> tuple[Tensor, float]:
    """Return a tuned joint model's calibrated answers about the test samples,
    and its calibrated log loss on the validation part."""
    model = tuned({name: joint_models()[name]}, split, classes, **tune)
    held = predict(model, split.validation)
    warmth = temperature_scale(held, split.validation.labels)
    loss = log_loss(apply_temperature(held, warmth), split.validation.labels)
    return apply_temperature(predict(model, split.test), warmth), loss


def answers_of(split: Split, classes: int, **tune) -> dict[str, Tensor]:
    """Return method → probabilities of the test samples: each modality alone,
    three ways to combine their calibrated opinions, and joint models; "joint"
    is the one with the lowest validation loss."""
    speak = {
        m: calibrated_single(split, m, classes, **tune)
        for m in split.train.features
    }
    held = {m: f(split.validation) for m, f in speak.items()}
    said = {m: f(split.test) for m, f in speak.items()}
    y = split.validation.labels
    weights = pool_weights(held, y)
    answers = dict(said)
    answers["product"] = decision.product_rule(said)
    answers["pool"] = decision.log_linear_pool(said, weights)
    answers["stack"] = decision.Stacking().fit(held, y).predict_proba(said)
    joint = {m: calibrated_joint(m, split, classes, **tune) for m in JOINT}
    answers |= {m: p for m, (p, _) in joint.items()}
    answers["joint"] = joint[min(joint, key=lambda m: joint[m][1])][0]
    return answers


def fusion_row(name: str, seed: int) -> dict[str, dict[str, float]]:
    """Return accuracy and log loss of every method in one world."""
    torch.set_num_threads(1)
    split = world_split(name, seed)
    classes = len(world_of(name, seed).classes)
    answers, y = answers_of(split, classes, seed=seed), split.test.labels
    return {
        "accuracy": {
            m: round(accuracy(p.argmax(1), y), 4) for m, p in answers.items()
        },
        "log loss": {m: round(log_loss(p, y), 4) for m, p in answers.items()},
    }


def measure_fusion() -> dict:
    """Return all rows of worlds whose information is known."""
    rows = {}
    for name in (*KINDS, *MIXTURES, COPIED):
        for seed in WORLD_SEEDS:
            rows[f"{name}/{seed}"] = fusion_row(name, seed)
        print(f"fusion {name}", flush=True)
    return rows


def measure_estimators() -> dict:
    """Return all rows on Gaussian pairs."""
    rows = {}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for key, values in pool.imap_unordered(_task, PLAN):
            rows[key] = values
            print(f"estimators {len(rows)}/{len(PLAN)} {key}", flush=True)
        pool.close()
        # an orderly end: killed workers would leave semaphores and a warning
        pool.join()
    return {key: rows[key] for key in PLAN}


def measure_pairs() -> dict:
    """Return all rows on real pairs, and on both opinions of a label."""
    # heads this small are slower on two threads than on one
    torch.set_num_threads(1)
    rows = {}
    for name in PAIRS:
        for number in range(HALVES):
            rows[f"{name}/{number}"] = pair_row(name, number)
            print(f"{name} {number + 1}/{HALVES}", flush=True)
    for name, rounds in LABELLED.items():
        for number in range(rounds):
            rows[f"label/{name}/{number}"] = label_row(name, number)
            print(f"label {name} {number + 1}/{rounds}", flush=True)
    return rows


PARTS = {
    "estimators": measure_estimators,
    "fusion": measure_fusion,
    "pairs": measure_pairs,
}


def main(names: list[str]) -> None:
    """Measure the named files (default: all) and write each when it is
    whole."""
    for name in names:
        if name not in PARTS:
            sys.exit(f"unknown part {name!r}, expected some of {list(PARTS)}")
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, torch"
        f" {torch.__version__.split('+')[0]}"
    )
    for name in names or PARTS:
        command = f"python book/09_information/study.py {name}"
        save_results(
            RESULTS / f"{name}.json",
            command=command,
            machine=machine,
            rows=PARTS[name](),
        )


if __name__ == "__main__":
    main(sys.argv[1:])
