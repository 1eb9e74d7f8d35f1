"""Joins of features in generated worlds, all tuned alike.

python book/03_feature_fusion/study.py        5 minutes on one core
python book/03_feature_fusion/study.py PART   synergy, decays, redundant, wide
                                              or unique

All seeds and weight decays of a method are trained at once, by `torch.func`;
the lesson trains a row again, one model at a time, by `comparison.tuned`.
"""

from __future__ import annotations

import copy
import platform
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from mmtutor.choosing.comparison import (
    BEST_SINGLE,
    Builder,
    Split,
    joint_models,
    single_models,
)
from mmtutor.data import worlds
from mmtutor.evaluation import accuracy
from mmtutor.fusion import FusionClassifier, LowRankFusion, TensorFusion
from mmtutor.fusion.inputs import Fusion, masked_vectors
from mmtutor.report import save_results
from mmtutor.training import predict
from mmtutor.types import Features, Present, Samples

RESULTS = Path(__file__).resolve().parent / "results"
SEEDS, TEST = 10, 4000
STEPS, RATE, BATCH = 400, 1e-2, 128
DECAYS = (0.1, 1.0, 3.0, 10.0)
MORE_DECAYS = (0.01, 0.1, 1.0, 3.0, 10.0, 30.0)
JOINTS = (
    "concat linear",
    "concat MLP",
    "gated",
    "FiLM",
    "low-rank",
    "tensor",
)


class BareProduct(Fusion):
    """h = vec(x_a ⊗ x_b): `TensorFusion` without the leading 1."""

    def __init__(self, dims: dict[str, int]) -> None:
        """Remember the widths."""
        super().__init__(dims, dims["a"] * dims["b"])

    def forward(
        self, features: Features, present: Present | None = None
    ) -> Tensor:
        """Return (B, D_a · D_b); zeros where one of the two is absent."""
        x = masked_vectors(features, self.dims, present)
        return torch.einsum("bi,bj->bij", x["a"], x["b"]).flatten(1)


def low_rank_fair(dims: dict[str, int], classes: int) -> nn.Module:
    """Low rank whose leading 1 starts with as much weight as all features of
    its modality together."""
    fusion = LowRankFusion(dims, 32, 4)
    for factor in fusion.factor.values():
        signs = torch.randint(0, 2, factor.bias.shape) * 2.0 - 1
        factor.bias.data = signs * fusion.rank ** (-0.5 / len(dims))
    return FusionClassifier(fusion, classes)


def raw_tensor(dims: dict[str, int], classes: int) -> nn.Module:
    """All products of the features as they are: no projection."""
    return FusionClassifier(TensorFusion(dims), classes)


def bare_product(dims: dict[str, int], classes: int) -> nn.Module:
    """The same without the leading 1."""
    return FusionClassifier(BareProduct(dims), classes)


BUILDERS: dict[str, Builder] = joint_models() | {
    "low-rank, fair start": low_rank_fair,
    "raw tensor": raw_tensor,
    "bare product": bare_product,
}


