"""Programs that are measured: the floor in C, and fio with its engines."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Protocol

from aiofs.bench.measuring import native
from aiofs.bench.measuring.cache import Unavailable, drop_cache, load_cache
from aiofs.bench.measuring.data import PAGE
from aiofs.bench.measuring.spread import QUANTILES
from aiofs.bench.measuring.work import Work

Finished = subprocess.CompletedProcess[str]

AIOFS_RUN = (sys.executable, "-m", "aiofs", "run")


class Program(Protocol):
    """A program that does the work, measures it and prints the result."""

    def command(self, work: Work) -> list[str]:
        """What to run. Raises Unavailable if the program is missing, or cannot do this work."""

    def metrics(self, work: Work, finished: Finished) -> dict[str, float]:
        """What the finished program measured."""

    def about(self) -> dict[str, str]:
        """What a report says of the program."""


class Floor:
    """The program floor.c, with the same file, the same order of offsets and the same buffers."""

    def command(self, work: Work) -> list[str]:
        state = "direct" if work.direct else "cold" if work.cold else "cached"
        return [
            str(native.floor()),
            work.operation,
            work.path,
            work.offsets_path(),
            str(work.block),
            str(work.depth),
            str(work.shift),
            state,
            str(work.seconds or work.observed),
            str(work.sweep or 0) if work.seconds else "0",
            str(int(work.verify and (work.writes or work.file.fill > 0))),
        ]

    def metrics(self, work: Work, finished: Finished) -> dict[str, float]:
        return json.loads(finished.stdout)  # type: ignore[no-any-return]

    def about(self) -> dict[str, str]:
        compiler = native.compiler()
        return {
            "version": f"pread and pwrite, compiled by {first_line(*compiler, '--version')}",
            "reads into": "buffers that lie as the given ones",
        }


class Fio:
    """fio with one of its engines, on the same file (fio draws random offsets of its own).

    engine: "": psync for one operation at a time, io_uring for more. through: under `aiofs run`,
    with this engine of aiofs.
    """

    def __init__(self, engine: str = "", through: str | None = None) -> None:
        self.engine = engine
        self.through = through

    def command(self, work: Work) -> list[str]:
        if not shutil.which("fio"):
            raise Unavailable("fio is not installed")
        if work.operation not in ("read", "write", "mixed", "ranges_into"):
            raise Unavailable(f"has no {work.operation}")
        if work.shift:
            raise Unavailable("cannot place its buffers off a page boundary")
        if work.cold:
            drop_cache(work.path)
        elif not work.direct:
            load_cache(work.path)
        return [
            *(AIOFS_RUN if self.through else ()),
            *((f"--engine={self.through}", "--") if self.through else ()),
            "fio",
            "--name=bench",
            f"--filename={work.path}",
            f"--size={work.file.size}",
            *(() if work.writes else ("--readonly",)),
            "--allow_file_create=0",
            *self.pattern(work),
            *self.sizes(work),
            f"--direct={int(work.direct)}",
            f"--iomem_align={PAGE}",
            f"--invalidate={int(work.direct or work.cold)}",
            f"--ioengine={self.engine or ('psync' if work.depth == 1 else 'io_uring')}",
            f"--iodepth={work.depth}",
            *self.length(work),
            f"--percentile_list={self.percentiles()}",
            "--output-format=json",
        ]

    def pattern(self, work: Work) -> list[str]:
        names = {"read": "read", "write": "write", "mixed": "rw", "ranges_into": "read"}
        order = "" if work.sequential else "rand"
        rw = f"--rw={order}{names[work.operation]}"
        if work.operation != "mixed":
            return [rw]
        return [rw, f"--rwmixread={work.reads}", "--unified_rw_reporting=1"]

    def sizes(self, work: Work) -> list[str]:
        if work.operation != "ranges_into":
            return [f"--bs={work.block}"]
        # Of a file with a map of what was read, fio would read each block once.
        return [f"--bsrange={PAGE}-{work.block}", "--norandommap"]

    def length(self, work: Work) -> list[str]:
        if work.operation == "ranges_into":
            return [f"--number_ios={work.sweep}", f"--io_size={(work.sweep or 1) * work.block}"]
        if work.sweep and work.seconds:
            return [f"--number_ios={work.sweep}"]
        milliseconds = max(1, round((work.seconds + work.observed) * 1000))
        runtime = f"--runtime={milliseconds}ms"
        # A second pass over the file would find it in the cache.
        return [runtime] if work.cold else [runtime, "--time_based"]

    def percentiles(self) -> str:
        return ":".join(f"{part * 100:g}" for part in QUANTILES.values() if 0 < part < 1)

    def metrics(self, work: Work, finished: Finished) -> dict[str, float]:
        job = json.loads(finished.stdout[finished.stdout.index("{") :])["jobs"][0]
        moved = job["read" if work.operation == "ranges_into" else work.operation]
        if not moved["iops"]:
            raise Unavailable("moved no bytes in this time")
        time, latency = 1 / moved["iops"], moved["clat_ns"]
        # fio counts only its own thread, and posixaio uses other threads.
        cpu = {"cpu": time * (job["usr_cpu"] + job["sys_cpu"]) / 100}
        each = {round(float(part) / 100, 9): at for part, at in latency["percentile"].items()}
        each |= {0: latency["min"], 1: latency["max"]}
        return {
            "time": time,
            **(cpu if self.engine != "posixaio" else {}),
            **{name: each[part] * 1e-9 for name, part in QUANTILES.items() if part in each},
        }

    def about(self) -> dict[str, str]:
        return {
            "version": first_line("fio", "--version"),
            "reads into": "its own buffers, page-aligned",
        }


def first_line(*command: str) -> str:
    """The first line that a command prints, or "not installed"."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError:
        return "not installed"
    return done.stdout.partition("\n")[0]
