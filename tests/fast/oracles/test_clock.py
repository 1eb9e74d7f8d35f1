"""Clocks against known lags and drifts, numpy's interpolation, correlation by brute force, and
scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import interpolate, signal

from mmtutor.alignment import clock

ranges = settings(max_examples=50, deadline=None)
LAG = 0.137


class Scene:
    """Something that moves below `top` Hz, seen by two sensors: 100 Hz, and 30 Hz with a clock of
    its own."""

    def __init__(self, seed: int, seconds: float = 60.0, top: float = 3.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.frequency = self.rng.uniform(0.1, top, 40)
        self.phase = self.rng.uniform(0, 2 * np.pi, 40)
        self.seconds = seconds

    def at(self, times: np.ndarray) -> np.ndarray:
        """Variance 1, at any time."""
        return np.sin(2 * np.pi * self.frequency * times[:, None] + self.phase).sum(1) / np.sqrt(20)

    def seen(
        self, rate: float, jitter: float, decibel: float, lag: float = 0.0, drift: float = 0.0
    ):
        """Jittered stamps on the sensor's own clock, and what it measured there."""
        stamps = np.arange(0, self.seconds, 1 / rate)
        stamps = stamps + self.rng.uniform(-jitter, jitter, len(stamps))
        noise = 10 ** (-decibel / 20) * self.rng.standard_normal(len(stamps))
        return stamps, self.at((stamps - lag) / (1 + drift)) + noise

    def pair(self, decibel: float, drift: float = 0.0):
        """Both on one grid of 100 Hz, b late by LAG."""
        fast, slow = self.seen(100, 0.002, decibel), self.seen(30, 0.008, decibel, LAG, drift)
        grid = np.arange(max(fast[0][0], slow[0][0]), min(fast[0][-1], slow[0][-1]), 0.01)
        return grid, *(clock.resample(values, times, grid) for times, values in (fast, slow))


def brute_correlations(a, b, longest):
    """np.corrcoef of the pairs there are, shift by shift."""
    r = []
    for k in range(-longest, longest + 1):
        x, y = (a[: len(a) - k], b[k:]) if k >= 0 else (a[-k:], b[:k])
        both = ~(np.isnan(x) | np.isnan(y))
        r.append(np.corrcoef(x[both], y[both])[0, 1])
    return np.array(r)


@ranges
@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 40))
def test_resample_is_numpy_interpolation_inside_the_span(seed, n, wanted):
    rng = np.random.default_rng(seed)
    times = 1e9 + np.cumsum(rng.uniform(0.01, 1, n))
    values, new = rng.standard_normal((n, 3)), rng.uniform(times[0], times[-1], wanted)
    ours = clock.resample(values, times, new)
    for d in range(3):
        np.testing.assert_allclose(ours[:, d], np.interp(new, times, values[:, d]), atol=1e-12)
    theirs = interpolate.interp1d(times, values, axis=0, bounds_error=False)(
        np.r_[new, times[0] - 1, times[-1] + 1]
    )
    np.testing.assert_allclose(
        clock.resample(values, times, np.r_[new, times[0] - 1, times[-1] + 1]), theirs, atol=1e-9
    )


@ranges
@given(
    st.integers(0, 10_000),
    st.integers(24, 60),
    st.integers(-8, 8),
    st.floats(0, 0.25),
    st.floats(-50, 50),
)
def test_lag_is_the_brute_force_peak_and_a_parabola(seed, n, shift, gone, level):
    """NaN pairs left out, any offset, any scale; the parabola by numpy's least squares through
    three points."""
    rng = np.random.default_rng(seed)
    source = rng.standard_normal(n + 40)
    a, b = (
        source[20 : 20 + n] + level,
        3 * source[20 - shift : 20 - shift + n] + 0.3 * rng.standard_normal(n),
    )
    a[rng.random(n) < gone] = np.nan
    r = brute_correlations(a, b, 10)
    top = int(np.argmax(r))
    if top in (0, 20) or np.isfinite(a).sum() < 16:
        return
    quadratic, linear, _ = np.polyfit([-1, 0, 1], r[top - 1 : top + 2], 2)
    assert clock.estimate_lag(a, b, 50, max_lag=0.2) == pytest.approx(
        (top - 10 - linear / 2 / quadratic) / 50, abs=1e-8
    )


@pytest.mark.parametrize("shift", [-37, -1, 0, 5, 80])
def test_lag_agrees_with_scipy_on_a_long_recording(shift):
    source = np.random.default_rng(3).standard_normal(2200)
    a, b = source[100:2100], source[100 - shift : 2100 - shift]
    lags = signal.correlation_lags(2000, 2000)
    theirs = lags[np.argmax(signal.correlate(b, a))]
    assert theirs == shift and clock.estimate_lag(a, b, 10, max_lag=10) * 10 == pytest.approx(
        theirs, abs=0.05
    )


@ranges
@given(st.floats(-0.4, 0.4), st.floats(0.3, 1.0))
def test_lag_of_a_sinusoid_below_half_its_period(lag, frequency):
    """b(t) = a(t - lag): positive when b is late. Whole periods or not."""
    times = np.arange(0, 20, 0.01)
    a, b = (np.sin(2 * np.pi * frequency * (times - late)) for late in (0.0, lag))
    found = clock.estimate_lag(a, b, 100, max_lag=0.5 / frequency - 0.02)
    assert found == pytest.approx(lag, abs=2e-3)
    assert clock.estimate_lag(b, a, 100, max_lag=0.5 / frequency - 0.02) == pytest.approx(
        -found, abs=1e-9
    )


