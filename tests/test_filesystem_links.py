"""FileSystem's calls on modes, times, links and listings, beside those of `os`."""

import errno
import os
import stat
import time

import pytest
from support import failed, mounted
from volumes.dict_volume import DictVolume

from aiofs import FileSystem, HostVolume, MemoryVolume, PrivateVolume


@pytest.fixture
def place(tmp_path):
    place = tmp_path / "place"
    (place / "sub/deep").mkdir(parents=True)
    (place / "file").write_bytes(b"file")
    return place


@pytest.fixture(params=[HostVolume, PrivateVolume])
def volume(request, place):
    with request.param(place) as volume:
        yield volume


@pytest.fixture
def host(place):
    with HostVolume(place) as volume, mounted(volume) as fs:
        yield fs


# ---- scandir


def test_scandir_gives_entries_as_os_does(host, place):
    os.symlink("file", place / "link")
    os.symlink("sub", place / "to-sub")
    os.symlink("missing", place / "nowhere")
    os.symlink("..", place / "out")
    os.mkfifo(place / "fifo")
    with host.scandir("/") as found:
        mine = {entry.name: entry for entry in found}
    with os.scandir(place) as found:
        theirs = {entry.name: entry for entry in found if entry.name != ".aiofs"}
    assert mine.keys() == theirs.keys()
    for name in mine.keys() - {"out"}:
        entry, other = mine[name], theirs[name]
        for follow in (True, False):
            assert entry.is_dir(follow_symlinks=follow) == other.is_dir(follow_symlinks=follow)
            assert entry.is_file(follow_symlinks=follow) == other.is_file(follow_symlinks=follow)
        assert entry.is_symlink() == other.is_symlink()
        assert entry.inode() == other.inode()
        assert (
            entry.stat(follow_symlinks=False).st_mode == other.stat(follow_symlinks=False).st_mode
        )
        assert not entry.is_junction()
        assert os.fspath(entry) == entry.path == f"/{name}"
    assert not mine["out"].is_dir() and mine["out"].is_symlink()
    failed(errno.ENOENT, mine["nowhere"].stat)


def test_scandir_is_an_iterator_and_a_context_manager(fs):
    found = fs.scandir("sub")
    entry = next(found)
    assert (entry.name, entry.path, repr(entry)) == ("deep", "sub/deep", "<DirEntry 'deep'>")
    with pytest.raises(StopIteration):
        next(found)
    with fs.scandir() as found:
        found.close()
        assert list(found) == []
    failed(errno.ENOENT, fs.scandir, "/missing")
    failed(errno.ENOTDIR, fs.scandir, "/file")


def test_scandir_shows_mounts(fs):
    with MemoryVolume() as memory:
        fs.mount("/sub/mounted", memory)
        fs.mount("/above/mounted", memory)
        assert {entry.name: entry.is_dir() for entry in fs.scandir("/sub")} == {
            "deep": True,
            "mounted": True,
        }
        assert [(entry.name, entry.is_dir()) for entry in fs.scandir("/above")] == [
            ("mounted", True)
        ]
        fs.unmount("/sub/mounted")
        fs.unmount("/above/mounted")


# ---- chmod, utime, statvfs


def test_chmod_sets_the_mode(fs, place):
    for path in ("/file", "/sub"):
        fs.chmod(path, 0o600)
        assert stat.S_IMODE(os.stat(f"{place}{path}").st_mode) == 0o600
        fs.chmod(path, 0o755)
    fs.chmod("/file", 0)
    assert stat.S_IMODE(os.stat(place / "file").st_mode) == 0
    failed(errno.ENOENT, fs.chmod, "/missing", 0)
    failed(errno.ENOTDIR, fs.chmod, "/file/below", 0)
    with pytest.raises(TypeError):
        fs.chmod("/file", "rw")


