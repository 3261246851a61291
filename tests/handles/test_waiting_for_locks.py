"""Openings that wait for a lock: their order, their end, and what others see of them."""

import asyncio
import errno
import math
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

import aiofs
from aiofs.volumes import entry_stat

WAITER = """
import sys, aiofs
volume = aiofs.PrivateVolume(sys.argv[1])
fs = aiofs.FileSystem()
fs.mount("/", volume)
print("starts", flush=True)
with fs.create_sync_access_handle("/log", wait=60) as handle:
    handle.write(sys.argv[2].encode(), at=handle.get_size())
    print("has it", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def volume(tmp_path):
    with aiofs.PrivateVolume(tmp_path / "volume") as volume:
        yield volume


@contextmanager
def waiting_process(tmp_path, text="x"):
    arguments = [sys.executable, "-c", WAITER, str(tmp_path / "volume"), text]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "starts\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


async def until(condition):
    for _ in range(1000):
        if await condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition never came true")


async def waiting(volume, count):
    async def enough():
        return sum(lock.waiting for lock in await volume.locks()) == count

    await until(enough)


async def test_tasks_get_the_lock_in_the_order_of_their_calls(volume):
    file = await volume.root.get_file_handle("log", create=True)
    order = []

    async def take(opening, number):
        async with opening:
            order.append(number)

    async with file.create_access_handle() as handle:
        openings = [file.create_access_handle(wait=math.inf) for _ in range(200)]
        tasks = [
            asyncio.ensure_future(take(opening, number)) for number, opening in enumerate(openings)
        ]
        await handle.contention()
        await waiting(volume, 200)
        assert handle.contended
    await asyncio.gather(*tasks)
    assert order == list(range(200))
    assert await volume.locks() == []


async def test_tasks_of_two_ways_to_a_file_wait_in_one_queue(volume, fs):
    file = await volume.root.get_file_handle("log", create=True)
    order = []

    async def take(opening, number):
        async with opening:
            order.append(number)

    async with file.create_access_handle():
        tasks = []
        for number in range(6):
            opening = (
                fs.create_access_handle("/log", wait=60)
                if number % 2
                else file.create_access_handle(wait=60, mode="read-only")
            )
            tasks.append(asyncio.ensure_future(take(opening, number)))
            await waiting(volume, number + 1)
    await asyncio.gather(*tasks)
    assert order == list(range(6))


async def test_a_thousand_tasks_wait_without_a_thread_each(volume):
    file = await volume.root.get_file_handle("log", create=True)
    handle = await file.create_access_handle()
    openings = [
        asyncio.ensure_future(file.create_access_handle(wait=math.inf)) for _ in range(1000)
    ]
    await waiting(volume, 1000)
    assert len(os.listdir("/proc/self/task")) < 200
    other = await volume.root.get_file_handle("other", create=True)
    await (await other.create_access_handle()).close()
    for opening in openings[:-1]:
        opening.cancel()
    await asyncio.gather(*openings[:-1], return_exceptions=True)
    await handle.close()
    await (await openings[-1]).close()
    assert await volume.locks() == []


async def test_openings_of_many_threads_at_the_same_moment_all_get_a_place(
    tmp_path, volume, faults
):
    file = await volume.root.get_file_handle("log", create=True)

    def open_and_close():
        file.create_sync_access_handle(wait=math.inf).close()

    threads = [threading.Thread(target=open_and_close) for _ in range(60)]
    with waiting_process(tmp_path) as holder:
        assert holder.stdout.readline() == "has it\n"
        faults.delay("fcntl", 0.1)  # the threads meet at the lock that guards the queue
        for thread in threads:
            thread.start()
        await asyncio.sleep(0.5)
        faults.clear()
        await waiting(volume, 60)
    for thread in threads:
        await asyncio.to_thread(thread.join)


async def test_the_time_is_up_with_the_error_of_a_locked_file(volume, fs):
    file = await volume.root.get_file_handle("log", create=True)
    async with file.create_access_handle() as handle:
        for attempt in (
            lambda: file.create_sync_access_handle(wait=0.05),
            lambda: fs.create_sync_access_handle("/log", wait=0.05),
            lambda: fs.open("/log", os.O_RDWR, wait=0.05),
            lambda: file.create_sync_access_handle(wait=0),
        ):
            with pytest.raises(aiofs.NoModificationAllowedError) as caught:
                attempt()
            assert caught.value.errno == errno.EBUSY
        for opening in (
            file.create_access_handle(wait=0.05),
            fs.create_access_handle("/log", wait=0.05),
            file.create_access_handle(wait=0),
        ):
            with pytest.raises(aiofs.NoModificationAllowedError) as caught:
                await opening
            assert caught.value.errno == errno.EBUSY
        assert not handle.contended
        assert [lock.waiting for lock in await volume.locks()] == [False]


@pytest.mark.parametrize("wait", [-1, -0.5, math.nan, -math.inf])
async def test_a_wait_that_is_no_time_is_refused(volume, fs, wait):
    file = await volume.root.get_file_handle("log", create=True)
    with pytest.raises(ValueError, match="wait"):
        file.create_access_handle(wait=wait)
    with pytest.raises(ValueError, match="wait"):
        file.create_sync_access_handle(wait=wait)
    with pytest.raises(ValueError, match="wait"):
        fs.open("/log", os.O_RDWR, wait=wait)


@pytest.mark.parametrize("wait", ["1", True, [], b""])
async def test_a_wait_of_a_wrong_type_is_refused(volume, wait):
    file = await volume.root.get_file_handle("log", create=True)
    with pytest.raises(TypeError, match="wait"):
        file.create_access_handle(wait=wait)
    with pytest.raises(TypeError, match="wait"):
        file.create_sync_access_handle(wait=wait)


async def test_nobody_without_wait_passes_the_queue(volume):
    file = await volume.root.get_file_handle("log", create=True)
    reader = await file.create_access_handle(mode="read-only")
    writer = asyncio.ensure_future(file.create_access_handle(wait=60))
    await reader.contention()
    with pytest.raises(aiofs.NoModificationAllowedError):
        await file.create_access_handle(mode="read-only")
    with pytest.raises(aiofs.NoModificationAllowedError):
        file.create_sync_access_handle(mode="read-only")
    await reader.close()
    await (await writer).close()
    await (await file.create_access_handle(mode="read-only")).close()


async def test_readers_behind_a_writer_are_let_in_together(volume):
    file = await volume.root.get_file_handle("log", create=True)
    handle = await file.create_access_handle()
    readers = [
        asyncio.ensure_future(file.create_access_handle(mode="read-only", wait=60))
        for _ in range(5)
    ]
    await waiting(volume, 5)
    await handle.close()
    opened = await asyncio.gather(*readers)
    assert {lock.mode for lock in await volume.locks()} == {"read-only"}
    for reader in opened:
        await reader.close()


@pytest.mark.parametrize("leave", ["cancel", "drop", "time is up"])
async def test_who_leaves_the_queue_loses_nobodys_turn(volume, leave):
    file = await volume.root.get_file_handle("log", create=True)
    handle = await file.create_access_handle(mode="read-only")
    first = file.create_access_handle(wait=0.2 if leave == "time is up" else 60)
    if leave != "drop":
        first = asyncio.ensure_future(first)
    await waiting(volume, 1)
    second = asyncio.ensure_future(file.create_access_handle(mode="read-only", wait=60))
    await until(lambda: asyncio.sleep(0, first.done() if leave == "time is up" else True))
    if leave == "cancel":
        first.cancel()
    elif leave == "drop":
        with pytest.warns(RuntimeWarning, match="was never awaited"):
            del first
    await (await asyncio.wait_for(second, 30)).close()
    if leave == "time is up":
        assert isinstance(first.exception(), aiofs.NoModificationAllowedError)
    await handle.close()
    assert await volume.locks() == []


async def test_a_cancelled_opening_leaves_no_lock_when_it_was_just_its_turn(volume):
    file = await volume.root.get_file_handle("log", create=True)
    for _ in range(50):
        handle = await file.create_access_handle()
        opening = asyncio.ensure_future(file.create_access_handle(wait=60))
        await handle.contention()
        closing = handle.close()
        opening.cancel()
        await closing
        with pytest.raises(asyncio.CancelledError):
            await opening
        await (await file.create_access_handle()).close()


async def test_contention_ends_with_an_error_when_the_handle_is_closed(volume):
    file = await volume.root.get_file_handle("log", create=True)
    handle = await file.create_access_handle()
    contention = asyncio.ensure_future(handle.contention())
    await asyncio.sleep(0.05)
    await handle.close()
    with pytest.raises(aiofs.InvalidStateError):
        await contention
    assert not handle.contended
    with pytest.raises(aiofs.InvalidStateError):
        await handle.contention()


async def test_contention_can_be_cancelled_and_awaited_again(volume):
    file = await volume.root.get_file_handle("log", create=True)
    async with file.create_access_handle() as handle:
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(handle.contention(), 0.02)
        opening = asyncio.ensure_future(file.create_access_handle(wait=60))
        await handle.contention()
    await (await opening).close()


async def test_locks_tell_who_holds_and_who_waits(volume):
    name = "x" * 200
    directory = await volume.root.get_directory_handle(name, create=True)
    file = await directory.get_file_handle("é" * 100, create=True)
    before = time.time()
    async with file.create_access_handle(mode="read-only"):
        opening = asyncio.ensure_future(file.create_access_handle(wait=60))
        await waiting(volume, 1)
        held, waited = await volume.locks()
        assert isinstance(held, aiofs.LockInfo)
        assert held.path == waited.path == f"{name}/{'é' * 100}"
        assert (held.mode, waited.mode) == ("read-only", "in-place")
        assert (held.waiting, waited.waiting) == (False, True)
        assert held.pid == waited.pid == os.getpid()
        assert held.host == os.uname().nodename
        assert before - 1 < held.since <= waited.since < time.time() + 1
    await (await opening).close()


async def test_a_waiting_process_is_served_and_seen(tmp_path, volume):
    file = await volume.root.get_file_handle("log", create=True)
    handle = await file.create_access_handle()
    with waiting_process(tmp_path) as process:
        await asyncio.wait_for(handle.contention(), 30)
        assert handle.contended
        assert [lock.pid for lock in await volume.locks()] == [os.getpid(), process.pid]
        await handle.close()
        assert process.stdout.readline() == "has it\n"
        [lock] = await volume.locks()
        assert (lock.pid, lock.waiting) == (process.pid, False)
        with pytest.raises(aiofs.NoModificationAllowedError):
            await file.create_access_handle()


async def test_processes_are_served_in_their_order(tmp_path, volume):
    file = await volume.root.get_file_handle("log", create=True)
    handle = await file.create_access_handle()
    with waiting_process(tmp_path, "a") as first:
        await waiting(volume, 1)
        own = asyncio.ensure_future(file.create_access_handle(wait=60))
        await waiting(volume, 2)
        with waiting_process(tmp_path, "c") as third:
            await waiting(volume, 3)
            await handle.close()
            assert first.stdout.readline() == "has it\n"
            first.stdin.close()
            handle = await asyncio.wait_for(own, 30)
            await handle.write(b"b", at=await handle.get_size())
            await handle.close()
            assert third.stdout.readline() == "has it\n"
    assert await (await file.get_file()).read() == b"abc"


@pytest.mark.parametrize("which", ["holder", "waiter"])
async def test_a_killed_process_leaves_its_lock_or_its_place(tmp_path, volume, which):
    file = await volume.root.get_file_handle("log", create=True)
    mine = None if which == "holder" else await file.create_access_handle()
    with waiting_process(tmp_path) as process:
        if which == "holder":
            assert process.stdout.readline() == "has it\n"
        else:
            await waiting(volume, 1)
        opening = asyncio.ensure_future(file.create_access_handle(wait=60))
        await waiting(volume, 1 if which == "holder" else 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if mine is not None:
            await mine.close()
        handle = await asyncio.wait_for(opening, 30)
        assert [lock.pid for lock in await volume.locks()] == [os.getpid()]
        await handle.close()


async def test_a_killed_waiter_does_not_keep_others_out(tmp_path, volume):
    file = await volume.root.get_file_handle("log", create=True)
    handle = await file.create_access_handle()
    with waiting_process(tmp_path) as process:
        await waiting(volume, 1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not handle.contended
        await handle.close()
        await (await file.create_access_handle()).close()


async def test_waiting_burns_no_processor_time(volume):
    file = await volume.root.get_file_handle("log", create=True)
    async with file.create_access_handle():
        openings = [asyncio.ensure_future(file.create_access_handle(wait=60)) for _ in range(20)]
        await waiting(volume, 20)
        before = time.process_time()
        await asyncio.sleep(1)
        assert time.process_time() - before < 0.5
        for opening in openings:
            opening.cancel()
        await asyncio.gather(*openings, return_exceptions=True)


def test_threads_are_served_in_their_order(volume, fs):
    order = []

    def take(number):
        with fs.create_sync_access_handle("/log", create=True, wait=60):
            order.append(number)

    handle = fs.create_sync_access_handle("/log", create=True)
    threads = []
    for number in range(8):
        threads.append(threading.Thread(target=take, args=[number]))
        threads[-1].start()
        while sum(lock[4] for lock in volume._ops.locks()) <= number:
            time.sleep(0.005)
    assert handle.contended
    handle.close()
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_a_signal_handler_that_raises_ends_the_wait(volume, fs):
    def interrupt(number, frame):
        raise KeyboardInterrupt

    handle = fs.create_sync_access_handle("/log", create=True)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            fs.create_sync_access_handle("/log", wait=math.inf)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not handle.contended
    handle.close()


def test_a_signal_handler_that_returns_keeps_the_place(volume, fs):
    ran = []
    handle = fs.create_sync_access_handle("/log", create=True)

    def release(number, frame):
        ran.append(number)
        if len(ran) == 3:
            handle.close()

    before = signal.signal(signal.SIGALRM, release)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        fs.create_sync_access_handle("/log", wait=60).close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(ran) >= 3


def test_a_descriptor_is_waited_for(volume, fs):
    with aiofs.FileSystem() as other:
        other.mount("/", volume)
        held = other.open("/log", os.O_RDWR | os.O_CREAT)
        timer = threading.Timer(0.1, other.close, [held])
        timer.start()
        fs.close(fs.open("/log", os.O_RDWR, wait=60))
        timer.join()


def test_a_filesystem_opens_once_more_what_others_wait_for(volume, fs):
    held = fs.open("/log", os.O_RDWR | os.O_CREAT)
    with aiofs.FileSystem() as other:
        other.mount("/", volume)
        thread = threading.Thread(
            target=lambda: other.close(other.open("/log", os.O_RDWR, wait=60))
        )
        thread.start()
        while not any(lock[4] for lock in volume._ops.locks()):
            time.sleep(0.005)
        fs.close(fs.open("/log", os.O_RDWR))
        fs.close(held)
        thread.join()


def test_a_forked_child_waits_for_its_parent(tmp_path, volume, fs):
    handle = fs.create_sync_access_handle("/log", create=True)
    child = os.fork()
    if child == 0:
        try:
            fs.create_sync_access_handle("/log", wait=60).close()
            os._exit(0)
        finally:
            os._exit(1)
    while not handle.contended:
        time.sleep(0.005)
    handle.close()
    assert os.waitpid(child, 0)[1] == 0


SHARER = """
import sys, aiofs
volume = aiofs.PrivateVolume(sys.argv[1])
fs = aiofs.FileSystem()
fs.mount("/", volume)
with fs.create_sync_access_handle("/log", mode="shared", create=True):
    print("held", flush=True)
    sys.stdin.read()
