"""Captions made worse, and what real pairs share: the results files of chapters 8 and 9.

python -m benchmarks.captions              both files (about ten minutes on one idle core)
python -m benchmarks.captions captions     chapter 8: typos, dropped words and machine captions; needs oasis
python -m benchmarks.captions pairs        chapter 9: information in real pairs; needs oasis and mvsa

Scores, bounds and counts only: no post of mvsa is stored.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy.special import log_softmax
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn.functional import normalize

from mmtutor import data
from mmtutor.alignment import cca
from mmtutor.encoders import ImageEncoder, TextEncoder
from mmtutor.evaluation import (
    apply_temperature,
    folds,
    grouped_split,
    log_loss,
    macro_f1,
    temperature_scale,
)
from mmtutor.fusion import decision
from mmtutor.information import discrete_mi, gaussian_mi, ksg_mi, pid, plug_in_joint
from mmtutor.report import save_results
from mmtutor.robustness import corrupt

BOOK = Path(__file__).resolve().parent.parent / "book"
SPLITS, REPEATS = 5, 4
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
COMPONENTS = 128

Condition = tuple[str, float]
"""(kind, severity): "human", "machine", or a kind of `corrupt`."""

HUMAN, MACHINE = ("human", 0.0), ("machine", 0.0)
TESTED = (
    HUMAN,
    *(("typos", s) for s in (0.05, 0.1, 0.2, 0.3, 0.5)),
    *(("dropped words", s) for s in (0.25, 0.5, 0.75, 1.0)),
    MACHINE,
)
DRAWS = (0, 1, 2)  # test each severity on so many draws of the corruption
REGIMES = {
    "human": (HUMAN,),
    "typos": (HUMAN, ("typos", 0.1), ("typos", 0.2), ("typos", 0.4)),
    "everything": (HUMAN, ("typos", 0.2), ("typos", 0.4), ("dropped words", 0.5), MACHINE),
}
TRAINING_DRAW = 100  # training never sees a draw that a test uses

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


@lru_cache(maxsize=2)
def loaded(name: str) -> tuple[data.Dataset, np.ndarray]:
    """Return a set and the frozen features of its pictures."""
    dataset = data.load(name)
    return dataset, ImageEncoder("efficientnet-lite0").encode(dataset.modalities["image"]).numpy()


@lru_cache(maxsize=1)
def minilm() -> TextEncoder:
    return TextEncoder("minilm")


@cache
def texts(condition: Condition, draw: int) -> np.ndarray:
    """Return the features (590, 384) of all captions of oasis in one condition."""
    kind, severity = condition
    words = data.load("oasis", captions=kind if condition == MACHINE else "human").modalities[
        "text"
    ]
    if condition not in (HUMAN, MACHINE):
        words = corrupt(words, "text", kind, severity, torch.Generator().manual_seed(draw))
    return minilm().encode(words).numpy()


class Blocks:
    """Each modality standardised, pictures cut to their strongest components, each brought to total
    variance 1."""

    def __init__(self, x: dict[str, np.ndarray]) -> None:
        self.scalers = {m: StandardScaler().fit(v) for m, v in x.items()}
        plain = {m: self.scalers[m].transform(v) for m, v in x.items()}
        self.pca = {
            m: PCA(min(COMPONENTS, len(v) - 1), random_state=0).fit(v)
            for m, v in plain.items()
            if m == "image"
        }
        self.scale = {m: np.sqrt(v.var(0).sum()) for m, v in self._cut(plain).items()}

    def _cut(self, plain: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {m: self.pca[m].transform(v) if m in self.pca else v for m, v in plain.items()}

    def __call__(self, x: dict[str, np.ndarray]) -> np.ndarray:
        cut = self._cut({m: self.scalers[m].transform(v) for m, v in x.items()})
        return np.hstack([v / self.scale[m] for m, v in cut.items()])


Speaker = Callable[[dict[str, np.ndarray]], np.ndarray]
"""Features → calibrated probabilities (N, C)."""


def tuned_head(
    x: dict[str, np.ndarray],
    y: np.ndarray,
    rest: np.ndarray,
    held: np.ndarray,
    balanced: bool,
    copies: int,
) -> Speaker:
    """Logistic regression on the blocks of x; penalty and temperature chosen on `held`, then fitted
    to all.

    copies: how often each sample occurs; each copy counts for so much less, so that equal ones
    change nothing.
    """
    weights = "balanced" if balanced else None

    def part(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {m: v[rows] for m, v in x.items()}

    def head(features: np.ndarray, labels: np.ndarray, penalty: float) -> LogisticRegression:
        return LogisticRegression(C=penalty / copies, class_weight=weights, max_iter=2000).fit(
            features, labels
        )

    blocks = Blocks(part(rest))
    learnt, asked = blocks(part(rest)), blocks(part(held))
    logits = {c: head(learnt, y[rest], c).decision_function(asked) for c in PENALTIES}
    best = min(
        logits, key=lambda c: -log_softmax(logits[c], axis=1)[np.arange(len(held)), y[held]].mean()
    )
    warmth = temperature_scale(logits[best], y[held])
    blocks = Blocks(x)
    model = head(blocks(x), y, best)
    return lambda new: apply_temperature(
        model.decision_function(blocks({m: new[m] for m in x})), warmth
    )


def speakers(
    x: dict[str, np.ndarray],
    y: np.ndarray,
    rest: np.ndarray,
    held: np.ndarray,
    balanced: bool = True,
    copies: int = 1,
) -> dict[str, Speaker]:
    """Return one voice per modality, and one for all of them side by side: "concat"."""
    views = {**{m: {m: v} for m, v in x.items()}, "concat": x}
    return {name: tuned_head(view, y, rest, held, balanced, copies) for name, view in views.items()}


def together(said: dict[str, np.ndarray], prior: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Add the average and the product of the opinions of the single modalities."""
    singles = {m: torch.from_numpy(p) for m, p in said.items() if m != "concat"}
    product = decision.product_rule(
        singles, prior=None if prior is None else torch.from_numpy(prior)
    )
    return said | {"average": decision.average(singles).numpy(), "product": product.numpy()}


