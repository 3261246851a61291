"""Counts the system calls of one awaited operation, and the thread switches of the process.

    python -m benchmarks.steps                     a table of all steps
    python -m benchmarks.steps --show cold-read    every call of one step, in its order

A step is taken many times in a process of its own, once under strace(1), which shows the calls, and
once without, for the voluntary context switches of all threads. The numbers are medians over the
steps. The process makes an access(2) of a path that does not exist between two steps.
"""

from __future__ import annotations

import argparse
import contextlib
import mmap
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, pairwise
from pathlib import Path

import aiofs
from aiofs import aio
from aiofs.bench.measuring.cache import drop_cache
from aiofs.bench.measuring.data import PAGE
from aiofs.bench.measuring.measure import new_loop
from aiofs.bench.tables import Row, table

Step = Callable[[], Awaitable[object]]

ROOT = Path(__file__).parent.parent
PAGES = 4096  # of the large files
VOLUME, LARGE = "volume", "volume/large"
MARK = "between two steps"
OURS = "getrusage(RUSAGE_SELF"  # in the lines of strace: of this program
WARM_UP = 5
CALL = re.compile(r"^(\d+) +(\w+)\(")
UNKNOWN = {"syscall_0x1c3": "cachestat"}  # to an older strace


def steps(large: aiofs.AccessHandle, root: aiofs.DirectoryHandle) -> dict[str, Step]:
    """All steps by name. Files: `plain` and `small` in the current directory; `small` in `root`."""
    buffer, page = bytearray(PAGE), mmap.mmap(-1, PAGE)
    whole = bytes(PAGE)
    request = aio.aiocb(os.open("plain", os.O_RDWR), buffer)
    direct = aio.aiocb(os.open("plain", os.O_RDONLY | os.O_DIRECT), page)
    places = iter(range(PAGES))

    async def nothing() -> None:
        pass

    async def read_request() -> None:
        aio.aio_read(request)
        await request

    async def direct_read() -> None:
        aio.aio_read(direct)
        await direct

    async def write_and_flush() -> None:
        await large.write(whole, at=PAGE)
        await large.flush()

    async def handle() -> None:
        file = await root.get_file_handle("small")
        async with file.create_access_handle(mode="read-only") as opened:
            await opened.read(buffer, at=0)

    async def open_and_read() -> None:
        async with aiofs.open("small", "rb") as file:
            await file.read()

    return {
        "nothing": nothing,
        "read": lambda: large.read(buffer, at=PAGE),
        "aio-read": read_request,
        "write": lambda: large.write(whole, at=PAGE),
        "cold-read": lambda: large.read(buffer, at=next(places) * PAGE),
        "direct-read": direct_read,
        "write-flush": write_and_flush,
        "handle": handle,
        "read_bytes": lambda: aiofs.read_bytes("small"),
        "open-read": open_and_read,
        "write_bytes": lambda: aiofs.write_bytes("new", whole),
        "write_bytes-atomic": lambda: aiofs.write_bytes("new", whole, atomic=True),
        "write_bytes-durable": lambda: aiofs.write_bytes("new", whole, atomic=True, durable=True),
    }


NAMES = (
    *("nothing", "read", "aio-read", "write", "cold-read", "direct-read", "write-flush"),
    *("handle", "read_bytes", "open-read"),
    *("write_bytes", "write_bytes-atomic", "write_bytes-durable"),
)


# ---- the process that takes the steps ------------------------------------------------------------


def take(name: str, times: int) -> None:
    """Takes a step in the current directory, and prints the voluntary context switches."""
    os.mkdir(VOLUME, 0o700)
    for path in "plain", LARGE:
        with open(path, "wb", buffering=0) as file:
            for _ in range(PAGES):
                file.write(os.urandom(PAGE))
            os.fsync(file.fileno())
    for path in "small", f"{VOLUME}/small":
        Path(path).write_bytes(os.urandom(PAGE))
    os.sync()
    with contextlib.closing(new_loop("uvloop")) as loop:
        loop.run_until_complete(measured(name, times))


async def measured(name: str, times: int) -> None:
    with aiofs.PrivateVolume(VOLUME) as volume:
        file = await volume.root.get_file_handle(Path(LARGE).name)
        async with file.create_access_handle(mode="in-place") as large:
            if name == "cold-read":  # each step reads a page of its own; there is no read-ahead
                drop_cache(LARGE)
                os.posix_fadvise(large.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            step = steps(large, volume.root)[name]
            for _ in range(WARM_UP):
                await step()
            switches = [resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw]
            os.access(MARK, os.F_OK)
            for _ in range(times):
                await step()
                os.access(MARK, os.F_OK)
                switches.append(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw)
            print(statistics.median(after - before for before, after in pairwise(switches)))


# ---- the process that counts ---------------------------------------------------------------------


def run(name: str, times: int, *before: str) -> str:
    """What a process prints that takes a step in a new directory."""
    with tempfile.TemporaryDirectory(prefix="aiofs-steps-") as directory:
        program = [sys.executable, "-m", "benchmarks.steps", "--take", name, "--times", str(times)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*before, *program], cwd=directory, env=environment, capture_output=True, text=True
        )
    if done.returncode:
        sys.exit(f"benchmarks.steps: {name}: {done.stderr.strip()}")
    return done.stdout


def traced(name: str, times: int) -> tuple[str, list[list[str]]]:
    """The thread that runs the loop, and the lines of strace of each step."""
    with tempfile.NamedTemporaryFile("r", prefix="aiofs-steps-", suffix=".strace") as trace:
        run(name, times, "strace", "-f", "-qq", "-o", trace.name)
        text = trace.read()
    _, *taken, _ = re.split(rf'^.*"{MARK}".*\n', text, flags=re.MULTILINE)
    lines = [[line for line in step.splitlines() if OURS not in line] for step in taken]
    return text.split(maxsplit=1)[0], lines


def counted(loop: str, taken: Sequence[Sequence[str]]) -> list[Counter[tuple[bool, str]]]:
    """The calls of each step, by whether the loop's thread made them, and their names."""
    found = [[match for line in lines if (match := CALL.match(line))] for lines in taken]
    return [
        Counter((match[1] == loop, UNKNOWN.get(match[2], match[2])) for match in calls)
        for calls in found
    ]


def row(name: str, times: int) -> Row:
    each = counted(*traced(name, times))
    medians = {call: statistics.median(step[call] for step in each) for call in {*chain(*each)}}

    def said(here: bool) -> str:
        calls = {call: count for (on_loop, call), count in medians.items() if on_loop is here}
        ordered = sorted(calls, key=lambda call: (-calls[call], call))
        return ", ".join(f"{call} {calls[call]:g}" for call in ordered if calls[call]) or "-"

    total = statistics.median(step.total() for step in each)
    return (name, f"{total:g}", said(True), said(False), run(name, times).strip())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steps", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--only", metavar="STEP,...", help=f"some of {', '.join(NAMES)}")
    add("--times", type=int, default=100, help="how often a step is taken (default: 100)")
    add("--show", choices=NAMES, help="print every call of one step")
    add("--take", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.take:
        take(options.take, options.times)
        return
    if not shutil.which("strace"):
        sys.exit("benchmarks.steps: needs strace")
    if options.show:
        print("\n".join(traced(options.show, 2)[1][1]))
        return
    names = options.only.split(",") if options.only else NAMES
    if unknown := {*names} - {*NAMES}:
        parser.error(f"--only {', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
    head = ("step", "calls", "on the loop's thread", "on other threads", "switches")
    print(table(head, [row(name, options.times) for name in names]))


if __name__ == "__main__":
    main()
