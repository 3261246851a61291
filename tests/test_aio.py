"""POSIX AIO from Python: what a request does, how it is waited for, and how it is taken back."""

import array
import ctypes
import errno
import fcntl
import os
import pty
import signal
import socket
import threading
import time

import pytest
from support import end_of, eventually, failed, handling, python, result, thread, waiting_read

from aiofs import aio
from aiofs.aio import (
    AIO_ALLDONE,
    AIO_CANCELED,
    AIO_NOTCANCELED,
    aio_cancel,
    aio_error,
    aio_fsync,
    aio_read,
    aio_return,
    aio_suspend,
    aio_write,
    aiocb,
    sigevent,
)

FIELDS = {
    "aio_fildes": -1,
    "aio_buf": None,
    "aio_nbytes": None,
    "aio_offset": 0,
    "aio_reqprio": 0,
    "aio_sigevent": None,
    "aio_lio_opcode": aio.LIO_NOP,
}


def fill(write_end):
    """Fills a pipe; how many bytes it took."""
    os.set_blocking(write_end, False)
    filled = 0
    try:
        while True:
            filled += os.write(write_end, bytes(65536))
    except BlockingIOError:
        os.set_blocking(write_end, True)
    return filled


def drain(read_end, size):
    while size:
        size -= len(os.read(read_end, size))


# ---- the control block --------------------------------------------------------------------------


def test_names_are_those_of_aio_h():
    functions = (
        "aio_read aio_write aio_fsync aio_error aio_return aio_suspend aio_cancel lio_listio"
    )
    constants = (
        "AIO_CANCELED AIO_NOTCANCELED AIO_ALLDONE LIO_READ LIO_WRITE LIO_NOP LIO_WAIT LIO_NOWAIT "
        "SIGEV_NONE SIGEV_SIGNAL SIGEV_THREAD SIGEV_LOOP "
        "AIO_LISTIO_MAX AIO_MAX AIO_PRIO_DELTA_MAX"
    )
    names = [*functions.split(), *constants.split(), "aiocb", "sigevent", "suspend"]
    assert sorted(aio.__all__) == sorted(names)
    for name in names:
        assert hasattr(aio, name)


def test_constants_are_those_of_the_system():
    assert (aio.AIO_CANCELED, aio.AIO_NOTCANCELED, aio.AIO_ALLDONE) == (0, 1, 2)
    assert (aio.LIO_READ, aio.LIO_WRITE, aio.LIO_NOP) == (0, 1, 2)
    assert (aio.LIO_WAIT, aio.LIO_NOWAIT) == (0, 1)
    assert (aio.SIGEV_SIGNAL, aio.SIGEV_NONE, aio.SIGEV_THREAD) == (0, 1, 2)
    assert aio.SIGEV_LOOP not in (0, 1, 2, 4)  # 4 is SIGEV_THREAD_ID
    assert (aio.AIO_LISTIO_MAX, aio.AIO_MAX, aio.AIO_PRIO_DELTA_MAX) == (-1, -1, 20)


def test_fields_have_the_defaults_of_the_contract():
    cb = aiocb()
    event = cb.aio_sigevent
    assert type(event) is sigevent
    assert cb.aio_sigevent is event
    assert {name: getattr(cb, name) for name in FIELDS} == FIELDS | {"aio_sigevent": event}
    assert (event.sigev_notify, event.sigev_signo) == (aio.SIGEV_NONE, 0)
    assert (event.sigev_value, event.sigev_notify_function) == (None, None)


def test_fields_are_taken_in_the_order_of_the_contract():
    values = [3, bytearray(4), 2, 1, 5, sigevent(), aio.LIO_READ]
    cb = aiocb(*values)
    assert [getattr(cb, name) for name in FIELDS] == values
    event = sigevent(aio.SIGEV_THREAD, 7, "value", print)
    assert (event.sigev_notify, event.sigev_signo) == (aio.SIGEV_THREAD, 7)
    assert (event.sigev_value, event.sigev_notify_function) == ("value", print)


