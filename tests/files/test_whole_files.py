"""`read_bytes` of large files: as the built-in reads them, also if they change, until stopped."""

import asyncio
import errno
import os
import threading

import pytest

from aiofs import _core, files

BYTES = os.urandom(1 << 20) * 9 + b"end"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(BYTES)
    return path


@pytest.fixture
def descriptor(path):
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


async def test_large_file_has_all_its_bytes(path):
    assert await files.read_bytes(path) == BYTES
    assert await files.Path(path).read_bytes() == BYTES


async def test_files_without_a_size_are_read_to_their_end():
    data = await files.read_bytes("/proc/self/maps")
    assert b"[stack]" in data and data.endswith(b"\n")


@pytest.mark.parametrize("size", [len(BYTES), len(BYTES) - 1, 5 << 20, len(BYTES) + 1, 20 << 20])
def test_file_that_was_cut_or_grew_gives_what_is_there(descriptor, size):
    assert _core.WholeRead().run(descriptor, size) == BYTES
    os.lseek(descriptor, 100, os.SEEK_SET)
    assert _core.WholeRead().run(descriptor, size) == BYTES


def test_what_has_no_offsets_is_left_to_the_built_in_file():
    reading, writing = os.pipe()
    assert _core.WholeRead().run(reading, 100) is None
    os.close(reading)
    os.close(writing)


def test_failed_read_is_an_error_with_its_errno(tmp_path, descriptor):
    directory = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        _core.WholeRead().run(directory, 100)
    os.close(directory)
    for size in (1 << 61, (1 << 63) - 1):
        with pytest.raises(MemoryError):
            _core.WholeRead().run(descriptor, size)


def test_stopped_read_is_cancelled(descriptor):
    reading = _core.WholeRead()
    reading.stop()
    with pytest.raises(OSError) as raised:
        reading.run(descriptor, len(BYTES))
    assert raised.value.errno == errno.ECANCELED


async def test_cancelled_await_stops_the_read(path, monkeypatch):
    begun, stopped = threading.Event(), threading.Event()

    class Reading:
        def run(self, descriptor, size):
            begun.set()
            assert stopped.wait(30)
            raise OSError(errno.ECANCELED, "stopped")

        def stop(self):
            stopped.set()

    monkeypatch.setattr(_core, "WholeRead", Reading)
    task = asyncio.create_task(files.read_bytes(path))
    await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()
