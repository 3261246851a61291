"""What several test files need: requests and their ends, failing calls, a child that ends well.

What they need on a loop stands in coroutines.py.
"""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from aiofs.aio import aio_error, aio_read, aio_return, aio_suspend, aiocb

FORKS_WITH_THREADS = "ignore:This process:DeprecationWarning"  # what Python 3.12 has to say
CONTENT = bytes(range(256)) * 64  # of a file: a byte tells its place, as far as a byte can


def failed(number, call, *arguments, **named):
    """The OSError of this errno that the call raises."""
    with pytest.raises(OSError) as caught:
        call(*arguments, **named)
    assert caught.value.errno == number, caught.value
    return caught.value


def reading(fd, size=10, **fields):
    """Submits a read."""
    cb = aiocb(fd, bytearray(size), **fields)
    aio_read(cb)
    return cb


def waiting_read(fd, size=10, **fields):
    """Submits a read that waits for data."""
    cb = reading(fd, size, **fields)
    assert aio_error(cb) == errno.EINPROGRESS
    return cb


def drain(read_end, size):
    """Reads exactly this many bytes from a pipe."""
    while size:
        size -= len(os.read(read_end, size))


def result(cb):
    """Waits for a request and gives the result of aio_return."""
    aio_suspend([cb])
    return aio_return(cb)


def end_of(cb):
    """Waits for a request and gives its errno, or 0 for success."""
    aio_suspend([cb])
    return aio_error(cb)


def eventually(condition, seconds=20):
    """Waits until the condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def comes(number, seconds):
    """Whether another such signal, which is blocked, comes. (Python's sigtimedwait makes one up
    when an interrupt meets its last moment.)"""
    time.sleep(seconds)
    return number in signal.sigpending()


@contextmanager
def handling(number, handler):
    """Installs a signal handler during the body. A timer of the body stops afterwards."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(number, before)


def write_file(volume, path, data, at=0):
    """Makes a file of a volume, or writes to it: how many bytes."""
    with volume._ops.sync_access_handle(path, "in-place", True) as handle:
        return handle.write(data, at=at)


def python(program, *arguments, timeout=50, **environment):
    """Runs a program in a new interpreter, which must end with 0 and no complaint: what it printed.

    Newer interpreters complain of a fork where there are threads.
    """

    def run():
        return subprocess.run(
            [sys.executable, "-W", FORKS_WITH_THREADS, "-c", program, *map(str, arguments)],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    try:
        finished = run()
    except subprocess.TimeoutExpired:
        if "AIOFS_SANITIZE" not in os.environ:
            raise
        finished = run()  # a thread may have held a lock of the sanitizer's at a fork
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == "", finished.stderr
    return finished.stdout


@contextmanager
def thread(function, *arguments):
    """Runs the function in a thread during the body. The test raises its exception."""
    raised = []

    def run():
        try:
            function(*arguments)
        except BaseException as error:
            raised.append(error)

    running = threading.Thread(target=run)
    running.start()
    try:
        yield running
    finally:
        running.join()
    if raised:
        raise raised[0]