def test_every_field_can_be_set():
    cb, event = aiocb(), sigevent()
    for name in FIELDS:
        value = object()
        setattr(cb, name, value)
        assert getattr(cb, name) is value
    for name in ("sigev_notify", "sigev_signo", "sigev_value", "sigev_notify_function"):
        value = object()
        setattr(event, name, value)
        assert getattr(event, name) is value


def test_sigevent_of_an_aiocb_is_set_field_by_field(file):
    """As in C: `cb.aio_sigevent.sigev_notify = SIGEV_THREAD`."""
    told = []
    cb = aiocb(file, bytearray(10))
    cb.aio_sigevent.sigev_notify = aio.SIGEV_THREAD
    cb.aio_sigevent.sigev_notify_function = told.append
    cb.aio_sigevent.sigev_value = 7
    aio_read(cb)
    eventually(lambda: told == [7])
    cb.aio_sigevent = None
    assert cb.aio_sigevent.sigev_notify == aio.SIGEV_NONE


def test_fields_that_are_set_count_at_the_submission(file, content):
    cb = aiocb()
    cb.aio_fildes, cb.aio_buf, cb.aio_nbytes, cb.aio_offset = file, bytearray(10), 4, 100
    aio_read(cb)
    assert result(cb) == 4
    assert cb.aio_buf == content[100:104] + bytes(6)


def test_repr_says_what_has_become_of_it(file, pipe):
    cb = aiocb(file, bytearray(5))
    assert "not submitted" in repr(cb)
    aio_read(cb)
    end_of(cb)
    assert "result 5" in repr(cb)
    bad = aiocb(987654, bytearray(5))
    aio_read(bad)
    end_of(bad)
    assert "EBADF" in repr(bad)
    waiting = waiting_read(pipe[0])
    assert "in progress" in repr(waiting)
    aio_cancel(pipe[0])
    assert "ECANCELED" in repr(waiting)
    assert "sigev_signo=3" in repr(sigevent(aio.SIGEV_SIGNAL, 3))


# ---- reading and writing ------------------------------------------------------------------------


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
def test_any_size_goes_there_and_comes_back(empty, size):
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


def test_read_at_the_end_is_short_and_past_it_is_nothing(file, content):
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
def test_no_bytes_are_a_success(file, content, start, buffer):
    cb = aiocb(file, bytearray(buffer) if buffer is not None else None, 0, aio_offset=50)
    start(cb)
    assert result(cb) == 0
    assert os.pread(file, 1 << 20, 0) == content


def test_no_bytes_past_the_end_do_not_extend_the_file(empty):
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


def test_requests_need_no_loop_and_end_while_nobody_waits(empty):
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


def test_ends_do_not_interrupt_the_programs_own_calls(empty, pipe):
    # PEP 475 would hide it: so the system's own functions, and what they say.
    libc = ctypes.CDLL(None, use_errno=True)
    poller = libc.epoll_create1(0)
    event = ctypes.create_string_buffer(64)
    moment = (ctypes.c_long * 2)(0, 2_000_000)
    try:
        for _ in range(30):
            busy = [waiting_read(pipe[0], 1), aiocb(empty, bytes(300_000))]
            aio_write(busy[1])
            os.write(pipe[1], b"x")
            assert libc.epoll_wait(poller, event, 1, 2) == 0
            assert libc.nanosleep(moment, None) == 0
            assert [result(cb) for cb in busy] == [1, 300_000]
    finally:
        os.close(poller)


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


# ---- what a request is for ----------------------------------------------------------------------


def test_fildes_may_be_an_object_with_fileno(tmp_path):
    with open(tmp_path / "file", "w+b", buffering=0) as file:
        file.write(b"content")
        cb = aiocb(file, bytearray(7))
        aio_read(cb)
        assert result(cb) == 7
        aio_fsync(os.O_SYNC, cb)
        assert result(cb) == 0
        assert aio_cancel(file) == AIO_ALLDONE
        assert aio_cancel(file, cb) == AIO_ALLDONE


