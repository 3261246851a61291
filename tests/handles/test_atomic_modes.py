"""Access handles in the modes exclusive and shared: all changes appear at close, or none do."""

import asyncio
import errno
import os
import shutil
import struct
import subprocess
import sys
import tempfile

import pytest
from opened import CONTENT, SIZE, is_locked
from support import CONTENT as LONG
from support import failed, python, tmpfs, write_file

import aiofs
from aiofs import FileHandle, PrivateVolume, _core

ATOMIC = pytest.mark.parametrize("mode", ["exclusive", "shared"])


@pytest.fixture
def directory(on_disk):
    return on_disk._volume._directory


def on_disk_now(handle):
    with open(f"{handle._volume._directory}/{handle._path}", "rb") as file:
        return file.read()


def bytes_of(file):
    """What a handle that is opened now reads."""
    with file.create_sync_access_handle(mode="read-only") as handle:
        data = bytearray(handle.get_size())
        handle.read(data, at=0)
    return bytes(data)


def swap_files(directory):
    try:
        return os.listdir(f"{directory}/.aiofs/swap")
    except FileNotFoundError:
        return []


def all_bytes(handle):
    data = bytearray(handle.get_size() + 10)
    return bytes(data[: handle.read(data, at=0)])


# ---- what others see, and when ------------------------------------------------------------------


@ATOMIC
def test_changes_appear_at_close_and_not_before(on_disk, mode):
    with on_disk.create_sync_access_handle(mode=mode) as handle:
        assert handle.mode == mode
        assert handle.write(b"new", at=0) == 3
        handle.truncate(10)
        handle.flush()
        assert all_bytes(handle) == b"new" + CONTENT[3:10]
        assert on_disk_now(on_disk) == CONTENT
    assert on_disk_now(on_disk) == b"new" + CONTENT[3:10]
    assert not is_locked(on_disk)


@ATOMIC
async def test_changes_of_an_async_handle_appear_at_close_and_not_before(file, mode):
    async with file.create_access_handle(mode=mode) as handle:
        assert handle.mode == mode
        handle.write(b"new", at=0)
        await handle.truncate(10)
        data = bytearray(20)
        assert await handle.read(data, at=0) == 10
        assert data[:10] == b"new" + CONTENT[3:10]
        assert await (await file.get_file()).read() == CONTENT
    assert bytes_of(file) == b"new" + CONTENT[3:10]


@ATOMIC
def test_changes_of_a_handle_of_any_volume_appear_at_close(file, mode):
    snapshot = file._snapshot()
    with file.create_sync_access_handle(mode=mode) as handle:
        handle.write(b"new", at=SIZE + 5)
        handle.write(b"x", at=0)
        assert handle.get_size() == SIZE + 8
        assert snapshot._read() == CONTENT
    assert bytes_of(file) == b"x" + CONTENT[1:] + bytes(5) + b"new"
    failed(errno.ESTALE, snapshot._read)


@ATOMIC
def test_abort_discards_the_changes(file, mode):
    handle = file.create_sync_access_handle(mode=mode)
    handle.write(b"new")
    handle.abort()
    assert bytes_of(file) == CONTENT
    assert not is_locked(file)


@ATOMIC
def test_an_exception_that_leaves_the_block_discards_the_changes(file, mode):
    with pytest.raises(ZeroDivisionError), file.create_sync_access_handle(mode=mode) as handle:
        handle.write(b"new")
        raise ZeroDivisionError
    assert bytes_of(file) == CONTENT
    assert not is_locked(file)


@ATOMIC
async def test_an_exception_that_leaves_the_asynchronous_block_discards_the_changes(file, mode):
    with pytest.raises(ZeroDivisionError):
        async with file.create_access_handle(mode=mode) as handle:
            await handle.write(b"new")
            raise ZeroDivisionError
    assert bytes_of(file) == CONTENT
    assert not is_locked(file)


async def test_abort_of_an_async_handle_discards_operations_in_flight(file):
    handle = await file.create_access_handle(mode="exclusive")
    writes = [handle.write(b"x" * 100_000, at=n * 100_000) for n in range(20)]
    await handle.abort()
    for write in writes:
        try:
            await write
        except aiofs.AbortError:
            pass
    assert bytes_of(file) == CONTENT


