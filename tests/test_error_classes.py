"""Each class of errors, with its errno, its name and the entry's path, on each kind of volume."""

import errno
import inspect
import os

import pytest
from support import write_file
from volumes.dict_volume import DictVolume

import aiofs
from aiofs import HostVolume, MemoryVolume, PrivateVolume

SIZE = 100
QUOTA = 1 << 20
LARGE = b"x" * (16 << 20)  # a write of so many bytes does not end inside the call


class FailingVolume(DictVolume):
    """A volume in a dict whose methods `write_at` and `flush` fail with the errno `number`."""

    number = 0

    def _fail(self):
        if self.number:
            raise OSError(self.number, "failed")

    def write_at(self, file, data, offset):
        self._fail()
        return super().write_at(file, data, offset)

    def flush(self, file):
        self._fail()
        super().flush(file)


@pytest.fixture(params=["private", "host", "memory", "python"])
def volume(request, tmp_path):
    directory = tmp_path / "volume"
    directory.mkdir()
    made = {
        "private": lambda: PrivateVolume(directory, quota=QUOTA),
        "host": lambda: HostVolume(directory, quota=QUOTA),
        "memory": lambda: MemoryVolume(quota=QUOTA),
        "python": FailingVolume,
    }
    with made[request.param]() as volume:
        volume._ops.mkdir("sub")
        volume._ops.mkdir("empty")
        for path in ("file", "other", "sub/file"):
            write_file(volume, path, b"x" * SIZE)
        yield volume


@pytest.fixture
def disk(volume, faults):
    """disk(call, number): lets the disk of the volume fail, or the methods of the Python volume."""

    def fail(call, number):
        if isinstance(volume, FailingVolume):
            volume.number = number
        else:
            faults.fail(call, number)

    yield fail
    faults.clear()


async def raised(call, *arguments, **named):
    """The OSError of a call, or of the await of what it returns."""
    with pytest.raises(OSError) as caught:
        given = call(*arguments, **named)
        if inspect.isawaitable(given):
            await given
    return caught.value


def is_error(error, kind, number, volume, path):
    shown = f"{volume._directory}/{path}" if hasattr(volume, "_directory") else path
    assert type(error).__name__ == kind.__name__
    assert isinstance(error, kind)
    assert isinstance(error, OSError)
    assert (error.errno, error.name, error.filename) == (number, kind.__name__, shown)
    assert shown in str(error)
    return True


def file_of(volume, path="file"):
    return aiofs.FileHandle._of(volume, path)


def directory_of(volume, path):
    return aiofs.DirectoryHandle._of(volume, path)


# ---- entries


async def test_what_is_missing_is_not_found(volume):
    missing, root = file_of(volume, "missing"), volume.root
    calls = [
        (root.get_file_handle, "missing"),
        (root.get_directory_handle, "missing"),
        (root.remove_entry, "missing"),
        (missing.get_file,),
        (missing.remove,),
        (missing.move, "else"),
        (missing.create_access_handle,),
        (missing.create_sync_access_handle,),
        (missing.create_writable,),
    ]
    for call, *arguments in calls:
        error = await raised(call, *arguments)
        assert is_error(error, aiofs.NotFoundError, errno.ENOENT, volume, "missing")
        assert isinstance(error, FileNotFoundError)


async def test_what_lies_in_a_removed_directory_is_not_found(volume):
    empty = directory_of(volume, "empty")
    await empty.remove()
    for name, call in (("f", empty.get_file_handle), ("d", empty.get_directory_handle)):
        error = await raised(call, name, create=True)
        assert is_error(error, aiofs.NotFoundError, errno.ENOENT, volume, f"empty/{name}")
    error = await raised(anext, aiter(empty))
    assert is_error(error, aiofs.NotFoundError, errno.ENOENT, volume, "empty")


async def test_file_that_was_removed_is_not_found_by_its_snapshot_and_its_commit(volume):
    file = await file_of(volume).get_file()
    await file_of(volume).remove()
    error = await raised(file.read)
    assert is_error(error, aiofs.NotFoundError, errno.ENOENT, volume, "file")
    if isinstance(volume, FailingVolume):
        return
    writable = await file_of(volume, "other").create_writable()
    handle = file_of(volume, "sub/file").create_sync_access_handle(mode="shared")
    handle.write(b"y")
    for path in ("other", "sub/file"):
        os.unlink(f"{volume._directory}/{path}")  # as another program does
    error = await raised(writable.close)
    assert is_error(error, aiofs.NotFoundError, errno.ENOENT, volume, "other")
    error = await raised(handle.close)
    assert is_error(error, aiofs.NotFoundError, errno.ENOENT, volume, "sub/file")


