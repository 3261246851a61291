"""AccessHandle: an open, locked file on a loop, its operations in the order of their calls."""

import array
import asyncio
import collections.abc
import copy
import errno
import gc
import os
import pickle
import random
import time
import warnings
import weakref

import pytest
from volumes.dict_volume import DictVolume

import aiofs
from aiofs import AccessHandle, MemoryVolume, PrivateVolume, _core
from aiofs.aio import aio_read, aio_return, aio_suspend, aio_write, aiocb

CONTENT = bytes(range(256)) * 40
SIZE = len(CONTENT)


@pytest.fixture(params=["private", "memory", "dict"])
def volume(request, tmp_path):
    made = {
        "private": lambda: PrivateVolume(tmp_path / "volume"),
        "memory": MemoryVolume,
        "dict": DictVolume,
    }
    with made[request.param]() as volume:
        yield volume


@pytest.fixture
def on_disk(tmp_path):
    with PrivateVolume(tmp_path / "volume") as volume:
        with volume._tree.sync_access_handle("file", "in-place", True) as handle:
            handle.write(CONTENT)
        yield aiofs.FileHandle._of(volume, "file")


@pytest.fixture
def file(volume):
    """The handle of a file with the content."""
    with volume._tree.sync_access_handle("file", "in-place", True) as handle:
        handle.write(CONTENT)
    return aiofs.FileHandle._of(volume, "file")


async def failure(number, awaitable):
    """The OSError of this errno that the await raises."""
    with pytest.raises(OSError) as caught:
        await awaitable
    assert caught.value.errno == number, caught.value
    return caught.value


async def all_bytes(handle):
    data = bytearray(await handle.get_size() + 10)
    return bytes(data[: await handle.read(data, at=0)])


async def cursor_of(handle):
    byte = bytearray(1)
    assert await handle.read(byte) == 1
    return byte[0]


def is_locked(file):
    try:
        file.create_sync_access_handle().close()
    except aiofs.NoModificationAllowedError:
        return True
    return False


async def until(condition):
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("never came")


# ---- reading and writing ------------------------------------------------------------------------


async def test_reads_go_on_where_the_last_one_ended(file):
    async with file.create_access_handle() as handle:
        pieces, buffer = [], bytearray(1000)
        while count := await handle.read(buffer):
            pieces.append(bytes(buffer[:count]))
        assert b"".join(pieces) == CONTENT


async def test_read_and_write_at_move_the_cursor(file):
    async with file.create_access_handle() as handle:
        buffer = bytearray(10)
        assert await handle.read(buffer, at=100) == 10
        assert buffer == CONTENT[100:110]
        assert await cursor_of(handle) == 110
        assert await handle.write(b"abc", at=20) == 3
        assert await handle.write(b"def") == 3
        assert await cursor_of(handle) == 26
        assert (await all_bytes(handle))[20:26] == b"abcdef"


async def test_read_past_the_end_gives_0_and_leaves_the_cursor_there(file):
    async with file.create_access_handle() as handle:
        assert await handle.read(bytearray(10), at=SIZE + 100) == 0
        await handle.write(b"here")
        assert await handle.get_size() == SIZE + 104


@pytest.mark.parametrize("at", [0, 5, SIZE, SIZE + 100])
async def test_no_bytes_move_the_cursor_and_never_extend_the_file(file, at):
    async with file.create_access_handle() as handle:
        for call in (handle.read, handle.write):
            assert await call(bytearray(), at=at) == 0
        assert await handle.readv([], at=at) == 0
        assert await handle.writev([b"", b""], at=at) == 0
        assert await handle.get_size() == SIZE
        await handle.write(b"here")
        assert (await all_bytes(handle))[at : at + 4] == b"here"


@pytest.mark.parametrize("size", [1, 1 << 16, (1 << 18) + 1, 3 << 20])
async def test_any_size_goes_there_and_comes_back(file, size):
    data = os.urandom(size)
    async with file.create_access_handle() as handle:
        assert await handle.write(data, at=3) == size
        buffer = bytearray(size)
        assert await handle.read(buffer, at=3) == size
        assert buffer == data


