"""A disk that fails: flush, close and aio_fsync report it, and what was acknowledged is intact."""

import errno
import os

import pytest
from coroutines import failure as failure_of
from support import failed, result

import aiofs
from aiofs import FileHandle, FileSystem, PrivateVolume
from aiofs.aio import aio_fsync, aio_return, aio_suspend, aio_write, aiocb

ACKNOWLEDGED = b"acknowledged" * 1000
CLASSES = {errno.EIO: aiofs.InvalidStateError, errno.ENOSPC: aiofs.QuotaExceededError}

numbers = pytest.mark.parametrize("number", CLASSES)


@pytest.fixture
def volume(tmp_path):
    with PrivateVolume(tmp_path / "volume") as volume:
        with volume._ops.sync_access_handle("file", "in-place", True) as handle:
            handle.write(ACKNOWLEDGED)
        yield volume


@pytest.fixture
def file(volume):
    return FileHandle._of(volume, "file")


def check(error, number):
    assert isinstance(error, CLASSES[number])
    assert error.errno == number
    assert os.fspath(error.filename).endswith("file")


def check_intact(file, end=b""):
    """What was acknowledged is there, and nobody has the lock."""
    with file.create_sync_access_handle(mode="in-place") as handle:
        data = bytearray(handle.get_size())
        handle.read(data, at=0)
    assert data[: len(ACKNOWLEDGED)] == ACKNOWLEDGED
    assert data[len(ACKNOWLEDGED) :] in (b"", end)


@numbers
def test_flush_and_close_report_the_disk(file, faults, number):
    handle = file.create_sync_access_handle(mode="in-place")
    handle.write(b"more", at=len(ACKNOWLEDGED))
    faults.fail("fdatasync", number)
    check(failed(number, handle.flush), number)
    check(failed(number, handle.close), number)
    faults.clear()
    handle.close()
    check_intact(file, b"more")


@numbers
async def test_flush_and_close_report_the_disk_async(file, faults, number):
    handle = await file.create_access_handle(mode="in-place")
    await handle.write(b"more", at=len(ACKNOWLEDGED))
    faults.fail("fdatasync", number)
    check(await failure_of(number, handle.flush()), number)
    check(await failure_of(number, handle.close()), number)
    faults.clear()
    check_intact(file, b"more")


@numbers
@pytest.mark.parametrize(("op", "call"), [(os.O_SYNC, "fsync"), (os.O_DSYNC, "fdatasync")])
def test_aio_fsync_reports_the_disk(volume, file, faults, number, op, call):
    with FileSystem() as fs:
        fs.mount("/v", volume)
        fd = fs.open("/v/file", os.O_RDWR)
        cb = aiocb(fd, b"more", aio_offset=len(ACKNOWLEDGED))
        aio_write(cb)
        result(cb)
        faults.fail(call, number)
        cb = aiocb(fd)
        aio_fsync(op, cb)
        aio_suspend([cb])
        assert isinstance(failed(number, aio_return, cb), CLASSES[number])
        faults.clear()
        fs.close(fd)
    check_intact(file, b"more")


@numbers
@pytest.mark.parametrize("mode", ["exclusive", "shared"])
def test_commit_reports_the_disk_and_leaves_the_old_file(file, faults, number, mode):
    for call in ("fsync", "renameat2"):
        handle = file.create_sync_access_handle(mode=mode)
        handle.write(b"never")
        faults.fail(call, number, 1)
        check(failed(number, handle.close), number)
        faults.clear()
        check_intact(file)


@numbers
async def test_commit_of_a_stream_reports_the_disk_and_leaves_the_old_file(file, faults, number):
    stream = await file.create_writable()
    await stream.write(b"never")
    faults.fail("fsync", number, 1)
    check(await failure_of(number, stream.close()), number)
    faults.clear()
    check_intact(file)


@numbers
def test_close_reports_that_the_name_could_not_be_synced(volume, faults, number):
    for mode in ("in-place", "exclusive"):
        handle = volume._ops.sync_access_handle(f"{mode}-file", mode, True)
        faults.fail("fsync", number)
        check(failed(number, handle.close), number)
        faults.clear()
        with volume._ops.sync_access_handle(f"{mode}-file", mode, True):
            before = faults.calls("fsync")
        assert faults.calls("fsync") == before + 1  # and it is tried again


@numbers
def test_volume_that_could_not_be_synced_is_not_opened(tmp_path, faults, number):
    faults.fail("fsync", number)
    failed(number, PrivateVolume, tmp_path / "new")
    faults.clear()
    before = faults.calls("fsync")
    PrivateVolume(tmp_path / "new").close()
    assert faults.calls("fsync") == before + 1


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_interrupted_sync_is_repeated(volume, faults, call):
    for mode in ("in-place", "exclusive"):
        faults.fail(call, errno.EINTR, 1)
        with volume._ops.sync_access_handle(f"{mode}-file", mode, True) as handle:
            handle.write(b"more")
        faults.clear()


@numbers
def test_copy_of_a_handle_that_the_disk_refuses_leaves_no_swap_file(file, faults, number):
    for call in ("copy_file_range", "fchmod"):
        faults.fail("ioctl", errno.EOPNOTSUPP)
        faults.fail(call, number, 1)
        try:
            with file.create_sync_access_handle(mode="exclusive") as handle:
                handle.write(b"never")
        except OSError as error:
            check(error, number)
        faults.clear()
        check_intact(file)
        assert os.listdir(f"{file._volume._directory}/.aiofs/swap") == []
