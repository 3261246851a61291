"""The goals that the measurements of a case must meet.

A goal has a value in every round, from measurements that were taken in turn. The median of the
values is judged. The goal's text says what is compared; `value` computes it for one round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiofs.bench.measuring.data import MiB

Metrics = Mapping[str, float]
Round = Mapping[str, Metrics]

FASTEST_PEER = "the fastest async peer"


@dataclass(frozen=True)
class Goal:
    """A limit for the contender `of`, relative to the contender `over`."""

    of: str
    bound: float
    over: str = "C"

    at_most = True

    @property
    def text(self) -> str:
        raise NotImplementedError

    def value(self, results: Round, over: str) -> float:
        """The value in one round. `over` is the other contender, or the fastest peer."""
        raise NotImplementedError

    def format(self, value: float) -> str:
        return f"{value:.2f} x"

    def met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    def verdict(self, value: float) -> str:
        """PASS, or how far the value is from the bound."""
        return "PASS" if self.met(value) else f"{abs(value / self.bound - 1):.0%} off"

    def needs(self, over: str) -> set[str]:
        """The contenders that must be measured before the goal can be judged."""
        return {self.of, over}


@dataclass(frozen=True)
class AtMost(Goal):
    """At most so many times the time of the other contender."""

    metric: str = "time"

    @property
    def text(self) -> str:
        metric = "" if self.metric == "time" else f" in {self.metric}"
        return f"at most {self.bound:g} x {self.over}{metric}"

    def value(self, results: Round, over: str) -> float:
        return results[self.of][self.metric] / results[over][self.metric]


@dataclass(frozen=True)
class Faster(Goal):
    """At least so many times the rate of the other contender."""

    at_most = False

    @property
    def text(self) -> str:
        return f"at least {self.bound:g} x the rate of {self.over}"

    def value(self, results: Round, over: str) -> float:
        return results[over]["time"] / results[self.of]["time"]


@dataclass(frozen=True)
class AtMostMore(Goal):
    """At most so many seconds more than the other contender."""

    metric: str = "time"

    @property
    def text(self) -> str:
        return f"{self.metric}: at most {self.bound * 1e3:g} ms over {self.over}"

    def value(self, results: Round, over: str) -> float:
        return results[self.of][self.metric] - results[over][self.metric]

    def format(self, value: float) -> str:
        return f"{value * 1e3:+.2f} ms"

    def verdict(self, value: float) -> str:
        return "PASS" if self.met(value) else f"{(value - self.bound) * 1e3:.2f} ms off"


@dataclass(frozen=True)
class Overhead(Goal):
    """The time above `floor`, divided by the time of `over` above `floor`."""

    floor: str = "C"

    @property
    def text(self) -> str:
        return f"time above {self.floor}: at most {self.bound:g} x that of {self.over}"

    def value(self, results: Round, over: str) -> float:
        floor = results[self.floor]["time"]
        # In a noisy round, a contender may be as fast as the floor.
        others = max(results[over]["time"] - floor, 1e-12)
        return (results[self.of]["time"] - floor) / others

    def needs(self, over: str) -> set[str]:
        return {self.of, over, self.floor}


@dataclass(frozen=True)
class Each(Goal):
    """At most so many bytes of one kind of memory for each request."""

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
class Calls(Goal):
    """At most so many system calls."""

    over: str = ""

    @property
    def text(self) -> str:
        return f"at most {self.bound:g} system calls"

    def value(self, results: Round, over: str) -> float:
        return results[self.of]["system calls"]

    def format(self, value: float) -> str:
        return f"{value:.1f} calls"

    def needs(self, over: str) -> set[str]:
        return {self.of}


@dataclass(frozen=True)
class Within(Goal):
    """At most so many seconds."""

    over: str = ""

    @property
    def text(self) -> str:
        return f"at most {self.bound * 1e3:g} ms"

    def value(self, results: Round, over: str) -> float:
        return results[self.of]["time"]

    def format(self, value: float) -> str:
        return f"{value * 1e3:.3f} ms"

    def needs(self, over: str) -> set[str]:
        return {self.of}


@dataclass(frozen=True)
class Memory(Goal):
    """At most so many bytes of resident memory at the peak, above the memory before."""

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
