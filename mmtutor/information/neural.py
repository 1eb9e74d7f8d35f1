"""Lower bounds on mutual information from a small network that learns to tell true pairs from false
ones.

Taught in chapter 9.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from mmtutor.checks import (
    Array,
    pair,
    per_unit,
    proper_fraction,
    require,
    varying,
    whole_number,
)

HIDDEN, EMBEDDED = 64, 32  # width of the two hidden layers; of what the separable critic compares
LEARNING_RATE = 1e-3
RATE = 0.01  # share of the newest batch in MINE's moving average
DRAWS = 20  # pairings of the samples over which a bound is averaged when it is evaluated

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Bound:
    """What the critic reaches on samples it has not seen, and on those it was trained on.

    fresh: the result; on average no more than the truth for InfoNCE, nearly so for MINE, whose
    logarithm of a mean over few false pairs comes out too low; it may be negative. train: not a
    bound on anything, since a critic can learn its pairs by heart; far above `fresh`, it asks for
    more samples. ceiling: the most this bound can ever show, ln(batch) for InfoNCE, None for MINE.
    """

    fresh: float
    train: float
    ceiling: float | None


def infonce_mi(
    x: Array,
    y: Array,
    fresh: tuple[Array, Array] | float = 0.5,
    *,
    batch: int = 64,
    steps: int = 1000,
    seed: int = 0,
    units: str = "nats",
) -> Bound:
    """I(X; Y) >= ln B + E ln( exp(f(x_i)·g(y_i)) / Σ_j exp(f(x_i)·g(y_j)) ), j over a batch of B:
    find x's own y.

    x: (N,) or (N, D); y: (N,) or (N, E) → `Bound` in nats or bits. fresh: samples (x, y) that the
    critic does not train on, or the share of the given ones to set aside for that. batch: B, both
    for training and for the bound, which cannot exceed ln B however much there is to know. f and g
    are networks with two hidden layers of 64, trained by Adam for `steps` batches; columns are
    brought to the training samples' mean 0 and variance 1. Same seed, same result.
    Raises ValueError for NaN, other shapes, constant columns, and sizes that leave fewer than B
    samples on either side. van den Oord, Li and Vinyals, Representation Learning with Contrastive
    Predictive Coding, arXiv 1807.03748, 2018.
    """
    unit, generator = per_unit(units), torch.Generator().manual_seed(seed)
    train, held = _sides(x, y, fresh, batch, generator)
    f, g = (_network([v.shape[1], HIDDEN, HIDDEN, EMBEDDED], generator) for v in train)
    _fit([f, g], lambda a, b: -_contrast(f(a), g(b)), train, batch, steps, generator)

    def bound(a: Tensor, b: Tensor) -> float:
        rows = torch.stack([torch.randperm(len(a), generator=generator) for _ in range(DRAWS)])
        rows = rows[:, : len(a) // batch * batch].reshape(-1, batch)  # (batches, B)
        return float(_contrast(f(a)[rows], g(b)[rows]))

    return _evaluate(bound, held, train, math.log(batch), unit)


def mine_mi(
    x: Array,
    y: Array,
    fresh: tuple[Array, Array] | float = 0.5,
    *,
    batch: int = 256,
    steps: int = 1000,
    seed: int = 0,
    units: str = "nats",
) -> Bound:
    """I(X; Y) >= E_p(x,y)[T] - ln E_p(x)p(y)[exp T]: Donsker and Varadhan's bound with a learnt
    T(x, y).

    Arguments, errors and result as `infonce_mi`; T is one network on (x, y) side by side. False
    pairs come from pairing the samples anew. The gradient of the logarithm is divided by a moving
    average of E[exp T], since that of one batch alone is biased (Belghazi et al., Mutual
    Information Neural Estimation, ICML 2018, section 3.2). There is no ceiling, but a price: ln
    E[exp T] hangs on the rare pairs with a large T, so the value scatters more than InfoNCE's,
    comes out too high where they are missed, and above ln N nobody can certify it (McAllester and
    Stratos, Formal Limitations on the Measurement of Mutual Information, AISTATS 2020).
    """
    unit, generator = per_unit(units), torch.Generator().manual_seed(seed)
    train, held = _sides(x, y, fresh, batch, generator)
    critic = _network([train[0].shape[1] + train[1].shape[1], HIDDEN, HIDDEN, 1], generator)
    average: Tensor | None = None

    def score(a: Tensor, b: Tensor, shift: int) -> Tensor:
        return critic(torch.cat([a, b.roll(shift, 0)], 1))[:, 0]

    def loss(a: Tensor, b: Tensor) -> Tensor:
        nonlocal average
        value, average = _donsker_varadhan_loss(score(a, b, 0), score(a, b, 1), average)
        return value

    def bound(a: Tensor, b: Tensor) -> float:
        order = torch.randperm(len(a), generator=generator)
        a, b = a[order], b[order]
        false = torch.cat([score(a, b, shift) for shift in range(1, min(DRAWS, len(a) - 1) + 1)])
        return float(score(a, b, 0).mean() - _log_mean_exp(false))

    _fit([critic], loss, train, batch, steps, generator)
    return _evaluate(bound, held, train, None, unit)


def _contrast(a: Tensor, b: Tensor) -> Tensor:
    """Mean of ln B + ln softmax of the own partner's score; a, b: (..., B, E)."""
    scores = a @ b.transpose(-1, -2)  # (..., B, B)
    own = scores.diagonal(dim1=-2, dim2=-1)
    return (own - scores.logsumexp(-1)).mean() + math.log(scores.shape[-1])


