"""Captions made worse by typos, dropped words and a machine that writes them.

python book/08_robustness/study.py   five minutes on one idle core; needs oasis
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

from mmtutor import data
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
from mmtutor.report import save_results
from mmtutor.robustness import corrupt

RESULTS = Path(__file__).resolve().parent / "results" / "captions.json"
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
    "everything": (
        HUMAN,
        ("typos", 0.2),
        ("typos", 0.4),
        ("dropped words", 0.5),
        MACHINE,
    ),
}
TRAINING_DRAW = 100  # training never sees a draw that a test uses


@lru_cache(maxsize=2)
def loaded(name: str) -> tuple[data.Dataset, np.ndarray]:
    """Return a set and the frozen features of its pictures."""
    dataset = data.load(name)
    return (
        dataset,
        ImageEncoder("efficientnet-lite0")
        .encode(dataset.modalities["image"])
        .numpy(),
    )


@lru_cache(maxsize=1)
def minilm() -> TextEncoder:
    """Return the encoder of texts, loaded once."""
    return TextEncoder("minilm")


@cache
def texts(condition: Condition, draw: int) -> np.ndarray:
    """Return the features (590, 384) of all captions of oasis in one
    condition."""
    kind, severity = condition
    words = data.load(
        "oasis", captions=kind if condition == MACHINE else "human"
    ).modalities["text"]
    if condition not in (HUMAN, MACHINE):
        words = corrupt(
            words, "text", kind, severity, torch.Generator().manual_seed(draw)
        )
    return minilm().encode(words).numpy()


class Blocks:
    """Each modality standardised, pictures cut to their strongest components,
    each brought to total variance 1."""

    def __init__(self, x: dict[str, np.ndarray]) -> None:
        """Learn means, components and scales from x, modality → (N, D)."""
        self.scalers = {m: StandardScaler().fit(v) for m, v in x.items()}
        plain = {m: self.scalers[m].transform(v) for m, v in x.items()}
        self.pca = {
            m: PCA(min(COMPONENTS, len(v) - 1), random_state=0).fit(v)
            for m, v in plain.items()
            if m == "image"
        }
        self.scale = {
            m: np.sqrt(v.var(0).sum()) for m, v in self._cut(plain).items()
        }

    def _cut(self, plain: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            m: self.pca[m].transform(v) if m in self.pca else v
            for m, v in plain.items()
        }

    def __call__(self, x: dict[str, np.ndarray]) -> np.ndarray:
        """Return all modalities side by side (N, sum of widths)."""
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
    """Logistic regression on the blocks of x; penalty and temperature chosen on
    `held`, then fitted to all.

    copies: how often each sample occurs; each copy counts for so much less, so
    that equal ones change nothing.
    """
    weights = "balanced" if balanced else None

    def part(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {m: v[rows] for m, v in x.items()}

    def head(
        features: np.ndarray, labels: np.ndarray, penalty: float
    ) -> LogisticRegression:
        return LogisticRegression(
            C=penalty / copies, class_weight=weights, max_iter=2000
        ).fit(features, labels)

    blocks = Blocks(part(rest))
    x_rest, x_held = blocks(part(rest)), blocks(part(held))
    logits = {
        c: head(x_rest, y[rest], c).decision_function(x_held) for c in PENALTIES
    }
    best = min(
        logits,
        key=lambda c: (
            -log_softmax(logits[c], axis=1)[
                np.arange(len(held)), y[held]
            ].mean()
        ),
    )
    temperature = temperature_scale(logits[best], y[held])
    blocks = Blocks(x)
    model = head(blocks(x), y, best)
    return lambda new: apply_temperature(
        model.decision_function(blocks({m: new[m] for m in x})), temperature
    )


def speakers(
    x: dict[str, np.ndarray],
    y: np.ndarray,
    rest: np.ndarray,
    held: np.ndarray,
    balanced: bool = True,
    copies: int = 1,
) -> dict[str, Speaker]:
    """Return one voice per modality, and one for all of them side by side:
    "concat"."""
    views = {**{m: {m: v} for m, v in x.items()}, "concat": x}
    return {
        name: tuned_head(view, y, rest, held, balanced, copies)
        for name, view in views.items()
    }


def with_pools(
    opinions: dict[str, np.ndarray], prior: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Add the average and the product of the opinions of the single
    modalities."""
    singles = {
        m: torch.from_numpy(p) for m, p in opinions.items() if m != "concat"
    }
    product = decision.product_rule(
        singles, prior=None if prior is None else torch.from_numpy(prior)
    )
    return opinions | {
        "average": decision.average(singles).numpy(),
        "product": product.numpy(),
    }


