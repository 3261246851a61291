"""HostVolume: somebody's directory, with links, FIFOs and names of any bytes, left as it was."""

import errno
import os
import pickle
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from coroutines import failure
from lock_holder_process import holding
from support import eventually, failed, python

import aiofs
from aiofs import FileSystem, HostVolume, PrivateVolume, _core


@pytest.fixture
def place(tmp_path):
    return make_place(tmp_path)


def make_place(tmp_path):
    """A directory as users have them, and something beside it."""
    place = tmp_path / "home"
    (place / "sub").mkdir(parents=True)
    (place / "file").write_bytes(b"mine")
    (place / "sub/deep").write_bytes(b"deep")
    (tmp_path / "secret").write_bytes(b"secret")
    (place / "to-file").symlink_to("file")
    (place / "sub/up").symlink_to("../file")
    (place / "to-sub").symlink_to("sub")
    (place / "absolute").symlink_to(place / "sub/deep")
    (place / "out").symlink_to("../secret")
    (place / "out-absolute").symlink_to(tmp_path / "secret")
    (place / "out-directory").symlink_to("..")
    (place / "nowhere").symlink_to("missing")
    (place / "circle").symlink_to("circle")
    (place / "itself").symlink_to(".")
    os.mkfifo(place / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place / "socket"))
    return place


@pytest.fixture
def volume(place):
    with HostVolume(place) as volume:
        yield volume


def state(place):
    """Names, kinds, modes, owners, sizes, times and bytes of everything below."""
    found = {}
    for folder, directories, files in os.walk(os.fsencode(place)):
        for name in [b".", *directories, *files]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            kept = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)
            found[path] = (*kept, status.st_size if stat.S_ISREG(status.st_mode) else 0)
    return found


async def names(directory):
    return sorted([name async for name in directory.keys()])


# ---- what is left in the directory


async def look_and_change(volume):
    """All that locks nothing that lasts."""
    root = volume.root
    await names(root)
    assert await (await (await root.get_file_handle("to-file")).get_file()).read() == b"mine"
    made = await root.get_file_handle("made", create=True)
    directory = await root.get_directory_handle("directory", create=True)
    await made.move(directory, "moved")
    await directory.move("directory2")
    await root.remove_entry("directory2", recursive=True)
    await (await root.get_file_handle("sub2", create=True)).remove()
    await volume.estimate()


async def test_nothing_is_left_where_nothing_was_locked(place, volume):
    before = state(place)
    await look_and_change(volume)
    after = state(place)
    assert after.keys() == before.keys()
    root = os.fsencode(place) + b"/."
    assert {path for path in before if before[path] != after[path]} <= {root}


async def test_first_lock_leaves_one_directory_and_the_files_as_they_were(place, volume):
    (place / "file").chmod(0o640)
    before = state(place)
    file = await volume.root.get_file_handle("file")
    async with file.create_access_handle(mode="in-place") as handle:
        assert await handle.read(bytearray(9)) == 4
    after = state(place)
    own = os.fsencode(place / ".aiofs")
    new = {path for path in after.keys() - before.keys() if not path.startswith(own + b"/")}
    assert new == {own}
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {os.fsencode(place) + b"/."}


async def test_handle_that_is_asked_for_no_mode_is_shared_and_replaces_the_file(place, volume):
    (place / "file").chmod(0o640)
    os.link(place / "file", place / "second")
    file = await volume.root.get_file_handle("to-file")
    async with file.create_access_handle() as handle, file.create_access_handle() as other:
        assert handle.mode == other.mode == "shared"
        await failure(errno.EBUSY, file.create_access_handle(mode="in-place"))
        await handle.write(b"yours", at=0)
        assert (place / "file").read_bytes() == b"mine"
    assert (place / "file").read_bytes() == b"yours"
    assert (place / "second").read_bytes() == b"mine"
    assert (place / "to-file").is_symlink()
    assert (place / "file").stat().st_mode & 0o777 == 0o640
    assert os.listdir(place / ".aiofs/swap") == []


async def test_writable_stream_is_the_first_to_lock_in_a_directory(place, volume):
    file = await volume.root.get_file_handle("file")
    assert not (place / ".aiofs").exists()
    async with file.create_writable() as stream:
        await stream.write(b"yours")
    assert (place / "file").read_bytes() == b"yours"