async def test_several_buffers_are_one_piece(file):
    async with file.create_access_handle() as handle:
        buffers = [bytearray(3), bytearray(0), array.array("I", [0, 0]), bytearray(5)]
        assert await handle.readv(buffers, at=10) == 16
        assert b"".join(memoryview(each).tobytes() for each in buffers) == CONTENT[10:26]
        assert await handle.writev([b"ab", b"", bytearray(b"cd")]) == 4
        assert (await all_bytes(handle))[:30] == CONTENT[:26] + b"abcd"
        assert await handle.writev(b"%05d" % n for n in range(3000)) == 15_000


async def test_truncate_cuts_extends_and_takes_the_cursor_along(file):
    async with file.create_access_handle() as handle:
        await handle.read(bytearray(500))
        assert await handle.truncate(200) is None
        await handle.write(b"!")
        assert await all_bytes(handle) == CONTENT[:200] + b"!"
        await handle.truncate(300)
        assert await all_bytes(handle) == CONTENT[:200] + b"!" + bytes(99)


async def test_flush_gives_none(file):
    async with file.create_access_handle() as handle:
        await handle.write(b"x")
        assert await handle.flush() is None


# ---- as if serialised ---------------------------------------------------------------------------


async def test_operations_at_the_cursor_follow_one_another_without_being_awaited(file):
    async with file.create_access_handle() as handle:
        pieces = [bytes([n]) * (n * 3000) for n in range(1, 30)]
        writes = [handle.write(piece) for piece in pieces]
        size = handle.get_size()
        assert await asyncio.gather(*writes) == [len(piece) for piece in pieces]
        assert await size == max(SIZE, sum(map(len, pieces)))
        assert (await all_bytes(handle)) == b"".join(pieces)


async def test_reads_at_the_cursor_follow_one_another(file):
    async with file.create_access_handle() as handle:
        await handle.write(b"".join(b"%07d\n" % n for n in range(200_000)), at=0)
        await handle.read(bytearray(), at=0)
        buffers = [bytearray(80_000) for _ in range(20)]
        assert await asyncio.gather(*[handle.read(each) for each in buffers]) == [80_000] * 20
        assert b"".join(buffers) == b"".join(b"%07d\n" % n for n in range(200_000))


async def test_overlapping_writes_take_effect_in_the_order_of_the_calls(file):
    async with file.create_access_handle() as handle:
        operations = [handle.write(bytes([n]) * 300_000, at=n * 1000) for n in range(50)]
        last = bytearray(350_000)
        reading = handle.read(last, at=0)
        await asyncio.gather(*operations)
        expected = b"".join(bytes([n]) * 1000 for n in range(49)) + bytes([49]) * 300_000
        assert await reading == len(expected) == 349_000
        assert last[:349_000] == expected


async def test_read_sees_the_writes_before_it_and_none_behind_it(file):
    async with file.create_access_handle() as handle:
        for turn in range(20):
            size = 400_000
            one = handle.write(b"1" * size, at=0)
            buffer = bytearray(size)
            between = handle.read(buffer, at=0)
            two = handle.write(b"2" * size, at=0)
            await asyncio.gather(one, between, two)
            assert buffer == b"1" * size, turn


async def test_sizes_are_those_of_their_place_in_the_order(file):
    async with file.create_access_handle() as handle:
        operations = [
            handle.truncate(0),
            handle.get_size(),
            handle.write(b"x" * 500_000, at=0),
            handle.get_size(),
            handle.truncate(1000),
            handle.get_size(),
            handle.write(b"y" * 10, at=5000),
            handle.get_size(),
        ]
        done = await asyncio.gather(*operations)
        assert done == [None, 0, 500_000, 500_000, None, 1000, 10, 5010]


