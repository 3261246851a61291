"""Trees of small files: copied, or saved so that each file is replaced durably.

The operation is one file. Every go begins without the target; removing it is not measured.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiofs.bench.measuring.data import content
from aiofs.bench.measuring.libraries.base import Library, Offsets
from aiofs.bench.measuring.libraries.peers import read_whole, replace_file
from aiofs.bench.measuring.work import Work

TASKS = 32
CHECKED = 400  # files


class Trees(Library):
    """32 tasks, each of which takes the next file. The directories are made before that."""

    batched = True
    reads_into = "new bytes of each file"

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.source, self.target = f"{work.path}.tree", f"{work.path}.copy"
        self.pairs = {
            at: (path, self.target + path.removeprefix(self.source))
            for at, path in work.paths().items()
        }
        self.folders = sorted({os.path.dirname(target) for _, target in self.pairs.values()})

    def make_ready(self) -> None:
        shutil.rmtree(self.target, ignore_errors=True)

    async def copy(self, source: str, target: str) -> None:
        """Copies the bytes of one file."""
        raise NotImplementedError

    async def save(self, source: str, target: str) -> None:
        """Reads one file, and saves its bytes atomically and durably."""
        raise NotImplementedError

    async def copy_tree(self, lane: int, offsets: Offsets) -> Any:
        await self.by_tasks(self.copy, iter(offsets))

    async def save_tree(self, lane: int, offsets: Offsets) -> Any:
        await self.by_tasks(self.save, iter(offsets))

    async def by_tasks(self, carry_out: Any, todo: Iterator[int]) -> None:
        for folder in self.folders:
            os.makedirs(folder)

        async def take() -> None:
            for at in todo:
                await carry_out(*self.pairs[at])

        await asyncio.gather(*(take() for _ in range(TASKS)))

    async def right_bytes(self) -> bool:
        self.make_ready()
        block, offsets = self.work.block, self.work.offsets()[:CHECKED]
        await getattr(self, self.work.operation)(0, offsets)
        found = all(Path(self.pairs[at][1]).read_bytes() == content(at, block) for at in offsets)
        self.make_ready()
        return found


class Ours(Trees):
    """`copyfile`, or `read_bytes` and `write_bytes`."""

    async def copy(self, source: str, target: str) -> None:
        from aiofs import files

        await files.copyfile(source, target)

    async def save(self, source: str, target: str) -> None:
        import aiofs

        data = await aiofs.read_bytes(source)
        await aiofs.write_bytes(target, data, atomic=True, durable=True)


class CopyTree(Trees):
    """`await aiofs.files.copytree(source, target)`, which also copies modes and times."""

    async def copy_tree(self, lane: int, offsets: Offsets) -> Any:
        from aiofs import files

        await files.copytree(self.source, self.target)


class ToThread(Trees):
    """`asyncio.to_thread` of the standard library's functions, for each file."""

    async def copy(self, source: str, target: str) -> None:
        await asyncio.to_thread(shutil.copyfile, source, target)

    async def save(self, source: str, target: str) -> None:
        await asyncio.to_thread(read_and_replace, source, target)


class Aiofiles(Trees):
    package = "aiofiles"

    async def copy(self, source: str, target: str) -> None:
        import aiofiles

        async with aiofiles.open(source, "rb", buffering=0) as file:
            data = await file.read()
        async with aiofiles.open(target, "wb", buffering=0) as file:
            await file.write(data)


def read_and_replace(source: str, target: str) -> None:
    replace_file(target, read_whole(source))
