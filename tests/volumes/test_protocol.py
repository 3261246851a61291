"""Volumes that are Python objects: mounts, handles and POSIX AIO work on them."""

import asyncio
import errno
import os
import threading

import pytest
from coroutines import failure
from dict_volume import DictVolume
from support import failed

import aiofs
from aiofs import FileSystem, NoModificationAllowedError, aio
from aiofs.volumes import entry_stat

RDWR = os.O_RDWR | os.O_CREAT


class Quick(DictVolume):
    blocking = False


@pytest.fixture(params=[DictVolume, Quick])
def volume(request):
    volume = request.param()
    yield volume
    assert volume._ops.lock_count("") == 0
    assert volume.open_files == 0


@pytest.fixture
def fs(volume):
    with FileSystem() as fs:
        fs.mount("/d", volume)
        yield fs


def write(fs, path, data):
    with fs.create_sync_access_handle(path, create=True) as handle:
        assert handle.write(data) == len(data)


# ---- mounts


def test_namespace_operations_reach_the_volume(fs, volume):
    fs.mkdir("/d/sub")
    write(fs, "/d/sub/file", b"data")
    assert fs.listdir("/d") == ["sub"] and fs.listdir("/d/sub") == ["file"]
    assert fs.stat("/d/sub/file").st_size == 4
    fs.rename("/d/sub/file", "/d/file")
    fs.truncate("/d/file", 2)
    assert bytes(volume.paths["file"].data) == b"da"
    fs.rmdir("/d/sub")
    fs.unlink("/d/file")
    assert list(volume.paths) == [""]


def test_errors_of_a_volume_become_aiofs_errors_with_the_path(fs):
    fs.mkdir("/d/sub")
    write(fs, "/d/sub/file", b"")
    for number, kind, call, path in (
        (errno.ENOENT, aiofs.NotFoundError, fs.stat, "/d/missing"),
        (errno.EEXIST, aiofs.InvalidModificationError, fs.mkdir, "/d/sub"),
        (errno.ENOTEMPTY, aiofs.InvalidModificationError, fs.rmdir, "/d/sub"),
        (errno.EISDIR, aiofs.TypeMismatchError, fs.unlink, "/d/sub"),
        (errno.ENOTDIR, aiofs.TypeMismatchError, fs.listdir, "/d/sub/file"),
    ):
        error = failed(number, call, path)
        assert isinstance(error, kind) and error.filename == path
    failed(errno.EISDIR, fs.open, "/d/sub", os.O_RDWR)
    failed(errno.ENOENT, fs.open, "/d/missing", os.O_RDWR)
    failed(errno.EEXIST, fs.open, "/d/sub/file", RDWR | os.O_EXCL)


def test_descriptor_of_a_virtual_file_is_a_placeholder_without_data(fs):
    fd = fs.open("/d/file", RDWR)
    for call in (
        lambda: os.read(fd, 10),
        lambda: os.write(fd, b"data"),
        lambda: os.ftruncate(fd, 10),
    ):
        failed(errno.EBADF, call)
    fs.close(fd)
    failed(errno.EBADF, fs.close, fd)


def test_files_of_a_python_volume_are_locked(fs, volume):
    fd = fs.open("/d/file", RDWR)
    fs.close(fs.open("/d/file", os.O_RDWR))
    with FileSystem() as other:
        other.mount("/", volume)
        failed(errno.EBUSY, other.open, "/file", os.O_RDWR)
        failed(errno.EBUSY, other.open, "/file", os.O_RDONLY | os.O_TRUNC)
        failed(errno.EBUSY, other.unlink, "/file")
        failed(errno.EBUSY, other.truncate, "/file", 0)
        failed(errno.EBUSY, other.create_sync_access_handle, "/file")
        other.close(other.open("/file", os.O_RDONLY))
        failed(errno.EBUSY, fs.unmount, "/d")
        fs.close(fd)
        with other.create_sync_access_handle("/file"):
            failed(errno.EBUSY, fs.open, "/d/file", os.O_RDWR)
    fs.unmount("/d")


def test_unlinked_file_stays_readable_through_what_is_open(fs):
    write(fs, "/d/file", b"data")
    fd = fs.open("/d/file", os.O_RDWR)
    fs.unlink("/d/file")
    buffer = bytearray(4)
    request = aio.aiocb(fd, buffer)
    aio.aio_read(request)
    aio.aio_suspend([request])
    assert aio.aio_return(request) == 4 and buffer == b"data"
    fs.close(fd)