def test_what_fileno_raises_the_call_raises():
    class Broken:
        def fileno(self):
            raise LookupError("no such thing")

    with pytest.raises(LookupError):
        aio_read(aiocb(Broken(), bytearray(1)))
    with pytest.raises(LookupError):
        aio_cancel(Broken())


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_read_of_a_stream_waits_for_data_and_ignores_the_offset(kind):
    if kind == "pipe":
        ends = os.pipe()
    elif kind == "socket":
        ends = [end.detach() for end in socket.socketpair()]
    else:
        ends = pty.openpty()[::-1]
    read_end, write_end = ends
    cb = waiting_read(read_end, aio_offset=12345)
    os.write(write_end, b"hello\n")
    assert result(cb) == 6
    assert cb.aio_buf[:6] == b"hello\n"
    for fd in ends:
        os.close(fd)


def test_read_of_a_stream_ends_where_the_writer_did(pipe):
    read_end, write_end = os.pipe()
    cb = waiting_read(read_end)
    os.close(write_end)
    assert result(cb) == 0
    os.close(read_end)


def test_writes_to_a_stream_land_in_the_order_of_the_calls(pipe):
    read_end, write_end = pipe
    requests = [aiocb(write_end, b"%04d" % n, aio_offset=1000 - n) for n in range(1000)]
    for cb in requests:
        aio_write(cb)
    assert [result(cb) for cb in requests] == [4] * 1000
    assert os.read(read_end, 4000) == b"".join(b"%04d" % n for n in range(1000))


def test_write_to_a_full_pipe_waits_for_room(pipe):
    read_end, write_end = pipe
    filled = fill(write_end)
    cb = aiocb(write_end, b"x" * 100_000)
    aio_write(cb)
    failed(errno.EAGAIN, aio_suspend, [cb], 0.01)
    drain(read_end, filled + 100_000)
    assert result(cb) == 100_000


def test_waiting_reads_do_not_hold_up_files(file):
    pipes = [os.pipe() for _ in range(100)]
    waiting = [waiting_read(read_end) for read_end, _ in pipes]
    for turn in range(50):
        cb = aiocb(file, bytes(1 << 19), aio_offset=turn << 19)
        aio_write(cb)
        assert result(cb) == 1 << 19
    for (_, write_end), cb in zip(pipes, waiting, strict=True):
        os.write(write_end, b"now")
        assert result(cb) == 3
    for fd in sum(pipes, ()):
        os.close(fd)


def test_higher_reqprio_runs_later_among_those_that_wait(pipe):
    read_end, write_end = pipe
    first = waiting_read(read_end, 1)
    late = waiting_read(read_end, 1, aio_reqprio=20)
    soon = waiting_read(read_end, 1, aio_reqprio=3)
    next_one = waiting_read(read_end, 1)
    for cb, byte in ((first, b"1"), (next_one, b"2"), (soon, b"3"), (late, b"4")):
        os.write(write_end, byte)
        assert result(cb) == 1
        assert cb.aio_buf == byte


def test_twenty_thousand_requests_wait_and_are_cancelled(pipe):
    read_end, _ = pipe
    requests = [aiocb(read_end, bytearray(1)) for _ in range(20_000)]
    for cb in requests:
        aio_read(cb)
    assert aio_cancel(read_end) == AIO_CANCELED
    assert {aio_error(cb) for cb in requests} == {errno.ECANCELED}


def test_request_belongs_to_the_open_file_not_to_the_number(tmp_path):
    read_end, write_end = os.pipe()
    cb = waiting_read(read_end, 5)
    os.close(read_end)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    assert other == read_end
    os.write(other, b"WRONG")
    os.write(write_end, b"right")
    assert result(cb) == 5
    assert cb.aio_buf == b"right"
    os.close(other)
    os.close(write_end)