"""


async def test_who_would_pass_the_queue_is_refused_at_once(tmp_path, volume, faults):
    """Also in the mode of the holder, which may share its lock and is not about to release it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SHARER, str(tmp_path / "volume")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    file = await volume.root.get_file_handle("log")
    opening = asyncio.ensure_future(file.create_access_handle(wait=math.inf))
    await waiting(volume, 1)
    before = faults.calls("fcntl")
    with pytest.raises(aiofs.NoModificationAllowedError):
        volume._ops.sync_access_handle("log", "shared", False)
    assert faults.calls("fcntl") - before < 200
    await asyncio.to_thread(process.communicate)
    await (await opening).close()


CROWD = """
import asyncio, math, sys, aiofs

async def main():
    volume = aiofs.PrivateVolume(sys.argv[1])
    file = await volume.root.get_file_handle("log", create=True)
    handle = await file.create_access_handle()
    openings = [asyncio.ensure_future(file.create_access_handle(wait=math.inf)) for _ in range(199)]
    while sum(lock.waiting for lock in await volume.locks()) < 199:
        await asyncio.sleep(0.01)
    print("all wait", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


async def test_a_killed_process_with_many_places_does_not_keep_the_next_one_waiting(
    tmp_path, volume
):
    command = [sys.executable, "-c", CROWD, str(tmp_path / "volume")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "all wait\n"
        file = await volume.root.get_file_handle("log", create=True)
        opening = asyncio.ensure_future(file.create_access_handle(wait=math.inf))
        await waiting(volume, 200)
        process.kill()
        await (await asyncio.wait_for(opening, 6)).close()


FORKING_WAITER = """
import os, signal, sys, aiofs
volume = aiofs.PrivateVolume(sys.argv[1])
fs = aiofs.FileSystem()
fs.mount("/", volume)

