"""`aiofs bench`: measures jobs, prints tables, writes results; `aiofs bench report` draws them."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aiofs.bench import machine, page, results, rounds, tables
from aiofs.bench.arguments import REPORT
from aiofs.bench.jobs import (
    BadJob,
    JobSet,
    check_participants,
    default_set,
    from_command_line,
    from_file,
)
from aiofs.bench.keys import KEYS, number
from aiofs.bench.participants import (
    DEFAULT,
    PARTICIPANTS,
    Entrant,
    NoInterpreter,
    entrants,
    installed,
)
from aiofs.bench.places import Places, Refused, may_replace, replace
from aiofs.bench.plots import NotInstalled
from aiofs.bench.progress import progress

ROUNDS = 3
MOST_ROUNDS = 1000
INTERRUPTED, TERMINATED = 130, 143  # the exit statuses of shells


def main(options: argparse.Namespace) -> int:
    """Runs the command. Returns its exit status: 0; 1 if nothing was measured; 2 if refused."""
    try:
        with interruptible():
            if options.words[:1] == [REPORT]:
                return report(options)
            if options.list:
                print(participants())
                return 0
            return bench(options)
    except (BadJob, NoInterpreter, NotInstalled, Refused, results.Unreadable) as refused:
        print(f"aiofs bench: {refused}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"aiofs bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\naiofs bench: interrupted; its files are removed", file=sys.stderr)
        return INTERRUPTED


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """The first Ctrl-C, or SIGTERM, ends the run. Later ones cannot disturb the clearing up."""

    def stop(signum: int, _: object) -> None:
        for later in (signal.SIGINT, signal.SIGTERM):
            signal.signal(later, signal.SIG_IGN)
        if signum == signal.SIGTERM:
            raise SystemExit(TERMINATED)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def participants() -> str:
    able = set(installed(PARTICIPANTS))
    lines = []
    for name, participant in PARTICIPANTS.items():
        missing = "" if name in able else " (not installed here)"
        lines.append(f"{name:<16}{participant.meaning}{missing}")
    return "\n".join(lines)


def bench(options: argparse.Namespace) -> int:
    job_set = jobs_of(options)
    names = names_of(options, job_set)
    count = rounds_of(options, job_set)
    directory = options.directory or job_set.run.get("directory")
    outputs = {
        Path(path): form
        for path, form in ((options.json, results.as_json), (options.csv, results.as_csv))
        if path
    }
    for path in outputs:
        may_replace(path)
    chosen = entrants(names, pythons_of(options, job_set))
    document = measure(job_set, chosen, count, Path(directory) if directory else None)
    print(tables.text(document))
    for path, form in outputs.items():
        replace(path, form(document))
    return 0 if any(job["reference"] for job in document["jobs"]) else 1


def jobs_of(options: argparse.Namespace) -> JobSet:
    given = {key: getattr(options, key) for key in KEYS if hasattr(options, key)}
    if options.words:
        sets = [from_file(Path(word), given) for word in options.words]
        run: dict[str, Any] = {}
        for one in sets:
            run |= one.run
        return JobSet([job for one in sets for job in one.jobs], run)
    return from_command_line(given) if given else default_set()


def names_of(options: argparse.Namespace, job_set: JobSet) -> list[str]:
    """The participants, each once, with C first, whose times the ratios refer to."""
    if options.names is not None:
        names = [name.strip() for name in options.names.split(",")]
        check_participants(names, "--with")
    else:
        names = job_set.run.get("with") or installed(DEFAULT)
    return sorted(dict.fromkeys(names), key=lambda name: name != "C")


def rounds_of(options: argparse.Namespace, job_set: JobSet) -> int:
    if options.rounds is None:
        return int(job_set.run.get("rounds", ROUNDS))
    try:
        return number(1, MOST_ROUNDS)(options.rounds)
    except ValueError as error:
        raise BadJob(f"--rounds {options.rounds}: {error}") from None


def pythons_of(options: argparse.Namespace, job_set: JobSet) -> list[str]:
    of_file = job_set.run.get("python", [])
    return [*options.python, *([of_file] if isinstance(of_file, str) else of_file)]


def measure(
    job_set: JobSet, chosen: list[Entrant], count: int, directory: Path | None
) -> results.Document:
    total = len(job_set.jobs) * count * len(chosen)
    with progress(total) as shown, Places(directory, shown.show) as places:
        facts = facts_of(places)
        outcomes = []
        for job in job_set.jobs:
            place = places.place(job)
            outcomes.append(rounds.run(job, place, chosen, count, shown.step))
            places.release(job, place)
    return results.document(facts, count, outcomes)


def facts_of(places: Places) -> Mapping[str, str]:
    command = shlex.join(["aiofs", *sys.argv[1:]])
    return machine.facts(places.directory, command)


def report(options: argparse.Namespace) -> int:
    """Draws results. Prints the path of the page."""
    paths = options.words[1:]
    if not paths:
        raise results.Unreadable("report: name at least one result of `aiofs bench --json`")
    print(page.write(Path(options.output or "bench-report"), [Path(path) for path in paths]))
    return 0
