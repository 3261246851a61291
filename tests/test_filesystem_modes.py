"""FileSystem.open beside access handles and streams in every mode: exclusion, and what is seen."""

import asyncio
import errno
import os

import pytest
from coroutines import failure
from lock_holder_process import holding
from support import failed, mounted, write_file
from volumes.dict_volume import DictVolume

import aiofs
from aiofs import FileHandle, HostVolume, PrivateVolume, _core, aligned_buffer

CONTENT = b"what the file has"
SOON = 20  # seconds
MODES = ["in-place", "exclusive", "shared", "read-only", "readwrite-unsafe"]
STREAMS = ["siloed stream", "exclusive stream"]
LOCKS = {
    "in-place": _core.LOCK_EXCLUSIVE,
    "shared": _core.LOCK_SHARED,
    "read-only": _core.LOCK_READ_ONLY,
    "readwrite-unsafe": _core.LOCK_READWRITE_UNSAFE,
}
TOGETHER = {
    ("shared", "shared"),
    ("shared", "siloed stream"),
    ("read-only", "read-only"),
    ("readwrite-unsafe", "readwrite-unsafe"),
}


@pytest.fixture(params=["private", "host", "dict"])
def volume(request, tmp_path):
    (tmp_path / "volume").mkdir()
    made = {
        "private": lambda: PrivateVolume(tmp_path / "volume"),
        "host": lambda: HostVolume(tmp_path / "volume"),
        "dict": DictVolume,
    }
    with made[request.param]() as volume:
        write_file(volume, "file", CONTENT)
        yield volume
        assert volume._ops.lock_count("") == 0


@pytest.fixture
def on_disk(tmp_path):
    """A FileSystem on a private volume."""
    with PrivateVolume(tmp_path / "volume") as volume, mounted(volume) as fs:
        write_file(volume, "file", CONTENT)
        yield fs


def opening(volume, mode, path="file"):
    file = FileHandle._of(volume, path)
    if mode in STREAMS:
        return file.create_writable(mode=mode.split()[0])
    return file.create_access_handle(mode=mode)