class Left(Exception):
    pass

def fork(number, frame):
    child = os.fork()
    if child == 0:
        fs.close(fs.open("/other", os.O_RDWR | os.O_CREAT))
        if sys.argv[2] == "leaves":
            raise Left
    else:
        os.waitpid(child, 0) if sys.argv[2] == "leaves" else None
        print("forked", child, flush=True)

signal.signal(signal.SIGUSR1, fork)
print("starts", flush=True)
try:
    with fs.create_sync_access_handle("/log", wait=60) as handle:
        handle.write(b"x", at=handle.get_size())
except Left:
    os._exit(0)
"""


@pytest.mark.parametrize("child", ["leaves", "waits on"])
async def test_a_fork_in_a_waiting_call_leaves_the_parent_its_place(tmp_path, volume, child):
    file = await volume.root.get_file_handle("log", create=True)
    async with file.create_access_handle() as handle:
        process = subprocess.Popen(
            [sys.executable, "-c", FORKING_WAITER, str(tmp_path / "volume"), child],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "starts\n"
        await handle.contention()
        process.send_signal(signal.SIGUSR1)
        forked = int((await asyncio.to_thread(process.stdout.readline)).split()[1])
        waits = [process.pid] if child == "leaves" else [process.pid, forked]
        await waiting(volume, len(waits))
        assert [lock.pid for lock in await volume.locks() if lock.waiting] == waits
    assert await asyncio.to_thread(process.wait) == 0
    process.stdout.close()
    async with file.create_access_handle(wait=60) as handle:
        assert await handle.get_size() == len(waits)


def test_a_child_that_is_forked_while_a_thread_takes_a_first_lock_keeps_nothing_of_the_table(
    tmp_path, faults
):
    """Else the parent's places in queues would stay after its death, as long as the child lives."""
    faults.delay("pwrite64", 0.002, nth=-1)  # the table is written while the process forks
    volumes = []

    def take_first_locks():
        for number in range(20):
            volumes.append(aiofs.PrivateVolume(tmp_path / str(number)))
            volumes[-1]._ops.sync_access_handle("log", "in-place", True).close()

    def kept():
        for name in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{name}")
            except OSError:  # the descriptor of this listing
                continue
            if target.endswith((".aiofs/waits", ".aiofs/volume")):
                return 1
        return 0

    thread = threading.Thread(target=take_first_locks)
    thread.start()
    found = 0
    while thread.is_alive():
        child = os.fork()
        if child == 0:
            os._exit(kept())
        found += os.waitpid(child, 0)[1] != 0
    thread.join()
    for volume in volumes:
        volume.close()
    assert found == 0


