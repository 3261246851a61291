"""A lock is held until the last descriptor is closed and the last request is complete, however the
file is closed. So the next holder finds the final contents.
"""

import errno
import gc
import os
import random
import time
import warnings
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiofs
from aiofs.aio import (
    aio_cancel,
    aio_error,
    aio_fsync,
    aio_read,
    aio_return,
    aio_write,
    aiocb,
)

NOISE = random.Random(5).randbytes(1 << 20)
WIDTH = 200_000  # the size of each request's range
END_SECONDS = 20  # the longest wait for a completion


@dataclass
class Request:
    kind: str
    size: int
    reqprio: int
    cancelled: bool


REQUEST = st.builds(
    Request,
    st.sampled_from(["write", "write", "write", "read", "sync"]),
    st.sampled_from([1, 4096, WIDTH]) | st.integers(0, WIDTH),
    st.sampled_from([0, 0, 20]),
    st.booleans(),
)
MODES = ["in-place", "readwrite-unsafe"]
WAYS = ["close", "leave", "drop", "close the handle", "drop the handle"]


class Holder:
    """A FileSystem that has the file open, once or twice, and releases it in one of the ways."""

    def __init__(self, volume, way, twice):
        self.fs = aiofs.FileSystem()
        self.fs.mount("/", volume)
        self.way = way
        if way.endswith("handle"):
            self.opened = [self.fs.create_sync_access_handle("/file", create=True)]
        else:
            flags = os.O_RDWR | os.O_CREAT
            self.opened = [self.fs.open("/file", flags) for _ in range(1 + twice)]

    def release(self):
        opened, fs = self.opened, self.fs
        del self.opened, self.fs
        if self.way == "leave":
            with fs:
                pass
        while opened:
            last = opened.pop()
            if self.way == "close":
                fs.close(last)
            elif self.way == "close the handle":
                last.close()
            del last
        del fs
        gc.collect()


def begin(request, number, target):
    offset = number * WIDTH
    buffer = bytearray(request.size) if request.kind == "read" else NOISE[number:][: request.size]
    cb = aiocb(target, buffer, aio_offset=offset, aio_reqprio=request.reqprio)
    if request.kind == "sync":
        aio_fsync(os.O_DSYNC, cb)
    else:
        (aio_read if request.kind == "read" else aio_write)(cb)
    if request.cancelled:
        aio_cancel(target, cb)
    cb.aio_fildes = -1  # now only the request refers to the file
    return cb


def contend(other, requests):
    """Waits until the lock is free. Then every request must be complete. Returns the bytes."""
    end = time.monotonic() + END_SECONDS
    while True:
        try:
            fd = other.open("/file", os.O_RDWR)
        except OSError as error:
            assert error.errno == errno.EBUSY
            assert time.monotonic() < end, "the lock was never released"
            time.sleep(0.0002)
            continue
        unended = [cb for cb in requests if aio_error(cb) == errno.EINPROGRESS]
        assert unended == [], "the lock was released before the last request was complete"
        content = os.pread(fd, 2**30, 0)
        other.close(fd)
        return content


def expected(program, requests):
    """The contents of the file after the writes that were not cancelled."""
    content = bytearray()
    for number, (request, cb) in enumerate(zip(program, requests, strict=True)):
        if aio_error(cb) == errno.ECANCELED:
            assert request.cancelled
            continue
        count = aio_return(cb)
        if request.kind == "write":
            assert count == request.size
            if count:
                content.extend(bytes(max(number * WIDTH - len(content), 0)))
                content[number * WIDTH : number * WIDTH + count] = cb.aio_buf
    return content


@pytest.mark.parametrize("way", WAYS)
@given(
    program=st.lists(REQUEST, max_size=12),
    twice=st.booleans(),
    slow=st.sampled_from([0.0005, 0.002]),
)
def test_lock_is_refused_until_the_last_request_has_ended(faults, way, program, twice, slow):
    """`slow`: every other system call of the engine is delayed by so many seconds."""
    faults.clear()
    for name in ("preadv2", "pwritev2", "fdatasync"):
        faults.delay(name, slow, nth=-1)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", ResourceWarning)  # of dropped handles
        volume = stack.enter_context(aiofs.MemoryVolume())
        other = stack.enter_context(aiofs.FileSystem())
        other.mount("/", volume)
        holder = Holder(volume, way, twice)
        targets = holder.opened
        requests = [
            begin(request, number, targets[number % len(targets)])
            for number, request in enumerate(program)
        ]
        del targets
        holder.release()
        content = contend(other, requests)
        assert content == expected(program, requests)
        with open(os.path.join(volume._directory, "file"), "rb") as file:
            assert file.read() == content
