"""AccessHandle: an opening waits for a lock that is being released, and gets the lock."""

import asyncio
import warnings
from contextlib import suppress

import pytest
from asking import asking
from coroutines import turns, wait

from aiofs import aio

ROUNDS = 150


@pytest.fixture(autouse=True)
def without_warnings():
    """These tests drop handles without closing them, and openings without an await."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        warnings.filterwarnings("ignore", "the opening of a handle was never awaited")
        yield


async def drop_an_opening(file, turn):
    opening = file.create_access_handle()
    await turns(turn % 3)
    del opening


async def cancel_an_opening(file, turn):
    """A task that was cancelled before its first step keeps the opening until the loop turns."""
    task = asyncio.create_task(wait(file.create_access_handle()))
    await turns(turn % 6)
    task.cancel()
    await end_of(task)


async def time_an_opening_out(file, turn):
    task = asyncio.create_task(wait_for(file.create_access_handle(), 0.00005 * (turn % 8)))
    await end_of(task)


async def close_an_opening(file, turn):
    opening = file.create_access_handle()
    with suppress(StopIteration):
        opening.send(None)
        await turns(turn % 2)
    opening.close()


async def drop_a_handle(file, turn):
    handle = await file.create_access_handle()
    if turn % 2:
        await handle.write(b"x" * 10_000, at=0)
    del handle


async def drop_a_handle_that_writes(file, turn):
    handle = await file.create_access_handle()
    operations = [handle.write(bytes(1_000_000), at=part) for part in range(turn % 3 + 1)]
    if turn % 2:
        await operations[0]
    del handle


async def drop_a_handle_that_flushes(file, turn):
    handle = await file.create_access_handle()
    await handle.write(b"x" * 10_000, at=0)
    operation = handle.flush()
    del handle
    await turns(turn % 3)
    del operation


async def drop_a_handle_that_a_request_writes_to(file, turn):
    handle = await file.create_access_handle()
    request = aio.aiocb(handle, bytes(1_000_000))
    aio.aio_write(request)
    request.aio_fildes = -1
    del handle


async def wait_for(awaitable, seconds):
    return await asyncio.wait_for(awaitable, seconds)


async def end_of(task):
    try:
        handle = await task
    except (asyncio.CancelledError, asyncio.TimeoutError):
        pass
    else:
        await handle.close()


WAYS = [
    drop_an_opening,
    cancel_an_opening,
    time_an_opening_out,
    close_an_opening,
    drop_a_handle,
    drop_a_handle_that_writes,
    drop_a_handle_that_flushes,
    drop_a_handle_that_a_request_writes_to,
]


@pytest.mark.parametrize("abandon", WAYS)
async def test_reopening_after_a_cancelled_opening_gets_the_lock(file, abandon):
    for turn in range(ROUNDS):
        await abandon(file, turn)
        handle = await file.create_access_handle()
        await handle.close()


@pytest.mark.parametrize("abandon", WAYS)
async def test_synchronous_opening_after_a_cancelled_opening_gets_the_lock(file, abandon):
    for turn in range(ROUNDS):
        await abandon(file, turn)
        await turns(1)
        file.create_sync_access_handle().close()


@pytest.mark.parametrize("abandon", WAYS)
async def test_file_can_be_removed_after_a_cancelled_opening(volume, abandon):
    for turn in range(ROUNDS // 3):
        file = await volume.root.get_file_handle("file", create=True)
        await abandon(file, turn)
        await turns(1)
        await file.remove()


@pytest.mark.parametrize("abandon", WAYS)
async def test_another_process_gets_the_lock_after_a_cancelled_opening(on_disk, abandon):
    with asking(on_disk) as ask:
        for turn in range(ROUNDS):
            await abandon(on_disk, turn)
            await turns(1)
            assert ask() == "opened"


async def test_lock_that_is_not_being_released_is_refused(file):
    handle = await file.create_access_handle()
    for turn in range(20):
        task = asyncio.create_task(wait(file.create_access_handle()))
        await turns(turn % 6)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, OSError)):
            await task
        with pytest.raises(OSError, match="in use"):
            await file.create_access_handle()
    await handle.close()


async def test_many_dropped_openings_leave_the_lock(file):
    openings = [file.create_access_handle() for _ in range(500)]
    del openings
    handle = await file.create_access_handle()
    await handle.close()
