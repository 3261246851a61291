"""The Python libraries in use today, each by its cheapest call.

Some read into a given buffer, some return new bytes. aiofiles and anyio have no positional calls,
so each lane has a file of its own, and seeks; and so do the files of turbofile and urio.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from aiofs.bench.measuring.cache import Unavailable
from aiofs.bench.measuring.libraries.base import Library, Offsets
from aiofs.bench.measuring.work import Work

NEW = "new bytes of each read"


class Whole(Library):
    """Whole files, by a call that returns new bytes."""

    reads_into = NEW

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.paths = self.work.paths()


class InlineWhole(Whole):
    """The built-in `open` and `read` in a coroutine. It holds the loop meanwhile."""

    async def whole(self, lane: int, offsets: Offsets) -> Any:
        data = b""
        for offset in offsets:
            data = read_whole(self.paths[offset])
        return data


class ToThreadWhole(Whole):
    async def whole(self, lane: int, offsets: Offsets) -> Any:
        data = b""
        for offset in offsets:
            data = await asyncio.to_thread(read_whole, self.paths[offset])
        return data


class AiofilesWhole(Whole):
    package = "aiofiles"

    async def whole(self, lane: int, offsets: Offsets) -> Any:
        import aiofiles

        data = b""
        for offset in offsets:
            async with aiofiles.open(self.paths[offset], "rb", buffering=0) as file:
                data = await file.read()
        return data


class AnyioWhole(Whole):
    package = "anyio"

    async def whole(self, lane: int, offsets: Offsets) -> Any:
        import anyio

        data = b""
        for offset in offsets:
            data = await anyio.Path(self.paths[offset]).read_bytes()
        return data


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
        buffer = self.buffers[lane]
        for offset in offsets:
            os.pwrite(self.descriptor, buffer, offset)

    async def mixed(self, lane: int, offsets: Offsets) -> Any:
        descriptor, buffer = self.descriptor, self.buffers[lane]
        buffers = [buffer]
        for offset in offsets:
            if offset >= 0:
                os.preadv(descriptor, buffers, offset)
            else:
                os.pwrite(descriptor, buffer, ~offset)
        return buffer


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
        buffer = self.buffers[lane]
        for offset in offsets:
            await asyncio.to_thread(os.pwrite, self.descriptor, buffer, offset)

    async def mixed(self, lane: int, offsets: Offsets) -> Any:
        buffer = self.buffers[lane]
        for offset in offsets:
            if offset >= 0:
                await asyncio.to_thread(os.preadv, self.descriptor, [buffer], offset)
            else:
                await asyncio.to_thread(os.pwrite, self.descriptor, buffer, ~offset)
        return buffer

    async def save(self, lane: int, offsets: Offsets) -> None:
        buffer = self.buffers[lane]
        for offset in offsets:
            await asyncio.to_thread(os.pwrite, self.descriptor, buffer, offset)
            await asyncio.to_thread(os.fdatasync, self.descriptor)

    async def replace(self, lane: int, offsets: Offsets) -> None:
        for _ in offsets:
            await asyncio.to_thread(replace_file, self.work.path, self.payload)


class Caio(Library):
    """caio's own context, with one of its backends; "": the one that caio chooses."""

    package = "caio"
    reads_into = NEW

    def __init__(self, backend: str, work: Work) -> None:
        super().__init__(work)
        self.backend = backend

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        import caio

        context = caio.AsyncioContext
        if self.backend:
            module = getattr(caio, f"{self.backend}_asyncio", None)
            if module is None:
                raise Unavailable(f"caio was built without {self.backend}")
            context = module.AsyncioContext
        self.descriptor = self.open_descriptor(stack)
        self.context = await stack.enter_async_context(context())

    async def read(self, lane: int, offsets: Offsets) -> Any:
        data = b""
        for offset in offsets:
            data = await self.context.read(self.work.block, self.descriptor, offset)
        return data

    async def write(self, lane: int, offsets: Offsets) -> None:
        for offset in offsets:
            await self.context.write(self.payload, self.descriptor, offset)

    async def mixed(self, lane: int, offsets: Offsets) -> Any:
        context, data = self.context, b""
        for offset in offsets:
            if offset >= 0:
                data = await context.read(self.work.block, self.descriptor, offset)
            else:
                await context.write(self.payload, self.descriptor, ~offset)
        return data

    async def save(self, lane: int, offsets: Offsets) -> None:
        for offset in offsets:
            await self.context.write(self.payload, self.descriptor, offset)
            await self.context.fdsync(self.descriptor)


