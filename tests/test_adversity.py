"""Python programs when the engine's system calls fail, are short, interrupted or slow."""

import asyncio
import errno
import os
import threading

import pytest
from support import end_of, eventually, failed, result, write_file

import aiofs
from aiofs import FileHandle, PrivateVolume, _core
from aiofs.aio import (
    aio_fsync,
    aio_read,
    aio_return,
    aio_suspend,
    aio_write,
    aiocb,
)

SIZE = 1 << 20
CONTENT = bytes(range(256)) * (SIZE // 256)
READS, WRITES = ("preadv2", "pread64"), ("pwritev2", "pwrite64")


@pytest.fixture
def content():
    return CONTENT


@pytest.fixture
def volume(tmp_path):
    with PrivateVolume(tmp_path / "volume") as volume:
        write_file(volume, "file", CONTENT)
        yield volume


@pytest.fixture
def open_handle(volume):
    return lambda: volume._ops.sync_access_handle("file", "in-place", False)


def every(faults, action, names, value, nth=0):
    for name in names:
        getattr(faults, action)(name, value, nth)


def on_disk(tmp_path):
    return (tmp_path / "volume" / "file").read_bytes()


# ---- AIO ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, SIZE])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOMEM])
def test_failed_read_ends_the_request_with_its_errno(file, faults, calls_only, size, number):
    cb = aiocb(file, bytearray(size))
    every(faults, "fail", READS, number)
    aio_read(cb)
    assert end_of(cb) == number
    assert failed(number, aio_return, cb).filename == file
    faults.clear()
    aio_read(cb)
    assert result(cb) == size
    assert cb.aio_buf == CONTENT[:size]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_failed_write_ends_the_request_with_its_errno(file, faults, calls_only, number):
    cb = aiocb(file, b"x" * SIZE)
    every(faults, "fail", WRITES, number)
    aio_write(cb)
    assert end_of(cb) == number
    faults.clear()
    assert os.pread(file, SIZE, 0) == CONTENT
    aio_write(cb)
    assert result(cb) == SIZE


@pytest.mark.parametrize("size", [1000, 100_000, SIZE])
def test_engine_continues_short_and_interrupted_calls(file, faults, size):
    for action, value in (("cut", 701), ("fail", errno.EINTR)):
        every(faults, action, READS + WRITES, value, -1)
        data = os.urandom(size)
        writing = aiocb(file, data, aio_offset=17, aio_reqprio=1)
        aio_write(writing)
        assert result(writing) == size
        reading = aiocb(file, bytearray(size), aio_offset=17, aio_reqprio=1)
        aio_read(reading)
        assert result(reading) == size
        assert reading.aio_buf == data
        faults.clear()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EINTR, errno.EIO])
@pytest.mark.parametrize(
    "start, name, counter",
    [(aio_read, "preadv2", "inline_reads"), (aio_write, "pwrite64", "inline_writes")],
)
def test_failed_inline_transfer_goes_to_the_engine(file, faults, start, name, counter, number):
    """If the transfer inside the call fails, the engine makes it."""
    cb = aiocb(file, bytearray(CONTENT[:100]))

    def made_inside():
        before = _core.counters()[counter]
        start(cb)
        assert result(cb) == 100
        return _core.counters()[counter] > before

    # The engine may know the number as an earlier file, or make no inline write after a slow write.
    eventually(made_inside)
    faults.fail(name, number, 1)
    assert not made_inside()


def test_failed_sync_ends_the_request_with_its_errno(file, faults, calls_only):
    for op, name in ((os.O_SYNC, "fsync"), (os.O_DSYNC, "fdatasync")):
        faults.fail(name, errno.EIO)
        cb = aiocb(file)
        aio_fsync(op, cb)
        assert end_of(cb) == errno.EIO
        assert isinstance(failed(errno.EIO, aio_return, cb), aiofs.InvalidStateError)
        faults.clear()
        aio_fsync(op, cb)
        assert result(cb) == 0


