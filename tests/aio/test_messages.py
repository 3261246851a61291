"""POSIX AIO from Python: messages name the error, the value, and what to do instead."""

import asyncio
import copy
import errno
import json
import os
import pickle
import re
from textwrap import dedent

import pytest
from support import end_of, failed, python

import aiofs
from aiofs import aio
from aiofs.aio import aio_error, aio_fsync, aio_read, aio_return, aio_suspend, aio_write, aiocb


def message(start, *arguments, **fields):
    """The message of a failed request: the same from aio_return and from an await."""
    cb = aiocb(*arguments, **fields)
    start(cb)

    async def awaited():
        await cb

    end_of(cb)
    with pytest.raises(OSError) as by_await:
        asyncio.run(awaited())
    with pytest.raises(OSError) as by_return:
        aio_return(cb)
    assert str(by_await.value) == str(by_return.value)
    return str(by_return.value)


# ---- descriptors


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_write_error_names_a_read_only_descriptor(tmp_path, size):
    (tmp_path / "file").write_bytes(b"x")
    with open(tmp_path / "file", "rb") as file:
        said = message(aio_write, file.fileno(), bytes(size))
        assert f"aio_write: descriptor {file.fileno()} is open read-only" in said
        assert "FileIO" in message(aio_write, file.raw, bytes(size))