# ---- who excludes whom --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES + STREAMS)
async def test_open_for_writing_and_every_mode_exclude_each_other(volume, fs, mode):
    async with opening(volume, mode):
        for flags in (os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            error = failed(errno.EBUSY, fs.open, "/file", flags)
            assert isinstance(error, aiofs.NoModificationAllowedError)
            assert error.filename == "/file"
        failed(errno.EEXIST, fs.open, "/file", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    fd = fs.open("/file", os.O_RDWR)
    error = await failure(errno.EBUSY, opening(volume, mode))
    assert isinstance(error, aiofs.NoModificationAllowedError)
    fs.close(fd)
    async with opening(volume, mode):
        pass


@pytest.mark.parametrize("mode", MODES + STREAMS)
async def test_open_for_reading_and_every_mode_go_together(volume, fs, mode):
    reader = fs.open("/file", os.O_RDONLY)
    async with opening(volume, mode):
        fs.close(fs.open("/file", os.O_RDONLY | os.O_CREAT))
    fs.close(reader)


@pytest.mark.parametrize("mode", MODES + STREAMS)
async def test_no_call_changes_what_is_open_in_any_mode(volume, fs, mode):
    write_file(volume, "other", b"other")
    async with opening(volume, mode):
        for call, *arguments in (
            (fs.open, "/file", os.O_RDONLY | os.O_TRUNC),
            (fs.truncate, "/file", 0),
            (fs.unlink, "/file"),
            (fs.rename, "/file", "/elsewhere"),
            (fs.rename, "/other", "/file"),
        ):
            failed(errno.EBUSY, call, *arguments)
        assert sorted(fs.listdir("/")) == ["file", "other"]
        assert fs.stat("/file").st_size == len(CONTENT)


@pytest.mark.parametrize("first", ["in-place", "shared", "read-only", "readwrite-unsafe"])
async def test_matrix_holds_between_processes(on_disk, tmp_path, first):
    volume = on_disk.directory()._volume
    with holding(tmp_path / "volume", "file", LOCKS[first]) as process:
        assert process.answer == "held"
        failed(errno.EBUSY, on_disk.open, "/file", os.O_RDWR)
        on_disk.close(on_disk.open("/file", os.O_RDONLY))
        for second in MODES + STREAMS:
            if (first, second) in TOGETHER:
                async with opening(volume, second):
                    pass
            else:
                await failure(errno.EBUSY, opening(volume, second))


@pytest.mark.parametrize("mode", MODES + STREAMS)
async def test_open_for_writing_waits_for_every_mode(volume, fs, mode):
    opened = await opening(volume, mode)
    waiting = asyncio.create_task(asyncio.to_thread(fs.open, "/file", os.O_RDWR, wait=SOON))
    while not any(lock.waiting for lock in await volume.locks()):
        await asyncio.sleep(0.001)
    await failure(errno.EBUSY, opening(volume, mode))  # nobody passes it
    await opened.close()
    fs.close(await waiting)


# ---- what is seen -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["exclusive", "shared", *STREAMS])
async def test_descriptor_keeps_the_file_that_a_commit_replaces(on_disk, mode):
    before = on_disk.open("/file", os.O_RDONLY)
    async with opening(on_disk.directory()._volume, mode) as opened:
        await opened.write(b"new")
        assert os.pread(before, 100, 0) == CONTENT
    assert os.pread(before, 100, 0) == CONTENT
    after = on_disk.open("/file", os.O_RDONLY)
    assert os.pread(after, 3, 0) == b"new"
    for fd in (before, after):
        on_disk.close(fd)


@pytest.mark.parametrize("mode", ["in-place", "readwrite-unsafe"])
async def test_descriptor_sees_what_a_handle_writes_in_place(on_disk, mode):
    reader = on_disk.open("/file", os.O_RDONLY)
    async with opening(on_disk.directory()._volume, mode) as handle:
        await handle.write(b"new")
        assert os.pread(reader, 3, 0) == b"new"
    on_disk.close(reader)


def test_descriptors_of_one_filesystem_share_the_bytes_and_the_lock(on_disk):
    volume = on_disk.directory()._volume
    one = on_disk.open("/file", os.O_RDWR)
    appending = on_disk.open("/file", os.O_WRONLY | os.O_APPEND)
    os.pwrite(one, b"W", 0)
    os.write(appending, b", more")
    assert os.pread(one, 100, 0) == b"W" + CONTENT[1:] + b", more"
    on_disk.close(on_disk.open("/file", os.O_RDWR | os.O_TRUNC))
    assert os.fstat(one).st_size == 0
    on_disk.close(one)
    failed(errno.EBUSY, FileHandle._of(volume, "file").create_sync_access_handle)
    on_disk.close(appending)
    FileHandle._of(volume, "file").create_sync_access_handle().close()


def test_duplicate_of_a_descriptor_is_the_programs_and_holds_no_lock(on_disk):
    fd = on_disk.open("/file", os.O_RDWR)
    duplicate = os.dup(fd)
    os.lseek(fd, 4, os.SEEK_SET)
    assert os.read(duplicate, 2) == CONTENT[4:6]
    failed(errno.EBADF, on_disk.close, duplicate)
    on_disk.close(fd)
    volume = on_disk.directory()._volume
    with FileHandle._of(volume, "file").create_sync_access_handle() as handle:
        handle.write(b"new")
        assert os.pread(duplicate, 3, 0) == b"new"
    os.close(duplicate)


@pytest.mark.parametrize("mode", MODES)
def test_file_that_is_unlinked_while_open_can_be_made_again_by_its_filesystem_only(on_disk, mode):
    volume = on_disk.directory()._volume
    fd = on_disk.open("/file", os.O_RDWR)
    on_disk.unlink("/file")
    again = on_disk.open("/file", os.O_RDWR | os.O_CREAT)
    failed(errno.EBUSY, FileHandle._of(volume, "file").create_sync_access_handle, mode=mode)
    on_disk.close(again)
    failed(errno.EBUSY, FileHandle._of(volume, "file").create_sync_access_handle, mode=mode)
    on_disk.close(fd)
    FileHandle._of(volume, "file").create_sync_access_handle(mode=mode).close()


def test_direct_writes_are_those_of_the_file_and_its_lock_is_taken(on_disk):
    volume = on_disk.directory()._volume
    try:
        fd = on_disk.open("/file", os.O_RDWR | os.O_DIRECT)
    except OSError as error:
        assert error.errno == errno.EINVAL
        pytest.skip("this filesystem has no O_DIRECT")
    failed(errno.EBUSY, FileHandle._of(volume, "file").create_sync_access_handle)
    block = aligned_buffer(4096)
    block[:] = b"d" * 4096
    assert os.pwrite(fd, block, 0) == 4096
    on_disk.close(fd)
    with FileHandle._of(volume, "file").create_sync_access_handle(mode="exclusive") as handle:
        buffer = bytearray(5000)
        assert handle.read(buffer) == 4096 and buffer[:4096] == block
