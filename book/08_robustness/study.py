"""Captions made worse by typos, dropped words and a machine that writes them;
and digits in other noise than in training (hiss.py), with networks that adapt
to it.

python book/08_robustness/study.py              all three parts
python book/08_robustness/study.py captions     five minutes, needs oasis
python book/08_robustness/study.py hiss         three minutes
python book/08_robustness/study.py adaptation   five minutes

Times are those of one idle core.
"""

from __future__ import annotations

import copy
import platform
import runpy
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import log_softmax
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from mmtutor import data
from mmtutor.encoders import AudioEncoder, ImageEncoder, TextEncoder
from mmtutor.evaluation import (
    accuracy,
    apply_temperature,
    folds,
    grouped_split,
    log_loss,
    macro_f1,
    pigeonhole_bootstrap,
    temperature_scale,
)
from mmtutor.fusion import decision
from mmtutor.report import save_results
from mmtutor.robustness import corrupt

RESULTS = Path(__file__).resolve().parent / "results"
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


HISS = (0.0, 0.6, 0.85, 1.0)  # severities of noise in the sound
USUAL = 0.85  # the one in training
STARTS, ACCENTS, DECAYS = 5, 4, (0.01, 1.0)
EPOCHS, TRAINING_BATCH = 20, 128


@lru_cache(maxsize=1)
def digits() -> data.Dataset:
    """Return the digits, pictures and sounds, as they were recorded."""
    return data.load("digits", waveforms=True)


@cache
def heard(severity: float) -> Tensor:
    """Return the features (N, 768) of all sounds in so much hiss."""
    raw = digits()
    ear = AudioEncoder(sample_rate=raw.card["sample_rate"])
    generator = torch.Generator().manual_seed(1)
    waveforms = raw.modalities["waveform"]
    noisy = corrupt(waveforms, "audio", "noise", severity, generator)
    return ear.encode(noisy).flatten(1)


@lru_cache(maxsize=1)
def seen() -> Tensor:
    """Return the noisy pixels (N, 64)."""
    generator = torch.Generator().manual_seed(0)
    pictures = digits().modalities["image"]
    return corrupt(pictures, "image", "noise", 0.5, generator).flatten(1)


class NormalisedNet(nn.Module):
    """One encoder per modality, each with two batch normalisations; then one
    linear head on both.

    x: one (B, width) per modality -> logits (B, 10).
    """

    def __init__(self, widths: list[int]) -> None:
        """Build one encoder of 64 units for each width."""
        super().__init__()
        self.encoders = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm1d(width, affine=False),
                nn.Linear(width, 64),
                nn.BatchNorm1d(64),
                nn.ReLU(),
                nn.Dropout(0.3),
            )
            for width in widths
        )
        self.head = nn.Linear(64 * len(widths), 10)

    def forward(self, *x: Tensor) -> Tensor:
        """Return logits (B, 10)."""
        hidden = [
            encoder(v) for encoder, v in zip(self.encoders, x, strict=True)
        ]
        return self.head(torch.cat(hidden, 1))


def trained(
    x: list[Tensor], y: Tensor, decay: float, start: int
) -> NormalisedNet:
    """Return a network trained on the rows of x, in eval mode."""
    torch.manual_seed(start)
    net = NormalisedNet([v.shape[1] for v in x])
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=decay)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(y)).split(TRAINING_BATCH):
            if len(rows) < 8:  # too few for a mean and a variance
                continue
            optimiser.zero_grad()
            F.cross_entropy(net(*[v[rows] for v in x]), y[rows]).backward()
            optimiser.step()
    return net.eval()


def normalisations(net: nn.Module) -> list[nn.BatchNorm1d]:
    """Return all batch normalisations of a network."""
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm1d)]


Batches = list[Tensor]


@torch.no_grad()
def unchanged(net: NormalisedNet, x: list[Tensor], batches: Batches) -> Tensor:
    """Return the answers (N,) with the statistics of training."""
    return net(*x).argmax(1)


