"""What takes too long for chapter 4's pages: five starts of every model.

python book/04_model_fusion/study.py cards      seven models in the card game
python book/04_model_fusion/study.py balance    joint training that loses

Each start draws training, validation and test hands (or samples) of its own,
so that an interval over the starts covers both. Every model gets the same
learning rates and the same number of epochs; the epoch and the rate are chosen
on validation data.
"""

from __future__ import annotations

import copy
import math
import os
import platform
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from mmtutor import data
from mmtutor.evaluation import accuracy
from mmtutor.fusion import (
    BottleneckFusion,
    ConcatFusion,
    CrossAttentionFusion,
    FusionClassifier,
    SelfAttentionFusion,
)
from mmtutor.report import save_results
from mmtutor.training import fit, predict
from mmtutor.types import Samples

RESULTS = Path(__file__).resolve().parent / "results"
STARTS, RATES, EPOCHS = 5, (0.005, 0.002), 40
DIMS = {"cards": 128, "voice": 10}


class CardGame:
    """Hands of four cards from pools of pictures and clips that do not
    overlap."""

    def __init__(self) -> None:
        digits = data.load("digits", snr_db=0)
        self.labels = digits.labels
        self.pixels = digits.modalities["image"].flatten(1)  # (N, 64)
        sound = digits.modalities["audio"].flatten(1)  # (N, 768)
        order = torch.randperm(
            len(digits), generator=torch.Generator().manual_seed(0)
        )
        train = order[:1100]
        self.pools = {
            "train": train,
            "validation": order[1100:1400],
            "test": order[1400:],
        }
        sound = (sound - sound[train].mean(0)) / sound[train].std()
        clips = Samples({"audio": sound}, digits.labels)
        torch.manual_seed(0)
        ear = FusionClassifier(ConcatFusion({"audio": 768}), classes=10)
        fit(
            ear,
            clips[train],
            epochs=20,
            lr=5e-3,
            weight_decay=1.0,
            device="cpu",
        )
        self.voices = predict(ear, clips).log_softmax(1)  # (N, 10)

    def hands(self, part: str, n: int, seed: int):
        """n hands of four cards (n, 4, 128) with a spoken name (n, 10), and
        which card is meant (n,)."""
        generator = torch.Generator().manual_seed(seed)
        pool = self.pools[part]
        names = torch.rand(n, 10, generator=generator).argsort(1)[:, :4]
        values = torch.randint(10, (n, 4), generator=generator)
        target_card = torch.randint(4, (n,), generator=generator)
        rows = torch.arange(n)

        def examples(digits: torch.Tensor) -> torch.Tensor:
            """One random example in the pool of each digit, same shape."""
            chosen = torch.empty_like(digits)
            for digit in range(10):
                own = pool[self.labels[pool] == digit]
                here = digits == digit
                pick = torch.randint(
                    len(own), (int(here.sum()),), generator=generator
                )
                chosen[here] = own[pick]
            return chosen

        left, right = examples(names), examples(values)
        cards = torch.cat([self.pixels[left], self.pixels[right]], 2)
        voice = self.voices[examples(names[rows, target_card])]
        labels = values[rows, target_card]
        return Samples({"cards": cards, "voice": voice}, labels), target_card


def only(*modalities: str):
    """A view of the hands: the cards end to end, some modalities only."""

    def view(hands: Samples) -> Samples:
        x = hands.features
        vectors = {"cards": x["cards"].flatten(1), "voice": x["voice"]}
        return Samples({m: vectors[m] for m in modalities}, hands.labels)

    return view


def averaged(hands: Samples) -> Samples:
    x = hands.features
    return Samples(
        {"cards": x["cards"].mean(1), "voice": x["voice"]}, hands.labels
    )


def as_they_are(hands: Samples) -> Samples:
    return hands


def mlp(**dims: int) -> FusionClassifier:
    return FusionClassifier(ConcatFusion(dims), classes=10, hidden=128)


def cross() -> FusionClassifier:
    fusion = CrossAttentionFusion(DIMS, 32, heads=4, layers=1)
    return FusionClassifier(fusion, classes=10)


def single() -> FusionClassifier:
    fusion = SelfAttentionFusion(DIMS, 32, heads=4, layers=2)
    return FusionClassifier(fusion, classes=10)


def neck() -> FusionClassifier:
    fusion = BottleneckFusion(DIMS, 32, bottlenecks=4, heads=4, layers=2)
    return FusionClassifier(fusion, classes=10)


MODELS = {
    "cross-attention": (cross, as_they_are),
    "single stream": (single, as_they_are),
    "voice alone": (lambda: mlp(voice=10), only("voice")),
    "cards alone": (lambda: mlp(cards=512), only("cards")),
    "cards averaged + voice": (lambda: mlp(cards=128, voice=10), averaged),
    "cards end to end + voice": (
        lambda: mlp(cards=512, voice=10),
        only("cards", "voice"),
    ),
    "bottleneck": (neck, as_they_are),
}


