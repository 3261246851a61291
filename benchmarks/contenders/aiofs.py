"""aiofs, by each of the interfaces that a user can choose for the same bytes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
from typing import Any

from ..work import content
from .base import Library, Offsets

# `for request.aio_offset in offsets` sets the field in each iteration, as C does by
# `for (...) { request.aio_offset = offsets[i]; ...`.


class Requests(Library):
    """`aio_read(request)`, then `await request`, on a plain descriptor."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        from aiofs import aio

        self.aio = aio
        self.descriptor = self.open_descriptor(stack)
        self.requests = [aio.aiocb(self.descriptor, buffer) for buffer in self.buffers]

    async def read(self, lane: int, offsets: Offsets) -> Any:
        aio_read, request = self.aio.aio_read, self.requests[lane]
        for request.aio_offset in offsets:
            aio_read(request)
            await request
        return request.aio_buf

    async def write(self, lane: int, offsets: Offsets) -> None:
        aio_write, request = self.aio.aio_write, self.requests[lane]
        for request.aio_offset in offsets:
            aio_write(request)
            await request

    async def save(self, lane: int, offsets: Offsets) -> None:
        aio_write, aio_fsync, request = self.aio.aio_write, self.aio.aio_fsync, self.requests[lane]
        for request.aio_offset in offsets:
            aio_write(request)
            await request
            aio_fsync(os.O_DSYNC, request)
            await request


class PosixCalls(Requests):
    """As in C, without a loop: `aio_read`, `aio_error`, `aio_return` on one request."""

    def read(self, lane: int, offsets: Offsets) -> Any:
        aio, request = self.aio, self.requests[lane]
        aio_read, aio_error, aio_return = aio.aio_read, aio.aio_error, aio.aio_return
        waiting = [request]
        for request.aio_offset in offsets:
            aio_read(request)
            while aio_error(request) == errno.EINPROGRESS:
                aio.aio_suspend(waiting)
            aio_return(request)
        return request.aio_buf


class Lists(Requests):
    """`lio_listio` of `depth` reads, and one callback when all have ended."""

    batched = True

    async def read(self, lane: int, offsets: Offsets) -> Any:
        aio, loop = self.aio, asyncio.get_running_loop()
        for request in self.requests:
            request.aio_lio_opcode = aio.LIO_READ
        finished = aio.sigevent(aio.SIGEV_LOOP)
        for batch in batches(offsets, len(self.requests)):
            done = loop.create_future()
            finished.sigev_notify_function = done.set_result
            requests = self.requests[: len(batch)]
            for request, offset in zip(requests, batch, strict=True):
                request.aio_offset = offset
            aio.lio_listio(aio.LIO_NOWAIT, requests, finished)
            await done
        return self.requests[0].aio_buf


class Handle(Library):
    """`await access_handle.read(buffer, at=offset)` in a private volume."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        file = await self.file_handle(stack)
        self.handle = await stack.enter_async_context(file.create_access_handle())

    async def file_handle(self, stack: contextlib.AsyncExitStack) -> Any:
        import aiofs

        volume = stack.enter_context(aiofs.PrivateVolume(self.work.directory))
        return await volume.root.get_file_handle(self.work.file.name)

    async def read(self, lane: int, offsets: Offsets) -> Any:
        read, buffer = self.handle.read, self.buffers[lane]
        for offset in offsets:
            await read(buffer, at=offset)
        return buffer

    async def write(self, lane: int, offsets: Offsets) -> None:
        write, buffer = self.handle.write, self.buffers[lane]
        for offset in offsets:
            await write(buffer, at=offset)


class Gathered(Handle):
    """`gather` of `depth` new awaitables, repeatedly."""

    batched = True

    async def read(self, lane: int, offsets: Offsets) -> Any:
        read = self.handle.read
        for batch in batches(offsets, len(self.buffers)):
            pairs = zip(self.buffers, batch, strict=False)
            await asyncio.gather(*(read(buffer, at=offset) for buffer, offset in pairs))
        return self.buffers[0]


class SyncHandle(Handle):
    """`sync_access_handle.read(buffer, at=offset)` in a private volume."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        file = await self.file_handle(stack)
        self.sync_handle = stack.enter_context(file.create_sync_access_handle())

    def read(self, lane: int, offsets: Offsets) -> Any:
        read, buffer = self.sync_handle.read, self.buffers[lane]
        for offset in offsets:
            read(buffer, at=offset)
        return buffer


class MemoryHandle(SyncHandle):
    """The same in a memory volume, which is filled in the same way as the files on disk."""

    async def file_handle(self, stack: contextlib.AsyncExitStack) -> Any:
        import aiofs

        volume = stack.enter_context(aiofs.MemoryVolume())
        file = await volume.root.get_file_handle(self.work.file.name, create=True)
        fill = self.work.file.fill
        with file.create_sync_access_handle() as handle:
            for offset in range(0, self.work.file.size, fill):
                handle.write(content(offset, fill), at=offset)
        return file


class Opening(Handle):
    """`create_sync_access_handle` and `close`: open, lock, close."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.file = await self.file_handle(stack)

    def open(self, lane: int, offsets: Offsets) -> None:
        create = self.file.create_sync_access_handle
        for _ in offsets:
            create().close()


class WaitingOpening(Opening):
    """The same with `wait=`, of a file that nobody else has open."""

    def open(self, lane: int, offsets: Offsets) -> None:
        create = self.file.create_sync_access_handle
        for _ in offsets:
            create(wait=60).close()


class Writable(Opening):
    """`create_writable`, one write of the whole content, and the commit."""

    async def replace(self, lane: int, offsets: Offsets) -> None:
        create, payload = self.file.create_writable, self.payload
        for _ in offsets:
            async with create() as stream:
                await stream.write(payload)


class ExclusiveHandle(Opening):
    """A sync access handle in mode `exclusive`, which begins with a copy of the old content."""

    def replace(self, lane: int, offsets: Offsets) -> None:
        create, payload = self.file.create_sync_access_handle, self.payload
        for _ in offsets:
            with create(mode="exclusive") as handle:
                handle.write(payload)


def batches(offsets: Offsets, size: int) -> Any:
    """The offsets in portions of `size`. The last portion may be smaller."""
    offsets = iter(offsets)
    return iter(lambda: list(itertools.islice(offsets, size)), [])