def oasis_folds() -> list[tuple[np.ndarray, np.ndarray]]:
    dataset, _ = loaded("oasis")
    return list(folds(dataset.labels, dataset.groups, splits=SPLITS, repeats=REPEATS))


def voices_of(number: int, regime: str) -> dict[str, Speaker]:
    """Train on the captions of one regime in one fold: every caption once in each condition."""
    dataset, pictures = loaded("oasis")
    rows, _ = oasis_folds()[number]
    rest, held = grouped_split(
        dataset.labels[rows], dataset.groups[rows], fraction=0.25, seed=number
    )
    copies = len(REGIMES[regime])
    seen = [texts(c, TRAINING_DRAW + k)[rows] for k, c in enumerate(REGIMES[regime])]
    x = {"image": np.tile(pictures[rows], (copies, 1)), "text": np.concatenate(seen)}
    inner = [np.concatenate([part + k * len(rows) for k in range(copies)]) for part in (rest, held)]
    y = dataset.labels.numpy()[rows]
    voices = speakers(x, np.tile(y, copies), *inner, copies=copies)
    # equal copies change nothing but rounding: one and the same picture's opinion for all regimes
    return voices | {
        "image": tuned_head({"image": pictures[rows]}, y, rest, held, balanced=True, copies=1)
    }


def judged(
    voices: dict[str, Speaker], number: int, condition: Condition, draw: int
) -> dict[str, tuple[float, float]]:
    """Return method → macro-F1 and log loss on the test themes of a fold."""
    dataset, pictures = loaded("oasis")
    test = oasis_folds()[number][1]
    x, y = {"image": pictures[test], "text": texts(condition, draw)[test]}, dataset.labels[test]
    said = together({name: speak(x) for name, speak in voices.items()})
    return {m: (macro_f1(p.argmax(1), y), log_loss(p, y)) for m, p in said.items()}


def caption_row(number: int) -> dict:
    """Return sizes, and regime → condition → method → [macro-F1, log loss], means over the draws,
    of one fold."""
    rows, test = oasis_folds()[number]
    result: dict = {"n_train": len(rows), "n_test": len(test)}
    for regime in REGIMES:
        voices, found = voices_of(number, regime), {}
        for condition in TESTED:
            draws = (0,) if condition in (HUMAN, MACHINE, ("dropped words", 1.0)) else DRAWS
            scores = [judged(voices, number, condition, draw) for draw in draws]
            mean = {m: np.mean([s[m] for s in scores], axis=0).round(4).tolist() for m in scores[0]}
            found[" ".join(map(str, condition))] = mean
        result[regime] = found
    return result