def test_queued_writes_go_to_the_file_they_were_for(tmp_path):
    for _ in range(20):
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        requests = [aiocb(fd, bytes(500_000), aio_offset=i * 500_000) for i in range(4)]
        for cb in requests:
            aio_write(cb)
        os.close(fd)
        other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        assert [result(cb) for cb in requests] == [500_000] * 4
        assert os.fstat(other).st_size == 0
        assert os.stat(tmp_path / "file").st_size == 2_000_000
        os.close(other)


def test_unlinked_file_is_read_and_written(tmp_path, file, content):
    os.unlink(tmp_path / "file")
    cb = aiocb(file, bytes(1 << 19), aio_offset=10)
    aio_write(cb)
    assert result(cb) == 1 << 19
    again = aiocb(file, bytearray(10))
    aio_read(again)
    assert result(again) == 10
    assert again.aio_buf == content[:10]


def test_fcntl_locks_of_the_program_survive_its_requests(tmp_path, file):
    fcntl.lockf(file, fcntl.LOCK_EX)
    for size in (10, 1 << 20):
        for start in (aio_write, aio_read):
            cb = aiocb(file, bytearray(size))
            start(cb)
            assert end_of(cb) == 0
    aio_fsync(os.O_SYNC, cb)
    assert end_of(cb) == 0
    program = (
        "import fcntl, sys\n"
        "try: fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: print('locked')"
    )
    assert python(program, tmp_path / "file") == "locked\n"


# ---- syncing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [os.O_SYNC, os.O_DSYNC])
def test_sync_gives_0(file, op):
    cb = aiocb(file)
    assert aio_fsync(op, cb) == 0
    assert result(cb) == 0


def test_sync_looks_at_no_other_field(file):
    cb = aiocb(file, "no buffer", "no size", "no offset", "no priority", None, "no opcode")
    aio_fsync(os.O_DSYNC, cb)
    assert result(cb) == 0


def test_sync_makes_the_call_it_is_named_for(file, faults):
    if faults.calls("io_uring_enter"):
        pytest.skip("io_uring makes it without a call")
    for op, name in ((os.O_SYNC, "fsync"), (os.O_DSYNC, "fdatasync")):
        before = faults.calls(name)
        cb = aiocb(file)
        aio_fsync(op, cb)
        assert end_of(cb) == 0
        assert faults.calls(name) == before + 1


def test_sync_ends_after_the_requests_before_it(empty):
    for _ in range(20):
        writes = [aiocb(empty, bytes(400_000), aio_offset=i * 400_000) for i in range(8)]
        for number, cb in enumerate(writes):
            cb.aio_reqprio = 20 - number
            aio_write(cb)
        sync = aiocb(empty, aio_reqprio=0)
        aio_fsync(os.O_DSYNC, sync)
        aio_suspend([sync])
        assert [aio_error(cb) for cb in writes] == [0] * 8


# ---- the result ---------------------------------------------------------------------------------


def test_result_is_returned_once_and_the_status_stays(file):
    cb = aiocb(file, bytearray(10))
    aio_read(cb)
    aio_suspend([cb])
    assert (aio_error(cb), aio_return(cb)) == (0, 10)
    assert "aio_return" in str(failed(errno.EINVAL, aio_return, cb))
    assert aio_error(cb) == 0


def test_failure_is_raised_once_and_the_status_stays():
    cb = aiocb(987654, bytearray(10))
    aio_read(cb)
    assert end_of(cb) == errno.EBADF
    failed(errno.EBADF, aio_return, cb)
    failed(errno.EINVAL, aio_return, cb)
    assert aio_error(cb) == errno.EBADF


def test_request_in_progress_has_no_result_yet(pipe):
    cb = waiting_read(pipe[0])
    failed(errno.EINPROGRESS, aio_return, cb)
    os.write(pipe[1], b"abc")
    assert result(cb) == 3


