"""Measures what an operation costs as there is more of something.

    python -m benchmarks.growth --json growth.json     everything, in about five minutes
    python -m benchmarks.growth --only handles,bytes
    python -m benchmarks.growth --save                 everything; saves results and their plot
    python -m benchmarks.growth --draw                 draws the saved results again
    aiofs bench report growth.json                     plots of time and memory

What grows: requests in flight, open handles, bytes of a file, entries of a directory, loops with a
thread each. Beside aiofs, blocking calls of `os` do the same: their line is the kernel's part.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aiofs.bench import machine, places, results, rounds, tables
from aiofs.bench.command import INTERRUPTED, interruptible
from aiofs.bench.jobs import Job
from aiofs.bench.measuring.data import PAGE, DataFile, GiB, MiB
from aiofs.bench.measuring.native import cache_directory
from aiofs.bench.measuring.work import Work
from aiofs.bench.participants import Entrant
from aiofs.bench.plots import NotInstalled
from aiofs.bench.programs import Program
from aiofs.bench.progress import progress
from aiofs.bench.running import Python

from . import growing, growth_plot
from .contenders.programs import Crowd
from .crowd import BATCH

ROOT = str(Path(__file__).parent.parent)
SAVED = Path(__file__).parent / "results" / "growth.json"
SMALL = DataFile("data", 16 * MiB)


@dataclass(frozen=True)
class Growth:
    """What grows, from step to step, and what is measured at each step.

    make: makes what a step needs, and returns the directory and the work there.
    """

    key: str
    title: str
    meaning: str
    steps: Sequence[int]
    make: Callable[[Path, int], Work]
    participants: Callable[[int], list[Entrant]]


def growths(seconds: float) -> list[Growth]:
    work = Work(SMALL, seconds=seconds, observed=seconds / 2, verify=False)
    return [
        *of_requests(work),
        *of_directories(work),
        Growth(
            "bytes",
            "a file of so many bytes",
            "cached 4 KiB read at one of 4,096 places of a sparse file",
            [MiB, 16 * MiB, 256 * MiB, 4 * GiB, 64 * GiB],
            lambda directory, size: sparse(work, directory, size),
            pair("Large", "OsLarge"),
        ),
        Growth(
            "loops",
            "so many loops, with a thread each",
            "cached 4 KiB read; the time is that of all threads, divided by all reads",
            [1, 2, 4, 8],
            # Longer, because each pass starts the threads.
            lambda directory, count: replace(
                filled(work, directory), depth=count, seconds=work.seconds * 4
            ),
            pair("Loops", "OsThreads"),
        ),
    ]


def of_requests(work: Work) -> Iterator[Growth]:
    """The requests of P9, awaited in Python and by C, at more steps than its goals need."""
    crowd = replace(work, operation="crowd", seconds=work.seconds * 2)
    for title, its in (
        ("reads of one pipe", replace(crowd, block=64)),
        ("O_DIRECT reads", replace(crowd, direct=True)),
    ):
        yield Growth(
            "requests",
            f"so many requests in flight: {title}",
            its.describe(),
            [1, 10, 100, 1_000, 10_000, 100_000],
            lambda directory, _, its=its: filled(its, directory),  # type: ignore[misc]
            crowd_of,
        )


def crowd_of(count: int) -> list[Entrant]:
    """The C program takes its requests in batches, so it needs as many."""
    in_c = [Entrant("aio_read in C", Crowd("C", count))] if count >= BATCH else []
    return [*in_c, Entrant("aiofs", Crowd("Python", count))]


def of_directories(work: Work) -> Iterator[Growth]:
    """Files of one directory: many open at the same time, or many beside the one that is meant."""
    files = [1, 10, 100, 1_000, 10_000, 100_000]
    for key, title, meaning, steps, ours, theirs in (
        ("handles", "so many open handles", "4 KiB read by one of them", files[:-1],
         "Handles", "OsHandles"),
        ("entries", "a directory of so many entries: open", "open, lock and close one of them",
         files, "Opening", "OsOpening"),
        ("entries", "a directory of so many entries: list", "list them; the time of one entry",
         files, "Listing", "OsListing"),
    ):  # fmt: skip
        yield Growth(
            key,
            title,
            meaning,
            steps,
            lambda directory, count: entries(work, directory, count),
            pair(ours, theirs),
        )


def filled(work: Work, directory: Path) -> Work:
    if not (directory / SMALL.name).exists():
        SMALL.make(directory)
    return replace(work, directory=str(directory))


def sparse(work: Work, directory: Path, size: int) -> Work:
    # The offsets of the work number the places; so it says the size of a small file.
    file = DataFile(f"sparse-{size}", SMALL.size, fill=0)
    growing.make_sparse(directory / file.name, size)
    return replace(work, file=file, directory=str(directory))


def entries(work: Work, directory: Path, count: int) -> Work:
    place = directory / f"entries-{count}"
    if not place.exists():
        growing.make_entries(place, count)
    return replace(work, directory=str(place))


def pair(ours: str, theirs: str) -> Callable[[int], list[Entrant]]:
    def participants(count: int) -> list[Entrant]:
        def measured(name: str) -> Python | Program:
            return Python(f"benchmarks.growing:{name}", (count,), True, (ROOT,))

        return [Entrant("os, blocking", measured(theirs)), Entrant("aiofs", measured(ours))]

    return participants


def main() -> int:
    options = parse()
    chosen = [growth for growth in growths(options.seconds) if growth.key in options.only]
    try:
        if options.draw:
            draw()
            return 0
        if options.json:
            places.may_replace(options.json)
        with interruptible():
            document = measure(chosen, options)
        print(tables.text(document))
        if options.json:
            places.replace(options.json, results.as_json(document))
        if options.save:
            SAVED.write_bytes(results.as_json(document))
            draw()
    except NotInstalled as missing:
        sys.exit(f"benchmarks.growth: {missing}")
    except places.Refused as refused:
        sys.exit(f"benchmarks.growth: {refused}")
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def draw() -> None:
    """Draws the saved results."""
    SAVED.with_suffix(".svg").write_bytes(growth_plot.svg(results.load(SAVED)))


def parse() -> argparse.Namespace:
    keys = ("requests", "handles", "entries", "bytes", "loops")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--only", metavar="KEY,...", help=f"some of {', '.join(keys)}")
    add("--most", type=int, metavar="N", help="leave out steps above N, of bytes above N MiB")
    add("--rounds", type=int, default=3)
    add("--seconds", type=float, default=0.15, help="length of a pass (default: 0.15)")
    add("--json", type=Path, metavar="FILE", help="write the results to FILE")
    add("--save", action="store_true", help=f"write {SAVED.parent.name}/{SAVED.name} and .svg")
    add("--draw", action="store_true", help="draw the saved results and stop")
    add("--directory", type=Path, help="where to make files (default: the user's cache)")
    options = parser.parse_args()
    options.only = options.only.split(",") if options.only else [*keys]
    if unknown := {*options.only} - {*keys}:
        parser.error(f"--only {', '.join(sorted(unknown))}: choose from {', '.join(keys)}")
    return options


def steps_of(growth: Growth, most: int | None) -> list[int]:
    unit = MiB if growth.key == "bytes" else 1
    return [step for step in growth.steps if most is None or step <= most * unit]


def measure(chosen: Sequence[Growth], options: argparse.Namespace) -> results.Document:
    parent = options.directory or cache_directory()
    total = sum(2 * options.rounds * len(steps_of(growth, options.most)) for growth in chosen)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="aiofs-growth-", dir=parent) as folder:
        directory = Path(folder)
        facts = machine.facts(directory, " ".join(["python -m benchmarks.growth", *sys.argv[1:]]))
        with progress(total) as shown:
            for growth in chosen:
                for step in steps_of(growth, options.most):
                    shown.show(f"{growth.title}: making {step:,}")
                    work = growth.make(directory, step)
                    job = Job(growth.title, {growth.key: step, "bs": PAGE}, [growth.key])
                    outcome = rounds.Outcome(job, work, growth.meaning)
                    rounds.take(outcome, growth.participants(step), options.rounds, shown.step)
                    outcomes.append(outcome)
    return results.document(facts, options.rounds, outcomes)


if __name__ == "__main__":
    sys.exit(main())
