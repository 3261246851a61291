"""PrivateVolume: opening a directory, its contents, quota, nesting, and what a flush syncs."""

import asyncio
import errno
import fcntl
import os
import pickle
import shutil
import stat
import tempfile

import pytest
from coroutines import turns, wait
from lock_holder_process import holding
from support import eventually, failed, python, result, thread, write_file

import aiofs
from aiofs import FileSystem, PrivateVolume, _core
from aiofs.aio import aio_error, aio_fsync, aio_write, aiocb


def usage(volume):
    return volume._ops.estimate()[0]


# ---- opening


def test_missing_directory_is_made_for_its_user_only(tmp_path):
    with PrivateVolume(tmp_path / "volume"):
        assert stat.S_IMODE((tmp_path / "volume").stat().st_mode) == 0o700


def test_existing_directory_becomes_a_volume_with_its_files(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file").write_bytes(b"before")
    with PrivateVolume(tmp_path) as volume:
        opened = volume._ops.open("sub/file", os.O_RDONLY, 0, _core.LOCK_NONE, 0)
        assert opened.read(10, 0) == b"before"
        opened.close()


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_open_of_a_fifo_in_a_volume_is_refused_without_waiting(tmp_path, flags):
    os.mkfifo(tmp_path / "fifo")
    with PrivateVolume(tmp_path) as volume:
        lock = _core.LOCK_NONE if flags == os.O_RDONLY else _core.LOCK_EXCLUSIVE
        for _ in range(2):
            failed(errno.EOPNOTSUPP, volume._ops.open, "fifo", flags, 0, lock, 0)


def test_descriptor_has_the_flags_it_was_opened_with(tmp_path):
    wanted = os.O_RDWR | os.O_APPEND
    with PrivateVolume(tmp_path) as volume:
        for flags in (wanted, wanted | os.O_NONBLOCK):
            opened = volume._ops.open("file", flags | os.O_CREAT, 0o600, _core.LOCK_EXCLUSIVE, 0)
            known = fcntl.fcntl(opened.fileno(), fcntl.F_GETFL)
            assert known & (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK) == flags
            opened.close()


def test_missing_parent_is_not_found(tmp_path):
    with pytest.raises(aiofs.NotFoundError) as error:
        PrivateVolume(tmp_path / "no" / "volume")
    assert str(tmp_path / "no" / "volume") in str(error.value)
    assert os.listdir(tmp_path) == []


def test_volume_on_a_regular_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(aiofs.TypeMismatchError):
        PrivateVolume(tmp_path / "file")


def test_directory_that_cannot_be_written_is_refused():
    program = (
        "import os, sys, aiofs\n"
        "if os.getuid() == 0: os.setgroups([]); os.setuid(65534)\n"
        "try: aiofs.PrivateVolume(sys.argv[1])\n"
        "except PermissionError as error: print(error.errno, error.filename == sys.argv[1])\n"
    )
    # Not in tmp_path: the other user has no access there.
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o555)
        assert python(program, directory) == f"{errno.EACCES} True\n"
        assert os.listdir(directory) == []


@pytest.mark.parametrize("quota,error", [(-1, ValueError), (2**63, ValueError), ("1", TypeError)])
def test_bad_quota_is_refused_before_anything_is_made(tmp_path, quota, error):
    with pytest.raises(error):
        PrivateVolume(tmp_path / "volume", quota=quota)
    assert not (tmp_path / "volume").exists()


def test_closed_volume_refuses_opens_and_open_files_keep_working(tmp_path):
    volume = PrivateVolume(tmp_path)
    handle = volume._ops.sync_access_handle("file", "in-place", True)
    volume.close()
    volume.close()
    with pytest.raises(aiofs.InvalidStateError):
        volume._ops.stat("")
    assert handle.write(b"still") == 5
    handle.close()


def test_files_and_directories_have_the_mode_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        with PrivateVolume(tmp_path) as volume:
            volume._ops.open("file", os.O_RDWR | os.O_CREAT, 0o666, _core.LOCK_EXCLUSIVE, 0).close()
            volume._ops.mkdir("directory", 0o777)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "directory").stat().st_mode) == 0o750


