"""The libraries of growth.py: operations among so many handles, entries, bytes or loops.

Each has a counterpart that makes the same system calls by `os`, blocking. So a plot shows which
part of a slope is the kernel's. The work's offsets only say which handle or entry is meant.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import resource
import struct
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import aiofs
from aiofs import aio
from aiofs.bench.measuring.data import PAGE
from aiofs.bench.measuring.libraries.base import Library, Offsets
from aiofs.bench.measuring.libraries.ours import Ours
from aiofs.bench.measuring.measure import memory_field, new_loop
from aiofs.bench.measuring.work import SEED, Work

SCATTER = 7919  # a prime: neighbours in the offsets are no neighbours in what they mean
PLACES = 4096  # pages of a large file that are read
FLOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def names(count: int) -> list[str]:
    return [f"entry-{number:06}" for number in range(count)]


def make_entries(directory: Path, count: int) -> None:
    """Files of one page, whose bytes begin with the file's own number."""
    directory.mkdir(mode=0o700)
    for number, name in enumerate(names(count)):
        (directory / name).write_bytes(struct.pack("<q", number).ljust(PAGE, b"\0"))


def make_sparse(path: Path, size: int) -> None:
    with open(path, "xb") as file:
        file.truncate(size)


class Among(Library):
    """An operation on one of `count` things. `chosen` gives the numbers of those that are meant."""

    def __init__(self, count: int, work: Work) -> None:
        super().__init__(work)
        self.count = count
        self.own = 0.0

    def chosen(self, offsets: Offsets) -> Iterable[int]:
        count = self.count
        return (offset // PAGE * SCATTER % count for offset in offsets)

    def insist_all(self, found: int) -> None:
        if found != self.count:
            raise AssertionError(f"found {found} entries of {self.count}")

    def insist(self, buffer: Any, number: int) -> None:
        if struct.unpack_from("<q", buffer)[0] != number:
            raise AssertionError(f"read the bytes of another file than {number}")


class Handles(Among, Ours):
    """Reads of a page by one of many open access handles."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        raise_descriptors()
        volume = stack.enter_context(aiofs.PrivateVolume(self.work.directory))
        before = memory_field("VmRSS")
        self.handles = []
        for name in names(self.count):
            file = await volume.root.get_file_handle(name)
            handle = await file.create_access_handle(mode="in-place")
            stack.push_async_callback(handle.close)
            self.handles.append(handle)
        self.own = memory_field("VmRSS") - before

    def metrics(self) -> dict[str, float]:
        return {"memory each": self.own / self.count}

    async def read(self, lane: int, offsets: Offsets) -> Any:
        handles, buffer, number = self.handles, self.buffers[lane], 0
        for number in self.chosen(offsets):
            await handles[number].read(buffer, at=0)
        self.insist(buffer, number)
        return buffer


class OsHandles(Among):
    """The same by `os.preadv`, of descriptors that are locked by `fcntl`."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        raise_descriptors()
        before = memory_field("VmRSS")
        self.descriptors = []
        for name in names(self.count):
            path = os.path.join(self.work.directory, name)
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, FLOCK)
            self.descriptors.append(descriptor)
        self.own = memory_field("VmRSS") - before

    def metrics(self) -> dict[str, float]:
        return {"memory each": self.own / self.count}

    def read(self, lane: int, offsets: Offsets) -> Any:
        descriptors, buffer, number = self.descriptors, self.buffers[lane], 0
        buffers = [buffer]
        for number in self.chosen(offsets):
            os.preadv(descriptors[number], buffers, 0)
        self.insist(buffer, number)
        return buffer


