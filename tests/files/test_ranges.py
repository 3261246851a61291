"""`pread`, `pwrite` and `read_ranges`."""

import asyncio
import os

import pytest

from aiofs import files

BYTES = bytes(range(256)) * 4096


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(BYTES)
    return path


async def test_pread_and_pwrite_leave_the_cursor(path):
    buffer = bytearray(10)
    async with files.open(path, "r+b", 0) as file:
        assert await files.pread(file, buffer, 100) == 10 and buffer == BYTES[100:110]
        assert await files.pread(file.fileno(), buffer, len(BYTES) - 3) == 3
        assert await files.pwrite(file, b"new", 5) == 3
        assert await file.tell() == 0
    assert path.read_bytes() == BYTES[:5] + b"new" + BYTES[8:]


async def test_ranges_come_in_their_order(path):
    ranges = [(offset * 1999 % len(BYTES), offset % 5000) for offset in range(500)]
    ranges += [(len(BYTES) - 2, 10), (len(BYTES) + 5, 10), (0, 0), (0, len(BYTES))]
    wanted = [BYTES[offset : offset + size] for offset, size in ranges]
    async with files.open(path, "rb") as file:
        assert await files.read_ranges(file, ranges) == wanted
        buffers = [bytearray(size + 1) for _, size in ranges]
        counts = await files.read_ranges(file, iter(ranges), buffers=buffers)
        assert counts == [len(data) for data in wanted]
        for buffer, data in zip(buffers, wanted, strict=True):
            assert buffer[: len(data)] == data
        assert await files.read_ranges(file, []) == []


async def test_ranges_that_do_not_fit(path):
    async with files.open(path, "rb") as file:
        for ranges in ([(-1, 5)], [(0, 1), (5, -1)]):
            with pytest.raises(ValueError, match="negative"):
                await files.read_ranges(file, ranges)
        with pytest.raises(ValueError, match="2 ranges, but 1 buffers"):
            await files.read_ranges(file, [(0, 1), (1, 1)], buffers=[bytearray(1)])
        with pytest.raises((TypeError, BufferError)):
            await files.read_ranges(file, [(0, 1)], buffers=[b"read-only"])
    with pytest.raises(OSError):
        await files.read_ranges(10**6, [(0, 1)])


async def test_cancelled_ranges_leave_nothing_in_flight():
    reading, writing = os.pipe()
    ranges = asyncio.ensure_future(files.read_ranges(reading, [(0, 4)] * 200))
    await asyncio.sleep(0.05)
    ranges.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ranges
    os.write(writing, b"kept")
    assert os.read(reading, 10) == b"kept"
    os.close(reading)
    os.close(writing)