def test_volume_pickles_as_its_directory(tmp_path):
    with PrivateVolume(tmp_path, quota=1000) as volume:
        again = pickle.loads(pickle.dumps(volume))
        assert again._ops.same(volume._ops)
        assert again._ops.estimate() == (0, 1000)
        again.close()


# ---- nesting


def test_volume_inside_or_around_an_open_one_is_refused(tmp_path):
    (tmp_path / "volume/inner/deep").mkdir(parents=True)
    with PrivateVolume(tmp_path / "volume/inner"):
        for nested in (tmp_path, tmp_path / "volume", tmp_path / "volume/inner/deep"):
            with pytest.raises(aiofs.NoModificationAllowedError) as error:
                PrivateVolume(nested)
            assert error.value.errno == errno.EBUSY
            assert not (nested / ".aiofs").exists()
    PrivateVolume(tmp_path / "volume").close()


def test_volume_inside_one_that_another_process_has_open_is_refused(tmp_path):
    (tmp_path / "volume/inner").mkdir(parents=True)
    with holding(tmp_path / "volume", "file") as other:
        assert other.answer == "held"
        with pytest.raises(aiofs.NoModificationAllowedError):
            PrivateVolume(tmp_path / "volume/inner")
    PrivateVolume(tmp_path / "volume/inner").close()


# ---- quota


def test_write_over_the_quota_writes_no_byte(tmp_path):
    with PrivateVolume(tmp_path, quota=1000) as volume:
        assert write_file(volume, "a", b"x" * 600) == 600
        with pytest.raises(aiofs.QuotaExceededError) as error:
            write_file(volume, "b", b"y" * 401)
        assert error.value.errno == errno.EDQUOT
        assert (tmp_path / "b").stat().st_size == 0
        assert write_file(volume, "b", b"y" * 400) == 400
        assert usage(volume) == 1000


async def test_queued_write_that_is_cancelled_after_the_close_returns_its_charge(tmp_path):
    large, hole, quota = 32 << 20, 400 << 20, 500 << 20
    for turn in range(50):
        with PrivateVolume(tmp_path / f"{turn}", quota=quota) as volume, FileSystem() as fs:
            fs.mount("/", volume)
            descriptor = fs.open("/file", os.O_RDWR | os.O_CREAT)
            running = aiocb(descriptor, bytes(large))
            queued = aiocb(descriptor, b"x", aio_offset=hole - 1)
            aio_write(running)
            aio_write(queued)
            task = asyncio.ensure_future(wait(queued))
            await turns(1)
            fs.close(descriptor)
            task.cancel()
            await asyncio.wait([task])
            await running
            if aio_error(queued) != errno.ECANCELED:
                continue  # it had begun
            other = fs.open("/other", os.O_RDWR | os.O_CREAT)
            write = aiocb(other, b"x", aio_offset=hole - 1)
            aio_write(write)
            assert await write == 1
            fs.close(other)
            return
    pytest.skip("each write had begun before it could be cancelled")


def test_quota_counts_holes_but_not_overwrites(tmp_path):
    with PrivateVolume(tmp_path, quota=1000) as volume:
        write_file(volume, "a", b"x" * 1000)
        assert write_file(volume, "a", b"y" * 1000) == 1000
        volume._ops.unlink("a")
        assert write_file(volume, "b", b"z", at=999) == 1
        with pytest.raises(aiofs.QuotaExceededError):
            write_file(volume, "c", b"z")


def test_quota_is_returned_for_removed_truncated_and_replaced_files(tmp_path):
    with PrivateVolume(tmp_path, quota=1000) as volume:
        tree = volume._ops
        for give_back in (
            lambda: tree.unlink("full"),
            lambda: tree.truncate("full", 0),
            lambda: tree.rename("empty", "full"),
            lambda: tree.open("full", os.O_WRONLY | os.O_TRUNC, 0, _core.LOCK_EXCLUSIVE, 0).close(),
            lambda: tree.remove_tree(""),
        ):
            tree.open("empty", os.O_RDWR | os.O_CREAT, 0o666, _core.LOCK_EXCLUSIVE, 0).close()
            write_file(volume, "full", b"x" * 1000)
            with pytest.raises(aiofs.QuotaExceededError):
                write_file(volume, "more", b"x")
            give_back()
            assert write_file(volume, "more", b"x") == 1
            tree.remove_tree("")


