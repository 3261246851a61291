"""FileSystem: mounts, paths, descriptors, and the locks of open files."""

import errno
import mmap
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lock_holder_process import holding
from support import eventually, failed, write_file
from volumes.dict_volume import DictVolume

import aiofs
from aiofs import FileSystem, MemoryVolume

RDWR = os.O_RDWR | os.O_CREAT


def put(fs, path, data=b""):
    fd = fs.open(path, RDWR)
    os.write(fd, data)
    fs.close(fd)


def get(fs, path):
    fd = fs.open(path, os.O_RDONLY)
    data = os.read(fd, 1000)
    fs.close(fd)
    return data


# ---- descriptors


def test_open_returns_a_descriptor_of_the_kernel(fs, tmp_path):
    fd = fs.open("/file", RDWR, 0o640)
    assert os.write(fd, b"hello world") == 11
    assert os.fstat(fd).st_ino == (tmp_path / "volume/file").stat().st_ino
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o640
    with mmap.mmap(fd, 11) as mapped:
        assert mapped[:5] == b"hello"
    assert not os.get_inheritable(fd)
    fs.close(fd)
    assert get(fs, "/file") == b"hello world"


def test_closing_twice_is_ebadf(fs):
    fd = fs.open("/file", RDWR)
    fs.close(fd)
    assert str(fd) in str(failed(errno.EBADF, fs.close, fd))
    failed(errno.EBADF, fs.close, -1)


def test_closing_a_descriptor_opened_outside_the_filesystem_is_ebadf(fs, other):
    fd = other.open("/file", RDWR)
    failed(errno.EBADF, fs.close, fd)
    os.fstat(fd)
    other.close(fd)


def test_os_close_of_a_descriptor_releases_its_lock(fs, other):
    fd = fs.open("/file", RDWR)
    os.close(fd)
    failed(errno.EBADF, fs.close, fd)
    other.close(other.open("/file", os.O_RDWR))


def test_reused_descriptor_number_is_not_closed(fs, tmp_path):
    fd = fs.open("/file", RDWR)
    os.close(fd)
    assert os.open(tmp_path, os.O_RDONLY) == fd
    failed(errno.EBADF, fs.close, fd)
    os.close(fd)


def test_leaving_the_context_closes_open_descriptors(volume):
    with FileSystem() as fs:
        fs.mount("/", volume)
        fds = [fs.open(f"/file{number}", RDWR) for number in range(3)]
        handle = fs.create_sync_access_handle("/other", create=True)
    for fd in fds:
        with pytest.raises(OSError):
            os.fstat(fd)
    with pytest.raises(aiofs.InvalidStateError):
        handle.get_size()
    assert volume._ops.lock_count("") == 0


@pytest.mark.parametrize(
    "flags,number",
    [
        (os.O_RDWR, errno.ENOENT),
        (os.O_RDONLY, errno.ENOENT),
        (RDWR | os.O_EXCL, None),
    ],
)
def test_flags_mean_what_os_open_means(fs, flags, number):
    if number:
        failed(number, fs.open, "/file", flags)
    else:
        fs.close(fs.open("/file", flags))
        failed(errno.EEXIST, fs.open, "/file", flags)


def test_o_append_and_o_trunc_work(fs):
    put(fs, "/file", b"one")
    fd = fs.open("/file", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"two")
    fs.close(fd)
    assert get(fs, "/file") == b"onetwo"
    fs.close(fs.open("/file", os.O_WRONLY | os.O_TRUNC))
    assert get(fs, "/file") == b""


def test_opening_a_directory_as_a_file_is_refused(fs):
    fs.mkdir("/directory")
    for flags in (os.O_RDONLY, os.O_RDWR, RDWR):
        error = failed(errno.EISDIR, fs.open, "/directory", flags)
        assert isinstance(error, aiofs.TypeMismatchError) and error.filename == "/directory"


# ---- locks


def test_write_open_is_shared_within_a_filesystem_and_refused_outside(fs, other):
    first, second = fs.open("/file", RDWR), fs.open("/file", os.O_WRONLY)
    for flags in (os.O_RDWR, os.O_WRONLY):
        failed(errno.EBUSY, other.open, "/file", flags)
    fs.close(first)
    failed(errno.EBUSY, other.open, "/file", os.O_RDWR)
    fs.close(second)
    other.close(other.open("/file", os.O_RDWR))


