"""Programs of single goals: dd; programs with many requests; Python importing modules."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from aiofs.bench.measuring.cache import Unavailable
from aiofs.bench.measuring.work import Work
from aiofs.bench.programs import Finished

from .. import native


class Named:
    """A program of which a report says no more than its name."""

    def about(self) -> dict[str, str]:
        return {}


class Dd(Named):
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


class Crowd(Named):
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


class Round(Named):
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


class Importing(Named):
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
