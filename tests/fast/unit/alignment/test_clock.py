"""Clock: what is NaN, what is masked, what is refused, and which way a lag goes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtutor.alignment.clock import Clock, estimate_drift, estimate_lag, resample, synchronise

NAN = math.nan
BUMP = np.exp(-(((np.arange(200) - 100) / 60) ** 2))
NOISE = np.random.default_rng(0).standard_normal(400)


def test_resample_by_hand():
    out = resample(np.array([0.0, 10.0, 40.0]), [0, 1, 4], [0, 0.25, 1, 3, 4])
    np.testing.assert_allclose(out, [0, 2.5, 10, 30, 40])


def test_resample_never_extrapolates():
    out = resample(np.array([1.0, 2.0]), [0, 1], [-1e-9, 0, 1, 1 + 1e-9, 5])
    np.testing.assert_array_equal(out, [NAN, 1, 2, NAN, NAN])


def test_resample_does_not_bridge_long_gaps_but_keeps_their_ends():
    times = np.array([0, 0.1, 0.2, 0.3, 0.9, 1.0])
    out = resample(times.copy(), times, [0.05, 0.25, 0.3, 0.31, 0.6, 0.89, 0.9, 0.95], max_gap=0.1)
    np.testing.assert_allclose(out, [0.05, 0.25, 0.3, NAN, NAN, NAN, 0.9, 0.95])
    assert np.isfinite(resample(times, times, [0.6], max_gap=0.61)).all()


def test_resample_tells_a_gap_from_rounding():
    """Stamps every 0.1 s since 1970 are 0.1 s apart only up to 2e-7."""
    times = 1.5e9 + np.arange(50) * 0.1
    assert np.isfinite(resample(np.ones(50), times, times[:-1] + 0.05, max_gap=0.1)).all()
    assert np.isnan(resample(np.ones(50), times, times[:-1] + 0.05, max_gap=0.0999)).all()


def test_resample_at_and_between_nan():
    out = resample(np.array([1.0, NAN, 3.0, 4.0]), [0, 1, 2, 3], [0, 0.5, 1, 1.5, 2, 2.5])
    np.testing.assert_array_equal(out, [1, NAN, NAN, NAN, 3, 3.5])


def test_resample_columns_are_apart_and_new_times_in_any_order():
    values = torch.tensor([[0.0, 5.0], [1.0, NAN], [2.0, 7.0]])
    out = resample(values, [0, 1, 2], [2, 0.5, 0])
    assert out.dtype == torch.float32
    torch.testing.assert_close(
        out, torch.tensor([[2.0, 7.0], [0.5, NAN], [0.0, 5.0]]), equal_nan=True
    )


def test_resample_keeps_the_kind_of_values():
    for dtype in (np.float32, np.float64):
        out = resample(np.zeros(3, dtype), [0, 1, 2], [0.5])
        assert isinstance(out, np.ndarray) and out.dtype == dtype
    one = resample(np.array([3.0]), [2.0], [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(one, [NAN, 3, NAN])


def test_resample_takes_arrays_that_torch_does_not():
    values = np.array([0.0, 1.0, 2.0])
    values.flags.writeable = False  # as pandas hands out its columns
    np.testing.assert_array_equal(resample(values, [0, 1, 2], [0.5]), [0.5])
    np.testing.assert_array_equal(resample(values[::-1], [0, 1, 2], [0.5]), [1.5])
    assert synchronise({"a": ([0, 1, 2], values[::-1])}, 1).values["a"].flatten().tolist() == [
        2,
        1,
        0,
    ]


def test_resample_is_differentiable():
    values = torch.randn(
        5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: resample(v, [0, 1, 2, 4, 7], [0, 0.5, 3, 7]), values)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20, unique=True),
    st.floats(-5, 5),
    st.floats(-5, 5),
)
def test_resample_keeps_straight_lines(times, slope, level):
    stamps = np.unique(np.round(times, 3))
    if len(stamps) < 2:
        return
    new = np.linspace(stamps[0], stamps[-1], 7)
    np.testing.assert_allclose(
        resample(slope * stamps + level, stamps, new), slope * new + level, atol=1e-8
    )


@pytest.mark.parametrize(
    ("values", "times", "words"),
    [
        (
            np.zeros(3),
            [0, 2, 1],
            r"stamps of times must increase strictly, but .*2.0.* at 1 is followed by .*1.0",
        ),
        (np.zeros(3), [0, 1, 1], "merge those that repeat"),
        (np.zeros(3), [0, NAN, 1], "times holds 1 values that are NaN"),
        (np.zeros(3), [0, 1, math.inf], "times holds 1 values"),
        (np.zeros(2), [0, 1, 2], r"floats \(3,\) or \(3, D\).*got torch.float64 \(2,\)"),
        (np.zeros((3, 1, 1)), [0, 1, 2], "one row per stamp"),
        (np.array([0, 1, 2]), [0, 1, 2], "must be floats"),
        (torch.tensor([1.0, math.inf, 2.0]), [0, 1, 2], "infinite"),
        (np.zeros(0), [], "non-empty"),
    ],
)
def test_resample_refuses(values, times, words):
    with pytest.raises(ValueError, match=words):
        resample(values, times, [0.5])


@pytest.mark.parametrize("max_gap", [0, -1.0, NAN, math.inf])
def test_resample_refuses_gaps_that_are_none(max_gap):
    with pytest.raises(ValueError, match="max_gap must be a finite number of seconds above 0"):
        resample(np.zeros(2), [0, 1], [0.5], max_gap=max_gap)


def test_resample_refuses_new_times_that_are_not_finite():
    with pytest.raises(ValueError, match="new_times"):
        resample(np.zeros(2), [0, 1], [NAN])


@pytest.mark.parametrize("shift", [-60, -3, 0, 4, 80])
def test_lag_is_positive_when_b_is_late(shift):
    a, b = NOISE[160:340], NOISE[160 - shift : 340 - shift]
    assert estimate_lag(a, torch.tensor(b), 10) == pytest.approx(shift / 10, abs=0.02)


def test_lag_ignores_offset_scale_and_missing_values():
    a, b = NOISE[20:320].copy(), 7 - 100 * -NOISE[10:310]
    whole = estimate_lag(a, b, 10)
    a[50:90], b[200:260] = NAN, NAN
    assert whole == pytest.approx(1, abs=0.01) and estimate_lag(a, b, 10) == pytest.approx(
        1, abs=0.01
    )


def test_of_equally_high_peaks_the_nearest_and_then_the_positive_counts():
    wave = np.sin(2 * np.pi * np.arange(400) / 20)
    assert estimate_lag(wave, np.roll(wave, 4), 10) == pytest.approx(0.4, abs=1e-3)
    assert estimate_lag(wave, np.roll(wave, -4), 10) == pytest.approx(-0.4, abs=1e-3)
    assert estimate_lag(wave, -wave, 10) == pytest.approx(1.0, abs=1e-3)  # half a period either way
    assert estimate_lag(-wave, wave, 10) == pytest.approx(1.0, abs=1e-3)


def test_lag_lies_between_samples_where_two_are_alike():
    a = np.zeros(40)
    a[20] = 1.0
    b = np.zeros(40)
    b[[23, 24]] = 1.0
    assert estimate_lag(a, b, 10) == pytest.approx(0.35, abs=2e-3)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.full(50, 0.1), NOISE[:50], "a is constant"),
        (NOISE[:50], np.full(50, 9.81), "b is constant"),
        (NOISE[:50], np.full(50, NAN), "b has 0 values that are not NaN"),
        (NOISE[:7], NOISE[:7], "a has 7 values"),
        (NOISE[:50], NOISE[:51], "a has 50 samples and b 51"),
        (NOISE[:50], np.r_[NOISE[:49], math.inf], "b must be a signal"),
        (NOISE[:50].reshape(25, 2), NOISE[:50], r"shape \(25, 2\)"),
        (BUMP, -BUMP, "no peak of positive correlation inside ±2 s.*negate"),
        (np.arange(200.0), np.arange(200.0) ** 2, "no peak of positive correlation"),
    ],
)
def test_lag_refuses(a, b, words):
    with pytest.raises(ValueError, match=words):
        estimate_lag(a, b, 10, max_lag=min(2.0, len(a) / 20))


def test_lag_refuses_a_peak_at_the_edge_and_finds_it_further_out():
    a, b = np.cumsum(NOISE)[60:360], np.cumsum(NOISE)[30:330]
    with pytest.raises(ValueError, match=r"no peak .* inside ±2.5 s"):
        estimate_lag(a, b, 10, max_lag=2.5)
    assert estimate_lag(a, b, 10, max_lag=4) == pytest.approx(3, abs=0.02)


@pytest.mark.parametrize("max_lag", [0.0, 0.09, -1, 5.1, NAN, math.inf])
def test_lag_refuses_a_max_lag_out_of_range(max_lag):
    with pytest.raises(
        ValueError, match=r"max_lag is .* expected from one sample \(0.1 s\) to half .* \(5 s\)"
    ):
        estimate_lag(NOISE[:100], NOISE[:100], 10, max_lag=max_lag)
    assert estimate_lag(NOISE[:100], NOISE[:100], 10, max_lag=5.0) == pytest.approx(0, abs=0.02)


def test_max_lag_counts_whole_samples_despite_rounding():
    """0.29 · 100 is 28.999...; the peak at 28 needs its neighbour at 29."""
    assert estimate_lag(NOISE[40:340], NOISE[12:312], 100, max_lag=0.29) == pytest.approx(
        0.28, abs=2e-3
    )


@pytest.mark.parametrize("rate", [0, -1, NAN, math.inf])
def test_rates_that_are_none_are_refused(rate):
    for call in (
        lambda: estimate_lag(NOISE, NOISE, rate),
        lambda: estimate_drift(NOISE, NOISE, rate, 5),
        lambda: synchronise({"a": ([0, 1], np.zeros(2))}, rate),
    ):
        with pytest.raises(
            ValueError, match="rate must be a finite number of samples per second above 0"
        ):
            call()


def test_a_few_lucky_pairs_do_not_make_a_lag():
    """Both stop half way: at long shifts a handful of pairs is left, and some agree better than the
    true ones."""
    a, b = NOISE[:100].copy(), NOISE[:100] + 1.5 * NOISE[200:300]
    a[50:], b[50:] = NAN, NAN
    lucky = [np.corrcoef(a[: 50 - k], b[k:50])[0, 1] for k in range(30, 48)]
    assert max(lucky) > np.corrcoef(a[:50], b[:50])[0, 1] + 0.1
    assert estimate_lag(a, b, 10) == pytest.approx(0, abs=0.1)


def test_eight_values_each_are_not_yet_eight_pairs():
    a, b = np.full(40, NAN), np.full(40, NAN)
    a[:8], b[:16:2] = NOISE[:8], NOISE[20:28]
    with pytest.raises(ValueError, match="no peak"):
        estimate_lag(a, b, 10)


def test_the_best_of_negative_correlations_is_no_lag():
    """The slow parts move oppositely, the small fast ones together: a peak at 0, but a negative
    one."""
    times = np.arange(0, 80, 0.05)
    slow, fast = np.cos(2 * np.pi * times / 40), 0.3 * np.cos(2 * np.pi * times)
    with pytest.raises(ValueError, match="no peak of positive correlation"):
        estimate_lag(slow + fast, fast - slow, 20, max_lag=0.5)


def test_signals_that_never_meet_have_no_lag():
    a, b = NOISE[:200].copy(), NOISE[:200].copy()
    a[::2], b[1::2] = NAN, NAN
    with pytest.raises(ValueError, match="no peak"):
        estimate_lag(a, b, 10, max_lag=0.1)  # only shifts of -1 and 1 have pairs


def test_drift_refuses_windows_out_of_range_and_too_few_of_them():
    for window in (0.5, 20.5, NAN, math.inf, -3):
        with pytest.raises(ValueError, match=r"window must last from 0\.8 s to half the recording"):
            estimate_drift(NOISE, NOISE, 10, window)
    still = NOISE.copy()
    still[90:] = 0.0
    with pytest.raises(ValueError, match="only 2 of 7 windows have a lag"):
        estimate_drift(still, still, 10, 10)


def test_drift_leaves_out_windows_in_which_nothing_moves():
    a = np.repeat(NOISE, 2)
    a[200:500] = 1.5
    found = estimate_drift(a[5:], a[:-5], 10, 8)
    assert (found.lag, found.drift) == (pytest.approx(0.5, abs=0.02), pytest.approx(0, abs=1e-3))


def test_drift_counts_from_start():
    a = np.repeat(NOISE, 2)
    found = estimate_drift(a, a, 10, 8, start=1e9)
    assert found.start == 1e9 and found.mend([1e9 + 5])[0] == pytest.approx(1e9 + 5, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.floats(-10, 10), st.floats(-0.5, 0.5), st.floats(-100, 100))
def test_mend_undoes_the_clock(lag, drift, start):
    reference = np.array([start - 3, start, start + 7.5, start + 100])
    shown = reference + lag + drift * (reference - start)
    np.testing.assert_allclose(Clock(lag, drift, start).mend(shown), reference, atol=1e-9)


@pytest.mark.parametrize("numbers", [(NAN, 0), (0, math.inf), (0, -1.0), (0, -2), (0, 0, NAN)])
def test_clocks_that_cannot_be_mended_are_refused(numbers):
    with pytest.raises(ValueError, match="drift above -1"):
        Clock(*numbers)


def test_synchronise_by_hand():
    streams = {
        "image": ([0.0, 1.0, 2.0, 3.0], np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])),
        "gps": ([0.5, 2.5], torch.tensor([10.0, 30.0])),
    }
    out = synchronise(streams, 2)
    assert out.times.tolist() == [0.5, 1.0, 1.5, 2.0, 2.5] and out.times.dtype == torch.float64
    torch.testing.assert_close(out.values["image"][:, 0], out.times)
    torch.testing.assert_close(
        out.values["gps"], torch.tensor([[10.0], [15.0], [20.0], [25.0], [30.0]])
    )
    assert all(mask.all() and mask.shape == (5,) for mask in out.masks.values())


def test_synchronise_shifts_the_late_stream_back():
    times = np.arange(0, 10, 0.1)
    streams = {"a": (times, np.sin(times)), "b": (times, np.sin(times - 0.7))}
    out = synchronise(streams, 10, lags={"b": 0.7})
    assert out.times[0] == pytest.approx(0) and out.times[-1] == pytest.approx(9.2)
    torch.testing.assert_close(out.values["a"], out.values["b"], atol=2e-3, rtol=0)


def test_synchronise_mends_a_clock_of_another_speed():
    times = 1000 + np.arange(0, 10, 0.1)
    streams = {"a": (times, times), "b": (1003 + (times - 1000) * 1.05, times)}
    out = synchronise(streams, 10, lags={"b": Clock(3, 0.05, start=1000)})
    torch.testing.assert_close(out.values["b"], out.values["a"])
    assert len(out.times) == 100


def test_no_nan_travels_on():
    values = np.ones((5, 2))
    values[1, 0] = NAN
    out = synchronise(
        {"a": ([0, 1, 2, 3, 9], values), "b": (np.arange(10.0), np.full(10, 2.0))}, 1, max_gap=2
    )
    assert out.masks["a"].tolist() == [
        True,
        False,
        True,
        True,
        False,
        False,
        False,
        False,
        False,
        True,
    ]
    assert out.masks["b"].all()
    expected = torch.where(out.masks["a"][:, None], 1.0, 0.0).double().expand(10, 2)
    torch.testing.assert_close(out.values["a"], expected)


def test_max_gap_by_name_and_for_all():
    streams = {"slow": ([0, 5.0, 10], np.ones(3)), "fast": (np.arange(11.0), np.ones(11))}
    by_name = synchronise(streams, 1, max_gap={"fast": 1.0})
    assert by_name.masks["slow"].all() and by_name.masks["fast"].all()
    assert synchronise(streams, 1, max_gap=1.0).masks["slow"].sum() == 3


def test_a_fast_stream_is_averaged_and_a_slow_one_is_not():
    alternating = np.tile([1.0, -1.0], 500)  # 50 Hz, read at 10
    fast = synchronise({"a": (np.arange(1000) / 100, alternating)}, 10)
    assert fast.values["a"][1:-1].abs().max() < 1e-9
    assert fast.values["a"][0] == 1.0  # no room for a window at the end: the value itself
    slow = synchronise({"a": (np.arange(1000) / 14, alternating)}, 10)
    torch.testing.assert_close(
        slow.values["a"][:, 0],
        torch.tensor(resample(alternating, np.arange(1000) / 14, slow.times)),
    )


def test_averaging_leaves_straight_lines_alone_even_beside_gaps():
    """A window cut off on one side would be a lag; here neither jitter, nor a gap, nor an end is
    one."""
    rng = np.random.default_rng(2)
    times = np.arange(0, 20, 0.01) + rng.uniform(-0.004, 0.004, 2000)
    keep = (times < 8) | (times > 9.5)
    out = synchronise({"a": (times[keep], 3 * times[keep])}, 10, max_gap=0.1)
    there = out.masks["a"]
    torch.testing.assert_close(out.values["a"][there, 0], 3 * out.times[there])
    assert 13 <= (~there).sum() <= 16


def test_synchronise_keeps_the_last_moment_despite_rounding():
    for begin in range(60):  # 0.1 · k is often above or below begin + k / 10, by a last digit
        times = 0.1 * np.arange(begin, begin + 30)
        out = synchronise({"a": (times, times)}, 10)
        assert len(out.times) == 30 and out.masks["a"].all()
        torch.testing.assert_close(out.values["a"][:, 0], torch.tensor(times))


def test_synchronised_streams_enter_a_fusion():
    from mmtutor.fusion.model import CrossAttentionFusion

    streams = {
        "a": (np.arange(6.0), np.ones((6, 4), np.float32)),
        "b": ([0, 1, 5.0], torch.ones(3, 2)),
    }
    out = synchronise(streams, 1, max_gap=1.5)
    torch.manual_seed(0)
    fusion = CrossAttentionFusion({"a": 4, "b": 2}, out_features=8, heads=2, layers=1).eval()
    masks = {m: x[None] for m, x in out.masks.items()}
    first = fusion({m: x[None] for m, x in out.values.items()}, None, masks)
    out.values["b"][2:5] = 100.0  # masked: nobody may look there
    torch.testing.assert_close(
        fusion({m: x[None] for m, x in out.values.items()}, None, masks), first
    )


@pytest.mark.parametrize(
    ("streams", "options", "error", "words"),
    [
        ({}, {}, ValueError, "streams is empty"),
        (
            {"a": ([0, 1], np.zeros(2))},
            {"lags": {"b": 1.0}},
            KeyError,
            r"lags names unknown \['b'\]; the streams are \['a'\]",
        ),
        (
            {"a": ([0, 1], np.zeros(2))},
            {"max_gap": {"b": 1.0}},
            KeyError,
            r"max_gap names unknown \['b'\]",
        ),
        ({"a": ([0, 1, 1], np.zeros(3))}, {}, ValueError, "stamps of a must increase"),
        ({"a": ([0, 1], np.zeros(3))}, {}, ValueError, r"stream 'a' must be floats \(2,\)"),
        ({"a": ([0, 1], np.array([0.0, math.inf]))}, {}, ValueError, "stream 'a' holds infinite"),
        (
            {"a": ([0, 1], np.zeros(2)), "b": ([5, 6], np.zeros(2))},
            {"lags": {"b": 1.0}},
            ValueError,
            "no time in common: a 0.000 to 1.000 s, b 4.000 to 5.000 s",
        ),
    ],
)
def test_synchronise_refuses(streams, options, error, words):
    with pytest.raises(error, match=words):
        synchronise(streams, 1.0, **options)
