"""What was started on one loop is awaited on another, while the first has stopped but is open."""

import asyncio
import os

from coroutines import on_loop, turns, wait
from support import eventually, reading

from aiofs import FileHandle, PrivateVolume, aio

SECONDS = 20  # an await that hangs ends by then


async def on_a(function, *arguments):
    return function(*arguments)


async def awaited_before_a_write(pipe, coroutine):
    """Awaits the coroutine, and writes into the pipe after the await has begun."""
    task = asyncio.ensure_future(coroutine)
    await turns(3)
    os.write(pipe[1], b"x")
    return await asyncio.wait_for(task, SECONDS)


def two_loops(new_loop):
    first, second = new_loop(), new_loop()
    second.run_until_complete(asyncio.sleep(0))
    return first, second


def close(*loops):
    for loop in loops:
        loop.close()


def test_request_of_a_stopped_loop_completes_on_the_loop_that_awaits_it(new_loop, pipe):
    first, second = two_loops(new_loop)
    cb = first.run_until_complete(on_a(reading, pipe[0], 1))

    async def body():
        return await awaited_before_a_write(pipe, wait(cb))

    assert second.run_until_complete(body()) == 1
    close(first, second)


def test_callback_of_a_stopped_loop_runs_when_that_loop_runs_again(new_loop, pipe):
    first, second = two_loops(new_loop)
    called = []
    cb = first.run_until_complete(
        on_a(lambda: reading(pipe[0], 1, aio_sigevent=on_loop(called.append, "value")))
    )

    async def body():
        return await awaited_before_a_write(pipe, wait(cb))

    assert second.run_until_complete(body()) == 1
    second.run_until_complete(asyncio.sleep(0))
    assert called == []

    async def until_called():
        while not called:
            await asyncio.sleep(0)

    first.run_until_complete(asyncio.wait_for(until_called(), SECONDS))
    assert called == ["value"]
    close(first, second)


def test_request_awaited_on_two_loops_completes_on_both(new_loop, pipe):
    first, second = two_loops(new_loop)

    async def begin():
        cb = reading(pipe[0], 1)
        task = asyncio.ensure_future(wait(cb))
        await asyncio.sleep(0)
        return cb, task

    async def body(awaitable):
        return await asyncio.wait_for(awaitable, SECONDS)

    cb, task = first.run_until_complete(begin())
    assert second.run_until_complete(awaited_before_a_write(pipe, wait(cb))) == 1
    assert first.run_until_complete(body(task)) == 1
    close(first, second)


def test_suspend_on_another_loop_ends_when_a_request_of_a_stopped_loop_does(new_loop, pipe):
    first, second = two_loops(new_loop)
    cb = first.run_until_complete(on_a(reading, pipe[0], 1))

    async def body():
        await awaited_before_a_write(pipe, aio.suspend([cb]))

    second.run_until_complete(body())
    assert aio.aio_return(cb) == 1
    close(first, second)


def test_operations_of_a_handle_started_on_a_stopped_loop_complete_on_another(new_loop, tmp_path):
    first, second = two_loops(new_loop)
    with PrivateVolume(tmp_path / "volume") as volume:

        async def begin():
            file = await volume.root.get_file_handle("file", create=True)
            handle = await file.create_access_handle()
            return handle, [handle.write(bytes(3_000_000), at=0) for _ in range(3)]

        async def end(handle, writes):
            closing = handle.close()
            await asyncio.wait_for(wait(closing), SECONDS)
            return [await asyncio.wait_for(wait(each), SECONDS) for each in writes]

        handle, writes = first.run_until_complete(begin())
        assert second.run_until_complete(end(handle, writes)) == [3_000_000] * 3
    close(first, second)


def test_opening_started_on_a_stopped_loop_completes_on_another(new_loop, tmp_path):
    first, second = two_loops(new_loop)
    with PrivateVolume(tmp_path / "volume") as volume:
        file = FileHandle._of(volume, "file")

        async def create():
            await volume.root.get_file_handle("file", create=True)
            return file.create_access_handle()

        async def end(opening):
            handle = await asyncio.wait_for(wait(opening), SECONDS)
            await handle.close()

        opening = first.run_until_complete(create())
        second.run_until_complete(end(opening))
    close(first, second)


def test_completed_request_of_a_stopped_loop_is_awaited_on_another(new_loop, pipe):
    first, second = two_loops(new_loop)
    cb = first.run_until_complete(on_a(reading, pipe[0], 1))
    os.write(pipe[1], b"x")
    eventually(lambda: aio.aio_error(cb) == 0)
    assert second.run_until_complete(wait(cb)) == 1
    close(first, second)
