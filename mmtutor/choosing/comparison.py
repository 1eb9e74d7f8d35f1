"""Every level of fusion on one split, under equal tuning: what chapter 6 compares, and its stored
results hold.

`opinions_of` trains the single modalities, the joint models and the decision rules over the
singles, and returns what each says about the test samples. Nothing here looks at the test labels.

Taught in chapter 6.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from mmtutor.checks import require
from mmtutor.evaluation import accuracy, apply_temperature, log_loss, temperature_scale
from mmtutor.fusion import (
    BottleneckFusion,
    ConcatFusion,
    CrossAttentionFusion,
    EncoderFusion,
    FilmFusion,
    FusionClassifier,
    GatedFusion,
    LowRankFusion,
    TensorFusion,
    decision,
)
from mmtutor.fusion.inputs import Fusion
from mmtutor.training import Augment, fit, predict
from mmtutor.types import Samples

Builder = Callable[[dict[str, int], int], nn.Module]
"""(dims, classes) → an untrained model."""

SINGLE = ("linear", "MLP")  # what a single modality may choose between
BEST_SINGLE = "best single"
DECAYS = (0.01, 1.0)


@dataclass(frozen=True)
class Split:
    """Three parts of one data set: to learn from, to choose settings on, to judge by."""

    train: Samples
    validation: Samples
    test: Samples

    def only(self, modalities: list[str]) -> "Split":
        """Return the same split with some of the modalities."""
        return Split(*(part.only(modalities) for part in (self.train, self.validation, self.test)))

    def standardised(self) -> "Split":
        """Return the split with each feature's mean 0 and standard deviation 1, both measured on
        `train` where present: over the samples, and over the real steps of sequences.

        Raises ValueError, naming the modality, where fewer than two training samples have it.
        """
        observed = {m: _observed(self.train, m) for m in self.train.features}
        require(
            not (few := [m for m, x in observed.items() if len(x) < 2]),
            f"fewer than two training samples have {few}: no mean and deviation to standardise"
            " with",
        )
        mean = {m: x.mean(0) for m, x in observed.items()}
        deviation = {m: x.std(0).clamp(min=1e-6) for m, x in observed.items()}

        def scaled(part: Samples) -> Samples:
            features = {m: (x - mean[m]) / deviation[m] for m, x in part.features.items()}
            return replace(part, features=features)

        return Split(scaled(self.train), scaled(self.validation), scaled(self.test))


def joint_models() -> dict[str, Builder]:
    """Name → builder of each model that sees all modalities at once; vectors in, logits out."""
    return {
        "concat linear": lambda dims, classes: FusionClassifier(ConcatFusion(dims), classes),
        "concat MLP": lambda dims, classes: FusionClassifier(
            ConcatFusion(dims), classes, hidden=64
        ),
        "gated": lambda dims, classes: FusionClassifier(GatedFusion(dims, 32), classes),
        # a tensor of raw features would have thousands of entries too many
        "tensor": lambda dims, classes: FusionClassifier(
            EncoderFusion(
                {m: nn.Linear(d, 8) for m, d in dims.items()}, TensorFusion(dict.fromkeys(dims, 8))
            ),
            classes,
        ),
        "low-rank": lambda dims, classes: FusionClassifier(LowRankFusion(dims, 32, 4), classes),
        "FiLM": lambda dims, classes: FusionClassifier(
            FilmFusion(dims, 32, list(dims)[-1]), classes
        ),
        "encoders + head": lambda dims, classes: FusionClassifier(
            EncoderFusion(
                {m: nn.Sequential(nn.Linear(d, 32), nn.ReLU()) for m, d in dims.items()},
                ConcatFusion(dict.fromkeys(dims, 32)),
            ),
            classes,
            hidden=32,
        ),
        "cross-attention": lambda dims, classes: FusionClassifier(
            _tokens(dims, lambda d: CrossAttentionFusion(d, 16, heads=2, layers=1)), classes
        ),
        "bottleneck": lambda dims, classes: FusionClassifier(
            _tokens(dims, lambda d: BottleneckFusion(d, 16, bottlenecks=2, heads=2, layers=2)),
            classes,
        ),
    }


def single_models() -> dict[str, Builder]:
    """Name → builder of the models that a single modality chooses between."""
    return {name: joint_models()[f"concat {name}"] for name in SINGLE}


def tuned(
    builders: dict[str, Builder],
    split: Split,
    classes: int,
    *,
    seed: int = 0,
    steps: int = 150,
    lr: float = 1e-2,
    decays: tuple[float, ...] = DECAYS,
    class_weights: str | None = None,
    augment: Augment | None = None,
) -> nn.Module:
    """Train each builder's model with each weight decay; return the one with the lowest validation
    loss.

    Each keeps the weights of its best epoch. About `steps` steps of AdamW with batches of 128;
    seed: start and order.
    class_weights, augment: as `training.fit`.
    """
    dims = {m: x.shape[-1] for m, x in split.train.features.items()}
    epochs = max(1, round(steps * 128 / max(len(split.train), 128)))
    candidates: list[tuple[float, nn.Module]] = []
    for build in builders.values():
        for decay in decays:
            torch.manual_seed(seed)
            model = build(dims, classes)
            history = fit(
                model,
                split.train,
                split.validation,
                epochs=epochs,
                lr=lr,
                weight_decay=decay,
                batch_size=128,
                class_weights=class_weights,
                augment=augment,
                seed=seed,
                device="cpu",
                patience=max(10, epochs // 4),
            )
            candidates.append((min(history.validation_loss), model))
    return min(candidates, key=lambda candidate: candidate[0])[1]


def calibrated_single(
    split: Split, modality: str, classes: int, **training: Any
) -> Callable[[Samples], Tensor]:
    """Return what answers for one modality alone: samples → probabilities (N, classes).

    A linear or a hidden-layer model, tuned as `tuned` does (`training`: its options) on the samples
    of train and validation that have the modality; its logits divided by the temperature that fits
    the validation part.
    """
    train, validation = (_having(part, modality) for part in (split.train, split.validation))
    model = tuned(single_models(), Split(train, validation, split.test), classes, **training)
    temperature = temperature_scale(predict(model, validation), validation.labels)

    def probabilities(samples: Samples) -> Tensor:
        return torch.as_tensor(
            apply_temperature(predict(model, samples.only([modality])), temperature)
        )

    return probabilities


def opinions_of(
    split: Split,
    classes: int,
    *,
    seed: int = 0,
    methods: list[str] | None = None,
    class_weights: str | None = None,
    **training: Any,
) -> dict[str, Tensor]:
    """Return method → probabilities (n_test, classes) for singles, joint models and decision rules.

    methods: which joint models, None for all. Singles are tuned over a linear and a hidden-layer
    model; "best single" is the one with the lowest validation loss. Rules combine the singles'
    opinions, calibrated by a temperature on the validation part, where weights, reliabilities and
    stacking are learnt too. class_weights, training: as `tuned`, for every contestant alike.
    """
    training |= {"seed": seed, "class_weights": class_weights}
    held_out, tested = {}, {}
    for modality in split.train.features:
        single = calibrated_single(split, modality, classes, **training)
        held_out[modality], tested[modality] = single(split.validation), single(split.test)
    y = split.validation.labels
    best = min(held_out, key=lambda m: log_loss(held_out[m], y))
    answers = {BEST_SINGLE: tested[best]} | {f"{m} alone": p for m, p in tested.items()}
    for name in joint_models() if methods is None else methods:
        model = tuned({name: joint_models()[name]}, split, classes, **training)
        answers[name] = predict(model, split.test).softmax(1)
    return answers | decisions(tested, held_out, y, class_weights)


def decisions(
    probs: dict[str, Tensor],
    held_out: dict[str, Tensor],
    y: Tensor,
    class_weights: str | None = None,
) -> dict[str, Tensor]:
    """Return rule → probabilities for the test opinions `probs`; what a rule must know is learnt
    from `held_out`, y.

    Reliability of a modality: the share of validation samples that it gets right, rescaled so that
    chance is 0; it is the weight in the vote, the reliability of Dempster–Shafer, and the density
    of the fuzzy integrals. The product assumes equally frequent classes, as models trained with
    balanced class weights do. class_weights: for stacking.
    """
    classes = next(iter(probs.values())).shape[1]
    # where all are at chance they are trusted alike, which leaves no rule undefined
    trust = {
        m: min(max((accuracy(p.argmax(1), y) - 1 / classes) / (1 - 1 / classes), 0.01), 0.99)
        for m, p in held_out.items()
    }
    measure = decision.lambda_measure(trust)
    linear = LogisticRegression(max_iter=1000, class_weight=class_weights)
    forest = RandomForestClassifier(
        100, min_samples_leaf=5, random_state=0, class_weight=class_weights
    )
    return {
        "average": decision.average(probs),
        "weighted vote": decision.weighted_vote(probs, trust),
        "majority vote": decision.majority_vote(probs),
        "product": decision.product_rule(probs),
        "Dempster–Shafer": decision.dempster_shafer(probs, trust),
        "Choquet": decision.choquet(probs, measure),
        "Sugeno": decision.sugeno(probs, measure),
        "fuzzy rules": decision.fuzzy_rules(probs),
        "stacking, linear": decision.Stacking(linear).fit(held_out, y).predict_proba(probs),
        "stacking, trees": decision.Stacking(forest).fit(held_out, y).predict_proba(probs),
    }


def _having(samples: Samples, modality: str) -> Samples:
    """Return the samples that have this modality, and no other modality of theirs."""
    part = samples.only([modality])
    return part[part.present[modality]] if part.present else part


def _observed(samples: Samples, modality: str) -> Tensor:
    """Return what there is of a modality, (K, D): of sequences each real step is a row."""
    part = _having(samples, modality)
    x = part.features[modality]
    mask = (part.masks or {}).get(modality)
    # a mask may be of the steps that an encoder will make of x
    return x[mask] if mask is not None and mask.shape == x.shape[:-1] else x.flatten(0, -2)


def _tokens(
    dims: dict[str, int], fusion: Callable[[dict[str, int]], Fusion], count: int = 4
) -> EncoderFusion:
    """Cut each modality's projection into `count` steps of width 16, so that attention has
    something to choose from."""
    return EncoderFusion(
        {
            m: nn.Sequential(nn.Linear(d, count * 16), nn.Unflatten(1, (count, 16)))
            for m, d in dims.items()
        },
        fusion(dict.fromkeys(dims, 16)),
    )
