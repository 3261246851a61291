"""Programs of single goals: dd, cp, strace; programs with many requests; imports by Python."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from aiofs.bench.measuring.cache import Unavailable
from aiofs.bench.measuring.data import PER_FOLDER, content
from aiofs.bench.measuring.work import Work
from aiofs.bench.programs import Finished

from .. import native, system_calls


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


class TreeCopy(Named):
    """Makes a copy of the data file's tree. `command` removes an old one, `metrics` this one."""

    def command(self, work: Work) -> list[str]:
        shutil.rmtree(self.target(work), ignore_errors=True)
        return self.copying(f"{work.path}.tree", self.target(work), work)

    def copying(self, source: str, target: str, work: Work) -> list[str]:
        raise NotImplementedError

    def target(self, work: Work) -> str:
        return f"{work.path}.copy"

    def metrics(self, work: Work, finished: Finished) -> dict[str, float]:
        for at, path in work.paths().items():
            copy = Path(self.target(work) + path.removeprefix(f"{work.path}.tree"))
            if not copy.exists() or copy.read_bytes() != content(at, work.block):
                raise Unavailable(f"wrong bytes in {copy}")
        shutil.rmtree(self.target(work))
        return json.loads(finished.stdout)  # type: ignore[no-any-return]


class Cp(TreeCopy):
    """`cp -r`."""

    TIMED = (
        "import json, os, subprocess, sys, time; start = time.perf_counter(); "
        "subprocess.run(['cp', '-r', *sys.argv[1:3]], check=True); "
        "files = int(sys.argv[3]); times = os.times(); "
        "print(json.dumps({'time': (time.perf_counter() - start) / files, "
        "'cpu': (times.children_user + times.children_system) / files}))"
    )

    def copying(self, source: str, target: str, work: Work) -> list[str]:
        if not shutil.which("cp"):
            raise Unavailable("cp is not installed")
        return [sys.executable, "-c", self.TIMED, source, target, str(work.sweep)]


class SaveTree(TreeCopy):
    """Threads that save the files in C."""

    THREADS = 4

    def copying(self, source: str, target: str, work: Work) -> list[str]:
        numbers = (work.sweep, PER_FOLDER, work.block, self.THREADS)
        return [str(native.save_tree()), source, target, *map(str, numbers)]


class SystemCalls(Named):
    """The system calls of an awaited read: system_calls.py."""

    READS = 100
    ROOT = Path(__file__).parent.parent.parent

    def command(self, work: Work) -> list[str]:
        arguments = (work.path, work.offsets_path(), str(work.block), str(self.READS), work.loop)
        return [sys.executable, "-c", system_calls.START, str(self.ROOT), "count", *arguments]

    def metrics(self, work: Work, finished: Finished) -> dict[str, float]:
        return json.loads(finished.stdout)  # type: ignore[no-any-return]


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
