"""SyncAccessHandle: what flush and close make durable, and when they have nothing to do."""

import errno

import pytest
from support import eventually, failed, result, thread

from aiofs import PrivateVolume
from aiofs.aio import aio_write, aiocb


@pytest.fixture
def open_on_disk(on_disk):
    return lambda mode="in-place": on_disk.create_sync_access_handle(mode=mode)


def syncs(faults):
    return faults.calls("fdatasync") + faults.calls("fsync")


def test_flush_syncs_only_a_changed_file(open_on_disk, faults):
    with open_on_disk() as handle:
        before = syncs(faults)
        handle.flush()
        handle.read(bytearray(10))
        handle.flush()
        assert syncs(faults) == before
        handle.write(b"x")
        handle.flush()
        assert faults.calls("fdatasync") and syncs(faults) == before + 1
        handle.flush()
        assert syncs(faults) == before + 1
        handle.truncate(5)
        handle.flush()
        assert syncs(faults) == before + 2


def test_close_syncs_only_a_changed_file(open_on_disk, faults):
    before = syncs(faults)
    handle = open_on_disk()
    handle.read(bytearray(10))
    handle.close()
    open_on_disk("read-only").close()
    assert syncs(faults) == before
    handle = open_on_disk()
    handle.write(b"x")
    handle.close()
    assert syncs(faults) == before + 1
    handle = open_on_disk()
    handle.write(b"x")
    handle.abort()
    assert syncs(faults) == before + 1


def test_name_of_a_new_entry_is_made_durable_once(tmp_path, faults):
    with PrivateVolume(tmp_path / "volume") as volume:
        before = faults.calls("fsync"), faults.calls("fdatasync")
        with volume._ops.sync_access_handle("new", "in-place", True) as handle:
            handle.write(b"x")
            handle.flush()
            assert faults.calls("fsync") > before[0]  # fsync of the directory
            assert faults.calls("fdatasync") == before[1] + 1
            after = faults.calls("fsync")
            handle.write(b"y")
            handle.flush()
            assert faults.calls("fsync") == after


def test_flush_syncs_a_file_written_by_aio_write(open_on_disk, faults):
    with open_on_disk() as handle:
        cb = aiocb(handle, b"x")
        aio_write(cb)
        result(cb)
        before = syncs(faults)
        handle.flush()
        assert syncs(faults) == before + 1


def test_flush_covers_a_change_that_another_thread_is_about_to_sync(open_on_disk, faults):
    with open_on_disk() as handle:
        handle.write(b"x")
        before = faults.calls("fdatasync")
        faults.delay("fdatasync", 0.5, 1)
        with thread(handle.flush):
            eventually(lambda: faults.calls("fdatasync") > before)
            handle.flush()
            assert faults.calls("fdatasync") == before + 2


def test_flush_covers_a_change_whose_sync_failed_in_another_thread(open_on_disk, faults):
    with open_on_disk() as handle:
        handle.write(b"x")
        faults.fail("fdatasync", errno.EIO, 1)
        failed(errno.EIO, handle.flush)
        before = faults.calls("fdatasync")
        handle.flush()
        assert faults.calls("fdatasync") == before + 1
        handle.flush()
        assert faults.calls("fdatasync") == before + 1