def test_in_place_changes_stay_after_an_exception(file):
    with pytest.raises(ZeroDivisionError), file.create_sync_access_handle() as handle:
        handle.write(b"new")
        raise ZeroDivisionError
    assert bytes_of(file) == b"new" + CONTENT[3:]


# ---- locks --------------------------------------------------------------------------------------


def test_last_close_of_shared_handles_wins(file):
    with file.create_sync_access_handle(mode="shared") as one:
        with file.create_sync_access_handle(mode="shared") as other:
            one.write(b"one", at=0)
            other.write(b"other", at=0)
        assert bytes_of_locked(file) == b"other" + CONTENT[5:]
    assert bytes_of(file) == b"one" + CONTENT[3:]


def bytes_of_locked(file):
    opened = file._volume._ops.open(file._path, os.O_RDONLY, 0, _core.LOCK_NONE, 0)
    try:
        return opened.read(2 * SIZE, 0)
    finally:
        opened.close()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("exclusive", "exclusive"),
        ("exclusive", "shared"),
        ("shared", "exclusive"),
        ("shared", "in-place"),
        ("in-place", "shared"),
        ("shared", "read-only"),
        ("exclusive", "readwrite-unsafe"),
    ],
)
def test_modes_that_exclude_each_other(file, first, second):
    with file.create_sync_access_handle(mode=first):
        error = failed(errno.EBUSY, file.create_sync_access_handle, mode=second)
        assert isinstance(error, aiofs.NoModificationAllowedError)
    with file.create_sync_access_handle(mode=second):
        failed(errno.EBUSY, file.create_sync_access_handle, mode=first)


@ATOMIC
def test_the_lock_survives_the_commit_of_another_handle(file, mode):
    with file.create_sync_access_handle(mode="shared") as kept:
        with file.create_sync_access_handle(mode="shared") as other:
            other.write(b"x")
        failed(errno.EBUSY, file.create_sync_access_handle, mode="in-place")
        kept.write(b"y")
    with file.create_sync_access_handle(mode=mode):
        pass


# ---- nothing changed ----------------------------------------------------------------------------


@ATOMIC
def test_a_handle_that_changed_nothing_commits_nothing(on_disk, directory, mode, faults):
    before = os.stat(f"{directory}/file")
    calls = {name: faults.calls(name) for name in ("fsync", "fdatasync", "renameat2")}
    with on_disk.create_sync_access_handle(mode=mode) as handle:
        handle.read(bytearray(10))
        handle.write(b"", at=2 * SIZE)
    after = os.stat(f"{directory}/file")
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert calls == {name: faults.calls(name) for name in calls}
    assert swap_files(directory) == []


def test_changes_through_the_descriptor_are_committed(on_disk):
    with on_disk.create_sync_access_handle(mode="exclusive") as handle:
        os.pwrite(handle.fileno(), b"raw", 0)  # the same size, unknown to aiofs
        assert on_disk_now(on_disk) == CONTENT
    assert on_disk_now(on_disk) == b"raw" + CONTENT[3:]


def test_time_of_a_file_that_becomes_empty_is_now(on_disk, directory):
    before = os.stat(f"{directory}/file").st_mtime_ns

    async def empty():
        async with on_disk.create_writable():
            pass

    asyncio.run(empty())
    assert os.stat(f"{directory}/file").st_size == 0
    assert os.stat(f"{directory}/file").st_mtime_ns >= before


# ---- the file that the commit makes -------------------------------------------------------------


@ATOMIC
def test_commit_keeps_mode_owner_and_extended_attributes(on_disk, directory, mode):
    path = f"{directory}/file"
    os.chmod(path, 0o2751)
    os.setxattr(path, "user.one", b"1")
    os.setxattr(path, "user.two", b"2" * 1000)
    if os.geteuid() == 0:
        os.chown(path, 12345, 54321)
        os.chmod(path, 0o2751)
    before = os.stat(path)
    with on_disk.create_sync_access_handle(mode=mode) as handle:
        handle.write(b"new")
        os.setxattr(path, "user.late", b"3")
    after = os.stat(path)
    assert after.st_ino != before.st_ino
    assert (before.st_mode, before.st_uid, before.st_gid) == (
        after.st_mode,
        after.st_uid,
        after.st_gid,
    )
    found = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    assert found == {"user.one": b"1", "user.two": b"2" * 1000, "user.late": b"3"}


