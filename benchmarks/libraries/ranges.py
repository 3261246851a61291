"""Many ranges of one file, in one await where the library has such a call."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Iterable
from typing import Any

from aiofs.bench.measuring.data import content
from aiofs.bench.measuring.libraries.base import Library, Offsets
from aiofs.bench.measuring.work import Work, new_buffers, range_at

CHECKED = 64
Pairs = list[tuple[int, int]]


class Ranges(Library):
    """Reads of all ranges: `read` gives their bytes, `read_into` fills a buffer for each."""

    batched = True
    reads_into = "new bytes of each range"

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        # The ranges share the given buffers; which bytes stay in them does not matter.
        self.views = [memoryview(buffer) for buffer in self.buffers]

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.descriptor = self.open_descriptor(stack)

    async def read(self, pairs: Pairs) -> list[bytes]:
        raise NotImplementedError

    async def read_into(self, pairs: Pairs, buffers: list[Any]) -> None:
        raise NotImplementedError

    async def ranges(self, lane: int, offsets: Offsets) -> Any:
        await self.read([range_at(number) for number in offsets])

    async def ranges_into(self, lane: int, offsets: Offsets) -> Any:
        pairs = [range_at(number) for number in offsets]
        await self.read_into(pairs, list(itertools.islice(itertools.cycle(self.views), len(pairs))))

    async def right_bytes(self) -> bool:
        pairs = [range_at(number) for number in self.work.offsets()[:CHECKED]]
        if self.work.operation == "ranges":
            found: Iterable[Any] = await self.read(pairs)
        else:
            buffers = [memoryview(b) for b in new_buffers(len(pairs), self.work.block)]
            await self.read_into(pairs, buffers)
            found = (buffer[:size] for buffer, (_, size) in zip(buffers, pairs, strict=True))
        right = (content(*pair) == data for pair, data in zip(pairs, found, strict=True))
        return all(right)


class Ours(Ranges):
    """`await read_ranges(file, ranges)`."""

    async def read(self, pairs: Pairs) -> list[bytes]:
        from aiofs import files

        return await files.read_ranges(self.descriptor, pairs)

    async def read_into(self, pairs: Pairs, buffers: list[Any]) -> None:
        from aiofs import files

        await files.read_ranges(self.descriptor, pairs, buffers=buffers)


class OneTrip(Ranges):
    """`asyncio.to_thread` of a function that reads all of them."""

    async def read(self, pairs: Pairs) -> list[bytes]:
        return await asyncio.to_thread(read_all, self.descriptor, pairs)

    async def read_into(self, pairs: Pairs, buffers: list[Any]) -> None:
        await asyncio.to_thread(read_all_into, self.descriptor, pairs, buffers)


class Aiofiles(Ranges):
    """`seek` and `read` for each."""

    package = "aiofiles"

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        import aiofiles

        opening = aiofiles.open(self.work.path, "rb", buffering=0, opener=self.opener)
        self.file = await stack.enter_async_context(opening)

    async def read(self, pairs: Pairs) -> list[bytes]:
        found = []
        for offset, size in pairs:
            await self.file.seek(offset)
            found.append(await self.file.read(size))
        return found

    async def read_into(self, pairs: Pairs, buffers: list[Any]) -> None:
        for (offset, size), buffer in zip(pairs, buffers, strict=True):
            await self.file.seek(offset)
            await self.file.readinto(buffer[:size])


def read_all(descriptor: int, pairs: Pairs) -> list[bytes]:
    return [os.pread(descriptor, size, offset) for offset, size in pairs]


def read_all_into(descriptor: int, pairs: Pairs, buffers: list[Any]) -> None:
    for (offset, size), buffer in zip(pairs, buffers, strict=True):
        os.preadv(descriptor, [buffer[:size]], offset)
