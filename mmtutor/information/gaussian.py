"""The one family of continuous variables whose information is a formula: Gaussians.

Taught in chapter 9.
"""

import numpy as np

from mmtutor.checks import Array, finite, per_unit, require, whole_number


def gaussian_mi(cov: Array, split: int, units: str = "nats") -> float:
    """I(X; Y) = -1/2 ln( det C / (det C_xx · det C_yy) ): exact for a Gaussian (X, Y) with
    covariance C.

    cov: (D, D), symmetric, positive definite; X: its first `split` coordinates, Y: the others, 1 <=
    split < D. → nats or bits, >= 0. With one coordinate each it is -1/2 ln(1 - ρ²). From a
    covariance *estimated* from N samples it comes out too high, by about split · (D - split) / (2N)
    nats.
    Raises ValueError for a matrix that is no such covariance, a split out of range and unknown
    units. Cover and Thomas, Elements of Information Theory, 2006, section 8.5.
    """
    c, unit = _correlations(cov), per_unit(units)
    whole_number("split", split, 1, len(c) - 1, hint=": both sides need a coordinate")
    lowest = float(np.linalg.eigvalsh(c)[0])
    require(
        lowest > len(c) * np.finfo(float).eps,
        "cov is not positive definite: as correlations, its smallest eigenvalue is"
        f" {lowest:.2g}. If one coordinate is a combination of others, leave it out; from"
        " samples, take more of them than coordinates",
    )
    parts = (c, c[:split, :split], c[split:, split:])
    whole, first, rest = (float(np.linalg.slogdet(part).logabsdet) for part in parts)
    return max(0.5 * (first + rest - whole), 0.0) / unit


def _correlations(cov: Array) -> np.ndarray:
    """Return the correlations, which have the same information, and no units that could spoil the
    determinants; ValueError unless square, symmetric up to float32 rounding, variances > 0."""
    c = finite("cov", cov, 2)
    require(
        c.shape[0] == c.shape[1] and len(c) >= 2, f"cov must be (D, D) with D >= 2, not {c.shape}"
    )
    variances = np.diag(c)
    require(
        variances.min() > 0,
        f"cov is not positive definite: variance {variances.argmin()} is {variances.min():.4g}",
    )
    r = c / np.outer(np.sqrt(variances), np.sqrt(variances))
    require(abs(r - r.T).max() <= 1e-5, "cov is not symmetric: expected cov[i, j] = cov[j, i]")
    return (r + r.T) / 2
