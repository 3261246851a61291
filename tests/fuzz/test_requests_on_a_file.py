"""POSIX AIO on a file against a model: each request completes once, with the expected result.

The file has slots, with one request at a time in each. So the result of a request does not depend
on the order of the requests. Requests are submitted alone and in lists, cancelled, synced, waited
for in every way, and notified by every kind of sigevent. A file with O_APPEND has no slots: there
the order of the calls is the order of the bytes.
"""

import asyncio
import errno
import itertools
import os
import random
import re
import signal
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from drawing import programs
from hypothesis import given
from hypothesis import strategies as st

import aiofs
from aiofs import aio
from aiofs.aio import (
    AIO_ALLDONE,
    AIO_CANCELED,
    AIO_NOTCANCELED,
    LIO_NOP,
    LIO_NOWAIT,
    LIO_READ,
    LIO_WAIT,
    LIO_WRITE,
    SIGEV_LOOP,
    SIGEV_NONE,
    SIGEV_SIGNAL,
    SIGEV_THREAD,
    aio_cancel,
    aio_error,
    aio_fsync,
    aio_read,
    aio_return,
    aio_suspend,
    aio_write,
    aiocb,
    lio_listio,
    sigevent,
)

NOISE = random.Random(2).randbytes(1 << 20)
SLOTS, WIDTH = 6, 300_000
SIGNAL = signal.SIGRTMIN + 2  # blocked, see conftest.py
END_SECONDS = 20  # the longest wait for a completion

submissions = itertools.count(1)


# ---- programs -----------------------------------------------------------------------------------


@dataclass
class Request:
    slot: int
    kind: str
    size: int
    skip: int
    reqprio: int
    notify: int


@dataclass
class Step:
    kind: str
    slots: list[int] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    choice: object = None


SIZES = st.sampled_from([0, 1, 512, 4096, 65_536, 262_144, 262_145, WIDTH]) | st.integers(0, 70_000)
BAD_OPCODES = st.sampled_from([None, None, 4711, LIO_WRITE])  # for an entry with a bad descriptor
NOTIFY = st.sampled_from([SIGEV_NONE, SIGEV_NONE, SIGEV_NONE, SIGEV_LOOP, None])


def requests_of(kinds):
    return st.builds(
        Request,
        slot=st.integers(0, SLOTS - 1),
        kind=st.sampled_from(kinds),
        size=SIZES,
        skip=st.sampled_from([0, 0, 1, 5000]),
        reqprio=st.sampled_from([0, 0, 0, 1, 20]),
        notify=NOTIFY,
    )


def steps(requests):
    some_slots = st.lists(st.integers(0, SLOTS - 1), max_size=SLOTS)
    one = st.builds(Step, st.just("submit"), requests=st.lists(requests, min_size=1, max_size=1))
    return st.one_of(
        one,
        one,
        st.builds(
            Step,
            st.just("list"),
            requests=st.lists(requests, max_size=SLOTS),
            choice=st.tuples(
                st.sampled_from([LIO_WAIT, LIO_NOWAIT, LIO_NOWAIT]), NOTIFY, BAD_OPCODES
            ),
        ),
        st.builds(Step, st.just("cancel"), slots=some_slots),
        st.builds(Step, st.just("cancel all")),
        st.builds(Step, st.just("cancel await"), slots=some_slots),
        st.builds(
            Step,
            st.sampled_from(["aio_suspend", "suspend"]),
            slots=some_slots,
            choice=st.sampled_from([0, -1, 0.0005, None]),
        ),
        st.builds(Step, st.just("await"), slots=some_slots),
        st.builds(Step, st.just("sync"), choice=st.sampled_from([os.O_SYNC, os.O_DSYNC])),
        st.builds(Step, st.just("breathe")),
    )


# ---- what is in flight --------------------------------------------------------------------------


