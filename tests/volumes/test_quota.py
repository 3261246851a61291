"""Quota between processes, and capacity that is reserved ahead of growth."""

import asyncio
import errno
import fcntl
import os
import random
import struct
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from coroutines import failure
from support import FORKS_WITH_THREADS, python, write_file
from volumes.dict_volume import DictVolume

import aiofs
from aiofs import MemoryVolume, PrivateVolume, QuotaExceededError

QUOTA = 1000


@pytest.fixture
def volume(tmp_path):
    with PrivateVolume(tmp_path / "volume", quota=QUOTA) as volume:
        yield volume


@pytest.fixture
def other(volume):
    """The same directory, opened again."""
    with PrivateVolume(volume._directory, quota=QUOTA) as other:
        yield other


def refused(volume, size, path="more"):
    with pytest.raises(QuotaExceededError):
        write_file(volume, path, b"x" * size, at=0)


@contextmanager
def process(program, *arguments):
    """Runs a program that says "ready" and then waits; kills it at the end."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        try:
            assert started.stdout.readline() == "ready\n"
            yield started
        finally:
            started.kill()


# ---- the calls


async def test_capacity_is_what_is_reserved_and_not_used(volume, other):
    assert await volume.remaining_capacity() == 0
    assert await volume.request_capacity(0) == 0
    assert await volume.request_capacity(300) == 300
    assert await volume.request_capacity(300) == 600
    assert await volume.remaining_capacity() == 600
    assert await other.remaining_capacity() == 0
    write_file(volume, "file", b"x" * 500)
    assert await volume.remaining_capacity() == 100
    assert await volume.release_capacity(30) == 70
    assert await volume.release_capacity(0) == 70
    write_file(volume, "file", b"y" * 500)  # overwrites
    assert await volume.remaining_capacity() == 70
    assert await volume.estimate() == (500, QUOTA)


async def test_growth_beyond_the_reservation_uses_the_rest_of_the_quota(volume, other):
    await volume.request_capacity(100)
    write_file(volume, "file", b"x" * 950)
    assert await volume.remaining_capacity() == 0
    refused(other, 51)
    assert write_file(other, "other", b"x" * 50) == 50


async def test_reserved_writer_cannot_run_out(volume, other):
    await volume.request_capacity(600)
    refused(other, 401)
    write_file(other, "other", b"x" * 400)
    refused(other, 1)
    with pytest.raises(QuotaExceededError):
        await other.request_capacity(1)
    for size in range(100, 700, 100):
        assert write_file(volume, "file", b"x" * 100, at=size - 100) == 100
    refused(volume, 1)


async def test_request_over_the_quota_reserves_nothing(volume, other):
    await other.request_capacity(500)
    error = await failure(errno.EDQUOT, volume.request_capacity(501))
    assert type(error) is QuotaExceededError and error.name == "QuotaExceededError"
    assert error.filename == volume._directory
    await failure(errno.EDQUOT, volume.request_capacity(2**63 - 1))
    assert await volume.remaining_capacity() == 0
    assert await volume.request_capacity(500) == 500


async def test_bytes_that_shrink_go_back_to_the_reservation(volume, other):
    await volume.request_capacity(600)
    write_file(volume, "file", b"x" * 600)
    assert await volume.remaining_capacity() == 0
    volume._ops.truncate("file", 200)
    assert await volume.remaining_capacity() == 400
    refused(other, 401)
    await (await volume.root.get_file_handle("file")).remove()
    assert await volume.remaining_capacity() == 600
    refused(other, 401)
    assert await volume.release_capacity(600) == 0
    assert write_file(other, "other", b"x" * 1000) == 1000


async def test_write_that_fails_gives_its_capacity_back(volume, other, faults):
    await volume.request_capacity(1000)
    faults.fail("pwrite64", errno.EIO)
    with pytest.raises(OSError):
        write_file(volume, "file", b"x" * 500)
    faults.clear()
    assert await volume.remaining_capacity() == 1000
    file = await volume.root.get_file_handle("file")
    async with file.create_access_handle() as handle:
        await failure(errno.EDQUOT, handle.write(b"x" * 1001))
        assert await volume.remaining_capacity() == 1000
        assert await handle.write(b"x" * 1000) == 1000  # at 0: the cursor has not moved


async def test_bad_capacities_are_refused(volume):
    await volume.request_capacity(10)
    for call in (volume.request_capacity, volume.release_capacity):
        for n in (-1, 2**63):
            with pytest.raises(ValueError):
                call(n)
        for n in ("1", 1.0, None):
            with pytest.raises(TypeError):
                call(n)
    with pytest.raises(ValueError, match="reserved"):
        await volume.release_capacity(11)
    assert await volume.remaining_capacity() == 10


async def test_capacity_of_a_volume_without_quota_counts_for_the_others(tmp_path):
    with PrivateVolume(tmp_path / "volume") as free:
        write_file(free, "before", b"x" * 100)
        assert await free.request_capacity(2000) == 2000
        assert await free.release_capacity(1500) == 500
        with PrivateVolume(tmp_path / "volume", quota=QUOTA) as volume:
            refused(volume, 401)
            assert write_file(volume, "file", b"x" * 400) == 400
        assert write_file(free, "after", b"x" * 600) == 600
        assert await free.remaining_capacity() == 0


async def test_capacity_works_in_memory_and_not_in_python():
    with MemoryVolume(quota=QUOTA) as volume:
        assert await volume.request_capacity(QUOTA) == QUOTA
        await failure(errno.EDQUOT, volume.request_capacity(1))
    await failure(errno.EBADF, volume.remaining_capacity())
    with DictVolume() as volume:
        for operation in (volume.request_capacity(1), volume.remaining_capacity()):
            await failure(errno.EOPNOTSUPP, operation)


async def test_closed_volume_gives_its_capacity_back(tmp_path, volume):
    other = PrivateVolume(volume._directory, quota=QUOTA)
    await other.request_capacity(QUOTA)
    refused(volume, 1)
    other.close()
    assert write_file(volume, "file", b"x" * QUOTA) == QUOTA


# ---- between processes

HOLDER = """
import asyncio, sys, aiofs
volume = aiofs.PrivateVolume(sys.argv[1], quota=1000)
async def main():
    await volume.request_capacity(600)
