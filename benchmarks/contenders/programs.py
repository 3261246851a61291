"""Other programs: fio's engines and dd; programs with many requests; Python importing modules."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from .. import native
from ..work import Unavailable, Work, load_cache
from .base import Finished

AIOFS_RUN = (sys.executable, "-m", "aiofs", "run")


class Fio:
    """fio with one of its engines, on the same file (fio draws random offsets of its own).

    `through`: under `aiofs run`, with this engine of aiofs.
    """

    def __init__(self, engine: str, through: str | None = None) -> None:
        self.engine = engine
        self.through = through

    def command(self, work: Work) -> list[str]:
        if not shutil.which("fio"):
            raise Unavailable("fio is not installed")
        if not work.direct:
            load_cache(work.path)
        return [
            *(AIOFS_RUN if self.through else ()),
            *((f"--engine={self.through}", "--") if self.through else ()),
            "fio",
            "--name=bench",
            f"--filename={work.path}",
            f"--size={work.file.size}",
            "--readonly",
            "--allow_file_create=0",
            f"--rw={'read' if work.sequential else 'randread'}",
            f"--bs={work.block}",
            f"--direct={int(work.direct)}",
            f"--invalidate={int(work.direct)}",
            f"--ioengine={self.engine}",
            f"--iodepth={work.depth}",
            f"--runtime={round((work.seconds + work.observed) * 1000)}ms",
            "--time_based",
            "--output-format=json",
        ]

    def metrics(self, work: Work, finished: Finished) -> dict[str, float]:
        job = json.loads(finished.stdout[finished.stdout.index("{") :])["jobs"][0]
        read, time = job["read"], 1 / job["read"]["iops"]
        latency = read["clat_ns"]["percentile"]
        # fio counts only its own thread, and posixaio uses other threads.
        cpu = {"cpu": time * (job["usr_cpu"] + job["sys_cpu"]) / 100}
        return {
            "time": time,
            **(cpu if self.engine != "posixaio" else {}),
            "p50": latency["50.000000"] * 1e-9,
            "p99": latency["99.000000"] * 1e-9,
            "p99.9": latency["99.900000"] * 1e-9,
        }


class Dd:
    """dd from the file to /dev/null, in pieces of the case's size."""

    def command(self, work: Work) -> list[str]:
        if not shutil.which("dd"):
            raise Unavailable("dd is not installed")
        return ["env", "LC_ALL=C", "dd", f"if={work.path}", "of=/dev/null", f"bs={work.block}"]

    def metrics(self, work: Work, finished: Finished) -> dict[str, float]:
        printed = re.search(r"copied, ([0-9.e+-]+) s", finished.stderr)
        if printed is None:
            raise Unavailable(f"this dd prints no time: {finished.stderr.strip()}")
        return {"time": float(printed[1]) / (work.file.size // work.block)}


class Crowd:
    """Many requests in flight, by one of aiofs's faces: native/crowd.c, or crowd.py."""

    START = (
        "import sys; sys.path.append(sys.argv.pop(1)); from benchmarks import crowd; crowd.main()"
    )
    ROOT = Path(__file__).parent.parent.parent

    def __init__(self, face: str, count: int) -> None:
        self.face = face
        self.count = count

    def command(self, work: Work) -> list[str]:
        python = [sys.executable, "-c", self.START, str(self.ROOT)]
        return [
            *([str(native.crowd())] if self.face == "C" else python),
            "direct" if work.direct else "pipe",
            work.path,
            str(self.count),
            str(work.block),
            str(work.seconds),
            *([] if self.face == "C" else [work.loop]),
        ]

    def metrics(self, work: Work, finished: Finished) -> dict[str, float]:
        return json.loads(finished.stdout)  # type: ignore[no-any-return]


class Round:
    """Processes that hand a locked file round, or a turn by futexes. `time` is the median."""

    def __init__(self, by: str) -> None:
        self.by = by

    def command(self, work: Work) -> list[str]:
        counts = [str(work.depth), str(work.sweep)]
        if self.by == "futex":
            return [str(native.futex_round()), *counts]
        return [str(native.hand_round()), f"{work.path}-volume", *counts]

    def metrics(self, work: Work, finished: Finished) -> dict[str, float]:
        number = r"([0-9.]+)"
        form = f"{number} hand-overs in .* time {number} s.*: median {number} us, worst {number} ms"
        printed = re.match(form, finished.stdout)
        if printed is None:
            raise Unavailable(f"printed no hand-overs: {finished.stdout.strip()}")
        count, cpu, median, worst = map(float, printed.groups())
        return {"time": median * 1e-6, "cpu": cpu / count, "worst": worst * 1e-3}


class Importing:
    """A new Python process that imports modules, one after the other."""

    def __init__(self, *modules: str) -> None:
        self.modules = modules

    def command(self, work: Work) -> list[str]:
        statement = (
            "import json, time; start = time.perf_counter(); "
            f"import {', '.join(self.modules)}; "
            "print(json.dumps({'time': time.perf_counter() - start}))"
        )
        return [sys.executable, "-c", statement]

    def metrics(self, work: Work, finished: Finished) -> dict[str, float]:
        return json.loads(finished.stdout)  # type: ignore[no-any-return]
