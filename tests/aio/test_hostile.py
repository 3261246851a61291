"""Misuse of POSIX AIO from Python. A call is refused or does what it was asked for; no crash.

The bystander is a file that no request names. It must be unchanged after each test.
"""

import errno
import os
import random
import signal
import threading

import pytest
from support import end_of, failed, handling, result, thread

from aiofs import aio
from aiofs.aio import (
    AIO_ALLDONE,
    AIO_CANCELED,
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

CONTENT = b"what stands here stays" * 4000
LARGE = bytes(range(256)) * 1200


@pytest.fixture(autouse=True)
def bystander(tmp_path):
    fd = os.open(tmp_path / "bystander", os.O_RDWR | os.O_CREAT)
    os.write(fd, CONTENT)
    yield fd
    assert os.pread(fd, len(CONTENT) + 1, 0) == CONTENT
    os.close(fd)


@pytest.fixture
def file(empty):
    """A descriptor that must work unchanged after the test."""
    yield empty
    cb = aiocb(empty, LARGE)
    aio_write(cb)
    assert result(cb) == len(LARGE)
    assert os.pread(empty, len(LARGE), 0) == LARGE


ANYTHING = [None, -1, 1 << 30, 2**31, 2**63, 2**200, -(2**70), "x", b"x", 1.5, [], (), object()]
SIGEVENTS = [sigevent(), sigevent(4711), sigevent(-1), sigevent(2**31 - 1, 3, 4)]


def nonsense(draw):
    cb = aiocb()
    for name in ("aio_fildes", "aio_buf", "aio_nbytes", "aio_offset", "aio_reqprio"):
        setattr(cb, name, draw.choice(ANYTHING))
    cb.aio_lio_opcode = draw.choice(ANYTHING)
    cb.aio_sigevent = draw.choice(ANYTHING + SIGEVENTS)
    return cb


ATTACKS = [
    lambda cb, draw, file: aio_read(cb),
    lambda cb, draw, file: aio_write(cb),
    lambda cb, draw, file: aio_fsync(draw.choice([os.O_SYNC, 5, -1]), cb),
    lambda cb, draw, file: aio_cancel(draw.choice([file, -1, 2**70]), cb),
    lambda cb, draw, file: lio_listio(draw.choice([aio.LIO_WAIT, aio.LIO_NOWAIT, 9]), [cb, None]),
    lambda cb, draw, file: aio_suspend([cb], 0),
    lambda cb, draw, file: aio_return(cb),
]


def test_aiocb_with_random_fields_never_succeeds_and_never_crashes(file):
    draw = random.Random(1)
    for _ in range(3000):
        cb = nonsense(draw)
        try:
            draw.choice(ATTACKS)(cb, draw, file)
        except (OSError, TypeError, ValueError, BufferError):
            continue
        try:
            assert end_of(cb) != 0
        except OSError as error:
            assert error.errno == errno.EINVAL  # the aiocb was never submitted


def test_requests_in_flight_never_reach_a_file_that_reuses_their_descriptor(tmp_path):
    over = threading.Event()

    def open_and_close(number):
        rounds = 0
        while not over.is_set() or rounds < 5:
            path = tmp_path / f"{number}-{rounds % 4}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            requests = [aiocb(fd, LARGE, aio_offset=i * len(LARGE)) for i in range(3)]
            for cb in requests:
                aio_write(cb)
            os.close(fd)
            assert [result(cb) for cb in requests] == [len(LARGE)] * 3
            assert path.read_bytes() == LARGE * 3
            rounds += 1

    with thread(open_and_close, 1), thread(open_and_close, 2):
        for _ in range(100):
            fd = os.open(tmp_path / "mine", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            os.pwrite(fd, CONTENT, 0)
            assert os.pread(fd, len(CONTENT) + 1, 0) == CONTENT
            os.close(fd)
        over.set()


def test_request_cancelled_by_many_threads_at_once_ends_once(pipe):
    for _ in range(20):
        requests = [aiocb(pipe[0], bytearray(1)) for _ in range(20)]
        for cb in requests:
            aio_read(cb)
        verdicts = []

        def cancel_all(requests=requests, verdicts=verdicts):
            for cb in requests:
                verdict = aio_cancel(pipe[0], cb)
                verdicts.append((verdict, aio_error(cb)))

        with thread(cancel_all), thread(cancel_all), thread(cancel_all):
            pass
        assert {error for _, error in verdicts} == {errno.ECANCELED}
        assert {verdict for verdict, _ in verdicts} <= {AIO_CANCELED, AIO_ALLDONE}
        assert aio_cancel(pipe[0]) == AIO_ALLDONE


def test_aiocb_submitted_by_many_threads_at_once_is_accepted_once(file):
    cb = aiocb(file, LARGE, aio_reqprio=1)
    refusals = set()

    def submit():
        for _ in range(300):
            try:
                aio_write(cb)
            except OSError as error:
                refusals.add(error.errno)
            if aio_error(cb) == errno.EINPROGRESS:
                aio_suspend([cb])

    with thread(submit), thread(submit), thread(submit):
        pass
    assert refusals <= {errno.EINVAL, errno.EAGAIN}
    assert end_of(cb) == 0
    assert os.pread(file, len(LARGE) + 1, 0) == LARGE


def test_requests_go_on_in_a_storm_of_signals(file, pipe):
    waiting = aiocb(pipe[0], bytearray(1))
    aio_read(waiting)
    seen, over = [], threading.Event()

    def ask(signo, frame):
        seen.append(aio_error(waiting))

    def storm():
        while not over.is_set():
            os.kill(os.getpid(), signal.SIGUSR1)
            over.wait(0.001)

    with handling(signal.SIGUSR1, ask), thread(storm):
        try:
            for number in range(300):
                cb = aiocb(file, LARGE if number % 2 else LARGE[:1000])
                aio_write(cb)
                while aio_error(cb) == errno.EINPROGRESS:
                    try:
                        aio_suspend([cb])
                    except InterruptedError:
                        pass
                assert aio_return(cb) == len(cb.aio_buf)
        finally:
            over.set()
    assert set(seen) <= {errno.EINPROGRESS}
    os.write(pipe[1], b"x")
    assert result(waiting) == 1


def test_finalizer_of_a_buffer_may_query_its_own_request(pipe):
    """The core releases the buffer of a terminal request. Then a finalizer may run."""
    seen = []

    class Buffer(bytearray):
        def __del__(self):
            seen.append(aio_error(cb))

    read_end, write_end = pipe
    cb = aiocb(read_end, Buffer(8))
    aio_read(cb)
    cb.aio_buf = None
    os.write(write_end, b"x" * 8)
    assert result(cb) == 8
    assert seen == [0]


def test_aiocb_submitted_by_its_own_fileno_is_in_flight(pipe):
    read_end, write_end = pipe

    class Target:
        def fileno(self):
            if cb.aio_fildes is self:
                cb.aio_fildes = read_end
                aio_read(cb)
            return read_end

    cb = aiocb(Target(), bytearray(1))
    failed(errno.EINVAL, aio_read, cb)
    os.write(write_end, b"x")
    assert result(cb) == 1


def test_files_that_seek_but_refuse_pwrite_are_written():
    """Some files of /proc refuse pwrite(2), so a request writes at the file position."""
    fd = os.open("/proc/self/comm", os.O_WRONLY)
    with open("/proc/self/comm") as known:
        before = known.read().strip()
    cb = aiocb(fd, b"renamed")
    aio.aio_write(cb)
    assert result(cb) == 7
    with open("/proc/self/comm") as known:
        assert known.read().strip() == "renamed"
    os.write(fd, before.encode())
    os.close(fd)


def test_nbytes_that_compares_as_it_likes_is_refused(file):
    class Liar(int):
        def __ge__(self, other):
            return True

        __le__ = __ge__

    with pytest.raises(ValueError, match="the buffer has 16 bytes"):
        aio_read(aiocb(file, bytearray(16), Liar(4096)))


def test_sigevent_that_fileno_replaces_is_refused(file):
    class Replaces:
        def fileno(self):
            cb.aio_sigevent = "none"
            return file

    cb = aiocb(Replaces(), bytearray(10), aio_sigevent=sigevent(aio.SIGEV_SIGNAL))
    with pytest.raises(TypeError):
        aio_read(cb)


def test_sigevent_that_fileno_sends_to_no_loop_is_refused(file):
    class Changes:
        def fileno(self):
            cb.aio_sigevent.sigev_notify = aio.SIGEV_LOOP
            return file

    cb = aiocb(Changes(), bytearray(10), aio_sigevent=sigevent(aio.SIGEV_THREAD, 0, None, print))
    with pytest.raises(RuntimeError):
        aio_read(cb)


def test_entry_submitted_by_the_fileno_of_a_later_entry_is_in_flight(file, pipe):
    class Submits:
        def fileno(self):
            aio_read(first)
            return file

    first = aiocb(pipe[0], bytearray(10), aio_lio_opcode=aio.LIO_READ)
    later = aiocb(Submits(), bytearray(10), aio_lio_opcode=aio.LIO_READ)
    failed(errno.EINVAL, lio_listio, aio.LIO_NOWAIT, [first, later])
    failed(errno.EINVAL, aio_error, later)
    os.write(pipe[1], b"x")
    assert result(first) == 1
