"""Arrays as buffers: memory of plain bytes is accepted, other memory is an error."""

import ctypes
import os

import pytest
from support import result

import aiofs
from aiofs.aio import aio_read, aio_write, aiocb

numpy = pytest.importorskip("numpy")


def read_only():
    array = numpy.zeros(16, numpy.uint8)
    array.setflags(write=False)
    return array


@pytest.fixture
def handle():
    with aiofs.MemoryVolume() as volume, aiofs.FileSystem() as fs:
        fs.mount("/", volume)
        with fs.create_sync_access_handle("/file", create=True) as handle:
            yield handle


@pytest.fixture
def reads(handle):
    return [
        lambda buffer: aio_read(aiocb(handle, buffer)),
        handle.read,
        lambda buffer: handle.readv([bytearray(1), buffer]),
    ]


@pytest.fixture
def writes(handle):
    return [
        lambda buffer: aio_write(aiocb(handle, buffer)),
        handle.write,
        lambda buffer: handle.writev([b"x", buffer]),
    ]


def test_read_into_a_read_only_array_is_refused(reads):
    for read in reads:
        with pytest.raises(BufferError, match=r"ndarray.*read-only"):
            read(read_only())


@pytest.mark.parametrize(
    "array", [numpy.zeros(16, numpy.uint8)[::2], numpy.asfortranarray(numpy.zeros((3, 4)))]
)
def test_array_that_is_not_contiguous_is_refused(reads, writes, array):
    for move in reads + writes:
        with pytest.raises(BufferError, match=r"ndarray.*contiguous"):
            move(array)


@pytest.mark.parametrize(
    "array",
    [
        numpy.array([1, "x"], dtype=object),
        memoryview(numpy.array([1, "x"], dtype=object)),
        numpy.zeros(3, dtype=[("number", "i4"), ("value", object)]),
        (ctypes.py_object * 3)(1, 2, 3),
    ],
)
def test_array_of_objects_is_refused(reads, writes, array):
    for move in reads + writes:
        with pytest.raises(TypeError, match="holds Python objects"):
            move(array)


async def test_awaited_methods_refuse_the_same_arrays():
    with aiofs.MemoryVolume() as volume:
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            with pytest.raises(BufferError, match="read-only"):
                handle.read(read_only())
            with pytest.raises(BufferError, match="contiguous"):
                handle.write(numpy.zeros(16, numpy.uint8)[::2])
            with pytest.raises(TypeError, match="Python objects"):
                handle.readv([numpy.array([None])])


@pytest.mark.parametrize(
    "array",
    [
        numpy.arange(12, dtype=float).reshape(3, 4),
        numpy.array(5.0),  # no dimension: eight bytes
        numpy.zeros(0),
        numpy.array(["2020-01-01"], dtype="M8[s]"),
        numpy.array([(1.0, 2)], dtype=[("O", float), ("n", "i4")]),
        read_only(),
    ],
)
def test_array_of_plain_values_is_written_and_read_back(handle, array):
    cb = aiocb(handle, array)
    aio_write(cb)
    assert result(cb) == array.nbytes
    back = numpy.zeros_like(array)
    cb = aiocb(handle, back)
    aio_read(cb)
    assert result(cb) == array.nbytes
    assert back.tobytes() == array.tobytes()
    assert os.pread(handle.fileno(), 1000, 0) == array.tobytes()