def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@ATOMIC
def test_commit_keeps_the_access_control_list_and_adds_none(on_disk, directory, mode):
    nobody = 0xFFFFFFFF
    theirs = acl((1, 6, nobody), (2, 6, 1234), (4, 4, nobody), (0x10, 6, nobody), (0x20, 0, nobody))
    try:
        os.setxattr(directory, "system.posix_acl_default", theirs)
        os.setxattr(f"{directory}/.aiofs", "system.posix_acl_default", theirs)
    except OSError:
        pytest.skip("no access control lists here")
    path = f"{directory}/file"
    os.chmod(path, 0o640)
    with on_disk.create_sync_access_handle(mode=mode) as handle:
        handle.write(b"new")
    assert os.listxattr(path) == []
    assert os.stat(path).st_mode & 0o7777 == 0o640
    os.setxattr(path, "system.posix_acl_access", theirs)
    before = os.stat(path).st_mode
    with on_disk.create_sync_access_handle(mode=mode) as handle:
        handle.write(b"newer")
    assert os.getxattr(path, "system.posix_acl_access") == theirs
    assert os.stat(path).st_mode == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("member", [True, False])
def test_commit_by_another_user_keeps_the_group_if_it_may_and_no_set_id_bit_that_it_may_not(member):
    folder = tempfile.mkdtemp()  # pytest's own is closed to others
    try:
        os.chmod(folder, 0o777)
        path = f"{folder}/file"
        with open(path, "wb") as made:
            os.chown(path, 4001, 4002)
            os.chmod(path, 0o6666)
            made.write(CONTENT)
            made.flush()
            os.chmod(path, 0o6666)
        program = (
            "import os, sys, aiofs\n"
            "os.setgroups([4002] * (sys.argv[2] == 'True'))\n"
            "os.setgid(4003); os.setuid(4003)\n"
            "with aiofs.HostVolume(sys.argv[1]) as volume:\n"
            "    with volume._ops.sync_access_handle('file', 'exclusive', False) as handle:\n"
            "        handle.write(b'new')\n"
        )
        python(program, folder, member)
        found = os.stat(path)
        assert found.st_uid == 4003
        assert found.st_gid == (4002 if member else 4003)
        assert found.st_mode & 0o7777 == (0o2666 if member else 0o666)
    finally:
        shutil.rmtree(folder)


def test_holes_stay_holes(on_disk, directory):
    with open(f"{directory}/file", "wb") as file:
        file.truncate(100 << 20)
        file.seek(50 << 20)
        file.write(b"island")
    before = os.stat(f"{directory}/file").st_blocks
    with on_disk.create_sync_access_handle(mode="exclusive") as handle:
        handle.write(b"x", at=0)
    after = os.stat(f"{directory}/file")
    assert after.st_size == 100 << 20
    assert after.st_blocks <= before + 16
    with open(f"{directory}/file", "rb") as file:
        assert file.read(2) == b"x\0"
        file.seek(50 << 20)
        assert file.read(7) == b"island\0"


@pytest.mark.parametrize("refused", [errno.EXDEV, errno.EINVAL, errno.ENOSYS])
def test_copy_works_where_the_kernel_cannot_copy(on_disk, faults, refused):
    write_file(on_disk._volume, "file", LONG * 20)
    faults.fail("copy_file_range", refused)
    with on_disk.create_sync_access_handle(mode="exclusive") as handle:
        assert all_bytes(handle) == LONG * 20


def test_copy_continues_after_short_copies(on_disk, faults):
    write_file(on_disk._volume, "file", LONG)
    faults.cut("copy_file_range", 1000)
    with on_disk.create_sync_access_handle(mode="exclusive") as handle:
        assert all_bytes(handle) == LONG


