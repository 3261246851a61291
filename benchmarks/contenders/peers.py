"""The Python libraries in use today, each by its cheapest call.

Some read into a given buffer, some return new bytes. aiofiles and anyio have no positional calls,
so each lane has a file of its own, and seeks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from ..work import Unavailable, Work
from .base import Library, Offsets


class Inline(Library):
    """`os.preadv` in a coroutine, without a library. It holds the loop meanwhile."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.descriptor = self.open_descriptor(stack)

    async def read(self, lane: int, offsets: Offsets) -> Any:
        descriptor, buffer = self.descriptor, self.buffers[lane]
        buffers = [buffer]
        for offset in offsets:
            os.preadv(descriptor, buffers, offset)
        return buffer

    async def write(self, lane: int, offsets: Offsets) -> None:
        for offset in offsets:
            os.pwrite(self.descriptor, self.payload, offset)


class ToThread(Library):
    """`asyncio.to_thread(os.preadv, ...)`."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.descriptor = self.open_descriptor(stack)

    async def read(self, lane: int, offsets: Offsets) -> Any:
        buffer = self.buffers[lane]
        for offset in offsets:
            await asyncio.to_thread(os.preadv, self.descriptor, [buffer], offset)
        return buffer

    async def write(self, lane: int, offsets: Offsets) -> None:
        for offset in offsets:
            await asyncio.to_thread(os.pwrite, self.descriptor, self.payload, offset)

    async def save(self, lane: int, offsets: Offsets) -> None:
        for offset in offsets:
            await asyncio.to_thread(os.pwrite, self.descriptor, self.payload, offset)
            await asyncio.to_thread(os.fdatasync, self.descriptor)

    async def replace(self, lane: int, offsets: Offsets) -> None:
        for _ in offsets:
            await asyncio.to_thread(replace_file, self.work.path, self.payload)


class Caio(Library):
    """caio's own context, with one of its backends."""

    def __init__(self, backend: str, work: Work) -> None:
        super().__init__(work)
        self.backend = backend

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        import caio

        module = getattr(caio, f"{self.backend}_asyncio")
        if module is None:
            raise Unavailable(f"caio was built without {self.backend}")
        self.descriptor = self.open_descriptor(stack)
        self.context = await stack.enter_async_context(module.AsyncioContext())

    async def read(self, lane: int, offsets: Offsets) -> Any:
        data = b""
        for offset in offsets:
            data = await self.context.read(self.work.block, self.descriptor, offset)
        return data

    async def write(self, lane: int, offsets: Offsets) -> None:
        for offset in offsets:
            await self.context.write(self.payload, self.descriptor, offset)

    async def save(self, lane: int, offsets: Offsets) -> None:
        for offset in offsets:
            await self.context.write(self.payload, self.descriptor, offset)
            await self.context.fdsync(self.descriptor)


class Aiofile(Library):
    """aiofile, with the backend of caio that aiofile chooses."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        import aiofile

        self.file = aiofile.AIOFile(self.work.path, "r+b")
        await self.file.open()
        stack.push_async_callback(self.file.close)

    async def read(self, lane: int, offsets: Offsets) -> Any:
        data = b""
        for offset in offsets:
            data = await self.file.read_bytes(self.work.block, offset)
        return data

    async def write(self, lane: int, offsets: Offsets) -> None:
        for offset in offsets:
            await self.file.write_bytes(self.payload, offset)


class Ayafileio(Library):
    """ayafileio, by its positional calls."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        import ayafileio

        self.file = await stack.enter_async_context(ayafileio.open(self.work.path, "rb+"))

    async def read(self, lane: int, offsets: Offsets) -> Any:
        data = b""
        for offset in offsets:
            data = await self.file.read_at(offset, self.work.block)
        return data

    async def write(self, lane: int, offsets: Offsets) -> None:
        for offset in offsets:
            await self.file.write_at(offset, self.payload)


class SeekingFiles(Library):
    """A file for each lane, without Python's buffering, that seeks and then reads or writes."""

    async def read(self, lane: int, offsets: Offsets) -> Any:
        file, buffer = self.files[lane], self.buffers[lane]
        for offset in offsets:
            await file.seek(offset)
            await file.readinto(buffer)
        return buffer

    async def write(self, lane: int, offsets: Offsets) -> None:
        file = self.files[lane]
        for offset in offsets:
            await file.seek(offset)
            await file.write(self.payload)

    files: list[Any]


class Aiofiles(SeekingFiles):
    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        import aiofiles  # type: ignore[import-untyped]

        self.files = [
            await stack.enter_async_context(aiofiles.open(self.work.path, "r+b", buffering=0))
            for _ in range(self.lanes)
        ]


class Anyio(SeekingFiles):
    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        import anyio

        self.files = [
            await stack.enter_async_context(await opening)
            for opening in (
                anyio.open_file(self.work.path, "r+b", buffering=0) for _ in range(self.lanes)
            )
        ]


def replace_file(path: str, content: bytes) -> None:
    """Writes a new file, and renames it to `path`; both are durable then."""
    with open(f"{path}.new", "wb", buffering=0) as file:
        file.write(content)
        os.fsync(file)
    os.rename(f"{path}.new", path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