def test_utime_sets_both_times(fs, place):
    fs.utime("/file", ns=(1_000_000_001, 2_000_000_002))
    found = os.stat(place / "file")
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_000_000_001, 2_000_000_002)
    for times in [(1, 2), (1.5, 2.25), (-1.5, -3)]:
        os.utime(place / "file", times)
        expected = os.stat(place / "file")
        fs.utime("/file", (7, 7))
        fs.utime("/file", times)
        found = fs.stat("/file")
        assert (found.st_atime_ns, found.st_mtime_ns) == (
            expected.st_atime_ns,
            expected.st_mtime_ns,
        )
    before = time.time() - 1
    fs.utime("/file")
    assert os.stat(place / "file").st_mtime >= before
    fs.utime("/sub", ns=(5, 6))
    assert fs.stat("/sub").st_mtime_ns == 6
    failed(errno.ENOENT, fs.utime, "/missing")
    with pytest.raises(ValueError):
        fs.utime("/file", (1, 2), ns=(1, 2))
    for bad in [5, [1, 2], (1,), (1, 2, 3), ("a", "b")]:
        with pytest.raises(TypeError):
            fs.utime("/file", bad)
    with pytest.raises(TypeError):
        fs.utime("/file", ns=(1.0, 2.0))


def test_utime_changes_a_link_itself_if_asked(host, place):
    os.symlink("file", place / "link")
    host.utime("/link", ns=(1, 1))
    host.utime("/link", ns=(2, 2), follow_symlinks=False)
    assert os.stat(place / "file").st_mtime_ns == 1
    assert os.lstat(place / "link").st_mtime_ns == 2
    assert host.stat("/link", follow_symlinks=False).st_mtime_ns == 2
    assert host.stat("/link").st_mtime_ns == 1


def test_statvfs_is_that_of_the_filesystem_below(fs, place):
    for path in ("/", "/file", "/sub"):
        mine, theirs = fs.statvfs(path), os.statvfs(f"{place}{path}")
        assert (mine.f_bsize, mine.f_blocks, mine.f_namemax) == (
            theirs.f_bsize,
            theirs.f_blocks,
            theirs.f_namemax,
        )
    failed(errno.ENOENT, fs.statvfs, "/missing")
    failed(errno.ENOTDIR, fs.statvfs, "/file/")


# ---- links


def test_symlink_and_readlink(host, place):
    host.symlink("../file", "/sub/link")
    assert os.readlink(place / "sub/link") == host.readlink("/sub/link") == "../file"
    fd = host.open("/sub/link", os.O_RDONLY)
    assert os.read(fd, 9) == b"file"
    host.close(fd)
    host.symlink("/etc/passwd", "/out")
    assert host.readlink("/out") == "/etc/passwd"
    failed(errno.EXDEV, host.open, "/out", os.O_RDONLY)
    error = failed(errno.EEXIST, host.symlink, "text", "/file")
    assert (error.filename, error.filename2) == ("text", "/file")
    failed(errno.EEXIST, host.symlink, "text", "/")
    failed(errno.EEXIST, host.symlink, "text", "/sub/link")
    failed(errno.ENOENT, host.symlink, "text", "/missing/link")
    failed(errno.ENOENT, host.symlink, "", "/empty")
    for path in ("/file", "/sub", "/"):
        failed(errno.EINVAL, host.readlink, path)
    failed(errno.ENOENT, host.readlink, "/missing")
    host.unlink("/sub/link")
    assert (place / "file").exists()
    for bad in (b"bytes", 5):
        with pytest.raises(TypeError):
            host.symlink(bad, "/new")


def test_link_gives_a_file_a_second_name(fs, place):
    fs.link("/file", "/sub/second")
    assert os.path.samefile(place / "file", place / "sub/second")
    assert fs.stat("/file").st_nlink == 2
    error = failed(errno.EEXIST, fs.link, "/file", "/sub/second")
    assert (error.filename, error.filename2) == ("/file", "/sub/second")
    failed(errno.ENOENT, fs.link, "/missing", "/new")
    failed(errno.ENOENT, fs.link, "/file", "/missing/new")
    failed(errno.EPERM, fs.link, "/sub", "/new")
    failed(errno.EPERM, fs.link, "/", "/new")
    fs.unlink("/file")
    assert (place / "sub/second").read_bytes() == b"file"