async def test_awaited_failure_is_raised_once_for_each_await(file, faults, calls_only):
    every(faults, "fail", READS, errno.EIO)
    cb = aiocb(file, bytearray(SIZE))
    aio_read(cb)
    for _ in range(2):
        with pytest.raises(aiofs.InvalidStateError) as caught:
            await cb
        assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("name", ["fcntl", "statx"])
def test_descriptor_that_cannot_be_examined_fails_the_request_only(tmp_path, faults, name):
    fd = os.open(tmp_path / "new", os.O_RDWR | os.O_CREAT)
    faults.fail(name, errno.EIO)
    cb = aiocb(fd, bytearray(SIZE))
    aio_read(cb)
    error = end_of(cb)
    faults.clear()
    assert error in (errno.EIO, errno.EBADF, 0)
    aio_read(cb)
    assert result(cb) == 0
    os.close(fd)


def test_interrupted_waits_are_restarted(file, pipe, faults):
    """The engine retries after an EINTR that no signal handler of the program caused."""
    for name in ("epoll_wait", "io_uring_enter"):
        faults.fail(name, errno.EINTR, -1)
    for _ in range(50):
        cb = aiocb(pipe[0], bytearray(1))
        aio_read(cb)
        os.write(pipe[1], b"x")
        assert result(cb) == 1
        cb = aiocb(file, bytearray(SIZE), aio_reqprio=1)
        aio_read(cb)
        assert result(cb) == SIZE


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EBUSY, errno.EINTR])
def test_busy_io_uring_enter_is_retried(file, faults, number):
    if _core.engine() != "io_uring":
        pytest.skip("there is no ring")
    for nth in (1, -1):
        faults.fail("io_uring_enter", number, nth)
        requests = [aiocb(file, bytearray(SIZE), aio_reqprio=1) for _ in range(20)]
        for cb in requests:
            aio_read(cb)
        assert [result(cb) for cb in requests] == [SIZE] * 20
        faults.clear()


# ---- synchronous handles ------------------------------------------------------------------------


def test_handle_goes_on_after_short_and_interrupted_calls(open_handle, faults):
    with open_handle() as handle:
        for action, value in (("cut", 701), ("fail", errno.EINTR)):
            every(faults, action, READS + WRITES, value, -1)
            for size in (1000, 200_000):
                data = os.urandom(size)
                assert handle.write(data, at=5) == size
                buffer = bytearray(size)
                assert handle.read(buffer, at=5) == size
                assert buffer == data
                assert handle.writev([data[:500], data[500:]], at=3) == size
                pieces = [bytearray(400), bytearray(size - 400)]
                assert handle.readv(pieces, at=3) == size
                assert b"".join(pieces) == data
            faults.clear()


def test_full_disk_is_a_short_count_then_the_error(open_handle, faults):
    """The first write after the disk is full returns a short count, the next one the error."""
    with open_handle() as handle:
        every(faults, "cut", WRITES, 1000, 1)
        every(faults, "cut", WRITES[:1], 1000, 1)
        handle.write(b"x" * 5000, at=0)
        faults.clear()
        every(faults, "fail", WRITES, errno.ENOSPC)
        error = failed(errno.ENOSPC, handle.write, b"y" * 5000, at=0)
        assert isinstance(error, aiofs.QuotaExceededError)
        assert error.filename.endswith("file")
        faults.clear()
        data = bytearray(5000)
        handle.read(data, at=0)
        assert data == b"x" * 5000


def test_failed_write_moves_no_cursor(open_handle, faults):
    with open_handle() as handle:
        handle.write(b"abc", at=100)
        every(faults, "fail", WRITES, errno.EIO)
        error = failed(errno.EIO, handle.write, b"x" * 1000, at=500)
        assert isinstance(error, aiofs.InvalidStateError)
        faults.clear()
        handle.write(b"!")
        data = bytearray(5)
        handle.read(data, at=100)
        assert data == b"abc!" + CONTENT[104:105]


def test_failed_flush_is_raised_and_tried_again(open_handle, faults):
    with open_handle() as handle:
        handle.write(b"x")
        faults.fail("fdatasync", errno.EIO, 1)
        error = failed(errno.EIO, handle.flush)
        assert error.filename.endswith("file")
        before = faults.calls("fdatasync")
        handle.flush()
        assert faults.calls("fdatasync") == before + 1