@torch.no_grad()
def batch_statistics(
    net: NormalisedNet, x: list[Tensor], batches: Batches
) -> Tensor:
    """Return the answers (N,), each batch normalised by its own statistics."""
    net, answers = copy.deepcopy(net), torch.empty(len(x[0]), dtype=torch.long)
    for layer in normalisations(net):
        layer.train()
    for rows in batches:
        answers[rows] = net(*[v[rows] for v in x]).argmax(1)
    return answers


@torch.no_grad()
def running_statistics(
    net: NormalisedNet, x: list[Tensor], batches: Batches
) -> Tensor:
    """Return the answers (N,) with statistics that each batch moves by a
    tenth."""
    net, answers = copy.deepcopy(net), torch.empty(len(x[0]), dtype=torch.long)
    for rows in batches:
        for layer in normalisations(net):
            layer.train()  # momentum 0.1
        net(*[v[rows] for v in x])
        answers[rows] = net.eval()(*[v[rows] for v in x]).argmax(1)
    return answers


def tent(
    net: NormalisedNet,
    x: list[Tensor],
    batches: Batches,
    steps: int = 1,
    lr: float = 1e-3,
) -> Tensor:
    """Return the answers (N,): batch statistics, and scale and shift of each
    normalisation moved towards less entropy."""
    net, answers = copy.deepcopy(net), torch.empty(len(x[0]), dtype=torch.long)
    net.requires_grad_(False)
    learnt = []
    for layer in normalisations(net):
        layer.train()
        if layer.affine:
            learnt += [layer.weight, layer.bias]
    for parameter in learnt:
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(learnt, lr)
    for rows in batches:
        for _ in range(steps):
            logits = net(*[v[rows] for v in x])
            p = logits.softmax(1)
            entropy = -(p * logits.log_softmax(1)).sum(1).mean()
            optimiser.zero_grad()
            entropy.backward()
            optimiser.step()
        answers[rows] = logits.argmax(1)
    return answers


def tent_long(net: NormalisedNet, x: list[Tensor], batches: Batches) -> Tensor:
    """Tent with ten steps a batch, each ten times as long."""
    return tent(net, x, batches, steps=10, lr=1e-2)


LONG = "Tent, ten long steps"
WAYS = {
    "unchanged": unchanged,
    "batch statistics": batch_statistics,
    "running statistics": running_statistics,
    "Tent": tent,
    LONG: tent_long,
}


