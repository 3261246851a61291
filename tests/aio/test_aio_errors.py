"""POSIX AIO from Python: which call or request fails with which error. No other state changes."""

import array
import ctypes
import errno
import os
import signal
import socket

import pytest
from support import CONTENT, end_of, failed, python, result

import aiofs
from aiofs import aio
from aiofs.aio import (
    LIO_NOWAIT,
    LIO_READ,
    LIO_WAIT,
    SIGEV_SIGNAL,
    aio_cancel,
    aio_error,
    aio_fsync,
    aio_read,
    aio_return,
    aio_suspend,
    aio_write,
    aiocb,
    lio_listio,
    sigevent,
)

TRANSFERS = [aio_read, aio_write]


@pytest.fixture
def file(file):
    yield file
    assert os.pread(file, 1 << 20, 0) == CONTENT


def submitted(start, *arguments, **fields):
    cb = aiocb(*arguments, **fields)
    assert start(cb) == 0
    return cb


# ---- of the request -----------------------------------------------------------------------------


@pytest.mark.parametrize("fd", [-1, -2, 987654, 2**31 - 1, 2**31, 2**63, -(2**63), 2**70])
@pytest.mark.parametrize("start", TRANSFERS)
def test_bad_descriptor_ends_the_request_with_ebadf(start, fd):
    cb = submitted(start, fd, bytearray(10))
    assert end_of(cb) == errno.EBADF
    error = failed(errno.EBADF, aio_return, cb)
    assert error.filename == fd
    assert start.__name__ in str(error)
    assert isinstance(error, aiofs.InvalidStateError)


@pytest.mark.parametrize("start", TRANSFERS)
@pytest.mark.parametrize("size", [0, 10, 1 << 20])
def test_closed_descriptor_ends_the_request_with_ebadf(file, start, size):
    fd = os.dup(file)
    os.close(fd)
    assert end_of(submitted(start, fd, bytearray(size))) == errno.EBADF


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_descriptor_without_the_access_mode_ends_the_request_with_ebadf(tmp_path, file, size):
    reads = os.open(tmp_path / "file", os.O_RDONLY)
    writes = os.open(tmp_path / "file", os.O_WRONLY)
    path = os.open(tmp_path / "file", os.O_PATH)
    assert end_of(submitted(aio_write, reads, bytes(size))) == errno.EBADF
    assert end_of(submitted(aio_read, writes, bytearray(size))) == errno.EBADF
    assert end_of(submitted(aio_read, path, bytearray(size))) == errno.EBADF
    for fd in (reads, writes, path):
        os.close(fd)


def test_read_of_a_write_end_or_write_to_a_read_end_is_ebadf():
    ends = os.pipe()
    assert end_of(submitted(aio_write, ends[0], b"x")) == errno.EBADF
    assert end_of(submitted(aio_read, ends[1], bytearray(1))) == errno.EBADF
    for fd in ends:
        os.close(fd)


@pytest.mark.parametrize("offset", [-1, -10, -(2**63)])
@pytest.mark.parametrize("start", TRANSFERS)
def test_negative_offset_ends_the_request_with_einval(file, start, offset):
    cb = submitted(start, file, bytearray(10), aio_offset=offset)
    assert end_of(cb) == errno.EINVAL
    assert failed(errno.EINVAL, aio_return, cb).filename == file


@pytest.mark.parametrize("start", TRANSFERS)
def test_range_beyond_the_largest_offset_ends_the_request_with_an_error(file, start):
    cb = submitted(start, file, bytearray(10), aio_offset=2**63 - 5)
    assert end_of(cb) == errno.EINVAL


def test_largest_offset_is_accepted(file):
    cb = submitted(aio_read, file, bytearray(10), aio_offset=2**63 - 11)
    assert (end_of(cb), aio_return(cb)) == (0, 0)


@pytest.mark.parametrize("offset", [2**63, 2**70, -(2**63) - 1])
@pytest.mark.parametrize("start", TRANSFERS)
def test_offset_outside_64_bits_is_refused_at_the_call(file, start, offset):
    cb = aiocb(file, bytearray(10), aio_offset=offset)
    with pytest.raises(ValueError, match=str(offset)):
        start(cb)
    failed(errno.EINVAL, aio_error, cb)


def test_write_past_the_largest_file_size_is_efbig(file):
    cb = submitted(aio_write, file, b"x", aio_offset=2**63 - 2)
    assert end_of(cb) == errno.EFBIG


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_read_of_a_directory_is_eisdir(tmp_path, size):
    fd = os.open(tmp_path, os.O_RDONLY)
    cb = submitted(aio_read, fd, bytearray(size))
    assert end_of(cb) == errno.EISDIR
    with pytest.raises(IsADirectoryError):
        aio_return(cb)
    os.close(fd)


