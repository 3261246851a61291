"""aiofs, by each of the interfaces that a user can choose for the same bytes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import itertools
import os
from typing import Any

import aiofs
from aiofs import _core, aio, files
from aiofs.bench.measuring.cache import Unavailable
from aiofs.bench.measuring.data import content
from aiofs.bench.measuring.libraries.base import Library, Offsets
from aiofs.bench.measuring.work import Work

# `for request.aio_offset in offsets` sets the field in each iteration, as C does by
# `for (...) { request.aio_offset = offsets[i]; ...`.


def by_volume(work: Work) -> Library:
    """aiofs as a program would use it that has its file in such a volume."""
    if work.volume == "file":
        return ByPath(work)
    if work.volume == "memory":
        return MemoryHandle(work)
    return Handle(work)


def sync_by_volume(work: Work) -> Library:
    """The same by blocking calls, which only handles have."""
    if work.volume == "file":
        raise Unavailable("a SyncAccessHandle needs volume=private, host or memory")
    return SyncMemoryHandle(work) if work.volume == "memory" else SyncHandle(work)


class Ours(Library):
    """Knows its version and its engine."""

    def about(self) -> dict[str, str]:
        return {
            **super().about(),
            "version": f"aiofs {aiofs.__version__}",
            "engine": _core.engine(),
        }


class ByPath(Ours):
    """`await pread(file, buffer, offset)` on a file that `aiofs.files.open` opened."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        opening = files.open(self.work.path, self.mode, buffering=0, opener=self.opener)
        self.file = await stack.enter_async_context(opening)

    async def read(self, lane: int, offsets: Offsets) -> Any:
        pread, file, buffer = files.pread, self.file, self.buffers[lane]
        for offset in offsets:
            await pread(file, buffer, offset)
        return buffer

    async def write(self, lane: int, offsets: Offsets) -> None:
        pwrite, file, buffer = files.pwrite, self.file, self.buffers[lane]
        for offset in offsets:
            await pwrite(file, buffer, offset)

    async def mixed(self, lane: int, offsets: Offsets) -> Any:
        file, buffer = self.file, self.buffers[lane]
        for offset in offsets:
            if offset >= 0:
                await files.pread(file, buffer, offset)
            else:
                await files.pwrite(file, buffer, ~offset)
        return buffer


class WholeFiles(Ours):
    """`await aiofs.read_bytes(path)`."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.paths = self.work.paths()

    async def whole(self, lane: int, offsets: Offsets) -> Any:
        read_bytes, paths, data = aiofs.read_bytes, self.paths, b""
        for offset in offsets:
            data = await read_bytes(paths[offset])
        return data


class Requests(Ours):
    """`aio_read(request)`, then `await request`, on a plain descriptor."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.descriptor = self.open_descriptor(stack)
        self.requests = [aio.aiocb(self.descriptor, buffer) for buffer in self.buffers]

    async def read(self, lane: int, offsets: Offsets) -> Any:
        aio_read, request = aio.aio_read, self.requests[lane]
        for request.aio_offset in offsets:
            aio_read(request)
            await request
        return request.aio_buf

    async def write(self, lane: int, offsets: Offsets) -> None:
        aio_write, request = aio.aio_write, self.requests[lane]
        for request.aio_offset in offsets:
            aio_write(request)
            await request

    async def mixed(self, lane: int, offsets: Offsets) -> Any:
        aio_read, aio_write, request = aio.aio_read, aio.aio_write, self.requests[lane]
        for offset in offsets:
            if offset >= 0:
                request.aio_offset = offset
                aio_read(request)
            else:
                request.aio_offset = ~offset
                aio_write(request)
            await request
        return request.aio_buf

    async def save(self, lane: int, offsets: Offsets) -> None:
        aio_write, aio_fsync, request = aio.aio_write, aio.aio_fsync, self.requests[lane]
        for request.aio_offset in offsets:
            aio_write(request)
            await request
            aio_fsync(os.O_DSYNC, request)
            await request


