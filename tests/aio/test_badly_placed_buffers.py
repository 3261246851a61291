"""Buffers to which the processor copies slowly: the bytes go through a bounce buffer.

The measurement that decides about it is replaced, so that every processor takes this way.
"""

import array
import ctypes
import os
from pathlib import Path

import pytest
from support import python, result

import aiofs
from aiofs import aio

PAGE = 4096
SIZES = [512, 4096, 65536, 300_000]
ALWAYS = 2  # aiofs/engine/engine.h
CONTENT = os.urandom(700_000)


@pytest.fixture(autouse=True)
def bounce():
    library = ctypes.CDLL(str(Path(aiofs.__file__).parent / "libaiofs.so"))
    chosen = ctypes.c_int.in_dll(library, "aiofs_bounce")
    before, chosen.value = chosen.value, ALWAYS
    yield
    chosen.value = before


@pytest.fixture
def content():
    return CONTENT


def placed(size, distance):
    """A view of a bytearray that begins so many bytes after a page boundary."""
    memory = bytearray(size + 2 * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    start = -address % PAGE + distance
    return memoryview(memory)[start : start + size]


@pytest.mark.parametrize("prio", [0, 1])  # inside the call, and in the engine
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("distance", [0, 1, 16, 31, 32, PAGE - 16])
def test_bytes_arrive_in_their_place(file, size, distance, prio):
    for offset in (0, 16, PAGE, 5000):
        buffer = placed(size, (offset + distance) % PAGE)
        cb = aio.aiocb(file, buffer, aio_offset=offset, aio_reqprio=prio)
        aio.aio_read(cb)
        assert result(cb) == size
        assert buffer == CONTENT[offset : offset + size]
        data = placed(size, (offset - distance) % PAGE)
        data[:] = CONTENT[::-1][:size]
        cb = aio.aiocb(file, data, aio_offset=offset, aio_reqprio=prio)
        aio.aio_write(cb)
        assert result(cb) == size
        assert os.pread(file, size, offset) == data
        os.pwrite(file, CONTENT, 0)


async def test_handles_read_and_write_vectors_and_large_buffers(tmp_path):
    with aiofs.PrivateVolume(tmp_path / "volume") as volume:
        file = await volume.root.get_file_handle("placed", create=True)
        async with file.create_access_handle() as handle:
            parts = [placed(5000, (16 + 5000 * n) % PAGE) for n in range(4)]
            for n, part in enumerate(parts):
                part[:] = CONTENT[5000 * n :][:5000]
            assert await handle.writev(parts, at=0) == 20_000
            for part in parts:
                part[:] = bytes(5000)
            assert await handle.readv(parts, at=0) == 20_000
            assert b"".join(parts) == CONTENT[:20_000]
            assert await handle.read(placed(512, 16), at=19_990) == 10
        with file.create_sync_access_handle() as handle:
            data = placed(len(CONTENT), PAGE - 16)
            data[:] = CONTENT
            assert handle.write(data, at=0) == len(CONTENT)
            buffer = placed(len(CONTENT) + 100, 16)
            assert handle.read(buffer, at=0) == len(CONTENT)
            assert buffer[: len(CONTENT)] == CONTENT
    assert bytes(buffer[len(CONTENT) :]) == bytes(100)


@pytest.mark.parametrize("kind", [bytearray, lambda n: array.array("B", bytes(n))])
def test_memory_of_any_owner_is_read_into(file, kind):
    buffer = kind(100_000)
    cb = aio.aiocb(file, buffer)
    aio.aio_read(cb)
    assert result(cb) == 100_000
    assert bytes(buffer) == CONTENT[:100_000]


def test_mapped_file_that_was_cut_is_an_error_and_ends_no_process(tmp_path):
    """The processor faults where the kernel returns EFAULT; so such memory takes the direct way."""
    printed = python(
        """
import asyncio, ctypes, errno, mmap, os, sys
from pathlib import Path
import aiofs
from aiofs import aio, files

library = ctypes.CDLL(str(Path(aiofs.__file__).parent / "libaiofs.so"))
ctypes.c_int.in_dll(library, "aiofs_bounce").value = 2
folder = sys.argv[1]
number = os.open(folder + "/file", os.O_RDWR | os.O_CREAT)
os.write(number, bytes(65536))
cut = os.open(folder + "/cut", os.O_RDWR | os.O_CREAT)
os.ftruncate(cut, 65536)
mapped = mmap.mmap(cut, 65536)
os.ftruncate(cut, 0)
views = [memoryview(mapped)[16:20000]]
try:
    import numpy
    views.append(numpy.frombuffer(mapped, numpy.uint8)[16:20000])
except ImportError:
    pass
for view in views:
    for prio in (0, 1):
        for call in (aio.aio_read, aio.aio_write):
            cb = aio.aiocb(number, view, aio_reqprio=prio)
            call(cb)
            aio.aio_suspend([cb])
            assert aio.aio_error(cb) == errno.EFAULT
    try:
        asyncio.run(files.read_ranges(number, [(0, 10_000)] * 3, buffers=[view] * 3))
    except OSError as error:
        assert error.errno == errno.EFAULT
    else:
        raise AssertionError("the bytes went nowhere")
print("alive")
""",
        tmp_path,
    )
    assert printed == "alive\n"
