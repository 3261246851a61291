"""Regular files whose reads can wait: a file of a FUSE server, and the kernel's log."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuse_server import DATA, HELD, SECOND
from support import result, waiting_read

from aiofs.aio import aio_fsync, aio_read, aio_suspend, aio_write, aiocb

SERVER = Path(__file__).parents[1] / "fuse_server.py"


class Served:
    """The file of a FUSE server. `go_on` lets the server answer."""

    def __init__(self, process, path):
        self._process = process
        self.path = path

    def go_on(self):
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()


@pytest.fixture
def served(tmp_path):
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    pipe = subprocess.PIPE
    server = subprocess.Popen(
        [sys.executable, str(SERVER), str(mountpoint)], stdin=pipe, stdout=pipe, stderr=pipe
    )
    if server.stdout.readline() != b"mounted\n":
        pytest.skip(server.communicate()[1].decode())
    yield Served(server, mountpoint / "file")
    server.communicate()


@pytest.fixture
def open_file(served):
    fd = os.open(served.path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_short_read_from_a_fuse_server_is_a_success(open_file):
    """The engine must not read again after a short read. The server would not answer."""
    buffer = bytearray(b"-" * 8192)
    cb = aiocb(open_file, buffer)
    aio_read(cb)
    assert aio_suspend([cb], 60) == 0
    assert result(cb) == SECOND
    assert buffer[:SECOND] == DATA[:SECOND] and buffer[SECOND:] == b"-" * (8192 - SECOND)


def test_read_blocked_by_a_fuse_server_delays_no_other_request(served, open_file, tmp_path):
    held = waiting_read(open_file, HELD)
    read_end, write_end = os.pipe()
    with open(tmp_path / "disk", "w+b", buffering=0) as disk:
        for _ in range(3):
            os.write(write_end, b"data")
            piped, written = aiocb(read_end, bytearray(4)), aiocb(disk, b"x" * 300_000)
            aio_read(piped)
            aio_write(written)
            for cb in (piped, written):
                assert aio_suspend([cb], 60) == 0
            assert (result(piped), result(written)) == (4, 300_000)
            synced, again = aiocb(disk), aiocb(disk, bytearray(300_000))
            aio_fsync(os.O_SYNC, synced)
            aio_read(again)
            for cb in (synced, again):
                assert aio_suspend([cb], 60) == 0
            assert (result(synced), result(again)) == (0, 300_000)
    os.close(read_end)
    os.close(write_end)
    served.go_on()
    assert result(held) == HELD and held.aio_buf == DATA[:HELD]


@pytest.mark.skipif(not os.access("/dev/kmsg", os.W_OK), reason="needs the kernel's log")
def test_read_of_proc_kmsg_returns_the_available_bytes():
    """/proc/kmsg is a regular file that cannot seek. A read past the last line waits."""
    try:
        log = os.open("/proc/kmsg", os.O_RDONLY)
    except OSError as error:
        pytest.skip(str(error))
    with open("/dev/kmsg", "wb", buffering=0) as out:
        out.write(b"<6>aiofs: a line of its tests\n")
    cb = aiocb(log, bytearray(1 << 20))
    aio_read(cb)
    assert aio_suspend([cb], 60) == 0
    assert result(cb) > 0
    os.close(log)
