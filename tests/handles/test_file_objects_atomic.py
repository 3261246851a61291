"""`FileHandle.open(atomic=True)`: the file is replaced at the close, or nothing has changed."""

import asyncio
import errno
import gc
import os

import pytest
from opened import CONTENT, is_locked
from support import write_file
from volumes.dict_volume import DictVolume

from aiofs import FileHandle, HostVolume, MemoryVolume, PrivateVolume, _core
from aiofs.errors import NoModificationAllowedError, NotFoundError, QuotaExceededError


@pytest.fixture(params=["private", "host", "memory", "dict"])
def volume(request, tmp_path):
    (tmp_path / "host").mkdir()
    made = {
        "private": lambda: PrivateVolume(tmp_path / "volume"),
        "host": lambda: HostVolume(tmp_path / "host"),
        "memory": MemoryVolume,
        "dict": DictVolume,
    }
    with made[request.param]() as volume:
        yield volume


@pytest.fixture
def missing(volume):
    return FileHandle._of(volume, "missing")


async def bytes_of(file):
    return await (await file.get_file()).read()


async def names(volume):
    return sorted([name async for name in volume.root.keys()])


@pytest.mark.parametrize(
    ("mode", "new"),
    [
        ("wb", b"new"),
        ("w+b", b"new"),
        ("r+b", b"new" + CONTENT[3:]),
        ("ab", CONTENT + b"new"),
        ("a+b", CONTENT + b"new"),
    ],
)
async def test_file_is_replaced_at_the_close(volume, file, mode, new):
    async with file.open(mode, atomic=True) as opened:
        assert [lock.mode for lock in await volume.locks()] == ["exclusive"]
        await opened.write(b"new")
        await opened.flush()
        assert await bytes_of(file) == CONTENT
        with pytest.raises(NoModificationAllowedError):
            await file.open(mode, atomic=True)
        with pytest.raises(NoModificationAllowedError):
            await file.remove()
    assert await bytes_of(file) == new
    assert await volume.locks() == [] and await names(volume) == ["file"]


async def test_text_is_read_and_written_in_the_copy(volume):
    write_file(volume, "file", b"old text")
    handle = FileHandle._of(volume, "file")
    async with handle.open("r+", atomic=True) as opened:
        assert await opened.read() == "old text"
        await opened.seek(0)
        await opened.write("new")
        await opened.seek(0)
        assert await opened.read() == "new text"
        await opened.truncate(3)
    assert await bytes_of(handle) == b"new"


async def test_empty_file_replaces_the_old_one(file):
    async with file.open("w", atomic=True):
        pass
    assert await bytes_of(file) == b""


@pytest.mark.parametrize("mode", ["r+b", "ab"])
async def test_file_that_was_not_changed_is_the_old_one(on_disk, mode):
    before = (await on_disk.get_file())._found.st_ino
    async with on_disk.open(mode, atomic=True):
        pass
    assert (await on_disk.get_file())._found.st_ino == before


@pytest.mark.parametrize("mode", ["wb", "r+b", "ab"])
async def test_exception_that_leaves_the_block_discards(volume, file, mode):
    with pytest.raises(KeyError):
        async with file.open(mode, atomic=True) as opened:
            await opened.write(b"new" * 100_000)
            raise KeyError
    assert opened.closed and not is_locked(file)
    assert await bytes_of(file) == CONTENT and await names(volume) == ["file"]


async def test_discarding_writes_no_buffers_and_keeps_the_exception(on_disk, faults):
    with pytest.raises(KeyError):
        async with on_disk.open("wb", atomic=True) as opened:
            await opened.write(b"in the buffer")
            for call in ("pwrite64", "pwritev2"):
                faults.fail(call, errno.EIO)
            raise KeyError
    faults.clear()
    assert opened.closed and not is_locked(on_disk)


@pytest.mark.parametrize("mode", ["w", "a", "x"])
async def test_created_file_is_there_after_the_close_only(volume, missing, mode):
    with pytest.raises(KeyError):
        async with missing.open(mode, atomic=True) as opened:
            await opened.write("new")
            await opened.flush()
            assert await bytes_of(missing) == b""
            raise KeyError
    assert await names(volume) == [] and await volume.locks() == []
    async with missing.open(mode, atomic=True) as opened:
        await opened.write("new")
    assert await bytes_of(missing) == b"new" and await volume.locks() == []


async def test_dropped_file_changes_nothing(volume, file, missing):
    for handle, mode in ((file, "r+b"), (file, "wb"), (missing, "wb"), (missing, "xb")):
        opened = await handle.open(mode, atomic=True)
        await opened.write(b"new")
        with pytest.warns(ResourceWarning, match="unclosed file of"):
            del opened
            gc.collect()
        assert await volume.locks() == []
        assert await bytes_of(file) == CONTENT and await names(volume) == ["file"]


async def test_closing_the_object_of_io_discards(file):
    opened = await file.open("wb", atomic=True)
    opened.wrapped.write(b"new")
    opened.wrapped.close()
    assert await bytes_of(file) == CONTENT and not is_locked(file)


