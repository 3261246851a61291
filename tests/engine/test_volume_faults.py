"""Each system call of each operation on a volume fails once.

The operation raises the error or does not need the call. It leaves no lock and no descriptor.
"""

import errno
import os

import pytest
from support import failed

from aiofs import MemoryVolume, PrivateVolume, _core

RDWR = os.O_RDWR | os.O_CREAT


@pytest.fixture
def volume(tmp_path):
    with PrivateVolume(tmp_path / "volume", quota=10**6) as volume:
        ops = volume._ops
        ops.mkdir("directory")
        ops.mkdir("directory/sub")
        for path in ("file", "other", "directory/inner", "directory/sub/deep"):
            with ops.sync_access_handle(path, "in-place", True) as handle:
                handle.write(b"data")
        yield volume


def opened(ops, path, flags):
    ops.open(path, flags, 0o666, _core.LOCK_EXCLUSIVE, 1).close()


OPERATIONS = {
    "open": lambda ops: opened(ops, "file", os.O_RDWR),
    "open deep": lambda ops: opened(ops, "directory/sub/deep", os.O_RDWR),
    "create": lambda ops: opened(ops, "directory/new", RDWR),
    "cut": lambda ops: opened(ops, "file", os.O_RDWR | os.O_TRUNC),
    "stat": lambda ops: ops.stat("directory/inner"),
    "list": lambda ops: ops.scan("directory"),
    "mkdir": lambda ops: ops.mkdir("directory/made"),
    "rmdir": lambda ops: ops.rmdir("directory/sub"),
    "unlink": lambda ops: ops.unlink("directory/inner", 1),
    "truncate": lambda ops: ops.truncate("file", 100, 1),
    "rename": lambda ops: ops.rename("file", "other", 1),
    "rename directory": lambda ops: ops.rename("directory", "moved", 1),
    "remove": lambda ops: ops.remove_tree("directory"),
    "estimate": lambda ops: ops.estimate(),
}
CALLS = [
    "openat", "openat2", "fstatat", "fcntl", "mkdirat", "unlinkat", "renameat2",
    "ftruncate", "getdents64", "fstatfs",
]  # fmt: skip


# An operation that succeeded in an earlier round may fail with these.
ACCEPTED = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOMEM, errno.EINTR])
def test_operation_survives_the_failure_of_each_of_its_calls(volume, faults, name, number):
    ops = volume._ops
    failures = 0
    for call in CALLS:
        for nth in range(1, 30):
            before = faults.calls(call)
            faults.fail(call, number, nth)
            try:
                OPERATIONS[name](ops)
            except OSError as error:
                failures += 1
                assert error.errno in ACCEPTED | {number}, error
            met = faults.calls(call) - before >= nth
            faults.clear()
            assert ops.lock_count("") == 0
            if not met:
                break
    assert failures or name == "list"  # "list" uses os.scandir


@pytest.mark.parametrize("name", OPERATIONS)
def test_locks_work_after_a_failed_operation(volume, faults, name):
    ops = volume._ops
    for nth in (1, 2):
        faults.fail("openat2", errno.EIO, nth)
        try:
            OPERATIONS[name](ops)
        except OSError:
            pass
        faults.clear()
    for path in ("file", "other"):
        held = ops.open(path, RDWR, 0o666, _core.LOCK_EXCLUSIVE, 0)
        failed(errno.EBUSY, ops.open, path, RDWR, 0o666, _core.LOCK_EXCLUSIVE, 0)
        held.close()


@pytest.mark.parametrize(
    "call", ["openat", "mkdirat", "fcntl", "ftruncate", "pwritev2", "faccessat", "fstatfs"]
)
def test_opening_a_volume_survives_the_failure_of_each_call(tmp_path, faults, call):
    for nth in range(1, 60):
        before = faults.calls(call)
        faults.fail(call, errno.EIO, nth)
        try:
            PrivateVolume(tmp_path / f"volume{nth}").close()
        except OSError as error:
            assert error.errno == errno.EIO
        met = faults.calls(call) - before >= nth
        faults.clear()
        PrivateVolume(tmp_path / f"volume{nth}").close()
        if not met:
            break
    else:
        pytest.fail(f"more calls of {call} than a volume should make")


def test_memory_volume_that_cannot_be_opened_leaves_nothing(faults):
    def ours():  # the directory also contains those of other processes
        names = os.listdir(f"/dev/shm/aiofs-{os.geteuid()}/anonymous")
        return {name for name in names if name.startswith(f"{os.getpid()}-")}

    MemoryVolume().close()
    before = ours()
    faults.fail("fcntl", errno.EIO)
    with pytest.raises(OSError):
        MemoryVolume()
    faults.clear()
    assert ours() == before
