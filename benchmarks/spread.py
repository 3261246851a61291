"""The few statistics that the comparison quotes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(ascending: Sequence[float], part: float) -> float:
    """The smallest value that at least `part` of all do not exceed; of a sorted sequence."""
    return ascending[min(len(ascending) - 1, int(len(ascending) * part))]


@dataclass(frozen=True)
class Spread:
    """What the rounds of a run say of one number."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))
