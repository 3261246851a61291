"""Requests on regular files, streams, objects with fileno, and reused descriptor numbers."""

import errno
import fcntl
import os
import pty
import socket
import struct

import pytest
from support import drain, end_of, failed, python, result, waiting_read

from aiofs import aligned_buffer
from aiofs.aio import (
    AIO_ALLDONE,
    AIO_CANCELED,
    LIO_WAIT,
    LIO_WRITE,
    aio_cancel,
    aio_error,
    aio_fsync,
    aio_read,
    aio_suspend,
    aio_write,
    aiocb,
    lio_listio,
)


def fill(write_end):
    """Fills a pipe. Returns the count of bytes."""
    os.set_blocking(write_end, False)
    filled = 0
    try:
        while True:
            filled += os.write(write_end, bytes(65536))
    except BlockingIOError:
        os.set_blocking(write_end, True)
    return filled


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


def test_exception_of_fileno_is_raised_by_the_call():
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


def test_read_of_a_stream_returns_0_after_the_writer_closed(pipe):
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


def test_waiting_reads_do_not_delay_requests_on_files(file):
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


def test_higher_reqprio_runs_later_among_waiting_requests(pipe):
    read_end, write_end = pipe
    first = waiting_read(read_end, 1)
    last = waiting_read(read_end, 1, aio_reqprio=20)
    soon = waiting_read(read_end, 1, aio_reqprio=3)
    next_one = waiting_read(read_end, 1)
    for cb, byte in ((first, b"1"), (next_one, b"2"), (soon, b"3"), (last, b"4")):
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


def test_request_belongs_to_the_open_file_not_to_the_descriptor_number(tmp_path):
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


def test_queued_writes_go_to_the_file_that_was_open_at_the_submission(tmp_path):
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


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_write_of_no_bytes_sends_an_empty_datagram(kind):
    left, right = socket.socketpair(socket.AF_UNIX, kind)
    with left, right:
        right.settimeout(30)
        blocks = [aiocb(left, text, aio_lio_opcode=LIO_WRITE) for text in (b"a", b"", b"b")]
        lio_listio(LIO_WAIT, blocks)
        aio_write(last := aiocb(left, None, 0))
        assert end_of(last) == 0
        aio_read(nothing := aiocb(right, bytearray(4), 0))
        assert end_of(nothing) == 0
        assert [right.recv(4) for _ in range(4)] == [b"a", b"", b"b", b""]


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (lambda: os.open("/dev/full", os.O_WRONLY), errno.ENOSPC),
        (lambda: os.eventfd(0), errno.EINVAL),
    ],
    ids=["/dev/full", "eventfd"],
)
def test_write_of_no_bytes_fails_as_write_does(make, number):
    fd = make()
    with pytest.raises(OSError) as theirs:
        os.write(fd, b"")
    cb = aiocb(fd, b"")
    aio_write(cb)
    assert end_of(cb) == theirs.value.errno == number
    os.close(fd)


def test_closing_a_socket_with_so_linger_delays_no_other_descriptor():
    """The engine makes the last close of a socket with unsent data, which waits for the peer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        lingers, _ = server.accept()
    lingers.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    lingers.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            lingers.send(bytes(65536))
    lingers.setblocking(True)
    cb = waiting_read(lingers.fileno(), 1)
    read_end, write_end = os.pipe()
    other = waiting_read(read_end, 1)
    os.close(lingers.detach())
    peer.send(b"!")
    assert aio_suspend([cb], 30) == 0  # the peer reads nothing, so the close blocks
    assert result(cb) == 1
    os.write(write_end, b"x")
    assert aio_suspend([other], 30) == 0
    assert result(other) == 1
    peer.close()
    os.close(read_end)
    os.close(write_end)


@pytest.fixture
def direct(tmp_path):
    """direct(letter): makes a file of one letter, and opens it with O_DIRECT."""

    def make(letter, name="direct", flags=os.O_RDONLY):
        (tmp_path / name).write_bytes(letter * 8192)
        try:
            return os.open(tmp_path / name, flags | os.O_DIRECT)
        except OSError:
            pytest.skip("this filesystem has no O_DIRECT")

    return make


def read_block(fd):
    aio_read(cb := aiocb(fd, buffer := aligned_buffer(4096)))
    assert end_of(cb) == 0
    return bytes(buffer[:1])


def test_number_that_was_used_a_moment_ago_may_lead_to_another_file(direct):
    """The engine keeps a binding after a read. It must not use it for another file."""
    for _ in range(50):
        for letter, name in ((b"a", "one"), (b"b", "other")):
            fd = direct(letter, name)
            assert read_block(fd) == letter
            os.close(fd)


def test_file_that_replaced_another_is_read(direct, tmp_path):
    fd = direct(b"a")
    assert read_block(fd) == b"a"
    os.close(fd)
    os.unlink(tmp_path / "direct")
    again = direct(b"b")
    assert again == fd
    assert read_block(again) == b"b"
    os.close(again)


def test_number_that_was_used_a_moment_ago_may_be_open_another_way(direct, tmp_path):
    fd = direct(b"a")
    assert read_block(fd) == b"a"
    os.close(fd)
    for flags in (os.O_WRONLY | os.O_DIRECT, os.O_PATH):
        assert os.open(tmp_path / "direct", flags) == fd
        aio_read(cb := aiocb(fd, aligned_buffer(4096)))
        assert end_of(cb) == errno.EBADF
        os.close(fd)


def test_flock_of_a_closed_file_is_released_soon(direct, tmp_path):
    fd = direct(b"a")
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert read_block(fd) == b"a"
    os.close(fd)
    with open(tmp_path / "direct", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # blocks until the engine has closed its descriptor