def test_write_to_a_read_only_descriptor_is_no_modification_allowed_error(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with open(tmp_path / "file", "rb") as file:
        cb = aiocb(file.fileno(), b"x")
        aio_write(cb)
        assert isinstance(failed(errno.EBADF, aio_return, cb), aiofs.NoModificationAllowedError)


def test_read_error_names_a_write_only_descriptor(tmp_path):
    with open(tmp_path / "file", "wb") as file:
        said = message(aio_read, file.fileno(), bytearray(1))
        assert f"aio_read: descriptor {file.fileno()} is open write-only" in said


def test_error_names_an_o_path_descriptor(tmp_path):
    fd = os.open(tmp_path, os.O_PATH)
    try:
        assert "O_PATH" in message(aio_read, fd, bytearray(1))
        assert "O_PATH" in str(failed(errno.EBADF, aio_fsync, os.O_SYNC, aiocb(fd)))
    finally:
        os.close(fd)


@pytest.mark.parametrize("start,buffer", [(aio_read, bytearray(1)), (aio_write, b"x")])
def test_error_names_a_descriptor_that_is_not_open(start, buffer):
    assert f"{start.__name__}: descriptor 987654 is not open" in message(start, 987654, buffer)


def test_write_error_names_a_read_only_access_handle():
    with aiofs.MemoryVolume() as volume, aiofs.FileSystem() as fs:
        fs.mount("/", volume)
        fs.create_sync_access_handle("/file", create=True).close()
        with fs.create_sync_access_handle("/file", mode="read-only") as handle:
            assert "the SyncAccessHandle is open read-only" in message(aio_write, handle, b"x")
        assert "the SyncAccessHandle is not open" in message(aio_read, handle, bytearray(1))


def test_aio_cancel_error_names_a_descriptor_that_is_not_open():
    assert "descriptor 987654 is not open" in str(failed(errno.EBADF, aio.aio_cancel, 987654))


# ---- fields


@pytest.mark.parametrize("start", [aio_read, aio_write])
def test_error_names_a_negative_offset(tmp_path, start):
    with open(tmp_path / "file", "w+b") as file:
        said = message(start, file.fileno(), bytearray(3), aio_offset=-7)
    assert "aio_offset -7 is negative" in said


def test_error_names_a_range_beyond_the_largest_offset(tmp_path):
    with open(tmp_path / "file", "w+b") as file:
        said = message(aio_read, file.fileno(), bytearray(10), aio_offset=2**63 - 5)
    assert f"aio_offset {2**63 - 5} and 10 bytes" in said and "2**63 - 1" in said


@pytest.mark.parametrize("reqprio", [-1, 21])
def test_error_names_a_priority_out_of_range(tmp_path, reqprio):
    with open(tmp_path / "file", "w+b") as file:
        cb = aiocb(file.fileno(), bytearray(3), aio_reqprio=reqprio)
        said = str(failed(errno.EINVAL, aio_read, cb))
        assert f"aio_reqprio {reqprio} is not from 0 to 20" in said
        cb.aio_lio_opcode = aio.LIO_READ
        aio.lio_listio(aio.LIO_NOWAIT, [cb])
        end_of(cb)
        assert f"aio_reqprio {reqprio} is not from 0 to 20" in str(
            failed(errno.EINVAL, aio_return, cb)
        )


def test_error_names_a_bad_opcode(tmp_path):
    cb = aiocb(0, bytearray(1), aio_lio_opcode=77)
    aio.lio_listio(aio.LIO_NOWAIT, [cb])
    assert "aio_lio_opcode 77 is none of LIO_READ" in str(failed(errno.EINVAL, aio_return, cb))


def test_aio_fsync_error_names_a_descriptor_that_cannot_be_synced():
    ends = os.pipe()
    try:
        said = message(lambda cb: aio_fsync(os.O_SYNC, cb), ends[1])
        assert f"descriptor {ends[1]} cannot be synced" in said
    finally:
        for fd in ends:
            os.close(fd)


def test_aio_fsync_error_names_a_bad_op():
    assert "op 77 is neither os.O_SYNC nor" in str(failed(errno.EINVAL, aio_fsync, 77, aiocb(0)))


def test_lio_listio_error_names_a_bad_mode():
    assert "mode 77" in str(failed(errno.EINVAL, aio.lio_listio, 77, []))


# ---- requests that are in no state for it


def test_error_says_that_an_aiocb_was_never_submitted():
    for call in (aio_error, aio_return):
        assert "never submitted" in str(failed(errno.EINVAL, call, aiocb()))


def test_error_says_that_the_result_was_already_returned(tmp_path):
    with open(tmp_path / "file", "w+b") as file:
        cb = aiocb(file.fileno(), b"abc")
        aio_write(cb)
        aio_suspend([cb])
        assert aio_return(cb) == 3
        assert "returned before" in str(failed(errno.EINVAL, aio_return, cb))


def test_time_out_error_says_that_the_time_is_up():
    ends = os.pipe()
    cb = aiocb(ends[0], bytearray(1))
    aio_read(cb)

    async def suspend():
        await aio.suspend([cb], 0)

    for call in (lambda: aio_suspend([cb], 0), lambda: asyncio.run(suspend())):
        assert "the time is up" in str(failed(errno.EAGAIN, call))
    os.write(ends[1], b"x")
    aio_suspend([cb])
    for fd in ends:
        os.close(fd)


# ---- mistakes of types


def test_aio_fsync_error_says_that_the_arguments_are_swapped():
    with pytest.raises(TypeError, match=re.escape("(op, cb)")):
        aio_fsync(aiocb(0), os.O_SYNC)


@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copying_an_aiocb_is_a_type_error_with_advice(take):
    with pytest.raises(TypeError, match=r"aiocb cannot be copied or pickled.*another"):
        take(aiocb())


CALLS = [aio_read, aio_write, lambda cb: aio_fsync(os.O_SYNC, cb)]


@pytest.mark.parametrize("call", CALLS)
def test_awaiting_the_result_of_a_call_says_what_to_await(tmp_path, call):
    with open(tmp_path / "file", "w+b") as file:
        cb = aiocb(file.fileno(), bytearray(1))

        async def await_the_call():
            await call(cb)

        with pytest.raises(TypeError, match="await cb"):
            asyncio.run(await_the_call())
        aio_suspend([cb])


def test_awaiting_aio_suspend_or_lio_listio_says_what_to_await():
    async def suspend():
        await aio_suspend([])

    async def listio():
        await aio.lio_listio(aio.LIO_WAIT, [])

    with pytest.raises(TypeError, match=r"aio\.suspend"):
        asyncio.run(suspend())
    with pytest.raises(TypeError, match="await its aiocbs"):
        asyncio.run(listio())


def test_successful_call_returns_0(tmp_path):
    with open(tmp_path / "file", "w+b") as file:
        cb = aiocb(file.fileno(), b"abc")
        zero = aio_write(cb)
        aio_suspend([cb])
    assert zero == 0 and not zero and isinstance(zero, int) and zero + 1 == 1
    assert (repr(zero), str(zero), f"{zero:d}", json.dumps(zero)) == ("0", "0", "0", "0")
    assert hash(zero) == hash(0) and {0: "found"}[zero] == "found"
    assert type(pickle.loads(pickle.dumps(zero))) is int and copy.deepcopy(zero) == 0


# ---- the engine, and the loop


def test_error_names_an_unknown_engine_and_the_choices():
    ended = python(
        dedent("""
        import os
        from aiofs import _core, aio
        cb = aio.aiocb(os.pipe()[0], bytearray(1))
        for call in (_core.engine, lambda: aio.aio_read(cb)):
            try:
                call()
            except OSError as error:
                print(error)
        """),
        AIOFS_ENGINE="bogus",
    )
    assert ended.count("AIOFS_ENGINE=bogus is none of auto, io_uring and threads") == 2


def by_hand(coroutine):
    """Runs the first step of a coroutine without a loop."""
    return coroutine.send(None)


def test_error_without_a_loop_names_the_supported_loops():
    ends = os.pipe()
    cb = aiocb(ends[0], bytearray(1))
    aio_read(cb)

    async def await_it():
        await cb

    async def suspend():
        await aio.suspend([cb])

    async def notice():
        event = aio.sigevent(aio.SIGEV_LOOP, sigev_notify_function=print)
        aio_read(aiocb(ends[0], bytearray(1), aio_sigevent=event))

    async def estimate():
        with aiofs.MemoryVolume() as volume:
            await volume.estimate()

    for needs_a_loop in (await_it, suspend, notice, estimate):
        with pytest.raises(RuntimeError, match=r"asyncio or uvloop.*trio"):
            by_hand(needs_a_loop())
    os.write(ends[1], b"x")
    aio_suspend([cb])
    for fd in ends:
        os.close(fd)
