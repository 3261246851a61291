"""AccessHandle: the lock is held until the last operation is complete, however it is closed."""

import asyncio
import errno
import gc
import resource
import threading
import warnings
import weakref

import pytest
from coroutines import failure, until, wait
from opened import SIZE, is_locked
from support import thread
from volumes.dict_volume import DictVolume

import aiofs
from aiofs.aio import aio_write, aiocb

# ---- closing ------------------------------------------------------------------------------------


async def test_close_waits_for_the_operations_before_it(file):
    handle = await file.create_access_handle()
    operations = [handle.write(b"x" * 500_000, at=n * 500_000) for n in range(20)]
    assert await handle.close() is None
    assert await asyncio.gather(*operations) == [500_000] * 20
    with file.create_sync_access_handle() as other:
        assert other.get_size() == 10_000_000


async def test_lock_is_held_until_close_has_ended(file, faults):
    handle = await file.create_access_handle()
    handle.write(b"x" * 3_000_000)
    closing = handle.close()
    while is_locked(file):
        await asyncio.sleep(0)
    assert await closing is None
    with file.create_sync_access_handle() as other:
        assert other.get_size() == 3_000_000


async def test_close_is_idempotent_and_every_close_waits(file):
    handle = await file.create_access_handle()
    handle.write(b"x" * 3_000_000)
    first, second = handle.close(), handle.close()
    assert await second is None
    assert not is_locked(file)
    assert await first is None
    assert await handle.close() is None
    assert await handle.abort() is None


async def test_cancelling_a_close_does_not_stop_it(file):
    handle = await file.create_access_handle()
    handle.write(b"x" * 3_000_000)
    task = asyncio.create_task(wait(handle.close()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await handle.close()
    assert not is_locked(file)


async def test_use_after_close_is_invalid_state(file):
    handle = await file.create_access_handle()
    closing = handle.close()
    for turn in range(2):  # while it is being closed, and afterwards
        for call in (
            lambda: handle.read(bytearray(1)),
            lambda: handle.write(b"x"),
            lambda: handle.readv([bytearray(1)]),
            lambda: handle.writev([b"x"]),
            lambda: handle.truncate(0),
            handle.get_size,
            handle.flush,
            handle.__aenter__,
        ):
            error = await failure(errno.EBADF, call())
            assert isinstance(error, aiofs.InvalidStateError)
            assert error.name == "InvalidStateError"
            assert error.filename.endswith("file")
        with pytest.raises(aiofs.InvalidStateError):
            handle.fileno()
        if turn == 0:
            await closing
    assert "closed" in repr(handle)
    with file.create_sync_access_handle() as other:
        assert other.get_size() == SIZE


async def test_context_manager_closes_also_when_its_body_raises(file):
    with pytest.raises(ZeroDivisionError):
        async with file.create_access_handle() as handle:
            handle.write(b"stays")
            raise ZeroDivisionError
    assert not is_locked(file)
    with file.create_sync_access_handle() as other:
        data = bytearray(5)
        other.read(data)
        assert data == b"stays"


async def test_awaited_handle_is_a_context_manager(file):
    handle = await file.create_access_handle()
    async with handle as entered:
        assert entered is handle
    assert not is_locked(file)


async def test_abort_ends_operations_that_have_not_begun_with_abort_error(file):
    handle = await file.create_access_handle()
    operations = [handle.write(b"x" * 3_000_000, at=0)]
    operations += [handle.write(b"y" * 10) for _ in range(5)]
    size = handle.get_size()
    await handle.abort()
    assert not is_locked(file)
    results = await asyncio.gather(*operations, size, return_exceptions=True)
    assert all(isinstance(result, (int, aiofs.AbortError)) for result in results)
    if not isinstance(results[1], int):
        assert [type(result) for result in results[2:]] == [aiofs.AbortError] * 5
        assert results[2].name == "AbortError"
        assert results[2].errno == errno.ECANCELED
        assert results[2].filename.endswith("file")


async def test_handle_dropped_without_close_leaves_no_lock_and_warns(file):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        handle = await file.create_access_handle()
        operation = handle.write(b"kept" * 500_000, at=0)
        alive = weakref.ref(handle)
        del handle
        assert await operation == 2_000_000
        del operation
        gc.collect()
        await until(lambda: alive() is None or caught)
    assert ResourceWarning in [warning.category for warning in caught]
    await until(lambda: not is_locked(file))
    with file.create_sync_access_handle() as other:
        assert other.get_size() == 2_000_000


# ---- delayed writes -----------------------------------------------------------------------------


@pytest.fixture
def slow_writes(faults):
    for name in ("pwritev2", "pwrite64"):
        faults.delay(name, 0.15)


async def wait_for_release(file):
    """Waits until the lock is released."""
    assert is_locked(file)
    await until(lambda: not is_locked(file))


async def test_close_with_writes_in_flight_keeps_the_lock_until_the_last_write_ends(
    on_disk, calls_only, slow_writes
):
    handle = await on_disk.create_access_handle()
    operation = handle.write(b"x" * 400_000, at=0)
    later = handle.write(b"y" * 10, at=400_000)
    closing = handle.close()
    await wait_for_release(on_disk)
    with on_disk.create_sync_access_handle() as other:
        assert other.get_size() == 400_010
    assert (await operation, await later, await closing) == (400_000, 10, None)


async def test_cancel_with_writes_in_flight_keeps_the_lock_until_the_last_write_ends(
    on_disk, calls_only, slow_writes
):
    async def holder():
        async with on_disk.create_access_handle() as handle:
            started.set()
            await handle.write(b"x" * 400_000, at=0)

    started = asyncio.Event()
    task = asyncio.create_task(holder())
    await started.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    await wait_for_release(on_disk)
    with on_disk.create_sync_access_handle() as other:
        data = bytearray(400_000)
        assert other.read(data) == 400_000
        assert data == b"x" * 400_000
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_dropping_a_handle_with_writes_in_flight_keeps_the_lock_until_the_last_write_is_made(
    on_disk, calls_only, slow_writes
):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        handle = await on_disk.create_access_handle()
        cb = aiocb(handle, b"x" * 400_000)
        aio_write(cb)
        cb.aio_fildes = -1
        del handle
    with on_disk.create_sync_access_handle() as other:
        data = bytearray(400_000)
        assert other.read(data) == 400_000
        assert data == b"x" * 400_000
    assert await cb == 400_000


class CompletesLate(DictVolume):
    """A thread completes the first write, and is then held inside `submit` of the second."""

    blocking = False

    def __init__(self):
        super().__init__()
        self.first, self.inside, self.go_on = None, threading.Event(), threading.Event()

    def submit(self, request):
        if request.op == "write" and self.first is None:
            self.first = request
            return
        if request.op == "write":
            self.inside.set()
            self.go_on.wait(20)
        super().submit(request)


async def test_abort_does_not_wait_for_a_thread_that_completes_a_request():
    with CompletesLate() as volume:
        file = await volume.root.get_file_handle("file", create=True)
        handle = await file.create_access_handle()
        first, second = handle.write(b"data", at=0), handle.write(b"data", at=2)
        with thread(volume.first.complete, 4):
            assert volume.inside.wait(20)
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
            aborting = handle.abort()
            waits = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before
            volume.go_on.set()
        assert waits < 500  # a second of short sleeps are thousands
        await aborting
        assert await first == await second == 4