def test_access_handle_and_descriptor_refuse_each_other(fs, other):
    fd = fs.open("/file", RDWR)
    for filesystem in (fs, other):
        failed(errno.EBUSY, filesystem.create_sync_access_handle, "/file")
    fs.close(fd)
    with fs.create_sync_access_handle("/file"):
        failed(errno.EBUSY, fs.open, "/file", os.O_RDWR)


def test_read_only_open_sees_live_bytes_of_a_locked_file(fs, other):
    writer = fs.open("/file", RDWR)
    reader = other.open("/file", os.O_RDONLY)
    os.write(writer, b"live")
    assert os.read(reader, 10) == b"live"
    other.close(reader)
    fs.close(writer)


def test_refused_open_does_not_truncate_a_locked_file(fs, other):
    fd = fs.open("/file", RDWR)
    os.write(fd, b"precious")
    for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY):
        failed(errno.EBUSY, other.open, "/file", flags | os.O_TRUNC)
    assert get(other, "/file") == b"precious"
    fs.close(fd)
    other.close(other.open("/file", os.O_RDONLY | os.O_TRUNC))
    assert get(other, "/file") == b""
    fs.close(fs.open("/file", os.O_RDWR))


def test_exclusive_creation_of_a_locked_file_is_eexist(fs, other):
    fd = fs.open("/file", RDWR)
    failed(errno.EEXIST, other.open, "/file", RDWR | os.O_EXCL)
    fs.close(fd)


def test_entry_locked_by_another_holder_is_not_changed(fs, other):
    put(fs, "/free", b"free")
    fd = fs.open("/held", RDWR)
    os.write(fd, b"held")
    for call in (
        lambda: other.unlink("/held"),
        lambda: other.truncate("/held", 0),
        lambda: other.rename("/held", "/moved"),
        lambda: other.rename("/free", "/held"),
    ):
        assert isinstance(failed(errno.EBUSY, call), aiofs.NoModificationAllowedError)
    assert sorted(other.listdir("/")) == ["free", "held"]
    assert get(other, "/held") == b"held"
    fs.close(fd)


def test_entry_locked_by_another_process_is_refused(fs, volume, tmp_path):
    put(fs, "/file")
    with holding(tmp_path / "volume", "file") as process:
        assert process.answer == "held"
        failed(errno.EBUSY, fs.open, "/file", os.O_RDWR)
        failed(errno.EBUSY, fs.unlink, "/file")
    fs.close(fs.open("/file", os.O_RDWR))


def test_unlinking_an_open_file_works_as_in_posix(fs, other):
    fd = fs.open("/file", RDWR)
    os.write(fd, b"unlinked")
    fs.unlink("/file")
    assert os.pread(fd, 10, 0) == b"unlinked"
    failed(errno.ENOENT, fs.stat, "/file")
    failed(errno.EBUSY, other.open, "/file", RDWR)
    again = fs.open("/file", RDWR)
    assert os.fstat(again).st_size == 0
    fs.close(again)
    fs.close(fd)
    other.close(other.open("/file", os.O_RDWR))


def test_file_that_is_renamed_while_open_stays_locked_under_both_paths(fs, other):
    fd = fs.open("/old", RDWR)
    fs.rename("/old", "/new")
    fs.rename("/new", "/newer")
    for path in ("/old", "/new", "/newer"):
        failed(errno.EBUSY, other.open, path, RDWR)
    os.write(fd, b"through")
    assert get(fs, "/newer") == b"through"
    fs.close(fs.open("/old", RDWR))  # the lock is the FileSystem's own
    fs.close(fd)
    for path in ("/old", "/new", "/newer"):
        other.close(other.open(path, RDWR))


def test_file_that_is_renamed_there_and_back_is_locked_until_it_is_closed(fs, other):
    fd = fs.open("/file", RDWR)
    twin = fs.open("/file", os.O_RDWR)
    fs.rename("/file", "/other")
    fs.rename("/other", "/file")
    fs.close(fd)
    failed(errno.EBUSY, other.open, "/file", RDWR)
    failed(errno.EBUSY, other.open, "/other", RDWR)
    fs.close(twin)
    other.close(other.open("/file", RDWR))
    other.close(other.open("/other", RDWR))


def test_locks_follow_a_directory_that_is_renamed(fs, other):
    fs.mkdir("/old")
    fs.mkdir("/old/sub")
    fd = fs.open("/old/sub/file", RDWR)
    failed(errno.EBUSY, other.rename, "/old", "/new")
    fs.rename("/old", "/new")
    failed(errno.EBUSY, other.open, "/new/sub/file", os.O_RDWR)
    fs.close(fd)
    other.close(other.open("/new/sub/file", os.O_RDWR))