class Opening(Among, Ours):
    """Opens, locks and closes one of the files of a directory."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.root = stack.enter_context(aiofs.PrivateVolume(self.work.directory)).root
        self.names = names(self.count)

    async def read(self, lane: int, offsets: Offsets) -> None:
        root = self.root
        for number in self.chosen(offsets):
            file = await root.get_file_handle(self.names[number])
            async with file.create_access_handle(mode="in-place"):
                pass


class OsOpening(Among):
    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.paths = [os.path.join(self.work.directory, name) for name in names(self.count)]

    def read(self, lane: int, offsets: Offsets) -> None:
        paths = self.paths
        for number in self.chosen(offsets):
            descriptor = os.open(paths[number], os.O_RDWR | os.O_CLOEXEC)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, FLOCK)
            os.close(descriptor)


class Listing(Opening):
    """Lists the whole directory. The time is that of one entry."""

    batched = True

    @property
    def operations(self) -> int:
        return self.count

    async def read(self, lane: int, offsets: Offsets) -> None:
        for _ in offsets:
            found = 0
            async for _ in self.root.keys():
                found += 1
            self.insist_all(found)


class OsListing(Among):
    batched = True

    @property
    def operations(self) -> int:
        return self.count

    def read(self, lane: int, offsets: Offsets) -> None:
        for _ in offsets:
            with os.scandir(self.work.directory) as entries:
                self.insist_all(sum(1 for entry in entries if not entry.name.startswith(".")))


class Large(Among, Ours):
    """Reads of a page at one of some places of a sparse file of `count` bytes."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.descriptor = self.open_descriptor(stack)
        self.places = places(self.descriptor, self.count)
        self.requests = [aio.aiocb(self.descriptor, buffer) for buffer in self.buffers]

    async def read(self, lane: int, offsets: Offsets) -> Any:
        request, where, number = self.requests[lane], self.places, len(self.places)
        for offset in offsets:
            request.aio_offset = where[offset // PAGE % number]
            aio.aio_read(request)
            if await request != PAGE:
                raise AssertionError("a read was short")
        return request.aio_buf


class OsLarge(Among):
    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.descriptor = self.open_descriptor(stack)
        self.places = places(self.descriptor, self.count)

    def read(self, lane: int, offsets: Offsets) -> Any:
        where, number, buffers = self.places, len(self.places), [self.buffers[lane]]
        for offset in offsets:
            if os.preadv(self.descriptor, buffers, where[offset // PAGE % number]) != PAGE:
                raise AssertionError("a read was short")
        return buffers[0]


def places(descriptor: int, size: int) -> list[int]:
    """Some of the pages of a file, in a random order that is the same for all. They are cached."""
    count = min(size // PAGE, PLACES)
    chosen = [page * PAGE for page in random.Random(SEED).sample(range(size // PAGE), count)]
    for place in chosen:
        os.pread(descriptor, PAGE, place)
    return chosen


class Loops(Among, Ours):
    """Reads on `count` threads, each with a loop, a request and a buffer of its own."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.descriptor = self.open_descriptor(stack)
        self.requests = [aio.aiocb(self.descriptor, buffer) for buffer in self.buffers]
        self.loops = [new_loop(self.work.loop) for _ in range(self.count)]
        for loop in self.loops:
            stack.callback(loop.close)

    def read(self, lane: int, offsets: Offsets) -> None:
        def one(thread: int, share: list[int]) -> None:
            self.loops[thread].run_until_complete(self.reads(thread, share))

        on_threads(one, self.count, offsets)

    async def reads(self, thread: int, offsets: list[int]) -> None:
        request = self.requests[thread]
        for request.aio_offset in offsets:
            aio.aio_read(request)
            await request


class OsThreads(Among):
    """`os.preadv` on so many threads."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        self.descriptor = self.open_descriptor(stack)

    def read(self, lane: int, offsets: Offsets) -> None:
        def one(thread: int, share: list[int]) -> None:
            buffers = [self.buffers[thread]]
            for offset in share:
                os.preadv(self.descriptor, buffers, offset)

        on_threads(one, self.count, offsets)


def on_threads(one: Callable[[int, list[int]], None], count: int, offsets: Offsets) -> None:
    """Distributes the offsets over threads, and waits for them. Raises what one of them raised."""
    taken, errors = [*offsets], []

    def guarded(thread: int) -> None:
        try:
            one(thread, taken[thread::count])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(thread,)) for thread in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def raise_descriptors() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