asyncio.run(main())
handle = volume._ops.sync_access_handle("theirs", "in-place", True)
handle.write(b"x" * 100)
print("ready", flush=True)
sys.stdin.readline()
handle.write(b"x" * 500)
handle.close()
print("written", flush=True)
sys.stdin.read()
"""


def test_capacity_holds_between_processes(volume):
    with process(HOLDER, volume._directory) as holder:
        assert write_file(volume, "mine", b"x" * 400) == 400
        refused(volume, 1)
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "written\n"
        refused(volume, 1)


def test_capacity_of_a_killed_process_is_given_back(volume):
    with process(HOLDER, volume._directory):
        refused(volume, 401)
    assert write_file(volume, "mine", b"x" * 900) == 900
    refused(volume, 1)


async def test_request_gets_the_capacity_of_a_killed_process(volume):
    with process(HOLDER, volume._directory):
        await failure(errno.EDQUOT, volume.request_capacity(401))
    assert await volume.request_capacity(900) == 900
    await failure(errno.EDQUOT, volume.request_capacity(1))


UNLINKER = """
import os, sys, aiofs
from aiofs import _core
volume = aiofs.PrivateVolume(sys.argv[1], quota=1000)
opened = volume._ops.open("theirs", os.O_RDWR | os.O_CREAT, 0o666, _core.LOCK_EXCLUSIVE, 9)
volume._ops.truncate("theirs", 1000, 9)
volume._ops.unlink("theirs", 9)
print("ready", flush=True)
sys.stdin.read()
"""


def test_unlinked_open_file_counts_until_its_process_dies(volume):
    with process(UNLINKER, volume._directory):
        assert volume._ops.estimate() == (0, QUOTA)
        refused(volume, 1)
    assert write_file(volume, "mine", b"x" * QUOTA) == QUOTA


@pytest.mark.filterwarnings(FORKS_WITH_THREADS)
async def test_forked_child_has_none_of_its_parents_capacity(volume):
    await volume.request_capacity(600)
    write_file(volume, "mine", b"x" * 100)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ops = volume._ops
            assert ops.release_capacity(0) == 0
            assert ops.request_capacity(400) == 400
            with pytest.raises(QuotaExceededError):
                ops.request_capacity(1)
            assert write_file(volume, "theirs", b"x" * 300) == 300
            status = 0
        finally:
            os._exit(status)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert status == 0
    assert await volume.remaining_capacity() == 500
    assert await volume.request_capacity(100) == 600  # what the child did not use
    await failure(errno.EDQUOT, volume.request_capacity(1))


def test_first_opening_counts_afresh(tmp_path):
    python("import aiofs, sys; aiofs.PrivateVolume(sys.argv[1], quota=1000)", tmp_path / "volume")
    (tmp_path / "volume/raw").write_bytes(b"x" * 700)
    with PrivateVolume(tmp_path / "volume", quota=QUOTA) as volume:
        refused(volume, 301)
        assert write_file(volume, "mine", b"x" * 300) == 300


def test_growth_without_aiofs_is_counted_once(volume):
    path = f"{volume._directory}/file"
    with volume._ops.sync_access_handle("file", "in-place", True) as handle:
        handle.write(b"x" * 100)
        os.truncate(path, 500)
        assert volume._ops.estimate() == (500, QUOTA)
        assert handle.write(b"x", at=500) == 1
        refused(volume, 500)
        assert write_file(volume, "other", b"x" * 499) == 499
        handle.truncate(0)
    assert write_file(volume, "more", b"x" * 501) == 501


WRITER = """
import os, random, sys, aiofs
directory, number = sys.argv[1:]
chance = random.Random(int(number))
volume = aiofs.PrivateVolume(directory, quota=100_000)
ops = volume._ops
print("ready", flush=True)
while True:
    path = f"{number}-{chance.randrange(3)}"
    try:
        match chance.randrange(8):
            case 0:
                ops.unlink(path)
            case 1:
                ops.truncate(path, chance.randrange(40_000))
            case 2:
                ops.rename(path, f"{number}-{chance.randrange(3)}")
            case 3:
                ops.request_capacity(chance.randrange(20_000))
            case 4:
                ops.release_capacity(ops.release_capacity(0))
            case 5:
                flags, lock = os.O_WRONLY | os.O_TRUNC, aiofs._core.LOCK_EXCLUSIVE
                ops.open(path, flags, 0, lock, 0).close()
            case _:
                with ops.sync_access_handle(path, "in-place", True) as handle:
                    handle.write(b"x" * chance.randrange(30_000), at=chance.randrange(30_000))
    except (aiofs.QuotaExceededError, aiofs.NotFoundError):
        pass
