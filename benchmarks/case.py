"""A case, and the amounts of work."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aiofs.bench.measuring.data import GiB, MiB
from aiofs.bench.measuring.work import Work

from .goals import FASTEST_PEER, Goal

QUICKEST_PEERS = ("caio linux", "ayafileio", "aiofile")


@dataclass(frozen=True)
class Scale:
    """The amount of work: enough for numbers, for a first look, or to test that each case runs."""

    file: int
    stream: int
    requests: int
    saves: int
    files: int
    processes: int
    rows: int
    ranges: int
    tree: int
    seconds: float
    observed: float
    stall: float


FULL = Scale(
    256 * MiB,
    GiB,
    requests=10_000,
    saves=256,
    files=4_000,
    processes=100,
    rows=191 * MiB,
    ranges=20_000,
    tree=8_000,
    seconds=0.15,
    observed=0.15,
    stall=2,
)
QUICK = Scale(
    16 * MiB,
    64 * MiB,
    requests=500,
    saves=32,
    files=100,
    processes=10,
    rows=MiB,
    ranges=200,
    tree=100,
    seconds=0.02,
    observed=0.03,
    stall=0.05,
)


# All goals in under two minutes: a first look, before the whole comparison.
BRIEF = Scale(
    64 * MiB,
    256 * MiB,
    requests=5_000,
    saves=64,
    files=1_000,
    processes=30,
    rows=8 * MiB,
    ranges=2_000,
    tree=200,
    seconds=0.06,
    observed=0.03,
    stall=0.2,
)


@dataclass(frozen=True)
class Case:
    """One piece of work for several contenders. Tables show ratios to the first contender."""

    key: str
    title: str
    work: Work
    contenders: tuple[str, ...]
    goals: tuple[Goal, ...] = ()

    @property
    def number(self) -> str:
        return self.key.split("/")[0]

    def brief(self) -> Case:
        """The case with only those contenders that its goals compare; of the peers, the fastest."""
        needed = {name for goal in self.goals for name in goal.needs(goal.over)}
        if FASTEST_PEER in needed:
            needed |= {*QUICKEST_PEERS}
        kept = tuple(name for name in self.contenders if name in needed)
        return replace(self, contenders=kept)


def coroutines(depth: int) -> str:
    return "one at a time" if depth == 1 else f"{depth} coroutines"
