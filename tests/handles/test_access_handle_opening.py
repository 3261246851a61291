"""AccessHandle: an opening that is cancelled or dropped leaves no lock and no descriptor."""

import asyncio
import gc
import os
import time
import warnings

import pytest
from coroutines import until, wait
from opened import is_locked

import aiofs
from aiofs import _core
from aiofs.aio import aio_error, aio_read, aio_suspend, aiocb


def slow_down_offload(monkeypatch, seconds):
    """Delays each opening, so that a test can cancel it before it starts."""
    offload = _core.offload_waiting

    def later(function, *arguments):
        time.sleep(seconds)
        return function(*arguments)

    if seconds:
        monkeypatch.setattr(
            _core, "offload_waiting", lambda until, key, *call: offload(until, key, later, *call)
        )


@pytest.mark.parametrize("takes", [0, 0.002])
async def test_cancelled_opening_leaves_no_lock_no_descriptor_and_no_warning(
    file, takes, monkeypatch
):
    slow_down_offload(monkeypatch, takes)
    mode = "exclusive" if takes else "in-place"  # the first makes a copy, on a host thread
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kept = []
        for turn in range(60):
            task = asyncio.create_task(wait(file.create_access_handle(mode=mode)))
            for _ in range(turn % 6):
                await asyncio.sleep(0)
            task.cancel()
            try:
                handle = await task
            except (asyncio.CancelledError, aiofs.NoModificationAllowedError) as error:
                if turn % 6:  # it had started; the kept traceback must keep no lock
                    kept.append(error)
            else:
                await handle.close()
                del handle
            del task
            await until(lambda: not is_locked(file))
        assert kept or not takes
        gc.collect()
    assert [str(w.message) for w in caught if w.category is ResourceWarning] == []


async def test_opening_cancelled_inside_async_with_leaves_no_lock(file):
    async def holder():
        async with file.create_access_handle():
            await asyncio.sleep(100)

    for turn in range(30):
        task = asyncio.create_task(holder())
        for _ in range(turn % 6):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, aiofs.NoModificationAllowedError)):
            await task
        await until(lambda: not is_locked(file))


async def test_opening_that_is_dropped_leaves_no_lock(file):
    for _ in range(20):
        with pytest.warns(RuntimeWarning, match="was never awaited"):
            file.create_access_handle()
            gc.collect()
        await until(lambda: not is_locked(file))


async def test_opening_that_is_dropped_leaves_no_lock_where_warnings_are_errors(file, monkeypatch):
    unraisable = []
    monkeypatch.setattr("sys.unraisablehook", lambda shown: unraisable.append(shown.exc_type))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file.create_access_handle()
        gc.collect()
    assert unraisable == [RuntimeWarning]
    await until(lambda: not is_locked(file))


async def test_opening_that_was_awaited_cancelled_or_closed_gives_no_warning(file):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with file.create_access_handle():
            pass
        await (await file.create_access_handle()).close()
        file.create_access_handle().close()
        await until(lambda: not is_locked(file))
        unstarted = file.create_access_handle()
        with pytest.raises(asyncio.CancelledError):
            unstarted.throw(asyncio.CancelledError())
        await until(lambda: not is_locked(file))
        task = asyncio.create_task(file.create_access_handle())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del unstarted, task
        gc.collect()
    assert [str(w.message) for w in caught if w.category is RuntimeWarning] == []
    await until(lambda: not is_locked(file))


async def test_opening_cancelled_while_it_is_entered_leaves_no_lock(on_disk):
    entering = await an_entering_that_waits(on_disk)
    spend = aiocb(os.open("/proc/self/exe", os.O_RDONLY), bytearray(1))
    while aio_error_after(spend) or not _core._turn_is_spent():
        time.sleep(0.001)  # a turn of the loop that has spent its budget
    os.close(spend.aio_fildes)
    try:
        entering.send(None)
    except StopIteration as entered:
        handle = entered.value
        assert is_locked(on_disk)
        await handle.close()
    else:
        with pytest.raises(asyncio.CancelledError):
            entering.throw(asyncio.CancelledError())
    await until(lambda: not is_locked(on_disk))  # its copy is removed on a host thread


async def an_entering_that_waits(file):
    """The coroutine of `async with`, once it waits for a file that is open by then."""
    while True:
        entering = file.create_access_handle(mode="exclusive").__aenter__()
        try:
            while (future := entering.send(None)) is None:  # the turn is spent, as in sleep(0)
                await asyncio.sleep(0)
        except StopIteration as entered:  # it was open at once
            await entered.value.close()
        else:
            await asyncio.wait([future])
            return entering


def aio_error_after(cb):
    aio_read(cb)
    aio_suspend([cb])
    return aio_error(cb)
