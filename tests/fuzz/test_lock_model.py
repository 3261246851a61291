"""Locks between processes against a model: one process draws steps, sends each to a worker process,
and compares the outcome with what the table of modes and the order of the queues say.

    python tests/fuzz/test_lock_model.py private|host SEED STEPS   repeats a run, or does a million

The workers open files in all modes and ways, wait, close, abort, drop, commit, move, remove, make
anew, cancel, time out, fork, are stopped and killed. After each step the test waits for exactly the
openings whose turn it is; one more, or one less, is a failure. AIOFS_LOCK_STEPS: steps of a run.
"""

import asyncio
import ctypes
import errno
import gc
import math
import os
import pickle
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import aiofs
from aiofs import _core
from aiofs.handles.directory_handle import DirectoryHandle
from aiofs.handles.file_handle import FileHandle

WEIGHTS = {
    "open": 30,
    "close": 18,
    "contend": 3,
    "cancel": 4,
    "time_out": 0.5,
    "race": 3,
    "crowd": 1,
    "die": 0.3,
    "stop": 0.5,
    "fork": 0.3,
    "look": 3,
    "get_file": 3,
    "make": 5,
    "remove": 4,
    "move": 4,
    "of_its_own_filesystem": 2,
    "directories": 3,
}
STEPS = {"short": 1000, "long": 50_000}
WORKERS = 4
MOST_CLAIMS = 24
NEVER = 1000 * 10**9  # ns: an opening whose wake-up is lost does not try by itself
RELEASE = 1.8  # seconds; a call waits for 2 until a dropped or cancelled holder has released
PATIENCE = 30  # the longest wait for an outcome, in seconds
FILES = ["a", "b", "d/a", "d/b", "d/e/c"]
MODES = {
    "in-place": "X",
    "exclusive": "X",
    "shared": "S",
    "read-only": "R",
    "readwrite-unsafe": "U",
}
WRITABLES = {"siloed": "S", "exclusive": "X"}


# ---- a worker process ----------------------------------------------------------------------------


def made_volume(kind, directory):
    volume = aiofs.PrivateVolume if kind == "private" else aiofs.HostVolume
    return volume(directory, durable=False)


