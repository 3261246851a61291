"""A task whose requests are always terminal at its awaits lets the loop turn all the same.

The tests compare the number of turns with the number of requests, and measure no time. On a slow
machine the loop only turns more often.
"""

import os
import time

import pytest
from coroutines import counted_turns

import aiofs
from aiofs.aio import aio_read, aio_write, aiocb, suspend

REQUESTS = 60
AT_MOST = (
    8  # requests in one turn: each has 3 ms of work, and the coarse clock ticks every 10 ms or less
)


def work():
    end = time.perf_counter() + 0.003
    while time.perf_counter() < end:
        pass


@pytest.fixture
def cached(tmp_path):
    """A descriptor of a file that is in the page cache."""
    path = tmp_path / "cached"
    path.write_bytes(os.urandom(1 << 20))
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


async def turns_beside(step):
    with counted_turns() as turns:
        for _ in range(REQUESTS):
            await step()
    return len(turns)


@pytest.mark.parametrize("size", [1, 4096, 65536, 1 << 20])
async def test_loop_turns_while_a_task_works_after_each_read(cached, size):
    buffer = bytearray(size)

    async def step():
        cb = aiocb(cached, buffer)
        aio_read(cb)
        assert await cb == size
        work()

    assert await turns_beside(step) >= REQUESTS // AT_MOST


@pytest.mark.parametrize("size", [4096, 65536, 1 << 20])
@pytest.mark.parametrize("submit", [aio_read, aio_write])
async def test_loop_turns_while_requests_end_before_their_await(cached, submit, size):
    buffer = bytearray(size)

    async def step():
        cb = aiocb(cached, buffer)
        submit(cb)
        work()
        assert await cb == size

    assert await turns_beside(step) >= REQUESTS // AT_MOST


async def test_loop_turns_while_a_task_awaits_one_ended_request(cached):
    cb = aiocb(cached, bytearray(10))
    aio_read(cb)
    assert await cb == 10

    async def step():
        work()
        assert await cb == 10

    assert await turns_beside(step) >= REQUESTS // AT_MOST


@pytest.mark.parametrize("timeout", [None, 10])
async def test_loop_turns_while_a_task_suspends_on_ended_requests(cached, timeout):
    cb = aiocb(cached, bytearray(10))
    aio_read(cb)
    assert await cb == 10

    async def step():
        work()
        assert await suspend([cb], timeout) == 0

    assert await turns_beside(step) >= REQUESTS // AT_MOST


@pytest.mark.parametrize("size", [4096, 65536])
async def test_loop_turns_while_a_task_awaits_operations_of_a_handle(tmp_path, size):
    with aiofs.PrivateVolume(tmp_path / "volume") as volume:
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            buffer = bytearray(size)
            await handle.write(buffer, at=0)

            async def step():
                assert await handle.read(buffer, at=0) == size
                work()

            async def early():
                operation = handle.read(buffer, at=0)
                work()
                assert await operation == size

            assert await turns_beside(step) >= REQUESTS // AT_MOST
            assert await turns_beside(early) >= REQUESTS // AT_MOST


async def test_many_reads_in_a_row_let_the_loop_turn(cached):
    buffer = bytearray(65536)

    async def step():
        for _ in range(100):
            cb = aiocb(cached, buffer)
            aio_read(cb)
            await cb

    assert await turns_beside(step) >= REQUESTS // 2
