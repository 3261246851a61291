"""Four processes save files and are killed at random: nothing is torn, lost or still locked.

    python tests/crash/kill.py ROUNDS [DIRECTORY]        SEED=... repeats the choices, not the times

In each round some of the workers, often all, die by SIGKILL. Then a new process opens the volume
and checks the files of the dead, and if nobody lives, everything: the locks, the swap files, the
usage count. New workers go on where the dead ones were.

What a file has to contain follows from the ledger, memory that all processes share. A worker stores
the number of a version as attempted before it begins, and as acknowledged after the call that makes
it durable has returned. The bytes of a version follow from its number, so a torn one is noticed.

This process imports aiofs and never uses it, so that it can fork.
"""

import asyncio
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from contextlib import suppress

import aiofs
from aiofs import FileHandle, FileSystem, PrivateVolume
from aiofs.aio import aio_fsync, aio_write, aiocb

WORKERS = 4
PATIENCE = 120  # seconds; a worker that does nothing for so long hangs
SLOT = 70_000
QUOTA = 10**9
# The files of each worker, and those of all.
COMMITS = ["exclusive", "shared", "async", "siloed", "stream"]
SLOTS = ["in-place", "async-in-place", "descriptor"]
OWN = [*COMMITS, *SLOTS, "moved", "made", "beat"]
COMMON = ["counter", "page"]


# ---- the ledger and the bytes -------------------------------------------------------------------


class Ledger:
    """Per worker and file, the last version that was attempted and the last acknowledged one."""

    def __init__(self):
        count = WORKERS * (len(OWN) + len(COMMON)) * 2
        self._numbers = memoryview(mmap.mmap(-1, count * 8)).cast("q")

    def _at(self, worker, name):
        names = [*OWN, *COMMON]
        return 2 * (worker * len(names) + names.index(name))

    def attempted(self, worker, name):
        return self._numbers[self._at(worker, name)]

    def acknowledged(self, worker, name):
        return self._numbers[self._at(worker, name) + 1]

    def attempt(self, worker, name, number):
        self._numbers[self._at(worker, name)] = number

    def acknowledge(self, worker, name, number):
        self._numbers[self._at(worker, name) + 1] = number


HEAD = struct.Struct("=16sqqq")


def version(name, worker, number):
    """The bytes of a version."""
    chance = random.Random(f"{name} {worker} {number}")
    body = chance.randbytes(chance.choice([0, 100, 5000, SLOT - HEAD.size]))
    return HEAD.pack(name.encode(), worker, number, len(body)) + body


def number_of(data, name, worker=None):
    """The worker and number of the version that the bytes are, all of them."""
    assert len(data) >= HEAD.size, f"{name}: {len(data)} bytes"
    found, by, number, _ = HEAD.unpack_from(data)
    assert found.rstrip(b"\0") == name.encode(), f"{name}: {data[:40]}"
    whole = version(name, by, number)
    assert data[: len(whole)] == whole, f"{name}: version {number} of {by} is torn"
    assert worker in (None, by)
    return by, number


# ---- a worker -----------------------------------------------------------------------------------


