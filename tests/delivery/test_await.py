"""Awaiting a request: its result, its cancellation, and the turns of the loop."""

import asyncio
import errno
import os
import threading

import pytest
from coroutines import counted_turns, failure, wait
from support import CONTENT, failed, reading

from aiofs.aio import aio_cancel, aio_error, aio_read, aio_return, aio_suspend, aio_write, aiocb


@pytest.mark.parametrize("size", [0, 10, 1 << 20])
async def test_await_gives_the_result_and_leaves_it_to_aio_return(file, size):
    cb = aiocb(file, bytearray(size))
    aio_read(cb)
    assert await cb == min(size, len(CONTENT))
    assert await cb == min(size, len(CONTENT))
    assert aio_return(cb) == min(size, len(CONTENT))
    failed(errno.EINVAL, aio_return, cb)
    assert await cb == min(size, len(CONTENT))


async def test_await_of_a_finished_request_does_not_suspend(file):
    cb = reading(file)
    aio_suspend([cb])
    await asyncio.sleep(0)  # begins a new turn, with a new budget
    coroutine = wait(cb)
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value == 10


async def test_await_waits_for_the_end(pipe):
    cb = reading(pipe[0])
    asyncio.get_running_loop().call_later(0.01, os.write, pipe[1], b"hello")
    assert await cb == 5
    assert cb.aio_buf[:5] == b"hello"


async def test_await_raises_what_aio_return_raises(file, pipe):
    for fd, offset, number in ((987654, 0, errno.EBADF), (file, -1, errno.EINVAL)):
        cb = reading(fd, aio_offset=offset)
        for _ in range(2):
            assert (await failure(number, cb)).filename == fd
        failed(number, aio_return, cb)
    cb = reading(pipe[0])
    task = asyncio.ensure_future(wait(cb))
    await asyncio.sleep(0)
    aio_cancel(pipe[0], cb)
    await failure(errno.ECANCELED, task)


async def test_await_of_an_aiocb_that_was_never_submitted_is_einval(file):
    await failure(errno.EINVAL, aiocb(file))


async def test_many_tasks_await_one_request(pipe):
    cb = reading(pipe[0])
    tasks = [asyncio.create_task(wait(cb)) for _ in range(10)]
    await asyncio.sleep(0)
    os.write(pipe[1], b"abc")
    assert await asyncio.gather(*tasks) == [3] * 10


def test_request_submitted_before_the_loop_ran_is_awaited(run, pipe, file):
    cb, done = reading(pipe[0]), reading(file)

    async def body():
        asyncio.get_running_loop().call_later(0.01, os.write, pipe[1], b"x")
        return await cb, await done

    assert run(body()) == (1, 10)


def test_request_submitted_on_a_loop_that_closed_is_awaited_on_the_next(new_loop, pipe):
    first, second = new_loop(), new_loop()

    async def submit():
        return reading(pipe[0])

    cb = first.run_until_complete(submit())
    first.close()
    threading.Timer(0.05, os.write, [pipe[1], b"x"]).start()  # the second loop sleeps then
    assert second.run_until_complete(asyncio.wait_for(wait(cb), 20)) == 1
    second.close()


async def test_request_is_awaited_on_another_loop_in_another_thread(pipe, new_loop):
    cb = reading(pipe[0])
    results = []

    def in_a_thread():
        loop = new_loop()
        results.append(loop.run_until_complete(asyncio.wait_for(wait(cb), 20)))
        loop.close()

    with_thread = asyncio.to_thread(in_a_thread)
    task = asyncio.ensure_future(with_thread)
    here = asyncio.ensure_future(wait(cb))
    await asyncio.sleep(0.02)
    os.write(pipe[1], b"abc")
    await task
    assert (await here, results) == (3, [3])


def test_await_outside_a_loop_is_refused(pipe):
    cb = reading(pipe[0])
    coroutine = wait(cb)
    with pytest.raises(RuntimeError):
        coroutine.send(None)
    aio_cancel(pipe[0])


async def test_gather_and_wait_for_take_requests(file, pipe):
    requests = [reading(file, 10, aio_offset=n) for n in range(20)]
    assert await asyncio.gather(*map(wait, requests)) == [10] * 20
    waiting = reading(pipe[0])
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(wait(waiting), 0.01)
    aio_suspend([waiting])
    assert aio_error(waiting) == errno.ECANCELED


async def test_cancelling_the_await_cancels_the_request(pipe):
    cb = reading(pipe[0])
    task = asyncio.ensure_future(wait(cb))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    aio_suspend([cb], 20)
    assert aio_error(cb) == errno.ECANCELED
    os.write(pipe[1], b"kept")
    assert os.read(pipe[0], 10) == b"kept"


async def test_cancelled_await_of_a_request_that_completes_keeps_the_result(file):
    """The kernel may complete the write before the cancellation. Then it returns the result."""
    for _ in range(50):
        cb = aiocb(file, bytes(1 << 20), aio_offset=len(CONTENT))
        aio_write(cb)
        task = asyncio.ensure_future(wait(cb))
        await asyncio.sleep(0)
        task.cancel()
        try:
            assert await task == 1 << 20
        except asyncio.CancelledError:
            pass
        aio_suspend([cb])
        assert aio_error(cb) in (0, errno.ECANCELED)
    os.truncate(file, len(CONTENT))


async def test_loop_turns_while_a_coroutine_awaits_only_finished_requests(file):
    """Counts the turns of the loop. The test does not measure time."""
    cb = aiocb(file, bytearray(8192))
    with counted_turns() as counted:
        for _ in range(3000):
            aio_read(cb)
            await cb
    assert len(counted) >= 3000 * 8192 // (8 << 20)


async def test_loop_turns_while_a_coroutine_submits_and_awaits_writes(tmp_path):
    fd = os.open(tmp_path / "big", os.O_RDWR | os.O_CREAT)
    with counted_turns() as counted:
        for turn in range(400):
            cb = aiocb(fd, bytes(1 << 16), aio_offset=(turn % 16) << 16)
            aio_write(cb)
            await cb
    assert len(counted) >= 3
    os.close(fd)
