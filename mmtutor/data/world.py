"""One generated world: how its samples are drawn, what the best observer would say, how much there
is to know. Taught in chapter 3.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import cast

import numpy as np
import torch
from torch import Tensor

from mmtutor.checks import known_names, one_of, positive, require, whole_number
from mmtutor.data.bits import CLASS_OF, part_accuracy, part_information, part_log_posterior
from mmtutor.data.dataset import Dataset
from mmtutor.types import Features, Present, Samples

MODALITIES = ("a", "b")
KINDS = tuple(CLASS_OF)


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
        whole_number("n", self.n, 1)
        whole_number("seed", self.seed)
        positive("strength", self.strength)
        given = {one_of("world", kind, KINDS): share for kind, share in self.weights.items()}
        weights = {kind: given[kind] for kind in KINDS if given.get(kind, 0) != 0}
        require(weights, f"a mixture needs one positive weight or more among {KINDS}")
        noise = (
            dict(self.noise)
            if isinstance(self.noise, Mapping)
            else dict.fromkeys(MODALITIES, self.noise)
        )
        require(
            set(noise) == set(MODALITIES),
            f"noise must be one number or name exactly a and b, not {list(noise)}",
        )
        for what, table in (("weight", weights), ("noise", noise)):
            for key, value in table.items():
                positive(f"{what} of {key!r}", value)
        whole_number(
            "dim",
            self.dim,
            len(weights) + 1,
            hint=f": one direction for each of {', '.join(weights)} and one for the nuisance",
        )
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "noise", noise)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C classes: the parts' binary digits, in the order of `weights`."""
        digits = {2: ("0", "1"), 4: ("00", "01", "10", "11")}
        return tuple(map("".join, product(*(digits[size] for size in self._sizes))))

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
        rng = np.random.default_rng([self.seed, 1, whole_number("seed", seed)])
        shape = whole_number("n", n, 1), len(self.weights)
        bits = {m: rng.integers(0, 2, shape) for m in MODALITIES}
        bits["b"] = np.where([k == "redundant" for k in self.weights], bits["a"], bits["b"])
        return Samples(
            {m: self._observe(m, bits[m], rng) for m in MODALITIES},
            torch.from_numpy(self._label(bits["a"], bits["b"])),
        )

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
        known_names("the question", [modality], MODALITIES, "modalities of a world")
        # A bit that nobody looks at lies at distance 0.
        looked_at = np.array([m == modality for m in MODALITIES])
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
        looked_at = tuple(modalities)
        known_names(
            "the question",
            [*looked_at, *features, *(present or {})],
            MODALITIES,
            "modalities of a world",
        )
        known_names("the question", looked_at, features, "features")
        require(looked_at, "no modality to look at: give 'a', 'b' or both")
        odds = {m: self._log_odds(m, features[m], (present or {}).get(m)) for m in looked_at}
        lengths = {m: len(table) for m, table in odds.items()}
        require(len(set(lengths.values())) <= 1, f"modalities differ in length: {lengths}")
        unseen = torch.zeros_like(odds[looked_at[0]])  # log-odds 0: nothing is known
        joint = unseen.new_zeros(len(unseen), 1)
        for k, kind in enumerate(self.weights):
            a, b = (odds.get(m, unseen)[:, k] for m in MODALITIES)
            joint = (joint[:, :, None] + part_log_posterior(kind, a, b)[:, None, :]).flatten(1)
        return torch.softmax(joint, dim=1).to(features[looked_at[0]].dtype)

    def _amplitudes(self) -> np.ndarray:
        return self.strength * np.sqrt(np.array(list(self.weights.values())))

    @property
    def _noise(self) -> dict[str, float]:
        return cast("dict[str, float]", self.noise)

    @property
    def _sizes(self) -> tuple[int, ...]:
        """The number of classes of each part."""
        return tuple(int(CLASS_OF[kind].max()) + 1 for kind in self.weights)

    def _reach(self, kind: str) -> tuple[float, float]:
        """Return d_m = s_k / noise_m of one part: the distance from 0 to the bit's mean, in
        standard deviations."""
        amplitude = self.strength * math.sqrt(self.weights[kind])
        return amplitude / self._noise["a"], amplitude / self._noise["b"]

    def _observe(self, modality: str, bits: np.ndarray, rng: np.random.Generator) -> Tensor:
        nuisance = self.strength * rng.choice([-1.0, 1.0], (len(bits), 1))
        latent = np.hstack([(2 * bits - 1) * self._amplitudes(), nuisance])  # (n, parts + 1)
        x = latent @ self.directions[modality].numpy()
        return torch.from_numpy(x + self._noise[modality] * rng.standard_normal(x.shape)).float()

    def _label(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Class of each sample (N,) from its bits (N, parts): its parts' classes as digits."""
        digits = [CLASS_OF[kind][a[:, k], b[:, k]] for k, kind in enumerate(self.weights)]
        return np.ravel_multi_index(digits, self._sizes).astype(np.int64)

    def _log_odds(self, modality: str, x: Tensor, present: Tensor | None) -> Tensor:
        """ln p(bit = 1 | x) / p(bit = 0 | x) = 2 s_k q_k·x / noise²: (N, parts), float64."""
        require(
            x.ndim == 2 and x.shape[1] == self.dim,
            f"features[{modality!r}] must be (N, {self.dim}), not {tuple(x.shape)}",
        )
        scale = torch.from_numpy(2 * self._amplitudes() / self._noise[modality] ** 2).to(x.device)
        odds = x.double() @ self.directions[modality][:-1].T.to(x.device) * scale
        if present is not None:
            require(
                present.shape == x.shape[:1] and present.dtype == torch.bool,
                f"present[{modality!r}] must be ({len(x)},) bool, not {tuple(present.shape)}"
                f" {present.dtype}",
            )
            odds = torch.where(present.to(x.device)[:, None], odds, 0.0)
        require(
            odds.isfinite().all(),
            f"features[{modality!r}] holds NaN or infinity in a sample not marked absent in"
            " `present`",
        )
        return odds


def _orthonormal(rng: np.random.Generator, rows: int, dim: int) -> Tensor:
    q, r = np.linalg.qr(rng.standard_normal((dim, rows)))
    # LAPACK builds differ in the sign of each column; fixing it gives the same world on every
    # machine.
    return torch.from_numpy(np.ascontiguousarray((q * np.sign(np.diag(r))).T))