def test_stale_swap_file_is_removed_by_a_volume_that_is_older_than_the_swap_directory(
    place, volume
):
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys, aiofs\n"
            "volume = aiofs.HostVolume(sys.argv[1])\n"
            "handle = volume._ops.sync_access_handle('file', 'shared', False)\n"
            "handle.write(b'yours', at=0)\n"
            "os.kill(os.getpid(), 9)",
            str(place),
        ],
        check=False,
    )
    swap = place / ".aiofs/swap"
    stale = os.listdir(swap)
    assert len(stale) == 1
    with volume._ops.sync_access_handle("file", "shared", False):
        assert len(os.listdir(swap)) == 1
        assert os.listdir(swap) != stale
    assert os.listdir(swap) == []
    assert (place / "file").read_bytes() == b"mine"


@pytest.mark.parametrize("kept", [True, False])
async def test_swap_files_of_a_quota(place, kept):
    with HostVolume(place, quota=20) as volume:
        file = await volume.root.get_file_handle("file")
        async with file.create_access_handle() as handle:
            await failure(errno.EDQUOT, handle.write(b"x" * 17, at=0))
            assert await handle.write(b"x" * 16, at=0) == 16
            await handle.truncate(2)
            await handle.write(b"x" * 10, at=0)
            if not kept:
                await handle.abort()
        assert await volume.estimate() == (14 if kept else 8, 20)
        assert await volume.request_capacity(6 if kept else 12) == (6 if kept else 12)
        await failure(errno.EDQUOT, volume.request_capacity(1))


@pytest.mark.parametrize("durable", [True, False])
async def test_commit_syncs_if_the_volume_is_durable(place, faults, durable):
    with HostVolume(place, durable=durable) as volume:
        file = await volume.root.get_file_handle("file")
        before = faults.calls("fsync")
        async with file.create_access_handle() as handle:
            await handle.write(b"yours", at=0)
        assert (faults.calls("fsync") > before) == durable
        assert (place / "file").read_bytes() == b"yours"


async def test_read_only_volume_writes_nothing_and_refuses_every_change(place):
    before = state(place)
    with HostVolume(place, read_only=True) as volume, FileSystem() as fs:
        fs.mount("/", volume)
        root = volume.root
        file = await root.get_file_handle("to-file")
        assert await (await file.get_file()).text() == "mine"
        async with file.create_access_handle() as handle:
            assert handle.mode == "read-only"
            assert await handle.read(bytearray(9)) == 4
        changes = [
            lambda: root.get_file_handle("new", create=True),
            lambda: root.get_directory_handle("new", create=True),
            lambda: root.remove_entry("file"),
            lambda: root.remove_entry("sub", recursive=True),
            lambda: file.move("other"),
            *(
                lambda mode=mode: file.create_access_handle(mode=mode)
                for mode in ("in-place", "readwrite-unsafe", "exclusive", "shared")
            ),
            file.create_writable,
        ]
        for change in changes:
            error = await failure(errno.EROFS, change())
            assert isinstance(error, aiofs.NoModificationAllowedError)
        calls = [
            (fs.open, "/file", os.O_RDWR),
            (fs.open, "/file", os.O_RDONLY | os.O_TRUNC),
            (fs.unlink, "/file"),
            (fs.rename, "/file", "/other"),
            (fs.mkdir, "/new"),
            (fs.rmdir, "/sub"),
            (fs.truncate, "/file", 0),
            (fs.chmod, "/file", 0o600),
            (fs.utime, "/file"),
            (fs.symlink, "file", "/new"),
            (fs.link, "/file", "/new"),
        ]
        for call, *arguments in calls:
            failed(errno.EROFS, call, *arguments)
        assert await root.get_directory_handle("sub", create=True)
        assert await root.get_file_handle("file", create=True)
    assert state(place) == before


async def test_read_only_volume_meets_the_locks_of_other_processes(place):
    with HostVolume(place, read_only=True) as volume:
        file = await volume.root.get_file_handle("file")
        with HostVolume(place) as writable:
            locked = await (await writable.root.get_file_handle("file")).create_access_handle(
                mode="in-place"
            )
            await failure(errno.EBUSY, file.create_access_handle())
            await locked.close()
        with holding(place, "file") as process:
            assert process.answer == "held"
            await failure(errno.EBUSY, file.create_access_handle())
        async with file.create_access_handle() as handle:
            assert await handle.get_size() == 4