def test_directory_cannot_be_renamed_to_a_place_below_itself(fs):
    fs.mkdir("/a")
    put(fs, "/a/file", b"")
    failed(errno.EINVAL, fs.rename, "/a", "/a/b")
    failed(errno.ENOENT, fs.rename, "/a", "/a/missing/b")
    failed(errno.ENOTDIR, fs.rename, "/a", "/a/file/b")
    assert fs.listdir("/a") == ["file"]


# ---- the tree, as in os


def test_namespace_operations_match_os(fs, tmp_path):
    fs.mkdir("/directory", 0o750)
    assert stat.S_IMODE(fs.stat("/directory").st_mode) == 0o750
    put(fs, "/directory/file", b"data")
    assert fs.listdir("/directory") == ["file"]
    fs.truncate("/directory/file", 10)
    found, expected = fs.stat("/directory/file"), os.stat(tmp_path / "volume/directory/file")
    assert found == expected
    assert found.st_mtime_ns == expected.st_mtime_ns and found.st_blocks == expected.st_blocks
    fs.rename("/directory/file", "/file")
    fs.rmdir("/directory")
    fs.unlink("/file")
    assert fs.listdir() == []


ERRORS = [
    (errno.ENOENT, "stat", ["/missing"]),
    (errno.ENOENT, "stat", ["/missing/below"]),
    (errno.ENOENT, "stat", [""]),
    (errno.ENOTDIR, "stat", ["/file/below"]),
    (errno.ENOTDIR, "stat", ["/file/"]),
    (errno.EEXIST, "mkdir", ["/directory"]),
    (errno.EEXIST, "mkdir", ["/file"]),
    (errno.EEXIST, "mkdir", ["/"]),
    (errno.ENOENT, "mkdir", ["/missing/below"]),
    (errno.ENOTDIR, "rmdir", ["/file"]),
    (errno.ENOTEMPTY, "rmdir", ["/directory"]),
    (errno.ENOENT, "rmdir", ["/missing"]),
    (errno.EBUSY, "rmdir", ["/"]),
    (errno.EISDIR, "unlink", ["/directory"]),
    (errno.ENOENT, "unlink", ["/missing"]),
    (errno.ENOTDIR, "unlink", ["/file/"]),
    (errno.ENOENT, "rename", ["/missing", "/other"]),
    (errno.EISDIR, "rename", ["/file", "/directory"]),
    (errno.ENOTDIR, "rename", ["/directory", "/file"]),
    (errno.EINVAL, "rename", ["/directory", "/directory/below"]),
    (errno.ENOTDIR, "rename", ["/file", "/other/"]),
    (errno.ENOTDIR, "listdir", ["/file"]),
    (errno.ENOENT, "listdir", ["/missing"]),
    (errno.EISDIR, "truncate", ["/directory", 0]),
    (errno.EINVAL, "truncate", ["/file", -1]),
    (errno.ENOENT, "truncate", ["/missing", 0]),
    (errno.EISDIR, "open", ["/new/", RDWR]),
    (errno.ENOTDIR, "open", ["/file/", os.O_RDWR]),
    (errno.ENAMETOOLONG, "mkdir", ["/" + "n" * 256]),
    (errno.ENOTDIR, "directory", ["/file"]),
    (errno.ENOENT, "directory", ["/missing"]),
    (errno.ENOENT, "stat", ["/.aiofs"]),
    (errno.ENOENT, "mkdir", ["/.aiofs/new"]),
]


@pytest.mark.parametrize("number,name,arguments", ERRORS)
def test_invalid_calls_get_the_errno_of_os_and_change_nothing(fs, number, name, arguments):
    fs.mkdir("/directory")
    put(fs, "/directory/inner")
    put(fs, "/file", b"data")
    error = failed(number, getattr(fs, name), *arguments)
    assert error.filename == arguments[0]
    assert sorted(fs.listdir("/")) == ["directory", "file"]
    assert fs.listdir("/directory") == ["inner"]
    assert get(fs, "/file") == b"data"


@pytest.mark.parametrize("bad", ["/nul\0", None, 5, b"/bytes"])
def test_bad_paths_are_refused(fs, bad):
    with pytest.raises(ValueError if isinstance(bad, str) else TypeError):
        fs.stat(bad)


def test_paths_are_resolved_inside_the_namespace(fs):
    fs.mkdir("/directory")
    put(fs, "/file", b"data")
    for path in (
        "file",
        "//file",
        "/./file",
        "/../file",
        "/../../file",
        "/directory/../file",
        Path("/file"),
    ):
        assert get(fs, path) == b"data"
    assert fs.stat("/..") == fs.stat("/")