class Worker:
    """Runs the commands of the driver on a loop, and tells it when a waiting opening ends."""

    def __init__(self, link, kind, directory):
        self.link = link
        self.volume = made_volume(kind, directory)
        self.filesystems = [aiofs.FileSystem(), aiofs.FileSystem()]
        for fs in self.filesystems:
            fs.mount("/", self.volume)
        self.held, self.waiting = {}, {}
        self.answered = set()

    async def run(self):
        self.link.setblocking(False)
        while True:
            data = await asyncio.get_running_loop().sock_recv(self.link, 65536)
            command, *arguments = pickle.loads(data)
            try:
                answer = await getattr(self, command)(*arguments)
            except OSError as error:
                answer = errno.errorcode[error.errno]
            self.send("answer", answer)

    def send(self, *message):
        self.link.send(pickle.dumps(message))

    def file(self, path):
        return FileHandle._of(self.volume, path)

    def call(self, claim):
        """What opens the file: an awaitable, or a function that blocks."""
        wait, path, fs = claim.wait, "/" + claim.path, self.filesystems[claim.fs]
        if claim.way == "descriptor":
            flags = os.O_RDWR | (os.O_CREAT if claim.create else 0)
            return lambda: (fs, fs.open(path, flags, wait=wait))
        if claim.way == "sync":
            return lambda: fs.create_sync_access_handle(
                path, mode=claim.mode, create=claim.create, wait=wait
            )
        if claim.way == "writable":
            return self.file(claim.path).create_writable(mode=claim.mode, wait=wait)
        if claim.create:
            return fs.create_access_handle(path, mode=claim.mode, create=True, wait=wait)
        return self.file(claim.path).create_access_handle(mode=claim.mode, wait=wait)

    async def open(self, claim):
        before = self.places(claim.path)
        call = self.call(claim)  # it begins here
        if callable(call) and claim.wait is None:
            self.held[claim.number] = call()
            return "held"
        task = asyncio.ensure_future(self.in_thread(call) if callable(call) else self.awaited(call))
        await asyncio.sleep(0)  # the task awaits it: else a cancellation would only drop it
        while not task.done():
            if claim.wait is not None and self.places(claim.path) > before:
                self.waiting[claim.number] = task
                task.add_done_callback(lambda task: self.ended(claim.number, task))
                return "waits"
            await asyncio.sleep(0)
        self.held[claim.number] = task.result()
        return "held"

    async def awaited(self, opening):
        return await opening

    async def in_thread(self, function):
        """As asyncio.to_thread, with a thread for each call."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        outcome = []

        def run():
            try:
                outcome.append((function(), None))
            except OSError as error:
                outcome.append((None, error))
            loop.call_soon_threadsafe(done.set)

        threading.Thread(target=run, daemon=True).start()
        await done.wait()
        result, error = (
            outcome.pop()
        )  # else the thread, which may not have ended, has the handle too
        if error:
            raise error
        return result

    def places(self, path):
        pid = os.getpid()
        return sum(
            lock[0] == path and lock[2] == pid and lock[4] for lock in self.volume._ops.locks()
        )

    def ended(self, number, task):
        del self.waiting[number]
        if task.cancelled():
            answer = "cancelled"
        elif error := task.exception():
            answer = errno.errorcode[error.errno]
        else:
            self.held[number] = task.result()
            answer = "held"
        self.send("event", number, answer)

    async def cancel(self, number):
        """Cancels a waiting opening, which then ends, mostly as cancelled."""
        if task := self.waiting.get(number):
            task.cancel()

    async def close(self, number, how):
        held = self.held.pop(number)
        if isinstance(held, tuple):
            held[0].close(held[1])
        elif how == "drop" and not hasattr(held, "seek"):
            del held
            gc.collect(0)
        else:
            if how == "commit" and getattr(held, "mode", "") in ("exclusive", "shared"):
                wrote = held.write(b"x", at=0)
                if asyncio.iscoroutine(wrote) or hasattr(wrote, "send"):
                    await wrote
            ended = held.abort() if how == "abort" else held.close()
            if ended is not None:
                await ended

    async def contended(self, number):
        return self.held[number].contended

    async def locks(self):
        return [(lock[0], MODES[lock[1]], lock[2], lock[4]) for lock in self.volume._ops.locks()]

    async def get_file(self, path):
        await self.file(path).get_file()

    async def make(self, path):
        parent, _, name = path.rpartition("/")
        await DirectoryHandle._of(self.volume, parent).get_file_handle(name, create=True)

    async def make_directory(self, path):
        parent, _, name = path.rpartition("/")
        await DirectoryHandle._of(self.volume, parent).get_directory_handle(name, create=True)

    async def remove(self, path):
        await self.file(path).remove()

    async def remove_directory(self, path):
        await DirectoryHandle._of(self.volume, path).remove(recursive=True)

    async def move(self, path, target):
        parent, _, name = target.rpartition("/")
        await self.file(path).move(DirectoryHandle._of(self.volume, parent), name)

    async def move_directory(self, path, name):
        await DirectoryHandle._of(self.volume, path).move(name)

    async def unlink(self, path, fs):
        self.filesystems[fs].unlink("/" + path)

    async def rename(self, path, target, fs):
        self.filesystems[fs].rename("/" + path, "/" + target)

    async def fork(self, path):
        """A child asks for the lock, tells the outcome, and lives on."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            answer = "held"
            try:
                self.filesystems[0].create_sync_access_handle("/" + path, mode="in-place").close()
            except OSError as error:
                answer = errno.errorcode[error.errno]
            os.write(write, answer.encode())
            while True:
                signal.pause()
        answer = os.read(read, 100).decode()
        os.close(read)
        os.close(write)
        return answer, child


def work(link, kind, directory):
    warnings.simplefilter("ignore")  # of handles that are dropped
    sys.setswitchinterval(
        1e-5
    )  # the thread that opens needs the GIL while the loop looks for its end
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    library = ctypes.CDLL(str(Path(aiofs.__file__).parent / "libaiofs.so"))
    ctypes.c_int64.in_dll(library, "aiofs_wait_interval").value = NEVER
    asyncio.run(Worker(link, kind, directory).run())


# ---- the model -----------------------------------------------------------------------------------