async def test_a_file_is_no_directory_and_a_directory_no_file(volume):
    root = volume.root
    for call, arguments, number, path, built_in in (
        (root.get_file_handle, ("sub",), errno.EISDIR, "sub", IsADirectoryError),
        (root.get_directory_handle, ("file",), errno.ENOTDIR, "file", NotADirectoryError),
        (file_of(volume, "sub").get_file, (), errno.EISDIR, "sub", IsADirectoryError),
        (file_of(volume, "sub").remove, (), errno.EISDIR, "sub", IsADirectoryError),
        (file_of(volume, "sub").create_access_handle, (), errno.EISDIR, "sub", IsADirectoryError),
        (file_of(volume, "sub").create_writable, (), errno.EISDIR, "sub", IsADirectoryError),
        (directory_of(volume, "file").remove, (), errno.ENOTDIR, "file", NotADirectoryError),
    ):
        error = await raised(call, *arguments)
        assert is_error(error, aiofs.TypeMismatchError, number, volume, path)
        assert isinstance(error, built_in)
    if not isinstance(volume, FailingVolume):  # there, its `stat` says that nothing lies there
        error = await raised(directory_of(volume, "file").get_file_handle, "x")
        assert is_error(error, aiofs.TypeMismatchError, errno.ENOTDIR, volume, "file/x")


async def test_changes_that_are_not_possible(volume):
    root, file = volume.root, file_of(volume)
    kind = aiofs.InvalidModificationError
    error = await raised(root.remove_entry, "sub")
    assert is_error(error, kind, errno.ENOTEMPTY, volume, "sub")
    error = await raised(directory_of(volume, "sub").move, directory_of(volume, "sub"), "below")
    assert is_error(error, kind, errno.ENOTEMPTY, volume, "sub")
    error = await raised(file.move, "sub")
    assert is_error(error, kind, errno.EEXIST, volume, "file")
    assert error.filename2.endswith("sub")
    error = await raised(directory_of(volume, "sub").move, "file")
    assert is_error(error, kind, errno.EEXIST, volume, "sub")
    with MemoryVolume() as another:
        error = await raised(file.move, another.root)
        assert is_error(error, kind, errno.EXDEV, volume, "file")


# ---- locks


async def test_what_another_holder_has_locked_is_not_modified(volume):
    file, root, sub = file_of(volume), volume.root, directory_of(volume, "sub")
    kind = aiofs.NoModificationAllowedError
    async with (
        file.create_access_handle(mode="in-place"),
        file_of(volume, "sub/file").create_writable(),
    ):
        for call, arguments, path in (
            (file.create_access_handle, (), "file"),
            (file.create_sync_access_handle, (), "file"),
            (file.create_writable, (), "file"),
            (file.remove, (), "file"),
            (root.remove_entry, ("file",), "file"),
            (file.move, ("else",), "file"),
            (sub.remove, (), "sub"),
            (root.remove_entry, ("sub",), "sub"),
        ):
            error = await raised(call, *arguments)
            assert is_error(error, kind, errno.EBUSY, volume, path)
        for call, named in ((root.remove_entry, {"name": "sub"}), (sub.remove, {})):
            error = await raised(call, recursive=True, **named)
            assert is_error(error, kind, errno.EBUSY, volume, "sub")
        error = await raised(sub.move, "else")
        assert is_error(error, kind, errno.EBUSY, volume, "sub")
        error = await raised(file_of(volume, "other").move, "file")  # the target is locked
        assert is_error(error, kind, errno.EBUSY, volume, "other")
        assert error.filename2.endswith("file")
        for recursive in (False, True):
            error = await raised(root.remove, recursive=recursive)
            assert (type(error), error.errno) == (kind, errno.EBUSY)
            assert error.filename == getattr(volume, "_directory", "/")


async def test_read_only_handle_modifies_nothing(volume):
    kind = aiofs.NoModificationAllowedError
    async with file_of(volume).create_access_handle(mode="read-only") as handle:
        for call, *arguments in (
            (handle.write, b"x"),
            (handle.writev, [b"x"]),
            (handle.truncate, 0),
            (handle.flush,),
            (handle.writable.write, b"x"),
        ):
            error = await raised(call, *arguments)
            assert is_error(error, kind, errno.EBADF, volume, "file")
    with file_of(volume).create_sync_access_handle(mode="read-only") as handle:
        for call, *arguments in ((handle.write, b"x"), (handle.truncate, 0), (handle.flush,)):
            error = await raised(call, *arguments)
            assert is_error(error, kind, errno.EBADF, volume, "file")


async def test_read_only_volume_modifies_nothing(tmp_path):
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "empty").mkdir()
    kind = aiofs.NoModificationAllowedError
    with HostVolume(tmp_path, read_only=True) as volume:
        file, root = file_of(volume), volume.root
        for call, *arguments in (
            (file.create_access_handle,),
            (file.create_writable,),
            (file.remove,),
            (file.move, "else"),
            (root.remove_entry, "file"),
        ):
            named = {"mode": "in-place"} if call == file.create_access_handle else {}
            error = await raised(call, *arguments, **named)
            assert is_error(error, kind, errno.EROFS, volume, "file")
        error = await raised(root.get_file_handle, "new", create=True)
        assert is_error(error, kind, errno.EROFS, volume, "new")
        error = await raised(root.get_directory_handle, "new", create=True)
        assert is_error(error, kind, errno.EROFS, volume, "new")
    assert sorted(os.listdir(tmp_path)) == ["empty", "file"]