# ---- handles


def test_sync_handle_reads_and_writes(fs, volume):
    with fs.create_sync_access_handle("/d/file", create=True) as handle:
        assert handle.write(b"hello") == 5
        assert handle.write(b"world", at=6) == 5
        assert handle.get_size() == 11
        buffer = bytearray(20)
        assert handle.read(buffer, at=0) == 11 and buffer[:11] == b"hello\0world"
        assert handle.read(buffer, at=100) == 0
        parts = bytearray(3), bytearray(4)
        assert handle.readv(parts, at=1) == 7 and parts == (b"ell", b"o\0wo")
        assert handle.writev([b"ab", b"cd"], at=0) == 4
        handle.truncate(4)
        handle.flush()
        assert volume.flushes == 1
    assert bytes(volume.paths["file"].data) == b"abcd"


class CallsVolume(DictVolume):
    def __init__(self):
        super().__init__()
        self.calls = []

    def write_at(self, file, data, offset):
        self.calls.append("write")
        return super().write_at(file, data, offset)

    def flush(self, file):
        self.calls.append("flush")

    def rename(self, source, target):
        self.calls.append("rename")
        super().rename(source, target)


def test_commit_to_a_python_volume_flushes_the_new_file_before_the_rename():
    volume = CallsVolume()
    with FileSystem() as fs:
        fs.mount("/d", volume)
        with fs.create_sync_access_handle("/d/file", mode="exclusive", create=True) as handle:
            handle.write(b"new")
    assert volume.calls == ["write", "flush", "rename"]
    assert bytes(volume.paths["file"].data) == b"new"


def test_directory_and_file_handles_work_on_a_python_volume(run, volume):
    async def body():
        root = volume.root
        sub = await root.get_directory_handle("sub", create=True)
        file = await sub.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            assert await handle.write(b"data") == 4
            with pytest.raises(NoModificationAllowedError):
                await file.create_access_handle()
            with pytest.raises(NoModificationAllowedError):
                await root.remove_entry("sub", recursive=True)
            with pytest.raises(NoModificationAllowedError):
                await root.remove_entry("sub")
            buffer = bytearray(4)
            assert await handle.read(buffer, at=0) == 4 and buffer == b"data"
            assert await handle.get_size() == 4
            await handle.truncate(2)
            await handle.flush()
        found = await file.get_file()
        assert (found.size, await found.text()) == (2, "da")
        assert [name async for name in root.keys()] == ["sub"]
        assert [entry async for entry in sub] == [("file", file)]
        assert await root.resolve(file) == ["sub", "file"]
        assert await volume.estimate() == (2, None)
        with pytest.raises(aiofs.InvalidModificationError):
            await root.remove_entry("sub")
        await root.remove_entry("sub", recursive=True)
        assert list(volume.paths) == [""]

    run(body())


def test_file_that_changed_is_not_readable(run, volume):
    async def body():
        file = await volume.root.get_file_handle("file", create=True)
        with file.create_sync_access_handle() as handle:
            handle.write(b"data")
            found = await file.get_file()
            assert await found.read() == b"data"
            volume.paths["file"].touch = lambda: None  # the volume's mtime does not change
            handle.write(b"atad", at=0)
            with pytest.raises(aiofs.NotReadableError):
                await found.read()

    run(body())


# ---- POSIX AIO


def test_aio_works_on_descriptors_and_handles_of_a_python_volume(fs, volume):
    fd = fs.open("/d/file", RDWR)
    requests = [aio.aiocb(fd, bytes([65 + n]) * 10, aio_offset=10 * n) for n in range(8)]
    for request in requests:
        aio.aio_write(request)
    for request in requests:
        aio.aio_suspend([request])
        assert aio.aio_error(request) == 0 and aio.aio_return(request) == 10
    fs.close(fd)
    assert volume.paths["file"].data == b"".join(bytes([65 + n]) * 10 for n in range(8))
    with fs.create_sync_access_handle("/d/file") as handle:
        buffer = bytearray(10)
        request = aio.aiocb(handle, buffer, aio_offset=70)
        aio.aio_read(request)
        aio.aio_suspend([request])
        assert aio.aio_return(request) == 10 and buffer == b"H" * 10
        sync = aio.aiocb(handle)
        aio.aio_fsync(os.O_SYNC, sync)
        aio.aio_suspend([sync])
        assert aio.aio_return(sync) == 0
    assert volume.flushes >= 1


