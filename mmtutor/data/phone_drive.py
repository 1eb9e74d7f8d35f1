"""One drive of 342 s, recorded by a phone on the dash and by the car's own bus: two clocks, many
rates. Taught in chapter 7.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mmtutor.checks import known_names
from mmtutor.data.dataset import Dataset
from mmtutor.files.store import fetched

START = "2018-04-08 10:31:37"
"""Local time (UTC-5) that counts as 0 s on both clocks."""

MILE_PER_HOUR = 0.44704
"""Metres per second, by definition of the mile."""

# stream → column, unit, factor to that unit
_GPS = {
    "phone_speed": ("locationSpeed(m/s)", "m/s", 1.0),
    "phone_altitude": ("locationAltitude(m)", "m", 1.0),
}
_PHONE = {
    **{
        f"phone_acceleration_{x.lower()}": (f"accelerometerAcceleration{x}(G)", "g", 1.0)
        for x in "XYZ"
    },
    **{f"phone_gyro_{x.lower()}": (f"gyroRotation{x}(rad/s)", "rad/s", 1.0) for x in "XYZ"},
}
_CAR = {
    "car_speed": ("Speed (MPH)", "m/s", MILE_PER_HOUR),
    "car_steering": ("Steering Angle", "degrees at the wheel, presumably", 1.0),
    "car_throttle": ("Throttle Position", "not stated", 1.0),
    "car_engine": ("Engine RPM", "1/min", 1.0),
    "car_lateral": ("Lateral Gs", "g", 1.0),
    "car_forward": ("Acceleration Gs", "g", 1.0),
}


@dataclass(frozen=True, eq=False)
class Stream:
    """times: (T,) float64 seconds since `START`, strictly increasing; values: (T,) float64 in
    `unit`."""

    times: np.ndarray
    values: np.ndarray
    unit: str


@dataclass(frozen=True, eq=False)
class Drive:
    """streams: name → Stream; card: the facts of the set."""

    streams: dict[str, Stream]
    card: dict[str, Any]

    def pairs(self, *names: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return name → (times, values) of these streams, all of them by default, as
        `clock.synchronise` takes them.

        Raises KeyError, naming those that are not there.
        """
        known_names("the request", names, self.streams, "streams")
        return {
            name: (self.streams[name].times, self.streams[name].values)
            for name in names or self.streams
        }


def load(accept_licence: bool = False) -> Drive:
    """Return the drive: streams "phone_..." and "car_...", each on the stamps its own recorder
    wrote.

    The phone logs every 0.1 s, its gyroscope's x axis points up; the car logs 13.8 rows a second in
    uneven steps, two rhythms interleaved, some rows only 0.06 ms apart but none on the same stamp,
    so all are kept. Its speed is turned from miles per hour into m/s, its other columns are as
    logged. The phone's GPS gives a new fix about once a second and its log repeats it in between.
    Only the row in which a fix first stands is kept, even if its value is the old one; so is not
    the fix of the first row, which may have arrived long before. A fix is some 0.2 to 0.3 s old by
    the receiver's own stamp when it is logged. Places are left out: nothing here needs to know
    where somebody drove. Raises what `store.fetch` raises.
    """
    data, folder = fetched("phone_drive", accept_licence)
    phone = pd.read_csv(folder / "dataset1_phone.csv", encoding="utf-8")
    car = pd.read_csv(folder / "dataset1_car.csv", encoding="utf-8")
    fixes = phone[phone["locationTimestamp_since1970(s)"].diff().fillna(0) != 0]
    streams = (
        _streams(fixes, "loggingTime(txt)", _GPS)
        | _streams(phone, "loggingTime(txt)", _PHONE)
        | _streams(car, "Time", _CAR)
    )
    return Drive(streams, data.facts())


def dataset(accept_licence: bool = False) -> Dataset:
    """Return the drive as a data set of one sample: sequences to predict from sequences.

    modalities: the phone's streams by name, each a list of one `Stream`; targets: the car's.
    Raises what `store.fetch` raises.
    """
    drive = load(accept_licence)
    phone = {name: [stream] for name, stream in drive.streams.items() if name not in _CAR}
    car = {name: [stream] for name, stream in drive.streams.items() if name in _CAR}
    return Dataset("phone_drive", phone, np.zeros(1, np.int64), targets=car, card=drive.card)


def _streams(
    table: pd.DataFrame, stamp: str, columns: dict[str, tuple[str, str, float]]
) -> dict[str, Stream]:
    """Return the named columns of a table, all on the stamps of its column `stamp`."""
    times = (pd.to_datetime(table[stamp]) - pd.Timestamp(START)).dt.total_seconds().to_numpy()
    return {
        name: Stream(times, table[column].to_numpy(dtype=np.float64) * factor, unit)
        for name, (column, unit, factor) in columns.items()
    }
