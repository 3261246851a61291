"""Leaks of descriptors, threads, memory and references, over many requests and loops."""

import asyncio
import gc
import os
import sys
import threading
import tracemalloc
import warnings
import weakref
from collections import Counter

import pytest
from support import eventually

import aiofs
from aiofs import MemoryVolume, _core
from aiofs.aio import (
    LIO_NOWAIT,
    LIO_READ,
    SIGEV_LOOP,
    SIGEV_THREAD,
    aio_cancel,
    aio_error,
    aio_fsync,
    aio_read,
    aio_return,
    aio_suspend,
    aio_write,
    aiocb,
    lio_listio,
    sigevent,
)

PAGE = os.sysconf("SC_PAGESIZE")
WORKERS = 32  # the most workers for the requests of one file


@pytest.fixture
def content():
    return bytes(1 << 20)


def resident():
    """The resident memory of this process, in bytes. A sanitizer keeps freed memory: then 0."""
    if "AIOFS_SANITIZE" in os.environ:
        return 0
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * PAGE


def threads():
    return len(os.listdir("/proc/self/task"))


def files():
    """The number of open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def assert_flat(work, *, rounds, bytes_each=16):
    """Runs work() many times. The resources after a quarter of the runs must not grow further."""
    for _ in range(max(rounds // 4, 1)):
        work()
    gc.collect()
    memory, tasks, opened = resident(), threads(), files()
    tracemalloc.start()
    try:
        work()
        gc.collect()
        traced = tracemalloc.get_traced_memory()[0]
        for _ in range(rounds):
            work()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - traced
    finally:
        tracemalloc.stop()
    assert grown < 20_000 + rounds * bytes_each // 4
    assert resident() - memory < 8 << 20
    assert threads() <= tasks + WORKERS + 8
    assert files() <= opened


async def awaited_read(fd):
    """A read that goes through the engine."""
    cb = aiocb(fd, bytearray(10), aio_reqprio=1)
    aio_read(cb)
    assert await cb == 10


def kinds_of_objects():
    return Counter(type(thing).__name__ for thing in gc.get_objects())


async def assert_flat_on_a_loop(work, *, rounds):
    """The same for a coroutine function. Also counts the objects of the garbage collector.

    A leak leaves an object in each round, or in each round of one kind. What is made once, such as
    the state of a further thread on a busy machine, is none.
    """
    for _ in range(50):
        await work()
    gc.collect()
    memory, objects, opened = resident(), kinds_of_objects(), files()
    for _ in range(rounds):
        await work()
    gc.collect()
    assert resident() - memory < 4 << 20
    grown = kinds_of_objects() - objects
    assert grown.total() < max(rounds // 4, 10), grown
    assert files() == opened


# ---- requests -----------------------------------------------------------------------------------


async def test_100_000_awaited_requests_leave_nothing(file):
    """Half of them complete inside the call, half of them in the engine."""
    requests = 0
    buffer, data = bytearray(4096), bytes(4096)
    memory = references = tasks = opened = None
    while requests < 100_000:
        for _ in range(50):
            reading = aiocb(file, buffer)
            aio_read(reading)
            await reading
            writing = aiocb(file, data, aio_reqprio=1)  # never inside the call
            aio_write(writing)
            await writing
            requests += 2
        if requests == 20_000:
            await asyncio.sleep(0.01)
            gc.collect()
            memory, tasks, opened = resident(), threads(), files()
            references = sys.getrefcount(buffer), sys.getrefcount(data), sys.getrefcount(aiocb)
    await asyncio.sleep(0.01)
    gc.collect()
    assert resident() - memory < 4 << 20
    assert threads() <= tasks + 2
    assert files() == opened
    assert (sys.getrefcount(buffer), sys.getrefcount(data), sys.getrefcount(aiocb)) == references
    assert _core.counters()["outstanding"] == 0


def test_requests_without_aio_return_leave_nothing(file):
    buffer = bytearray(4096)

    def work():
        requests = [aiocb(file, buffer, aio_reqprio=1) for _ in range(100)]
        for cb in requests:
            aio_read(cb)
        aio_suspend(requests[-1:])
        while any(aio_error(cb) for cb in requests):
            pass

    assert_flat(work, rounds=100)


def test_requests_dropped_in_flight_leave_nothing(file):
    def work():
        for _ in range(50):
            aio_read(aiocb(file, bytearray(4096), aio_reqprio=1))
            aio_fsync(os.O_DSYNC, aiocb(file))
        eventually(lambda: _core.counters()["outstanding"] == 0)
        aio_suspend([])

    assert_flat(work, rounds=15)


def test_cancelled_requests_leave_nothing(pipe):
    def work():
        requests = [aiocb(pipe[0], bytearray(4096)) for _ in range(100)]
        for cb in requests:
            aio_read(cb)
        aio_cancel(pipe[0])
        assert all(aio_error(cb) for cb in requests)

    assert_flat(work, rounds=60)


def test_failed_and_refused_requests_leave_nothing(file):
    def work():
        buffer = bytearray(100)
        for fields in (
            {"aio_fildes": 987654},
            {"aio_offset": -1},
            {"aio_reqprio": 21},
            {"aio_nbytes": 101},
            {"aio_fildes": "3"},
            {"aio_sigevent": sigevent(SIGEV_LOOP, 0, 0, print)},
        ):
            cb = aiocb(**{"aio_fildes": file, "aio_buf": buffer} | fields)
            try:
                aio_read(cb)
                aio_suspend([cb])
                aio_return(cb)
            except (OSError, TypeError, ValueError, RuntimeError):
                pass
        buffer.append(0)

    assert_flat(work, rounds=2000)


def test_notified_requests_leave_nothing(file):
    def work():
        notified = threading.Semaphore(0)
        event = sigevent(SIGEV_THREAD, 0, None, lambda _: notified.release())
        for _ in range(20):
            aio_read(aiocb(file, bytearray(100), aio_sigevent=event))
        for _ in range(20):
            assert notified.acquire(timeout=20)

    assert_flat(work, rounds=30)


async def test_called_back_requests_and_lists_leave_nothing(file):
    notified = []

    async def work():
        notified.clear()
        event = sigevent(SIGEV_LOOP, 0, "value", notified.append)
        requests = [
            aiocb(file, bytearray(100), aio_sigevent=event, aio_lio_opcode=LIO_READ)
            for _ in range(20)
        ]
        lio_listio(LIO_NOWAIT, requests, event)
        while len(notified) < 21:
            await asyncio.sleep(0)

    await assert_flat_on_a_loop(work, rounds=500)


# ---- objects ------------------------------------------------------------------------------------


def test_aiocb_is_collected_when_its_request_has_ended(file, pipe):
    for fd, size in ((file, 10), (file, 1 << 20), (pipe[0], 10)):
        cb = aiocb(fd, bytearray(size))
        alive = weakref.ref(cb)
        aio_read(cb)
        del cb
        gc.collect()
        if fd == pipe[0]:
            assert alive() is not None
            os.write(pipe[1], b"x")
        eventually(lambda alive=alive: aio_suspend([]) or alive() is None)


def test_aiocb_that_leads_to_itself_is_collected(file):
    cb = aiocb(file, bytearray(10))
    cb.aio_sigevent = sigevent(SIGEV_THREAD, 0, cb, lambda cb: None)
    aio_read(cb)
    alive = weakref.ref(cb)
    del cb

    def collected():
        aio_suspend([])
        gc.collect()
        return alive() is None

    eventually(collected)


def test_loops_are_collected_when_they_have_been_closed(new_loop, file):
    async def body():
        await awaited_read(file)
        await _core.offload(int)

    references = []
    for _ in range(20):
        loop = new_loop()
        loop.run_until_complete(body())
        loop.close()
        references.append(weakref.ref(loop))
        del loop
    gc.collect()
    assert [ref() for ref in references] == [None] * 20


def test_loops_that_are_dropped_open_are_collected_too(file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(awaited_read(file))
        alive = weakref.ref(loop)
        del loop
        gc.collect()
        assert alive() is None


async def test_handles_are_collected(file):
    with MemoryVolume() as volume:
        handle_of_file = await volume.root.get_file_handle("file", create=True)
        handle = await handle_of_file.create_access_handle()
        await asyncio.gather(*[handle.write(bytes(300_000)) for _ in range(5)])
        await handle.get_size()
        alive = weakref.ref(handle)
        await handle.close()
        del handle
        gc.collect()
        assert alive() is None
        sync = handle_of_file.create_sync_access_handle()
        sync.write(b"x")
        alive = weakref.ref(sync)
        sync.close()
        del sync
        assert alive() is None


# ---- handles ------------------------------------------------------------------------------------


async def test_handle_operations_leave_nothing():
    with MemoryVolume() as volume:
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            buffer = bytearray(8192)

            async def work():
                for _ in range(20):
                    await handle.write(buffer, at=0)
                    await handle.read(buffer, at=0)
                writes = [handle.write(buffer) for _ in range(20)]
                await asyncio.gather(*writes, handle.get_size(), handle.truncate(8192))
                await handle.readv([buffer, buffer], at=0)

            references = sys.getrefcount(buffer)
            await assert_flat_on_a_loop(work, rounds=400)
            assert sys.getrefcount(buffer) <= references


async def test_opening_and_closing_leaves_nothing():
    with MemoryVolume() as volume:
        file = await volume.root.get_file_handle("file", create=True)

        async def work():
            async with file.create_access_handle() as handle:
                await handle.write(b"x")
            with file.create_sync_access_handle(mode="read-only") as handle:
                handle.read(bytearray(1))
            async with file.create_access_handle(mode="readwrite-unsafe"):
                with pytest.raises(aiofs.NoModificationAllowedError):
                    file.create_sync_access_handle()

        await assert_flat_on_a_loop(work, rounds=500)
        assert _core.counters()["files"] == 0 or _core.counters()["files"] <= 4


# ---- loops --------------------------------------------------------------------------------------


def test_hundreds_of_loops_leave_nothing(new_loop, file):
    def work():
        loop = new_loop()
        loop.run_until_complete(awaited_read(file))
        loop.close()

    assert_flat(work, rounds=150, bytes_each=200)