def test_unlinked_file_counts_until_it_is_closed(tmp_path):
    with PrivateVolume(tmp_path, quota=1000) as volume:
        tree = volume._ops
        opened = tree.open("a", os.O_RDWR | os.O_CREAT, 0o666, _core.LOCK_EXCLUSIVE, 9)
        tree.truncate("a", 1000, 9)
        tree.unlink("a", 9)
        with pytest.raises(aiofs.QuotaExceededError):
            write_file(volume, "b", b"x")
        opened.close()
        assert write_file(volume, "b", b"x") == 1


def test_quota_counts_existing_files(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/old").write_bytes(b"x" * 900)
    with PrivateVolume(tmp_path, quota=1000) as volume:
        assert volume._ops.estimate() == (900, 1000)
        with pytest.raises(aiofs.QuotaExceededError):
            write_file(volume, "new", b"y" * 101)


def test_quota_includes_writes_by_other_programs_at_the_next_count(tmp_path):
    with PrivateVolume(tmp_path, quota=1000) as volume:
        write_file(volume, "mine", b"x")
        (tmp_path / "theirs").write_bytes(b"y" * 999)
        assert usage(volume) == 1000
        with pytest.raises(aiofs.QuotaExceededError):
            write_file(volume, "mine", b"xx")


def test_quota_counts_what_every_process_writes(tmp_path):
    program = (
        "import sys, aiofs\n"
        "volume = aiofs.PrivateVolume(sys.argv[1])\n"
        "handle = volume._ops.sync_access_handle('theirs', 'in-place', True)\n"
        "handle.write(b'x' * 600); handle.close()\n"
    )
    with PrivateVolume(tmp_path, quota=1000) as volume:
        write_file(volume, "mine", b"x" * 300)
        python(program, tmp_path)
        with pytest.raises(aiofs.QuotaExceededError):
            write_file(volume, "mine", b"y" * 401)
        assert write_file(volume, "mine", b"y" * 400) == 400


# ---- durability


def flushed(volume, path, create=False):
    """Opens a file, then changes and flushes it twice."""
    with volume._ops.sync_access_handle(path, "in-place", create) as handle:
        for _ in range(2):
            handle.write(b"data")
            handle.flush()


@pytest.fixture
def directory_syncs(faults):
    """The number of directory syncs. (Files are synced by fdatasync.)"""
    before = faults.calls("fsync")
    return lambda: faults.calls("fsync") - before


def test_first_flush_of_a_new_file_syncs_its_directory_once(tmp_path, directory_syncs):
    with PrivateVolume(tmp_path) as volume:
        flushed(volume, "new", create=True)
        assert directory_syncs() == 1
        flushed(volume, "new")
        assert directory_syncs() == 1


def test_first_flush_syncs_every_directory_that_was_made(tmp_path, directory_syncs):
    with PrivateVolume(tmp_path) as volume:
        volume._ops.mkdir("a")
        volume._ops.mkdir("a/b")
        flushed(volume, "a/b/new", create=True)
        assert directory_syncs() == 3
        flushed(volume, "a/b/other", create=True)
        assert directory_syncs() == 4


def test_flush_of_a_file_that_was_there_syncs_no_directory(tmp_path, directory_syncs):
    (tmp_path / "old").touch()
    with PrivateVolume(tmp_path) as volume:
        flushed(volume, "old")
    assert directory_syncs() == 0


def test_renamed_file_has_its_new_name_synced(tmp_path, directory_syncs):
    (tmp_path / "old").touch()
    with PrivateVolume(tmp_path) as volume:
        volume._ops.rename("old", "new")
        flushed(volume, "new")
    assert directory_syncs() == 1


def test_name_of_a_new_volume_is_synced_when_it_is_made(tmp_path, directory_syncs):
    PrivateVolume(tmp_path / "new").close()
    assert directory_syncs() == 1
    PrivateVolume(tmp_path / "new").close()
    assert directory_syncs() == 1


def test_close_of_a_new_file_in_an_atomic_mode_syncs_its_name(tmp_path, directory_syncs):
    with PrivateVolume(tmp_path) as volume:
        volume._ops.sync_access_handle("new", "exclusive", True).close()
        assert directory_syncs() == 1
        volume._ops.sync_access_handle("new", "exclusive", True).close()
        assert directory_syncs() == 1


def test_aio_fsync_of_a_descriptor_syncs_the_name_that_its_open_made(tmp_path, directory_syncs):
    with PrivateVolume(tmp_path) as volume, FileSystem() as fs:
        fs.mount("/v", volume)
        fd = fs.open("/v/new", os.O_RDWR | os.O_CREAT)
        for _ in range(2):
            cb = aiocb(fd)
            aio_fsync(os.O_DSYNC, cb)
            result(cb)
            assert directory_syncs() == 1
        fs.close(fd)


def test_flush_syncs_a_directory_that_another_thread_has_not_finished_making(
    tmp_path, faults, directory_syncs
):
    (tmp_path / "d").mkdir()
    with PrivateVolume(tmp_path) as volume:
        faults.delay("close", 1, 1)  # of the directory above, after the mkdir
        with thread(volume._ops.mkdir, "d/a"):
            eventually((tmp_path / "d/a").exists)
            flushed(volume, "d/a/new", create=True)
            assert directory_syncs() == 2


def test_directory_that_could_not_be_made_is_not_synced(tmp_path, directory_syncs):
    (tmp_path / "a").mkdir()
    (tmp_path / "old").touch()
    with PrivateVolume(tmp_path) as volume:
        failed(errno.EEXIST, volume._ops.mkdir, "a")
        flushed(volume, "old")
    assert directory_syncs() == 0


def test_directory_sync_that_fails_fails_the_flush_and_is_tried_again(tmp_path, faults):
    with PrivateVolume(tmp_path) as volume:
        handle = volume._ops.sync_access_handle("new", "in-place", True)
        handle.write(b"data")
        faults.fail("fsync", errno.EIO)
        with pytest.raises(aiofs.InvalidStateError):
            handle.flush()
        faults.clear()
        before = faults.calls("fsync")
        handle.write(b"data")
        handle.flush()
        assert faults.calls("fsync") == before + 1
        handle.close()


@pytest.mark.parametrize("kind", [PrivateVolume, aiofs.HostVolume])
@pytest.mark.parametrize("name", [".aiofs", ".aiofs/locks", ".aiofs/swap", ".aiofs/volume"])
def test_link_in_the_place_of_what_aiofs_keeps_leads_nothing_out_of_the_volume(
    tmp_path, kind, name
):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    (inside / name).parent.mkdir(parents=True)
    (inside / name).symlink_to(outside)
    (inside / "file").write_bytes(b"old")
    with pytest.raises(OSError), kind(inside) as volume:
        handle = aiofs.FileHandle._of(volume, "file")
        with handle.create_sync_access_handle(mode="exclusive") as opened:
            opened.write(b"new")
    assert os.listdir(outside) == []
    assert (inside / "file").read_bytes() == b"old"


def test_volume_whose_own_directory_was_removed_refuses_locks_and_says_why(tmp_path):
    with PrivateVolume(tmp_path / "volume") as volume:
        write_file(volume, "file", b"data")
        shutil.rmtree(tmp_path / "volume/.aiofs")
        refused = 0
        for number in range(300):  # a lock file that is open already still works
            handle = aiofs.FileHandle._of(volume, f"{number}")
            (tmp_path / f"volume/{number}").touch()
            try:
                handle.create_sync_access_handle().close()
            except aiofs.InvalidStateError as error:
                assert error.errno == errno.EIO
                assert error.filename == str(tmp_path / f"volume/{number}")
                refused += 1
        assert refused > 200
