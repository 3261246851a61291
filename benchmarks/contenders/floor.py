"""The floor in C: the same system calls alone, or on threads beside a loop with a heartbeat."""

from __future__ import annotations

import array
import asyncio
import contextlib
import ctypes
import json
import os
from typing import Any

from .. import native
from ..work import Work
from .base import Finished, Library, Offsets


class Floor:
    """The program floor.c, with the same file and the same order of offsets."""

    def command(self, work: Work) -> list[str]:
        seconds = work.seconds or work.observed
        return [
            str(native.floor()),
            work.operation,
            work.path,
            work.offsets_path(),
            str(work.block),
            str(work.depth),
            str(seconds),
        ]

    def metrics(self, work: Work, finished: Finished) -> dict[str, float]:
        return json.loads(finished.stdout)  # type: ignore[no-any-return]


class Threads(Library):
    """C threads, one fewer than cores, that read or save at the offsets while the loop is idle.

    They show how much the machine itself delays a loop while this I/O runs beside it.
    """

    batched = True

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.descriptor = self.open_descriptor(stack)
        self.done = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        stack.callback(os.close, self.done)
        self.threads = max(1, min(self.work.depth, len(os.sched_getaffinity(0)) - 1))
        addresses = [
            ctypes.addressof(ctypes.c_char.from_buffer(buffer))
            for buffer in self.buffers[: self.threads]
        ]
        self.addresses = (ctypes.c_void_p * self.threads)(*addresses)

    async def read(self, lane: int, offsets: Offsets) -> Any:
        await self.carry_out(offsets)
        return self.buffers[0]

    async def save(self, lane: int, offsets: Offsets) -> None:
        await self.carry_out(offsets, save=True)

    async def carry_out(self, offsets: Offsets, save: bool = False) -> None:
        library, loop = native.beside(), asyncio.get_running_loop()
        taken = array.array("q", offsets)
        order = (ctypes.c_int64 * len(taken)).from_buffer(taken)
        finished: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self.done, finished.set_result, None)
        job = library.start(
            *(self.descriptor, save, self.work.block, order, len(taken), self.done),
            *(self.addresses, self.threads),
        )
        if not job:
            raise MemoryError
        try:
            await finished
        finally:
            loop.remove_reader(self.done)
            os.eventfd_read(self.done)
            error = library.finish(job)
        if error:
            raise OSError(error, os.strerror(error), self.work.path)
