"""Measures the same as native/crowd.c, in Python: requests are awaited on a loop.

    python -m benchmarks.crowd pipe|direct FILE COUNT BLOCK SECONDS LOOP

The steps and the line of JSON are those of crowd.c. The memory of a request includes its aiocb:
the aiocbs are made after the memory of the process is first read.
"""

from __future__ import annotations

import gc
import json
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiofs.bench.measuring.cache import Unavailable
from aiofs.bench.measuring.data import PAGE
from aiofs.bench.measuring.measure import memory_field, new_loop
from aiofs.bench.measuring.work import new_buffer

BATCH, SHARED, WARM_UP = 50, 1024, 1000


def main() -> None:
    kind, path, count, block, seconds, loop_name = sys.argv[1:]
    loop = new_loop(loop_name)
    gc.disable()
    kinds: dict[str, Callable[[str, int, int], Crowd]] = {"pipe": PipeCrowd, "direct": DirectCrowd}
    try:
        crowd = kinds[kind](path, int(count), int(block))
        result: dict[str, object] = dict(loop.run_until_complete(crowd.measure(float(seconds))))
    except (ImportError, Unavailable) as error:
        result = {"unavailable": str(error)}
    loop.close()
    print(json.dumps(result))


class Crowd:
    """`count` reads of one descriptor. The oldest read is that of turn `turn`."""

    descriptor: int
    requests: list[Any]

    def __init__(self, count: int, block: int) -> None:
        from aiofs import _core, aio

        self.aio, self.counters = aio, _core.counters
        _core.engine()
        self.count, self.block, self.turn = count, block, 0
        buffer = memoryview(new_buffer(SHARED * max(block, PAGE)))
        self.buffers = [buffer[at * block : (at + 1) * block] for at in range(SHARED)]

    def offset(self, turn: int) -> int:
        return 0

    def before_a_batch(self) -> None:
        """Writes what the oldest reads wait for, if they wait."""

    def wrong(self, turn: int) -> bool:
        """Returns whether a read moved wrong bytes into its buffer."""
        raise NotImplementedError

    def submit(self, turn: int) -> None:
        request = self.requests[turn % self.count]
        request.aio_buf = self.buffers[turn % SHARED]
        request.aio_offset = self.offset(turn)
        self.aio.aio_read(request)

    def fill(self) -> None:
        self.requests = [self.aio.aiocb(self.descriptor) for _ in range(self.count)]
        for turn in range(self.count):
            self.submit(turn)

    async def roll(self) -> None:
        """Awaits the oldest reads, and submits as many new ones."""
        self.before_a_batch()
        for turn in range(self.turn, self.turn + BATCH):
            request = self.requests[turn % self.count]
            if await request != self.block:
                raise AssertionError("a read was short")
            self.submit(turn + self.count)
        self.turn += BATCH

    async def warm_up(self) -> None:
        """Uses each request once more, so that the page faults of a first use are not timed.

        It also replaces the requests that completed before the last one was submitted.
        """
        while self.turn < max(WARM_UP, self.count):
            await self.roll()

    async def measure(self, seconds: float) -> dict[str, float]:
        own, kernel = memory_field("VmRSS"), kernel_memory()
        self.fill()
        own, kernel = memory_field("VmRSS") - own, kernel_memory() - kernel
        await self.warm_up()
        first, present, wall = self.turn, 0, 0.0
        cpu, start = time.process_time(), time.perf_counter()
        while wall < seconds:
            await self.roll()
            present += self.counters()["outstanding"]
            wall = time.perf_counter() - start
        cpu = time.process_time() - cpu
        done = self.turn - first
        self.cancel()
        await self.check()
        return {
            "time": wall / done,
            "cpu": cpu / done,
            "memory each": own / self.count,
            "kernel memory each": kernel / self.count,
            "outstanding": present * BATCH / done,
        }

    def cancel(self) -> None:
        self.aio.aio_cancel(self.descriptor)
        for request in self.requests:
            self.aio.aio_suspend([request])

    async def check(self) -> None:
        """Checks the bytes of a few more reads, one at a time."""
        self.before_a_batch()
        for turn in range(self.turn, self.turn + BATCH):
            self.submit(turn)
            await self.requests[turn % self.count]
            if self.wrong(turn):
                raise AssertionError("read other bytes than belong there")


class PipeCrowd(Crowd):
    """Reads of one pipe. Each message contains its own number."""

    def __init__(self, path: str, count: int, block: int) -> None:
        super().__init__(count, block)
        self.descriptor, self.feeder = os.pipe()
        self.messages = 0

    def before_a_batch(self) -> None:
        numbers = range(self.messages, self.messages + BATCH)
        packed = (struct.pack("<q", number) for number in numbers)
        messages = b"".join(number.ljust(self.block, b"\0") for number in packed)
        if os.write(self.feeder, messages) != len(messages):
            raise AssertionError("a write was short")
        self.messages += BATCH

    def wrong(self, turn: int) -> bool:
        (number,) = struct.unpack_from("<q", self.buffers[turn % SHARED])
        return bool(number != turn)


class DirectCrowd(Crowd):
    """Reads at random offsets of a file that is open with O_DIRECT."""

    def __init__(self, path: str, count: int, block: int) -> None:
        super().__init__(count, block)
        self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        self.blocks = os.fstat(self.descriptor).st_size // block

    def offset(self, turn: int) -> int:
        return ((turn * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 20) % self.blocks * self.block

    def wrong(self, turn: int) -> bool:
        (page,) = struct.unpack_from("<q", self.buffers[turn % SHARED])
        return bool(page != self.offset(turn) // PAGE * PAGE)


def kernel_memory() -> int:
    """The kernel memory of the whole system that cannot be reclaimed, in bytes."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return sum(int(fields[name].split()[0]) * 1024 for name in ("SUnreclaim", "KernelStack"))


if __name__ == "__main__":
    main()
