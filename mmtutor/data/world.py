"""One generated world: how its samples are drawn, what the best observer would say, how much there
is to know. Taught in chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mmtutor.data.bits import part_accuracy, part_information, part_log_posterior
from mmtutor.data.dataset import Dataset
from mmtutor.types import Features, Present, Samples

MODALITIES = ("a", "b")
KINDS = ("redundant", "unique", "complement", "synergy")
_DIGITS = {
    "redundant": ("0", "1"),
    "unique": ("0", "1"),
    "complement": ("00", "01", "10", "11"),
    "synergy": ("0", "1"),
}


@dataclass(frozen=True)
class World:
    """One world: its parameters, its samples, and what can be known about them.

    weights: part → share of signal power, > 0; n: samples that `dataset()` draws; strength: s, > 0,
    in units of the features; noise: standard deviation, > 0, one number or {"a": ..., "b": ...};
    dim: width of each modality;
    seed: fixes the directions q. `dataclasses.replace(world, noise=...)` keeps the directions, so
    the same world can be seen through more noise. Raises ValueError, naming the parameter, for
    values out of range.
    """

    name: str
    weights: Mapping[str, float] = field(hash=False)
    n: int = 2000
    strength: float = 1.5
    noise: float | Mapping[str, float] = field(default=1.0, hash=False)
    dim: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse parameters that describe no world, and give noise and weights their one form."""
        _whole("n", self.n, 1)
        _whole("seed", self.seed, 0)
        _positive("strength", self.strength)
        object.__setattr__(self, "weights", _checked_weights(self.weights))
        object.__setattr__(self, "noise", _checked_noise(self.noise))
        needed = len(self.weights) + 1
        _whole(
            "dim",
            self.dim,
            needed,
            f"one direction for each of {', '.join(self.weights)} and one for the nuisance",
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C classes: the parts' binary digits, in the order of `weights`."""
        names = [""]
        for kind in self.weights:
            names = [left + right for left in names for right in _DIGITS[kind]]
        return tuple(names)

    @cached_property
    def directions(self) -> dict[str, Tensor]:
        """q: modality → (parts + 1, dim) float64, orthonormal rows; the last row carries the
        nuisance."""
        rng = np.random.default_rng([self.seed, 0])
        return {m: _orthonormal(rng, len(self.weights) + 1, self.dim) for m in MODALITIES}

    def sample(self, n: int, seed: int = 0) -> Samples:
        """Draw n fresh samples of this world (same directions): features (n, dim) float32, labels
        (n,) int64.

        Different seeds give independent samples, so `sample(1000, seed=1)` and `sample(1000,
        seed=2)` make a training and a test set. Raises ValueError for n < 1 or a negative seed.
        """
        rng = np.random.default_rng([self.seed, 1, _whole("seed", seed, 0)])
        bits = {m: rng.integers(0, 2, (_whole("n", n, 1), len(self.weights))) for m in MODALITIES}
        for k, kind in enumerate(self.weights):
            if kind == "redundant":
                bits["b"][:, k] = bits["a"][:, k]
        features = {m: self._observe(m, bits[m], rng) for m in MODALITIES}
        return Samples(features, torch.from_numpy(self._label(bits["a"], bits["b"])))

    def dataset(self) -> Dataset:
        """Return n samples, `sample(n, seed=0)`, as a `Dataset`: each its own group, the closed
        forms in the card."""
        drawn = self.sample(self.n)
        return Dataset(
            self.name,
            drawn.features,
            np.arange(self.n),
            drawn.labels,
            self.classes,
            card={
                "title": f"Generated world: {self.name}",
                "licence": "none needed: generated",
                "do_not_display": False,
                "n": self.n,
                "bayes_accuracy": self.bayes_accuracy,
                "information": self.information,
            },
        )

    @property
    def bayes_accuracy(self) -> float:
        """Best accuracy that any method can reach from both modalities, 1/C to 1."""
        return math.prod(part_accuracy(kind, *self._reach(kind)) for kind in self.weights)

    def bayes_accuracy_of(self, modality: str) -> float:
        """Best accuracy that any method can reach from one modality alone, 1/C to 1; KeyError for
        an unknown one."""
        _known_modalities([modality])
        looked_at = np.array(
            [m == modality for m in MODALITIES]
        )  # distance 0 to a bit that nobody looks at
        return math.prod(
            part_accuracy(kind, *(looked_at * self._reach(kind))) for kind in self.weights
        )

    @cached_property
    def information(self) -> dict[str, float]:
        """What the modalities tell about the class Y, in nats (formulas:
        `mmtutor.data.bits.part_information`).

        "a", "b", "ab": I(a; Y), I(b; Y), I(a, b; Y). "label": the entropy H(Y). "interaction": the
        co-information I(a; Y) + I(b; Y) - I(a, b; Y), negative where the modalities are synergetic.
        "redundant", "unique_a", "unique_b", "synergy": the BROJA decomposition (Bertschinger et al.
        2014), whose four terms sum to "ab".
        """
        parts = [part_information(kind, *self._reach(kind)) for kind in self.weights]
        total = {key: math.fsum(part[key] for part in parts) for key in parts[0]}
        return total | {
            "interaction": total["a"] + total["b"] - total["ab"],
            "label": math.log(len(self.classes)),
        }

    def bayes_probabilities(
        self,
        features: Features,
        present: Present | None = None,
        modalities: Iterable[str] = MODALITIES,
    ) -> Tensor:
        """Exact posterior p(Y | x) of these features: (N, C), rows sum to 1, in the features'
        dtype.

        features[m]: (N, dim). present[m]: (N,) bool; an absent modality tells nothing, whatever
        stands in its place.
        modalities: those the observer may look at, ("a",) for the ideal single-modality classifier.
        Raises KeyError for a modality that is unknown or not in `features`; ValueError for a wrong
        width, unequal lengths, and NaN or infinity where a modality is not marked absent.
        """
        looked_at = _known_modalities(modalities)
        _known_modalities([*features, *(present or {})])
        if len({len(features[m]) for m in looked_at if m in features}) > 1:
            raise ValueError(
                f"a and b differ in length: {len(features['a'])} and {len(features['b'])} samples"
            )
        odds = {m: self._log_odds(m, features, present) for m in looked_at}
        some = next(iter(odds.values()))
        odds = {m: odds.get(m, torch.zeros_like(some)) for m in MODALITIES}
        joint = some.new_zeros(len(some), 1)
        for k, kind in enumerate(self.weights):
            part = part_log_posterior(kind, odds["a"][:, k], odds["b"][:, k])
            joint = (joint[:, :, None] + part[:, None, :]).flatten(1)
        return torch.softmax(joint, dim=1).to(features[looked_at[0]].dtype)

    def _amplitudes(self) -> np.ndarray:
        return self.strength * np.sqrt(np.array(list(self.weights.values())))

    @property
    def _noise(self) -> dict[str, float]:
        return _checked_noise(self.noise)

    def _reach(self, kind: str) -> tuple[float, float]:
        """Return d_m = s_k / noise_m of one part: the distance from 0 to the bit's mean, in
        standard deviations."""
        amplitude = self.strength * math.sqrt(self.weights[kind])
        return amplitude / self._noise["a"], amplitude / self._noise["b"]

    def _observe(self, modality: str, bits: np.ndarray, rng: np.random.Generator) -> Tensor:
        nuisance = self.strength * rng.choice([-1.0, 1.0], (len(bits), 1))
        latent = np.hstack([(2 * bits - 1) * self._amplitudes(), nuisance])  # (n, parts + 1)
        noise = self._noise[modality] * rng.standard_normal((len(bits), self.dim))
        return torch.from_numpy(latent @ self.directions[modality].numpy() + noise).float()

    def _label(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        label = np.zeros(len(a), dtype=np.int64)
        for k, kind in enumerate(self.weights):
            digit = {"complement": 2 * a[:, k] + b[:, k], "synergy": a[:, k] ^ b[:, k]}.get(
                kind, a[:, k]
            )
            label = label * len(_DIGITS[kind]) + digit
        return label

    def _log_odds(self, modality: str, features: Features, present: Present | None) -> Tensor:
        """ln p(bit = 1 | x) / p(bit = 0 | x) = 2 s_k q_k·x / noise²: (N, parts), float64."""
        if modality not in features:
            raise KeyError(
                f"no modality {modality!r} in features, which hold {', '.join(features) or 'none'}"
            )
        x = features[modality]
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(
                f"features[{modality!r}] must be (N, {self.dim}), not {tuple(x.shape)}"
            )
        scale = torch.from_numpy(2 * self._amplitudes() / self._noise[modality] ** 2).to(x.device)
        odds = x.double() @ self.directions[modality][:-1].T.to(x.device) * scale
        if present is not None and modality in present:
            there = present[modality]
            if there.shape != x.shape[:1] or there.dtype != torch.bool:
                raise ValueError(
                    f"present[{modality!r}] must be ({len(x)},) bool, not {tuple(there.shape)}"
                    f" {there.dtype}"
                )
            odds = torch.where(there.to(x.device)[:, None], odds, 0.0)
        if not odds.isfinite().all():
            raise ValueError(
                f"features[{modality!r}] holds NaN or infinity in a sample not marked absent in"
                " `present`"
            )
        return odds


def _orthonormal(rng: np.random.Generator, rows: int, dim: int) -> Tensor:
    q, r = np.linalg.qr(rng.standard_normal((dim, rows)))
    # LAPACK builds differ in the sign of each column; fixing it gives the same world on every
    # machine.
    return torch.from_numpy(np.ascontiguousarray((q * np.sign(np.diag(r))).T))


def _known_modalities(modalities: Iterable[str]) -> tuple[str, ...]:
    asked = tuple(modalities)
    for modality in asked:
        if modality not in MODALITIES:
            raise KeyError(
                f"a world has no modality {modality!r}; it has {' and '.join(MODALITIES)}"
            )
    if not asked:
        raise ValueError("no modality to look at: give 'a', 'b' or both")
    return asked


def _checked_weights(weights: Mapping[str, float]) -> dict[str, float]:
    for kind in weights:
        if kind not in KINDS:
            raise ValueError(f"unknown world {kind!r}; known worlds: {', '.join(KINDS)}")
    kept = {
        kind: _positive(f"weight of {kind!r}", weights[kind])
        for kind in KINDS
        if weights.get(kind, 0) != 0
    }
    if not kept:
        raise ValueError(f"a mixture needs at least one positive weight among {', '.join(KINDS)}")
    return kept


def _checked_noise(noise: float | Mapping[str, float]) -> dict[str, float]:
    if not isinstance(noise, Mapping):
        noise = dict.fromkeys(MODALITIES, noise)
    if set(noise) != set(MODALITIES):
        raise ValueError(
            f"noise must be one number or name exactly {' and '.join(MODALITIES)}, not"
            f" {sorted(noise)}"
        )
    return {m: _positive(f"noise of {m!r}", noise[m]) for m in MODALITIES}


def _positive(name: str, value: float) -> float:
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a finite number > 0, not {value!r}")
    return float(value)


def _whole(name: str, value: int, least: int, why: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(
            f"{name} must be a whole number >= {least}{f' ({why})' if why else ''}, not {value!r}"
        )
    return int(value)