@pytest.mark.parametrize("seed", range(15))
async def test_any_mixture_is_as_if_serialised(file, seed):
    """Against a model: a bytearray and a cursor, changed by one operation after the other."""
    chance = random.Random(seed)
    model, cursor = bytearray(CONTENT), 0
    started = []
    async with file.create_access_handle() as handle:
        for number in range(150):
            kind = chance.choice(["read", "write", "write", "truncate", "get_size", "flush"])
            at = chance.choice([None, chance.randrange(300_000)])
            size = chance.choice([0, 10, 5000, 70_000, 300_000])
            if kind == "read":
                start = cursor if at is None else at
                expected = bytes(model[start : start + size])
                buffer = bytearray(size)
                started.append((handle.read(buffer, at=at), len(expected), buffer, expected))
                cursor = start + len(expected)
            elif kind == "write":
                start = cursor if at is None else at
                data = bytes([number]) * size
                if size and start > len(model):
                    model.extend(bytes(start - len(model)))
                model[start : start + size] = data
                started.append((handle.write(data, at=at), size, None, None))
                cursor = start + size
            elif kind == "truncate":
                length = chance.randrange(400_000)
                del model[length:]
                model.extend(bytes(length - len(model)))
                cursor = min(cursor, length)
                started.append((handle.truncate(length), None, None, None))
            elif kind == "get_size":
                started.append((handle.get_size(), len(model), None, None))
            else:
                started.append((handle.flush(), None, None, None))
            if chance.random() < 0.2:
                await asyncio.sleep(0)
        for operation, value, buffer, expected in started:
            assert await operation == value
            if buffer is not None:
                assert buffer[: len(expected)] == expected
        assert await all_bytes(handle) == model


async def test_failed_operation_does_not_move_the_cursor(tmp_path):
    """The one behind it starts where the one before it ended."""
    with PrivateVolume(tmp_path / "volume", quota=400_000) as volume:
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            first = handle.write(b"1" * 200_000)
            too_much = handle.write(b"2" * 300_000, at=300_000)
            third = handle.write(b"3" * 10)
            assert await first == 200_000
            await failure(errno.EDQUOT, too_much)
            assert await third == 10
            assert (await all_bytes(handle))[199_999:] == b"1" + b"3" * 10


async def test_failed_operations_leave_the_cursor_to_the_ones_before_them(tmp_path):
    with PrivateVolume(tmp_path / "volume", quota=400_000) as volume:
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            for turn in range(20):
                first = handle.write(b"1" * 100_000, at=turn)
                failing = [handle.write(b"2" * 300_000, at=300_000 + n) for n in range(3)]
                last = handle.write(b"3" * 10)
                results = await asyncio.gather(first, *failing, last, return_exceptions=True)
                kinds = [type(each) for each in results]
                assert kinds == [int, *[aiofs.QuotaExceededError] * 3, int]
                assert (await all_bytes(handle))[turn + 99_999 :] == b"1" + b"3" * 10


# ---- what a method returns ----------------------------------------------------------------------


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
    """What a request that asks past the handle sees."""
    cb = aiocb(handle, bytearray(size))
    aio_read(cb)
    aio_suspend([cb])
    aio_return(cb)
    return cb.aio_buf


async def test_operation_that_nobody_awaits_is_carried_out(file):
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
        with pytest.raises(StopIteration) as stop:
            operation.send(None)
        assert stop.value.value == 10


async def test_many_tasks_await_one_operation(file):
    async with file.create_access_handle() as handle:
        operation = handle.write(b"x" * 1_000_000)

        async def wait():
            return await operation

        assert await asyncio.gather(*[wait() for _ in range(5)]) == [1_000_000] * 5


async def test_failure_that_nobody_awaited_reaches_the_loops_exception_handler(file, loop_errors):
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


async def test_failure_that_comes_later_reaches_the_handler_too(tmp_path, loop_errors):
    with PrivateVolume(tmp_path / "volume", quota=1000) as volume:
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            handle.write(b"x" * 1_000_000)
            assert await handle.get_size() == 0
            await until(lambda: loop_errors)
        assert isinstance(loop_errors[0]["exception"], aiofs.QuotaExceededError)