def test_a_closed_loop_leaves_no_opening_in_the_queue(volume, fs):
    async def wait_for(opening):
        return await opening

    async def begin():
        opening = fs.create_access_handle("/log", wait=math.inf)
        task = asyncio.ensure_future(wait_for(opening))
        await waiting(volume, 1)
        return opening, task

    handle = fs.create_sync_access_handle("/log", create=True)
    loop = asyncio.new_event_loop()
    kept = loop.run_until_complete(begin())
    loop.close()
    asyncio.run(waiting(volume, 0))  # a loop that starts cancels what was awaited on closed ones
    handle.close()
    fs.create_sync_access_handle("/log").close()
    kept[1]._log_destroy_pending = False


class Nothing(aiofs.Volume):
    def open_file(self, path, *, create, exclusive):
        return path

    def size(self, file):
        return 0

    def stat(self, path):
        return entry_stat("file" if path else "directory")


async def test_the_locks_of_a_volume_in_python_are_waited_for():
    with aiofs.FileSystem() as fs:
        volume = Nothing()
        fs.mount("/", volume)
        order = []

        async def take(number):
            async with fs.create_access_handle("/log", wait=60):
                order.append(number)

        handle = await fs.create_access_handle("/log")
        tasks = [asyncio.ensure_future(take(number)) for number in range(20)]
        await handle.contention()
        await waiting(volume, 20)
        assert {lock.host for lock in await volume.locks()} == {None}
        await handle.close()
        await asyncio.gather(*tasks)
        assert order == list(range(20))


