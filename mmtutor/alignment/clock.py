"""Onto one clock: streams of any rate, with jittered stamps, gaps, a lag and a clock that runs too
fast or too slow.

Taught in chapter 7.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from mmtutor.alignment.correlation import LEAST_PAIRS, peak
from mmtutor.checks import Array, as_numpy, finite, increasing, known_names, positive, require

Values = TypeVar("Values", np.ndarray, Tensor)

# a stream at least this many times faster than the grid is averaged onto it, not merely read at
# the grid's times
FASTER = 1.5


@dataclass(frozen=True)
class Clock:
    """t = s + lag + drift · (s - start): a clock that shows t when the reference shows s.

    lag: seconds at the reference time `start`, positive when this clock is late; drift: seconds per
    second, above -1.
    Raises ValueError for numbers that are not finite and for a clock that stands still or runs
    backwards.
    """

    lag: float
    drift: float = 0.0
    start: float = 0.0

    def __post_init__(self) -> None:
        """Refuse clocks that cannot be mended."""
        require(
            np.isfinite([self.lag, self.drift, self.start]).all() and self.drift > -1,
            f"a clock needs finite numbers and a drift above -1 s/s, got {self}",
        )

    def mend(self, times: Array) -> np.ndarray:
        """s = start + (t - lag - start) / (1 + drift): stamps of this clock (T,) → reference times
        (T,), float64."""
        return self.start + (finite("times", times, 1) - self.lag - self.start) / (1 + self.drift)


@dataclass(frozen=True)
class Synchronised:
    """Streams on one grid: times (T,) float64; values[name]: (T, D); masks[name]: (T,) bool, False
    where it has none.

    `values[name][None]` and `masks[name][None]` are Features and Masks of one sample.
    """

    times: Tensor
    values: dict[str, Tensor]
    masks: dict[str, Tensor]


def resample(
    values: Values, times: Array, new_times: Array, max_gap: float | None = None
) -> Values:
    """y(t) = v_i + (t - t_i) / (t_{i+1} - t_i) · (v_{i+1} - v_i): values at `times`, read at
    `new_times`.

    values: (T,) or (T, D), numpy or torch floats, NaN for "nothing measured"; times: (T,) strictly
    increasing seconds;
    new_times: (S,) in any order; max_gap: seconds, the longest step to bridge, None for any → (S,)
    or (S, D), of the type of `values`. NaN outside the span, which is never extrapolated, inside a
    longer step than `max_gap`, and between two values of which one is NaN; exactly on a stamp the
    value there.
    Raises ValueError for stamps that are not finite or do not increase, and for values that are no
    floats (whole numbers are often classes, which have no in-between), infinite, or not one per
    stamp.
    """
    stamps, at = increasing("times", times), finite("new_times", new_times, 1)
    table = _floats(values, len(stamps), "values")
    before = (np.searchsorted(stamps, at, side="right") - 1).clip(0)
    on_stamp = stamps[before] == at
    # On a stamp the next value has no say, not even by 0 · NaN.
    after = np.where(on_stamp, before, before + 1).clip(max=len(stamps) - 1)
    step = stamps[after] - stamps[before]
    share = np.where(step > 0, (at - stamps[before]) / np.where(step > 0, step, 1.0), 0.0)
    outside = (at < stamps[0]) | (at > stamps[-1])
    if max_gap is not None:
        positive("max_gap", max_gap, " of seconds")
        # rounding must not open a gap: 0.3 - 0.2 is more than 0.1
        outside |= step > max_gap + 4 * np.spacing(np.abs(stamps).max())
    first, second, weight, hidden = (
        torch.as_tensor(x, device=table.device) for x in (before, after, share, outside)
    )
    if table.ndim == 2:
        weight, hidden = weight[:, None], hidden[:, None]
    mixed = table[first] + weight.to(table.dtype) * (table[second] - table[first])
    read = mixed.masked_fill(hidden, torch.nan)
    return read if isinstance(values, Tensor) else read.numpy()


def estimate_lag(a: Array, b: Array, rate: float, max_lag: float | None = None) -> float:
    """argmax_τ corr(a(t), b(t + τ)) in seconds: positive when b lags a.

    a, b: (T,) on one clock at `rate` Hz; max_lag: seconds, at most half the recording (the
    default), since fewer pairs would remain. For each shift, Pearson's correlation of those pairs
    alone, by FFT: long lags are not punished for their shorter overlap. Pairs with a NaN are left
    out, and so are shifts with less than half as many pairs as the best. A parabola through the
    peak and its neighbours gives the fraction of a sample. Of equally high shifts the one nearest 0
    counts, the positive of two; a periodic signal says its lag only up to a period, so set max_lag
    below half of one. Signals that move oppositely have no peak: negate one.
    Raises ValueError for a signal that is constant, infinite or all NaN, fewer than 8 pairs,
    unequal lengths, a max_lag below one sample or above half the recording, and where no positive
    peak lies inside ±max_lag. Padfield, Masked Object Registration in the Fourier Domain, IEEE TIP
    21, 2012, in one dimension.
    """
    x, y = _signals(a, b, rate)
    longest = _longest(max_lag, rate, len(x))
    lag = peak(x, y, longest)
    require(
        np.isfinite(lag),
        f"no peak of positive correlation inside ±{longest / rate:g} s: choose another max_lag,"
        " shift one signal by a lag you know, or negate one if they move oppositely",
    )
    return lag / rate


def estimate_drift(
    a: Array, b: Array, rate: float, window: float, max_lag: float | None = None, start: float = 0.0
) -> Clock:
    """lag(s) = lag + drift · (s - start): b's clock against a's, a robust line through the lags of
    windows.

    a, b: (T,) on one clock at `rate` Hz, the first sample at the reference time `start`; window:
    seconds; max_lag: seconds within a window, default half of it. Windows overlap by half; one that
    has no clear lag (nothing moves, NaN, peak at ±max_lag) is left out. The line is Theil's and
    Sen's: the median of the slopes between all pairs of windows, right while less than 29 % of them
    mislead. A window is one lag only if drift · window stays small against the signal's period.
    Raises ValueError as `estimate_lag`, and if fewer than three windows have a lag. Sen, Estimates
    of the Regression Coefficient Based on Kendall's Tau, JASA 63, 1968.
    """
    x, y = _signals(a, b, rate)
    size = round(window * rate) if np.isfinite(window) else 0
    require(
        LEAST_PAIRS <= size <= len(x) // 2,
        f"window must last from {LEAST_PAIRS / rate:g} s to half the recording"
        f" ({len(x) / rate / 2:g} s), got {window!r}",
    )
    longest = _longest(max_lag, rate, size)
    begins = np.arange(0, len(x) - size + 1, size // 2)
    lags = np.array([peak(x[i : i + size], y[i : i + size], longest) for i in begins])
    clear = np.isfinite(lags)
    require(
        clear.sum() >= 3,
        f"only {clear.sum()} of {len(begins)} windows have a lag, a line needs 3: change the"
        " window",
    )
    # Samples that found a partner in b lie half a lag before the middle of the window.
    middles = begins + (size - 1) / 2 - lags / 2
    drift, lag, *_ = stats.theilslopes(lags[clear], middles[clear], method="joint")
    return Clock(float(lag) / rate, float(drift), start)


def synchronise(
    streams: Mapping[str, tuple[Array, Array]],
    rate: float,
    lags: Mapping[str, float | Clock] | None = None,
    max_gap: float | Mapping[str, float] | None = None,
) -> Synchronised:
    """Every stream at times t_0 + k / rate of the reference clock, over the span that all of them
    cover.

    streams[name]: (times (T,), values (T,) or (T, D)), each with a rate of its own; lags[name]:
    seconds this stream is late, or its `Clock` where it drifts as well, others have none; max_gap:
    seconds, one for all or by name. Where `resample` has NaN in any column, the mask is False and
    the values are 0. A stream at least 1.5 times faster than `rate` (by its median step) is first
    averaged with the triangular weight max(0, 1 - |t| · rate), which lets pass sinc²(f / rate) of a
    frequency f: .97 at a fifth of the Nyquist frequency, .41 at it, .09 at 1.5 times, 0 at `rate`.
    Slower ones are only interpolated. Values keep their float type.
    Raises KeyError for an unknown name in lags or max_gap; ValueError, naming the stream, as
    `resample`, and naming the spans where they have no time in common.
    """
    positive("rate", rate, " of samples per second")
    require(streams, "streams is empty: give at least one, name → (times, values)")
    late = dict.fromkeys(streams, 0.0) | dict(lags or {})
    gaps = dict(max_gap) if isinstance(max_gap, Mapping) else dict.fromkeys(streams, max_gap)
    known_names("lags", late, streams, "streams")
    known_names("max_gap", gaps, streams, "streams")
    clocks = {name: lag if isinstance(lag, Clock) else Clock(lag) for name, lag in late.items()}
    mended = {name: clocks[name].mend(increasing(name, t)) for name, (t, _) in streams.items()}
    first, last = max(t[0] for t in mended.values()), min(t[-1] for t in mended.values())
    spans = ", ".join(f"{name} {t[0]:.3f} to {t[-1]:.3f} s" for name, t in mended.items())
    require(
        first <= last, f"the streams have no time in common: {spans}; check their clocks and lags"
    )
    times = first + np.arange(int((last - first) * rate + 1e-6) + 1) / rate
    times = times.clip(max=last)  # by rounding one may lie behind the end, where nothing is
    tables = {
        name: torch.column_stack([_floats(measured, len(mended[name]), f"stream {name!r}")])
        for name, (_, measured) in streams.items()
    }
    read = {m: _read(x, mended[m], times, rate, gaps.get(m)) for m, x in tables.items()}
    masks = {m: x.isfinite().all(1) for m, x in read.items()}
    values = {m: x.masked_fill(~masks[m][:, None], 0.0) for m, x in read.items()}
    return Synchronised(torch.as_tensor(times), values, masks)


def _read(
    values: Tensor, stamps: np.ndarray, times: np.ndarray, rate: float, max_gap: float | None
) -> Tensor:
    """Return values (T, D) at `times` as (S, D), averaged about them where the stream is the faster
    one."""
    ratio = 1 / (np.median(np.diff(stamps)) * rate) if len(stamps) > 1 else 0.0
    here = resample(values, stamps, times, max_gap)
    # Even steps about each time of the grid, as fine as the stream's own: its uneven stamps then
    # add no lag.
    fine = int(np.ceil(ratio * (1 - 1e-6))) if ratio >= FASTER else 1
    total, weights = here, here.isfinite().to(here.dtype)
    for step in np.arange(1, fine) / fine:  # in steps of the grid
        # Both sides or neither: half a window, at a gap or an end, would be a lag.
        left = resample(values, stamps, times - step / rate, max_gap)
        pair = left + resample(values, stamps, times + step / rate, max_gap)
        weight = 2 * (1 - float(step)) * pair.isfinite().to(pair.dtype)
        total = total + weight * pair.nan_to_num(0.0) / 2
        weights = weights + weight
    return total / weights


def _signals(a: Array, b: Array, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Return both signals as float64 (T,), refused where no lag can be read from them."""
    positive("rate", rate, " of samples per second")
    first, second = (np.asarray(as_numpy(x), dtype=np.float64) for x in (a, b))
    for name, x in (("a", first), ("b", second)):
        require(
            x.ndim == 1 and not np.isinf(x).any(),
            f"{name} must be a signal (T,) without infinite values, got shape {x.shape}",
        )
        known = x[~np.isnan(x)]
        require(
            len(known) >= LEAST_PAIRS,
            f"{name} has {len(known)} values that are not NaN, a lag needs at least {LEAST_PAIRS}",
        )
        require(
            np.ptp(known) > 1e-12 * np.abs(known).max(),
            f"{name} is constant: a signal that does not move has no lag",
        )
    require(
        len(first) == len(second),
        f"a has {len(first)} samples and b {len(second)}: resample both onto the same times first",
    )
    return first, second


def _longest(max_lag: float | None, rate: float, size: int) -> int:
    """Return the longest shift in samples, by default half the recording."""
    # 0.3 s at 10 Hz are 3 samples
    shifts = size // 2 if max_lag is None else max_lag * rate * (1 + 1e-9)
    require(
        1 <= shifts <= size / 2 * (1 + 2e-9),
        f"max_lag is {max_lag!r} s, expected from one sample ({1 / rate:g} s) to half the recording"
        f" ({size / rate / 2:g} s)",
    )
    return int(shifts)


def _floats(values: Array, n: int, name: str) -> Tensor:
    # copied, since torch takes no numpy array that is read-only or runs backwards
    table = values if isinstance(values, Tensor) else torch.as_tensor(np.array(values))
    require(
        table.is_floating_point() and table.ndim in (1, 2) and len(table) == n,
        f"{name} must be floats ({n},) or ({n}, D), one row per stamp, got {table.dtype}"
        f" {tuple(table.shape)}",
    )
    require(
        not table.isinf().any(),
        f"{name} holds infinite numbers: put NaN where nothing was measured",
    )
    return table