class Aiofile(Library):
    """aiofile, with the backend of caio that aiofile chooses."""

    package = "aiofile"
    reads_into = NEW
    can_be_direct = False

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        import aiofile

        self.file = aiofile.AIOFile(self.work.path, self.mode)
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

    async def mixed(self, lane: int, offsets: Offsets) -> Any:
        file, data = self.file, b""
        for offset in offsets:
            if offset >= 0:
                data = await file.read_bytes(self.work.block, offset)
            else:
                await file.write_bytes(self.payload, ~offset)
        return data


class Ayafileio(Library):
    """ayafileio, by its positional calls."""

    package = "ayafileio"
    reads_into = NEW
    can_be_direct = False

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        import ayafileio

        mode = "rb+" if self.work.writes else "rb"
        self.file = await stack.enter_async_context(ayafileio.open(self.work.path, mode))

    async def read(self, lane: int, offsets: Offsets) -> Any:
        data = b""
        for offset in offsets:
            data = await self.file.read_at(offset, self.work.block)
        return data

    async def write(self, lane: int, offsets: Offsets) -> None:
        for offset in offsets:
            await self.file.write_at(offset, self.payload)

    async def mixed(self, lane: int, offsets: Offsets) -> Any:
        file, data = self.file, b""
        for offset in offsets:
            if offset >= 0:
                data = await file.read_at(offset, self.work.block)
            else:
                await file.write_at(~offset, self.payload)
        return data


class SeekingFiles(Library):
    """A file for each lane, without Python's buffering, that seeks and then reads or writes."""

    async def read(self, lane: int, offsets: Offsets) -> Any:
        file, buffer = self.files[lane], self.buffers[lane]
        for offset in offsets:
            await file.seek(offset)
            await file.readinto(buffer)
        return buffer

    async def write(self, lane: int, offsets: Offsets) -> None:
        file, buffer = self.files[lane], self.buffers[lane]
        for offset in offsets:
            await file.seek(offset)
            await file.write(buffer)

    async def mixed(self, lane: int, offsets: Offsets) -> Any:
        file, buffer = self.files[lane], self.buffers[lane]
        for offset in offsets:
            if offset >= 0:
                await file.seek(offset)
                await file.readinto(buffer)
            else:
                await file.seek(~offset)
                await file.write(buffer)
        return buffer

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.files = [await self.open_file(stack) for _ in range(self.lanes)]

    async def open_file(self, stack: contextlib.AsyncExitStack) -> Any:
        raise NotImplementedError


class Aiofiles(SeekingFiles):
    package = "aiofiles"

    async def open_file(self, stack: contextlib.AsyncExitStack) -> Any:
        import aiofiles

        opening = aiofiles.open(self.work.path, self.mode, buffering=0, opener=self.opener)
        return await stack.enter_async_context(opening)


class Anyio(SeekingFiles):
    package = "anyio"

    async def open_file(self, stack: contextlib.AsyncExitStack) -> Any:
        import anyio

        opening = anyio.open_file(self.work.path, self.mode, buffering=0, opener=self.opener)
        return await stack.enter_async_context(await opening)


class Turbofile(SeekingFiles):
    package = "turbofile"
    can_be_direct = False

    async def open_file(self, stack: contextlib.AsyncExitStack) -> Any:
        import turbofile

        opening = turbofile.open(self.work.path, self.mode, buffering=0)
        return await stack.enter_async_context(opening)


class Urio(SeekingFiles):
    package = "urio"
    can_be_direct = False

    async def open_file(self, stack: contextlib.AsyncExitStack) -> Any:
        import urio

        return await stack.enter_async_context(urio.open(self.work.path, self.mode))


def read_whole(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


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
