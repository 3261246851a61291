"""aiofs.aio.suspend: aio_suspend for coroutines. The loop runs meanwhile."""

import asyncio
import errno
import gc
import os
import time

import pytest
from coroutines import failure, turns
from support import reading, result

from aiofs.aio import aio_cancel, aio_error, aio_return, aiocb, suspend


async def test_suspend_waits_for_one_of_many(pipe, file):
    other = os.pipe()
    waiting, cb = reading(other[0]), reading(pipe[0])
    asyncio.get_running_loop().call_later(0.01, os.write, pipe[1], b"x")
    assert await suspend([waiting, None, cb]) == 0
    assert (aio_error(waiting), aio_return(cb)) == (errno.EINPROGRESS, 1)
    assert await suspend([waiting, cb], 0) == 0
    assert await suspend([waiting, reading(file)]) == 0
    aio_cancel(other[0])
    for fd in other:
        os.close(fd)


@pytest.mark.parametrize("timeout", [0, -1, 0.01])
async def test_suspend_fails_with_eagain_when_the_time_is_up(pipe, timeout):
    cb = reading(pipe[0])
    await failure(errno.EAGAIN, suspend([cb], timeout))
    assert aio_error(cb) == errno.EINPROGRESS
    os.write(pipe[1], b"x")
    assert await suspend([cb], 20) == 0
    assert aio_return(cb) == 1


async def test_suspend_on_an_empty_list_returns_at_once(file):
    for nothing in ([], [None], [aiocb(file)], (None, aiocb(file))):
        assert await suspend(nothing) == 0


async def test_suspend_lets_the_loop_run(pipe):
    cb = reading(pipe[0])
    task = asyncio.ensure_future(suspend([cb]))
    await turns(5)
    assert not task.done()
    os.write(pipe[1], b"x")
    assert await task == 0


async def test_cancelled_suspend_leaves_its_requests(pipe):
    requests = [reading(pipe[0], 1) for _ in range(3)]
    task = asyncio.ensure_future(suspend(requests))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [aio_error(cb) for cb in requests] == [errno.EINPROGRESS] * 3
    os.write(pipe[1], b"abc")
    assert [await cb for cb in requests] == [1, 1, 1]


@pytest.mark.parametrize("items", [5, [5], ["cb"], [aiocb(), 5]])
async def test_suspend_takes_a_list_of_aiocbs(items):
    with pytest.raises(TypeError):
        await suspend(items)


@pytest.mark.parametrize("listed", [list, iter])
def test_timed_out_suspend_does_not_cancel_requests_when_its_loop_closes(new_loop, pipe, listed):
    cb = reading(pipe[0], 3)
    loop = new_loop()
    with pytest.raises(OSError):
        loop.run_until_complete(suspend(listed([cb]), 0.01))
    loop.close()
    gc.collect()
    time.sleep(0.02)
    assert aio_error(cb) == errno.EINPROGRESS
    os.write(pipe[1], b"abc")
    assert result(cb) == 3


async def test_suspend_refuses_a_timeout_that_is_not_a_number(pipe):
    cb = reading(pipe[0])
    with pytest.raises(ValueError):
        await suspend([cb], float("nan"))
    aio_cancel(pipe[0])