def split_of(kind: str, n: int, seed: int, dim: int = 16) -> Split:
    """Return n samples to learn from, n / 2 to choose on, 4000 to test on."""
    world = getattr(worlds, kind)(seed=seed, dim=dim)
    sizes = (n, n // 2, TEST)
    return Split(
        *(world.sample(size, seed=3 * seed + k) for k, size in enumerate(sizes))
    )


def stacked(parts: list[Samples], repeats: int) -> tuple[Features, Tensor]:
    """Return the samples of all seeds in one tensor each, a copy per decay."""
    features = {
        m: torch.stack([part.features[m] for part in parts])
        for m in parts[0].features
    }
    labels = torch.stack([part.labels for part in parts])
    return (
        {m: x.repeat_interleave(repeats, 0) for m, x in features.items()},
        labels.repeat_interleave(repeats, 0),
    )


def trained(
    build: Builder, splits: list[Split], decays: tuple[float, ...] = DECAYS
) -> tuple[list[list[nn.Module]], Tensor]:
    """Train one model per seed and decay, as `comparison.tuned` would.

    Returns models[seed][decay], each as it was in its best epoch, and their
    lowest validation losses (seeds, decays).
    """
    n, seeds, copies = len(splits[0].train), len(splits), len(decays)
    dims = {m: x.shape[1] for m, x in splits[0].train.features.items()}
    models = []
    for seed in range(seeds):
        for _ in decays:
            torch.manual_seed(seed)
            models.append(build(dims, 2))
    weights = {
        k: v.detach().clone() for k, v in stack_module_state(models)[0].items()
    }
    first = copy.deepcopy(models[0])

    def logits(w: dict[str, Tensor], x: Features) -> Tensor:
        return functional_call(first, w, (x,))

    def loss(w: dict[str, Tensor], x: Features, y: Tensor) -> Tensor:
        return cross_entropy(logits(w, x), y)

    x, y = stacked([split.train for split in splits], copies)
    x_new, y_new = stacked([split.validation for split in splits], copies)
    shrink = 1 - RATE * torch.tensor(decays * seeds)
    moments = [{k: torch.zeros_like(v) for k, v in weights.items()}, None]
    moments[1] = copy.deepcopy(moments[0])
    best, best_epoch = torch.full((len(models),), torch.inf), torch.zeros(1)
    kept = {k: v.clone() for k, v in weights.items()}
    orders = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    epochs = max(1, round(STEPS * BATCH / max(n, BATCH)))
    patience, step = max(10, epochs // 4), 0
    every = torch.arange(len(models))[:, None]
    for epoch in range(epochs):
        order = torch.stack([torch.randperm(n, generator=g) for g in orders])
        for rows in order.repeat_interleave(copies, 0).split(BATCH, dim=1):
            batch = {m: values[every, rows] for m, values in x.items()}
            gradient = vmap(grad(loss))(weights, batch, y[every, rows])
            step += 1
            adamw_step(weights, gradient, moments, shrink, step)
        with torch.no_grad():
            answers = vmap(logits)(weights, x_new)  # (models, n / 2, 2)
        current = cross_entropy(
            answers.flatten(0, 1), y_new.flatten(), reduction="none"
        )
        current = current.view(len(models), -1).mean(1)
        better = (current < best) & (epoch - best_epoch <= patience)
        best = torch.where(better, current, best)
        best_epoch = torch.where(better, float(epoch), best_epoch)
        for k, v in weights.items():
            kept[k] = torch.where(per_model(better, v), v, kept[k])
        if (epoch - best_epoch >= patience).all():
            break
    for place, model in enumerate(models):
        model.load_state_dict({k: v[place] for k, v in kept.items()})
    grouped = [models[i : i + copies] for i in range(0, len(models), copies)]
    return grouped, best.view(seeds, copies)


def per_model(values: Tensor, like: Tensor) -> Tensor:
    """Return one value per model, shaped to meet a stack of weights."""
    return values.view(-1, *[1] * (like.dim() - 1))


def adamw_step(
    weights: dict[str, Tensor],
    gradient: dict[str, Tensor],
    moments: list[dict[str, Tensor]],
    shrink: Tensor,
    step: int,
) -> None:
    """Take one step of AdamW with each model's own weight decay, in place."""
    for k, g in gradient.items():
        mean = moments[0][k].lerp_(g, 0.1)
        square = moments[1][k].mul_(0.999).addcmul_(g, g, value=0.001)
        size = (square / (1 - 0.999**step)).sqrt() + 1e-8
        weights[k] *= per_model(shrink, g)
        weights[k] -= RATE * mean / (1 - 0.9**step) / size


def chosen(build: Builder, splits: list[Split]) -> list[nn.Module]:
    """Return for each seed the model with the lowest validation loss."""
    models, losses = trained(build, splits)
    best = losses.argmin(1).tolist()
    return [row[place] for row, place in zip(models, best, strict=True)]


def tested(
    model: nn.Module, test: Samples, present: Present | None = None
) -> float:
    """Return the share of test samples that the model gets right."""
    samples = Samples(test.features, test.labels, present)
    predicted = predict(model, samples).argmax(1)
    return round(accuracy(predicted, test.labels), 4)


def best_single(splits: list[Split]) -> list[float]:
    """Return the test accuracy of the modality, linear or with a hidden layer,
    that has the lowest validation loss."""
    candidates = []
    for m in splits[0].train.features:
        alone = [split.only([m]) for split in splits]
        for build in single_models().values():
            models, losses = trained(build, alone)
            candidates.append((models, losses, alone))
    answers = []
    for seed in range(len(splits)):
        models, losses, alone = min(
            candidates, key=lambda found: found[1][seed].min().item()
        )
        best = models[seed][losses[seed].argmin()]
        answers.append(tested(best, alone[seed].test))
    return answers


def joins(
    kind: str, n: int, methods: tuple[str, ...], dim: int = 16
) -> dict[str, dict]:
    """Return "n/seed" → method → test accuracy."""
    splits = [split_of(kind, n, seed, dim) for seed in range(SEEDS)]
    columns = {BEST_SINGLE: best_single(splits)}
    for name in methods:
        models = chosen(BUILDERS[name], splits)
        columns[name] = [
            tested(model, split.test)
            for model, split in zip(models, splits, strict=True)
        ]
        print(kind, n, name, columns[name], flush=True)
    return {
        f"{n}/{seed}": {name: column[seed] for name, column in columns.items()}
        for seed in range(SEEDS)
    }


def synergy() -> dict[str, dict]:
    """All joins where only the product tells."""
    own = ("low-rank, fair start", "raw tensor")
    return joins("synergy", 150, JOINTS + own) | joins(
        "synergy", 500, JOINTS + own
    )


def redundant() -> dict[str, dict]:
    """All joins where nothing multiplies."""
    return joins("redundant", 150, (*JOINTS, "low-rank, fair start"))


def wide() -> dict[str, dict]:
    """The same with 128 features per modality."""
    names = ("concat linear", "tensor", "low-rank", "low-rank, fair start")
    return joins("redundant", 500, names, dim=128)


def decays() -> dict[str, dict]:
    """Return seed → method → weight decay → test accuracy."""
    splits = [split_of("synergy", 150, seed) for seed in range(SEEDS)]
    rows: dict[str, dict] = {str(seed): {} for seed in range(SEEDS)}
    for name in ("concat MLP", "low-rank", "tensor"):
        models, _ = trained(BUILDERS[name], splits, MORE_DECAYS)
        for seed, split in enumerate(splits):
            rows[str(seed)][name] = {
                str(decay): tested(model, split.test)
                for decay, model in zip(MORE_DECAYS, models[seed], strict=True)
            }
    return rows


def unique() -> dict[str, dict]:
    """A product with and without the 1, with and without b in the test."""
    rows = joins("unique", 500, ())
    no_b = {"b": torch.zeros(TEST, dtype=torch.bool)}
    splits = [split_of("unique", 500, seed) for seed in range(SEEDS)]
    for name in ("bare product", "raw tensor"):
        models = chosen(BUILDERS[name], splits)
        for seed, split in enumerate(splits):
            rows[f"500/{seed}"] |= {
                name: tested(models[seed], split.test),
                f"{name}, b absent": tested(models[seed], split.test, no_b),
            }
    return rows


PARTS = {
    measure.__name__: measure
    for measure in (synergy, redundant, wide, decays, unique)
}


def main(names: list[str]) -> None:
    """Measure the named parts (default: all), each into a file of its own."""
    for name in names:
        if name not in PARTS:
            sys.exit(f"unknown part {name!r}, expected some of {list(PARTS)}")
    torch.set_num_threads(1)
    for name in names or PARTS:
        rows = PARTS[name]()
        version = torch.__version__.split("+")[0]
        save_results(
            RESULTS / f"{name}.json",
            command=f"python book/03_feature_fusion/study.py {name}",
            machine=f"{platform.machine()}, one thread, torch {version}",
            rows=rows,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