def test_path_that_ends_in_a_slash_is_a_directory(host, place):
    host.symlink("sub", "/link")
    failed(errno.ENOENT, host.symlink, "text", "/new/")
    failed(errno.EEXIST, host.symlink, "text", "/sub/")
    failed(errno.ENOTDIR, host.symlink, "text", "/file/new/")
    failed(errno.ENOENT, host.link, "/file", "/new/")
    failed(errno.EEXIST, host.link, "/file", "/sub/")
    failed(errno.EEXIST, host.mkdir, "/file/")
    failed(errno.ENOTDIR, host.unlink, "/link/")
    failed(errno.ENOTDIR, host.rmdir, "/link/")
    failed(errno.EINVAL, host.readlink, "/link/")
    assert stat.S_ISDIR(host.stat("/link/", follow_symlinks=False).st_mode)
    assert (place / "link").is_symlink()


def test_link_and_rename_across_mounts_are_refused(host, place, tmp_path):
    with MemoryVolume() as memory:
        host.mount("/memory", memory)
        error = failed(errno.EXDEV, host.link, "/file", "/memory/file")
        assert (error.filename, error.filename2) == ("/file", "/memory/file")
        failed(errno.EXDEV, host.rename, "/file", "/memory/file")
        failed(errno.EEXIST, host.link, "/file", "/memory")
        failed(errno.EEXIST, host.symlink, "text", "/memory")
        host.unmount("/memory")


def test_private_volumes_have_no_symbolic_links(place):
    os.symlink("file", place / "link")
    with PrivateVolume(place) as volume, FileSystem() as fs:
        fs.mount("/", volume)
        failed(errno.EOPNOTSUPP, fs.symlink, "file", "/new")
        assert not os.path.lexists(place / "new")
        assert fs.readlink("/link") == "file"
        failed(errno.ELOOP, fs.chmod, "/link", 0)
        failed(errno.ELOOP, fs.utime, "/link")
        failed(errno.ELOOP, fs.statvfs, "/link")


def test_mount_over_a_link_that_leads_nowhere_is_refused(host, place):
    os.symlink("missing", place / "nowhere")
    os.symlink("..", place / "out")
    with MemoryVolume() as memory:
        failed(errno.EEXIST, host.mount, "/nowhere", memory)
        failed(errno.EEXIST, host.mount, "/out", memory)


# ---- volumes without these calls, and paths in no volume


def test_volume_without_these_calls_answers_not_supported():
    with DictVolume() as volume, FileSystem() as fs:
        fs.mount("/", volume)
        fs.mkdir("/directory")
        fs.close(fs.open("/file", os.O_RDWR | os.O_CREAT))
        assert sorted((entry.name, entry.is_dir()) for entry in fs.scandir("/")) == [
            ("directory", True),
            ("file", False),
        ]
        calls = [
            (fs.chmod, "/file", 0o600),
            (fs.utime, "/file"),
            (fs.symlink, "file", "/link"),
            (fs.readlink, "/file"),
            (fs.link, "/file", "/link"),
            (fs.statvfs, "/file"),
        ]
        for call, *arguments in calls:
            error = failed(errno.EOPNOTSUPP, call, *arguments)
            assert error.filename


def test_volume_of_one_s_own_may_have_them():
    class Linked(DictVolume):
        def __init__(self):
            super().__init__()
            self.calls = []

        def chmod(self, path, mode):
            self.calls.append(("chmod", path, mode))

        def utime(self, path, ns):
            self.calls.append(("utime", path, ns))

        def symlink(self, text, path):
            self.calls.append(("symlink", text, path))

        def readlink(self, path):
            return f"text of {path}"

        def link(self, source, target):
            self.calls.append(("link", source, target))

        def statvfs(self, path):
            return os.statvfs("/")

    with Linked() as volume, FileSystem() as fs:
        fs.mount("/at", volume)
        fs.chmod("/at/file", 0o600)
        fs.utime("/at/file", ns=(1, 2))
        fs.symlink("text", "/at/link")
        fs.link("/at/file", "/at/second")
        assert volume.calls == [
            ("chmod", "file", 0o600),
            ("utime", "file", (1, 2)),
            ("symlink", "text", "link"),
            ("link", "file", "second"),
        ]
        assert fs.readlink("/at/link") == "text of link"
        assert fs.statvfs("/at").f_bsize == os.statvfs("/").f_bsize