@cache
def pair(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return both sides of a pair (N, D), labels and groups; of tweets one post per text, so that
    no retweet counts."""
    if "tweet" in name:
        dataset, pictures = loaded("mvsa")
        keep = np.sort(np.unique(dataset.groups, return_index=True)[1])
        words = minilm().encode(dataset.modalities["text"]).numpy()
        return pictures[keep], words[keep], dataset.labels.numpy()[keep], dataset.groups[keep]
    dataset, pictures = loaded("oasis")
    side = {
        "picture": pictures,
        "human caption": texts(HUMAN, 0),
        "machine caption": texts(MACHINE, 0),
    }
    return *(side[part] for part in name.split(", ")), dataset.labels.numpy(), dataset.groups


def halves(name: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions to learn directions on, and to measure on; no theme in both."""
    x, _, y, groups = pair(name)
    rows = np.arange(len(x))
    if name == "picture, tweet":  # as many as there are photographs
        rows = np.sort(np.random.default_rng(number).choice(rows, SMALL, replace=False))
    learn, measure = grouped_split(y[rows], groups[rows], fraction=0.5, seed=number)
    return rows[learn], rows[measure]


def reduced(x: np.ndarray, learn: np.ndarray, dims: int) -> Tensor:
    """Strongest components of standardised columns, both as learnt on `learn`: (N, dims)."""
    plain = StandardScaler().fit(x[learn]).transform(x)
    cut = PCA(dims, random_state=0).fit(plain[learn]).transform(plain)
    return torch.from_numpy(cut / np.sqrt(cut[learn].var(0).sum()))


def matching(a: Tensor, b: Tensor, temperature: float, seed: int = 0) -> float:
    """InfoNCE's bound with fixed features: ln B + E ln softmax of the own partner's cosine; a, b:
    (N, D)."""
    scores = normalize(a) @ normalize(b).T / temperature
    size, generator = min(BATCH, len(a)), torch.Generator().manual_seed(seed)
    found = []
    for _ in range(50):
        rows = torch.randperm(len(a), generator=generator)[:size]
        found.append(scores[rows][:, rows].log_softmax(1).diagonal().mean())
    return float(np.log(size) + torch.stack(found).mean())


def tuned_space(
    a: Tensor, b: Tensor, y: np.ndarray, groups: np.ndarray, learn: np.ndarray, seed: int
) -> dict:
    """Choose shrinkage, width and temperature of a common space on held-out groups of `learn`."""
    rest, held = (
        learn[part] for part in grouped_split(y[learn], groups[learn], fraction=0.3, seed=seed)
    )
    trials = {}
    for shrinkage in SHRINKAGES:
        u, v, _ = cca(a[rest], b[rest], dims=max(WIDTHS), shrinkage=shrinkage)
        for width in WIDTHS:
            one, two = ((x[held] - x[rest].mean(0)) @ w[:, :width] for x, w in ((a, u), (b, v)))
            trials |= {(shrinkage, width, t): matching(one, two, t) for t in TEMPERATURES}
    return dict(
        zip(("shrinkage", "width", "temperature"), max(trials, key=trials.get), strict=True)
    )


def told(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Return both estimates between columns (N, d) and (N, d), in nats; the jitter is for captions
    that repeat."""
    return {
        "KSG": ksg_mi(a, b, jitter=1e-6),
        "Gaussian": gaussian_mi(np.cov(np.hstack([a, b]).T), a.shape[1]),
    }


def pair_row(name: str, number: int) -> dict:
    """Return estimates between both sides of a pair, on groups that had no part in finding the
    directions.

    "PCA" and "CCA": estimator → one number per entry of DIMS, as measured and with the pairs
    shuffled; "matching": the bound from finding the partner among BATCH, and the same for shuffled
    pairs.
    """
    x, y, labels, groups = pair(name)
    learn, measure = halves(name, number)
    a, b = (reduced(v, learn, COMPONENTS) for v in (x, y))
    chosen = tuned_space(a, b, labels, groups, learn, number)
    u, v, _ = cca(a[learn], b[learn], dims=max(WIDTHS), shrinkage=chosen["shrinkage"])
    spaces = {"PCA": (a[measure], b[measure])}
    spaces["CCA"] = tuple((z - z[learn].mean(0))[measure] @ w for z, w in ((a, u), (b, v)))
    result: dict = {"n_train": len(learn), "n_test": len(measure), "chosen": chosen}
    orders = [
        torch.from_numpy(np.random.default_rng(k).permutation(len(measure)))
        for k in range(SHUFFLES)
    ]
    for space, (one, two) in spaces.items():
        found: dict[str, list[float]] = {}
        for d in DIMS:
            p, q = one[:, :d].numpy(), two[:, :d].numpy()
            chance = [told(p, q[order.numpy()]) for order in orders]
            for estimator, value in told(p, q).items():
                found.setdefault(estimator, []).append(round(value, 4))
                found.setdefault(f"{estimator}, shuffled", []).append(
                    round(float(np.mean([c[estimator] for c in chance])), 4)
                )
        result[space] = found
    one, two = (z[:, : chosen["width"]] for z in spaces["CCA"])
    result["matching"] = round(matching(one, two, chosen["temperature"]), 4)
    by_chance = [matching(one, two[order], chosen["temperature"]) for order in orders]
    return result | {"matching, shuffled": round(float(np.mean(by_chance)), 4)}


LABELLED = {"human captions": 4, "machine captions": 4, "tweets": 2, "590 tweets": 8}
"""Rounds of five folds; each round of "590 tweets" draws as many posts anew as there are
photographs."""


def labelled(name: str, round_number: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return features by modality, labels and groups."""
    dataset, pictures = loaded("mvsa" if "tweets" in name else "oasis")
    rows = np.arange(len(pictures))
    if "tweets" in name:
        words = minilm().encode(dataset.modalities["text"]).numpy()
    else:
        words = texts(HUMAN if name == "human captions" else MACHINE, 0)
    if name == "590 tweets":
        rows = np.sort(np.random.default_rng(round_number).choice(rows, SMALL, replace=False))
    return (
        {"image": pictures[rows], "text": words[rows]},
        dataset.labels.numpy()[rows],
        dataset.groups[rows],
    )


def entropy(y: np.ndarray) -> float:
    shares = np.bincount(y) / len(y)
    return float(-(shares * np.log(shares)).sum())


def label_round(name: str, round_number: int) -> tuple[dict, np.ndarray, np.ndarray]:
    """Return method → nats per fold, and of each sample the class that picture and text speak for
    most, one round."""
    x, y, groups = labelled(name, round_number)
    gained: dict[str, list[float]] = {}
    leaning = np.zeros((2, len(y)), dtype=np.int64)
    for rows, test in folds(y, groups, splits=SPLITS, repeats=1, seed=round_number):
        rest, held = grouped_split(y[rows], groups[rows], fraction=0.25, seed=round_number)
        voices = speakers({m: v[rows] for m, v in x.items()}, y[rows], rest, held, balanced=False)
        prior = np.bincount(y[rows]) / len(rows)
        said = together(
            {m: speak({k: v[test] for k, v in x.items()}) for m, speak in voices.items()}, prior
        )
        for m, p in said.items():
            gained.setdefault(m, []).append(round(entropy(y) - log_loss(p, y[test]), 4))
        for k, m in enumerate(x):
            leaning[k, test] = (said[m] / prior).argmax(1)
    return gained, leaning, y


def dependent(one: np.ndarray, two: np.ndarray, y: np.ndarray) -> float:
    """I(one; two | y) from counts, in nats."""
    return sum(
        np.mean(y == c) * discrete_mi(plug_in_joint(one[y == c], two[y == c])) for c in np.unique(y)
    )


def label_row(name: str, round_number: int) -> dict:
    """Return nats per fold and method, the table of both opinions and the class, and how it
    scatters over groups."""
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
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        table = plug_in_joint(one[rows], two[rows], y[rows])
        drawn.append(
            [*pid(table, "broja"), *pid(table, "imin"), dependent(one[rows], two[rows], y[rows])]
        )
    independence = dependent(one, two, y), np.mean(by_chance), np.quantile(by_chance, 0.975)
    return {
        "entropy": round(entropy(y), 4),
        "gained": gained,
        "counts": (plug_in_joint(one, two, y) * len(y)).round().astype(int).tolist(),
        "scatter": np.std(drawn, axis=0, ddof=1).round(4).tolist(),
        "dependent": [round(float(v), 4) for v in independence],
    }


def save(path: Path, rows: dict) -> None:
    """Write one results file."""
    machine = f"{platform.machine()}, 1 thread, torch {torch.__version__.split('+')[0]}"
    save_results(path, command="python -m benchmarks.captions", machine=machine, rows=rows)


def measure_captions() -> None:
    rows = {}
    for number in range(SPLITS * REPEATS):
        rows[f"fold {number}"] = caption_row(number)
        print(f"captions {number + 1}/{SPLITS * REPEATS}", flush=True)
    save(BOOK / "08_robustness" / "results" / "captions.json", rows)


def measure_pairs() -> None:
    rows = {}
    for name in PAIRS:
        for number in range(HALVES):
            rows[f"{name}/{number}"] = pair_row(name, number)
            print(f"{name} {number + 1}/{HALVES}", flush=True)
    for name, rounds in LABELLED.items():
        for number in range(rounds):
            rows[f"label/{name}/{number}"] = label_row(name, number)
            print(f"label {name} {number + 1}/{rounds}", flush=True)
    save(BOOK / "09_information" / "results" / "pairs.json", rows)


def main() -> None:
    """Measure what was asked for, or both."""
    torch.set_num_threads(1)  # heads this small are slower on two threads than on one
    for task in sys.argv[1:] or TASKS:
        TASKS[task]()


TASKS = {"captions": measure_captions, "pairs": measure_pairs}

if __name__ == "__main__":
    main()
