"""Buffers of requests: any buffer is accepted, and pinned until the request is complete."""

import array
import asyncio
import ctypes
import errno
import gc
import importlib.util
import mmap
import os
import sysconfig
import weakref
from pathlib import Path

import pytest
from native import compile_c, needs_compiler
from support import CONTENT, end_of, failed, result

from aiofs import MemoryVolume, _core
from aiofs.aio import AIO_CANCELED, aio_cancel, aio_error, aio_read, aio_suspend, aio_write, aiocb


def is_pinned(buffer):
    """Is the bytearray pinned by an exported buffer?"""
    try:
        buffer.append(0)
    except BufferError:
        return True
    buffer.pop()
    return False


WRITABLE = {
    "bytearray": lambda: bytearray(512),
    "memoryview": lambda: memoryview(bytearray(512)),
    "slice": lambda: memoryview(bytearray(1000))[100:612],
    "cast": lambda: memoryview(bytearray(512)).cast("I"),
    "two dimensions": lambda: memoryview(bytearray(512)).cast("B", (16, 32)),
    "array": lambda: array.array("d", bytes(512)),
    "ctypes": lambda: (ctypes.c_uint16 * 256)(),
    "mmap": lambda: mmap.mmap(-1, 512),
    "aligned": lambda: _core.aligned_buffer(512),
}
READABLE = WRITABLE | {
    "bytes": lambda: bytes(512),
    "read-only view": lambda: memoryview(bytes(512)),
    "read-only cast": lambda: memoryview(bytearray(512)).toreadonly().cast("H"),
}
REFUSED = {
    "bytes": (b"x" * 512, (BufferError, TypeError)),
    "read-only view": (memoryview(bytearray(512)).toreadonly(), (BufferError, TypeError)),
    "every other byte": (memoryview(bytearray(1024))[::2], BufferError),
    "backwards": (memoryview(bytearray(512))[::-1], BufferError),
    "str": ("x" * 512, TypeError),
    "None": (None, TypeError),
    "list": ([0] * 512, TypeError),
    "int": (512, TypeError),
}


@pytest.mark.parametrize("kind", WRITABLE)
def test_any_writable_buffer_is_read_into(file, kind):
    buffer = WRITABLE[kind]()
    cb = aiocb(file, buffer, aio_offset=7)
    aio_read(cb)
    assert result(cb) == 512
    assert memoryview(buffer).tobytes() == CONTENT[7:519]


def test_arrays_and_ctypes_are_read_into(file, content):
    for buffer in (array.array("I", range(8)), (ctypes.c_uint32 * 8)()):
        cb = aiocb(file, buffer)
        aio_read(cb)
        assert result(cb) == 32
        assert bytes(buffer) == content[:32]


@pytest.mark.parametrize("kind", READABLE)
def test_any_buffer_is_written(file, kind):
    buffer = READABLE[kind]()
    if kind in WRITABLE:
        memoryview(buffer).cast("B")[:] = b"\xa5" * 512
    cb = aiocb(file, buffer, aio_offset=7)
    aio_write(cb)
    assert result(cb) == 512
    assert os.pread(file, 512, 7) == memoryview(buffer).tobytes()
    assert os.pread(file, 7, 0) == CONTENT[:7]


def test_read_stays_inside_a_slice(file):
    whole = bytearray(b"-" * 1000)
    cb = aiocb(file, memoryview(whole)[100:200])
    aio_read(cb)
    assert result(cb) == 100
    assert whole == b"-" * 100 + CONTENT[:100] + b"-" * 800


@pytest.mark.parametrize("kind", REFUSED)
def test_read_into_an_unwritable_object_is_refused_at_the_call(file, kind):
    buffer, error = REFUSED[kind]
    cb = aiocb(file, buffer, 10)
    with pytest.raises(error):
        aio_read(cb)
    failed(errno.EINVAL, aio_error, cb)  # the aiocb was not submitted


@pytest.mark.parametrize("kind", ["every other byte", "backwards", "str", "None", "list", "int"])
def test_write_of_an_object_without_a_buffer_is_refused_at_the_call(file, kind):
    buffer, error = REFUSED[kind]
    cb = aiocb(file, buffer, 10)
    with pytest.raises(error):
        aio_write(cb)
    failed(errno.EINVAL, aio_error, cb)
    assert os.pread(file, 1 << 20, 0) == CONTENT


