"""MemoryVolume: its directory, sharing it between processes, and removing it."""

import errno
import gc
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys

import pytest
from support import failed, python, write_file

import aiofs
from aiofs import MemoryVolume

BASE = f"/dev/shm/aiofs-{os.geteuid()}"


@pytest.fixture
def name():
    name = f"test-{os.getpid()}-{os.urandom(4).hex()}"
    yield name
    shutil.rmtree(f"{BASE}/named/{name}", ignore_errors=True)


def directories(process=None):
    """The directories of one process, by default this one."""
    there = os.listdir(f"{BASE}/anonymous") if os.path.exists(f"{BASE}/anonymous") else []
    return {name for name in there if name.startswith(f"{process or os.getpid()}-")}


def test_anonymous_volume_is_removed_when_it_is_closed():
    before = directories()
    with MemoryVolume() as volume:
        write_file(volume, "file", b"data")
        assert len(directories() - before) == 1
    assert directories() == before
    volume.close()


def test_anonymous_volume_is_removed_when_it_is_dropped():
    before = directories()
    volume = MemoryVolume()
    write_file(volume, "file", b"data")
    del volume
    gc.collect()
    assert directories() == before


def test_anonymous_volume_is_removed_at_exit():
    program = "import aiofs, os; kept = aiofs.MemoryVolume(); print(os.getpid())"
    assert directories(python(program).strip()) == set()


def test_leftovers_of_a_killed_process_are_removed_by_the_next_process():
    program = (
        "import aiofs, sys\n"
        "volume = aiofs.MemoryVolume(); print(volume._directory, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        left = process.stdout.readline().strip()
        MemoryVolume().close()
        assert os.path.isdir(left)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert os.path.isdir(left)
    MemoryVolume().close()
    assert not os.path.exists(left)


def test_forked_child_leaves_its_parents_volume_alone():
    with MemoryVolume() as volume:
        write_file(volume, "file", b"data")
        child = os.fork()
        if child == 0:
            volume.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert os.path.exists(os.path.join(volume._directory, "file"))


def test_anonymous_volumes_share_no_files():
    with MemoryVolume() as one, MemoryVolume() as other:
        write_file(one, "file", b"data")
        assert other._ops.scan("") == []
        assert not one._ops.same(other._ops)


def test_named_volume_is_shared_by_name(name):
    with MemoryVolume(name) as volume:
        write_file(volume, "file", b"data")
        with MemoryVolume(name) as again:
            assert again._ops.same(volume._ops)
            assert again._ops.stat("file").st_size == 4


def test_named_volume_is_shared_with_other_processes_and_stays(name):
    program = (
        "import sys, aiofs\n"
        "with aiofs.MemoryVolume(sys.argv[1]) as volume:\n"
        "    with volume._ops.sync_access_handle('file', 'in-place', True) as handle:\n"
        "        handle.write(b'theirs')\n"
    )
    python(program, name)
    with MemoryVolume(name) as volume:
        assert volume._ops.stat("file").st_size == 6


def test_lock_in_a_named_volume_holds_between_processes(name):
    program = (
        "import sys, aiofs\n"
        "volume = aiofs.MemoryVolume(sys.argv[1])\n"
        "try: volume._ops.sync_access_handle('file', 'in-place', True)\n"
        "except aiofs.NoModificationAllowedError: print('busy')\n"
    )
    with MemoryVolume(name) as volume:
        with volume._ops.sync_access_handle("file", "in-place", True):
            assert python(program, name) == "busy\n"


def test_directory_has_mode_0700():
    MemoryVolume().close()
    assert stat.S_IMODE(os.stat(BASE).st_mode) == 0o700


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "a\0b"])
def test_bad_name_is_refused(bad):
    with pytest.raises(ValueError):
        MemoryVolume(bad)


def test_quota_limits_a_memory_volume():
    with MemoryVolume(quota=10) as volume:
        with pytest.raises(aiofs.QuotaExceededError):
            write_file(volume, "file", b"x" * 11)


def test_only_named_volumes_pickle(name):
    with MemoryVolume(name) as volume:
        again = pickle.loads(pickle.dumps(volume))
        assert again._ops.same(volume._ops)
        again.close()
    with MemoryVolume() as volume, pytest.raises(TypeError):
        pickle.dumps(volume)


def test_removed_volume_is_gone_with_its_files(name):
    before = directories()
    with MemoryVolume(name) as volume:
        write_file(volume, "file", b"data")
    MemoryVolume.remove(name)
    assert not os.path.exists(f"{BASE}/named/{name}")
    assert directories() == before
    with MemoryVolume(name) as volume:
        assert volume._ops.scan("") == []


def test_volume_that_is_open_is_not_removed(name):
    path = f"{BASE}/named/{name}"
    with MemoryVolume(name):
        error = failed(errno.EBUSY, MemoryVolume.remove, name)
        assert isinstance(error, aiofs.NoModificationAllowedError)
        assert error.filename == path
    program = "import aiofs, sys; v = aiofs.MemoryVolume(sys.argv[1]); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        failed(errno.EBUSY, MemoryVolume.remove, name)
        assert os.path.exists(path)
        process.kill()
    MemoryVolume.remove(name)
    assert failed(errno.ENOENT, MemoryVolume.remove, name).filename == path
    with pytest.raises(ValueError, match="bad volume name"):
        MemoryVolume.remove("..")