async def test_loop_breathes_while_operations_are_done_inside_the_call(file):
    beats = 0

    async def heart():
        nonlocal beats
        while True:
            await asyncio.sleep(0)
            beats += 1

    async with file.create_access_handle() as handle:
        buffer = bytearray(8192)
        await asyncio.sleep(0)
        beating = asyncio.create_task(heart())
        for _ in range(3000):
            await handle.read(buffer, at=0)
        beating.cancel()
        assert beats >= 3


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
    run(close(handle))  # on another loop than it was opened on
    assert not is_locked(file)


# ---- cancelling ---------------------------------------------------------------------------------


async def test_cancelled_operation_that_had_not_begun_has_no_effect(file):
    """It waited in the handle's queue for the one at whose end the cursor will be."""
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


async def wait(awaitable):
    return await awaitable


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


async def test_cancelled_operation_nobody_else_awaits_is_no_failure_to_report(file):
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
    for turn in range(2):  # while it closes, and when it has
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


async def test_abort_ends_what_has_not_begun_with_abort_error(file):
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


async def slow_write(file, run_program=None):
    handle = await file.create_access_handle()
    return handle, handle.write(b"x" * 400_000, at=0)


@pytest.fixture
def threads_only():
    if _core.engine() != "threads":
        pytest.skip("io_uring's writes are no calls that can be delayed")


async def test_closed_with_delayed_writes_nobody_gets_the_lock_before_the_last_is_terminal(
    on_disk, threads_only, slow_writes
):
    handle, operation = await slow_write(on_disk)
    later = handle.write(b"y" * 10, at=400_000)
    closing = handle.close()
    refusals = 0
    while is_locked(on_disk):
        refusals += 1
        await asyncio.sleep(0.001)
    assert refusals > 0
    with on_disk.create_sync_access_handle() as other:
        assert other.get_size() == 400_010
    assert (await operation, await later, await closing) == (400_000, 10, None)


async def test_cancelled_with_delayed_writes_nobody_gets_the_lock_before_the_last_is_terminal(
    on_disk, threads_only, slow_writes
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
    refusals = 0
    while is_locked(on_disk):
        refusals += 1
        await asyncio.sleep(0.001)
    assert refusals > 0
    with on_disk.create_sync_access_handle() as other:
        data = bytearray(400_000)
        assert other.read(data) == 400_000
        assert data == b"x" * 400_000
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_dropped_with_delayed_writes_nobody_gets_the_lock_before_the_last_is_terminal(
    on_disk, threads_only, slow_writes
):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        handle = await on_disk.create_access_handle()
        cb = aiocb(handle, b"x" * 400_000)
        aio_write(cb)
        cb.aio_fildes = -1
        del handle
    refusals = 0
    while is_locked(on_disk):
        refusals += 1
        await asyncio.sleep(0.001)
    assert refusals > 0
    assert aio_return(cb) == 400_000


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [-1, -(2**70), 2**63, 2**70])
@pytest.mark.parametrize("name", ["read", "write", "readv", "writev"])
async def test_bad_offset_is_a_value_error_at_the_call(file, name, at):
    async with file.create_access_handle() as handle:
        buffers = bytearray(1) if name in ("read", "write") else [bytearray(1)]
        with pytest.raises(ValueError):
            getattr(handle, name)(buffers, at=at)
        with pytest.raises(ValueError):
            handle.truncate(at)
        assert await all_bytes(handle) == CONTENT


async def test_wrong_types_are_refused_at_the_call_and_break_nothing(file):
    async with file.create_access_handle() as handle:
        buffer = bytearray(10)
        for call in (
            lambda: handle.read(b"read-only"),
            lambda: handle.read("abc"),
            lambda: handle.read(buffer, at="0"),
            lambda: handle.write("abc"),
            lambda: handle.write(memoryview(b"abcdef")[::2]),
            lambda: handle.write(buffer, at=1.5),
            lambda: handle.readv([buffer, b"read-only"]),
            lambda: handle.writev([buffer, 5]),
            lambda: handle.writev(5),
            lambda: handle.truncate("0"),
        ):
            with pytest.raises((TypeError, BufferError)):
                call()
            buffer.append(0)  # it is not pinned
        assert await cursor_of(handle) == 0
        assert await all_bytes(handle) == CONTENT