@dataclass(eq=False)
class Claim:
    """A lock that is held or waited for, or asked for."""

    number: int
    worker: int
    path: str
    way: str
    mode: str
    lock: str
    fs: int
    create: bool
    wait: float | None

    @property
    def owner(self):
        """All descriptors of a FileSystem share a lock."""
        return (self.worker, self.fs) if self.way == "descriptor" else None


@dataclass
class Model:
    files: set = field(default_factory=set)
    directories: set = field(default_factory=set)
    holders: dict = field(default_factory=dict)  # of each path
    queues: dict = field(default_factory=dict)

    def held(self, path):
        return self.holders.setdefault(path, [])

    def queue(self, path):
        return self.queues.setdefault(path, [])

    def claims(self):
        return [
            claim for claims in (*self.holders.values(), *self.queues.values()) for claim in claims
        ]

    def has_parent(self, path):
        return path.rpartition("/")[0] in self.directories | {""}

    def fits(self, claim):
        return all(
            other.lock == claim.lock
            and (claim.lock != "X" or (claim.owner and claim.owner == other.owner))
            for other in self.held(claim.path)
        )

    def may_take(self, claim):
        """For a claim that is in no queue."""
        mine = self.held(claim.path) and claim.lock == "X"
        return self.fits(claim) and (not self.queue(claim.path) or mine)

    def take(self, claim):
        if claim.path not in self.files and not claim.create:
            return "ENOENT"
        self.files.add(claim.path)
        self.held(claim.path).append(claim)
        return "held"

    def open(self, claim):
        if not self.has_parent(claim.path):
            return "ENOENT"
        if self.may_take(claim):
            return self.take(claim)
        if claim.wait is None:
            return "EBUSY"
        self.queue(claim.path).append(claim)
        return "waits"

    def serve(self):
        """Gives locks to those whose turn it is. Returns these, and the possible outcomes of each.

        Several that share a lock open the file in any order: one may find what another one made.
        """
        served = []
        for path, queue in self.queues.items():
            missing = path not in self.files
            while queue and self.fits(queue[0]):
                claim = queue.pop(0)
                outcome = self.take(claim)
                either = missing and not claim.create and claim.lock != "X"
                served.append((claim, {outcome, "ENOENT", "held"} if either else {outcome}))
        return served

    def forget(self, claim):
        for claims in (*self.holders.values(), self.queue(claim.path)):
            if claim in claims:
                claims.remove(claim)

    def is_free(self, path, owner=None):
        """Whether a call may lock the entry for itself."""
        held = self.held(path)
        if held and owner:
            return all(claim.owner == owner for claim in held)
        return not held and not self.queue(path)

    def is_free_below(self, directory):
        paths = [*self.holders, *self.queues]
        return all(self.is_free(path) for path in paths if path.startswith(directory + "/"))

    def rebase(self, old, new):
        """A directory moves."""
        for names in (self.files, self.directories):
            moved = {name for name in names if name == old or name.startswith(old + "/")}
            names -= moved
            if new:
                names |= {new + name[len(old) :] for name in moved}


# ---- the driver ----------------------------------------------------------------------------------