@pytest.mark.parametrize("private_first", [True, False])
async def test_one_directory_is_one_set_of_locks_for_host_and_private_volumes(place, private_first):
    kinds = [PrivateVolume, HostVolume]
    first, second = kinds if private_first else kinds[::-1]
    with first(place) as one, second(place) as other:
        file = await one.root.get_file_handle("file")
        async with file.create_access_handle(mode="in-place"):
            await failure(
                errno.EBUSY,
                (await other.root.get_file_handle("file")).create_access_handle(mode="in-place"),
            )


async def test_locks_hold_between_processes_whoever_creates_the_directory(place, volume):
    with holding(place, "file") as process:  # a private volume
        assert process.answer == "held"
        file = await volume.root.get_file_handle("to-file")
        await failure(errno.EBUSY, file.create_access_handle(mode="in-place"))
        await failure(errno.EBUSY, volume.root.remove_entry("file"))
    async with file.create_access_handle(mode="in-place"):
        with holding(place, "file") as process:
            assert process.answer == "EBUSY"


LOCKER = """
import sys, aiofs
for _ in sys.stdin:
    with aiofs.HostVolume(sys.argv[1]) as volume:
        answer = None
        while answer is None:
            try:
                handle = volume._ops.sync_access_handle("race", "in-place", False)
                answer = "locked"
            except aiofs.NotFoundError:
                answer = "not found"
            except aiofs.NoModificationAllowedError:
                pass  # the removal's own lock
        print(answer, flush=True)
        if answer == "locked":
            sys.stdin.readline()
            handle.close()
"""


