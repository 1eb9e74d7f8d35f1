"""Opinions multiplied: Bayes under independence, the weighted pool, and Dempster–Shafer, which
leaves room for not knowing.

Taught in chapter 5.
"""

import torch
from torch import Tensor

from mmtutor.checks import require
from mmtutor.fusion.decision.opinions import numbers, opinions
from mmtutor.types import Present


def product_rule(
    probs: dict[str, Tensor], prior: Tensor | None = None, present: Present | None = None
) -> Tensor:
    """p(c) ∝ Π_m p_m(c) / prior(c)^(M-1) over the M present: Bayes' rule if modalities are
    independent given the class.

    probs[m]: (B, C), rows sum to 1; prior: (C,), sums to 1, None for uniform → (B, C). Nobody
    present: the prior. Computed as a sum of logarithms. A zero is a veto; where every class is
    vetoed, zeros count as one and the same number on its way to 0: the classes with the fewest
    vetoes remain, weighed by their other factors.
    Raises ValueError for a prior that is no distribution, and as `average`.
    Kittler et al., On Combining Classifiers, TPAMI 1998, equation 7.
    """
    p, mask = opinions(probs, present, hidden=0.0)  # (M, B, C), (M, B)
    log, vetoes = _log_product(p, mask)
    base = _prior(prior, p)  # (C,)
    # M = 0 leaves the prior
    log = log - (mask.sum(0)[:, None] - 1) * torch.where(base > 0, base, 1.0).log()
    survivors = _survivors(log, vetoes + (base == 0) * (len(p) + 1))
    return torch.softmax(survivors, 1).to(next(iter(probs.values())).dtype)


def log_linear_pool(
    probs: dict[str, Tensor], weights: dict[str, float], present: Present | None = None
) -> Tensor:
    """p(c) ∝ Π_m p_m(c)^w_m over those present: a product in which some count more.

    probs[m]: (B, C), rows sum to 1; weights[m] ≥ 0, on a scale that matters → (B, C). All 1: the
    `product_rule` (a product of experts); sum 1: the geometric mean, for which a repeated opinion
    changes nothing; w_m = 1 / T is a temperature T. Weight 0 is absence. Nobody present: uniform,
    1/C. A zero is a veto unless its weight is 0, and vetoes everywhere end as in `product_rule`.
    Raises KeyError for a modality without weight, ValueError for weights that are negative or not
    finite, and as `average`. Genest and Zidek, Combining Probability Distributions, Statistical
    Science 1986; Hinton, Training Products of Experts, Neural Computation 2002.
    """
    weight = numbers(weights, list(probs), "weights")
    p, mask = opinions(probs, present, hidden=0.0)  # (M, B, C), (M, B)
    share = p.new_tensor(weight)[:, None]
    log, vetoes = _log_product(p, mask & (share > 0), share[:, :, None])
    return torch.softmax(_survivors(log, vetoes), 1).to(next(iter(probs.values())).dtype)


def dempster_shafer(
    probs: dict[str, Tensor], reliability: dict[str, float], present: Present | None = None
) -> Tensor:
    """Dempster's rule on the masses m({c}) = r_m p_m(c), m(frame) = 1 - r_m; then m({c}) + m(frame)
    / C (pignistic).

    probs[m]: (B, C), rows sum to 1; reliability[m]: r_m in [0, 1], how often this witness may be
    believed → (B, C). The frame is the set of all classes, so 1 - r_m says "it could be any". Π_m
    (r_m p_m(c) + 1 - r_m) - Π_m (1 - r_m) is what the rule leaves on {c} and Π_m (1 - r_m) on the
    frame; both are then divided by 1 - `conflict`. r_m = 1 for all is `product_rule`, total
    conflict included; r_m = 0 is absence. Nobody present: uniform, 1/C. In float32 an r_m closer to
    1 than 3e-8 is 1.
    Raises KeyError for a modality without reliability, ValueError for one outside [0, 1], and as
    `average`. Shafer, A Mathematical Theory of Evidence, Princeton 1976; Smets and Kennes, The
    Transferable Belief Model, 1994.
    """
    single, frame, _ = _masses(probs, reliability, present)
    total = single.sum(1, keepdim=True) + frame
    return ((single + frame / single.shape[1]) / total).to(next(iter(probs.values())).dtype)