class Driver:
    def __init__(self, kind, directory, seed):
        self.kind, self.directory = kind, directory
        self.random = random.Random(seed)
        self.model = Model(set(FILES), {"d", "d/e"})
        self.workers, self.links = [None] * WORKERS, [None] * WORKERS
        self.answers = [deque() for _ in range(WORKERS)]
        self.events, self.children, self.count = {}, [], 0
        self.history = deque(maxlen=30)
        self.done = Counter()
        for number in range(WORKERS):
            self.start(number)

    # -- processes

    def start(self, number):
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            try:
                work(there, self.kind, self.directory)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        there.close()
        self.workers[number], self.links[number] = pid, here

    def kill(self, number):
        os.kill(self.workers[number], signal.SIGKILL)
        os.waitpid(self.workers[number], 0)
        self.links[number].close()
        self.answers[number].clear()
        for claim in self.model.claims():
            if claim.worker == number:
                self.model.forget(claim)
                self.events.pop(claim.number, None)
        self.start(number)

    def stop_all(self):
        for child in self.children:
            os.kill(child, signal.SIGKILL)
        for worker in self.workers:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)  # a child of ours: its number is not used again before

    def receive(self, seconds):
        links = {link.fileno(): number for number, link in enumerate(self.links)}
        poll = select.poll()
        for link in links:
            poll.register(link, select.POLLIN)
        for link, _ in poll.poll(seconds * 1000):
            number = links[link]
            data = self.links[number].recv(65536)
            assert data, f"worker {number} has ended"
            what, *content = pickle.loads(data)
            if what == "answer":
                self.answers[number].append(content[0])
            else:
                self.events[content[0]] = content[1]

    def until(self, condition, what):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"{what} never came; there are {self.events}"
            self.receive(1)

    def send(self, number, *command):
        self.links[number].send(pickle.dumps(command))

    def answer(self, number):
        self.until(lambda: self.answers[number], f"the answer of worker {number}")
        return self.answers[number].popleft()

    def ask(self, number, *command):
        """The answer of a worker. On a slow disk, a release can last longer than a call waits."""
        self.history.append((number, *command))
        while True:
            began = time.monotonic()
            self.send(number, *command)
            answer = self.answer(number)
            if answer != "EBUSY" or time.monotonic() - began < RELEASE:
                return answer

    def expect(self, got, *outcomes):
        assert got in outcomes, (
            f"the outcome is {got}, of the model {' or '.join(map(str, outcomes))}"
        )

    def settle(self):
        """Waits for the openings whose turn it is. No other one may have ended."""
        while served := self.model.serve():
            for claim, outcomes in served:
                number = claim.number
                self.until(lambda number=number: number in self.events, f"the turn of {number}")
                got = self.events.pop(number)
                self.expect(got, *outcomes)
                self.model.forget(claim)
                if got == "held":
                    self.model.held(claim.path).append(claim)
        self.receive(0)
        assert not self.events, f"not their turn: {self.events}"

    # -- steps

    def draw(self, **fixed):
        way = self.random.choice(["handle", "handle", "sync", "writable", "descriptor"])
        modes = WRITABLES if way == "writable" else MODES
        mode = self.random.choice(["in-place", *modes] if way != "writable" else [*modes])
        self.count += 1
        drawn = {
            "number": self.count,
            "worker": self.random.randrange(WORKERS),
            "path": self.random.choice(FILES),
            "way": way,
            "mode": mode,
            "lock": "X" if way == "descriptor" else modes[mode],
            "fs": self.random.randrange(2),
            "create": way != "writable" and self.random.random() < 0.3,
            "wait": self.random.choice([None, math.inf, math.inf]),
        }
        claim = Claim(**drawn | fixed)
        if claim.owner and claim.wait:  # a second one in one queue may be served with the first
            queued = self.model.queue(claim.path)
            if any(other.owner == claim.owner for other in queued):
                claim.wait = None
        return claim

    def any_of(self, claims):
        return self.random.choice(claims) if claims else None

    def holders(self):
        held = {claim.number: claim for claims in self.model.holders.values() for claim in claims}
        return list(held.values())

    def waiters(self):
        return [claim for claims in self.model.queues.values() for claim in claims]

    def open(self, **fixed):
        claim = self.draw(**fixed)
        if len(self.model.claims()) < MOST_CLAIMS:
            self.begin(claim)

    def begin(self, claim):
        """A lock that is being released by a cancelled opening may be waited for, for a moment."""
        got, outcome = self.ask(claim.worker, "open", claim), self.model.open(claim)
        if got == "waits" and outcome != "waits":
            self.until(lambda: claim.number in self.events, "the release of a lock")
            got = self.events.pop(claim.number)
        self.expect(got, outcome)

    def close(self):
        if claim := self.any_of(self.holders()):
            how = self.random.choice(["close", "commit", "commit", "abort", "drop"])
            self.expect(self.ask(claim.worker, "close", claim.number, how), None)
            self.model.forget(claim)

    def contend(self):
        claim = self.any_of([claim for claim in self.holders() if claim.way in ("handle", "sync")])
        if claim:
            got = self.ask(claim.worker, "contended", claim.number)
            self.expect(got, bool(self.model.queue(claim.path)))

    def cancel(self):
        waiters = [claim for claim in self.waiters() if claim.way in ("handle", "writable")]
        if claim := self.any_of(waiters):
            self.ask(claim.worker, "cancel", claim.number)
            self.until(lambda: claim.number in self.events, "the end of a cancelled opening")
            self.expect(self.events.pop(claim.number), "cancelled")
            self.model.forget(claim)

    def time_out(self):
        """One waits for a short time, and others behind it: it leaves without them."""
        claim = self.draw(wait=self.random.choice([0.001, 0.005, 0.01]))
        if claim.wait and self.model.has_parent(claim.path) and not self.model.may_take(claim):
            got = self.ask(claim.worker, "open", claim) if claim.wait else None
            self.model.queue(claim.path).append(claim)
            behind = self.draw(worker=(claim.worker + 1) % WORKERS)
            if got == "waits" and not (behind.path == claim.path and self.model.fits(behind)):
                self.begin(behind)  # the outcome is the same if the time is up already
            if got == "waits":
                self.until(lambda: claim.number in self.events, "the end of a wait")
                got = self.events.pop(claim.number)
            self.expect(got, "EBUSY")
            self.model.forget(claim)

    def race(self):
        """Holders of a file close, and one that waits for it is cancelled, all at once."""
        waiters = [claim for claim in self.waiters() if claim.way in ("handle", "writable")]
        if not (waiter := self.any_of(waiters)):
            return
        holders = list(self.model.held(waiter.path))
        if waiter.worker in [claim.worker for claim in holders]:
            return
        if waiter.path not in self.model.files:  # it may make the file before it is cancelled
            return
        self.history.append(("race", waiter, holders))
        commands = [(claim.worker, "close", claim.number, "commit") for claim in holders]
        commands.append((waiter.worker, "cancel", waiter.number))
        self.random.shuffle(commands)
        for command in commands:
            self.send(*command)
        for command in commands:
            self.expect(self.answer(command[0]), None)
        self.until(lambda: waiter.number in self.events, "the end of a raced opening")
        for claim in holders:
            self.model.forget(claim)
        if self.events[waiter.number] == "cancelled":
            del self.events[waiter.number]
            self.model.forget(waiter)

    def crowd(self):
        """All workers wait for a file at once, in an order that only the table knows."""
        path = self.random.choice([path for path in FILES if self.model.has_parent(path)] or ["a"])
        claims = [
            self.draw(
                worker=number, path=path, way="handle", mode="in-place", lock="X", wait=math.inf
            )
            for number in range(WORKERS)
        ]
        if len(self.model.claims()) >= MOST_CLAIMS or path not in self.model.files:
            return
        before = list(self.model.queue(path))
        self.history.append(("crowd", path))
        for claim in claims:
            self.send(claim.worker, "open", claim)
        got = {claim.worker: self.answer(claim.worker) for claim in claims}
        first = [claim for claim in claims if got[claim.worker] == "held"]
        free = self.model.may_take(claims[0])
        assert len(first) == (1 if free else 0), f"of a crowd, these got the lock: {first}"
        self.model.held(path).extend(first)
        listed = [lock for lock in self.ask(0, "locks") if lock[0] == path and lock[3]]
        order = [self.workers.index(lock[2]) for lock in listed]
        assert order[: len(before)] == [claim.worker for claim in before], (
            "a crowd passed the queue"
        )
        rest = order[len(before) :]
        assert sorted(rest) == sorted(set(range(WORKERS)) - {claim.worker for claim in first})
        self.model.queue(path).extend(claims[number] for number in rest)

    def die(self):
        number = self.random.randrange(WORKERS)
        self.history.append(("kill", number))
        if self.random.random() < 0.5:  # somebody closes meanwhile
            others = [claim for claim in self.holders() if claim.worker != number]
            if claim := self.any_of(others):
                self.send(claim.worker, "close", claim.number, "commit")
                self.kill(number)
                self.expect(self.answer(claim.worker), None)
                self.model.forget(claim)
                self.notice_death()
                return
        self.kill(number)
        self.notice_death()

    def notice_death(self):
        """One waits for a moment for what the dead process had. Who leaves a queue wakes its first.

        (Without that, the others notice the death by the interval that the workers do not have.)
        """
        for path, queue in list(self.model.queues.items()):
            if queue and self.model.fits(queue[0]):
                claim = self.draw(path=path, way="handle", mode="in-place", lock="X", wait=0.001)
                claim.create = False
                got = self.ask(claim.worker, "open", claim)
                if got == "waits":
                    self.until(lambda claim=claim: claim.number in self.events, "the end of a wait")
                    got = self.events.pop(claim.number)
                if got == "held":
                    self.expect(self.ask(claim.worker, "close", claim.number, "close"), None)
                else:
                    self.expect(got, "EBUSY", "ENOENT")

    def stop(self):
        """The first in a queue is stopped while its turn comes: nobody passes it."""
        queues = [queue for queue in self.model.queues.values() if queue]
        if not queues:
            return
        first = self.random.choice(queues)[0]
        holders = list(self.model.held(first.path))
        if first.worker in [claim.worker for claim in holders]:
            return
        other = self.random.choice([number for number in range(WORKERS) if number != first.worker])
        os.kill(self.workers[first.worker], signal.SIGSTOP)
        os.waitpid(self.workers[first.worker], os.WUNTRACED)
        try:
            for claim in holders:
                self.expect(self.ask(claim.worker, "close", claim.number, "close"), None)
                self.model.forget(claim)
            newcomer = self.draw(worker=other, path=first.path, way="handle", mode="in-place")
            newcomer.lock, newcomer.wait = "X", None
            self.expect(self.ask(other, "open", newcomer), "EBUSY")
        finally:
            os.kill(self.workers[first.worker], signal.SIGCONT)

    def fork(self):
        number, path = self.random.randrange(WORKERS), self.random.choice(FILES)
        claim = self.draw(
            worker=number, path=path, way="sync", mode="in-place", lock="X", wait=None
        )
        claim.create = False
        expected = self.model.open(claim)
        self.model.forget(claim)
        answer, child = self.ask(number, "fork", path)
        self.expect(answer, expected)
        self.children.append(child)
        if len(self.children) > 3:
            os.kill(self.children.pop(0), signal.SIGKILL)

    def look(self):
        """`locks()` tells who holds and who waits; a dropped handle may be there for a moment."""
        number, model = self.random.randrange(WORKERS), self.model
        held = Counter(
            (path, claim.lock, self.workers[claim.worker], False)
            for path, claims in model.holders.items()
            for claim in claims
        )

        def differs():
            listed = self.ask(number, "locks")
            if (found := Counter(lock for lock in listed if not lock[3])) != held:
                return f"held are {found}, in the model {held}"
            for path in FILES:
                queue = [(claim.lock, self.workers[claim.worker]) for claim in model.queue(path)]
                found = [lock[1:3] for lock in listed if lock[3] and lock[0] == path]
                if found != queue:
                    return f"the queue of {path} is {found}, in the model {queue}"
            return None

        end = time.monotonic() + PATIENCE / 10
        while found := differs():
            assert time.monotonic() < end, found

    def get_file(self):
        path = self.random.choice(FILES)
        got = self.ask(self.random.randrange(WORKERS), "get_file", path)
        self.expect(got, None if path in self.model.files else "ENOENT")

    def make(self):
        missing = [path for path in FILES if path not in self.model.files]
        path = self.random.choice(missing or FILES)
        there = self.model.has_parent(path)
        got = self.ask(self.random.randrange(WORKERS), "make", path)
        if path not in missing or self.model.is_free(path):
            self.expect(got, None if there else "ENOENT")
        else:  # a file that was unlinked while it is open
            self.expect(got, None, "EBUSY")
        if got is None:
            self.model.files.add(path)

    def remove(self):
        path = self.random.choice(FILES)
        got = self.ask(self.random.randrange(WORKERS), "remove", path)
        if path not in self.model.files:
            self.expect(got, "ENOENT", *([] if self.model.is_free(path) else ["EBUSY"]))
        elif not self.model.is_free(path):
            self.expect(got, "EBUSY")
        else:
            self.expect(got, None)
            self.model.files.remove(path)

    def move(self):
        model = self.model
        path, target = self.random.sample(FILES, 2)
        got = self.ask(self.random.randrange(WORKERS), "move", path, target)
        locked = not model.is_free(path) or not model.is_free(target)
        missing = path not in model.files or not model.has_parent(target)
        if locked or missing:
            self.expect(got, *["EBUSY"] * locked, *["ENOENT"] * missing)
        else:
            self.expect(got, None)
            model.files.remove(path)
            model.files.add(target)

    def of_its_own_filesystem(self):
        """A FileSystem unlinks or renames what it has open itself."""
        claim = self.any_of(
            [claim for claim in self.holders() if claim.owner and "/" not in claim.path]
        )
        if not claim or claim.path not in self.model.files:
            return
        model, path = self.model, claim.path
        if self.random.random() < 0.5:
            self.expect(self.ask(claim.worker, "unlink", path, claim.fs), None)
            model.files.remove(path)
            return
        target = "b" if path == "a" else "a"
        if model.held(target):
            return
        self.expect(self.ask(claim.worker, "rename", path, target, claim.fs), None)
        model.files.remove(path)
        model.files.add(target)
        model.held(target).extend(model.held(path))  # and the old path stays locked
        for moved in model.held(target):
            moved.path = target

    def directories(self):
        """The directories move and come back, go and are made anew."""
        model, number = self.model, self.random.randrange(WORKERS)
        name = self.random.choice(["d", "d", "d/e"])
        if name not in model.directories:
            got = self.ask(number, "make_directory", name)
            self.expect(got, None if model.has_parent(name) else "ENOENT")
            if got is None:
                model.directories.add(name)
            return
        free = model.is_free_below(name)
        if self.random.random() < 0.3:
            self.expect(self.ask(number, "remove_directory", name), None if free else "EBUSY")
            if free:
                model.rebase(name, None)
            return
        self.expect(self.ask(number, "move_directory", name, "moved"), None if free else "EBUSY")
        if free:
            parent = name.rpartition("/")[0]
            moved = f"{parent}/moved".lstrip("/")
            back = name.rpartition("/")[2]
            self.expect(self.ask(number, "move_directory", moved, back), None)

    def step(self):
        step = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        self.done[step] += 1
        getattr(self, step)()
        self.settle()

    def finish(self):
        """The last ones are killed or close; then nothing is left."""
        for number in range(2):
            self.kill(number)
            self.notice_death()
            self.settle()
        while claim := self.any_of(self.holders()):
            self.expect(self.ask(claim.worker, "close", claim.number, "abort"), None)
            self.model.forget(claim)
            self.settle()
        assert not self.model.claims()
        assert self.ask(0, "locks") == []
        for path in FILES:
            claim = self.draw(worker=0, path=path, way="sync", mode="exclusive", wait=None)
            claim.lock = "X"
            self.expect(self.ask(0, "open", claim), self.model.open(claim))
        self.kill(0)
        assert self.ask(0, "locks") == []
        self.wait_for_stale_files(Path(self.directory, ".aiofs/swap"))

    def wait_for_stale_files(self, swap):
        """A new swap file removes stale ones. A killed io_uring keeps its files for a moment, and a
        forked child those that it inherited."""
        for child in self.children:
            os.kill(child, signal.SIGKILL)
        self.children.clear()
        until = time.monotonic() + PATIENCE
        while swap.exists() and os.listdir(swap):
            assert time.monotonic() < until, "a stale swap file"
            claim = self.draw(worker=0, path="a", way="sync", mode="exclusive", wait=None)
            claim.lock = "X"
            self.expect(self.ask(0, "open", claim), self.model.open(claim))
            self.expect(self.ask(0, "close", claim.number, "abort"), None)
            self.model.forget(claim)


def drive(kind, seed, steps):
    with tempfile.TemporaryDirectory() as directory:
        for path in FILES:
            file = Path(directory, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
        driver = Driver(kind, directory, seed)
        number, began = 0, time.monotonic()
        try:
            while number < steps:
                number += 1
                driver.step()
            driver.finish()
            print(f"{steps / (time.monotonic() - began):.0f} steps a second: {dict(driver.done)}")
        except BaseException as error:
            print(*driver.history, sep="\n")
            print(f"holders: {driver.holders()}\nqueues: {driver.model.queues}")
            print(f"step {number}: {error}")
            print(f"to repeat it: AIOFS_ENGINE={_core.engine()} {__file__} {kind} {seed} {number}")
            raise
        finally:
            driver.stop_all()


@pytest.mark.parametrize("kind", ["private", "host"])
def test_locks_follow_the_model(kind):
    steps = os.environ.get("AIOFS_LOCK_STEPS") or STEPS[os.environ.get("AIOFS_FUZZ", "short")]
    seed = random.getrandbits(30)
    command = [sys.executable, __file__, kind, str(seed), str(steps)]
    environment = os.environ | {"PYTHONPATH": str(Path(aiofs.__file__).parents[1])}
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


if __name__ == "__main__":
    drive(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