def test_directory_above_a_mount_point_belongs_to_no_volume():
    with MemoryVolume() as memory, FileSystem() as fs:
        fs.mount("/above/at", memory)
        failed(errno.EROFS, fs.chmod, "/above", 0)
        failed(errno.EROFS, fs.utime, "/above")
        failed(errno.EINVAL, fs.readlink, "/above")
        failed(errno.EEXIST, fs.symlink, "text", "/above")
        failed(errno.ENOENT, fs.chmod, "/elsewhere", 0)
        assert [entry.name for entry in fs.scandir("/")] == ["above"]


# ---- paths that end in '/', beside those of os


CALLS = {
    "create": lambda calls, path: calls.close(calls.open(path, os.O_RDWR | os.O_CREAT)),
    "create exclusively": lambda calls, path: calls.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL),
    "open no link": lambda calls, path: calls.open(path, os.O_RDWR | os.O_NOFOLLOW),
    "lstat": lambda calls, path: bool(calls.stat(path, follow_symlinks=False)),
    "rmdir": lambda calls, path: calls.rmdir(path),
    "unlink": lambda calls, path: calls.unlink(path),
    "truncate": lambda calls, path: calls.truncate(path, 0),
    "chmod": lambda calls, path: calls.chmod(path, 0o700),
    "utime": lambda calls, path: calls.utime(path, (1, 2), follow_symlinks=False),
    "readlink": lambda calls, path: calls.readlink(path),
    "rename": lambda calls, path: calls.rename(path, f"{path.rstrip('/.')}-renamed"),
    "rename link": lambda calls, path: calls.rename(calls.link_to_directory, path),
    "link": lambda calls, path: calls.link(path, f"{path.rstrip('/.')}-2", follow_symlinks=False),
}
NAMES = ["file", "directory", "to-file", "to-directory", "nowhere", "circle", "missing", "no/such"]


class Calls:
    """The calls of os, or those of a FileSystem."""

    def __init__(self, functions, root):
        self._functions = functions
        self.link_to_directory = f"{root}/to-directory"

    def link(self, source, target, **named):
        return self._functions.link(source, target, **(named if self._functions is os else {}))

    def __getattr__(self, name):
        return getattr(self._functions, name)


def entries_for_paths(directory):
    directory.mkdir()
    (directory / "file").write_bytes(b"data")
    (directory / "directory").mkdir()
    (directory / "to-file").symlink_to("file")
    (directory / "to-directory").symlink_to("directory")
    (directory / "nowhere").symlink_to("missing")
    (directory / "circle").symlink_to("circle")
    return directory


def outcome(call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("call", CALLS)
def test_path_that_ends_in_a_slash_does_what_it_does_in_os(tmp_path, call, name):
    here = entries_for_paths(tmp_path / "here")
    there = entries_for_paths(tmp_path / "there")
    with HostVolume(there) as volume, FileSystem() as fs:
        fs.mount("/", volume)
        wanted = outcome(CALLS[call], Calls(os, here), f"{here}/{name}/")
        assert outcome(CALLS[call], Calls(fs, ""), f"/{name}/") == wanted
        names = [entry for entry in os.listdir(there) if entry != ".aiofs"]
        assert sorted(names) == sorted(os.listdir(here))


def test_path_that_ends_in_a_dot_is_a_directory_that_is_not_removed(tmp_path):
    there = entries_for_paths(tmp_path / "there")
    with HostVolume(there) as volume, FileSystem() as fs:
        fs.mount("/", volume)
        for name in ("file", "to-file"):
            failed(errno.ENOTDIR, fs.unlink, f"/{name}/.")
            failed(errno.ENOTDIR, fs.truncate, f"/{name}/.", 0)
            failed(errno.ENOTDIR, fs.open, f"/{name}/.", os.O_RDWR)
        failed(errno.EISDIR, fs.open, "/missing/.", os.O_RDWR | os.O_CREAT)
        failed(errno.EINVAL, fs.rmdir, "/directory/.")
        assert sorted(set(os.listdir(there)) - {".aiofs"}) == sorted(
            os.listdir(entries_for_paths(tmp_path / "here"))
        )
