"""From nats to bits."""

from __future__ import annotations

import math

NATS_PER_UNIT = {"nats": 1.0, "bits": math.log(2)}


def per_unit(units: str) -> float:
    """Return how many nats one of these units has; ValueError for units other than "nats" and
    "bits"."""
    if units not in NATS_PER_UNIT:
        raise ValueError(f"units must be 'nats' or 'bits', not {units!r}")
    return NATS_PER_UNIT[units]
