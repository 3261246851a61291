"""aio_suspend: completions, time-outs and signals end the wait of a thread."""

import errno
import os
import signal
import threading
import time

import pytest
from support import failed, handling, result, thread, waiting_read

from aiofs.aio import AIO_CANCELED, aio_cancel, aio_error, aio_read, aio_return, aio_suspend, aiocb


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


def test_aio_suspend_returns_at_once_if_a_request_has_ended(file, pipe):
    done = aiocb(file, bytearray(1))
    aio_read(done)
    aio_suspend([done])
    waiting = waiting_read(pipe[0])
    for timeout in (None, 0, -1, 1000):
        assert aio_suspend([waiting, None, done], timeout) == 0
    aio_cancel(pipe[0])


def test_suspend_on_an_empty_list_returns_at_once():
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


def test_exception_of_a_signal_handler_is_raised_by_suspend(pipe):
    cb = waiting_read(pipe[0])

    def handler(*_):
        raise ZeroDivisionError

    with handling(signal.SIGALRM, handler):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(ZeroDivisionError):
            aio_suspend([cb])
    assert aio_cancel(pipe[0], cb) == AIO_CANCELED
