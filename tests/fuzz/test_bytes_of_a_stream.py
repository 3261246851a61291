"""POSIX AIO on pipes and sockets against a model: the bytes of the writes, in their order, are the
bytes of the reads, in their order.

The model is a list of writes and a list of reads. A cancelled request has moved no bytes. The
buffers of pipes and sockets are small, so that most requests wait.
"""

import errno
import fcntl
import itertools
import os
import random
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from drawing import examples, programs
from hypothesis import given
from hypothesis import strategies as st

from aiofs.aio import (
    AIO_ALLDONE,
    AIO_CANCELED,
    AIO_NOTCANCELED,
    LIO_NOWAIT,
    LIO_READ,
    LIO_WRITE,
    aio_cancel,
    aio_error,
    aio_read,
    aio_return,
    aio_suspend,
    aio_write,
    aiocb,
    lio_listio,
)

NOISE = random.Random(3).randbytes(1 << 20)
END_SECONDS = 20  # the longest wait for a completion

marks = itertools.count()


@dataclass
class Step:
    kind: str
    way: int = 0  # for a socket: one of its two directions
    sizes: list[int] = field(default_factory=list)
    which: int = 0
    timeout: float = 0


SIZES = st.sampled_from([0, 1, 4095, 4096, 4097, 65_536]) | st.integers(1, 300)
WAYS = st.integers(0, 1)
STEP = st.one_of(
    st.builds(
        Step, st.sampled_from(["read", "write"]), WAYS, st.lists(SIZES, min_size=1, max_size=1)
    ),
    st.builds(
        Step, st.sampled_from(["read list", "write list"]), WAYS, st.lists(SIZES, max_size=4)
    ),
    st.builds(
        Step, st.sampled_from(["cancel read", "cancel write"]), WAYS, which=st.integers(0, 4)
    ),
    st.builds(Step, st.just("cancel all"), WAYS, which=st.integers(0, 1)),
    st.builds(Step, st.just("wait"), WAYS, timeout=st.sampled_from([0, 0.0005, 0.002])),
)


class Submitted:
    """A request that was submitted."""

    def __init__(self, fd, buffer, opcode):
        self.cb = aiocb(fd, buffer, aio_offset=-1, aio_lio_opcode=opcode)
        self.buffer = buffer
        self.may_be_cancelled = False

    def in_progress(self):
        return aio_error(self.cb) == errno.EINPROGRESS

    def cancel(self, fd):
        self.may_be_cancelled = True
        before, verdict, after = aio_error(self.cb), aio_cancel(fd, self.cb), aio_error(self.cb)
        if before != errno.EINPROGRESS:
            assert verdict == AIO_ALLDONE
        elif verdict == AIO_CANCELED:
            assert after == errno.ECANCELED
        elif verdict == AIO_NOTCANCELED:
            assert self.cb.aio_lio_opcode == LIO_WRITE, "a read that waits is always cancelled"
            assert after != errno.ECANCELED
        else:
            assert verdict == AIO_ALLDONE
            assert after not in (errno.EINPROGRESS, errno.ECANCELED)

    def moved(self):
        """Waits for the request. Returns the bytes that it moved; None: it was cancelled."""
        aio_suspend([self.cb], END_SECONDS)
        error = aio_error(self.cb)
        if error == errno.ECANCELED:
            assert self.may_be_cancelled, "cancelled, but not by the test"
            return None
        assert error == 0, os.strerror(error)
        return self.buffer[: aio_return(self.cb)]