async def test_second_close_does_nothing(file):
    opened = await file.open("wb", atomic=True)
    await opened.write(b"new")
    await opened.close()
    async with file.open("wb", atomic=True) as other:
        await opened.close()
        await other.write(b"other")
    await other.close()
    assert await bytes_of(file) == b"other"


async def test_cancelled_opening_leaves_no_file(volume, missing):
    for rounds in range(20):

        async def open_it():
            return await missing.open("w", atomic=True)

        task = asyncio.ensure_future(open_it())
        for _ in range(rounds % 6):
            await asyncio.sleep(0)
        task.cancel()
        try:
            opened = await task
        except asyncio.CancelledError:
            pass
        else:
            await opened._turns.run(opened._discard)
        async with missing.open("w", atomic=True, wait=20):
            assert await names(volume) == ["missing"]
        await missing.remove()


async def test_file_beyond_the_quota_is_discarded(tmp_path):
    with PrivateVolume(tmp_path / "volume", quota=20_000) as volume:
        write_file(volume, "file", CONTENT)
        for name in ("file", "missing"):
            handle = FileHandle._of(volume, name)
            with pytest.raises(QuotaExceededError):
                async with handle.open("wb", atomic=True) as opened:
                    await opened.write(bytes(30_000))
            assert opened.closed
            assert await names(volume) == ["file"] and await volume.locks() == []
        assert await bytes_of(FileHandle._of(volume, "file")) == CONTENT
        assert (await volume.estimate())[0] == len(CONTENT)


@pytest.mark.parametrize("name", ["file", "missing"])
async def test_failed_commit_leaves_what_was_there(tmp_path, faults, name):
    with PrivateVolume(tmp_path / "volume") as volume:
        write_file(volume, "file", CONTENT)
        opened = await FileHandle._of(volume, name).open("wb", atomic=True)
        await opened.write(b"new")
        faults.fail("renameat2", errno.EIO)
        with pytest.raises(OSError) as caught:
            await opened.close()
        faults.clear()
        assert caught.value.errno == errno.EIO and opened.closed
        assert await names(volume) == ["file"] and await volume.locks() == []
        assert await bytes_of(FileHandle._of(volume, "file")) == CONTENT


async def test_file_that_was_removed_on_disk_meanwhile_is_not_replaced(tmp_path):
    with PrivateVolume(tmp_path / "volume") as volume:
        write_file(volume, "file", CONTENT)
        opened = await FileHandle._of(volume, "file").open("wb", atomic=True)
        await opened.write(b"new")
        os.unlink(tmp_path / "volume/file")
        with pytest.raises(NotFoundError):
            await opened.close()
        assert await names(volume) == [] and await volume.locks() == []


async def test_link_stays_one_and_its_target_is_replaced(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    os.symlink("file", tmp_path / "link")
    os.symlink("missing", tmp_path / "dangling")
    with HostVolume(tmp_path) as volume:
        async with FileHandle._of(volume, "link").open("w", atomic=True) as opened:
            await opened.write("new")
        with pytest.raises(KeyError):
            async with FileHandle._of(volume, "dangling").open("w", atomic=True) as opened:
                raise KeyError
    assert os.readlink(tmp_path / "link") == "file"
    assert os.readlink(tmp_path / "dangling") == "missing"
    assert (tmp_path / "file").read_bytes() == b"new"


async def test_durable_file_is_synced_with_its_name(tmp_path, faults):
    for durable in (True, False):
        with PrivateVolume(tmp_path / f"{durable}", durable=durable) as volume:
            handle = await volume.root.get_file_handle("file", create=True)
            before = faults.calls("fsync") + faults.calls("fdatasync")
            async with handle.open("w", atomic=True, durable=True) as opened:
                await opened.write("text")
            after = faults.calls("fsync") + faults.calls("fdatasync")
            assert after > before
            assert await bytes_of(handle) == b"text"


async def test_failed_sync_of_a_durable_file_discards(tmp_path, faults):
    with PrivateVolume(tmp_path / "volume", durable=False) as volume:
        write_file(volume, "file", CONTENT)
        handle = FileHandle._of(volume, "file")
        opened = await handle.open("wb", atomic=True, durable=True)
        await opened.write(b"new")
        faults.fail("fdatasync", errno.EIO)
        with pytest.raises(OSError) as caught:
            await opened.close()
        faults.clear()
        assert caught.value.errno == errno.EIO
        assert await bytes_of(handle) == CONTENT and not is_locked(handle)


async def test_owner_of_an_exclusive_lock_may_take_it_once_more(tmp_path):
    with PrivateVolume(tmp_path / "volume") as volume:
        write_file(volume, "file", CONTENT)
        ops = volume._ops
        handle, created = ops.open_locked("file", os.O_RDWR, True, 1 << 40)
        assert not created
        with pytest.raises(NoModificationAllowedError):
            ops.open("file", os.O_RDWR, 0, _core.LOCK_EXCLUSIVE, 1 << 41)
        again = ops.open("file", os.O_RDWR, 0, _core.LOCK_EXCLUSIVE, 1 << 40)
        handle.close()
        assert is_locked(FileHandle._of(volume, "file"))
        again.close()
        assert not is_locked(FileHandle._of(volume, "file"))