def test_close_whose_flush_fails_raises_and_releases_the_lock(open_handle, faults):
    handle = open_handle()
    handle.write(b"x")
    faults.fail("fdatasync", errno.EIO)
    failed(errno.EIO, handle.close)
    faults.clear()
    handle.close()
    open_handle().close()


def test_failed_truncate_changes_nothing(open_handle, faults):
    with open_handle() as handle:
        faults.fail("ftruncate", errno.EIO)
        failed(errno.EIO, handle.truncate, 10)
        faults.clear()
        assert handle.get_size() == SIZE


@pytest.mark.parametrize("name", ["openat", "openat2", "fcntl", "fstat", "statx"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EINTR])
def test_opening_that_fails_leaves_nothing_and_can_be_repeated(
    open_handle, faults, name, nth, number
):
    faults.fail(name, number, nth)
    try:
        open_handle().close()
    except OSError as error:
        assert error.errno == number or error.errno == errno.ENOSYS
    faults.clear()
    open_handle().close()


# ---- asynchronous handles -----------------------------------------------------------------------


async def test_failed_operation_is_raised_by_its_await_and_the_next_works(
    volume, faults, calls_only
):
    async with FileHandle._of(volume, "file").create_access_handle() as handle:
        every(faults, "fail", WRITES, errno.EIO)
        with pytest.raises(aiofs.InvalidStateError) as caught:
            await handle.write(b"x" * SIZE)
        assert caught.value.errno == errno.EIO
        assert caught.value.filename.endswith("file")
        faults.clear()
        assert await handle.write(b"x" * SIZE) == SIZE
        assert await handle.get_size() == SIZE


async def test_close_whose_flush_fails_raises_and_releases_the_lock_async(volume, faults):
    file = FileHandle._of(volume, "file")
    handle = await file.create_access_handle()
    await handle.write(b"x")
    faults.fail("fdatasync", errno.EIO)
    with pytest.raises(aiofs.InvalidStateError):
        await handle.close()
    faults.clear()
    file.create_sync_access_handle().close()


async def test_operations_behind_a_failed_one_go_on(volume, faults, calls_only):
    async with FileHandle._of(volume, "file").create_access_handle() as handle:
        faults.fail("ftruncate", errno.EIO)
        results = await asyncio.gather(
            handle.write(b"a" * 300_000, at=0),
            handle.truncate(5),
            handle.write(b"b" * 10),
            handle.get_size(),
            return_exceptions=True,
        )
        assert isinstance(results[1], aiofs.InvalidStateError)
        assert [results[0], *results[2:]] == [300_000, 10, SIZE]


async def test_slow_system_calls_do_not_block_the_loop(volume, faults, calls_only):
    """Counts the turns of the loop while each system call takes a long time."""
    async with FileHandle._of(volume, "file").create_access_handle() as handle:
        every(faults, "delay", READS + WRITES, 0.05)
        faults.delay("fdatasync", 0.05)
        for operation in (
            handle.write(b"x" * SIZE, at=0),
            handle.read(bytearray(SIZE), at=0),
            handle.flush(),
        ):
            task = asyncio.ensure_future(operation)
            turns = 0
            while not task.done():
                await asyncio.sleep(0)
                turns += 1
            assert turns > 20


async def test_opening_and_closing_do_not_block_the_loop(volume, faults):
    file = FileHandle._of(volume, "file")
    faults.delay("openat2", 0.05)
    faults.delay("fdatasync", 0.05)

    async def work():
        async with file.create_access_handle() as handle:
            await handle.write(b"x")

    task = asyncio.create_task(work())
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    await task
    assert turns > 20


def test_waiting_threads_do_not_hold_the_gil(file, faults, calls_only):
    every(faults, "delay", WRITES, 0.1)
    cb = aiocb(file, bytes(SIZE))
    aio_write(cb)
    counted = 0
    waiting = threading.Thread(target=aio_suspend, args=([cb],))
    waiting.start()
    while waiting.is_alive():
        counted += 1
    waiting.join()
    assert counted > 100
    assert result(cb) == SIZE