def test_aiocb_that_was_never_submitted_is_invalid(file):
    cb = aiocb(file, bytearray(10))
    for call in (aio_error, aio_return):
        assert failed(errno.EINVAL, call, cb).filename == file


def test_aiocb_is_used_again_without_aio_return(file, content):
    cb = aiocb(file, bytearray(10))
    for turn in range(100):
        cb.aio_offset = turn
        aio_read(cb)
        assert end_of(cb) == 0
        assert cb.aio_buf == content[turn : turn + 10]
    assert aio_return(cb) == 10


def test_submission_begins_a_new_result(file):
    cb = aiocb(987654, bytearray(10))
    aio_read(cb)
    assert end_of(cb) == errno.EBADF
    cb.aio_fildes = file
    aio_read(cb)
    assert result(cb) == 10
    aio_read(cb)
    assert result(cb) == 10


def test_submitting_in_flight_is_refused_and_touches_nothing(pipe, file):
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


def test_fields_changed_in_flight_count_from_the_next_submission(pipe, file, content):
    cb = waiting_read(pipe[0], 5)
    buffer = cb.aio_buf
    told = []
    cb.aio_fildes, cb.aio_buf, cb.aio_offset = file, bytearray(8), 100
    cb.aio_sigevent = sigevent(aio.SIGEV_THREAD, 0, "later", told.append)
    os.write(pipe[1], b"12345678")
    assert result(cb) == 5
    assert (buffer, cb.aio_buf, told) == (b"12345", bytes(8), [])
    aio_read(cb)
    assert result(cb) == 8
    assert cb.aio_buf == content[100:108]
    eventually(lambda: told == ["later"])


# ---- waiting ------------------------------------------------------------------------------------


def test_suspend_returns_when_one_of_many_is_terminal():
    pipes = [os.pipe() for _ in range(200)]
    requests = [waiting_read(read_end) for read_end, _ in pipes]
    for number in (77, 0, 199):
        threading.Timer(0.02, os.write, [pipes[number][1], b"x"]).start()
        assert aio_suspend(requests) == 0
        assert aio_return(requests[number]) == 1
        ended = [cb for cb in requests if cb and aio_error(cb) != errno.EINPROGRESS]
        assert ended == [requests[number]]
        requests[number] = None
    for read_end, _ in pipes:
        aio_cancel(read_end)
    for fd in sum(pipes, ()):
        os.close(fd)


def test_suspend_looks_before_it_sleeps(file, pipe):
    done = aiocb(file, bytearray(1))
    aio_read(done)
    aio_suspend([done])
    waiting = waiting_read(pipe[0])
    for timeout in (None, 0, -1, 1000):
        assert aio_suspend([waiting, None, done], timeout) == 0
    aio_cancel(pipe[0])


def test_suspend_on_nothing_returns_at_once():
    for nothing in ([], (), [None], [None, None], [aiocb()], [None, aiocb()]):
        assert aio_suspend(nothing) == 0


def test_suspend_takes_any_iterable(file):
    cb = aiocb(file, bytearray(1))
    aio_read(cb)
    assert aio_suspend(each for each in (None, cb)) == 0


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -0.5, 0.01, float("-inf")])
def test_suspend_fails_with_eagain_when_the_time_is_up(pipe, timeout):
    cb = waiting_read(pipe[0])
    before = time.monotonic()
    failed(errno.EAGAIN, aio_suspend, [cb], timeout)
    assert time.monotonic() - before >= timeout
    assert aio_error(cb) == errno.EINPROGRESS
    aio_cancel(pipe[0], cb)


@pytest.mark.parametrize("timeout", [float("inf"), 1e30, 10**12, 1e9])
def test_a_distant_time_out_waits(pipe, timeout):
    cb = waiting_read(pipe[0])
    threading.Timer(0.02, os.write, [pipe[1], b"x"]).start()
    assert aio_suspend([cb], timeout) == 0