def test_nbytes_limits_the_transfer(file):
    cb = aiocb(file, bytearray(b"-" * 10), 4)
    aio_read(cb)
    assert result(cb) == 4
    assert cb.aio_buf == CONTENT[:4] + b"-" * 6
    cb.aio_nbytes = 10
    aio_read(cb)
    assert result(cb) == 10
    cb.aio_nbytes = None
    aio_read(cb)
    assert result(cb) == 10


def test_nbytes_counts_bytes_not_items(file):
    buffer = array.array("Q", bytes(64))
    cb = aiocb(file, buffer, 64)
    aio_read(cb)
    assert result(cb) == 64


@pytest.mark.parametrize("nbytes", [-1, 11, 2**31, 2**63, 2**64, -(2**64)])
@pytest.mark.parametrize("start", [aio_read, aio_write])
def test_nbytes_beyond_the_buffer_is_refused_and_changes_nothing(file, start, nbytes):
    buffer = bytearray(10)
    cb = aiocb(file, buffer, nbytes)
    with pytest.raises(ValueError, match=str(nbytes)):
        start(cb)
    failed(errno.EINVAL, aio_error, cb)
    assert not is_pinned(buffer)
    assert os.pread(file, 1 << 20, 0) == CONTENT


@pytest.mark.parametrize("nbytes", ["4", 4.0, [4], b"4"])
def test_nbytes_of_another_type_is_refused(file, nbytes):
    buffer = bytearray(10)
    with pytest.raises(TypeError):
        aio_read(aiocb(file, buffer, nbytes))
    assert not is_pinned(buffer)


def test_buffer_is_pinned_until_the_request_is_terminal(pipe):
    buffer = bytearray(10)
    cb = aiocb(pipe[0], buffer)
    aio_read(cb)
    assert is_pinned(buffer)
    os.write(pipe[1], b"data")
    aio_suspend([cb])
    assert not is_pinned(buffer)
    assert buffer == b"data" + bytes(6)


def test_cancelled_request_releases_its_buffer(pipe):
    buffer = bytearray(10)
    cb = aiocb(pipe[0], buffer)
    aio_read(cb)
    assert aio_cancel(pipe[0], cb) == AIO_CANCELED
    assert not is_pinned(buffer)


def test_cancelled_list_releases_its_buffers(pipe):
    buffers = [bytearray(10) for _ in range(10)]
    requests = [aiocb(pipe[0], buffer) for buffer in buffers]
    for cb in requests:
        aio_read(cb)
    aio_cancel(pipe[0])
    assert [aio_error(cb) for cb in requests] == [errno.ECANCELED] * 10
    assert not any(map(is_pinned, buffers))


@pytest.mark.parametrize("fields", [{}, {"aio_offset": -1}, {"aio_fildes": 987654}])
def test_finished_and_failed_requests_release_their_buffers(file, fields):
    buffer = bytearray(10)
    cb = aiocb(**{"aio_fildes": file, "aio_buf": buffer} | fields)
    aio_read(cb)
    end_of(cb)
    assert not is_pinned(buffer)


def test_refused_call_releases_its_buffer(file):
    buffer = bytearray(10)
    failed(errno.EINVAL, aio_read, aiocb(file, buffer, aio_reqprio=21))
    with pytest.raises(TypeError):
        aio_read(aiocb(object(), buffer))
    with pytest.raises(TypeError):
        aio_read(aiocb(file, buffer, aio_offset="0"))
    with pytest.raises(TypeError):
        aio_read(aiocb(file, buffer, aio_sigevent="loop"))
    assert not is_pinned(buffer)


def test_request_keeps_its_buffer_alive_when_all_other_references_are_dropped(pipe):
    read_end, write_end = pipe

    class Buffer(bytearray):
        pass

    buffer = Buffer(b"-" * 100_000)
    seen = memoryview(buffer)
    alive = weakref.ref(buffer)
    cb = aiocb(read_end, buffer)
    aio_read(cb)
    seen.release()
    cb.aio_buf = None
    del buffer, cb
    gc.collect()
    assert alive() is not None
    os.write(write_end, b"data")
    while alive() is not None:  # until the core has delivered the completion
        aio_suspend([])
        gc.collect()


