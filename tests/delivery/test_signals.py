"""SIGEV_SIGNAL: each completion queues one signal to the process, with its value."""

import errno
import os
import signal

import pytest
from support import comes, end_of, eventually, handling, python, reading, result

from aiofs.aio import SIGEV_SIGNAL, aio_cancel, aio_error, aio_fsync, aio_write, aiocb, sigevent

REAL_TIME = signal.SIGRTMIN + 2


@pytest.fixture
def blocked():
    """A real-time signal that is blocked; tests fetch it by sigtimedwait (see conftest.py)."""
    yield REAL_TIME
    while signal.sigtimedwait([REAL_TIME], 0) is not None:
        pass


@pytest.mark.parametrize("size", [10, 1 << 20])
@pytest.mark.parametrize("value", [None, 0, 7, -1, 2**63 - 1])
def test_signal_is_queued_with_its_value(file, blocked, size, value):
    event = sigevent(SIGEV_SIGNAL, REAL_TIME, value)
    cb = aiocb(file, bytes(size), aio_sigevent=event)
    aio_write(cb)
    info = signal.sigtimedwait([REAL_TIME], 30)
    assert aio_error(cb) == 0
    assert info.si_signo == REAL_TIME
    assert info.si_code == -4  # SI_ASYNCIO
    assert (info.si_pid, info.si_uid) == (os.getpid(), os.getuid())
    assert not comes(REAL_TIME, 0.01)


def test_real_time_signals_come_once_for_each_request(file, pipe, blocked):
    event = sigevent(SIGEV_SIGNAL, REAL_TIME, 1)
    requests = [reading(pipe[0], 1, aio_sigevent=event) for _ in range(50)]
    requests += [reading(file, 1, aio_sigevent=event) for _ in range(50)]
    os.write(pipe[1], b"x" * 50)
    for _ in range(100):
        assert signal.sigtimedwait([REAL_TIME], 30).si_signo == REAL_TIME
    assert not comes(REAL_TIME, 0.02)
    assert [end_of(cb) for cb in requests] == [0] * 100


def test_status_is_final_when_the_signal_arrives(pipe, blocked):
    for turn in range(100):
        cb = reading(pipe[0], 1, aio_sigevent=sigevent(SIGEV_SIGNAL, REAL_TIME, turn))
        os.write(pipe[1], b"x")
        signal.sigtimedwait([REAL_TIME], 30)
        assert aio_error(cb) == 0


def test_cancelled_and_failed_requests_are_signalled(pipe, blocked):
    event = sigevent(SIGEV_SIGNAL, REAL_TIME, 1)
    cancelled = reading(pipe[0], aio_sigevent=event)
    aio_cancel(pipe[0], cancelled)
    assert signal.sigtimedwait([REAL_TIME], 30) is not None
    assert aio_error(cancelled) == errno.ECANCELED
    bad = reading(987654, aio_sigevent=event)
    assert signal.sigtimedwait([REAL_TIME], 30) is not None
    assert aio_error(bad) == errno.EBADF
    sync = aiocb(pipe[0], aio_sigevent=event)
    aio_fsync(os.O_SYNC, sync)
    assert signal.sigtimedwait([REAL_TIME], 30) is not None
    assert not comes(REAL_TIME, 0.01)


def test_handler_of_the_program_runs(pipe):
    seen = []
    with handling(signal.SIGUSR1, lambda number, _: seen.append(number)):
        cb = reading(pipe[0], aio_sigevent=sigevent(SIGEV_SIGNAL, signal.SIGUSR1))
        os.write(pipe[1], b"x")
        eventually(lambda: seen == [signal.SIGUSR1])
        assert aio_error(cb) == 0


def test_signal_number_0_sends_no_signal(file, pipe):
    cb = reading(file, aio_sigevent=sigevent(SIGEV_SIGNAL, 0, 3))
    assert result(cb) == 10
    waiting = reading(pipe[0], aio_sigevent=sigevent(SIGEV_SIGNAL))
    os.write(pipe[1], b"x")
    assert result(waiting) == 1


def test_refused_real_time_signals_are_sent_again():
    program = """
import os, resource, signal, time
from aiofs.aio import *
number = signal.SIGRTMIN + 2
signal.pthread_sigmask(signal.SIG_BLOCK, [number])
read_end, write_end = os.pipe()
event = sigevent(SIGEV_SIGNAL, number, 1)
requests = [aiocb(read_end, bytearray(1), aio_sigevent=event) for _ in range(40)]
for cb in requests:
    aio_read(cb)
hard = resource.getrlimit(resource.RLIMIT_SIGPENDING)[1]
resource.setrlimit(resource.RLIMIT_SIGPENDING, (10, hard))
os.write(write_end, b"x" * 40)
for _ in range(40):
    assert signal.sigtimedwait([number], 30) is not None
time.sleep(0.05)
assert number not in signal.sigpending()
print([aio_error(cb) for cb in requests].count(0))
"""
    assert python(program) == "40\n"
