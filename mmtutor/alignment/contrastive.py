"""One space for two modalities: pairs drawn together, how well a partner is found, and the best
linear answer.

Taught in chapter 7.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmtutor.checks import positive, proper_fraction, require, whole_number

# queries compared with all partners at one time: memory grows with N, not with N²
ROWS_AT_ONCE = 1024
# cosines closer than this are equal: the same row, multiplied in another block, may differ in the
# last bit
TIE = 1e-12


def info_nce(a: Tensor, b: Tensor, temperature: float | Tensor) -> Tensor:
    """-½ mean_i [ln softmax_j(s_ij / τ)_i + ln softmax_j(s_ji / τ)_i], s_ij = cos(a_i, b_j): a's
    partner among all b.

    a, b: (N, D) floats, row i of a belongs to row i of b, N ≥ 2; temperature: τ > 0, a number or a
    learnable scalar → scalar, in nats, differentiable. ln N where the rows say nothing of each
    other, 0 where each partner stands out; ln N - loss is a lower bound on the mutual information.
    Two samples that mean the same are pushed apart like any others. Raises ValueError for unequal
    shapes, N < 2, NaN, a row of zeros (it has no direction), τ that is not positive. van den Oord
    et al., CPC (arXiv 1807.03748); symmetric form: Radford et al., CLIP, ICML 2021.
    """
    _paired(a, b)
    scale = float(temperature.detach() if isinstance(temperature, Tensor) else temperature)
    positive("temperature", scale)
    similar = _unit("a", a) @ _unit("b", b).T / temperature  # (N, N)
    own = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(similar, own) + F.cross_entropy(similar.T, own)) / 2


@torch.no_grad()
def recall_at_k(a: Tensor, b: Tensor, ks: Iterable[int]) -> dict[int, float]:
    """Share of the rows of a whose partner, the same row of b, is among the k rows of b with the
    highest cosine.

    a, b: (N, D) floats, N ≥ 2; ks: whole numbers 1..N → {k: share in [0, 1]}. Chance is k / N. A
    tie counts against the partner, so a collapsed encoder, to which all is alike, finds nothing: b
    equal to it in cosine (within 1e-12) stand before it. One direction, a asks b; swap them for the
    other. Computed in float64. Raises ValueError as `info_nce`, and for k outside of 1..N.
    """
    _paired(a, b)
    ks = [whole_number("k", k, 1, len(a), hint=": N is the most") for k in ks]
    require(ks, "ks is empty, expected at least one whole number from 1 to N")
    queries, keys = _unit("a", a.double()), _unit("b", b.double())
    ahead = []
    for start in range(0, len(a), ROWS_AT_ONCE):
        similar = queries[start : start + ROWS_AT_ONCE] @ keys.T  # (rows, N)
        own = similar.diagonal(start)[:, None]
        # the partner itself does not stand before itself
        ahead.append((similar >= own - TIE).sum(1) - 1)
    rank = torch.cat(ahead)
    return {k: float((rank < k).double().mean()) for k in ks}


@torch.no_grad()
def cca(a: Tensor, b: Tensor, dims: int, shrinkage: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """U, ρ, V = SVD(A^-½ C B^-½), maps A^-½ U and B^-½ V: directions in which a and b vary
    together, best first.

    a: (N, Da), b: (N, Db) floats, paired rows; dims ≤ min(Da, Db); A, B, C: covariances of a, of b,
    of a with b → map_a (Da, dims), map_b (Db, dims), correlations (dims,) in [0, 1], falling.
    Subtract the column means of these a and b: then (a - mean) @ map_a has variance 1 and
    correlates with (b - mean) @ map_b by ρ, column by column and with no other column. With as many
    columns as samples some direction always correlates by 1: shrink, and judge on new samples.
    shrinkage s: (1 - s) A + s · (mean variance of a) · identity, B alike, (1 - s) C; what was said
    of variance and ρ then holds for these. Each column of map_a has its largest entry positive.
    Raises ValueError for unequal lengths, NaN, dims out of range, s outside of [0, 1), and
    covariances without an inverse. Hotelling, Relations between two sets of variates, 1936;
    shrinkage: Vinod, Canonical ridge, 1976.
    """
    _paired(a, b, same_width=False)
    whole_number("dims", dims, 1, min(a.shape[1], b.shape[1]))
    proper_fraction("shrinkage", shrinkage, zero=True)
    x, y = (v.double() - v.double().mean(0) for v in (a, b))
    whiten_a, whiten_b = _whitening("a", x, shrinkage), _whitening("b", y, shrinkage)
    shared = (1 - shrinkage) * x.T @ y / (len(x) - 1)  # (Da, Db); shrunk alike, or ρ could exceed 1
    u, rho, vt = torch.linalg.svd(whiten_a @ shared @ whiten_b, full_matrices=False)
    map_a, map_b = whiten_a @ u[:, :dims], whiten_b @ vt[:dims].T
    sign = map_a.gather(0, map_a.abs().argmax(0, keepdim=True)).sign()
    return (
        (map_a * sign).to(a.dtype),
        (map_b * sign).to(b.dtype),
        rho[:dims].clamp(max=1.0).to(a.dtype),
    )


def _whitening(name: str, centred: Tensor, shrinkage: float) -> Tensor:
    """Return the symmetric root of the inverse of the shrunk covariance, (D, D)."""
    covariance = centred.T @ centred / (len(centred) - 1)
    mean, identity = covariance.diagonal().mean(), torch.eye(len(covariance)).to(covariance)
    shrunk = (1 - shrinkage) * covariance + shrinkage * mean * identity
    values, vectors = torch.linalg.eigh(shrunk)
    require(
        values[0] > len(values) * torch.finfo(values.dtype).eps * values[-1],
        f"the covariance of {name}, {len(values)} columns from {len(centred)} samples, has no"
        " inverse: some columns are constant or follow from others; drop them, or give"
        " shrinkage > 0",
    )
    return vectors * values.rsqrt() @ vectors.T


def _paired(a: Tensor, b: Tensor, same_width: bool = True) -> None:
    """Raise ValueError unless a and b are finite floats with as many rows, two at least."""
    given = f"a is {tuple(a.shape)} and b {tuple(b.shape)}"
    width = "both (N, D)" if same_width else "(N, Da) and (N, Db)"
    require(
        a.ndim == b.ndim == 2 and len(a) == len(b) and (a.shape[1] == b.shape[1] or not same_width),
        f"{given}, expected {width}: row i of a belongs to b's",
    )
    require(
        len(a) >= 2 and a.shape[1] and b.shape[1],
        f"{given}, expected 2 pairs and 1 column at least",
    )
    for name, rows in (("a", a), ("b", b)):
        require(
            rows.is_floating_point() and torch.isfinite(rows.detach()).all(),
            f"{name} must hold finite floats: it is {rows.dtype}, or has NaN or infinity",
        )


def _unit(name: str, rows: Tensor) -> Tensor:
    """Return the rows with length 1; ValueError for one of zeros."""
    if empty := (rows == 0).all(1).nonzero()[:, 0].tolist():
        raise ValueError(
            f"row {empty[0]} of {name} is zero and has no direction: mask missing samples, drop"
            " them"
        )
    return F.normalize(rows, dim=1, eps=0.0)