def test_no_locked_file_is_removed_however_the_first_lock_and_a_removal_race(place, faults):
    """In each round there is no .aiofs: one process removes a file, another one locks it.

    The delay leaves time for a lock between the removal's check and its system call.
    """
    faults.delay("unlinkat", 0.1)
    command = [sys.executable, "-c", LOCKER, str(place)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as other:
        for _ in range(10):
            (place / "race").write_bytes(b"x")
            with HostVolume(place) as volume:
                other.stdin.write("go\n")
                removed = is_removed(volume)
                answer = other.stdout.readline().strip()
                assert answer == ("not found" if removed else "locked")
                if not removed:
                    assert (place / "race").exists()
                    other.stdin.write("close\n")
            eventually(lambda: not _core.volume_in_use(str(place)))
            shutil.rmtree(place / ".aiofs", ignore_errors=True)
        other.stdin.close()


def is_removed(volume):
    """Removes the file, unless the other process has locked it."""
    try:
        volume._ops.unlink("race")
    except aiofs.NoModificationAllowedError:
        return False
    return True


# ---- opening


def test_missing_directory_is_not_made(tmp_path):
    error = failed(errno.ENOENT, HostVolume, tmp_path / "missing")
    assert isinstance(error, aiofs.NotFoundError)
    failed(errno.ENOTDIR, HostVolume, __file__)
    assert not (tmp_path / "missing").exists()


def test_volume_inside_or_around_another_one_is_refused(place, volume):
    failed(errno.EBUSY, HostVolume, place / "sub")
    failed(errno.EBUSY, HostVolume, place.parent)


def test_volume_below_one_that_another_process_has_locked_in_is_refused(place):
    with holding(place, "file"):
        failed(errno.EBUSY, HostVolume, place / "sub")


async def test_handles_of_a_host_volume_pickle(place, volume):
    file = await volume.root.get_file_handle("file")
    copy = pickle.loads(pickle.dumps(file))
    assert copy == file
    copy._volume.close()
    with HostVolume(place, read_only=True, quota=9, durable=False) as one:
        copied = pickle.loads(pickle.dumps(one))
        assert repr(copied) == repr(one) == f"HostVolume({str(place)!r}, read_only=True)"
        assert copied.__reduce__() == one.__reduce__()
        assert (await copied.estimate())[1] == 9
        copied.close()


async def test_quota_counts_from_the_first_lock(place):
    with HostVolume(place, quota=20) as volume:
        assert await volume.estimate() == (8, 20)
        file = await volume.root.get_file_handle("file")
        async with file.create_access_handle(mode="in-place") as handle:
            await failure(errno.EDQUOT, handle.write(b"x" * 17))
            assert await handle.write(b"x" * 16) == 16
        with FileSystem() as fs:
            fs.mount("/", volume)
            failed(errno.EDQUOT, fs.truncate, "/file", 17)
            failed(errno.EDQUOT, fs.link, "/file", "/second")
            fs.truncate("/file", 4)
            fs.link("/file", "/second")
            assert await volume.estimate() == (12, 20)


def test_forked_child_locks_in_a_volume_where_nothing_was_locked(place):
    python(
        f"""
import os, aiofs
with aiofs.HostVolume({str(place)!r}) as volume:
    child = os.fork()
    if child == 0:
        volume._ops.sync_access_handle("file", "in-place", False).close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    handle = volume._ops.sync_access_handle("file", "in-place", False)
    handle.close()
"""
    )


def test_threads_that_lock_first_create_the_directory_once(place):
    with HostVolume(place) as volume:
        made, barrier = [], threading.Barrier(8)

        def lock(number):
            barrier.wait()
            made.append(volume._ops.sync_access_handle(f"new{number}", "in-place", True))

        threads = [threading.Thread(target=lock, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 8
        for handle in made:
            handle.close()


@pytest.mark.parametrize("call", ["mkdirat", "openat", "ftruncate", "pwritev2", "fcntl", "fstatat"])
def test_first_lock_that_fails_leaves_nothing_open_and_may_be_tried_again(place, faults, call):
    for nth in range(1, 8):
        shutil.rmtree(place / ".aiofs", ignore_errors=True)
        with HostVolume(place) as volume:
            for attempt in (
                lambda: volume._ops.sync_access_handle("file", "in-place", False).close(),
                lambda: volume._ops.unlink("sub/deep"),
                lambda: volume._ops.move("file", "moved"),
            ):
                faults.fail(call, errno.EDQUOT, nth)
                try:
                    attempt()
                except OSError as error:
                    assert error.errno == errno.EDQUOT
                faults.clear()
            (place / "sub/deep").write_bytes(b"deep")
            (place / "file").write_bytes(b"mine")
            volume._ops.sync_access_handle("file", "in-place", False).close()


# ---- symbolic links


async def test_links_inside_are_followed_and_lock_what_they_lead_to(place, volume):
    root = volume.root
    through = [
        root,
        await root.get_directory_handle("to-sub"),
        await root.get_directory_handle("itself"),
    ]
    links = [(through[0], "to-file"), (through[1], "up"), (through[2], "file")]
    async with (await root.get_file_handle("file")).create_access_handle(mode="in-place"):
        for directory, name in links:
            link = await directory.get_file_handle(name)
            assert await (await link.get_file()).read() == b"mine"
            await failure(errno.EBUSY, link.create_access_handle(mode="in-place"))
    for directory, name in links:
        link = await directory.get_file_handle(name)
        async with link.create_access_handle(mode="in-place"):
            file = await root.get_file_handle("file")
            await failure(errno.EBUSY, file.create_access_handle(mode="in-place"))


async def test_absolute_link_into_the_volume_is_inside(place, volume):
    link = await volume.root.get_file_handle("absolute")
    async with link.create_access_handle(mode="in-place") as handle:
        await handle.write(b"DEEP")
        file = await (await volume.root.get_directory_handle("sub")).get_file_handle("deep")
        await failure(errno.EBUSY, file.create_access_handle(mode="in-place"))
    assert (place / "sub/deep").read_bytes() == b"DEEP"
    (place / "root").symlink_to(place)
    assert "file" in await names(await volume.root.get_directory_handle("root"))


@pytest.mark.parametrize("name", ["out", "out-absolute"])
async def test_links_that_lead_out_are_refused(place, volume, name):
    root = volume.root
    for create in (False, True):
        await failure(errno.EXDEV, root.get_file_handle(name, create=create))
    await failure(errno.EXDEV, root.get_directory_handle("out-directory"))
    await failure(errno.EXDEV, root.remove_entry(name))
    assert name not in await names(root)
    with FileSystem() as fs:
        fs.mount("/", volume)
        failed(errno.EXDEV, fs.open, f"/{name}", os.O_RDONLY)
        failed(errno.EXDEV, fs.open, f"/{name}", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        failed(errno.EXDEV, fs.truncate, f"/{name}", 0)
        failed(errno.EXDEV, fs.chmod, f"/{name}", 0)
        failed(errno.EXDEV, fs.utime, f"/{name}")
        failed(errno.EXDEV, fs.stat, "/out-directory/secret")
        assert name in fs.listdir("/")
    assert (place / "../secret").read_bytes() == b"secret"


async def test_link_to_nothing_is_not_found_and_creates_what_it_leads_to(place, volume):
    root = volume.root
    with pytest.raises(aiofs.NotFoundError):
        await root.get_file_handle("nowhere")
    await failure(errno.ELOOP, root.get_file_handle("circle"))
    await root.get_file_handle("nowhere", create=True)
    assert (place / "missing").read_bytes() == b""
    assert (place / "nowhere").is_symlink()


async def test_removing_a_link_keeps_what_it_leads_to(place, volume):
    root = volume.root
    await root.remove_entry("to-file")
    await root.remove_entry("to-sub", recursive=True)
    assert (place / "file").read_bytes() == b"mine"
    assert (place / "sub/deep").exists()
    assert not os.path.lexists(place / "to-file")
    assert not os.path.lexists(place / "to-sub")


async def test_directory_handle_of_a_link_removes_the_link_only(place, volume):
    link = await volume.root.get_directory_handle("to-sub")
    assert await names(link) == ["deep", "up"]
    await link.remove()
    assert not os.path.lexists(place / "to-sub")
    assert (place / "sub/deep").exists()


async def test_move_replaces_a_link_to_a_file_and_no_other_link(place, volume):
    file = await volume.root.get_file_handle("new", create=True)
    error = await failure(errno.EEXIST, file.move("to-sub"))
    assert isinstance(error, aiofs.InvalidModificationError)
    for name in ("out", "out-directory", "nowhere", "circle"):
        with pytest.raises(aiofs.TypeMismatchError):
            await file.move(name)
        assert (place / name).is_symlink()
    await file.move("to-file")
    assert not (place / "to-file").is_symlink()
    assert (place / "file").read_bytes() == b"mine"


async def test_link_whose_file_is_locked_is_neither_removed_nor_moved(place, volume):
    root = volume.root
    link = await root.get_file_handle("to-file")
    other = await root.get_file_handle("other", create=True)
    async with link.create_access_handle(mode="in-place"):
        await failure(errno.EBUSY, root.remove_entry("to-file"))
        await failure(errno.EBUSY, link.remove())
        await failure(errno.EBUSY, link.move("moved"))
        await failure(errno.EBUSY, other.move("to-file"))
    await link.move("moved")
    assert os.readlink(place / "moved") == "file"


# ---- FIFOs, sockets, names


@pytest.mark.parametrize("name", ["fifo", "socket"])
async def test_what_is_neither_file_nor_directory_is_no_entry_for_handles(place, volume, name):
    root = volume.root
    assert name not in await names(root)
    file = aiofs.FileHandle._of(volume, name)
    directory = aiofs.DirectoryHandle._of(volume, name)
    other = await root.get_file_handle("file")
    asked = [
        lambda: root.get_file_handle(name),
        lambda: root.get_file_handle(name, create=True),
        lambda: root.get_directory_handle(name),
        lambda: root.get_directory_handle(name, create=True),
        lambda: root.remove_entry(name),
        lambda: file.get_file(),
        lambda: file.remove(),
        lambda: file.move("else"),
        lambda: file.create_access_handle(mode="in-place"),
        lambda: file.create_access_handle(mode="read-only"),
        lambda: file.create_access_handle(mode="shared"),
        lambda: file.create_writable(),
        lambda: directory.remove(recursive=True),
        lambda: directory.move("else"),
        lambda: other.move(name),
    ]
    for ask in asked:
        with pytest.raises(aiofs.TypeMismatchError) as error:
            await ask()
        assert error.value.name == "TypeMismatchError"
        assert error.value.errno in (errno.EISDIR, errno.ENOTDIR)
        assert error.value.filename.startswith(str(place))
    with pytest.raises(aiofs.TypeMismatchError):
        file.create_sync_access_handle(mode="in-place")
    assert (place / name).is_fifo() or (place / name).is_socket()


async def test_fifo_in_the_place_of_a_file_ends_its_snapshot_and_its_commit(place, volume):
    handle = await volume.root.get_file_handle("file")
    file = await handle.get_file()
    async with handle.create_access_handle(mode="in-place"):
        pass
    writable = await handle.create_writable()
    os.replace(place / "fifo", place / "file")
    await failure(errno.ESTALE, file.read())
    error = await failure(errno.EISDIR, writable.close())
    assert isinstance(error, aiofs.TypeMismatchError)
    assert (place / "file").is_fifo()


@pytest.mark.parametrize("name", ["fifo", "socket"])
def test_filesystem_shows_what_it_does_not_open(place, volume, name):
    with FileSystem() as fs:
        fs.mount("/", volume)
        assert name in fs.listdir("/")
        assert not stat.S_ISREG(fs.stat(f"/{name}").st_mode)
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT):
            failed(errno.EOPNOTSUPP, fs.open, f"/{name}", flags)
        failed(errno.EEXIST, fs.open, f"/{name}", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        failed(errno.EINVAL, fs.truncate, f"/{name}", 0)
        assert not (place / ".aiofs").exists()
        fs.rename(f"/{name}", "/renamed")
        fs.unlink("/renamed")
        assert not (place / name).exists()


def test_refused_open_does_not_wake_the_other_end_of_a_fifo(place, volume):
    opened = []
    thread = threading.Thread(
        target=lambda: opened.append(os.open(place / "fifo", os.O_WRONLY)), daemon=True
    )
    thread.start()
    with FileSystem() as fs:
        fs.mount("/", volume)
        for _ in range(100):
            failed(errno.EOPNOTSUPP, fs.open, "/fifo", os.O_RDONLY)
    assert opened == []
    reader = os.open(place / "fifo", os.O_RDONLY)
    thread.join()
    os.close(reader)
    os.close(opened[0])


async def test_directory_with_a_fifo_in_it_is_removed_recursively(place, volume):
    os.rename(place / "fifo", place / "sub/fifo")
    await failure(errno.ENOTEMPTY, volume.root.remove_entry("sub"))
    await volume.root.remove_entry("sub", recursive=True)
    assert not (place / "sub").exists()


async def test_names_that_are_not_utf8_are_entries(place, volume):
    os.makedirs(os.fsencode(place) + b"/\xff\xfe")
    with open(os.fsencode(place) + b"/\xff\xfe/caf\xe9", "wb") as file:
        file.write(b"bytes")
    directory = await volume.root.get_directory_handle("\udcff\udcfe")
    assert await names(directory) == ["caf\udce9"]
    file = await directory.get_file_handle("caf\udce9")
    assert await (await file.get_file()).read() == b"bytes"
    async with file.create_access_handle(mode="in-place") as handle:
        await handle.write(b"BYTES")
    await file.move("\udce8")
    assert os.listdir(os.fsencode(place) + b"/\xff\xfe") == [b"\xe8"]
    assert len(await file.get_unique_id()) == 36
    with FileSystem() as fs:
        fs.mount("/", volume)
        assert fs.listdir("/\udcff\udcfe") == ["\udce8"]
        fs.symlink("\udce8", "/\udcff\udcfe/link")
        assert fs.readlink("/\udcff\udcfe/link") == "\udce8"
    await directory.remove(recursive=True)


# ---- aiofs's own directory


async def test_own_directory_is_neither_seen_nor_named(place, volume):
    root = volume.root
    async with (await root.get_file_handle("file")).create_access_handle(mode="in-place"):
        pass
    assert (place / ".aiofs/locks").is_dir()
    (place / "sneaky").symlink_to(".aiofs/volume")
    (place / "sub/.aiofs").write_bytes(b"the user's own")
    itself = await root.get_directory_handle("itself")
    for directory in (root, itself):
        assert ".aiofs" not in await names(directory)
        asked = [
            directory.get_file_handle(".aiofs"),
            directory.get_file_handle(".aiofs", create=True),
            directory.get_directory_handle(".aiofs"),
            directory.get_directory_handle(".aiofs", create=True),
            directory.remove_entry(".aiofs", recursive=True),
            directory.get_file_handle("sneaky"),
        ]
        for asking in asked:
            with pytest.raises(aiofs.NotFoundError):
                await asking
    file = await root.get_file_handle("file")
    with pytest.raises(aiofs.NotFoundError):
        await file.move(".aiofs")
    with FileSystem() as fs:
        fs.mount("/", volume)
        for path in ("/", "/itself", "/sub/.."):
            assert ".aiofs" not in fs.listdir(path)
            assert ".aiofs" not in [entry.name for entry in fs.scandir(path)]
        for path in ("/.aiofs", "/itself/.aiofs", "/.aiofs/volume", "/sneaky", "/sub/../.aiofs"):
            failed(errno.ENOENT, fs.stat, path)
            failed(errno.ENOENT, fs.open, path, os.O_RDWR | os.O_CREAT)
        failed(errno.ENOENT, fs.link, "/.aiofs/volume", "/mine")
        failed(errno.ENOENT, fs.rename, "/.aiofs", "/mine")
        failed(errno.ENOENT, fs.chmod, "/.aiofs", 0)
    assert await names(await root.get_directory_handle("sub")) == [".aiofs", "deep", "up"]
    await root.remove(recursive=True)
    assert os.listdir(place) == [".aiofs"]


# ---- mounts of directory handles


async def test_mounted_directory_handle_is_the_root_of_its_paths(place, volume):
    with FileSystem() as fs:
        sub = await volume.root.get_directory_handle("to-sub")
        fs.mount("/here", sub)
        assert sorted(fs.listdir("/here")) == ["deep", "up"]
        fd = fs.open("/here/deep", os.O_RDWR)
        file = await (await volume.root.get_directory_handle("sub")).get_file_handle("deep")
        await failure(errno.EBUSY, file.create_access_handle(mode="in-place"))
        failed(errno.EBUSY, fs.unmount, "/here")
        fs.close(fd)
        failed(errno.ENOENT, fs.stat, "/here/../file")
        assert fs.directory("/here").name == "to-sub"
        fs.unmount("/here")
        gone = await volume.root.get_directory_handle("gone", create=True)
        await gone.remove()
        with pytest.raises(aiofs.NotFoundError):
            fs.mount("/gone", gone)


# ---- users who may not do everything

OTHER_USER = """
import asyncio, errno, os, sys
import aiofs

place = sys.argv[1]
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


async def main():
    try:
        aiofs.HostVolume(place)
        raise SystemExit("opened a directory that is not writable")
    except PermissionError:
        pass
    with aiofs.HostVolume(place, read_only=True) as volume:
        assert (await volume.estimate())[0] == 8
        file = await volume.root.get_file_handle("to-file")
        assert await (await file.get_file()).read() == b"mine"
        async with file.create_access_handle() as handle:
            assert await handle.get_size() == 4
        locked = await volume.root.get_file_handle("locked")
        try:
            await locked.create_access_handle()
            raise SystemExit("opened a locked file")
        except aiofs.NoModificationAllowedError:
            pass
        assert "closed" in [name async for name in volume.root.keys()]


asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="root locks in a directory that is not writable")
def test_other_user_reads_what_is_readable_and_meets_the_locks():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        place = make_place(Path(folder))
        (place / "closed").mkdir(mode=0)
        (place / "closed/file").write_bytes(b"not counted")
        (place / "locked").write_bytes(b"")
        with HostVolume(place) as volume:
            held = volume._ops.sync_access_handle("locked", "in-place", False)
            subprocess.run([sys.executable, "-c", OTHER_USER, str(place)], check=True)
            held.close()


def test_lock_of_a_killed_process_is_free(place, volume):
    with holding(place, "file") as process:
        assert process.answer == "held"
        failed(errno.EBUSY, volume._ops.sync_access_handle, "file", "in-place", False)
        process.kill()
        process.wait()
        eventually(lambda: not _is_locked(volume))


def _is_locked(volume):
    try:
        volume._ops.open("file", os.O_RDWR, 0, _core.LOCK_EXCLUSIVE, 0).close()
    except aiofs.NoModificationAllowedError:
        return True
    return False


WITHOUT_PERMISSION = """
import asyncio, os, sys, aiofs
os.setegid(12345)
os.seteuid(12345)
async def main():
    with aiofs.HostVolume(sys.argv[1]) as volume:
        file = await (await volume.root.get_directory_handle("closed")).get_file_handle("file")
        for opening in (file.create_access_handle, file.create_writable):
            try:
                await opening()
            except PermissionError as error:
                assert error.filename == sys.argv[1] + "/closed/file"
                print("refused")
        async with file.create_access_handle(mode="in-place") as handle:
            await handle.write(b"new")
asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_file_that_could_not_be_replaced_at_the_close_is_refused_at_the_opening():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        os.chmod(directory, 0o777)
        os.mkdir(f"{directory}/closed")
        Path(f"{directory}/closed/file").write_bytes(b"old bytes")
        os.chmod(f"{directory}/closed/file", 0o666)
        assert python(WITHOUT_PERMISSION, directory) == "refused\nrefused\n"
        assert Path(f"{directory}/closed/file").read_bytes() == b"new bytes"
