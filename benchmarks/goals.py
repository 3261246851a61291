"""What the measurements of a case have to show.

A goal is reckoned in every round, from measurements that were taken in turn, and judged by the
median. Its text says what is compared; `value` gives it for one round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .work import MiB

Metrics = Mapping[str, float]
Round = Mapping[str, Metrics]

FASTEST_PEER = "the fastest async peer"


@dataclass(frozen=True)
class Goal:
    """Something that `of` has to reach, beside `over`."""

    of: str
    bound: float
    over: str = "C"

    at_most = True

    @property
    def text(self) -> str:
        raise NotImplementedError

    def value(self, results: Round, over: str) -> float:
        """`over` is who is compared with: the peer that was fastest, where that was asked for."""
        raise NotImplementedError

    def format(self, value: float) -> str:
        return f"{value:.2f} x"

    def met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    def needs(self, over: str) -> set[str]:
        """The contenders without which the goal cannot be judged."""
        return {self.of, over}


@dataclass(frozen=True)
class AtMost(Goal):
    """So many times the other's time."""

    metric: str = "time"

    @property
    def text(self) -> str:
        metric = "" if self.metric == "time" else f" in {self.metric}"
        return f"at most {self.bound:g} x {self.over}{metric}"

    def value(self, results: Round, over: str) -> float:
        return results[self.of][self.metric] / results[over][self.metric]


@dataclass(frozen=True)
class Faster(Goal):
    """So many times the other's rate."""

    at_most = False

    @property
    def text(self) -> str:
        return f"at least {self.bound:g} x the rate of {self.over}"

    def value(self, results: Round, over: str) -> float:
        return results[over]["time"] / results[self.of]["time"]


@dataclass(frozen=True)
class AtMostMore(Goal):
    """So many seconds more than the other."""

    metric: str = "time"

    @property
    def text(self) -> str:
        return f"{self.metric}: at most {self.bound * 1e3:g} ms over {self.over}"

    def value(self, results: Round, over: str) -> float:
        return results[self.of][self.metric] - results[over][self.metric]

    def format(self, value: float) -> str:
        return f"{value * 1e3:+.2f} ms"


@dataclass(frozen=True)
class Overhead(Goal):
    """Time above `floor`, as a part of what `over` takes above it."""

    floor: str = "C"

    @property
    def text(self) -> str:
        return f"time above {self.floor}: at most {self.bound:g} x that of {self.over}"

    def value(self, results: Round, over: str) -> float:
        floor = results[self.floor]["time"]
        # In a noisy round nothing may be left above the floor.
        others = max(results[over]["time"] - floor, 1e-12)
        return (results[self.of]["time"] - floor) / others

    def needs(self, over: str) -> set[str]:
        return {self.of, over, self.floor}


@dataclass(frozen=True)
class Each(Goal):
    """So many bytes of some memory for each request."""

    over: str = ""
    metric: str = "memory each"

    @property
    def text(self) -> str:
        return f"{self.metric}: under {self.bound:g} bytes"

    def value(self, results: Round, over: str) -> float:
        return results[self.of][self.metric]

    def format(self, value: float) -> str:
        return f"{round(value)} bytes"

    def needs(self, over: str) -> set[str]:
        return {self.of}


@dataclass(frozen=True)
class Memory(Goal):
    """So many bytes of resident memory, at the peak, above what there was before."""

    over: str = ""

    @property
    def text(self) -> str:
        return f"under {self.bound / MiB:g} MiB of memory"

    def value(self, results: Round, over: str) -> float:
        return results[self.of]["memory"]

    def format(self, value: float) -> str:
        return f"{value / MiB:.1f} MiB"

    def needs(self, over: str) -> set[str]:
        return {self.of}