class Submitting(DictVolume):
    """Writes are its only requests."""

    def submit(self, request):
        (data,) = request.buffers
        request.complete(self.write_at(request.file, data, request.offset))


@pytest.mark.parametrize("kind", [DictVolume, Quick, Submitting])
def test_write_with_o_append_goes_to_the_end(kind):
    with kind() as volume, FileSystem() as fs:
        fs.mount("/", volume)
        fd = fs.open("/file", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        lines = [b"%d\n" % number for number in range(20)]
        cbs = [aio.aiocb(fd, line, aio_lio_opcode=aio.LIO_WRITE) for line in lines]
        aio.lio_listio(aio.LIO_WAIT, cbs, None)
        assert [aio.aio_return(cb) for cb in cbs] == [len(line) for line in lines]
        assert bytes(volume.paths["file"].data) == b"".join(lines)
        fs.close(fd)


def test_request_on_a_python_volume_can_be_awaited(run, fs):
    async def body():
        write(fs, "/d/file", b"data")
        fd = fs.open("/d/file", os.O_RDWR)
        buffer = bytearray(10)
        read = aio.aiocb(fd, buffer)
        aio.aio_read(read)
        assert await read == 4
        added = aio.aiocb(fd, b"more", aio_offset=4)
        aio.aio_write(added)
        assert await added == 4
        fs.close(fd)
        assert fs.stat("/d/file").st_size == 8

    run(body())


class Failing(DictVolume):
    def read_at(self, file, buffer, offset):
        raise OSError(errno.EIO, "the tape tore")


def test_failing_method_fails_only_its_own_request():
    with FileSystem() as fs:
        fs.mount("/", Failing())
        with fs.create_sync_access_handle("/file", create=True) as handle:
            error = failed(errno.EIO, handle.read, bytearray(4))
            assert isinstance(error, aiofs.InvalidStateError)
            assert handle.write(b"data") == 4
            assert handle.get_size() == 4


class Submitting(DictVolume):
    """A volume whose `submit` performs operations on its own thread."""

    def __init__(self):
        super().__init__()
        self.threads = set()

    def submit(self, request):
        def carry_out():
            self.threads.add(threading.current_thread())
            super(Submitting, self).submit(request)

        threading.Thread(target=carry_out).start()


def test_volume_may_complete_its_requests_later(run):
    async def body():
        volume = Submitting()
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            writes = [handle.write(bytes([65 + n]) * 10, at=10 * n) for n in range(5)]
            assert await asyncio.gather(*writes) == [10] * 5
            buffer = bytearray(50)
            assert await handle.read(buffer, at=0) == 50
            assert buffer == b"".join(bytes([65 + n]) * 10 for n in range(5))
        assert threading.main_thread() not in volume.threads and volume.threads

    run(body())


class Dropping(DictVolume):
    def submit(self, request):
        pass


def test_dropped_volume_request_fails_instead_of_hanging(run):
    async def body():
        file = await Dropping().root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            await failure(errno.EIO, asyncio.wait_for(handle.read(bytearray(4)), 10))

    run(body())


def test_negative_size_of_an_entry_is_a_value_error():
    with pytest.raises(ValueError, match="size -1 is negative"):
        entry_stat("file", size=-1)


def test_missing_method_is_a_not_supported_error():
    with FileSystem() as fs:
        fs.mount("/", DictVolume())
        failed(errno.ENOTSUP, aiofs.Volume().stat, "")


@pytest.mark.parametrize("recursive", [False, True])
async def test_directory_with_what_a_killed_commit_left_is_removed(recursive):
    with DictVolume() as volume:
        for path in ("top", "top/sub"):
            volume.mkdir(path)
        for directory in ("top", "top/sub"):
            left = volume.open_file(f"{directory}/.aiofs-swap-1", create=True, exclusive=True)
            volume.close_file(left)
        if not recursive:
            await volume.root.get_directory_handle("top")
            error = await failure(errno.ENOTEMPTY, volume.root.remove_entry("top"))
            assert error.filename == "top"
            top = await volume.root.get_directory_handle("top")
            await top.remove_entry("sub")
        await volume.root.remove_entry("top", recursive=recursive)
        assert volume.paths == {"": None}
