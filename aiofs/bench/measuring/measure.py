"""Measures one Python library doing one work on one loop, in a process of its own.

The passes, in this order: a warm-up, which also finds how much work fills the time; the timed pass,
with nothing beside the work (time and CPU per operation, memory); a heartbeat on the idle loop; the
observed pass, with the heartbeat and the latency of every operation; and a pass that checks bytes.
Metrics are in seconds and bytes.

The measurement itself must not block the loop. So the garbage collector is off, as in `timeit`, and
the garbage of a go is freed while the heartbeat is stopped.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import functools
import gc
import importlib
import inspect
import itertools
import math
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any

from aiofs.bench.measuring.cache import Unavailable, drop_cache
from aiofs.bench.measuring.data import PAGE, MiB, content, payload
from aiofs.bench.measuring.heartbeat import Heartbeat
from aiofs.bench.measuring.libraries.base import Library
from aiofs.bench.measuring.spread import QUANTILES, percentile
from aiofs.bench.measuring.work import Offsets, Work, cycle_to, shares

Metrics = dict[str, float]

WARM_UP = 128
WARM_UP_BYTES = 16 * MiB
IDLE_SECONDS = 0.25
LONGEST = 2_000_000
SPAWNED_AT_ONCE = 100
CHECKED = 64


def in_this_process(library: str, arguments: Sequence[Any], work: str) -> dict[str, Any]:
    """Measures a class, `module:name`. Returns its metrics and what it is, or why it cannot."""
    module, _, name = library.partition(":")
    try:
        make = getattr(importlib.import_module(module), name)
        return measure(functools.partial(make, *arguments), Work.from_json(work))
    except Unavailable as error:
        return {"unavailable": str(error)}
    except OSError as error:
        return {"unavailable": f"failed: {error}"}


def measure(make: Callable[[Work], Library], work: Work) -> dict[str, Any]:
    loop = new_loop(work.loop)
    stack = contextlib.AsyncExitStack()
    try:
        library = make(work)
        loop.run_until_complete(library.prepare(stack))
        metrics = Measurement(loop, library).metrics()
        return {"metrics": metrics, "about": library.about()}
    finally:
        loop.run_until_complete(stack.aclose())
        loop.close()


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "asyncio":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


class Measurement:
    """The passes over the operation of one library."""

    def __init__(self, loop: asyncio.AbstractEventLoop, library: Library) -> None:
        self.loop = loop
        self.library = library
        self.work = library.work
        self.operation = library.operation()
        self.awaited = inspect.iscoroutinefunction(self.operation)
        self.tasks: list[asyncio.Task[None]] = []

    def metrics(self) -> Metrics:
        gc.disable()
        offsets = self.warm_up()
        metrics: Metrics = {}
        if self.work.seconds:
            metrics |= self.timed(offsets)
        metrics |= self.observed(offsets, with_time=not self.work.seconds)
        metrics |= self.library.metrics()
        if self.work.verify:
            self.check()
        return metrics

    def warm_up(self) -> Offsets:
        """Finds how fast the operation is. Returns the offsets of one go."""
        offsets = self.work.offsets()
        most = min(WARM_UP // self.library.operations, WARM_UP_BYTES // self.work.block)
        first = cycle_to(offsets, max(1, most))
        for _ in range(2):
            self.make_ready()
            start = time.perf_counter()
            self.go(first)
            each = (time.perf_counter() - start) / len(first)
        seconds = self.work.seconds or self.work.observed
        longest = len(offsets) if self.work.cold else LONGEST
        return cycle_to(offsets, self.work.sweep or min(longest, math.ceil(seconds / each)))

    def timed(self, offsets: Offsets) -> Metrics:
        before = reset_peak_memory()
        metrics = self.repeat(offsets, self.work.seconds)
        return {**metrics, "memory": peak_memory() - before}

    def observed(self, offsets: Offsets, with_time: bool) -> Metrics:
        stamps: list[list[int]] = []

        def stamped(share: Offsets) -> Iterator[int]:
            times: list[int] = []
            stamps.append(times)
            return stamp(share, times)

        each = iter if self.library.batched else stamped
        if not self.awaited:
            metrics = self.repeat(self.shortened(offsets), self.work.observed, each)
            return (metrics if with_time else {}) | self.latencies(stamps)

        idle, busy = Heartbeat(self.loop), Heartbeat(self.loop)
        idle_seconds = min(max(self.work.observed, IDLE_SECONDS / 5), IDLE_SECONDS)
        with idle:
            self.loop.run_until_complete(asyncio.sleep(idle_seconds))
        metrics = self.repeat(self.shortened(offsets), self.work.observed, each, busy)
        return {
            **(metrics if with_time else {}),
            **self.latencies(stamps),
            **stall("stall", busy.lateness),
            **stall("idle", idle.lateness),
        }

    def latencies(self, stamps: list[list[int]]) -> Metrics:
        if self.library.batched:
            return {}
        taken = sorted(
            after - before for times in stamps for before, after in itertools.pairwise(times)
        )
        return {name: percentile(taken, part) * 1e-9 for name, part in QUANTILES.items()}

    def shortened(self, offsets: Offsets) -> Offsets:
        """Cuts a calibrated go, so that goes are short enough for the given time."""
        return offsets if self.work.sweep else offsets[: math.ceil(len(offsets) / 4)]

    def repeat(
        self,
        offsets: Offsets,
        seconds: float,
        each: Callable[[Offsets], Iterable[int]] = iter,
        beside: contextlib.AbstractContextManager[Any] | None = None,
    ) -> Metrics:
        """Runs goes until the time is over. Returns seconds per operation, elapsed and of CPU."""
        count, wall, cpu = 0, 0.0, 0.0
        while wall < seconds:
            self.tasks.clear()
            self.make_ready()
            with beside or contextlib.nullcontext():
                cpu_start, start = time.process_time(), time.perf_counter()
                self.go(offsets, each)
                wall += time.perf_counter() - start
                cpu += time.process_time() - cpu_start
            count += len(offsets) * self.library.operations
        return {"time": wall / count, "cpu": cpu / count}

    def make_ready(self) -> None:
        if self.work.cold:
            drop_cache(self.work.path)
        self.library.make_ready()

    def go(self, offsets: Offsets, each: Callable[[Offsets], Iterable[int]] = iter) -> Any:
        """Carries out the operation once at each offset. Returns the bytes of the last read."""
        if not self.awaited:
            return self.operation(0, each(offsets))
        lanes = self.library.lanes
        if lanes == 1 or len(offsets) == 1:
            return self.loop.run_until_complete(self.operation(0, each(offsets)))
        dealt = enumerate(shares(offsets, lanes))
        coroutines = (self.operation(lane, each(share)) for lane, share in dealt)
        return self.loop.run_until_complete(side_by_side(coroutines, lanes, self.tasks))

    def check(self) -> None:
        """Checks bytes that are read and written at some offsets; of large blocks, some pages."""
        right = self.loop.run_until_complete(self.library.right_bytes())
        if right is not None:
            self.insist(right, 0)
            return
        for offset in self.work.offsets()[:CHECKED]:
            if self.work.operation in ("write", "save", "replace") or offset < 0:
                self.check_write(offset if offset >= 0 else ~offset, offset)
            elif self.work.operation in ("read", "mixed", "whole", "locked"):
                self.check_read(offset)

    def check_read(self, offset: int) -> None:
        block, work = self.work.block, self.work
        self.library.buffers[0][:] = bytes(block)
        known = work.operation != "mixed" and work.file.fill
        data = memoryview(self.go(array.array("q", [offset])))
        with open(self.library.path, "rb", buffering=0) as file:
            right = len(data) == block
            for at in range(0, block, PAGE * max(1, block // PAGE // CHECKED)):
                size = min(PAGE, block - at)
                expected = content(offset + at, size) if known else None
                if expected is None:
                    expected = os.pread(file.fileno(), size, offset + at)
                right = right and data[at : at + PAGE] == expected
        self.insist(right, offset)

    def check_write(self, offset: int, argument: int) -> None:
        block, path = self.work.block, self.library.path
        self.library.buffers[0][:] = payload(block)
        with open(path, "r+b", buffering=0) as file:
            file.seek(offset)
            file.write(bytes(block))
        self.go(array.array("q", [argument]))
        # The file may be another one now.
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            self.insist(file.read(block) == payload(block), offset)

    def insist(self, right: bool, offset: int) -> None:
        if not right:
            raise AssertionError(f"wrong bytes at offset {offset} of {self.work.path}")


async def side_by_side(
    coroutines: Iterable[Coroutine[Any, Any, Any]], count: int, tasks: list[asyncio.Task[None]]
) -> None:
    """Runs long-lived coroutines. It starts them in portions and lets the loop turn in between.

    `gather` would add one callback for each coroutine to the loop's work. This function wakes once,
    at the end. The caller owns the list of tasks, and decides when to free it.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    left = count

    async def lane(coroutine: Coroutine[Any, Any, Any]) -> None:
        nonlocal left
        try:
            await coroutine
        except Exception as error:
            if not done.done():
                done.set_exception(error)
        left -= 1
        if not left and not done.done():
            done.set_result(None)

    for coroutine in coroutines:
        tasks.append(loop.create_task(lane(coroutine)))
        if len(tasks) % SPAWNED_AT_ONCE == 0:
            await asyncio.sleep(0)
    await done


def stamp(offsets: Offsets, times: list[int]) -> Iterator[int]:
    """Yields the offsets, and records the time of each. The time between two is a latency."""
    clock = time.perf_counter_ns
    for offset in offsets:
        times.append(clock())
        yield offset
    times.append(clock())


def stall(name: str, lateness: list[int]) -> Metrics:
    lateness = sorted(lateness) or [0]
    return {
        f"{name} p99.9": percentile(lateness, 0.999) * 1e-9,
        f"{name} worst": lateness[-1] * 1e-9,
        f"{name} beats": len(lateness),
    }


def reset_peak_memory() -> int:
    """Resets the peak of the process's resident memory. Returns the resident memory, in bytes."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return memory_field("VmRSS")


def peak_memory() -> int:
    return memory_field("VmHWM")


def memory_field(name: str) -> int:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    raise Unavailable(f"no {name} in /proc/self/status")