"""


def sizes(directory):
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                total += entry.stat().st_size if entry.is_file() else 0
            except FileNotFoundError:
                pass
    return total


def test_processes_that_are_killed_at_any_moment_leave_the_count_exact(tmp_path):
    """While they write, somebody counts; after that, what is free can be written, and no more."""
    chance = random.Random(5)
    directory, quota = tmp_path / "volume", 100_000
    with PrivateVolume(directory, quota=quota) as volume:
        for turn in range(4):
            with process(WRITER, directory, 1) as one, process(WRITER, directory, 2) as two:
                until = time.monotonic() + 0.1 + chance.random() / 2
                while time.monotonic() < until:
                    usage, _ = volume._ops.estimate()
                    assert usage <= 2 * quota  # a walk during changes may count a file twice
                one.kill()
                two.kill()
                one.wait()
                two.wait()
            used = sizes(directory)
            assert used <= quota, turn
            rest = quota - used
            with pytest.raises(QuotaExceededError):
                write_file(volume, "rest", bytes(rest + 1))
            assert write_file(volume, "rest", bytes(rest)) == rest
            volume._ops.unlink("rest")


def test_more_processes_than_accounts_still_keep_the_quota(volume):
    """All bytes that stand for accounts are locked by somebody else."""
    write_file(volume, "before", b"x" * 100)
    page = os.open(f"{volume._directory}/.aiofs/volume", os.O_RDWR)
    try:
        fields = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, (1 << 40) + 1, 1000, 0)
        fcntl.fcntl(page, fcntl.F_OFD_SETLK, fields)
        program = (
            "import aiofs, asyncio, errno, sys\n"
            "volume = aiofs.PrivateVolume(sys.argv[1], quota=1000)\n"
            "handle = volume._ops.sync_access_handle('theirs', 'in-place', True)\n"
            "assert handle.write(b'x' * 500) == 500\n"
            "try: handle.write(b'x' * 401)\n"
            "except aiofs.QuotaExceededError: pass\n"
            "else: raise AssertionError\n"
            "try: volume._ops.request_capacity(1)\n"
            "except OSError as error: assert error.errno == errno.EAGAIN\n"
            "else: raise AssertionError\n"
            "handle.close()\n"
        )
        python(program, volume._directory)
        refused(volume, 401)
        assert write_file(volume, "mine", b"x" * 400) == 400
    finally:
        os.close(page)


def test_capacity_is_an_error_where_nothing_may_be_written(tmp_path):
    ops = aiofs._core.DirectoryOps(tmp_path, flags=aiofs._core.VOLUME_READ_ONLY)
    with pytest.raises(OSError) as caught:
        ops.request_capacity(1)
    assert caught.value.errno == errno.EROFS
    ops.close()


@pytest.mark.parametrize("reserved", [0, 600])
async def test_change_that_gives_bytes_back_takes_none_from_a_write_under_way(
    volume, other, faults, reserved
):
    """The write is charged at its call, and happens after a truncate that is shorter."""
    await volume.request_capacity(reserved)
    file = await volume.root.get_file_handle("file", create=True)
    async with file.create_access_handle() as handle:
        await handle.write(b"x" * 200)
        faults.delay("pwrite64", 0.3)
        truncate = handle.truncate(100)
        write = handle.write(b"x" * 400, at=200)
        await truncate
        refused(other, 401)
        assert await write == 400
        faults.clear()
        refused(other, 401)
        assert write_file(other, "other", b"x" * 400) == 400
        await handle.truncate(0)
    assert await volume.remaining_capacity() == reserved
    refused(other, 1001 - reserved)


RESERVER = """
import asyncio, sys, aiofs
volume = aiofs.PrivateVolume(sys.argv[1], quota=1000)
async def main():
    await volume.request_capacity(500)
