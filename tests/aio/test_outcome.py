"""aio_error and aio_return: the status and result of a request, and reuse of an aiocb."""

import errno
import os

from support import end_of, eventually, failed, result, waiting_read

from aiofs import aio
from aiofs.aio import (
    aio_error,
    aio_fsync,
    aio_read,
    aio_return,
    aio_suspend,
    aio_write,
    aiocb,
    sigevent,
)


def test_aio_return_gives_the_result_once_and_aio_error_keeps_the_status(file):
    cb = aiocb(file, bytearray(10))
    aio_read(cb)
    aio_suspend([cb])
    assert (aio_error(cb), aio_return(cb)) == (0, 10)
    assert "aio_return" in str(failed(errno.EINVAL, aio_return, cb))
    assert aio_error(cb) == 0


def test_aio_return_raises_the_failure_once_and_aio_error_keeps_the_status():
    cb = aiocb(987654, bytearray(10))
    aio_read(cb)
    assert end_of(cb) == errno.EBADF
    failed(errno.EBADF, aio_return, cb)
    failed(errno.EINVAL, aio_return, cb)
    assert aio_error(cb) == errno.EBADF


def test_aio_return_of_a_request_in_progress_is_refused(pipe):
    cb = waiting_read(pipe[0])
    failed(errno.EINPROGRESS, aio_return, cb)
    os.write(pipe[1], b"abc")
    assert result(cb) == 3


def test_aiocb_that_was_never_submitted_is_einval(file):
    cb = aiocb(file, bytearray(10))
    for call in (aio_error, aio_return):
        assert failed(errno.EINVAL, call, cb).filename == file


def test_aiocb_is_reusable_without_aio_return(file, content):
    cb = aiocb(file, bytearray(10))
    for turn in range(100):
        cb.aio_offset = turn
        aio_read(cb)
        assert end_of(cb) == 0
        assert cb.aio_buf == content[turn : turn + 10]
    assert aio_return(cb) == 10


def test_new_submission_replaces_the_old_result(file):
    cb = aiocb(987654, bytearray(10))
    aio_read(cb)
    assert end_of(cb) == errno.EBADF
    cb.aio_fildes = file
    aio_read(cb)
    assert result(cb) == 10
    aio_read(cb)
    assert result(cb) == 10


def test_submitting_an_aiocb_in_flight_is_refused_and_leaves_its_request_alone(pipe, file):
    cb = waiting_read(pipe[0])
    buffer = cb.aio_buf
    cb.aio_fildes, cb.aio_buf = file, bytearray(10)
    for call in (aio_read, aio_write, lambda cb: aio_fsync(os.O_SYNC, cb)):
        failed(errno.EINVAL, call, cb)
    assert aio_error(cb) == errno.EINPROGRESS
    os.write(pipe[1], b"first")
    assert result(cb) == 5
    assert buffer[:5] == b"first"
    assert cb.aio_buf == bytes(10)


def test_fields_changed_in_flight_take_effect_at_the_next_submission(pipe, file, content):
    cb = waiting_read(pipe[0], 5)
    buffer = cb.aio_buf
    notified = []
    cb.aio_fildes, cb.aio_buf, cb.aio_offset = file, bytearray(8), 100
    cb.aio_sigevent = sigevent(aio.SIGEV_THREAD, 0, "later", notified.append)
    os.write(pipe[1], b"12345678")
    assert result(cb) == 5
    assert (buffer, cb.aio_buf, notified) == (b"12345", bytes(8), [])
    aio_read(cb)
    assert result(cb) == 8
    assert cb.aio_buf == content[100:108]
    eventually(lambda: notified == ["later"])
