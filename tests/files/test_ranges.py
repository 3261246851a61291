"""`pread`, `pwrite` and `read_ranges`."""

import asyncio
import errno
import os

import pytest

import aiofs
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


async def test_many_cached_ranges_let_the_loop_turn(path):
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    ranges = [(number % 16 * 65536, 65536) for number in range(1600)]
    async with files.open(path, "rb") as file:
        read = await files.read_ranges(file, ranges)
    counting.cancel()
    assert read == [BYTES[offset : offset + size] for offset, size in ranges]
    assert turns >= 20  # 100 MiB; a turn copies at most 4 MiB


async def test_ranges_of_a_direct_file_fill_aligned_buffers(path):
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        pytest.skip("this filesystem has no O_DIRECT")
    ranges = [(number * 53 % 240 * 4096, 4096 * (number % 16 + 1)) for number in range(300)]
    buffers = [aiofs.aligned_buffer(size) for _, size in ranges]
    counts = await files.read_ranges(descriptor, ranges, buffers=buffers)
    os.close(descriptor)
    assert counts == [size for _, size in ranges]
    for buffer, (offset, size) in zip(buffers, ranges, strict=True):
        assert buffer == BYTES[offset : offset + size]


async def test_range_that_cannot_be_read_is_an_error(path, tmp_path):
    async with files.open(path, "rb") as file:
        with pytest.raises(ValueError, match=r"range \(5, 9\) does not fit in its buffer of 8"):
            await files.read_ranges(file, [(5, 9)], buffers=[bytearray(8)])
        with pytest.raises(ValueError, match="beyond"):
            await files.read_ranges(file, [(1 << 64, 1)])
        with pytest.raises(TypeError):
            await files.read_ranges(file, [("5", 1)])
        with pytest.raises(OSError) as raised:
            await files.read_ranges(file, [(0, 5), ((1 << 63) - 2, 5)])
        assert raised.value.errno == errno.EINVAL
    directory = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        await files.read_ranges(directory, [(0, 5)] * 100)
    os.close(directory)


async def test_cancelled_ranges_keep_their_buffers_until_they_have_ended():
    reading, writing = os.pipe()
    buffer = bytearray(4)
    ranges = asyncio.ensure_future(files.read_ranges(reading, [(0, 4)], buffers=[buffer]))
    await asyncio.sleep(0.05)
    with pytest.raises(BufferError):
        buffer.clear()
    ranges.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ranges
    while True:
        try:
            buffer.clear()
            break
        except BufferError:
            await asyncio.sleep(0.001)
    os.close(reading)
    os.close(writing)