asyncio.run(main())
print("ready", flush=True)
sys.stdin.read()
"""


def test_commit_and_second_name_get_the_capacity_of_a_killed_process(volume):
    write_file(volume, "file", b"x" * 800)
    handle = aiofs.FileHandle._of(volume, "file")
    large = handle.create_sync_access_handle(mode="shared")
    with handle.create_sync_access_handle(mode="shared") as small:
        small.truncate(0)
    with process(RESERVER, volume._directory):
        pass
    large.write(b"y")
    large.close()  # 800 bytes instead of none
    assert volume._ops.estimate()[0] == 800
    with handle.create_sync_access_handle(mode="in-place") as opened:
        opened.truncate(400)
    with process(RESERVER, volume._directory):
        pass
    volume._ops.link("file", "again")
    assert volume._ops.estimate()[0] == 800
    with pytest.raises(QuotaExceededError):
        volume._ops.link("file", "once more")


def test_changes_of_a_file_with_two_names_do_not_use_the_quota_up(volume):
    for _ in range(5):
        write_file(volume, "file", b"x" * 400)
        volume._ops.link("file", "second")
        volume._ops.truncate("file", 0)
        volume._ops.unlink("second")
    assert write_file(volume, "file", b"x" * QUOTA) == QUOTA
    refused(volume, 1)


CHANGER = """
import errno, os, random, sys, aiofs
volume = aiofs.PrivateVolume(sys.argv[1], quota=10**6, durable=False)
fs = aiofs.FileSystem()
fs.mount("/", volume)
numbers = random.Random(sys.argv[2])

def write(name):
    descriptor = fs.open(name, os.O_RDWR | os.O_CREAT)
    request = aiofs.aio.aiocb(descriptor, b"x" * numbers.randrange(5000))
    aiofs.aio.aio_write(request)
    aiofs.aio.aio_suspend([request])
    fs.close(descriptor)

def commit(name):
    with fs.create_sync_access_handle(name, mode="shared", create=True) as handle:
        handle.truncate(numbers.randrange(6000))
        handle.write(b"y" * 10)

changes = [
    write,
    commit,
    commit,
    fs.unlink,
    lambda name: fs.truncate(name, numbers.randrange(5000)),
    lambda name: fs.rename(name, f"/{numbers.randrange(3)}"),
    lambda name: fs.close(fs.open(name, os.O_RDWR | os.O_TRUNC)),
]
for _ in range(int(sys.argv[3])):
    try:
        numbers.choice(changes)(f"/{numbers.randrange(3)}")
    except OSError as error:
        assert error.errno in (errno.EBUSY, errno.ENOENT), error
"""


async def test_processes_that_change_the_same_files_leave_the_count_exact(tmp_path):
    directory = tmp_path / "volume"
    with PrivateVolume(directory, quota=10**6) as volume:
        write_file(volume, "0", b"x")  # the first walk is over
        commands = [
            [sys.executable, "-c", CHANGER, directory, str(number), "700"] for number in range(3)
        ]
        running = [subprocess.Popen(command) for command in commands]
        assert [process.wait() for process in running] == [0, 0, 0]
        left = 10**6 - sum(os.path.getsize(path) for path in directory.iterdir() if path.is_file())
        await failure(errno.EDQUOT, volume.request_capacity(left + 1))
        assert await volume.request_capacity(left) == left
