"""A process is killed before a system call of a save: the file has the old bytes or the new.

Before each AIOFS_KILL_STEP-th call (3), from a random one on; with `make crash` before each call.
"""

import asyncio
import os
import random
import signal
import traceback
from contextlib import nullcontext

import pytest
from opened import CONTENT
from support import FORKS_WITH_THREADS, tmpfs

import aiofs
from aiofs import FileHandle, HostVolume, PrivateVolume

pytestmark = pytest.mark.filterwarnings(FORKS_WITH_THREADS)

NEW = b"new" * 5000
MOST = 2000  # system calls of one save
STEP = int(os.environ.get("AIOFS_KILL_STEP", "3"))


@pytest.fixture(params=["unlimited", "quota", "host", "mounted", "mounted, quota"])
def file(tmp_path, request):
    directory = tmp_path / "volume"
    (directory / "sub").mkdir(parents=True)
    quota = 10**6 if request.param in ("quota", "mounted, quota", "host") else None
    kind = HostVolume if request.param == "host" else PrivateVolume  # the first has no .aiofs yet
    mounted = request.param.startswith("mounted")  # the file is on another filesystem than .aiofs
    with tmpfs(directory / "sub") if mounted else nullcontext():
        (directory / "sub/file").write_bytes(CONTENT)
        with kind(directory, quota=quota) as volume:
            yield FileHandle._of(volume, "sub/file")


def save_by_handle(mode):
    def save(file):
        with file.create_sync_access_handle(mode=mode) as handle:
            handle.truncate(0)
            handle.write(NEW, at=0)

    return save


def save_by_stream(file):
    async def save():
        async with file.create_writable() as stream:
            await stream.write(NEW)

    asyncio.run(save())


def killed(save, file, faults, nth):
    """Whether a forked process was killed before the nth call of its save; else it has saved."""
    pid = os.fork()
    if pid == 0:
        try:
            faults.kill_at(nth)
            save(file)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
    return status != 0


@pytest.mark.parametrize(
    "save",
    [save_by_handle("exclusive"), save_by_handle("shared"), save_by_stream],
    ids=["exclusive", "shared", "stream"],
)
def test_file_has_old_or_new_bytes_wherever_a_save_is_killed(file, faults, save):
    directory = file._volume._directory
    path = f"{directory}/sub/file"
    seen = set()
    for nth in range(random.randint(1, STEP), MOST, STEP):
        ended = not killed(save, file, faults, nth)
        with open(path, "rb") as opened:
            found = opened.read()
        assert found in (CONTENT, NEW), nth
        seen.add(found)
        with file.create_sync_access_handle(mode="exclusive") as handle:  # nobody has the lock
            assert len(os.listdir(f"{directory}/.aiofs/swap")) == 1  # and the stale file is gone
            handle.truncate(0)
            handle.write(CONTENT, at=0)
        assert os.listdir(f"{directory}/.aiofs/swap") == []
        assert os.listdir(f"{directory}/sub") == ["file"]
        if ended:
            assert found == NEW
            break
    else:
        pytest.fail("a save makes more system calls than it should")
    assert seen == {CONTENT, NEW}
    assert file._volume._ops.estimate()[0] == len(CONTENT)


def test_shared_handles_of_others_go_on_after_one_was_killed(file, faults):
    with file.create_sync_access_handle(mode="shared") as handle:
        handle.write(b"mine", at=0)
        assert killed(save_by_handle("shared"), file, faults, 12)
        with pytest.raises(aiofs.NoModificationAllowedError):
            file.create_sync_access_handle(mode="in-place")
    with file.create_sync_access_handle(mode="read-only") as handle:
        data = bytearray(4)
        handle.read(data)
        assert data == b"mine"
