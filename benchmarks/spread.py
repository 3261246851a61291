"""The statistics that the comparison uses."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


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