HAND_ROUND = """
import sys, aiofs
volume = aiofs.PrivateVolume(sys.argv[1])
fs = aiofs.FileSystem()
fs.mount("/", volume)
number, rounds = sys.argv[2].encode() + b"\\n", int(sys.argv[3])
for _ in range(rounds):
    with fs.create_sync_access_handle("/turns", wait=120) as handle:
        handle.write(number, at=handle.get_size())
"""


async def test_processes_hand_a_file_round_and_nobody_is_passed_over(tmp_path, volume):
    processes, rounds = 12, 20
    file = await volume.root.get_file_handle("turns", create=True)
    handle = await file.create_access_handle()
    started = []
    for number in range(processes):
        arguments = [str(tmp_path / "volume"), str(number), str(rounds)]
        started.append(subprocess.Popen([sys.executable, "-c", HAND_ROUND, *arguments]))
    await waiting(volume, processes)
    await handle.close()
    for process in started:
        assert process.wait() == 0
    turns = (await (await file.get_file()).text()).split()
    assert len(turns) == processes * rounds
    assert all(turns.count(str(number)) == rounds for number in range(processes))
    assert sorted(turns[:processes], key=int) == [str(number) for number in range(processes)]


# ---- host volumes

HOLDER = """
import sys, aiofs
volume = aiofs.HostVolume(sys.argv[1])
fs = aiofs.FileSystem()
fs.mount("/", volume)
fd = fs.open("/log", 0o102)
print("held", flush=True)
sys.stdin.read()
fs.close(fd)
"""