class Way:
    """One direction: bytes are written to one descriptor and read from the other."""

    def __init__(self, into, out_of, everything):
        self.into, self.out_of = into, out_of
        self.writes, self.reads = [], []
        self.everything = everything  # a socket's other way has the same list

    def write(self, size):
        begin = next(marks) * 911 % (len(NOISE) - size)
        return self.add(self.writes, Submitted(self.into, NOISE[begin : begin + size], LIO_WRITE))

    def read(self, size):
        return self.add(self.reads, Submitted(self.out_of, bytearray(size), LIO_READ))

    def add(self, submissions, submitted):
        submissions.append(submitted)
        self.everything.append(submitted)
        return submitted

    def carry_out(self, step):
        doing, _, what = step.kind.partition(" ")
        if doing == "read" or doing == "write":
            made = [getattr(self, doing)(size) for size in step.sizes]
            if what == "list":
                lio_listio(LIO_NOWAIT, [submitted.cb for submitted in made])
            else:
                (aio_read if doing == "read" else aio_write)(made[0].cb)
        elif step.kind == "cancel all":
            self.cancel_all([self.out_of, self.into][step.which])
        elif doing == "cancel":
            submissions = self.reads if what == "read" else self.writes
            if step.which < len(submissions):
                submissions[-1 - step.which].cancel(self.out_of if what == "read" else self.into)
        else:
            self.wait(step.timeout)

    def cancel_all(self, fd):
        submissions = [submitted for submitted in self.everything if submitted.cb.aio_fildes == fd]
        outstanding = [submitted for submitted in submissions if submitted.in_progress()]
        for submitted in submissions:
            submitted.may_be_cancelled = True
        if aio_cancel(fd) != AIO_NOTCANCELED:
            assert not any(submitted.in_progress() for submitted in outstanding)

    def wait(self, timeout):
        submissions = [*self.reads, *self.writes]
        try:
            aio_suspend([submitted.cb for submitted in submissions], timeout)
        except OSError as error:
            assert error.errno == errno.EAGAIN
            return
        assert not submissions or not all(submitted.in_progress() for submitted in submissions)

    def drain(self):
        """Reads until all writes are complete."""
        while unended := [submitted for submitted in self.writes if submitted.in_progress()]:
            reading = self.read(65_536)
            aio_read(reading.cb)
            aio_suspend([reading.cb, unended[-1].cb], END_SECONDS)

    def check(self, close):
        """Checks that all written bytes are read, and that the end of the stream follows."""
        written = [data for submitted in self.writes if (data := submitted.moved()) is not None]
        sizes = [len(f.buffer) for f in self.writes if aio_error(f.cb) == 0]
        assert [len(data) for data in written] == sizes, "a write was cut short"
        close()
        last = self.read(65_537 + 1_000_000)
        aio_read(last.cb)
        pieces = [data for submitted in self.reads if (data := submitted.moved()) is not None]
        assert b"".join(pieces) == b"".join(written)
        self.check_that_no_read_was_late()

    def check_that_no_read_was_late(self):
        """Checks that only reads after the last byte return 0."""
        ends = [bool(aio_return_again(f)) for f in self.reads if f.buffer and aio_error(f.cb) == 0]
        assert ends == sorted(ends, reverse=True)


def aio_return_again(submitted):
    """The result that aio_return returned, by an await of the aiocb."""
    try:
        next(submitted.cb.__await__())
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it has not ended")


# ---- the tests ----------------------------------------------------------------------------------


@contextmanager
def a_pipe(size):
    out_of, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, size)
    opened = {into, out_of}

    def close():
        opened.discard(into)
        os.close(into)

    try:
        yield [(Way(into, out_of, []), close)]
    finally:
        for fd in opened:
            os.close(fd)


@contextmanager
def a_socket(size):
    one, other = socket.socketpair()
    with one, other:
        for end in (one, other):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        everything = []
        yield [
            (
                Way(begin.fileno(), end.fileno(), everything),
                lambda begin=begin: begin.shutdown(socket.SHUT_WR),
            )
            for begin, end in ((one, other), (other, one))
        ]


@pytest.mark.parametrize("stream", [a_pipe, a_socket])
@examples(3)
@given(program=programs(STEP), size=st.sampled_from([4096, 65_536]))
def test_stream_delivers_bytes_in_the_order_of_the_writes(stream, program, size):
    with stream(size) as ways:
        try:
            for step in program:
                ways[step.way % len(ways)][0].carry_out(step)
            for way, _ in ways:
                way.drain()
            for way, close in ways:
                way.check(close)
        except BaseException:
            for way, _ in ways:  # leaves no request in flight for the next program
                for fd in (way.into, way.out_of):
                    aio_cancel(fd)
            raise
