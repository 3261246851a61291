"""AccessHandle: the operations that its methods return: awaited, dropped, cancelled."""

import asyncio
import collections.abc
import errno
import gc
import sys

import pytest
from coroutines import counted_turns, failure, until, wait
from opened import SIZE, all_bytes, is_locked

import aiofs
from aiofs import PrivateVolume
from aiofs.aio import aio_read, aio_return, aio_suspend, aiocb

# ---- started and awaited ------------------------------------------------------------------------


async def test_operation_is_a_coroutine(file):
    async with file.create_access_handle() as handle:
        operation = handle.get_size()
        assert isinstance(operation, collections.abc.Coroutine)
        assert asyncio.iscoroutine(operation)
        assert await asyncio.create_task(operation) == SIZE
        assert await asyncio.gather(handle.get_size(), handle.read(bytearray(5))) == [SIZE, 5]
        assert await asyncio.wait_for(handle.write(b"abc"), 20) == 3
        assert await asyncio.ensure_future(handle.get_size()) == SIZE
        done, _ = await asyncio.wait([asyncio.create_task(handle.get_size())])
        assert done.pop().result() == SIZE


async def test_operation_starts_at_the_call(file):
    async with file.create_access_handle() as handle:
        for size in (3, 500_000):
            operation = handle.write(b"x" * size, at=0)
            await until(lambda size=size: os_view(handle, size) == b"x" * size)
            assert await operation == size


def os_view(handle, size):
    """The bytes that a request reads, without the order of the handle."""
    cb = aiocb(handle, bytearray(size))
    aio_read(cb)
    aio_suspend([cb])
    aio_return(cb)
    return cb.aio_buf


async def test_operation_without_an_await_is_carried_out(file):
    async with file.create_access_handle() as handle:
        for n in range(50):
            handle.write(bytes([n]) * 100_000, at=n * 100_000)
        gc.collect()
        assert await handle.get_size() == 5_000_000
        assert (await all_bytes(handle))[::100_000] == bytes(range(50))


async def test_finished_operation_does_not_suspend(file):
    async with file.create_access_handle() as handle:
        operation = handle.read(bytearray(10))
        await asyncio.sleep(0.01)
        await handle.get_size()
        await asyncio.sleep(0)  # begins a new turn, with a new budget
        with pytest.raises(StopIteration) as stop:
            operation.send(None)
        assert stop.value.value == 10


async def test_finished_operation_does_not_keep_its_handle(file):
    async with file.create_access_handle() as handle:
        await handle.flush()  # the operation that opened it is freed
        references = sys.getrefcount(handle)
        kept = [
            handle.write(b"abc", at=0),
            handle.write(bytearray(500_000), at=0),
            handle.get_size(),
            handle.read(bytearray(3), at=0),
            handle.flush(),
        ]
        for operation in kept:
            await operation
        assert sys.getrefcount(handle) == references


async def test_many_tasks_await_one_operation(file):
    async with file.create_access_handle() as handle:
        operation = handle.write(b"x" * 1_000_000)

        async def wait():
            return await operation

        assert await asyncio.gather(*[wait() for _ in range(5)]) == [1_000_000] * 5


async def test_failure_without_an_await_reaches_the_loops_exception_handler(file, loop_errors):
    async with file.create_access_handle(mode="read-only") as handle:
        handle.write(b"x")
        gc.collect()
        assert len(loop_errors) == 1
        assert isinstance(loop_errors[0]["exception"], aiofs.NoModificationAllowedError)
        awaited = handle.write(b"x")
        await failure(errno.EBADF, awaited)
        del awaited
        gc.collect()
    assert len(loop_errors) == 1


async def test_failure_of_a_dropped_operation_reaches_the_exception_handler(tmp_path, loop_errors):
    with PrivateVolume(tmp_path / "volume", quota=1000) as volume:
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            handle.write(b"x" * 1_000_000)
            assert await handle.get_size() == 0
            await until(lambda: loop_errors)
        assert isinstance(loop_errors[0]["exception"], aiofs.QuotaExceededError)


async def test_loop_turns_while_operations_complete_inside_the_call(file):
    async with file.create_access_handle() as handle:
        buffer = bytearray(8192)
        await asyncio.sleep(0)
        with counted_turns() as counted:
            for _ in range(3000):
                await handle.read(buffer, at=0)
        assert len(counted) >= 3


def test_operation_needs_a_running_loop(run, file):
    async def body():
        return await file.create_access_handle()

    async def close(handle):
        await handle.close()

    handle = run(body())
    for call in (
        lambda: handle.read(bytearray(1)),
        lambda: handle.write(b"x"),
        handle.get_size,
        handle.flush,
        handle.close,
        lambda: handle.truncate(1),
    ):
        with pytest.raises(RuntimeError):
            call()
    run(close(handle))  # on another loop than that of its opening
    assert not is_locked(file)


# ---- cancelled ----------------------------------------------------------------------------------


async def test_cancelled_operation_that_had_not_begun_has_no_effect(file):
    """The operation waits in the handle's queue for the earlier operation that moves the cursor."""
    async with file.create_access_handle() as handle:
        first = handle.write(b"1" * 1_000_000, at=0)
        second = asyncio.create_task(wait(handle.write(b"2" * 10)))
        third = handle.write(b"3" * 10)
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert (await first, await third) == (1_000_000, 10)
        assert (await all_bytes(handle))[999_999:] in (
            b"1" + b"3" * 10,
            b"1" + b"2" * 10 + b"3" * 10,
        )


async def test_cancelled_await_leaves_the_order_as_it_is(file):
    async with file.create_access_handle() as handle:
        for _ in range(30):
            operations = [handle.write(bytes([n]) * 100_000, at=0) for n in range(5)]
            tasks = [asyncio.create_task(wait(operation)) for operation in operations]
            await asyncio.sleep(0)
            tasks[1].cancel()
            tasks[3].cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert [done[n] for n in (0, 2, 4)] == [100_000] * 3
            assert (await all_bytes(handle))[:100_000] == bytes([4]) * 100_000


async def test_cancelled_operation_is_not_reported_to_the_exception_handler(file):
    async with file.create_access_handle() as handle:
        task = asyncio.create_task(wait(handle.write(b"x" * 5_000_000)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        del task
        await handle.get_size()
        gc.collect()


async def test_wait_for_that_times_out_leaves_the_handle_usable(file, faults):
    async with file.create_access_handle() as handle:
        operation = handle.write(b"x" * 8_000_000)
        try:
            await asyncio.wait_for(operation, 0.0001)
        except asyncio.TimeoutError:
            pass
        assert await handle.write(b"abc", at=0) == 3
        assert (await all_bytes(handle))[:3] == b"abc"


async def test_first_write_under_a_quota_walks_no_directory_on_the_thread_of_the_loop(
    tmp_path, faults
):
    with PrivateVolume(tmp_path / "volume", quota=10**6) as volume:
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            before = faults.calls("getdents64")
            assert await handle.write(b"data", at=0) == 4
            assert faults.calls("getdents64") == before
