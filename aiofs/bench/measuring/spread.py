"""The statistics of measurements."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# The latencies that are kept of a measurement: their names, and the part of all operations below.
QUANTILES = {
    **{f"p{percent}": percent / 100 for percent in (0, 10, 25, 50, 75, 90, 95, 99)},
    "p99.9": 0.999,
    "p99.99": 0.9999,
    "p100": 1.0,
}


def percentile(ascending: Sequence[float], part: float) -> float:
    """Returns the value below which about `part` (0 to 1) of a sorted sequence lies."""
    return ascending[min(len(ascending) - 1, int(len(ascending) * part))]


@dataclass(frozen=True)
class Spread:
    """The median and the range of one number over the rounds of a run."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))
