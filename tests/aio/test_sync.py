"""aio_fsync: which system call is made, and which requests the sync waits for."""

import os

import pytest
from support import end_of, result

from aiofs.aio import aio_error, aio_fsync, aio_suspend, aio_write, aiocb


@pytest.mark.parametrize("op", [os.O_SYNC, os.O_DSYNC])
def test_aio_fsync_returns_0(file, op):
    cb = aiocb(file)
    assert aio_fsync(op, cb) == 0
    assert result(cb) == 0


def test_aio_fsync_ignores_all_fields_but_fildes_and_sigevent(file):
    cb = aiocb(file, "no buffer", "no size", "no offset", "no priority", None, "no opcode")
    aio_fsync(os.O_DSYNC, cb)
    assert result(cb) == 0


def test_o_sync_calls_fsync_and_o_dsync_calls_fdatasync(file, faults):
    if faults.calls("io_uring_enter"):
        pytest.skip("io_uring makes it without a call")
    for op, name in ((os.O_SYNC, "fsync"), (os.O_DSYNC, "fdatasync")):
        before = faults.calls(name)
        cb = aiocb(file)
        aio_fsync(op, cb)
        assert end_of(cb) == 0
        assert faults.calls(name) == before + 1


def test_aio_fsync_ends_after_all_earlier_requests(empty):
    for _ in range(20):
        writes = [aiocb(empty, bytes(400_000), aio_offset=i * 400_000) for i in range(8)]
        for number, cb in enumerate(writes):
            cb.aio_reqprio = 20 - number
            aio_write(cb)
        sync = aiocb(empty, aio_reqprio=0)
        aio_fsync(os.O_DSYNC, sync)
        aio_suspend([sync])
        assert [aio_error(cb) for cb in writes] == [0] * 8