def test_write_to_a_full_device_is_enospc():
    fd = os.open("/dev/full", os.O_RDWR)
    cb = submitted(aio_write, fd, b"x" * 10)
    assert end_of(cb) == errno.ENOSPC
    assert isinstance(failed(errno.ENOSPC, aio_return, cb), aiofs.QuotaExceededError)
    os.close(fd)


@pytest.mark.parametrize("start", TRANSFERS)
@pytest.mark.parametrize("size", [100, 1 << 20])
def test_bad_buffer_address_is_efault(tmp_path, start, size):
    fd = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    os.write(fd, bytes(1 << 20))
    nowhere = (ctypes.c_char * size).from_address(4096)
    assert end_of(submitted(start, fd, nowhere)) == errno.EFAULT
    assert os.fstat(fd).st_size == 1 << 20
    os.close(fd)


def test_write_to_a_closed_peer_is_epipe_without_sigpipe():
    program = """
import errno, os, signal, socket
from aiofs.aio import *
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
read_end, write_end = os.pipe()
os.close(read_end)
one, other = socket.socketpair()
other.close()
for fd in (write_end, one.fileno()):
    cb = aiocb(fd, b"x" * 10)
    aio_write(cb)
    aio_suspend([cb])
    print(errno.errorcode[aio_error(cb)])
"""
    assert python(program) == "EPIPE\nEPIPE\n"


def test_write_at_the_file_size_limit_is_efbig_without_sigxfsz_and_across_the_limit_short(tmp_path):
    program = """
import errno, os, resource, signal, sys
from aiofs.aio import *
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
def write(size, offset):
    cb = aiocb(fd, b"x" * size, aio_offset=offset)
    aio_write(cb)
    aio_suspend([cb])
    print(errno.errorcode.get(aio_error(cb)) or aio_return(cb))
write(100, 10_000)
write(100, 20_000)
write(1_000_000, 10_000)
write(100, 9_950)
write(100, 9_950)
write(1_000_000, 0)
print(os.fstat(fd).st_size)
"""
    printed = python(program, tmp_path / "limited").split()
    assert printed == ["EFBIG", "EFBIG", "EFBIG", "50", "50", "10000", "10000"]


# ---- of the call --------------------------------------------------------------------------------


@pytest.mark.parametrize("reqprio", [-1, 21, 1000, 2**31, 2**70, -(2**70)])
@pytest.mark.parametrize("start", TRANSFERS)
def test_reqprio_out_of_range_fails_the_call_and_the_request(file, start, reqprio):
    notified = []
    event = sigevent(aio.SIGEV_THREAD, 0, None, notified.append)
    cb = aiocb(file, bytearray(10), aio_reqprio=reqprio, aio_sigevent=event)
    assert failed(errno.EINVAL, start, cb).filename == file
    assert aio_error(cb) == errno.EINVAL
    failed(errno.EINVAL, aio_return, cb)
    assert notified == []


@pytest.mark.parametrize("reqprio", [0, 1, 20])
def test_reqprio_in_range_is_accepted(file, reqprio):
    cb = submitted(aio_read, file, bytearray(10), aio_reqprio=reqprio)
    assert result(cb) == 10


@pytest.mark.parametrize("op", [0, -1, 12345, os.O_RDWR, os.O_SYNC | os.O_APPEND])
def test_aio_fsync_refuses_an_unknown_op_at_the_call(file, op):
    cb = aiocb(file)
    assert failed(errno.EINVAL, aio_fsync, op, cb).filename == file
    failed(errno.EINVAL, aio_error, cb)


@pytest.mark.parametrize("fd", [-1, 987654, 2**40])
def test_aio_fsync_of_a_bad_descriptor_fails_at_the_call(fd):
    cb = aiocb(fd)
    assert failed(errno.EBADF, aio_fsync, os.O_SYNC, cb).filename == fd


def test_aio_fsync_of_a_pipe_or_socket_ends_the_request_with_einval():
    pipe, pair = os.pipe(), socket.socketpair()
    for fd in (pipe[1], pair[0].fileno()):
        cb = aiocb(fd)
        aio_fsync(os.O_SYNC, cb)
        assert end_of(cb) == errno.EINVAL
    for fd in pipe:
        os.close(fd)
    for end in pair:
        end.close()