def train_one(game: CardGame, name: str, rate: float, start: int):
    """Train one model on hands of its own; return it, its history and its
    test hands."""
    build, view = MODELS[name]
    training, _ = game.hands("train", 3000, seed=100 + start)
    validation, _ = game.hands("validation", 500, seed=200 + start)
    test, _ = game.hands("test", 2000, seed=300 + start)
    torch.manual_seed(start)
    model = build()
    history = fit(
        model,
        view(training),
        view(validation),
        epochs=EPOCHS,
        lr=rate,
        batch_size=128,
        seed=start,
        device="cpu",
    )
    return model, history, view(test)


def cards() -> None:
    """Five starts at each learning rate for every model."""
    game, rows = CardGame(), {}
    for name in MODELS:
        for rate in RATES:
            runs = []
            for start in range(STARTS):
                model, history, test = train_one(game, name, rate, start)
                hits = predict(model, test).argmax(1)
                losses = history.validation_loss
                runs.append(
                    {
                        "accuracy": accuracy(hits, test.labels),
                        "best_epoch": history.best_epoch,
                        "validation_loss": [round(x, 3) for x in losses],
                    }
                )
                print(name, rate, start, runs[-1]["accuracy"], flush=True)
            rows[f"{name}, rate {rate:g}"] = runs
        save("cards", rows)


# joint training that loses


class TwoEncoders(nn.Module):
    """Logits of the joint head and of each modality's own head, (B, 1 + M,
    10)."""

    def __init__(self, dims: dict[str, int], width: int = 64) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(
            {
                m: nn.Sequential(nn.Linear(d, width), nn.ReLU())
                for m, d in dims.items()
            }
        )
        self.joint = nn.Linear(width * len(dims), 10)
        self.own = nn.ModuleDict({m: nn.Linear(width, 10) for m in dims})

    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        codes = {m: e(features[m]) for m, e in self.encoders.items()}
        logits = [self.joint(torch.cat(list(codes.values()), 1))]
        logits += [self.own[m](c) for m, c in codes.items()]
        return torch.stack(logits, 1)


def losses(model: nn.Module, samples: Samples) -> torch.Tensor:
    """The mean loss of each head, (1 + M,)."""
    logits = model(samples.features)
    heads = range(logits.shape[1])
    return torch.stack(
        [F.cross_entropy(logits[:, k], samples.labels) for k in heads]
    )


def slow_down(model: TwoEncoders, batch: Samples, strength: float) -> None:
    """OGM-GE: shrink the gradients of the encoder whose half of the joint
    head is more confident, and add noise as large as they are."""
    own_logits = []
    for m, half in zip(
        model.encoders, model.joint.weight.chunk(2, 1), strict=True
    ):
        code = model.encoders[m](batch.features[m])
        own_logits.append(code @ half.T + model.joint.bias / 2)
    confidence = torch.stack(own_logits).softmax(2)  # (2, B, 10)
    rows = torch.arange(len(batch))
    score = confidence[:, rows, batch.labels].sum(1)  # (2,)
    ratio = score / score.flip(0)
    for encoder, r in zip(model.encoders.values(), ratio, strict=True):
        if r > 1:
            for p in encoder.parameters():
                p.grad *= 1 - torch.tanh(strength * r)
                p.grad += torch.randn_like(p.grad) * p.grad.std()


def train_balance(
    train: Samples,
    validation: Samples,
    optimizer: str,
    decay: float,
    seed: int,
    head_weights: tuple[float, ...] = (1.0, 0.0, 0.0),
    strength: float = 0.0,
    epochs: int = 25,
):
    """Train two encoders (or one); return the model of the epoch that is best
    on validation, and the losses of each head by epoch."""
    torch.manual_seed(seed)
    dims = {m: x.shape[1] for m, x in train.features.items()}
    model = TwoEncoders(dims)
    weights = torch.tensor(head_weights)[: 1 + len(dims)]
    if optimizer == "AdamW":
        stepper = torch.optim.AdamW(
            model.parameters(), lr=0.003, weight_decay=decay
        )
    else:
        stepper = torch.optim.SGD(
            model.parameters(), lr=0.1, momentum=0.9, weight_decay=decay
        )
    best, kept, curves = float("inf"), None, []
    for _ in range(epochs):
        for rows in torch.randperm(len(train)).split(64):
            batch = train[rows]
            stepper.zero_grad()
            (weights * losses(model, batch)).sum().backward()
            if strength:
                with torch.no_grad():
                    slow_down(model, batch, strength)
            stepper.step()
        with torch.no_grad():
            ours = losses(model, validation)
            curves.append((losses(model, train).tolist(), ours.tolist()))
        if (current := (weights * ours).sum().item()) < best:
            best, kept = current, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return model, best, curves


