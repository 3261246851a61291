"""POSIX AIO on access handles in every mode: what it reads and changes, and what a commit has."""

import errno
import os

import pytest
from opened import CONTENT
from support import end_of, result

import aiofs
from aiofs.aio import (
    LIO_READ,
    LIO_WAIT,
    LIO_WRITE,
    aio_error,
    aio_fsync,
    aio_read,
    aio_return,
    aio_write,
    aiocb,
    lio_listio,
)

MODES = ["in-place", "exclusive", "shared", "read-only", "readwrite-unsafe"]
CHANGING = [mode for mode in MODES if mode != "read-only"]
ATOMIC = ["exclusive", "shared"]
LARGE = bytes(range(255)) * 4000  # not moved inside the call


def bytes_of(file):
    with file.create_sync_access_handle(mode="read-only") as handle:
        data = bytearray(handle.get_size())
        handle.read(data)
        return bytes(data)


@pytest.mark.parametrize("mode", MODES)
def test_read_gives_the_bytes_of_the_handle_and_moves_no_cursor(file, mode):
    with file.create_sync_access_handle(mode=mode) as handle:
        cb = aiocb(handle, bytearray(100), aio_offset=30)
        aio_read(cb)
        assert result(cb) == 100 and cb.aio_buf == CONTENT[30:130]
        byte = bytearray(1)
        assert handle.read(byte) == 1 and byte == CONTENT[:1]


@pytest.mark.parametrize("data", [b"new", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("mode", CHANGING)
def test_write_is_seen_by_the_handle_and_is_in_the_file_after_close(file, mode, data):
    with file.create_sync_access_handle(mode=mode) as handle:
        cb = aiocb(handle, data, aio_offset=5)
        aio_write(cb)
        assert result(cb) == len(data)
        buffer = bytearray(len(data))
        assert handle.read(buffer, at=5) == len(data) and buffer == data
    assert bytes_of(file) == CONTENT[:5] + data + CONTENT[5 + len(data) :]


def test_read_only_handle_refuses_writes_and_allows_reads_and_syncs(file):
    with file.create_sync_access_handle(mode="read-only") as handle:
        for data in (b"", b"new", LARGE):
            cb = aiocb(handle, data)
            aio_write(cb)
            assert end_of(cb) == errno.EBADF
            with pytest.raises(aiofs.NoModificationAllowedError) as caught:
                aio_return(cb)
            assert caught.value.errno == errno.EBADF
        cb = aiocb(handle)
        aio_fsync(os.O_SYNC, cb)
        assert end_of(cb) == 0
    assert bytes_of(file) == CONTENT


@pytest.mark.parametrize("mode", ATOMIC)
def test_commit_takes_in_a_write_that_is_in_flight(file, mode):
    handle = file.create_sync_access_handle(mode=mode)
    cbs = [aiocb(handle, LARGE, aio_offset=n * len(LARGE)) for n in range(4)]
    for cb in cbs:
        aio_write(cb)
    handle.close()
    assert [aio_error(cb) for cb in cbs] == [0] * 4
    assert bytes_of(file) == LARGE * 4


@pytest.mark.parametrize("mode", ATOMIC)
async def test_awaited_commit_takes_in_a_write_that_is_in_flight(file, mode):
    handle = await file.create_access_handle(mode=mode)
    cbs = [aiocb(handle, LARGE, aio_offset=n * len(LARGE)) for n in range(4)]
    for cb in cbs:
        aio_write(cb)
    await handle.close()
    assert [await cb for cb in cbs] == [len(LARGE)] * 4
    assert await (await file.get_file()).read() == LARGE * 4


@pytest.mark.parametrize("mode", ATOMIC)
def test_write_is_discarded_by_abort(file, mode):
    handle = file.create_sync_access_handle(mode=mode)
    cb = aiocb(handle, b"discarded")
    aio_write(cb)
    assert result(cb) == 9
    handle.abort()
    assert bytes_of(file) == CONTENT


@pytest.mark.parametrize("mode", ATOMIC)
def test_write_before_the_commit_is_in_no_other_handle(file, mode):
    with file.create_sync_access_handle(mode=mode) as handle:
        cb = aiocb(handle, b"new")
        aio_write(cb)
        assert result(cb) == 3
        cb = aiocb(handle)
        aio_fsync(os.O_DSYNC, cb)
        assert end_of(cb) == 0
        if mode == "shared":
            with file.create_sync_access_handle(mode="shared") as other:
                cb = aiocb(other, bytearray(3))
                aio_read(cb)
                assert result(cb) == 3 and cb.aio_buf == CONTENT[:3]
    assert bytes_of(file)[:3] == b"new"


def test_list_has_requests_on_handles_of_several_modes(file):
    with (
        file.create_sync_access_handle(mode="shared") as one,
        file.create_sync_access_handle(mode="shared") as other,
    ):
        read = aiocb(one, bytearray(10), aio_lio_opcode=LIO_READ)
        write = aiocb(other, b"new", aio_lio_opcode=LIO_WRITE)
        lio_listio(LIO_WAIT, [read, write], None)
        assert (aio_return(read), aio_return(write)) == (10, 3)
        assert read.aio_buf == CONTENT[:10]
    assert bytes_of(file) == b"new" + CONTENT[3:]


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("mode", MODES)
def test_request_on_a_closed_handle_ends_with_ebadf(file, mode, end):
    handle = file.create_sync_access_handle(mode=mode)
    getattr(handle, end)()
    cb = aiocb(handle, bytearray(1))
    aio_read(cb)
    assert end_of(cb) == errno.EBADF
    with pytest.raises(aiofs.InvalidStateError):
        aio_return(cb)