class PosixCalls(Requests):
    """As in C, without a loop: `aio_read`, `aio_error`, `aio_return` on one request."""

    def read(self, lane: int, offsets: Offsets) -> Any:
        request = self.requests[lane]
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
        loop = asyncio.get_running_loop()
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


class Handle(Ours):
    """`await access_handle.read(buffer, at=offset)` in a private volume, or in a host volume."""

    can_be_direct = False
    handle: Any

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        file = await self.file_handle(stack)
        self.handle = await stack.enter_async_context(file.create_access_handle(mode="in-place"))

    async def file_handle(self, stack: contextlib.AsyncExitStack) -> Any:
        kind = aiofs.HostVolume if self.work.volume == "host" else aiofs.PrivateVolume
        volume = stack.enter_context(kind(self.work.directory))
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

    async def mixed(self, lane: int, offsets: Offsets) -> Any:
        handle, buffer = self.handle, self.buffers[lane]
        for offset in offsets:
            if offset >= 0:
                await handle.read(buffer, at=offset)
            else:
                await handle.write(buffer, at=~offset)
        return buffer


class AlignedHandle(Handle):
    """The same, always into buffers that begin with a page."""

    def __init__(self, work: Work) -> None:
        super().__init__(dataclasses.replace(work, shift=0))


class LockedFiles(Handle):
    """`get_file_handle`, a read-only access handle, one read, and close."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        volume = stack.enter_context(aiofs.PrivateVolume(self.work.directory))
        self.root = volume.root
        self.names = {at: os.path.basename(path) for at, path in self.work.paths().items()}

    async def locked(self, lane: int, offsets: Offsets) -> Any:
        root, names, buffer = self.root, self.names, self.buffers[lane]
        for offset in offsets:
            file = await root.get_file_handle(names[offset])
            async with file.create_access_handle(mode="read-only") as handle:
                await handle.read(buffer, at=0)
        return buffer


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
    """`sync_access_handle.read(buffer, at=offset)`, blocking."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        file = await self.file_handle(stack)
        self.handle = stack.enter_context(file.create_sync_access_handle(mode="in-place"))

    def read(self, lane: int, offsets: Offsets) -> Any:
        read, buffer = self.handle.read, self.buffers[lane]
        for offset in offsets:
            read(buffer, at=offset)
        return buffer

    def write(self, lane: int, offsets: Offsets) -> Any:
        write, buffer = self.handle.write, self.buffers[lane]
        for offset in offsets:
            write(buffer, at=offset)

    def mixed(self, lane: int, offsets: Offsets) -> Any:
        handle, buffer = self.handle, self.buffers[lane]
        for offset in offsets:
            if offset >= 0:
                handle.read(buffer, at=offset)
            else:
                handle.write(buffer, at=~offset)
        return buffer


async def in_memory(work: Work, stack: contextlib.AsyncExitStack) -> Any:
    """A file of a memory volume, which is filled in the same way as the files on disk."""
    volume = stack.enter_context(aiofs.MemoryVolume())
    file = await volume.root.get_file_handle(work.file.name, create=True)
    with file.create_sync_access_handle() as handle:
        for offset in range(0, work.file.size, work.file.fill):
            size = min(work.file.fill, work.file.size - offset)
            handle.write(content(offset, size), at=offset)
    return file


class MemoryHandle(Handle):
    """The same as Handle in a memory volume."""

    @property
    def path(self) -> str:
        return f"/proc/self/fd/{self.handle.fileno()}"

    async def file_handle(self, stack: contextlib.AsyncExitStack) -> Any:
        return await in_memory(self.work, stack)


class SyncMemoryHandle(SyncHandle):
    """The same as SyncHandle in a memory volume."""

    @property
    def path(self) -> str:
        return f"/proc/self/fd/{self.handle.fileno()}"

    async def file_handle(self, stack: contextlib.AsyncExitStack) -> Any:
        return await in_memory(self.work, stack)


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