def overfitting_weights(curves: list, epoch: int = 10) -> list[float]:
    """Gradient-Blending: w proportional to G / O² for each model trained by
    itself: G, what it has gained on validation; O, its gap to training."""
    weights = []
    for curve in curves:
        training, validation = curve[epoch - 1][0][0], curve[epoch - 1][1][0]
        gain = max(math.log(10) - validation, 0.0)
        weights.append(gain / (validation - training) ** 2)
    return [w / sum(weights) for w in weights]


def balance_data(start: int, accent: int) -> list[Samples]:
    """300 training samples of 20 voices, validation of 10 others, and all of
    the accent that is held out."""
    digits = data.load("digits", image_noise=0.5, snr_db=-24)
    voices = digits.targets["voice"]
    others = voices[digits.groups != accent].unique()
    generator = torch.Generator().manual_seed(10 * start + accent)
    order = others[torch.randperm(len(others), generator=generator)]
    rows = torch.isin(voices, order[:20]).nonzero().flatten()
    shuffled = rows[torch.randperm(len(rows), generator=generator)]
    train = shuffled[:300]
    scaled = {}
    for m, x in digits.modalities.items():
        x = x.flatten(1)
        scaled[m] = (x - x[train].mean(0)) / x[train].std()
    whole = Samples(scaled, digits.labels)
    validation = torch.isin(voices, order[20:]).nonzero().flatten()
    test = torch.as_tensor(digits.groups == accent).nonzero().flatten()
    return [whole[train], whole[validation], whole[test], voices[test]]


def one_modality(samples: Samples, *modalities: str) -> Samples:
    kept = {m: samples.features[m] for m in modalities}
    return Samples(kept, samples.labels)


def balance_fold(start: int, accent: int) -> tuple[dict, torch.Tensor, list]:
    """Hits on the held-out accent, method → (N,) bool; the voices there; the
    weights of Gradient-Blending."""
    train, validation, test, voices = balance_data(start, accent)
    opinions, curves = {}, {}

    def train_all(name: str, modalities: tuple, optimizer: str, settings):
        """Train with each of the settings, keep the best on validation."""
        runs = [
            train_balance(
                one_modality(train, *modalities),
                one_modality(validation, *modalities),
                optimizer,
                seed=start,
                **options,
            )
            for options in settings
        ]
        model, _, curves[name] = min(runs, key=lambda run: run[1])
        with torch.no_grad():
            logits = model(one_modality(test, *modalities).features)
        opinions[name] = logits[:, 0].softmax(1)

    both, decays = ("image", "audio"), [{"decay": 0.01}, {"decay": 3.0}]
    train_all("picture, AdamW", ("image",), "AdamW", decays)
    train_all("sound, AdamW", ("audio",), "AdamW", decays[:1])
    train_all("joint, AdamW", both, "AdamW", decays)
    train_all("picture, SGD", ("image",), "SGD", [{"decay": 0.001}])
    train_all("joint, SGD", both, "SGD", [{"decay": 0.001}])
    names = ("joint, AdamW", "picture, AdamW", "sound, AdamW")
    weights = overfitting_weights([curves[k] for k in names])
    equal = {"decay": 0.01, "head_weights": (1.0, 1.0, 1.0)}
    train_all("equal losses, AdamW", both, "AdamW", [equal])
    blend = {"decay": 0.01, "head_weights": tuple(weights)}
    train_all("Gradient-Blending, AdamW", both, "AdamW", [blend])
    slower = [{"decay": 0.01, "strength": s} for s in (0.3, 1.0)]
    train_all("OGM-GE, AdamW", both, "AdamW", slower)
    opinions["averaged, AdamW"] = (
        opinions["picture, AdamW"] + opinions["sound, AdamW"]
    )
    hits = {k: p.argmax(1) == test.labels for k, p in opinions.items()}
    return hits, voices, weights


def balance() -> None:
    """Every method, start and held-out accent: accuracy by voice."""
    rows = {"Gradient-Blending weights": []}
    for start in range(STARTS):
        for accent in range(4):
            hits, voices, weights = balance_fold(start, accent)
            for method, hit in hits.items():
                runs = rows.setdefault(method, [])
                if len(runs) <= start:
                    runs.append([])
                runs[start] += [
                    round(hit[voices == v].float().mean().item(), 4)
                    for v in voices.unique()
                ]
            rows["Gradient-Blending weights"].append(weights)
            print(start, accent, flush=True)
        for key, runs in rows.items():
            if "weights" not in key:
                print(key, [round(sum(r) / len(r), 3) for r in runs])
        save("balance", rows)


def save(name: str, rows: dict) -> None:
    save_results(
        RESULTS / f"{name}.json",
        command=f"python book/04_model_fusion/study.py {name}",
        machine=(
            f"{platform.machine()}, {os.cpu_count()} cores, 1 thread, torch"
            f" {torch.__version__.split('+')[0]}"
        ),
        rows=rows,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    studies = {"cards": cards, "balance": balance}
    for part in sys.argv[1:] or studies:
        if part not in studies:
            sys.exit(f"unknown part {part!r}, expected one of {list(studies)}")
        studies[part]()
