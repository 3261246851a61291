"""All lines of a file, one after the other, as bytes or as str.

The operation is one line. The slow peers stop early in the same file: with a trip to another thread
for each line, all of them would take minutes.
"""

from __future__ import annotations

import hashlib
from typing import Any

from aiofs.bench.measuring.data import rows
from aiofs.bench.measuring.libraries.base import Library, Offsets
from aiofs.bench.measuring.work import Work

FEW = 5_000  # lines
LONGEST = 100  # bytes


class Lines(Library):
    """`async for line in file`, of the file that `opening` opens."""

    batched = True
    reads_into = "new lines"
    count = 0

    def opening(self, mode: str) -> Any:
        """An asynchronous context manager that gives the file."""
        raise NotImplementedError

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.count = self.count or rows(0, work.file.size).count(b"\n")

    @property
    def operations(self) -> int:
        return self.count

    async def lines(self, lane: int, offsets: Offsets) -> None:
        await self.iterate("rb", offsets)

    async def text(self, lane: int, offsets: Offsets) -> None:
        await self.iterate("r", offsets)

    async def iterate(self, mode: str, offsets: Offsets) -> None:
        for _ in offsets:
            async with self.opening(mode) as file:
                async for _line in file:
                    pass

    async def right_bytes(self) -> bool:
        found, count = hashlib.sha256(), 0
        async for line in self.some("rb" if self.work.operation == "lines" else "r"):
            found.update(line if isinstance(line, bytes) else line.encode())
            count += 1
        data = rows(0, self.work.file.size)
        if count < data.count(b"\n"):
            data = b"".join(data[: count * LONGEST].splitlines(keepends=True)[:count])
        return found.digest() == hashlib.sha256(data).digest() and count == self.count

    async def some(self, mode: str) -> Any:
        async with self.opening(mode) as file:
            async for line in file:
                yield line


class FirstLines(Lines):
    """The same of the first lines only."""

    count = FEW

    async def iterate(self, mode: str, offsets: Offsets) -> None:
        for _ in offsets:
            async for _line in self.some(mode):
                pass

    async def some(self, mode: str) -> Any:
        count = 0
        async with self.opening(mode) as file:
            async for line in file:
                yield line
                count += 1
                if count == self.count:
                    break


class Ours(Lines):
    def opening(self, mode: str) -> Any:
        import aiofs

        return aiofs.open(self.work.path, mode)


class Inline(Lines):
    """The built-in file's own iteration. It holds the loop meanwhile."""

    async def iterate(self, mode: str, offsets: Offsets) -> None:
        for _ in offsets:
            with open(self.work.path, mode) as file:
                for _line in file:
                    pass

    async def some(self, mode: str) -> Any:
        with open(self.work.path, mode) as file:
            for line in file:
                yield line


class Aiofiles(FirstLines):
    package = "aiofiles"

    def opening(self, mode: str) -> Any:
        import aiofiles

        return aiofiles.open(self.work.path, mode)


class Anyio(FirstLines):
    package = "anyio"

    def opening(self, mode: str) -> Any:
        return AnyioOpening(self.work.path, mode)


class AnyioOpening:
    """`anyio.open_file` is awaited before it is entered."""

    def __init__(self, path: str, mode: str) -> None:
        self.path = path
        self.mode = mode

    async def __aenter__(self) -> Any:
        import anyio

        self.file = await anyio.open_file(self.path, self.mode)  # type: ignore[call-overload]
        return self.file

    async def __aexit__(self, *exception: object) -> None:
        await self.file.aclose()
