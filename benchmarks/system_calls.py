"""Counts the system calls of one awaited O_DIRECT read, over all threads, by strace.

    python -m benchmarks.system_calls count FILE OFFSETS BLOCK READS LOOP    prints JSON
    python -m benchmarks.system_calls read FILE OFFSETS BLOCK READS LOOP     what strace runs

A program that makes twice as many reads makes the additional calls; what starts and ends a program
is in both. The time is that of a read under strace.
"""

from __future__ import annotations

import array
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ATTEMPTS = 3
START = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from benchmarks import system_calls; system_calls.main()"
)


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == "read":
        read_all(*arguments)
    else:
        print(json.dumps(counted(*arguments)))


def read_all(path: str, offsets_path: str, block: str, reads: str, loop_name: str) -> None:
    from aiofs import aio
    from aiofs.bench.measuring.data import content
    from aiofs.bench.measuring.measure import new_loop
    from aiofs.bench.measuring.work import cycle_to, new_buffer

    offsets = array.array("q", Path(offsets_path).read_bytes())
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    buffer = new_buffer(int(block))
    request = aio.aiocb(descriptor, buffer)

    async def read() -> None:
        for request.aio_offset in cycle_to(offsets, int(reads)):
            aio.aio_read(request)
            await request
        assert buffer[:] == content(request.aio_offset, int(block)), "wrong bytes"

    loop = new_loop(loop_name)
    loop.run_until_complete(read())
    loop.close()
    os.close(descriptor)


def counted(
    path: str, offsets_path: str, block: str, reads: str, loop_name: str
) -> dict[str, object]:
    """The least of some counts: threads that wait longer, on a busy machine, make more calls."""
    if shutil.which("strace") is None:
        return {"unavailable": "strace is not installed"}
    found, seconds = [], 0.0
    for _ in range(ATTEMPTS):
        calls = []
        for count in (int(reads), 2 * int(reads)):
            start = time.perf_counter()
            traced = under_strace(path, offsets_path, block, str(count), loop_name)
            if isinstance(traced, str):
                return {"unavailable": traced}
            calls.append(traced)
            seconds = (time.perf_counter() - start) / count
        found.append((calls[1] - calls[0]) / int(reads))
    return {"time": seconds, "system calls": min(found)}


def under_strace(*arguments: str) -> int | str:
    """The system calls of the role `read`; or why they cannot be counted."""
    root = str(Path(__file__).parent.parent)
    with tempfile.TemporaryDirectory() as folder:
        summary = Path(folder) / "summary"
        command = ["strace", "-f", "-c", "-o", str(summary)]
        program = [sys.executable, "-c", START, root, "read", *arguments]
        done = subprocess.run([*command, *program], capture_output=True, text=True)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["strace failed"])[-1]
        lines = [line.split() for line in summary.read_text().splitlines()]
    return sum(
        int(line[3])
        for line in lines
        if len(line) >= 5 and re.fullmatch(r"\d+", line[3]) and line[-1] != "total"
    )


if __name__ == "__main__":
    main()
