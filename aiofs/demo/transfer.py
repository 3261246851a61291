"""Moves files into a volume and out of it, by lists of requests with callbacks at their ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from aiofs import AccessHandle, FileSystem, aio
from aiofs.demo.heartbeat import Heartbeat
from aiofs.demo.screen import Bar
from aiofs.demo.survey import Source
from aiofs.handles import Mode

DEPTH = 32
PIECE = 256 * 1024


class Move(NamedTuple):
    """The work of one request: a piece of a file, and the memory for it."""

    file: Source
    offset: int
    content: memoryview

    @property
    def is_first(self) -> bool:
        return self.offset == 0

    @property
    def is_last(self) -> bool:
        return self.offset + len(self.content) == self.file.size

    def cut(self, size: int) -> Move:
        return self if size == len(self.content) else self._replace(content=self.content[:size])


class Transfer:
    """Moves files piece by piece, DEPTH pieces at a time. The base class of both directions."""

    mode: Mode  # of the access handles
    create = False

    def __init__(self, fs: FileSystem, bar: Bar) -> None:
        self.heartbeat = Heartbeat()
        self.digests: dict[Source, bytes] = {}  # of the files that were moved whole
        self.failed: dict[Source, str] = {}
        self.bytes = self.requests = 0
        self.seconds = 0.0
        self._fs = fs
        self._bar = bar
        self._handles: dict[Source, AccessHandle] = {}
        self._hashes: dict[Source, Any] = {}
        self._buffers = [memoryview(bytearray(PIECE)) for _ in range(DEPTH)]

    async def run(self, files: Iterable[Source]) -> None:
        began = time.perf_counter()
        pieces = pieces_of(files)
        with self.heartbeat:
            while moves := [
                Move(file, offset, buffer[: file.size - offset])
                for buffer, (file, offset) in zip(
                    self._buffers, islice(pieces, DEPTH), strict=False
                )
            ]:
                await self.open([move.file for move in moves if move.is_first])
                await self.move([move for move in moves if move.file in self._handles])
                await self.close([move.file for move in moves if move.is_last])
        self.seconds = time.perf_counter() - began

    async def open(self, files: list[Source]) -> None:
        # One after the other: an opening is quick, and many at once would contend for the GIL.
        for file in files:
            self._handles[file] = await self._fs.create_access_handle(
                file.name, mode=self.mode, create=self.create
            )
            self._hashes[file] = hashlib.sha256()

    async def move(self, moves: list[Move]) -> None:
        raise NotImplementedError

    async def close(self, files: list[Source]) -> None:
        """Closes those files that are open. Then their bytes are on the disk."""
        ended = [file for file in files if file in self._handles]
        await asyncio.gather(*(self._handles.pop(file).close() for file in ended))
        for file in ended:
            digest = self._hashes.pop(file).digest()
            if file not in self.failed:
                self.digests[file] = digest

    async def carry_out(
        self, opcode: int, moves: list[Move], targets: Mapping[Source, int | AccessHandle]
    ) -> list[Move]:
        """Reads or writes with one lio_listio. Returns the moves, each cut to the bytes moved.

        Every request has a callback that advances the bar. The list has a callback that wakes this
        coroutine.
        """
        requests = [
            aio.aiocb(
                targets[move.file],
                move.content,
                aio_offset=move.offset,
                aio_lio_opcode=opcode,
                aio_sigevent=aio.sigevent(
                    aio.SIGEV_LOOP,
                    sigev_value=len(move.content),
                    sigev_notify_function=self._bar.advance,
                ),
            )
            for move in moves
        ]
        ended = asyncio.Event()
        notice = aio.sigevent(aio.SIGEV_LOOP, sigev_notify_function=lambda _: ended.set())
        aio.lio_listio(aio.LIO_NOWAIT, requests, notice)
        await ended.wait()
        self.requests += len(requests)
        return [move.cut(self.count_of(cb, move)) for cb, move in zip(requests, moves, strict=True)]

    def count_of(self, cb: aio.aiocb, move: Move) -> int:
        """Returns how many bytes a request moved. A request that failed makes its file fail."""
        try:
            return int(aio.aio_return(cb))
        except OSError as error:
            self.failed[move.file] = error.strerror or str(error)
            return 0

    def hash(self, moves: list[Move]) -> None:
        for move in moves:
            self._hashes[move.file].update(move.content)


class CopyIn(Transfer):
    """Reads the sources by plain descriptors, and writes the volume's files under locks."""

    mode = "in-place"
    create = True

    def __init__(self, fs: FileSystem, bar: Bar) -> None:
        super().__init__(fs, bar)
        self._sources: dict[Source, int] = {}

    async def run(self, files: Iterable[Source]) -> None:
        try:
            await super().run(files)
        finally:
            for source in self._sources.values():
                os.close(source)

    async def open(self, files: list[Source]) -> None:
        await asyncio.to_thread(self._open_sources, files)
        await super().open([file for file in files if file in self._sources])

    async def move(self, moves: list[Move]) -> None:
        read = await self.carry_out(aio.LIO_READ, moves, self._sources)
        written, _ = await asyncio.gather(
            self.carry_out(aio.LIO_WRITE, read, self._handles), asyncio.to_thread(self.hash, read)
        )
        for wanted, done in zip(read, written, strict=True):
            self.bytes += len(done.content)
            if len(done.content) < len(wanted.content):
                self.failed.setdefault(done.file, "written in part only")

    async def close(self, files: list[Source]) -> None:
        for file in files:
            if file in self._sources:
                os.close(self._sources.pop(file))
        await super().close(files)

    def _open_sources(self, files: list[Source]) -> None:
        for file in files:
            try:
                self._sources[file] = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW)
            except OSError as error:
                self.failed[file] = error.strerror or str(error)


class ReadBack(Transfer):
    """Reads the volume's files, by read-only handles."""

    mode = "read-only"

    async def move(self, moves: list[Move]) -> None:
        read = await self.carry_out(aio.LIO_READ, moves, self._handles)
        await asyncio.to_thread(self.hash, read)
        self.bytes += sum(len(move.content) for move in read)


def pieces_of(files: Iterable[Source]) -> Iterator[tuple[Source, int]]:
    """Yields the offsets of each file, PIECE bytes apart. An empty file has one offset."""
    for file in files:
        for offset in range(0, file.size or 1, PIECE):
            yield file, offset
