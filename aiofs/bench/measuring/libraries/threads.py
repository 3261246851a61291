"""C threads that do the I/O beside an idle loop: the floor of loop stall."""

from __future__ import annotations

import array
import asyncio
import contextlib
import ctypes
import os
from typing import Any

from aiofs.bench.measuring import native
from aiofs.bench.measuring.libraries.base import Library, Offsets


class Threads(Library):
    """C threads, one fewer than cores, that read, write or save while the loop is idle.

    They show how much the machine itself delays a loop while this I/O runs beside it.
    """

    batched = True

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.library = native.beside()
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
        await self.carry_out(array.array("q", offsets))
        return self.buffers[0]

    mixed = read

    async def write(self, lane: int, offsets: Offsets) -> None:
        await self.carry_out(array.array("q", (~offset for offset in offsets)))

    async def save(self, lane: int, offsets: Offsets) -> None:
        await self.carry_out(array.array("q", (~offset for offset in offsets)), save=True)

    async def carry_out(self, taken: array.array[int], save: bool = False) -> None:
        loop = asyncio.get_running_loop()
        order = (ctypes.c_int64 * len(taken)).from_buffer(taken)
        finished: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self.done, finished.set_result, None)
        job = self.library.start(
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
            error = self.library.finish(job)
        if error:
            raise OSError(error, os.strerror(error), self.work.path)