class Worker:
    def __init__(self, ledger, directory, me, chance):
        self.ledger, self.me, self.chance = ledger, me, chance
        self.volume = PrivateVolume(
            directory, quota=chance.choice([None, QUOTA]), durable=chance.random() < 0.7
        )
        self.fs = FileSystem()
        self.fs.mount("/v", self.volume)
        with suppress(FileExistsError):
            self.volume._ops.mkdir(f"{me}")

    def file(self, name):
        return FileHandle._of(self.volume, f"{self.me}/{name}")

    def next_version(self, name):
        number = self.ledger.attempted(self.me, name) + 1
        self.ledger.attempt(self.me, name, number)
        return number, version(name, self.me, number)

    def acknowledge(self, name, number):
        self.ledger.acknowledge(self.me, name, number)

    # ---- files that are replaced ----

    def commit(self, mode):
        number, data = self.next_version(mode)
        path = f"{self.me}/{mode}"
        with self.volume._ops.sync_access_handle(path, mode, True) as handle:
            handle.truncate(0)
            for at in range(0, len(data), 20_000):
                handle.write(data[at : at + 20_000], at=at)
        self.acknowledge(mode, number)

    async def commit_async(self):
        number, data = self.next_version("async")
        mode = self.chance.choice(["exclusive", "shared"])
        async with self.fs.create_access_handle(
            f"/v/{self.me}/async", mode=mode, create=True
        ) as handle:
            handle.truncate(0)
            await handle.write(data, at=0)
        self.acknowledge("async", number)

    async def commit_stream(self, name):
        number, data = self.next_version(name)
        with suppress(FileExistsError):
            self.fs.close(self.fs.open(f"/v/{self.me}/{name}", os.O_CREAT | os.O_EXCL | os.O_RDWR))
        mode = "siloed" if name == "siloed" else "exclusive"
        async with self.file(name).create_writable(mode=mode) as stream:
            await stream.write(data[:1000])
            await stream.write(data[1000:])
        self.acknowledge(name, number)

    async def abort(self):
        handle = await self.fs.create_access_handle(
            f"/v/{self.me}/async", mode="exclusive", create=True
        )
        await handle.write(b"never seen", at=self.chance.randrange(10))
        await handle.abort()

    # ---- files with two slots: a version goes where the acknowledged one is not ----

    def next_slot(self, name):
        number = (self.ledger.attempted(self.me, name) >> 1) + 1
        slot = 1 - (self.ledger.acknowledged(self.me, name) & 1)
        value = number << 1 | slot
        self.ledger.attempt(self.me, name, value)
        return value, slot * SLOT, version(name, self.me, number)

    def flush(self):
        value, at, data = self.next_slot("in-place")
        path = f"{self.me}/in-place"
        with self.volume._ops.sync_access_handle(path, "in-place", True) as handle:
            handle.write(data, at=at)
            if self.chance.random() < 0.5:
                handle.flush()
                self.acknowledge("in-place", value)
        self.acknowledge("in-place", value)

    async def flush_async(self):
        value, at, data = self.next_slot("async-in-place")
        async with self.fs.create_access_handle(
            f"/v/{self.me}/async-in-place", mode="in-place", create=True
        ) as handle:
            handle.write(data[:500], at=at)
            handle.write(data[500:], at=at + 500)
            await handle.flush()
            self.acknowledge("async-in-place", value)

    async def fsync(self):
        value, at, data = self.next_slot("descriptor")
        fd = self.fs.open(f"/v/{self.me}/descriptor", os.O_RDWR | os.O_CREAT)
        write, sync = aiocb(fd, data, aio_offset=at), aiocb(fd)
        aio_write(write)
        aio_fsync(self.chance.choice([os.O_SYNC, os.O_DSYNC]), sync)
        await sync
        assert await write == len(data)
        self.acknowledge("descriptor", value)
        self.fs.close(fd)

    # ---- names: an odd version is there, or moved ----

    async def move(self):
        number = self.ledger.attempted(self.me, "moved") + 1
        names = [f"{self.me}/moved-{parity}" for parity in "01"]
        there = self.exists(names[1])
        if not self.exists(names[there]) or not self.volume._ops.stat(names[there]).st_size:
            with self.volume._ops.sync_access_handle(names[there], "in-place", True) as handle:
                handle.write(HEAD.pack(b"moved", self.me, 0, 0))
        number += there == number % 2  # the last move was attempted, and not done
        self.ledger.attempt(self.me, "moved", number)
        await FileHandle._of(self.volume, names[there]).move(f"moved-{1 - there}")
        self.acknowledge("moved", number)

    async def make(self):
        number = self.ledger.attempted(self.me, "made") + 1
        there = self.exists(f"{self.me}/made")
        number += there == number % 2
        self.ledger.attempt(self.me, "made", number)
        if there:
            await self.file("made").remove()
        else:
            with self.volume._ops.sync_access_handle(f"{self.me}/made", "in-place", True):
                pass
        self.acknowledge("made", number)

    def exists(self, path):
        with suppress(FileNotFoundError):
            return bool(self.volume._ops.stat(path))
        return False

    # ---- files of all workers ----

    async def count(self):
        async with self.fs.create_access_handle(
            "/v/counter", mode=self.chance.choice(["exclusive", "in-place"]), create=True, wait=60
        ) as handle:
            data = bytearray(8)
            await handle.read(data, at=0)
            attempts = self.ledger.attempted(self.me, "counter") + 1
            self.ledger.attempt(self.me, "counter", attempts)
            await handle.write(struct.pack("=q", struct.unpack("=q", data)[0] + 1), at=0)
        self.acknowledge("counter", self.ledger.acknowledged(self.me, "counter") + 1)

    async def page(self):
        number, data = self.next_version("page")
        async with self.fs.create_access_handle(
            "/v/page", mode="shared", create=True, wait=60
        ) as handle:
            handle.truncate(0)
            await handle.write(data, at=0)
        self.acknowledge("page", number)

    async def run(self):
        actions = [
            lambda: self.commit("exclusive"),
            lambda: self.commit("shared"),
            self.flush,
            self.commit_async,
            lambda: self.commit_stream("siloed"),
            lambda: self.commit_stream("stream"),
            self.abort,
            self.flush_async,
            self.fsync,
            self.move,
            self.make,
            self.count,
            self.page,
        ]
        beats = 0
        while True:
            begun = self.chance.choice(actions)()
            if begun is not None:
                await begun
            beats += 1
            self.ledger.attempt(self.me, "beat", beats)


