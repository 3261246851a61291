"""Loops that are closed: what happens to their requests and callbacks."""

import asyncio
import errno
import gc
import os

import pytest
from coroutines import on_loop, wait
from support import eventually, python, reading, result, thread

from aiofs import _core
from aiofs.aio import aio_error, aio_suspend, aio_write, aiocb


def test_fifty_loops_in_a_row_complete_requests(new_loop, file, pipe):
    for turn in range(50):
        notified = []

        async def body(notified=notified):
            cb = reading(pipe[0], 1, aio_sigevent=on_loop(notified.append))
            reading(file, 1, aio_sigevent=on_loop(notified.append))
            asyncio.get_running_loop().call_soon(os.write, pipe[1], b"x")
            assert await cb == 1
            while len(notified) < 2:
                await asyncio.sleep(0)

        loop = new_loop()
        loop.run_until_complete(body())
        loop.close()
        assert len(notified) == 2, turn


def test_closing_a_loop_cancels_only_the_requests_awaited_on_it(new_loop, pipe):
    other = os.pipe()

    async def body():
        awaited, left = reading(pipe[0], 1), reading(other[0], 1)
        left.aio_sigevent = on_loop(print)
        task = asyncio.ensure_future(wait(awaited))
        await asyncio.sleep(0)
        return awaited, left, task

    loop = new_loop()
    awaited, left, task = loop.run_until_complete(body())
    task._log_destroy_pending = False
    loop.close()
    del loop
    gc.collect()
    aio_suspend([awaited], 20)
    assert aio_error(awaited) == errno.ECANCELED
    assert aio_error(left) == errno.EINPROGRESS
    os.write(other[1], b"x")
    assert result(left) == 1
    for fd in other:
        os.close(fd)


def test_callback_for_a_closed_loop_never_runs(new_loop, pipe):
    notified = []

    async def body():
        return reading(pipe[0], 1, aio_sigevent=on_loop(notified.append))

    loop = new_loop()
    cb = loop.run_until_complete(body())
    loop.close()
    os.write(pipe[1], b"x")
    assert result(cb) == 1
    loop = new_loop()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    assert notified == []


def test_loops_in_many_threads_complete_requests_at_the_same_time(new_loop, tmp_path):
    async def body(number):
        fd = os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT)
        for turn in range(30):
            big = aiocb(fd, bytes([number]) * 300_000, aio_offset=turn * 10)
            aio_write(big)
            assert await big == 300_000
            small = reading(fd, 10, aio_offset=turn)
            assert await small == 10
            assert small.aio_buf == bytes([number]) * 10
        os.close(fd)

    def work(number):
        for _ in range(4):
            loop = new_loop()
            loop.run_until_complete(body(number))
            loop.close()

    with thread(work, 1), thread(work, 2), thread(work, 3), thread(work, 4):
        pass


def test_unclaimed_completions_of_a_closed_loop_are_released(new_loop, pipe):
    class Buffer(bytearray):
        pass

    async def body():
        reading(pipe[0], 1)

    loop = new_loop()
    loop.run_until_complete(body())
    loop.close()
    os.write(pipe[1], b"x")
    eventually(lambda: _core.counters()["outstanding"] == 0)


SCARCE = """
import asyncio, os, resource, sys
import uvloop
from aiofs.aio import *

new_loop = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}[sys.argv[1]]
read_end, write_end = os.pipe()

def submit():
    cb = aiocb(read_end, bytearray(1))
    aio_read(cb)
    aio_cancel(read_end, cb)

def eventfds():
    folder = "/proc/self/fd"
    paths = filter(os.path.lexists, (f"{folder}/{name}" for name in os.listdir(folder)))
    return [os.readlink(path) for path in paths].count("anon_inode:[eventfd]")

async def body():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before, refused = eventfds(), 0
    for turn in range(15):
        spare = turn % 5
        fill = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]  # they leave no gap
        for _ in range(spare):
            os.close(fill.pop())
        resource.setrlimit(resource.RLIMIT_NOFILE, (fill[-1] + 1 + spare, hard))
        try:
            submit()
        except OSError:
            refused += 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fill:
            os.close(fd)
    assert refused
    assert eventfds() - before <= 2, eventfds() - before  # the loop's, and one for all loops

submit()  # starts the engine
loop = new_loop()
loop.run_until_complete(body())
loop.close()
"""


@pytest.mark.parametrize("kind", ["uvloop", "asyncio"])
def test_first_submission_that_finds_no_descriptor_leaks_none(kind):
    python(SCARCE, kind)