LISTER = """
import asyncio, sys, aiofs
async def main():
    with aiofs.HostVolume(sys.argv[1]) as volume:
        for lock in await volume.locks():
            print(lock.path, lock.pid)
asyncio.run(main())
"""


@contextmanager
def holding_process(directory):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.communicate()


async def test_a_host_volume_lists_no_locks_and_stays_as_it_was(tmp_path):
    with aiofs.HostVolume(tmp_path) as volume:
        assert await volume.locks() == []
        assert os.listdir(tmp_path) == []


async def test_a_host_volume_without_a_lock_yet_lists_and_awaits_those_of_another_process(tmp_path):
    (tmp_path / "log").write_bytes(b"")
    with aiofs.HostVolume(tmp_path) as volume:
        file = await volume.root.get_file_handle("log")
        with holding_process(tmp_path) as process:
            held = [("log", process.pid, False)]
            assert [(lock.path, lock.pid, lock.waiting) for lock in await volume.locks()] == held
            opening = asyncio.ensure_future(file.create_access_handle(wait=60))
            await waiting(volume, 1)
        await (await opening).close()


async def test_a_read_only_volume_opened_first_does_not_hide_later_locks_from_others(
    tmp_path,
):
    (tmp_path / "log").write_bytes(b"")
    with aiofs.HostVolume(tmp_path, read_only=True) as reading:
        file = await reading.root.get_file_handle("log")
        await (await file.create_access_handle(mode="read-only")).close()
        with aiofs.HostVolume(tmp_path) as volume:
            file = await volume.root.get_file_handle("log")
            async with await file.create_access_handle():
                lister = [sys.executable, "-c", LISTER, str(tmp_path)]
                listed = await asyncio.to_thread(subprocess.check_output, lister, text=True)
            assert listed == f"log {os.getpid()}\n"