def conflict(
    opinion: dict[str, Tensor], reliability: dict[str, float], present: Present | None = None
) -> Tensor:
    """K = the mass that Dempster's rule throws away, since two witnesses named different classes:
    (B,), in [0, 1].

    Arguments and errors as `dempster_shafer`. With fewer than two witnesses K = 0; with r_m = 1 for
    all, 1 - K = Σ_c Π_m p_m(c). Shafer, A Mathematical Theory of Evidence, Princeton 1976, chapter
    3.
    """
    single, frame, scale = _masses(opinion, reliability, present)
    kept = (single.sum(1) + frame[:, 0]) * scale
    return (1 - kept).clamp(0, 1).to(next(iter(opinion.values())).dtype)


def _masses(
    probs: dict[str, Tensor], reliability: dict[str, float], present: Present | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the masses of single classes (B, C) and of the frame (B, 1), up to a common factor,
    and it (B,)."""
    r = numbers(reliability, list(probs), "reliability", top=1.0)
    p, mask = opinions(probs, present, hidden=0.0)  # (M, B, C), (M, B)
    trust = p.new_tensor(r)[:, None, None]
    log, vetoes = _log_product(trust * p + (1 - trust), mask)  # (B, C): ln Π (r p + 1 - r)
    doubts = torch.tensor([1 - value for value in r], dtype=p.dtype, device=p.device)
    # ln Π (1 - r)
    frame = (mask * doubts.log()[:, None]).nan_to_num(nan=0.0, neginf=-torch.inf).sum(0)[:, None]
    # ln of Π (r p + 1 - r) / Π (1 - r), term by term: where little is believed, a difference of the
    # two products, both near 1, would keep no digit. A witness believed without doubt makes it
    # infinite.
    certain = (trust >= 1) & mask[:, :, None]
    odds = torch.where(trust < 1, trust / torch.where(trust < 1, 1 - trust, 1.0), 0.0)
    # (B, C)
    gain = (mask[:, :, None] * torch.log1p(odds * p)).sum(0).masked_fill(certain.any(0), torch.inf)
    log = _survivors(log, vetoes)
    highest = log.amax(1, keepdim=True).detach()
    single = (log - highest).exp() * -torch.expm1(-gain)
    # vetoes everywhere: nothing was kept
    kept = torch.where(vetoes.amin(1) > 0, 0.0, highest[:, 0].exp())
    return single, (frame - highest).exp(), kept


def _log_product(p: Tensor, mask: Tensor, weight: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """Return Σ_m w_m ln p_m(c) over the present with p_m(c) > 0, and Σ_m w_m over the present with
    p_m(c) = 0: both (B, C). weight: 1, or (M, 1, 1)."""
    mask = mask[:, :, None]
    # the inner `where` keeps the gradient finite: that of ln 0 is infinite, and infinite times 0 is
    # NaN
    log = (torch.where(mask & (p > 0), p, 1.0).log() * weight).sum(0)
    return log, ((mask & (p == 0)) * weight).sum(0)


def _survivors(log: Tensor, vetoes: Tensor) -> Tensor:
    """Return `log` with -inf for each class that has more vetoes than the class with the fewest."""
    return log.masked_fill(vetoes > vetoes.amin(1, keepdim=True), -torch.inf)


def _prior(prior: Tensor | None, p: Tensor) -> Tensor:
    """Return the prior as (C,), uniform for None; raise ValueError for one that is no distribution
    over C classes."""
    classes = p.shape[2]
    if prior is None:
        return p.new_full((classes,), 1 / classes)
    base = torch.as_tensor(prior, dtype=p.dtype, device=p.device)
    require(
        base.shape == (classes,) and (base >= 0).all() and (base.sum() - 1).abs() <= 1e-3,
        f"prior, of shape {tuple(base.shape)}, is not {classes} numbers ≥ 0 with sum 1",
    )
    return base