def test_long_lags_are_not_punished_for_their_short_overlap():
    """A tone that swells: every period is a peak, and the shorter overlap of the true one hides it
    from scipy's sum."""
    times = np.arange(0, 10, 0.01)

    def tone(t):
        return np.sin(2 * np.pi * t) + 0.4 * np.sin(2 * np.pi * 1.13 * t)

    a, b = tone(times), tone(times - 4)
    biased = signal.correlation_lags(1000, 1000)[np.argmax(signal.correlate(b, a))] / 100
    assert abs(biased - 4) > 0.5
    assert clock.estimate_lag(a, b, 100) == pytest.approx(4, abs=1e-3)


@pytest.mark.parametrize(("decibel", "limit"), [(20, 0.6e-3), (0, 6e-3), (-10, 60e-3)])
def test_lag_of_two_jittered_streams_under_noise(decibel, limit):
    """100 Hz against 30 Hz, one minute, content below 3 Hz: the median error over seven
    recordings."""
    errors = []
    for seed in range(7):
        _, a, b = Scene(seed).pair(decibel)
        errors.append(clock.estimate_lag(a, b, 100, max_lag=2) - LAG)
    assert np.median(np.abs(errors)) < limit
    assert abs(np.mean(errors)) < limit


def test_drift_puts_a_floor_under_one_lag_and_windows_lift_it():
    """1e-3 s/s over a minute: one lag can only be that of the middle, 30 ms off at the start."""
    for seed in range(3):
        grid, a, b = Scene(seed).pair(20, drift=1e-3)
        assert clock.estimate_lag(a, b, 100, max_lag=2) - LAG == pytest.approx(0.030, abs=0.006)
        found = clock.estimate_drift(a, b, 100, window=10, max_lag=2, start=grid[0])
        assert found.lag + found.drift * (0 - grid[0]) == pytest.approx(LAG, abs=3e-3)
        assert found.drift == pytest.approx(1e-3, abs=1e-4)


def test_drift_of_a_clock_that_is_seconds_late():
    """With 1 % and 3 s, taking a window's lag at its middle instead of half a lag before would be
    15 ms off."""
    found, times = [], np.arange(0, 200, 0.02)
    for seed in range(4):
        scene = Scene(seed, seconds=200)
        found.append(
            clock.estimate_drift(scene.at(times), scene.at((times - 3) / 1.01), 50, window=12)
        )
    assert np.mean([c.lag for c in found]) == pytest.approx(3, abs=5e-3)
    assert np.mean([c.drift for c in found]) == pytest.approx(0.01, abs=1e-4)


def test_drift_survives_windows_that_mislead():
    scene = Scene(4, seconds=200)
    times = np.arange(0, 200, 0.02)
    a, b = scene.at(times), scene.at((times - 0.2) / 1.001)
    b[4000:5500] = np.random.default_rng(0).standard_normal(1500)  # 30 s of something else
    found = clock.estimate_drift(a, b, 50, window=10, max_lag=2)
    assert found.lag == pytest.approx(0.2, abs=3e-3) and found.drift == pytest.approx(
        1e-3, abs=5e-5
    )


def test_lag_drift_and_rates_are_mended_together():
    """Estimated from the streams, handed to synchronise: what is left is the scene itself."""
    scene = Scene(5)
    streams = {"fast": scene.seen(100, 0.002, 60), "slow": scene.seen(30, 0.008, 60, LAG, 2e-3)}
    raw = clock.synchronise(streams, 50)
    a, b = (raw.values[m][:, 0] for m in ("fast", "slow"))
    found = clock.estimate_drift(a, b, 50, window=10, max_lag=2, start=float(raw.times[0]))
    both = clock.synchronise(streams, 50, lags={"slow": found})
    truth = scene.at(both.times.numpy())

    def error(x):
        return np.sqrt(np.mean((x - truth) ** 2))

    assert (
        error(both.values["slow"][:, 0].numpy())
        < 0.05
        < 0.5
        < error(clock.synchronise(streams, 50).values["slow"][: len(truth), 0].numpy())
    )


@pytest.mark.parametrize("frequency", [14.0, 17.0, 20.0])
def test_what_lies_above_nyquist_is_damped_as_documented(frequency):
    """A sine seen at 200 Hz, read at 20: an alias of sinc² of its strength, where bare
    interpolation keeps it all."""
    rng = np.random.default_rng(0)
    times = np.arange(0, 60, 0.005) + rng.uniform(-0.001, 0.001, 12000)
    values = np.sqrt(2) * np.sin(2 * np.pi * frequency * times + 0.7)
    read = clock.synchronise({"sine": (times, values)}, 20)
    strength = read.values["sine"].std().item()
    bare = clock.resample(values, times, read.times.numpy())
    assert np.std(bare) > 0.9 or frequency == 20  # at the rate itself the alias is a constant
    assert abs(read.values["sine"].mean().item()) < 0.02
    assert strength == pytest.approx(np.sinc(frequency / 20) ** 2, abs=0.035)


@pytest.mark.parametrize("frequency", [0.5, 2.0, 5.0])
def test_what_lies_below_nyquist_passes_without_a_lag(frequency):
    times = np.arange(0, 60, 0.005) + np.random.default_rng(1).uniform(-0.002, 0.002, 12000)
    read = clock.synchronise({"sine": (times, np.sin(2 * np.pi * frequency * times))}, 20)
    expected = np.sinc(frequency / 20) ** 2 * np.sin(2 * np.pi * frequency * read.times.numpy())
    np.testing.assert_allclose(read.values["sine"][1:-1, 0], expected[1:-1], atol=0.02)
