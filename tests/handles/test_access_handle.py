"""AccessHandle: reads, writes, and the calls that it refuses."""

import array
import copy
import errno
import os
import pickle

import pytest
from coroutines import failure, wait
from opened import CONTENT, SIZE, all_bytes, cursor_of, is_locked
from support import failed, write_file

import aiofs
from aiofs import AccessHandle, FileHandle, MemoryVolume, PrivateVolume
from aiofs.aio import aio_read, aio_return, aio_write, aiocb

# ---- reading and writing ------------------------------------------------------------------------


async def test_read_starts_where_the_previous_read_ended(file):
    async with file.create_access_handle() as handle:
        pieces, buffer = [], bytearray(1000)
        while count := await handle.read(buffer):
            pieces.append(bytes(buffer[:count]))
        assert b"".join(pieces) == CONTENT


async def test_read_and_write_at_move_the_cursor(file):
    async with file.create_access_handle() as handle:
        buffer = bytearray(10)
        assert await handle.read(buffer, at=100) == 10
        assert buffer == CONTENT[100:110]
        assert await cursor_of(handle) == 110
        assert await handle.write(b"abc", at=20) == 3
        assert await handle.write(b"def") == 3
        assert await cursor_of(handle) == 26
        assert (await all_bytes(handle))[20:26] == b"abcdef"


async def test_read_past_the_end_gives_0_and_leaves_the_cursor_past_the_end(file):
    async with file.create_access_handle() as handle:
        assert await handle.read(bytearray(10), at=SIZE + 100) == 0
        await handle.write(b"here")
        assert await handle.get_size() == SIZE + 104


@pytest.mark.parametrize("at", [0, 5, SIZE, SIZE + 100])
async def test_transfer_of_0_bytes_moves_the_cursor_and_never_extends_the_file(file, at):
    async with file.create_access_handle() as handle:
        for call in (handle.read, handle.write):
            assert await call(bytearray(), at=at) == 0
        assert await handle.readv([], at=at) == 0
        assert await handle.writev([b"", b""], at=at) == 0
        assert await handle.get_size() == SIZE
        await handle.write(b"here")
        assert (await all_bytes(handle))[at : at + 4] == b"here"


@pytest.mark.parametrize("size", [1, 1 << 16, (1 << 18) + 1, 3 << 20])
async def test_data_of_any_size_is_written_and_read_back(file, size):
    data = os.urandom(size)
    async with file.create_access_handle() as handle:
        assert await handle.write(data, at=3) == size
        buffer = bytearray(size)
        assert await handle.read(buffer, at=3) == size
        assert buffer == data


async def test_several_buffers_are_one_transfer(file):
    async with file.create_access_handle() as handle:
        buffers = [bytearray(3), bytearray(0), array.array("I", [0, 0]), bytearray(5)]
        assert await handle.readv(buffers, at=10) == 16
        assert b"".join(memoryview(each).tobytes() for each in buffers) == CONTENT[10:26]
        assert await handle.writev([b"ab", b"", bytearray(b"cd")]) == 4
        assert (await all_bytes(handle))[:30] == CONTENT[:26] + b"abcd"
        assert await handle.writev(b"%05d" % n for n in range(3000)) == 15_000


async def test_truncate_cuts_extends_and_moves_a_cursor_past_the_new_end(file):
    async with file.create_access_handle() as handle:
        await handle.read(bytearray(500))
        assert await handle.truncate(200) is None
        await handle.write(b"!")
        assert await all_bytes(handle) == CONTENT[:200] + b"!"
        await handle.truncate(300)
        assert await all_bytes(handle) == CONTENT[:200] + b"!" + bytes(99)


async def test_flush_gives_none(file):
    async with file.create_access_handle() as handle:
        await handle.write(b"x")
        assert await handle.flush() is None


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [-1, -(2**70), 2**63, 2**70])
@pytest.mark.parametrize("name", ["read", "write", "readv", "writev"])
async def test_bad_offset_is_a_value_error_at_the_call(file, name, at):
    async with file.create_access_handle() as handle:
        buffers = bytearray(1) if name in ("read", "write") else [bytearray(1)]
        with pytest.raises(ValueError):
            getattr(handle, name)(buffers, at=at)
        with pytest.raises(ValueError):
            handle.truncate(at)
        assert await all_bytes(handle) == CONTENT


async def test_wrong_types_are_refused_at_the_call_and_leave_the_handle_usable(file):
    async with file.create_access_handle() as handle:
        buffer = bytearray(10)
        for call in (
            lambda: handle.read(b"read-only"),
            lambda: handle.read("abc"),
            lambda: handle.read(buffer, at="0"),
            lambda: handle.write("abc"),
            lambda: handle.write(memoryview(b"abcdef")[::2]),
            lambda: handle.write(buffer, at=1.5),
            lambda: handle.readv([buffer, b"read-only"]),
            lambda: handle.writev([buffer, 5]),
            lambda: handle.writev(5),
            lambda: handle.truncate("0"),
        ):
            with pytest.raises((TypeError, BufferError)):
                call()
            buffer.append(0)  # the buffer is not pinned
        assert await cursor_of(handle) == 0
        assert await all_bytes(handle) == CONTENT


async def test_read_only_handle_changes_nothing(file):
    async with file.create_access_handle(mode="read-only") as handle:
        for operation in (
            handle.write(b"x"),
            handle.write(b""),
            handle.writev([b"x"]),
            handle.truncate(0),
            handle.flush(),
        ):
            error = await failure(errno.EBADF, operation)
            assert isinstance(error, aiofs.NoModificationAllowedError)
            assert error.filename.endswith("file")
        assert await all_bytes(handle) == CONTENT
        assert handle.mode == "read-only"