def test_an_open_file_keeps_the_bytes_that_it_was_opened_with(on_disk, directory):
    with open(f"{directory}/file", "rb") as reader:
        with on_disk.create_sync_access_handle(mode="exclusive") as handle:
            handle.write(b"new")
        assert reader.read() == CONTENT


# ---- removed meanwhile --------------------------------------------------------------------------


@ATOMIC
def test_removal_is_refused_while_a_handle_is_open(file, mode):
    with file.create_sync_access_handle(mode=mode):
        failed(errno.EBUSY, file._volume._ops.unlink, "file")


@ATOMIC
def test_commit_of_a_file_that_was_removed_by_another_program_fails(on_disk, directory, mode):
    handle = on_disk.create_sync_access_handle(mode=mode)
    handle.write(b"new")
    os.unlink(f"{directory}/file")
    error = failed(errno.ENOENT, handle.close)
    assert isinstance(error, aiofs.NotFoundError)
    assert error.filename == f"{directory}/file"
    assert not os.path.exists(f"{directory}/file")
    assert swap_files(directory) == []
    handle.close()  # it is closed


async def test_commit_of_a_file_whose_directory_was_removed_fails(tmp_path):
    with PrivateVolume(tmp_path / "volume") as volume:
        volume._ops.mkdir("sub")
        write_file(volume, "sub/file", CONTENT)
        handle = await FileHandle._of(volume, "sub/file").create_access_handle(mode="exclusive")
        await handle.write(b"new")
        os.unlink(tmp_path / "volume/sub/file")
        os.rmdir(tmp_path / "volume/sub")
        with pytest.raises(aiofs.NotFoundError):
            await handle.close()
        assert volume._ops.lock_count("") == 0


# ---- dropped ------------------------------------------------------------------------------------


@ATOMIC
def test_a_dropped_handle_discards_its_changes(file, mode):
    handle = file.create_sync_access_handle(mode=mode)
    handle.write(b"new")
    with pytest.warns(ResourceWarning):
        del handle
    assert bytes_of(file) == CONTENT


async def test_a_dropped_async_handle_discards_its_changes(on_disk, directory):
    handle = await on_disk.create_access_handle(mode="exclusive")
    await handle.write(b"new")
    with pytest.warns(ResourceWarning):
        del handle
    assert not is_locked(on_disk)
    assert bytes_of(on_disk) == CONTENT
    assert swap_files(directory) == []


def test_file_system_that_an_exception_leaves_discards_what_is_open(on_disk):
    with pytest.raises(ZeroDivisionError), aiofs.FileSystem() as fs:
        fs.mount("/", on_disk._volume)
        handle = fs.create_sync_access_handle("/file", mode="exclusive")
        handle.write(b"new")
        raise ZeroDivisionError
    assert bytes_of(on_disk) == CONTENT


def test_file_system_commits_what_is_open_at_its_end(on_disk):
    with aiofs.FileSystem() as fs:
        fs.mount("/", on_disk._volume)
        handle = fs.create_sync_access_handle("/file", mode="exclusive")
        handle.write(b"new")
    assert bytes_of(on_disk) == b"new" + CONTENT[3:]


def test_forked_child_neither_commits_nor_discards(on_disk, directory):
    handle = on_disk.create_sync_access_handle(mode="exclusive")
    handle.write(b"new")
    pid = os.fork()
    if pid == 0:
        try:
            handle.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert len(swap_files(directory)) == 1
    handle.close()
    assert on_disk_now(on_disk) == b"new" + CONTENT[3:]


# ---- stale swap files ---------------------------------------------------------------------------