# ---- the checks ---------------------------------------------------------------------------------


class Checker:
    def __init__(self, ledger, directory):
        self.ledger, self.directory = ledger, directory
        self.volume = PrivateVolume(directory, quota=QUOTA)

    def read(self, path, mode="in-place"):
        """The bytes of a file; opening it in place shows that nobody has its lock."""
        try:
            with self.volume._ops.sync_access_handle(path, mode, False) as handle:
                data = bytearray(handle.get_size())
                assert handle.read(data, at=0) == len(data)
                return bytes(data)
        except FileNotFoundError:
            return None

    def check_commits(self, worker):
        for name in COMMITS:
            acknowledged = self.ledger.acknowledged(worker, name)
            data = self.read(f"{worker}/{name}")
            if not data:  # created, and never replaced
                assert acknowledged == 0, f"{name} of {worker}: version {acknowledged} is lost"
                continue
            _, number = number_of(data, name, worker)
            assert len(data) == len(version(name, worker, number)), f"{name}: longer than {number}"
            attempted = self.ledger.attempted(worker, name)
            assert acknowledged <= number <= attempted, (name, acknowledged, number, attempted)

    def check_slots(self, worker):
        for name in SLOTS:
            value = self.ledger.acknowledged(worker, name)
            data = self.read(f"{worker}/{name}")
            if value:
                at = (value & 1) * SLOT
                assert data is not None, f"{name} of {worker} is lost"
                assert number_of(data[at:], name, worker)[1] == value >> 1

    def check_names(self, worker):
        attempted = self.ledger.attempted(worker, "moved")
        found = [self.read(f"{worker}/moved-{parity}") for parity in "01"]
        if attempted:
            assert sorted(data is None for data in found) == [False, True], found
            assert HEAD.pack(b"moved", worker, 0, 0) in found
            if attempted == self.ledger.acknowledged(worker, "moved"):
                assert (found[1] is not None) == attempted % 2
        made = self.ledger.attempted(worker, "made")
        if made == self.ledger.acknowledged(worker, "made"):
            assert (self.read(f"{worker}/made") is not None) == made % 2

    def check_common(self, alone):
        mode = "in-place" if alone else "readwrite-unsafe"
        least = sum(self.ledger.acknowledged(worker, "counter") for worker in range(WORKERS))
        page = counter = None
        with suppress(aiofs.NoModificationAllowedError):  # only if a worker lives
            counter = self.read("counter", mode)
        with suppress(aiofs.NoModificationAllowedError):
            page = self.read("page", mode)
        if alone:
            assert counter is not None or least == 0
        most = sum(self.ledger.attempted(worker, "counter") for worker in range(WORKERS))
        if counter:
            counted = struct.unpack("=q", counter)[0]
            assert least <= counted <= most, (least, counted, most)
        if page:
            by, number = number_of(page, "page")
            assert number <= self.ledger.attempted(by, "page")

    async def locks(self):
        return await self.volume.locks()

    def check_alone(self):
        """Nobody lives: there is no lock and no swap file, and the usage count is right."""
        assert asyncio.run(self.locks()) == []
        # The kernel may free what an io_uring of a dead process has open a little later.
        swap = f"{self.directory}/.aiofs/swap"
        deadline = time.monotonic() + PATIENCE
        while os.path.isdir(swap) and os.listdir(swap):
            assert time.monotonic() < deadline, os.listdir(swap)
            time.sleep(0.01)
            self.volume.close()
            self.volume = PrivateVolume(self.directory, quota=QUOTA)
        sizes = 0
        for folder, folders, names in os.walk(self.directory):
            if ".aiofs" in folders:
                folders.remove(".aiofs")
            sizes += sum(os.lstat(f"{folder}/{name}").st_size for name in names)
        assert self.volume._ops.estimate()[0] == sizes

    def check(self, dead):
        alone = len(dead) == WORKERS
        for worker in dead:
            self.check_commits(worker)
            self.check_slots(worker)
            self.check_names(worker)
        self.check_common(alone)
        if alone:
            self.check_alone()
        self.volume.close()