@pytest.mark.parametrize("start", TRANSFERS)
@pytest.mark.parametrize("nbytes", [11, -1, 2**63, 2**70])
def test_nbytes_beyond_the_buffer_are_refused_at_the_call(file, start, nbytes):
    cb = aiocb(file, bytearray(10), nbytes)
    with pytest.raises(ValueError):
        start(cb)
    failed(errno.EINVAL, aio_error, cb)
    cb.aio_buf.append(0)  # the buffer is not pinned


WRONG_TYPES = {
    "aio_fildes": ["3", None, 3.0, b"3", object()],
    "aio_offset": ["0", None, 1.0],
    "aio_reqprio": ["0", None, 1.0],
    "aio_sigevent": ["loop", 1, aio.SIGEV_NONE, object()],
}


@pytest.mark.parametrize("start", TRANSFERS)
@pytest.mark.parametrize(
    "field,value", [(field, value) for field, values in WRONG_TYPES.items() for value in values]
)
def test_field_of_a_wrong_type_is_refused_at_the_call(file, start, field, value):
    if field == "aio_sigevent" and value == aio.SIGEV_SIGNAL:
        value = "signal"
    cb = aiocb(file, bytearray(10))
    setattr(cb, field, value)
    with pytest.raises(TypeError):
        start(cb)
    failed(errno.EINVAL, aio_error, cb)
    setattr(cb, field, getattr(aiocb(file), field))
    aio_read(cb)
    assert result(cb) == 10


EVENTS = [
    (sigevent("loop"), TypeError),
    (sigevent(aio.SIGEV_THREAD), TypeError),
    (sigevent(aio.SIGEV_THREAD, 0, None, "function"), TypeError),
    (sigevent(aio.SIGEV_LOOP), TypeError),
    (sigevent(aio.SIGEV_LOOP, 0, None, print), RuntimeError),  # no loop runs
    (sigevent(aio.SIGEV_SIGNAL, "10"), TypeError),
    (sigevent(aio.SIGEV_SIGNAL, 10, "value"), TypeError),
    (sigevent(aio.SIGEV_SIGNAL, 10, 2**64), (OverflowError, ValueError)),
]


@pytest.mark.parametrize("event,error", EVENTS, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("start", [*TRANSFERS, lambda cb: aio_fsync(os.O_SYNC, cb)])
def test_invalid_sigevent_is_refused_at_the_call(file, start, event, error):
    cb = aiocb(file, bytearray(10), aio_sigevent=event)
    with pytest.raises(error):
        start(cb)
    failed(errno.EINVAL, aio_error, cb)


CALLS = [aio_read, aio_write, aio_error, aio_return, lambda cb: aio_fsync(os.O_SYNC, cb)]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("value", [None, 3, "cb", object()])
def test_argument_that_is_not_an_aiocb_is_refused(call, value):
    with pytest.raises(TypeError):
        call(value)


@pytest.mark.parametrize("items", [5, None, [5], ["cb"], [aiocb(), 5], aiocb()])
def test_suspend_takes_a_list_of_aiocbs(items):
    with pytest.raises(TypeError):
        aio_suspend(items)


def test_suspend_refuses_bad_time_outs():
    for timeout, error in (("1", TypeError), (float("nan"), ValueError), ([], TypeError)):
        with pytest.raises(error):
            aio_suspend([], timeout)


def test_cancel_takes_a_descriptor_and_an_aiocb(file):
    for arguments in (("3",), (None,), (object(),), (file, 5), (file, "cb")):
        with pytest.raises(TypeError):
            aio_cancel(*arguments)


def test_array_is_refused_as_a_descriptor():
    with pytest.raises(TypeError, match="array"):
        aio_read(aiocb(array.array("i", [3]), bytearray(1)))


@pytest.mark.parametrize("number", [-1, signal.NSIG, 4711])
def test_invalid_signal_number_is_refused_at_the_call(tmp_path, number):
    (tmp_path / "file").write_bytes(b"x" * 10)
    with open(tmp_path / "file", "rb") as file:
        event = sigevent(SIGEV_SIGNAL, number)
        cb = aiocb(file, bytearray(10), aio_sigevent=event, aio_lio_opcode=LIO_READ)
        assert str(number) in str(failed(errno.EINVAL, aio_read, cb))
        failed(errno.EINVAL, lio_listio, LIO_WAIT, [cb])
        cb.aio_sigevent = None
        assert str(number) in str(failed(errno.EINVAL, lio_listio, LIO_NOWAIT, [cb], event))
        assert failed(errno.EINVAL, aio_return, cb)  # nothing was started
