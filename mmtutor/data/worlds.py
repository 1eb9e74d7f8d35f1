"""Generated worlds whose information is known in closed form: redundant, unique, complement,
synergy, and mixtures.

Each modality m in {"a", "b"} shows one latent bit per *part* of the world, a nuisance bit, and
noise:

    x_m = Σ_k s_k · bit_mk · q_mk + s · nuisance_m · q_m,K+1 + noise_m · N(0, I)

with q_m orthonormal and s_k = s · sqrt(weight_k).

| part | latent bits | class of the sample |
|---|---|---|
| redundant | bit_b = bit_a | bit_a |
| unique | bit_a, bit_b independent | bit_a (bit_b looks alike but says nothing) |
| complement | bit_a, bit_b independent | the pair (bit_a, bit_b): four classes |
| synergy | bit_a, bit_b independent | bit_a XOR bit_b |

A mixture holds several parts at once; its class is the tuple of its parts' classes. The parts are
independent and lie along orthogonal directions, so the posterior and the Bayes accuracy are
products over parts, and every information is a sum. A part's weight is its share of signal power;
weight 1 alone is the pure world. Taught in chapter 3.
"""

from collections.abc import Mapping

from mmtutor.data import WORLD_NAMES
from mmtutor.data.world import World

__all__ = ["WORLDS", "World", "complement", "mixture", "redundant", "synergy", "unique"]


def redundant(
    n: int = 2000,
    *,
    strength: float = 1.5,
    noise: float | Mapping[str, float] = 1.0,
    dim: int = 16,
    seed: int = 0,
) -> World:
    """Both modalities show the same bit, which is the class: two looks at one thing."""
    return World("redundant", {"redundant": 1.0}, n, strength, noise, dim, seed)


def unique(
    n: int = 2000,
    *,
    strength: float = 1.5,
    noise: float | Mapping[str, float] = 1.0,
    dim: int = 16,
    seed: int = 0,
) -> World:
    """Only modality a shows the class; b shows a bit that has nothing to do with it."""
    return World("unique", {"unique": 1.0}, n, strength, noise, dim, seed)


def complement(
    n: int = 2000,
    *,
    strength: float = 1.5,
    noise: float | Mapping[str, float] = 1.0,
    dim: int = 16,
    seed: int = 0,
) -> World:
    """Four classes from two independent bits, one per modality: each knows half of the answer."""
    return World("complement", {"complement": 1.0}, n, strength, noise, dim, seed)


def synergy(
    n: int = 2000,
    *,
    strength: float = 1.5,
    noise: float | Mapping[str, float] = 1.0,
    dim: int = 16,
    seed: int = 0,
) -> World:
    """The class is the XOR of the two bits: each modality alone knows nothing at all."""
    return World("synergy", {"synergy": 1.0}, n, strength, noise, dim, seed)


def mixture(
    n: int = 2000,
    *,
    redundant: float = 0.0,
    unique: float = 0.0,
    complement: float = 0.0,
    synergy: float = 0.0,
    strength: float = 1.5,
    noise: float | Mapping[str, float] = 1.0,
    dim: int = 16,
    seed: int = 0,
) -> World:
    """Several parts at once; the class is the tuple of their classes, so 2 to 32 classes.

    redundant ... synergy: each part's share of signal power, >= 0, its strength being strength ·
    sqrt(share). Shares that sum to 1 keep the total power of a pure world; nothing forces them to.
    At least one must be positive.
    """
    weights = {
        "redundant": redundant,
        "unique": unique,
        "complement": complement,
        "synergy": synergy,
    }
    return World("mixture", weights, n, strength, noise, dim, seed)


WORLDS = {name: globals()[name] for name in WORLD_NAMES}