def stream(y: Tensor, order: str, size: int, seed: int) -> Batches:
    """Return the batches in which the test digits arrive: "mixed", or "one
    digit at a time"."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(y), generator=generator)
    if order != "mixed":
        rows = rows[torch.argsort(y[rows], stable=True)]
    # a batch of one has no variance
    return [batch for batch in rows.split(size) if len(batch) > 1]


def plan() -> list[tuple[float, str, int]]:
    """Return (hiss, order, batch size) of all tests."""
    kinds = [("mixed", 64), ("mixed", 4), ("one digit at a time", 16)]
    return [(s, *kind) for s, kind in product(HISS, kinds)]


def views(rows: np.ndarray, hiss: float = USUAL) -> dict[str, list[Tensor]]:
    """Return the inputs of both networks."""
    return {
        "picture": [seen()[rows]],
        "fused": [seen()[rows], heard(hiss)[rows]],
    }


@cache
def decay_of(accent: int) -> dict[str, float]:
    """Return the weight decay of each network, chosen on held-out voices of
    the other accents, first start."""
    raw = digits()
    rows = np.flatnonzero(raw.groups != accent)
    voices = raw.targets["voice"].numpy()[rows] % 10
    rest, held = grouped_split(raw.labels[rows], voices, fraction=0.25, seed=0)

    def score(view: str, decay: float) -> float:
        known, asked = views(rows[rest])[view], views(rows[held])[view]
        net = trained(known, raw.labels[rows[rest]], decay, start=0)
        answers = unchanged(net, asked, [])
        return accuracy(answers, raw.labels[rows[held]])

    return {
        view: max(DECAYS, key=lambda decay: score(view, decay))
        for view in ("picture", "fused")
    }


def adaptation_start(start: int) -> dict[str, np.ndarray]:
    """Return test | way -> hits (N,), each accent judged by a network that
    never heard it."""
    raw, hits = digits(), {}
    for accent in range(ACCENTS):
        rows = np.flatnonzero(raw.groups != accent)
        test = np.flatnonzero(raw.groups == accent)
        y = raw.labels[test]
        nets = {
            view: trained(x, raw.labels[rows], decay_of(accent)[view], start)
            for view, x in views(rows).items()
        }

        def note(
            name: str,
            answers: Tensor,
            test: np.ndarray = test,
            y: Tensor = y,
        ) -> None:
            whole = hits.setdefault(name, np.zeros(len(raw.labels)))
            whole[test] = (answers == y).numpy()

        note("picture", unchanged(nets["picture"], views(test)["picture"], []))
        for hiss, order, size in plan():
            x, batches = (
                views(test, hiss)["fused"],
                stream(y, order, size, start),
            )
            for way, answers in WAYS.items():
                if way == LONG and size < 64 and hiss < 1:
                    continue  # a thousand steps: only where it is worst
                note(
                    f"hiss {hiss} | {order} | {size} | {way}",
                    answers(nets["fused"], x, batches),
                )
        print(f"start {start}, accent {accent}", flush=True)
    return hits


def over_voices_and_starts(values: np.ndarray) -> dict:
    """values: (starts, N) → their mean, and the interval of 95 % over redrawn
    voices and redrawn starts; starts: the mean of each."""
    found = pigeonhole_bootstrap(values, digits().targets["voice"])
    return {
        "estimate": found.estimate,
        "low": found.low,
        "high": found.high,
        "starts": [round(float(v), 4) for v in values.mean(1)],
    }


def adaptation_rows(found: list[dict[str, np.ndarray]]) -> dict:
    """Return accuracies, and differences from the picture alone and from the
    unchanged network."""
    hits = {name: np.stack([f[name] for f in found]) for name in found[0]}
    rows: dict = {name: over_voices_and_starts(v) for name, v in hits.items()}
    for name, values in hits.items():
        if name == "picture":
            continue
        test, way = name.rsplit(" | ", 1)
        rows[f"{name} minus picture"] = over_voices_and_starts(
            values - hits["picture"]
        )
        for base in ("unchanged", "batch statistics"):
            if way != base:
                rows[f"{name} minus {base}"] = over_voices_and_starts(
                    values - hits[f"{test} | {base}"]
                )
    rows["decays"] = {str(a): decay_of(a) for a in range(ACCENTS)}
    first = digits().groups == 0  # what the page computes again
    rows["first"] = {
        name: round(float(values[0, first].mean()), 4)
        for name, values in hits.items()
    }
    return rows


def captions() -> dict:
    """Measure all folds."""
    rows = {}
    for number in range(SPLITS * REPEATS):
        rows[f"fold {number}"] = caption_row(number)
        print(f"captions {number + 1}/{SPLITS * REPEATS}", flush=True)
    return rows


def hiss() -> dict:
    """Train and test the digits of the lesson, from five starts."""
    part = runpy.run_path(str(Path(__file__).with_name("hiss.py")))
    return part["measured"]()


def adaptation() -> dict:
    """Return one row per test and way, over all starts."""
    found = []
    for start in range(STARTS):
        found.append(adaptation_start(start))
        print(f"adaptation {start + 1}/{STARTS}", flush=True)
    return adaptation_rows(found)


PARTS = {"captions": captions, "hiss": hiss, "adaptation": adaptation}


def main(names: list[str]) -> None:
    """Measure the parts named, or all, and write a file for each."""
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        sys.exit(f"unknown part {unknown[0]!r}, expected one of {list(PARTS)}")
    # heads this small are slower on two threads than on one
    torch.set_num_threads(1)
    machine = (
        f"{platform.machine()}, 1 thread, torch"
        f" {torch.__version__.split('+')[0]}"
    )
    for name in names or PARTS:
        save_results(
            RESULTS / f"{name}.json",
            command=f"python book/08_robustness/study.py {name}",
            machine=machine,
            rows=PARTS[name](),
        )


if __name__ == "__main__":
    main(sys.argv[1:])