def test_removing_a_directory_with_a_locked_entry_is_ebusy(fs, other):
    fs.mkdir("/directory")
    fd = fs.open("/directory/file", RDWR)
    failed(errno.EBUSY, other.rmdir, "/directory")
    fs.close(fd)
    failed(errno.ENOTEMPTY, other.rmdir, "/directory")


# ---- mounts


def test_each_mount_is_a_volume_of_its_own(fs):
    with MemoryVolume() as memory:
        fs.mount("/memory", memory)
        put(fs, "/memory/file", b"in memory")
        put(fs, "/file", b"on disk")
        assert sorted(fs.listdir("/")) == ["file", "memory"]
        assert fs.listdir("/memory") == ["file"]
        error = failed(errno.EXDEV, fs.rename, "/memory/file", "/moved")
        assert isinstance(error, aiofs.InvalidModificationError)
        assert (error.filename, error.filename2) == ("/memory/file", "/moved")
        fs.unmount("/memory")
        assert fs.listdir("/") == ["file"]
        failed(errno.ENOENT, fs.stat, "/memory/file")


def test_mounting_over_an_existing_entry_is_eexist(fs, volume):
    put(fs, "/file")
    fs.mkdir("/directory")
    with MemoryVolume() as memory:
        for path in ("/", "/file", "/directory"):
            failed(errno.EEXIST, fs.mount, path, memory)
        fs.mount("/memory", memory)
        failed(errno.EEXIST, fs.mount, "/memory", memory)
        failed(errno.EEXIST, fs.mkdir, "/memory")


def test_root_may_be_mounted_first_or_last(volume):
    with FileSystem() as fs, MemoryVolume() as memory:
        fs.mount("/a/b", memory)
        assert fs.listdir("/") == ["a"] and fs.listdir("/a") == ["b"]
        assert stat.S_ISDIR(fs.stat("/a").st_mode)
        failed(errno.EEXIST, fs.mkdir, "/a")
        failed(errno.EISDIR, fs.open, "/a", os.O_RDONLY)
        failed(errno.ENOENT, fs.open, "/new", RDWR)
        fs.mount("/", volume)
        put(fs, "/new")
        assert sorted(fs.listdir("/")) == ["a", "new"]


def test_mount_point_and_its_parents_cannot_be_removed(fs):
    with MemoryVolume() as memory:
        fs.mount("/a/b", memory)
        for path in ("/a", "/a/b"):
            failed(errno.EBUSY, fs.rmdir, path)
            failed(errno.EBUSY, fs.rename, path, "/c")
        fs.unmount("/a/b")


def test_directory_handle_can_be_mounted(fs):
    fs.mkdir("/project")
    put(fs, "/project/file", b"data")
    with FileSystem() as other:
        other.mount("/p", fs.directory("/project"))
        assert get(other, "/p/file") == b"data"
        assert get(other, "/p/../p/file") == b"data"
        failed(errno.ENOENT, other.stat, "/p/../project")
        fd = other.open("/p/file", os.O_RDWR)
        failed(errno.EBUSY, fs.open, "/project/file", os.O_RDWR)
        other.close(fd)


def test_unmounting_a_volume_with_open_files_is_ebusy(fs):
    with MemoryVolume() as memory:
        fs.mount("/memory", memory)
        for opened in (
            lambda: fs.open("/memory/file", RDWR),
            lambda: fs.open("/memory/file", os.O_RDONLY),
            lambda: fs.create_sync_access_handle("/memory/file"),
        ):
            held = opened()
            failed(errno.EBUSY, fs.unmount, "/memory")
            fs.close(held) if isinstance(held, int) else held.close()
        fs.unmount("/memory")
        failed(errno.ENOENT, fs.unmount, "/memory")


@pytest.mark.parametrize("kind", [MemoryVolume, DictVolume])
def test_closed_volume_can_be_unmounted(fs, kind):
    closed = kind()
    fs.mount("/closed", closed)
    descriptor = fs.open("/closed/file", RDWR)
    fs.close(descriptor)
    closed.close()
    fs.unmount("/closed")
    failed(errno.ENOENT, fs.unmount, "/closed")


def test_unmounting_a_volume_with_a_mount_below_is_ebusy(fs):
    with MemoryVolume() as outer, MemoryVolume() as inner:
        fs.mount("/outer", outer)
        fs.mount("/outer/inner", inner)
        failed(errno.EBUSY, fs.unmount, "/outer")
        fs.unmount("/outer/inner")
        fs.unmount("/outer")


