"""phone_drive: the numbers and lags that its data card states, each stream on its own stamps."""

from __future__ import annotations

import csv
from datetime import datetime

import numpy as np
import pytest

from mmtutor.alignment.clock import estimate_lag, resample, synchronise
from mmtutor.data import load, phone_drive
from mmtutor.files import store

GRID = np.arange(2, 340, 0.1)


@pytest.fixture
def drive(real):
    real("phone_drive")
    return phone_drive.load()


@pytest.fixture
def on_grid(drive):
    """Stream by name, every 0.1 s."""
    return lambda name: resample(drive.streams[name].values, drive.streams[name].times, GRID)


def rows(name: str) -> list[dict[str, str]]:
    with open(
        store.find(store.manifest("phone_drive")) / name, encoding="utf-8", newline=""
    ) as handle:
        return list(csv.DictReader(handle))


def seconds(stamp: str) -> float:
    return (datetime.fromisoformat(stamp) - datetime(2018, 4, 8, 10, 31, 37)).total_seconds()


def test_counts_and_steps_are_those_of_the_card(drive):
    phone, car = drive.streams["phone_gyro_x"].times, drive.streams["car_speed"].times
    assert (len(phone), len(car)) == (3419, 4708)
    assert np.diff(phone).min() == pytest.approx(0.077) and np.diff(phone).max() == pytest.approx(
        0.124
    )
    assert np.median(np.diff(car)) == pytest.approx(0.086, abs=5e-4) and np.diff(car).max() < 0.1001
    assert all(s.times[0] >= 0 and s.times[-1] < 342 for s in drive.streams.values())


def test_all_streams_have_stamps_that_increase_and_one_value_each(drive):
    """No stamp of the car repeats; the closest two rows are 56 microseconds apart."""
    for stream in drive.streams.values():
        assert (np.diff(stream.times) > 0).all() and stream.values.shape == stream.times.shape
        assert (
            stream.values.dtype == stream.times.dtype == np.float64
            and np.isfinite(stream.values).all()
        )
    assert np.diff(drive.streams["car_speed"].times).min() == pytest.approx(56e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("stream", "file", "stamp", "column", "factor", "unit"),
    [
        ("car_speed", "dataset1_car.csv", "Time", "Speed (MPH)", 1609.344 / 3600, "m/s"),
        (
            "car_steering",
            "dataset1_car.csv",
            "Time",
            "Steering Angle",
            1,
            "degrees at the wheel, presumably",
        ),
        ("car_lateral", "dataset1_car.csv", "Time", "Lateral Gs", 1, "g"),
        (
            "phone_gyro_x",
            "dataset1_phone.csv",
            "loggingTime(txt)",
            "gyroRotationX(rad/s)",
            1,
            "rad/s",
        ),
        (
            "phone_acceleration_y",
            "dataset1_phone.csv",
            "loggingTime(txt)",
            "accelerometerAccelerationY(G)",
            1,
            "g",
        ),
    ],
)
def test_streams_are_the_columns_of_the_file(drive, stream, file, stamp, column, factor, unit):
    """Read a second time, with the csv and datetime modules."""
    ours, table = drive.streams[stream], rows(file)
    assert ours.unit == unit
    np.testing.assert_allclose(ours.times, [seconds(row[stamp]) for row in table], atol=1e-6)
    np.testing.assert_allclose(
        ours.values, [float(row[column]) * factor for row in table], atol=1e-12
    )


def test_gps_keeps_each_fix_once_where_it_first_stands(drive):
    ours, known, kept = drive.streams["phone_speed"], None, []
    for i, row in enumerate(rows("dataset1_phone.csv")):
        if i and row["locationTimestamp_since1970(s)"] != known:
            kept.append((seconds(row["loggingTime(txt)"]), float(row["locationSpeed(m/s)"])))
        known = row["locationTimestamp_since1970(s)"]
    np.testing.assert_allclose(np.stack([ours.times, ours.values], 1), kept, atol=1e-6)
    assert len(kept) == 342 and np.diff(ours.times).min() > 0.8 and np.diff(ours.times).max() < 1.2
    assert (np.diff(ours.values) == 0).any()  # standing still is a measurement, too


def test_gps_speed_is_two_seconds_late(on_grid):
    """Held between its fixes, as the table has it, 2.2 s; interpolated, which gives half a second
    back, 1.6 s."""
    car, phone = on_grid("car_speed"), on_grid("phone_speed")
    late = estimate_lag(car, phone, 10, max_lag=10)
    assert 1.4 < late < 1.9
    shifted = np.interp(GRID + late, GRID, phone)
    assert (
        np.corrcoef(car, phone)[0, 1] < 0.985 < 0.996 < np.corrcoef(car[:-20], shifted[:-20])[0, 1]
    )


def test_gps_speed_as_held_in_the_table_has_the_lag_of_the_card(drive, on_grid):
    phone = drive.streams["phone_speed"]
    held = phone.values[np.searchsorted(phone.times, GRID, side="right") - 1]
    car = on_grid("car_speed")
    assert estimate_lag(car, held, 10, max_lag=10) == pytest.approx(2, abs=0.3)
    assert np.corrcoef(car, held)[0, 1] == pytest.approx(0.97, abs=0.005)
    assert np.corrcoef(car[:-20], held[20:])[0, 1] == pytest.approx(0.996, abs=0.001)


def test_the_gyroscope_has_no_visible_lag(on_grid):
    gyro, steering = on_grid("phone_gyro_x"), on_grid("car_steering")
    assert np.corrcoef(gyro, steering)[0, 1] == pytest.approx(-0.78, abs=0.01)
    assert abs(estimate_lag(steering, -gyro, 10, max_lag=5)) < 0.1
    assert np.corrcoef(gyro, on_grid("car_lateral"))[0, 1] == pytest.approx(0.75, abs=0.01)
    assert np.corrcoef(on_grid("phone_acceleration_y"), on_grid("car_lateral"))[
        0, 1
    ] == pytest.approx(-0.76, abs=0.02)


def test_streams_synchronise(drive):
    both = synchronise(
        drive.pairs("car_speed", "phone_speed"), 10, lags={"phone_speed": 1.65}, max_gap=2
    )
    assert all(mask.all() for mask in both.masks.values())
    car, phone = (both.values[name][:, 0] for name in ("car_speed", "phone_speed"))
    assert (car - phone).abs().median() < 0.5  # m/s


def test_pairs_are_all_streams_or_those_named(drive):
    assert set(drive.pairs()) == set(drive.streams) and list(drive.pairs("car_speed")) == [
        "car_speed"
    ]
    with pytest.raises(KeyError, match=r"unknown \['lidar'\]; the streams are \['phone_speed'"):
        drive.pairs("car_speed", "lidar")


def test_no_place_is_handed_out(drive):
    assert not [name for name in drive.streams if "latitude" in name or "longitude" in name]


def test_set_that_cannot_be_had_says_how(home):
    with pytest.raises(
        store.DatasetUnavailable, match="mmtutor data get phone_drive --accept-licence"
    ):
        phone_drive.load()


def test_the_drive_is_a_data_set_of_one_sample_with_sequences(drive):
    data = load("phone_drive")
    assert len(data) == 1 and data.labels is None and data.card["n"] == 3419
    assert set(data.modalities) | set(data.targets) == set(drive.streams)
    assert all(name.startswith("phone_") for name in data.modalities)
    assert all(name.startswith("car_") for name in data.targets)
    np.testing.assert_array_equal(
        data.targets["car_steering"][0].values, drive.streams["car_steering"].values
    )
