"""FileSystem and volumes: a message names the path as the caller wrote it, and the reason."""

import copy
import errno
import gc
import os
import pickle
import warnings

import pytest
from support import failed

from aiofs import FileSystem, MemoryVolume, NotFoundError, PrivateVolume

RDWR = os.O_RDWR | os.O_CREAT


@pytest.fixture
def fs(tmp_path):
    with PrivateVolume(tmp_path / "volume") as volume, MemoryVolume() as memory:
        with FileSystem() as fs:
            fs.mount("/", volume)
            fs.mount("/a/memory", memory)
            yield fs


def said(number, path, call, *arguments, **named):
    error = failed(number, call, *arguments, **named)
    assert error.filename == path
    return str(error)


# ---- descriptors


@pytest.mark.parametrize("fd", [0, 987654])
def test_close_error_names_a_descriptor_opened_outside_the_filesystem(fs, fd):
    assert f"descriptor {fd} is not of this FileSystem" in said(errno.EBADF, fd, fs.close, fd)


def test_close_error_says_that_os_closed_the_descriptor(fs):
    fd = fs.open("/file", RDWR)
    os.close(fd)
    assert "os.close" in said(errno.EBADF, "/file", fs.close, fd)


def test_close_of_no_descriptor_is_a_type_error(fs):
    with pytest.raises(TypeError, match="str"):
        fs.close("5")


@pytest.mark.parametrize(
    "mode,flags", [("r", "os.O_RDONLY"), ("rb", "os.O_RDONLY"), ("w", "os.O_TRUNC")]
)
def test_open_with_a_mode_of_the_builtin_names_the_flags(fs, mode, flags):
    with pytest.raises(TypeError, match=rf"{flags}.* for '{mode}'"):
        fs.open("/file", mode)


def test_open_with_no_flags_at_all_is_a_type_error(fs):
    with pytest.raises(TypeError, match="None"):
        fs.open("/file", None)


# ---- mounts


def test_unmount_of_a_missing_path_is_enoent(fs):
    said(errno.ENOENT, "/a/../missing", fs.unmount, "/a/../missing")


def test_unmount_error_says_that_the_path_is_no_mount_point(fs):
    fs.mkdir("directory")
    assert "nothing is mounted there" in said(errno.EINVAL, "directory", fs.unmount, "directory")


def test_unmount_error_says_that_files_are_open(fs):
    fd = fs.open("/a/memory/file", RDWR)
    assert "1 open in it" in said(errno.EBUSY, "/a/memory", fs.unmount, "/a/memory")
    fs.close(fd)


def test_unmount_error_names_a_mount_below(fs):
    with MemoryVolume() as inner:
        fs.mount("/a/memory/inner", inner)
        assert "'/a/memory/inner'" in said(errno.EBUSY, "/a/memory", fs.unmount, "/a/memory")


@pytest.mark.parametrize("call", ["rmdir", "unlink"])
def test_remove_error_names_a_mount_point(fs, call):
    assert "it is a mount point" in said(errno.EBUSY, "a/memory/", getattr(fs, call), "a/memory/")
    assert "'/a/memory' is mounted below" in said(errno.EBUSY, "/a", getattr(fs, call), "/a")


def test_mount_error_names_the_existing_entry(fs):
    fs.mkdir("/directory")
    with MemoryVolume() as more:
        assert "an entry of that name" in said(
            errno.EEXIST, "/directory", fs.mount, "/directory", more
        )
        assert "mounted there already" in said(
            errno.EEXIST, "/a/memory", fs.mount, "/a/memory", more
        )


# ---- paths


def test_error_for_a_missing_file_mentions_create(fs):
    with pytest.raises(NotFoundError, match=r"create=True.*'/a/memory/file'"):
        fs.create_sync_access_handle("/a/memory/file")
    fs.create_sync_access_handle("/a/memory/file", create=True).close()


def test_error_for_a_missing_directory_does_not_mention_create(fs):
    with pytest.raises(NotFoundError) as caught:
        fs.create_sync_access_handle("/a/memory/missing/file")
    assert "create=True" not in str(caught.value)
    assert caught.value.filename == "/a/memory/missing/file"


async def test_awaited_error_for_a_missing_file_mentions_create(fs):
    with pytest.raises(NotFoundError, match=r"create=True.*'/file'") as caught:
        await fs.create_access_handle("/file")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_error_names_a_nul_in_a_path(fs):
    with pytest.raises(ValueError, match=r"'/a\\x00b'"):
        fs.stat("/a\0b")


# ---- volumes


def test_volume_of_no_directory_is_refused():
    with pytest.raises(ValueError, match="''"):
        PrivateVolume("")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b"])
def test_error_names_a_bad_name_of_a_memory_volume(name):
    with pytest.raises(ValueError) as caught:
        MemoryVolume(name)
    assert repr(name) in str(caught.value)


def test_error_says_that_the_volume_is_closed(tmp_path):
    volume = PrivateVolume(tmp_path / "volume")
    volume.close()
    with FileSystem() as fs:
        message = said(errno.EBADF, str(tmp_path / "volume"), fs.mount, "/", volume)
    assert "the volume is closed" in message


# ---- a FileSystem as an object


def test_dropped_filesystem_with_open_descriptors_is_a_resource_warning(tmp_path):
    with PrivateVolume(tmp_path / "volume") as volume:
        fs = FileSystem()
        fs.mount("/", volume)
        fd = fs.open("/file", RDWR)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del fs
            gc.collect()
        (warning,) = caught
        assert warning.category is ResourceWarning and str(fd) in str(warning.message)
        with FileSystem() as other:  # the lock is free, the warning has the FileSystem
            other.mount("/", volume)
            other.close(other.open("/file", RDWR))


def test_dropped_filesystem_without_open_descriptors_gives_no_warning(tmp_path):
    with PrivateVolume(tmp_path / "volume") as volume:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fs = FileSystem()
            fs.mount("/", volume)
            fs.close(fs.open("/file", RDWR))
            del fs
            gc.collect()
        assert caught == []


def test_repr_of_a_filesystem_shows_mounts_and_descriptors(fs, tmp_path):
    fd = fs.open("/file", RDWR)
    shown = repr(fs)
    assert f"'/': PrivateVolume({str(tmp_path / 'volume')!r})" in shown
    assert "'/a/memory': MemoryVolume()" in shown and f"[{fd}]" in shown
    fs.close(fd)


@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copying_a_filesystem_is_a_type_error_with_advice(fs, take):
    with pytest.raises(TypeError, match="FileSystem cannot be copied or pickled"):
        take(fs)
