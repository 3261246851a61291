"""Runs the rounds of a job: in each, every participant is measured once, in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aiofs.bench.jobs import Job
from aiofs.bench.measuring.cache import Unavailable
from aiofs.bench.measuring.spread import Spread
from aiofs.bench.measuring.work import Work
from aiofs.bench.participants import Entrant
from aiofs.bench.places import Place
from aiofs.bench.running import measure

AT_ONCE = 1e-9  # seconds; a pass with a count ends with its first go
OPERATIONS = {"read": "read", "write": "write", "rw": "mixed"}


@dataclass
class Outcome:
    """What each entrant measured in each round, what it is, or why it measured nothing.

    meaning: what was done, if the work does not say it.
    """

    job: Job
    work: Work
    meaning: str = ""
    rounds: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    about: dict[str, dict[str, str]] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str | None:
        """The first entrant that was measured. Ratios are to its times."""
        return next(iter(self.rounds), None)

    def spread(self, name: str, metric: str) -> Spread:
        return Spread.of([metrics[metric] for metrics in self.rounds[name]])

    def ratio(self, name: str) -> Spread:
        """The ratio of its time to that of the reference, round by round."""
        assert self.reference is not None
        pairs = zip(self.rounds[name], self.rounds[self.reference], strict=True)
        return Spread.of([own["time"] / other["time"] for own, other in pairs])


def work_of(job: Job, place: Place) -> Work:
    """The job as one measurement, of the file at `place`."""
    seconds = AT_ONCE if job["count"] else job["runtime"]
    return Work(
        place.file,
        operation=OPERATIONS[job["rw"].removeprefix("rand")],
        block=job["bs"],
        depth=job["iodepth"],
        sequential=not job["rw"].startswith("rand"),
        cold=job["cache"] == "cold",
        direct=job["direct"],
        reads=job["rwmixread"],
        shift=job["buffer_offset"],
        sweep=job["count"],
        seconds=seconds,
        observed=seconds,
        verify=job["verify"],
        volume=job["volume"],
        directory=str(place.directory),
        scratch=str(place.scratch),
        loop=job["loop"],
    )


def run(
    job: Job,
    place: Place,
    entrants: Sequence[Entrant],
    rounds: int,
    progress: Callable[[str], None],
) -> Outcome:
    """Measures a job. `progress` is told what is measured, once for each measurement."""
    environment = {"AIOFS_ENGINE": job["engine"]} if "engine" in job.given else {}
    outcome = Outcome(job, work_of(job, place))
    take(outcome, entrants, rounds, progress, environment)
    return outcome


def take(
    outcome: Outcome,
    entrants: Sequence[Entrant],
    rounds: int,
    progress: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
) -> None:
    """Fills an outcome by measuring its work, in turn."""
    measured: dict[str, list[dict[str, float]]] = {one.name: [] for one in entrants}
    outcome.unavailable = {one.name: one.missing for one in entrants if one.missing}
    for turn in range(rounds):
        for entrant in entrants:
            progress(f"{outcome.job.name}: {entrant.name}, round {turn + 1} of {rounds}")
            if entrant.name in outcome.unavailable:
                continue
            try:
                found = measure(entrant.what, outcome.work, entrant.interpreter, environment)
            except Unavailable as reason:
                outcome.unavailable[entrant.name] = str(reason)
                continue
            measured[entrant.name].append(found.metrics)
            outcome.about[entrant.name] = found.about
    outcome.rounds = {
        name: all_ for name, all_ in measured.items() if name not in outcome.unavailable
    }