async def test_cancelled_await_of_a_read_keeps_the_buffer_pinned(pipe):
    """The buffer stays pinned until the kernel can no longer write to it."""
    read_end, write_end = pipe
    for turn in range(50):
        buffer = bytearray(10)
        cb = aiocb(read_end, buffer)
        aio_read(cb)
        task = asyncio.ensure_future(cb)
        await asyncio.sleep(0)
        task.cancel()
        if turn % 2:
            os.write(write_end, b"data")
        with pytest.raises(asyncio.CancelledError):
            await task
        in_flight = aio_error(cb) == errno.EINPROGRESS
        assert is_pinned(buffer) or not in_flight
        aio_suspend([cb])
        assert not is_pinned(buffer)
        if turn % 2:
            left = b"data" if aio_error(cb) == errno.ECANCELED else b""
            assert (left or bytes(buffer[:4])) == b"data"
            if left:
                assert os.read(read_end, 10) == left


async def test_cancelled_disk_read_keeps_its_buffer(tmp_path):
    """The kernel still writes to the buffer of a read that has begun."""
    size = 1 << 20
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x" * size)
    os.fsync(fd)
    for _ in range(20):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        buffer = bytearray(size)
        cb = aiocb(fd, buffer)
        aio_read(cb)
        task = asyncio.ensure_future(cb)
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        in_flight = aio_error(cb) == errno.EINPROGRESS
        assert is_pinned(buffer) or not in_flight
        aio_suspend([cb])
        assert not is_pinned(buffer)
        assert buffer == (b"x" if aio_error(cb) == 0 else buffer[:1]) * size
    os.close(fd)


async def test_operation_pins_its_buffers_until_it_ends(faults):
    with MemoryVolume() as volume:
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            await handle.write(CONTENT)
            faults.delay("preadv2", 0.05)
            buffers = [bytearray(1 << 19), bytearray(10)]
            reading = handle.readv(buffers, at=0)
            assert all(map(is_pinned, buffers))
            task = asyncio.create_task(reading)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await handle.get_size()  # runs after the cancelled operation
            assert not any(map(is_pinned, buffers))


# ---- aligned_buffer -----------------------------------------------------------------------------


@pytest.mark.parametrize("alignment", [8, 512, 4096, 1 << 21])
@pytest.mark.parametrize("size", [0, 1, 4096, 100_000])
def test_aligned_buffer_is_zeroed_and_has_the_given_alignment(size, alignment):
    buffer = _core.aligned_buffer(size, alignment)
    assert buffer.nbytes == size
    assert not buffer.readonly
    assert buffer.tobytes() == bytes(size)
    if size:
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        assert address % alignment == 0


def test_aligned_buffer_is_aligned_to_a_page_by_default():
    buffer = _core.aligned_buffer(10)
    assert ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % 4096 == 0


@pytest.mark.parametrize("size,alignment", [(-1, 4096), (10, 0), (10, 4), (10, 100), (10, -4096)])
def test_aligned_buffer_refuses_bad_numbers(size, alignment):
    with pytest.raises(ValueError):
        _core.aligned_buffer(size, alignment)


def test_aligned_buffer_lives_as_long_as_its_views():
    part = _core.aligned_buffer(1 << 20)[1000:2000]
    gc.collect()
    part[:] = b"x" * 1000
    assert part.tobytes() == b"x" * 1000


def test_aligned_buffers_serve_o_direct(tmp_path):
    try:
        fd = os.open(tmp_path / "direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    except OSError as error:
        pytest.skip(f"no O_DIRECT here: {error}")
    data = _core.aligned_buffer(1 << 16)
    data[:] = os.urandom(1 << 16)
    cb = aiocb(fd, data)
    aio_write(cb)
    assert result(cb) == 1 << 16
    again = aiocb(fd, _core.aligned_buffer(1 << 16))
    aio_read(again)
    assert result(again) == 1 << 16
    assert again.aio_buf == data
    crooked = aiocb(fd, _core.aligned_buffer(8192)[1:4097])
    aio_read(crooked)
    assert end_of(crooked) == errno.EINVAL
    os.close(fd)


@needs_compiler
def test_view_is_released_if_the_exporter_raises_when_its_items_are_examined(tmp_path, pipe):
    library = tmp_path / "raising_exporter.so"
    include = f"-I{sysconfig.get_path('include')}"
    source = Path(__file__).with_name("raising_exporter.c")
    compile_c("-shared", "-fPIC", include, source, "-o", library)
    spec = importlib.util.spec_from_file_location("raising_exporter", library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(RuntimeError, match="not a second time"):
        aio_read(aiocb(pipe[0], module.Exporter()))
    assert module.still_given() == 0
