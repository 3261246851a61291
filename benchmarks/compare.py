"""Runs a case: in each round, it measures each contender in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from aiofs.bench import running
from aiofs.bench.measuring.cache import Unavailable
from aiofs.bench.measuring.data import DataFile
from aiofs.bench.measuring.native import cache_directory
from aiofs.bench.measuring.spread import Spread
from aiofs.bench.measuring.work import Work

from .case import Case
from .contenders import LIBRARIES, PEERS, PROGRAMS
from .goals import FASTEST_PEER, Goal, Metrics

TMPFS = Path("/dev/shm")


@dataclass
class Outcome:
    """The metrics of a case's contenders in each round, or the reason why there are none."""

    case: Case
    rounds: dict[str, list[Metrics]] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)

    def spread(self, contender: str, metric: str) -> Spread:
        return Spread.of([metrics[metric] for metrics in self.rounds[contender]])

    def ratio(self, contender: str, metric: str = "time") -> Spread:
        """The ratio to the case's first contender, over the rounds."""
        pairs = zip(self.rounds[contender], self.rounds[self.case.contenders[0]], strict=True)
        return Spread.of([own[metric] / reference[metric] for own, reference in pairs])

    def fastest_peer(self) -> str | None:
        measured = [name for name in self.rounds if name in PEERS]
        return min(measured, key=lambda name: self.spread(name, "time").median, default=None)

    def judge(self, goal: Goal) -> Spread | None:
        """The goal's value over the rounds; None if a contender that it needs is missing."""
        over = self.compared_with(goal)
        if not goal.needs(over) <= self.rounds.keys():
            return None
        turns = zip(*self.rounds.values(), strict=True)
        rounds = [dict(zip(self.rounds, turn, strict=True)) for turn in turns]
        return Spread.of([goal.value(results, over) for results in rounds])

    def compared_with(self, goal: Goal) -> str:
        """The contender's name; "" if it should be the fastest peer and no peer was measured."""
        return self.fastest_peer() or "" if goal.over == FASTEST_PEER else goal.over


class Comparison:
    """A run: its data files, and the settings of all its cases."""

    def __init__(
        self, directory: Path | None, rounds: int, loop: str, progress: Callable[[str], None]
    ) -> None:
        self.rounds = rounds
        self.loop = loop
        self._progress = progress
        parent = directory or cache_directory()
        self._disk = tempfile.TemporaryDirectory(prefix="data-", dir=parent)
        self._tmpfs = tempfile.TemporaryDirectory(prefix="aiofs-benchmarks-", dir=TMPFS)

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *_: object) -> None:
        self._disk.cleanup()
        self._tmpfs.cleanup()

    @property
    def directory(self) -> Path:
        return Path(self._disk.name)

    def run(self, case: Case) -> Outcome:
        work = replace(case.work, directory=self._place(case.work.file), loop=self.loop)
        outcome = Outcome(case)
        rounds: dict[str, list[Metrics]] = {name: [] for name in case.contenders}
        for turn in range(self.rounds):
            for name in case.contenders:
                if name in outcome.unavailable:
                    continue
                self._progress(f"{case.key}: round {turn + 1} of {self.rounds}: {name}")
                try:
                    rounds[name].append(measure(name, work))
                except Unavailable as reason:
                    outcome.unavailable[name] = str(reason)
        outcome.rounds = {
            name: metrics for name, metrics in rounds.items() if name not in outcome.unavailable
        }
        return outcome

    def _place(self, file: DataFile) -> str:
        """Returns the directory of a data file. The first call makes the file."""
        directory = Path((self._tmpfs if file.on_tmpfs else self._disk).name)
        if not (directory / file.name).exists():
            self._progress(f"filling {file.name}")
            file.make(directory)
        return str(directory)


def measure(name: str, work: Work) -> Metrics:
    """Measures one contender once, in a process of its own."""
    return running.measure(PROGRAMS.get(name) or LIBRARIES[name], work).metrics
