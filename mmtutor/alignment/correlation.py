"""Where two signals fit best: Pearson's correlation at every shift, and its peak to a fraction of a
sample.

Taught in chapter 7.
"""

import numpy as np
from scipy import fft

# fewer pairs of samples than this say nothing about a lag
LEAST_PAIRS = 8


def peak(a: np.ndarray, b: np.ndarray, longest: int) -> float:
    """Return the shift of b against a with the highest correlation, in samples, NaN where there is
    no clear one."""
    r = correlations(a, b, longest)
    if not np.nanmax(r, initial=-1.0) > 0:
        return np.nan
    best = np.flatnonzero(r >= np.nanmax(r) - 1e-10)  # what differs by less is rounding
    top = max(best, key=lambda i: (-abs(i - longest), i))
    left, peak, right = np.pad(r, 1, constant_values=np.nan)[top : top + 3]
    bend = left - 2 * peak + right  # NaN at either end, where the true peak may lie beyond
    return top - longest + (float(np.clip((left - right) / 2 / bend, -0.5, 0.5)) if bend else 0.0)


def correlations(a: np.ndarray, b: np.ndarray, longest: int) -> np.ndarray:
    """Pearson's r of a[t] and b[t + k] over the pairs there are, k = -longest..longest; NaN where r
    has no meaning."""
    size = fft.next_fast_len(len(a) + longest, real=True)  # zeros enough that no shift wraps around

    def spectra(x: np.ndarray) -> np.ndarray:
        known = np.isfinite(x)
        centred = np.where(known, x - np.mean(x, where=known) if known.any() else 0.0, 0.0)
        scaled = centred / (np.sqrt(np.mean(centred**2)) or 1.0)
        return fft.rfft(np.stack([scaled, scaled**2, known.astype(np.float64)]), size)

    first, second = spectra(a).conj(), spectra(b)
    shifts = np.arange(-longest, longest + 1)
    # Σ_t over pairs: [a, a², 1] x [b, b², 1]
    sums = fft.irfft(first[:, None] * second[None], size)[:, :, shifts]
    pairs = sums[2, 2].round()
    n = np.maximum(pairs, 1)
    covariance = sums[0, 0] - sums[0, 2] * sums[2, 0] / n
    spread_a, spread_b = sums[1, 2] - sums[0, 2] ** 2 / n, sums[2, 1] - sums[2, 0] ** 2 / n
    enough = (pairs >= pairs.max() / 2) & (pairs.max() >= LEAST_PAIRS)
    usable = enough & (np.minimum(spread_a, spread_b) > 1e-9 * n)
    return np.where(
        usable, covariance / np.sqrt(np.where(usable, spread_a * spread_b, 1.0)), np.nan
    )