# ---- the driver ---------------------------------------------------------------------------------


def child(function):
    """Forks a process that runs the function. Returns its pid."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    return pid


class Failed(Exception):
    pass


class Driver:
    def __init__(self, directory, chance):
        self.directory, self.chance = directory, chance
        self.ledger = Ledger()
        self.workers = {}  # pids
        self.spawned = 0

    def start_missing(self):
        for worker in set(range(WORKERS)) - set(self.workers):
            self.ledger.attempt(worker, "beat", 0)
            self.spawned += 1
            chance = random.Random(self.chance.random())
            self.workers[worker] = child(lambda me=worker, chance=chance: self.work(me, chance))

    def work(self, me, chance):
        asyncio.run(Worker(self.ledger, self.directory, me, chance).run())

    def wait_for_a_beat(self):
        deadline = time.monotonic() + PATIENCE
        while not all(self.ledger.attempted(worker, "beat") for worker in self.workers):
            for worker, pid in list(self.workers.items()):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    del self.workers[worker]
                    raise Failed(f"worker {worker} failed")
            if time.monotonic() > deadline:
                raise Failed("a worker hangs")
            time.sleep(0.001)

    def kill(self, victims):
        for worker in victims:
            os.kill(self.workers[worker], signal.SIGKILL)
        for worker in victims:
            status = os.waitpid(self.workers.pop(worker), 0)[1]
            if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
                raise Failed(f"worker {worker} failed")

    def check(self, dead):
        pid = child(lambda: Checker(self.ledger, self.directory).check(dead))
        if os.waitpid(pid, 0)[1] != 0:
            raise Failed(f"the check after the death of {dead} failed")

    def round(self):
        self.start_missing()
        self.wait_for_a_beat()
        time.sleep(self.chance.uniform(0, 0.02))
        everybody = self.chance.random() < 0.5
        count = WORKERS if everybody else self.chance.randrange(1, WORKERS)
        victims = sorted(self.chance.sample(range(WORKERS), count))
        self.kill(victims)
        self.check(victims)

    def acknowledged(self):
        """How many versions were acknowledged, by file."""
        names = [*OWN[:-1], *COMMON]
        counts = {
            name: sum(self.ledger.acknowledged(worker, name) for worker in range(WORKERS))
            for name in names
        }
        return {name: n >> 1 if name in SLOTS else n for name, n in counts.items()}


def run(driver, rounds):
    """Why a round failed, or None."""
    for number in range(1, rounds + 1):
        try:
            driver.round()
        except Failed as why:
            return f"round {number}: {why}"
    return None


def main(rounds, directory=None):
    seed = int(os.environ.get("SEED", random.randrange(2**31)))
    folder = directory or tempfile.mkdtemp(prefix="aiofs-crash-")
    driver = Driver(f"{folder}/volume", random.Random(seed))
    try:
        failure = run(driver, int(rounds))
    finally:
        for pid in driver.workers.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    if failure:
        print(f"{failure}; SEED={seed}, the files are in {folder}")
        return 1
    if directory is None:
        shutil.rmtree(folder)
    counts = ", ".join(f"{name} {count}" for name, count in driver.acknowledged().items())
    print(f"{rounds} rounds, {driver.spawned} workers, nothing torn, lost or locked")
    print(f"versions saved: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