async def test_write_over_the_quota_is_refused_as_a_whole(tmp_path):
    with PrivateVolume(tmp_path / "volume", quota=1000) as volume:
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            assert await handle.write(b"x" * 900) == 900
            for operation in (
                handle.write(b"y" * 101),
                handle.write(b"y", at=1000),
                handle.truncate(1001),
            ):
                error = await failure(errno.EDQUOT, operation)
                assert isinstance(error, aiofs.QuotaExceededError)
                assert error.name == "QuotaExceededError"
                assert error.filename.endswith("file")
            assert await all_bytes(handle) == b"x" * 900
            assert await handle.write(b"y" * 100, at=900) == 100


async def test_busy_lock_is_refused_at_once_with_the_path(file):
    async with file.create_access_handle():
        for mode in ("in-place", "read-only", "readwrite-unsafe"):
            error = await failure(errno.EBUSY, file.create_access_handle(mode=mode))
            assert isinstance(error, aiofs.NoModificationAllowedError)
            assert error.filename.endswith("file")


async def test_handles_cannot_be_constructed_copied_or_pickled(file):
    with pytest.raises(TypeError):
        AccessHandle()
    async with file.create_access_handle() as handle:
        for call in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                call(handle)
        assert await handle.get_size() == SIZE


async def test_fileno_is_a_real_descriptor(on_disk):
    handle = await on_disk.create_access_handle()
    fd = handle.fileno()
    assert os.pread(fd, 10, 5) == CONTENT[5:15]
    await handle.close()
    with pytest.raises(OSError):
        os.fstat(fd)


# ---- POSIX AIO on it ----------------------------------------------------------------------------


async def test_aio_requests_run_on_a_handle_and_hold_its_lock(file):
    handle = await file.create_access_handle()
    cb = aiocb(handle, bytearray(10), aio_offset=20)
    aio_read(cb)
    assert await cb == 10
    assert cb.aio_buf == CONTENT[20:30]
    requests = [aiocb(handle, b"x" * 300_000, aio_offset=n * 300_000) for n in range(10)]
    for cb in requests:
        aio_write(cb)
    await handle.close()
    assert [aio_return(cb) for cb in requests] == [300_000] * 10
    assert not is_locked(file)
    aio_write(requests[0])
    await failure(errno.EBADF, wait(requests[0]))


LAST = 2**63 - 1  # the largest offset


def open_for(ways, handle):
    """The methods of an access handle, or of its streams, that read and write at an offset."""
    if ways == "vectors":
        return lambda buffer, at: handle.readv([buffer], at=at), (
            lambda data, at: handle.writev([data[:1], data[1:]], at=at)
        )
    if ways == "streams":
        return lambda buffer, at: handle.readable.readinto(buffer, at=at), (
            lambda data, at: handle.writable.write(data, at=at)
        )
    return lambda buffer, at: handle.read(buffer, at=at), (
        lambda data, at: handle.write(data, at=at)
    )


@pytest.mark.parametrize("ways", ["methods", "vectors", "streams"])
async def test_write_past_the_largest_offset_is_efbig_and_a_read_there_is_at_the_end(file, ways):
    async with file.create_access_handle(mode="in-place") as handle:
        read, write = open_for(ways, handle)
        for at in (LAST - 1, LAST):
            error = await failure(errno.EFBIG, write(b"abc", at))
            assert error.filename == handle_path(file)
            assert await read(bytearray(5), at) == 0
        assert await write(b"", LAST) == 0
        await failure(errno.EFBIG, write(b"abc", None))  # at the cursor
        assert await read(bytearray(5), None) == 0
        assert await all_bytes(handle) == CONTENT
    with file.create_sync_access_handle(mode="in-place") as handle:
        if ways == "streams":
            return
        read, write = open_for(ways, handle)
        for at in (LAST - 1, LAST):
            failed(errno.EFBIG, write, b"abc", at)
            assert read(bytearray(5), at) == 0
        assert handle.get_size() == SIZE


def test_read_ends_at_the_last_byte_that_a_file_can_have():
    with MemoryVolume() as volume:  # tmpfs has files of 2**63 - 1 bytes
        write_file(volume, "file", b"")
        file = FileHandle._of(volume, "file")
        with file.create_sync_access_handle() as handle:
            handle.truncate(LAST)
            assert handle.write(b"end", at=LAST - 3) == 3
            buffer = bytearray(5)
            assert handle.read(buffer, at=LAST - 3) == 3
            assert buffer == b"end\0\0"
            first, second = bytearray(2), bytearray(2)
            assert handle.readv([first, second], at=LAST - 3) == 3
            assert first + second == b"end\0"


async def test_awaited_read_ends_at_the_last_byte_that_a_file_can_have():
    with MemoryVolume() as volume:
        write_file(volume, "file", b"")
        file = FileHandle._of(volume, "file")
        async with file.create_access_handle() as handle:
            await handle.truncate(LAST)
            assert await handle.write(b"end", at=LAST - 3) == 3
            buffer = bytearray(5)
            assert await handle.read(buffer, at=LAST - 3) == 3
            assert buffer == b"end\0\0"
            first, second = bytearray(2), bytearray(2)
            assert await handle.readv([first, second], at=LAST - 3) == 3
            assert first + second == b"end\0"


def handle_path(file):
    return file._volume._ops.show(file._path)