def test_only_volumes_and_directories_are_mounted(fs):
    for wrong in (None, "/tmp", 5):
        with pytest.raises(TypeError):
            fs.mount("/wrong", wrong)


# ---- access handles by path


def test_access_handle_is_made_by_path(fs):
    with pytest.raises(aiofs.NotFoundError) as error:
        fs.create_sync_access_handle("/file")
    assert error.value.filename == "/file"
    with fs.create_sync_access_handle("/file", create=True) as handle:
        assert handle.write(b"data") == 4
        assert handle.mode == "in-place"
    with fs.create_sync_access_handle("/file", mode="read-only") as handle:
        buffer = bytearray(4)
        assert handle.read(buffer) == 4 and buffer == b"data"


@pytest.mark.parametrize("mode", ["", "rw", "In-place", "readonly"])
def test_unknown_mode_is_a_value_error_before_anything_is_looked_up(fs, mode):
    with pytest.raises(ValueError):
        fs.create_sync_access_handle("/missing/file", mode=mode, create=True)
    with pytest.raises(TypeError):
        fs.create_sync_access_handle("/file", mode=5)


def test_async_exit_closes_handles(run, volume):
    async def body():
        async with FileSystem() as fs:
            fs.mount("/", volume)
            handle = await fs.create_access_handle("/file", create=True)
            await handle.write(b"data")
            fs.open("/other", RDWR)
        with pytest.raises(aiofs.InvalidStateError):
            await handle.get_size()
        assert volume._ops.lock_count("") == 0

    run(body())


def test_exit_closes_handles_opened_meanwhile_if_closing_a_descriptor_fails(run, volume):
    fs, exiting = FileSystem(), threading.Event()

    class OpensLate(DictVolume):
        """Its file `late` is opened while the FileSystem is closing a descriptor of the other."""

        def open_file(self, path, **how):
            assert path != "late" or exiting.wait(20)
            return super().open_file(path, **how)

        def close_file(self, file):
            if not exiting.is_set():
                exiting.set()
                eventually(lambda: fs._handles)
            super().close_file(file)

    async def body():
        fs.mount("/", volume)
        fs.mount("/python", OpensLate())
        fs.open("/python/file", RDWR)
        lost = fs.open("/lost", RDWR)
        opening = fs.create_access_handle("/python/late", create=True)
        os.close(lost)  # the program's mistake: closing it fails
        with pytest.raises(aiofs.InvalidStateError):
            await fs.__aexit__(None, None, None)
        handle = await opening
        with pytest.raises(aiofs.InvalidStateError):
            await handle.get_size()

    run(body())


def test_exit_closes_handles_whose_opening_is_in_progress(run, volume):
    async def body():
        for i in range(50):
            async with FileSystem() as fs:
                fs.mount("/", volume)
                opening = fs.create_access_handle(f"/file{i}", create=True)
            handle = await opening
            await handle.close()
        assert volume._ops.lock_count("") == 0

    run(body())


def test_import_loads_no_heavy_module():
    def modules(program):
        program += "; import sys; print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        return set(done.stdout.split())

    brought = modules("import uvloop, aiofs") - modules("import uvloop")
    assert not brought & {"shutil", "tempfile", "inspect", "secrets", "ctypes", "json"}


class AsksItself(DictVolume):
    """Its stat uses the FileSystem that it is mounted in."""

    def stat(self, path):
        if path == "asks":
            self.fs.close(self.fs.open("/other", os.O_RDWR | os.O_CREAT))
        return super().stat(path)


def test_volume_may_use_its_filesystem_while_another_is_mounted_on_it():
    volume = AsksItself()
    with FileSystem() as volume.fs:
        volume.fs.mount("/", volume)
        volume.fs.mount("/asks", DictVolume())
        volume.fs.unmount("/asks")
        failed(errno.ENOENT, volume.fs.unmount, "/asks")


@pytest.mark.parametrize("kind", [MemoryVolume, DictVolume])
def test_truncate_refuses_a_length_that_is_none(kind):
    with kind() as volume, FileSystem() as fs:
        fs.mount("/", volume)
        write_file(volume, "file", b"content")
        with pytest.raises(TypeError):
            fs.truncate("/file", "3")
        with pytest.raises(ValueError):
            fs.truncate("/file", 2**63)
        assert fs.stat("/file").st_size == 7