class Submitted:
    """A request that was submitted, and its expected result."""

    def __init__(self, request, cb, expected):
        self.request, self.cb, self.expected = request, cb, expected
        self.may_be_cancelled = self.returned = False

    def in_progress(self):
        return not self.returned and aio_error(self.cb) == errno.EINPROGRESS

    def finish(self):
        """Waits for the request and checks its result. Returns whether it was carried out."""
        if self.returned:
            return False
        aio_suspend([self.cb], END_SECONDS)
        self.returned = True
        error = aio_error(self.cb)
        assert error in (0, errno.ECANCELED), (self.request, os.strerror(error))
        if error:
            assert self.may_be_cancelled, f"{self.request} was cancelled, but not by the test"
            assert raised(aio_return, self.cb) == errno.ECANCELED
        else:
            assert aio_return(self.cb) == self.request.size, self.request
            if self.request.kind == "read":
                assert self.cb.aio_buf == self.expected, f"{self.request} read something else"
        assert raised(aio_return, self.cb) == errno.EINVAL
        assert aio_error(self.cb) == error
        return error == 0


def raised(call, *arguments):
    """The errno of the OSError that the call raises, 0 if it returns."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return 0


class Notices:
    """The notifications that must come, and those that came.

    `other` replaces None: SIGEV_SIGNAL or SIGEV_THREAD, but not both, because the threads of
    SIGEV_THREAD do not block signals and would receive those of SIGEV_SIGNAL.
    """

    def __init__(self, other):
        self.other = other
        self.wanted, self.notified = Counter(), Counter()
        self.signals_wanted = self.signals = 0
        self.too_early = []
        self.lock = threading.Lock()
        self.fetch_signals()  # signals of an earlier, failed program
        self.signals = 0

    def event(self, notify, over):
        """A sigevent that must be notified once, after `over` has become true."""
        notify = self.other if notify is None else notify
        if notify == SIGEV_SIGNAL:
            self.signals_wanted += 1
            return sigevent(SIGEV_SIGNAL, SIGNAL, 1)
        if notify == SIGEV_NONE:
            return None
        number = next(submissions)
        self.wanted[number] += 1
        return sigevent(notify, 0, (number, over), self.notify)

    def notify(self, value):
        number, over = value
        if not over():
            self.too_early.append(number)
        with self.lock:
            self.notified[number] += 1

    def fetch_signals(self):
        while SIGNAL in signal.sigpending():
            signal.sigwait([SIGNAL])
            self.signals += 1

    def complete(self):
        self.fetch_signals()
        notified = (
            self.wanted.total() == self.notified.total() and self.signals_wanted == self.signals
        )
        return notified and signal_is_blocked_everywhere()

    async def check(self):
        for _ in range(END_SECONDS * 1000):
            if self.complete():
                break
            await asyncio.sleep(0.001)
        assert self.notified == self.wanted
        assert self.signals == self.signals_wanted
        assert self.too_early == []


def signal_is_blocked_everywhere():
    """True: all threads of SIGEV_THREAD have exited."""
    for thread in os.listdir("/proc/self/task"):
        try:
            status = Path(f"/proc/self/task/{thread}/status").read_text()
        except OSError:
            continue  # the thread has exited
        blocked = re.search(r"SigBlk:\t(\w+)", status)[1]
        if not int(blocked, 16) & 1 << SIGNAL - 1:
            return False
    return True


class Slotted:
    """The file, its model, and the request of each slot."""

    def __init__(self, target, other):
        self.target = target
        self.model = bytearray(NOISE[-SLOTS:] * WIDTH)
        self.submissions = [None] * SLOTS
        self.syncs = []
        self.notices = Notices(other)

    def make(self, request):
        """Makes the request of a slot, and does not submit it."""
        self.finish(request.slot)
        start = request.slot * WIDTH + request.skip
        request.size = min(request.size, WIDTH - request.skip)
        if request.kind == "read":
            buffer, expected = bytearray(request.size), self.model[start : start + request.size]
        else:
            begin = next(submissions) * 911 % (len(NOISE) - WIDTH)
            buffer = expected = NOISE[begin : begin + request.size]
        opcode = LIO_READ if request.kind == "read" else LIO_WRITE
        cb = aiocb(self.target, buffer, None, start, request.reqprio, None, opcode)
        cb.aio_sigevent = self.notices.event(
            request.notify, lambda: aio_error(cb) != errno.EINPROGRESS
        )
        submitted = Submitted(request, cb, expected)
        self.submissions[request.slot] = submitted
        return submitted

    def finish(self, slot):
        submitted = self.submissions[slot]
        if submitted is not None and submitted.finish() and submitted.request.kind == "write":
            start = slot * WIDTH + submitted.request.skip
            self.model[start : start + submitted.request.size] = submitted.expected

    def of(self, slots):
        return [self.submissions[slot] for slot in slots if self.submissions[slot] is not None]

    def in_flight(self):
        return [submitted for submitted in self.of(range(SLOTS)) if submitted.in_progress()]

    def finish_all(self):
        for slot in range(SLOTS):
            self.finish(slot)
        for sync in self.syncs:
            aio_suspend([sync.cb], END_SECONDS)
            self.look_at_syncs()

    def look_at_syncs(self):
        """Checks that a sync succeeded only after all requests that were in flight before it."""
        for sync in self.syncs:
            error = aio_error(sync.cb)
            if error == 0:
                assert not any(submitted.in_progress() for submitted in sync.before)
            assert error in (0, errno.EINPROGRESS) or sync.may_be_cancelled, os.strerror(error)

    # ---- steps

    def submit(self, step):
        submitted = self.make(step.requests[0])
        begin = aio_read if submitted.request.kind == "read" else aio_write
        begin(submitted.cb)
        if submitted.in_progress() and submitted.request.notify == SIGEV_NONE:
            # It is refused; or accepted, if the first is complete now. Then it repeats the first.
            assert raised(begin, submitted.cb) in (0, errno.EINVAL)

    def submit_list(self, step):
        mode, notify, bad_opcode = step.choice
        one_a_slot = {request.slot: request for request in step.requests}
        made = [self.make(request) for request in one_a_slot.values()]
        blocks = [submitted.cb for submitted in made]
        bad = aiocb(1 << 30, b"x", aio_lio_opcode=bad_opcode)
        if bad_opcode is not None:
            bad.aio_sigevent = self.notices.event(
                notify, lambda: aio_error(bad) != errno.EINPROGRESS
            )
            blocks.insert(len(blocks) // 2, bad)
        event = None
        if mode == LIO_NOWAIT:
            event = self.notices.event(
                notify, lambda: all(aio_error(cb) != errno.EINPROGRESS for cb in blocks)
            )
        error = raised(lio_listio, mode, [None, *blocks, aiocb(aio_lio_opcode=LIO_NOP)], event)
        assert error == (errno.EIO if mode == LIO_WAIT and bad in blocks else 0)
        assert mode == LIO_NOWAIT or not any(submitted.in_progress() for submitted in made)
        if bad in blocks:
            aio_suspend([bad], END_SECONDS)
            assert aio_error(bad) == (errno.EBADF if bad_opcode == LIO_WRITE else errno.EINVAL)

    def cancel(self, submitted):
        submitted.may_be_cancelled = True
        before = submitted.returned or aio_error(submitted.cb)
        verdict = aio_cancel(self.target, submitted.cb)
        after = aio_error(submitted.cb)
        if before != errno.EINPROGRESS:
            assert verdict == AIO_ALLDONE
        elif verdict == AIO_CANCELED:
            assert after == errno.ECANCELED
        elif verdict == AIO_ALLDONE:
            assert after != errno.EINPROGRESS
        else:
            assert verdict == AIO_NOTCANCELED
            assert after != errno.ECANCELED

    def cancel_all(self):
        outstanding = self.in_flight()
        for submitted in [*outstanding, *self.syncs]:
            submitted.may_be_cancelled = True
        if aio_cancel(self.target) != AIO_NOTCANCELED:
            assert not any(submitted.in_progress() for submitted in outstanding)

    async def cancel_awaits(self, submissions):
        async def wait(cb):
            return await cb

        tasks = [asyncio.create_task(wait(submitted.cb)) for submitted in submissions]
        await asyncio.sleep(0)
        for submitted, task in zip(submissions, tasks, strict=True):
            submitted.may_be_cancelled = True
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def suspend(self, step):
        submissions = self.of(step.slots)
        blocks = [None, *[submitted.cb for submitted in submissions]]
        timeout = END_SECONDS if step.choice is None else step.choice
        try:
            if step.kind == "suspend":
                await aio.suspend(blocks, timeout)
            else:
                aio_suspend(blocks, timeout)
        except OSError as error:
            assert error.errno == errno.EAGAIN
            assert step.choice is not None, "none of the requests ended"
        else:
            assert not submissions or not all(submitted.in_progress() for submitted in submissions)

    async def wait(self, submitted):
        try:
            count = await asyncio.wait_for(awaited(submitted.cb), END_SECONDS)
        except OSError as error:
            assert error.errno == errno.ECANCELED and submitted.may_be_cancelled
        else:
            assert count == submitted.request.size
        assert not submitted.in_progress()

    def sync(self, op):
        cb = aiocb(self.target)
        sync = Submitted(None, cb, None)
        sync.before = self.in_flight()
        aio_fsync(op, cb)
        self.syncs.append(sync)

    async def carry_out(self, step):
        if step.kind == "submit":
            self.submit(step)
        elif step.kind == "list":
            self.submit_list(step)
        elif step.kind == "cancel":
            for submitted in self.of(step.slots):
                self.cancel(submitted)
        elif step.kind == "cancel all":
            self.cancel_all()
        elif step.kind == "cancel await":
            await self.cancel_awaits(self.of(step.slots))
        elif step.kind == "await":
            for submitted in self.of(step.slots):
                await self.wait(submitted)
        elif step.kind == "sync":
            self.sync(step.choice)
        elif step.kind == "breathe":
            await asyncio.sleep(0)
        else:
            await self.suspend(step)
        self.look_at_syncs()


async def awaited(cb):
    return await cb


async def run_program(path, target, program, other):
    slotted = Slotted(target, other)
    path.write_bytes(slotted.model)
    for step in program:
        await slotted.carry_out(step)
    slotted.finish_all()
    await slotted.notices.check()
    assert path.read_bytes() == slotted.model


# ---- the tests ----------------------------------------------------------------------------------


@pytest.fixture(params=["descriptor", "handle", "file system"])
def target(request, tmp_path):
    """The path of a file, and the aio_fildes of requests on it."""
    if request.param == "descriptor":
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        yield tmp_path / "file", fd
        os.close(fd)
        return
    with aiofs.MemoryVolume() as volume, aiofs.FileSystem() as fs:
        fs.mount("/", volume)
        if request.param == "handle":
            opened = fs.create_sync_access_handle("/file", create=True)
        else:
            opened = fs.open("/file", os.O_RDWR | os.O_CREAT)
        yield Path(volume._directory, "file"), opened


@given(
    program=programs(steps(requests_of(["read", "write"]))),
    other=st.sampled_from([SIGEV_SIGNAL, SIGEV_THREAD]),
    slow=st.booleans(),
)
def test_requests_end_as_the_model_predicts(run, faults, target, program, other, slow):
    """`slow`: every other system call of the engine is delayed."""
    faults.clear()
    if slow:
        for name in ("preadv2", "pwritev2"):
            faults.delay(name, 0.001, nth=-1)
    run(run_program(*target, program, other))


class Appended:
    """A file with O_APPEND. Its bytes are those of the writes that were not cancelled, in the order
    of the calls."""

    def __init__(self, fd):
        self.fd = fd
        self.submissions = []

    def make(self, request):
        begin = next(submissions) * 911 % (len(NOISE) - WIDTH)
        data = NOISE[begin : begin + request.size]
        offset = request.skip - 1  # an append ignores it, also a negative one
        cb = aiocb(self.fd, data, None, offset, request.reqprio, None, LIO_WRITE)
        submitted = Submitted(request, cb, data)
        self.submissions.append(submitted)
        return submitted

    def carry_out(self, step):
        if step.kind == "submit":
            aio_write(self.make(step.requests[0]).cb)
        elif step.kind == "list":
            made = [self.make(request) for request in step.requests]
            lio_listio(step.choice[0], [submitted.cb for submitted in made])
        elif step.kind == "cancel":
            for slot in step.slots:
                if slot < len(self.submissions):
                    submitted = self.submissions[-1 - slot]
                    submitted.may_be_cancelled = True
                    aio_cancel(self.fd, submitted.cb)
        elif step.kind == "cancel all":
            for submitted in self.submissions:
                submitted.may_be_cancelled = True
            aio_cancel(self.fd)

    def content(self):
        return b"".join(submitted.expected for submitted in self.submissions if submitted.finish())


@given(program=programs(steps(requests_of(["write"]))))
def test_appends_land_in_the_order_of_the_calls(tmp_path, program):
    path = tmp_path / "appended"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC)
    try:
        appended = Appended(fd)
        for step in program:
            appended.carry_out(step)
        assert appended.content() == path.read_bytes()
    finally:
        os.close(fd)