def test_suspend_lets_other_threads_run(pipe):
    cb = waiting_read(pipe[0])
    with thread(lambda: (sum(range(100_000)), os.write(pipe[1], b"x"))):
        assert aio_suspend([cb]) == 0
    assert aio_return(cb) == 1


def test_several_threads_wait_for_one_request(pipe):
    cb = waiting_read(pipe[0])
    with thread(aio_suspend, [cb]), thread(aio_suspend, [None, cb]), thread(aio_suspend, [cb]):
        os.write(pipe[1], b"x")
    assert aio_return(cb) == 1


@pytest.mark.parametrize("restart", [False, True])
def test_signal_handler_ends_a_suspend_with_eintr(pipe, restart):
    cb = waiting_read(pipe[0])
    seen = []
    with handling(signal.SIGALRM, lambda *_: seen.append("handled")):
        signal.siginterrupt(signal.SIGALRM, not restart)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        failed(errno.EINTR, aio_suspend, [cb])
        assert seen
    assert aio_error(cb) == errno.EINPROGRESS
    os.write(pipe[1], b"x")
    assert result(cb) == 1


def test_what_a_signal_handler_raises_suspend_raises(pipe):
    cb = waiting_read(pipe[0])

    def handler(*_):
        raise ZeroDivisionError

    with handling(signal.SIGALRM, handler):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(ZeroDivisionError):
            aio_suspend([cb])
    assert aio_cancel(pipe[0], cb) == AIO_CANCELED


# ---- cancelling ---------------------------------------------------------------------------------


def test_waiting_read_is_cancelled_before_cancel_returns(pipe):
    cb = waiting_read(pipe[0])
    assert aio_cancel(pipe[0], cb) == AIO_CANCELED
    assert aio_error(cb) == errno.ECANCELED
    failed(errno.ECANCELED, aio_return, cb)
    os.write(pipe[1], b"kept")
    assert os.read(pipe[0], 10) == b"kept"
    assert cb.aio_buf == bytes(10)


def test_cancelling_one_leaves_the_others(pipe):
    requests = [waiting_read(pipe[0], 1) for _ in range(5)]
    assert aio_cancel(pipe[0], requests[2]) == AIO_CANCELED
    assert aio_cancel(pipe[0], requests[0]) == AIO_CANCELED
    os.write(pipe[1], b"abc")
    assert [result(requests[i]) for i in (1, 3, 4)] == [1, 1, 1]
    assert [bytes(requests[i].aio_buf) for i in (1, 3, 4)] == [b"a", b"b", b"c"]


def test_cancelling_a_descriptor_takes_all_of_its_requests(pipe):
    other = os.pipe()
    kept = waiting_read(other[0])
    requests = [waiting_read(pipe[0]) for _ in range(10)]
    assert aio_cancel(pipe[0]) == AIO_CANCELED
    assert [aio_error(cb) for cb in requests] == [errno.ECANCELED] * 10
    assert aio_error(kept) == errno.EINPROGRESS
    assert aio_cancel(other[0], None) == AIO_CANCELED
    for fd in other:
        os.close(fd)


def test_nothing_outstanding_is_all_done(file, pipe):
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


def test_cancelled_twice_is_all_done(pipe):
    cb = waiting_read(pipe[0])
    assert aio_cancel(pipe[0], cb) == AIO_CANCELED
    assert aio_cancel(pipe[0], cb) == AIO_ALLDONE
    assert aio_error(cb) == errno.ECANCELED


def test_write_that_has_begun_is_not_cancelled_but_those_behind_it_are(pipe):
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
    drain(read_end, 1)  # so a part of it is certainly there
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


# ---- the C structures below ---------------------------------------------------------------------


def test_arrays_and_ctypes_are_read_into(file, content):
    for buffer in (array.array("I", range(8)), (ctypes.c_uint32 * 8)()):
        cb = aiocb(file, buffer)
        aio_read(cb)
        assert result(cb) == 32
        assert bytes(buffer) == content[:32]