def oasis_folds() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (train, test) positions of all folds, no theme on both sides."""
    dataset, _ = loaded("oasis")
    return list(
        folds(dataset.labels, dataset.groups, splits=SPLITS, repeats=REPEATS)
    )


def voices_of(number: int, regime: str) -> dict[str, Speaker]:
    """Train on the captions of one regime in one fold: every caption once in
    each condition."""
    dataset, pictures = loaded("oasis")
    rows, _ = oasis_folds()[number]
    rest, held = grouped_split(
        dataset.labels[rows], dataset.groups[rows], fraction=0.25, seed=number
    )
    copies = len(REGIMES[regime])
    seen = [
        texts(c, TRAINING_DRAW + k)[rows] for k, c in enumerate(REGIMES[regime])
    ]
    x = {
        "image": np.tile(pictures[rows], (copies, 1)),
        "text": np.concatenate(seen),
    }
    inner = [
        np.concatenate([part + k * len(rows) for k in range(copies)])
        for part in (rest, held)
    ]
    y = dataset.labels.numpy()[rows]
    voices = speakers(x, np.tile(y, copies), *inner, copies=copies)
    # equal copies change nothing but rounding: one and the same picture's
    # opinion for all regimes
    return voices | {
        "image": tuned_head(
            {"image": pictures[rows]}, y, rest, held, balanced=True, copies=1
        )
    }


def judged(
    voices: dict[str, Speaker], number: int, condition: Condition, draw: int
) -> dict[str, tuple[float, float]]:
    """Return method → macro-F1 and log loss on the test themes of a fold."""
    dataset, pictures = loaded("oasis")
    test = oasis_folds()[number][1]
    x, y = (
        {"image": pictures[test], "text": texts(condition, draw)[test]},
        dataset.labels[test],
    )
    opinions = with_pools({name: speak(x) for name, speak in voices.items()})
    return {
        m: (macro_f1(p.argmax(1), y), log_loss(p, y))
        for m, p in opinions.items()
    }


def caption_row(number: int) -> dict:
    """Return sizes, and regime → condition → method → [macro-F1, log loss],
    means over the draws, of one fold."""
    rows, test = oasis_folds()[number]
    result: dict = {"n_train": len(rows), "n_test": len(test)}
    for regime in REGIMES:
        voices, by_condition = voices_of(number, regime), {}
        for condition in TESTED:
            draws = (
                (0,)
                if condition in (HUMAN, MACHINE, ("dropped words", 1.0))
                else DRAWS
            )
            scores = [judged(voices, number, condition, draw) for draw in draws]
            mean = {
                m: np.mean([s[m] for s in scores], axis=0).round(4).tolist()
                for m in scores[0]
            }
            by_condition[" ".join(map(str, condition))] = mean
        result[regime] = by_condition
    return result


def main(names: list[str]) -> None:
    """Measure all folds and write the file."""
    if names:
        sys.exit(f"unknown part {names[0]!r}, expected none: there is one file")
    # heads this small are slower on two threads than on one
    torch.set_num_threads(1)
    rows = {}
    for number in range(SPLITS * REPEATS):
        rows[f"fold {number}"] = caption_row(number)
        print(f"captions {number + 1}/{SPLITS * REPEATS}", flush=True)
    machine = (
        f"{platform.machine()}, 1 thread, torch"
        f" {torch.__version__.split('+')[0]}"
    )
    command = "python book/08_robustness/study.py"
    save_results(RESULTS, command=command, machine=machine, rows=rows)


if __name__ == "__main__":
    main(sys.argv[1:])