# ---- closed


async def test_what_is_closed_is_in_an_invalid_state(volume):
    kind, file = aiofs.InvalidStateError, file_of(volume)
    handle = await file.create_access_handle(mode="in-place")
    readable = handle.readable
    await handle.close()
    writable = await file.create_writable()
    await writable.abort()
    sync = file.create_sync_access_handle(mode="in-place")
    sync.close()
    for call, *arguments in (
        (handle.read, bytearray(1)),
        (handle.write, b"x"),
        (handle.truncate, 0),
        (handle.flush,),
        (handle.get_size,),
        (handle.contention,),
        (handle.fileno,),
        (readable.read,),
        (writable.write, b"x"),
        (writable.close,),
        (writable.abort,),
        (sync.read, bytearray(1)),
        (sync.write, b"x"),
        (sync.truncate, 0),
        (sync.flush,),
        (sync.get_size,),
        (sync.fileno,),
    ):
        error = await raised(call, *arguments)
        assert is_error(error, kind, errno.EBADF, volume, "file")
        assert isinstance(error, ValueError)


async def test_handles_of_a_closed_volume_are_in_an_invalid_state(volume):
    file, root = file_of(volume), volume.root
    volume.close()
    for call, *arguments in (
        (root.get_file_handle, "file"),
        (root.remove_entry, "file"),
        (file.get_file,),
        (file.create_access_handle,),
        (file.create_writable,),
        (file.move, "else"),
        (volume.locks,),
    ):
        error = await raised(call, *arguments)
        assert (type(error), error.errno) == (aiofs.InvalidStateError, errno.EBADF)


# ---- the disk


async def test_disk_that_fails_leaves_an_invalid_state(volume, disk):
    kind, file = aiofs.InvalidStateError, file_of(volume)
    async with file.create_access_handle(mode="in-place") as handle:
        await handle.write(b"y")
        disk("fdatasync", errno.EIO)
        error = await raised(handle.flush)
        assert is_error(error, kind, errno.EIO, volume, "file")
        disk("fdatasync", 0)
    if not isinstance(volume, FailingVolume):
        writable = await file.create_writable()
        disk("renameat2", errno.EIO)
        error = await raised(writable.close)
        assert is_error(error, kind, errno.EIO, volume, "file")


async def test_growth_over_the_quota_is_refused(volume, disk):
    kind, file = aiofs.QuotaExceededError, file_of(volume)
    if isinstance(volume, FailingVolume):
        volume.number = errno.EDQUOT  # it has no quota of aiofs's
    with file.create_sync_access_handle(mode="in-place") as handle:
        error = await raised(handle.write, LARGE)
        assert is_error(error, kind, errno.EDQUOT, volume, "file")
        assert handle.get_size() == SIZE
        volume.number = 0
    if isinstance(volume, FailingVolume):
        return
    for mode in ("in-place", "exclusive"):
        async with file.create_access_handle(mode=mode) as handle:
            for call, *arguments in ((handle.write, LARGE), (handle.truncate, len(LARGE))):
                error = await raised(call, *arguments)
                assert is_error(error, kind, errno.EDQUOT, volume, "file")
            assert await handle.get_size() == SIZE
    writable = await file.create_writable()
    error = await raised(writable.write, LARGE)
    assert is_error(error, kind, errno.EDQUOT, volume, "file")


async def test_full_disk_is_reported(volume, disk):
    kind = aiofs.QuotaExceededError
    with file_of(volume).create_sync_access_handle(mode="in-place") as handle:
        for call in ("pwritev2", "pwrite64"):
            disk(call, errno.ENOSPC)
        error = await raised(handle.write, b"y" * 10)
        assert is_error(error, kind, errno.ENOSPC, volume, "file")
        for call in ("pwritev2", "pwrite64"):
            disk(call, 0)


# ---- snapshots, and what abort ends


async def test_snapshot_of_a_changed_file_is_not_readable(volume):
    file = await file_of(volume).get_file()
    with file_of(volume).create_sync_access_handle(mode="in-place") as handle:
        handle.write(b"y")
    for call in (file.read, file.text, file.slice(1).read, lambda: anext(file.stream())):
        error = await raised(call)
        assert is_error(error, aiofs.NotReadableError, errno.ESTALE, volume, "file")


async def test_operation_in_flight_at_an_abort_is_aborted(volume):
    file = file_of(volume, "other")
    handle = await file.create_access_handle(mode="in-place")
    kind = aiofs.AbortError
    first = handle.write(b"y" * (QUOTA // 2), at=SIZE)
    behind = [handle.get_size(), handle.read(bytearray(1))]
    aborting = handle.abort()
    await aborting
    for operation in behind:
        error = await raised(lambda waited=operation: waited)
        assert is_error(error, kind, errno.ECANCELED, volume, "other")
    first.close()
    writable = await file.create_writable()
    first = writable.write(b"y" * (QUOTA // 2))
    behind = writable.write(b"z")
    await writable.abort()
    error = await raised(lambda: behind)
    assert is_error(error, kind, errno.ECANCELED, volume, "other")
    first.close()