KILLED = """
import os, signal, sys, aiofs
volume = aiofs.PrivateVolume(sys.argv[1])
fs = aiofs.FileSystem()
fs.mount("/", volume)
handle = fs.create_sync_access_handle("/file", mode="exclusive")
handle.write(b"lost")
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_with_an_open_handle(directory):
    subprocess.run([sys.executable, "-c", KILLED, directory])
    assert len(swap_files(directory)) == 1


def test_next_opening_of_a_handle_removes_the_swap_file_of_a_killed_process(on_disk, directory):
    killed_with_an_open_handle(directory)
    stale = swap_files(directory)
    with on_disk.create_sync_access_handle(mode="exclusive"):
        assert len(swap_files(directory)) == 1
        assert swap_files(directory) != stale
    assert on_disk_now(on_disk) == CONTENT


def test_next_opening_of_the_volume_removes_the_swap_file_of_a_killed_process(on_disk, directory):
    killed_with_an_open_handle(directory)
    with PrivateVolume(directory):
        assert swap_files(directory) == []


def test_the_swap_file_of_a_living_process_stays(on_disk, directory):
    with on_disk.create_sync_access_handle(mode="shared") as handle:
        handle.write(b"new")
        python("import sys, aiofs; aiofs.PrivateVolume(sys.argv[1]).close()", directory)
        assert len(swap_files(directory)) == 1
    assert on_disk_now(on_disk) == b"new" + CONTENT[3:]


# ---- errors of the disk -------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "renameat2", "fstat", "openat"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_failed_commit_leaves_the_old_file_and_no_lock(on_disk, directory, faults, call, number):
    handle = on_disk.create_sync_access_handle(mode="exclusive")
    handle.write(b"new")
    faults.fail(call, number, 1)
    assert failed(number, handle.close).filename == f"{directory}/file"
    faults.clear()
    assert on_disk_now(on_disk) == CONTENT
    assert not is_locked(on_disk)
    assert swap_files(directory) == []


def test_failed_sync_of_the_directory_is_reported(on_disk, faults):
    handle = on_disk.create_sync_access_handle(mode="exclusive")
    handle.write(b"new")
    faults.fail("fsync", errno.EIO, 2)
    failed(errno.EIO, handle.close)
    faults.clear()
    assert on_disk_now(on_disk) == b"new" + CONTENT[3:]
    assert not is_locked(on_disk)


@pytest.mark.parametrize(
    "call",
    [
        *("openat", "openat2", "fcntl", "fstat", "copy_file_range", "ioctl", "utimensat"),
        *(
            "mkdirat",
            "pwrite64",
            "flistxattr",
            "fchmod",
            "fchown",
            "renameat2",
            "unlinkat",
            "fsync",
        ),
    ],
)
def test_every_call_of_a_save_may_fail(on_disk, directory, faults, call):
    for nth in range(1, 40):
        before = faults.calls(call)
        faults.fail(call, errno.EIO, nth)
        try:
            with on_disk.create_sync_access_handle(mode="exclusive") as handle:
                handle.write(b"%4d" % nth, at=0)
        except OSError as error:
            assert error.errno == errno.EIO, error
        met = faults.calls(call) - before >= nth
        faults.clear()
        assert on_disk._volume._ops.lock_count("") == 0
        assert len(on_disk_now(on_disk)) == SIZE
        if not met:
            break
    with on_disk.create_sync_access_handle(mode="exclusive") as handle:
        handle.write(b"last", at=0)
    assert on_disk_now(on_disk) == b"last" + CONTENT[4:]
    assert swap_files(directory) == []


# ---- durable ------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [True, False])
def test_commit_syncs_the_file_and_its_directory_if_the_volume_is_durable(
    tmp_path, faults, durable
):
    with PrivateVolume(tmp_path / "volume", durable=durable) as volume:
        write_file(volume, "file", CONTENT)
        before = faults.calls("fsync")
        with volume._ops.sync_access_handle("file", "exclusive", False) as handle:
            handle.write(b"new")
        assert faults.calls("fsync") - before == (2 if durable else 0)


@pytest.mark.parametrize("durable", [True, False])
def test_close_syncs_if_the_volume_is_durable_and_flush_always_does(tmp_path, faults, durable):
    with PrivateVolume(tmp_path / "volume", durable=durable) as volume:
        with volume._ops.sync_access_handle("file", "in-place", True) as handle:
            handle.write(b"new")
            before = faults.calls("fdatasync")
            handle.flush()
            assert faults.calls("fdatasync") - before == 1
            handle.write(b"newer")
        assert faults.calls("fdatasync") - before == (2 if durable else 1)


# ---- quota --------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    with PrivateVolume(tmp_path / "small", quota=1000) as volume:
        write_file(volume, "file", b"x" * 400)
        yield FileHandle._of(volume, "file")


def usage(file):
    """As the quota has it: how much a new file may grow."""
    volume = file._volume
    with volume._ops.sync_access_handle("probe", "in-place", True) as handle:
        for size in range(1000, -1, -10):
            try:
                handle.truncate(size)
            except aiofs.QuotaExceededError:
                continue
            break
    volume._ops.unlink("probe")
    return 1000 - size


@ATOMIC
def test_growth_of_a_copy_is_charged_before_the_commit(small, mode):
    with small.create_sync_access_handle(mode=mode) as handle:
        assert usage(small) == 400
        failed(errno.EDQUOT, handle.write, b"y" * 601, at=400)
        handle.write(b"y" * 500, at=400)
        assert usage(small) == 900
        handle.truncate(100)
        assert usage(small) == 400
    assert usage(small) == 100


@ATOMIC
def test_discarded_growth_is_returned(small, mode):
    handle = small.create_sync_access_handle(mode=mode)
    handle.write(b"y" * 500, at=400)
    handle.abort()
    assert usage(small) == 400


def test_usage_is_right_after_several_shared_commits(small):
    with small.create_sync_access_handle(mode="shared") as one:
        with small.create_sync_access_handle(mode="shared") as other:
            one.truncate(700)
            other.truncate(500)
            assert usage(small) == 800
        assert usage(small) == 800
    assert usage(small) == 700
    with small.create_sync_access_handle(mode="shared") as one:
        one.write(b"x")
        with small.create_sync_access_handle(mode="shared") as other:
            other.truncate(0)
        assert usage(small) == 0
    assert usage(small) == 700
    assert small._volume._ops.estimate()[0] == 700


def test_commit_that_would_exceed_the_quota_fails_and_leaves_the_file(small):
    handle = small.create_sync_access_handle(mode="shared")
    handle.write(b"y")
    with small.create_sync_access_handle(mode="shared") as other:
        other.truncate(0)
    write_file(small._volume, "filler", b"z" * 900)
    failed(errno.EDQUOT, handle.close)
    assert on_disk_now(small) == b""
    assert not is_locked(small)


# ---- a file on another filesystem than .aiofs


@pytest.fixture
def mounted(tmp_path):
    (tmp_path / "volume/sub").mkdir(parents=True)
    with tmpfs(tmp_path / "volume/sub"), PrivateVolume(tmp_path / "volume") as volume:
        write_file(volume, "sub/file", CONTENT)
        os.chmod(tmp_path / "volume/sub/file", 0o604)
        yield FileHandle._of(volume, "sub/file")


@ATOMIC
def test_commit_below_a_mount_point_replaces_the_file_there(mounted, mode):
    path = f"{mounted._volume._directory}/sub/file"
    with mounted.create_sync_access_handle(mode=mode) as handle:
        handle.write(b"new", at=0)
        assert on_disk_now(mounted) == CONTENT
    assert on_disk_now(mounted) == b"new" + CONTENT[3:]
    assert os.stat(path).st_mode & 0o777 == 0o604
    assert os.listdir(os.path.dirname(path)) == ["file"]
    assert swap_files(mounted._volume._directory) == []


@pytest.mark.parametrize("call", ["openat", "copy_file_range", "fsync", "renameat2", "pwrite64"])
def test_commit_below_a_mount_point_that_fails_leaves_the_old_file_alone(mounted, faults, call):
    directory, failures = mounted._volume._directory, 0
    for nth in range(1, 30):
        handle = mounted.create_sync_access_handle(mode="exclusive")
        handle.write(b"new", at=0)
        before = faults.calls(call)
        faults.fail(call, errno.EIO, nth)
        try:
            handle.close()
        except aiofs.InvalidStateError:
            failures += 1
            synced = call == "fsync" and nth == 3  # the directory, after the rename
            assert on_disk_now(mounted) == (b"new" + CONTENT[3:] if synced else CONTENT)
        met = faults.calls(call) - before >= nth
        faults.clear()
        assert os.listdir(f"{directory}/sub") == ["file"]
        assert swap_files(directory) == []
        if not met:
            break
        write_file(mounted._volume, "sub/file", CONTENT)
    assert failures or call == "copy_file_range"