def _donsker_varadhan_loss(
    true: Tensor, false: Tensor, average: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return a loss whose gradient is minus that of the bound, its denominator averaged, and ln of
    the new average.

    true, false: (B,) scores; average: ln of the moving mean of exp T so far. Logarithms, since exp
    T may overflow.
    """
    now = _log_mean_exp(false)
    fixed = now.detach()
    if average is not None:
        fixed = torch.logaddexp(average + math.log(1 - RATE), fixed + math.log(RATE))
    return (now - fixed).exp() - true.mean(), fixed


def _log_mean_exp(values: Tensor) -> Tensor:
    return values.logsumexp(0) - math.log(len(values))


def _network(widths: list[int], generator: torch.Generator) -> nn.Sequential:
    """Linear layers with ReLU between them, drawn from the generator and not from the global
    one."""
    layers: list[nn.Module] = []
    for width, following in pairwise(widths):
        linear = nn.utils.skip_init(nn.Linear, width, following)
        nn.init.kaiming_uniform_(linear.weight, a=math.sqrt(5), generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _fit(
    networks: list[nn.Module],
    loss: Callable[[Tensor, Tensor], Tensor],
    train: Pair,
    batch: int,
    steps: int,
    generator: torch.Generator,
) -> None:
    whole_number("steps", steps, 1)
    optimiser = torch.optim.Adam(
        [p for network in networks for p in network.parameters()], lr=LEARNING_RATE
    )
    for _ in range(steps):
        rows = torch.randperm(len(train[0]), generator=generator)[:batch]
        optimiser.zero_grad()
        loss(train[0][rows], train[1][rows]).backward()
        optimiser.step()


@torch.no_grad()
def _evaluate(
    bound: Callable[..., float], held: Pair, train: Pair, ceiling: float | None, unit: float
) -> Bound:
    fresh, known = bound(*held), bound(*train)
    require(
        math.isfinite(fresh) and math.isfinite(known),
        f"the critic diverged (fresh {fresh}, train {known}): take fewer steps or a larger batch",
        RuntimeError,
    )
    return Bound(fresh / unit, known / unit, None if ceiling is None else ceiling / unit)


def _sides(
    x: Array, y: Array, fresh: tuple[Array, Array] | float, batch: int, generator: torch.Generator
) -> tuple[Pair, Pair]:
    """Return training and fresh samples as float32 (N, D), standardised by the former; ValueError
    if they cannot be."""
    given = pair(x, y)
    if isinstance(fresh, tuple):
        train, held = given, pair(*fresh, names=("fresh x", "fresh y"))
    else:
        proper_fraction("fresh, if not samples (x, y),", fresh)
        order = torch.randperm(len(given[0]), generator=generator).numpy()
        cut = round(len(order) * (1 - fresh))
        train, held = ((given[0][i], given[1][i]) for i in (order[:cut], order[cut:]))
    for name, a, b in zip(("x", "y"), train, held, strict=True):
        require(
            a.shape[1] == b.shape[1],
            f"fresh {name} has {b.shape[1]} columns, expected {a.shape[1]}, as {name} has",
        )
        varying(name, a)
    n, n_fresh = len(train[0]), len(held[0])
    available = f": there are {n} samples to train on and {n_fresh} fresh ones"
    whole_number("batch", batch, 2, min(n, n_fresh), available)
    x_train, x_held, y_train, y_held = (
        torch.from_numpy((v - known.mean(0)) / known.std(0)).float()
        for known, fresh_ones in zip(train, held, strict=True)
        for v in (known, fresh_ones)
    )
    return (x_train, y_train), (x_held, y_held)