async def test_read_only_handle_changes_nothing(file):
    async with file.create_access_handle(mode="read-only") as handle:
        for operation in (
            handle.write(b"x"),
            handle.write(b""),
            handle.writev([b"x"]),
            handle.truncate(0),
            handle.flush(),
        ):
            error = await failure(errno.EBADF, operation)
            assert isinstance(error, aiofs.NoModificationAllowedError)
            assert error.filename.endswith("file")
        assert await all_bytes(handle) == CONTENT
        assert handle.mode == "read-only"


async def test_quota_refuses_growth_whole(tmp_path):
    with PrivateVolume(tmp_path / "volume", quota=1000) as volume:
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            assert await handle.write(b"x" * 900) == 900
            for operation in (
                handle.write(b"y" * 101),
                handle.write(b"y", at=1000),
                handle.truncate(1001),
            ):
                error = await failure(errno.EDQUOT, operation)
                assert isinstance(error, aiofs.QuotaExceededError)
                assert error.name == "QuotaExceededError"
                assert error.filename.endswith("file")
            assert await all_bytes(handle) == b"x" * 900
            assert await handle.write(b"y" * 100, at=900) == 100


async def test_lock_is_refused_at_once_with_the_path(file):
    async with file.create_access_handle():
        for mode in ("in-place", "read-only", "readwrite-unsafe"):
            error = await failure(errno.EBUSY, file.create_access_handle(mode=mode))
            assert isinstance(error, aiofs.NoModificationAllowedError)
            assert error.filename.endswith("file")


async def test_handles_are_not_made_copied_or_pickled(file):
    with pytest.raises(TypeError):
        AccessHandle()
    async with file.create_access_handle() as handle:
        for call in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                call(handle)
        assert await handle.get_size() == SIZE


async def test_fileno_is_a_real_descriptor(on_disk):
    handle = await on_disk.create_access_handle()
    fd = handle.fileno()
    assert os.pread(fd, 10, 5) == CONTENT[5:15]
    await handle.close()
    with pytest.raises(OSError):
        os.fstat(fd)


# ---- opening ------------------------------------------------------------------------------------


def slow_down_offload(monkeypatch, seconds):
    """What opens a handle begins later, whatever the volume: so that it can be cancelled before."""
    offload = _core.offload

    def later(function, *arguments):
        time.sleep(seconds)
        return function(*arguments)

    if seconds:
        monkeypatch.setattr(_core, "offload", lambda *call: offload(later, *call))


@pytest.mark.parametrize("takes", [0, 0.002])
async def test_cancelled_opening_leaves_no_lock_no_descriptor_and_no_warning(
    file, takes, monkeypatch
):
    slow_down_offload(monkeypatch, takes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kept = []
        for turn in range(60):
            task = asyncio.create_task(wait(file.create_access_handle()))
            for _ in range(turn % 6):
                await asyncio.sleep(0)
            task.cancel()
            try:
                handle = await task
            except (asyncio.CancelledError, aiofs.NoModificationAllowedError) as error:
                if turn % 6:  # it had begun to wait: then a frame that is kept keeps no lock
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(20):
            file.create_access_handle()
            gc.collect()
            await until(lambda: not is_locked(file))


# ---- POSIX AIO on it ----------------------------------------------------------------------------


async def test_aio_requests_run_on_a_handle_and_hold_its_lock(file):
    handle = await file.create_access_handle()
    cb = aiocb(handle, bytearray(10), aio_offset=20)
    aio_read(cb)
    assert await cb == 10
    assert cb.aio_buf == CONTENT[20:30]
    requests = [aiocb(handle, b"x" * 300_000, aio_offset=n * 300_000) for n in range(10)]
    for cb in requests:
        aio_write(cb)
    await handle.close()
    assert [aio_return(cb) for cb in requests] == [300_000] * 10
    assert not is_locked(file)
    aio_write(requests[0])
    await failure(errno.EBADF, wait(requests[0]))
