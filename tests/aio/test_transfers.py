"""aio_read and aio_write of a regular file: bytes, offsets, and threads that submit and wait."""

import ctypes
import errno
import os
import select
import threading
from contextlib import contextmanager

import pytest
from support import end_of, eventually, result, thread, waiting_read

from aiofs import aio
from aiofs.aio import aio_error, aio_read, aio_return, aio_write, aiocb


def test_read_gives_the_bytes_at_the_offset(file, content):
    cb = aiocb(file, bytearray(100), aio_offset=1000)
    assert aio_read(cb) == 0
    assert result(cb) == 100
    assert cb.aio_buf == content[1000:1100]


def test_write_puts_the_bytes_at_the_offset(file, content):
    cb = aiocb(file, b"x" * 100, aio_offset=1000)
    assert aio_write(cb) == 0
    assert result(cb) == 100
    assert os.pread(file, 1 << 20, 0) == content[:1000] + b"x" * 100 + content[1100:]


@pytest.mark.parametrize("size", [1, 4096, 65536, 1 << 18, (1 << 18) + 1, 5 << 20])
def test_data_of_any_size_is_written_and_read_back(empty, size):
    data = os.urandom(size)
    cb = aiocb(empty, data, aio_offset=3)
    aio_write(cb)
    assert result(cb) == size
    again = aiocb(empty, bytearray(size), aio_offset=3)
    aio_read(again)
    assert result(again) == size
    assert again.aio_buf == data


def test_uncached_pages_are_read(file, content):
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    cb = aiocb(file, bytearray(len(content)))
    aio_read(cb)
    assert result(cb) == len(content)
    assert cb.aio_buf == content


def test_read_at_the_end_of_file_is_short_and_past_the_end_gives_0(file, content):
    size = len(content)
    for offset, count in ((size - 10, 10), (size, 0), (size + 1, 0), (2**40, 0)):
        cb = aiocb(file, bytearray(100), aio_offset=offset)
        aio_read(cb)
        assert (end_of(cb), aio_return(cb)) == (0, count)
        assert cb.aio_buf[count:] == bytes(100 - count)


def test_write_past_the_end_leaves_a_hole_of_zeros(empty):
    cb = aiocb(empty, b"end", aio_offset=10000)
    aio_write(cb)
    assert result(cb) == 3
    assert os.pread(empty, 20000, 0) == bytes(10000) + b"end"


@pytest.mark.parametrize("start", [aio_read, aio_write])
@pytest.mark.parametrize("buffer", [b"", bytearray(), bytearray(10), None])
def test_transfer_of_0_bytes_succeeds(file, content, start, buffer):
    cb = aiocb(file, bytearray(buffer) if buffer is not None else None, 0, aio_offset=50)
    start(cb)
    assert result(cb) == 0
    assert os.pread(file, 1 << 20, 0) == content


def test_write_of_0_bytes_past_the_end_does_not_extend_the_file(empty):
    cb = aiocb(empty, b"", aio_offset=100)
    aio_write(cb)
    assert result(cb) == 0
    assert os.fstat(empty).st_size == 0


def test_file_offset_is_not_moved(file):
    os.lseek(file, 77, os.SEEK_SET)
    for start in (aio_read, aio_write):
        cb = aiocb(file, bytearray(10), aio_offset=500)
        start(cb)
        end_of(cb)
    assert os.lseek(file, 0, os.SEEK_CUR) == 77


def test_lio_opcode_is_ignored(file, content):
    cb = aiocb(file, bytearray(10), aio_lio_opcode=aio.LIO_WRITE)
    aio_read(cb)
    assert result(cb) == 10
    assert cb.aio_buf == content[:10]


def test_appends_land_in_the_order_of_the_calls(tmp_path):
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    pieces = [b"%05d\n" % number * (number % 7 * 1000 + 1) for number in range(200)]
    requests = [aiocb(fd, piece, aio_offset=1 << 30) for piece in pieces]
    for cb in requests:
        aio_write(cb)
    for cb, piece in zip(requests, pieces, strict=True):
        assert result(cb) == len(piece)
    os.close(fd)
    assert (tmp_path / "log").read_bytes() == b"".join(pieces)


def test_requests_need_no_loop_and_end_without_a_waiting_thread(empty):
    requests = [aiocb(empty, bytes(300_000), aio_offset=i * 300_000) for i in range(20)]
    for cb in requests:
        aio_write(cb)
    eventually(lambda: os.fstat(empty).st_size == 6_000_000)
    eventually(lambda: all(aio_error(cb) == 0 for cb in requests))


def test_requests_survive_the_thread_that_submitted_them(empty, pipe):
    requests = []

    def submit():
        requests.append(waiting_read(pipe[0], 1))
        requests.append(aiocb(empty, bytes(1 << 20)))
        aio_write(requests[1])

    with thread(submit):
        pass
    assert aio_error(requests[0]) == errno.EINPROGRESS
    os.write(pipe[1], b"x")
    assert [result(cb) for cb in requests] == [1, 1 << 20]


# Python repeats interrupted calls (PEP 475), so these tests call libc's functions.
LIBC = ctypes.CDLL(None, use_errno=True)


def interruption(call, *arguments):
    """The name of the errno of a libc call, in a list; an empty list if it succeeds."""
    return [] if call(*arguments) >= 0 else [errno.errorcode[ctypes.get_errno()]]


@contextmanager
def waiting_beside():
    """Runs a thread that submits nothing and waits in epoll_wait. Yields a list of its EINTRs.

    If the process is stopped and continued, or frozen, epoll_wait is interrupted in every thread
    (signal(7)). A completion could only interrupt a thread that has submitted.
    """
    seen, waits, over = [], threading.Event(), os.eventfd(0)
    poller, event = select.epoll(), ctypes.create_string_buffer(64)
    poller.register(over, select.EPOLLIN)

    def wait():
        waits.set()
        while again := interruption(LIBC.epoll_wait, poller.fileno(), event, 1, -1):
            seen.extend(again)

    with thread(wait):
        waits.wait()
        try:
            yield seen
        finally:
            os.eventfd_write(over, 1)
    poller.close()
    os.close(over)


def test_completions_do_not_interrupt_system_calls_of_the_program(empty, pipe):
    event = ctypes.create_string_buffer(64)
    moment = (ctypes.c_long * 2)(0, 2_000_000)
    seen = []
    with select.epoll() as poller, waiting_beside() as seen_beside:
        for _ in range(30):
            busy = [waiting_read(pipe[0], 1), aiocb(empty, bytes(300_000))]
            aio_write(busy[1])
            os.write(pipe[1], b"x")
            seen += interruption(LIBC.epoll_wait, poller.fileno(), event, 1, 2)
            seen += interruption(LIBC.nanosleep, moment, None)
            assert [result(cb) for cb in busy] == [1, 300_000]
    assert seen == [] or seen_beside, seen


def test_threads_submit_at_the_same_time(empty):
    def work(number):
        for turn in range(100):
            offset = (number * 100 + turn) * 100
            cb = aiocb(empty, b"%02d" % number * 50, aio_offset=offset, aio_reqprio=turn % 2)
            aio_write(cb)
            assert result(cb) == 100
            again = aiocb(empty, bytearray(100), aio_offset=offset, aio_reqprio=turn % 2)
            aio_read(again)
            assert result(again) == 100
            assert again.aio_buf == cb.aio_buf

    with thread(work, 1), thread(work, 2), thread(work, 3), thread(work, 4), thread(work, 0):
        pass
    assert os.fstat(empty).st_size == 500 * 100