async def test_a_handle_of_a_read_only_volume_does_not_hide_later_locks_from_others(tmp_path):
    (tmp_path / "log").write_bytes(b"")
    (tmp_path / "other").write_bytes(b"")
    with aiofs.HostVolume(tmp_path, read_only=True) as reading:
        file = await reading.root.get_file_handle("other")
        async with await file.create_access_handle(mode="read-only"):
            with aiofs.HostVolume(tmp_path) as volume:
                file = await volume.root.get_file_handle("log")
                async with await file.create_access_handle():
                    lister = [sys.executable, "-c", LISTER, str(tmp_path)]
                    listed = await asyncio.to_thread(subprocess.check_output, lister, text=True)
        assert sorted(listed.splitlines()) == [f"log {os.getpid()}", f"other {os.getpid()}"]


@pytest.mark.parametrize("content", [b"", b"cut off", bytes(100_000)])
async def test_a_damaged_table_of_waiting_openings_is_made_anew(tmp_path, content):
    with aiofs.PrivateVolume(tmp_path) as volume:
        (tmp_path / ".aiofs/waits").write_bytes(content)
        file = await volume.root.get_file_handle("log", create=True)
        async with await file.create_access_handle():
            assert [lock.path for lock in await volume.locks()] == ["log"]


@pytest.mark.parametrize("call", ["openat", "ftruncate", "pwrite64", "fcntl", "fstat"])
def test_a_table_that_cannot_be_made_costs_no_lock(tmp_path, faults, call):
    for nth in range(1, 12):
        with aiofs.PrivateVolume(tmp_path / str(nth)) as volume:
            faults.fail(call, errno.EIO, nth)
            try:
                volume._ops.sync_access_handle("log", "in-place", True).close()
            except OSError as error:
                assert error.errno == errno.EIO
            faults.clear()
            volume._ops.sync_access_handle("log", "in-place", True).close()
