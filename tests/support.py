"""Helpers of several test files: requests and their results, failing calls, child processes.

Helpers for tests on a loop are in coroutines.py.
"""

import ctypes
import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from aiofs import FileSystem
from aiofs.aio import aio_error, aio_read, aio_return, aio_suspend, aiocb

SLOW_CALLBACK = re.compile(r"^Executing <.* took \d+\.\d+ seconds\n", re.MULTILINE)
FORKS_WITH_THREADS = "ignore:This process:DeprecationWarning"  # Python 3.12 warns of these
CONTENT = bytes(range(256)) * 64  # a byte is its offset modulo 256


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
    """Reads exactly `size` bytes from a pipe."""
    while size:
        size -= len(os.read(read_end, size))


def result(cb):
    """Waits for a request and returns the result of aio_return."""
    aio_suspend([cb])
    return aio_return(cb)


def end_of(cb):
    """Waits for a request and returns its errno, or 0 for success."""
    aio_suspend([cb])
    return aio_error(cb)


def eventually(condition, seconds=20):
    """Waits until the condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def comes(number, seconds):
    """Is the signal, which is blocked, pending after so many seconds? (If a handler runs just when
    the time is up, Python's sigtimedwait returns a signal that was not sent.)"""
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


@contextmanager
def mounted(volume):
    """A FileSystem with the volume at "/"."""
    with FileSystem() as fs:
        fs.mount("/", volume)
        yield fs


def write_file(volume, path, data, at=0):
    """Creates a file of a volume if it is missing, and writes to it. Returns the count of bytes."""
    with volume._ops.sync_access_handle(path, "in-place", True) as handle:
        return handle.write(data, at=at)


def python(program, *arguments, timeout=50, **environment):
    """Runs a program in a new interpreter. It must exit with 0, without output on stderr.

    Returns its output. Newer interpreters warn of a fork in a process with threads. In debug mode
    asyncio warns of slow callbacks, which a busy machine makes of any.
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
        finished = run()  # another thread may have held a sanitizer's lock at a fork
    assert finished.returncode == 0, finished.stderr
    assert SLOW_CALLBACK.sub("", finished.stderr) == "", finished.stderr
    return finished.stdout


@contextmanager
def thread(function, *arguments):
    """Runs the function in a thread during the body, and raises its exception afterwards."""
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


@contextmanager
def tmpfs(directory):
    """Mounts another filesystem during the body. Skips the test if this user may not."""
    detach = 2  # MNT_DETACH
    libc = ctypes.CDLL(None, use_errno=True)
    at = os.fsencode(directory)
    if libc.mount(b"tmpfs", at, b"tmpfs", 0, None) != 0:
        pytest.skip(f"mount: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        libc.umount2(at, detach)
