"""SIGEV_THREAD runs a function in a new thread. SIGEV_NONE sends no notification."""

import threading
import time

import pytest
from support import CONTENT, eventually, reading, result

from aiofs.aio import (
    SIGEV_NONE,
    SIGEV_THREAD,
    aio_cancel,
    aio_error,
    aio_read,
    aio_write,
    aiocb,
    sigevent,
)


def in_thread(function, value=None):
    return sigevent(SIGEV_THREAD, 0, value, function)


@pytest.mark.parametrize("size", [0, 10, 1 << 20])
def test_function_runs_once_in_a_thread_of_its_own(file, size):
    seen = []

    def function(value):
        seen.append((value, threading.get_ident(), aio_error(cb)))

    value = object()
    cb = aiocb(file, bytes(size), aio_sigevent=in_thread(function, value))
    aio_write(cb)
    eventually(lambda: seen)
    time.sleep(0.01)
    assert len(seen) == 1
    assert seen[0][0] is value
    assert seen[0][1] != threading.get_ident()
    assert seen[0][2] == 0


def test_every_function_has_a_fresh_thread(file):
    inside, go_on = threading.Barrier(11), threading.Event()

    def function(_):
        inside.wait(20)
        go_on.wait(20)

    requests = [reading(file, aio_sigevent=in_thread(function)) for _ in range(10)]
    inside.wait(20)  # all ten run at the same time
    go_on.set()
    assert [result(cb) for cb in requests] == [10] * 10


def test_cancelled_and_failed_requests_are_notified_in_threads(pipe):
    notified = []
    cancelled = reading(pipe[0], aio_sigevent=in_thread(notified.append, "cancelled"))
    aio_cancel(pipe[0], cancelled)
    eventually(lambda: notified == ["cancelled"])
    reading(987654, aio_sigevent=in_thread(notified.append, "bad"))
    eventually(lambda: notified == ["cancelled", "bad"])


def test_function_may_submit_the_next_request(file):
    finished = threading.Event()

    def function(cb):
        if cb.aio_offset == 100:
            finished.set()
            return
        cb.aio_offset += 1
        aio_read(cb)

    cb = aiocb(file, bytearray(10))
    cb.aio_sigevent = in_thread(function, cb)
    aio_read(cb)
    assert finished.wait(20)
    cb.aio_sigevent = None


def test_exception_of_a_notification_function_is_reported_and_harms_no_request(file, monkeypatch):
    shown = []
    monkeypatch.setattr("sys.unraisablehook", shown.append)
    cb = reading(file, aio_sigevent=in_thread(lambda value: 1 / value, 0))
    eventually(lambda: shown)
    assert shown[0].exc_type is ZeroDivisionError
    assert result(cb) == 10
    del shown[:]


def test_sigev_none_and_unknown_kinds_send_no_notification(file):
    for kind in (SIGEV_NONE, 77, -5):
        cb = reading(file, aio_sigevent=sigevent(kind, "no signal", "no value", "no function"))
        assert result(cb) == 10
        big = aiocb(file, bytearray(1 << 20), aio_sigevent=cb.aio_sigevent)
        aio_read(big)
        assert result(big) == len(CONTENT)
