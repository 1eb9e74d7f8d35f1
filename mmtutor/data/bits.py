"""Closed forms of a bit seen through Gaussian noise: what `mmtutor.data.worlds` knows about its
samples.

A bit of ±1 seen at distance d (signal over noise standard deviation) has log-odds L ~ N(2d², 4d²)
in favour of the truth. Taught in chapter 9.
"""

import math

import numpy as np
import torch
from scipy.special import log_expit, ndtr
from torch import Tensor
from torch.nn.functional import logsigmoid

CLASS_OF = {
    "redundant": np.array([[0, -1], [-1, 1]]),
    "unique": np.array([[0, 0], [1, 1]]),
    "complement": np.array([[0, 1], [2, 3]]),
    "synergy": np.array([[0, 1], [1, 0]]),
}
"""Part → class of the pair [bit_a, bit_b], (2, 2); -1 where the two never occur together."""

# Trapezoid rule for expectations over N(0, 1): the error falls like exp(-pi²/(d·step)), far below
# 1e-12 for every d whose information differs from ln 2 in double precision; beyond |z| = 12 the
# weight is below 1e-32.
_Z = np.linspace(-12.0, 12.0, 2401)
_WEIGHT = np.exp(-0.5 * _Z**2)
_WEIGHT /= _WEIGHT.sum()


def bit_information(d: float) -> float:
    """I(bit; d·bit + N(0, 1)) = ln 2 - E ln(1 + exp(-2d² - 2dZ)), Z ~ N(0, 1): 0 to ln 2 nats.

    The capacity of the binary-input Gaussian channel (Richardson and Urbanke, Modern Coding Theory,
    2008, ch. 4).
    """
    return _nats(_WEIGHT @ log_expit(2 * d * (d + _Z)))


def xor_information(d_a: float, d_b: float) -> float:
    """I(bit_a XOR bit_b; both observations) = ln 2 + E ln(p_a p_b + (1 - p_a)(1 - p_b)): 0 to ln 2
    nats.

    p_m = 1/(1 + exp(-L_m)) is the belief in the true bit. With t_m = 2p_m - 1 the same number is
    the series Σ_k E[t_a^2k] E[t_b^2k] / (2k(2k-1)) of one-dimensional integrals. Either distance
    being 0 gives 0.
    """
    if d_a == 0 or d_b == 0:
        return 0.0
    odds_a, odds_b = 2 * d_a * (d_a + _Z[::4, None]), 2 * d_b * (d_b + _Z[None, ::4])
    both_right = log_expit(odds_a) + log_expit(odds_b)
    both_wrong = log_expit(-odds_a) + log_expit(-odds_b)
    weight = _WEIGHT[::4] / _WEIGHT[::4].sum()
    return _nats(weight @ np.logaddexp(both_right, both_wrong) @ weight)


def part_accuracy(kind: str, d_a: float, d_b: float) -> float:
    """Bayes accuracy for one part of a world; a modality that is not looked at has distance 0.

    Φ(d), the normal distribution, is how often the sign of d·bit + N(0, 1) is right: 1/2 at d = 0.
    redundant Φ(sqrt(d_a² + d_b²)), unique Φ(d_a), complement Φ(d_a) Φ(d_b),
    synergy Φ(d_a) Φ(d_b) + (1 - Φ(d_a)) (1 - Φ(d_b)).
    """
    right_a, right_b = float(ndtr(d_a)), float(ndtr(d_b))
    return {
        "redundant": float(ndtr(math.hypot(d_a, d_b))),
        "unique": right_a,
        "complement": right_a * right_b,
        "synergy": right_a * right_b + (1 - right_a) * (1 - right_b),
    }[kind]


def part_information(kind: str, d_a: float, d_b: float) -> dict[str, float]:
    """I(a;Y), I(b;Y), I(a,b;Y) and the BROJA terms of one part of a world, in nats. With i(d) =
    `bit_information`:

    | part | a | b | ab | redundant | unique_a | unique_b | synergy |
    |---|---|---|---|---|---|---|---|
    | redundant | i(d_a) | i(d_b) | i(sqrt(d_a² + d_b²)) | min(a, b) | a - min | b - min | ab -
    max(a, b) |
    | unique | i(d_a) | 0 | a | 0 | a | 0 | 0 |
    | complement | i(d_a) | i(d_b) | a + b | 0 | a | b | 0 |
    | synergy | 0 | 0 | `xor_information` | 0 | 0 | 0 | ab |

    Why exact. Redundant: the noisier view is a degraded copy of the clearer one, so Blackwell's
    order makes its unique part 0 (and I_min agrees, as both classes are alike); what two noisy
    looks give beyond one counts as synergy. Unique and synergy: a term cannot exceed I(m; Y) = 0.
    Complement: under any joint law with the same pairs, I(a; Y | b) >= I(a, b; bit_a) >= I(a;
    bit_a), reached by the true law (I_min says min(a, b) redundant here, the classic objection to
    it). Sums over independent parts stay exact, as the decomposition is additive: Bertschinger et
    al., Quantifying Unique Information, Entropy 16, 2014; Rauh et al., Continuity and Additivity
    Properties of Information Decompositions, Int. J. Approximate Reasoning 161, 2023.
    """
    a, b = bit_information(d_a), bit_information(d_b)
    least = min(a, b)
    both = bit_information(math.hypot(d_a, d_b))
    xor = xor_information(d_a, d_b) if kind == "synergy" else 0.0
    a_b_ab_r_ua_ub_s = {
        "redundant": (a, b, both, least, a - least, b - least, both - max(a, b)),
        "unique": (a, 0.0, a, 0.0, a, 0.0, 0.0),
        "complement": (a, b, a + b, 0.0, a, b, 0.0),
        "synergy": (0.0, 0.0, xor, 0.0, 0.0, 0.0, xor),
    }[kind]
    names = ("a", "b", "ab", "redundant", "unique_a", "unique_b", "synergy")
    return dict(zip(names, a_b_ab_r_ua_ub_s, strict=True))


def part_log_posterior(kind: str, a: Tensor, b: Tensor) -> Tensor:
    """ln p(class of one part | log-odds (N,) of its two bits), but for a constant that all classes
    of the part share: (N, 2), or (N, 4) for complement."""
    bit_a, bit_b = (torch.stack([logsigmoid(-odds), logsigmoid(odds)], 1) for odds in (a, b))
    pairs = bit_a[:, :, None] + bit_b[:, None, :]  # (N, 2, 2)
    table = torch.from_numpy(CLASS_OF[kind]).to(a.device)
    classes = range(int(table.max()) + 1)
    return torch.stack([pairs[:, table == label].logsumexp(1) for label in classes], 1)


def _nats(expected_log_belief: float) -> float:
    """Return ln 2 + E ln p(truth), held in [0, ln 2] against rounding."""
    return min(max(math.log(2) + float(expected_log_belief), 0.0), math.log(2))
