"""aio_cancel: which requests are cancelled and which are not. No data is lost."""

import errno
import fcntl
import os

import pytest
from support import drain, failed, result, thread, waiting_read

from aiofs.aio import (
    AIO_ALLDONE,
    AIO_CANCELED,
    AIO_NOTCANCELED,
    aio_cancel,
    aio_error,
    aio_read,
    aio_return,
    aio_suspend,
    aio_write,
    aiocb,
)


def test_waiting_read_is_cancelled_before_cancel_returns(pipe):
    cb = waiting_read(pipe[0])
    assert aio_cancel(pipe[0], cb) == AIO_CANCELED
    assert aio_error(cb) == errno.ECANCELED
    failed(errno.ECANCELED, aio_return, cb)
    os.write(pipe[1], b"kept")
    assert os.read(pipe[0], 10) == b"kept"
    assert cb.aio_buf == bytes(10)


def test_cancelling_one_request_leaves_other_requests_in_flight(pipe):
    requests = [waiting_read(pipe[0], 1) for _ in range(5)]
    assert aio_cancel(pipe[0], requests[2]) == AIO_CANCELED
    assert aio_cancel(pipe[0], requests[0]) == AIO_CANCELED
    os.write(pipe[1], b"abc")
    assert [result(requests[i]) for i in (1, 3, 4)] == [1, 1, 1]
    assert [bytes(requests[i].aio_buf) for i in (1, 3, 4)] == [b"a", b"b", b"c"]


def test_cancelling_a_descriptor_cancels_all_of_its_requests(pipe):
    other = os.pipe()
    kept = waiting_read(other[0])
    requests = [waiting_read(pipe[0]) for _ in range(10)]
    assert aio_cancel(pipe[0]) == AIO_CANCELED
    assert [aio_error(cb) for cb in requests] == [errno.ECANCELED] * 10
    assert aio_error(kept) == errno.EINPROGRESS
    assert aio_cancel(other[0], None) == AIO_CANCELED
    for fd in other:
        os.close(fd)


def test_cancel_with_nothing_outstanding_is_alldone(file, pipe):
    never = aiocb(file, bytearray(1))
    assert aio_cancel(file) == AIO_ALLDONE
    assert aio_cancel(file, never) == AIO_ALLDONE
    finished = aiocb(file, bytearray(1))
    aio_read(finished)
    aio_suspend([finished])
    assert aio_cancel(file, finished) == AIO_ALLDONE
    aio_return(finished)
    assert aio_cancel(file, finished) == AIO_ALLDONE
    assert aio_cancel(pipe[0]) == AIO_ALLDONE
    failed(errno.EINVAL, aio_error, never)


def test_second_cancel_of_a_request_is_alldone(pipe):
    cb = waiting_read(pipe[0])
    assert aio_cancel(pipe[0], cb) == AIO_CANCELED
    assert aio_cancel(pipe[0], cb) == AIO_ALLDONE
    assert aio_error(cb) == errno.ECANCELED


def test_begun_write_is_not_cancelled_but_queued_writes_are(pipe):
    read_end, write_end = pipe
    done = aiocb(write_end, b"done")
    aio_write(done)
    aio_suspend([done])
    size = fcntl.fcntl(write_end, fcntl.F_GETPIPE_SZ) * 3
    begun = aiocb(write_end, b"x" * size)
    queued = [aiocb(write_end, b"y" * 10) for _ in range(3)]
    for cb in (begun, *queued):
        aio_write(cb)
    assert os.read(read_end, 4) == b"done"
    drain(read_end, 1)  # so the write has begun
    assert aio_cancel(write_end) == AIO_NOTCANCELED
    assert aio_error(begun) == errno.EINPROGRESS
    assert [aio_error(cb) for cb in queued] == [errno.ECANCELED] * 3
    assert aio_error(done) == 0
    drain(read_end, size - 1)
    assert result(begun) == size
    os.set_blocking(read_end, False)
    with pytest.raises(BlockingIOError):
        os.read(read_end, 1)


def test_cancelled_and_finished_reads_lose_no_data(pipe):
    read_end, write_end = pipe
    for turn in range(300):
        cb = aiocb(read_end, bytearray(4))
        aio_read(cb)
        with thread(os.write, write_end, b"%04d" % turn):
            answer = aio_cancel(read_end, cb)
        aio_suspend([cb])
        if answer == AIO_CANCELED:
            assert aio_error(cb) == errno.ECANCELED
            assert os.read(read_end, 4) == b"%04d" % turn
        else:
            assert result(cb) == 4
            assert cb.aio_buf == b"%04d" % turn


def test_cancel_of_a_closed_descriptor_is_ebadf(file):
    fd = os.dup(file)
    os.close(fd)
    assert failed(errno.EBADF, aio_cancel, fd).filename == fd
    failed(errno.EBADF, aio_cancel, -1)
    failed(errno.EBADF, aio_cancel, 2**40)
    failed(errno.EBADF, aio_cancel, fd, aiocb(fd))


def test_cancel_of_another_descriptors_aiocb_is_einval(file, pipe):
    cb = waiting_read(pipe[0])
    failed(errno.EINVAL, aio_cancel, file, cb)
    assert aio_error(cb) == errno.EINPROGRESS
    assert aio_cancel(pipe[0], cb) == AIO_CANCELED
