"""An access handle against a model: calls that are not awaited have the same results, and leave the
same bytes, as if each call waited for the one before.

The model is a bytearray and a cursor. A cancelled operation has its whole effect or none; its
outcome says which. Meanwhile another thread asks for the lock. When it gets the lock, it must find
the final contents.
"""

import asyncio
import errno
import gc
import itertools
import random
import tempfile
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from drawing import programs
from hypothesis import given
from hypothesis import strategies as st

import aiofs
from aiofs import MemoryVolume, PrivateVolume

NOISE = random.Random(1).randbytes(1 << 20)
CONTENT = NOISE[-200_000:]
END_SECONDS = 20  # the longest wait for a completion


@dataclass
class Step:
    kind: str
    at: int | None = None
    sizes: tuple[int, ...] = ()
    length: int = 0
    which: int = 0


OFFSETS = st.one_of(
    st.none(), st.sampled_from([0, 1, 4096, 100_000, 200_000, 300_000]), st.integers(0, 400_000)
)
SIZES = st.one_of(
    st.sampled_from([0, 1, 4096, 70_000, 262_144, 262_145]),
    st.integers(0, 5000),
    st.integers(0, 400_000),
)
TRANSFERS = st.builds(
    Step, st.sampled_from(["read", "write", "write"]), OFFSETS, st.tuples(SIZES)
) | st.builds(
    Step, st.sampled_from(["readv", "writev"]), OFFSETS, st.lists(SIZES, max_size=3).map(tuple)
)
STEP = st.one_of(
    TRANSFERS,
    TRANSFERS,
    TRANSFERS,
    st.builds(Step, st.just("truncate"), length=st.integers(0, 400_000)),
    st.builds(Step, st.sampled_from(["get_size", "flush", "breathe", "breathe"])),
    st.builds(Step, st.just("cancel"), which=st.integers(0, 5)),
)
CUTS = st.none() | st.sampled_from([1000, 4096, 65_537])


class Model:
    """The file, and the results of operations that run one after the other."""

    def __init__(self, content, quota):
        self.content = bytearray(content)
        self.quota = quota
        self.cursor = 0

    def fits(self, size):
        return self.quota is None or size <= max(self.quota, len(self.content))

    def read(self, at, size):
        start = self.cursor if at is None else at
        data = bytes(self.content[start : start + size])
        self.cursor = start + len(data)
        return data

    def write(self, at, data):
        start = self.cursor if at is None else at
        if data:
            if not self.fits(start + len(data)):
                return errno.EDQUOT
            self.content.extend(bytes(max(start - len(self.content), 0)))
            self.content[start : start + len(data)] = data
        self.cursor = start + len(data)
        return len(data)

    def truncate(self, length):
        if not self.fits(length):
            return errno.EDQUOT
        del self.content[length:]
        self.content.extend(bytes(length - len(self.content)))
        self.cursor = min(self.cursor, length)
        return None


class Started:
    """An operation that was started, with its arguments."""

    def __init__(self, handle, step, number):
        self.step = step
        self.buffers = [bytearray(size) for size in step.sizes]
        begin = number * 997
        self.data = NOISE[begin : begin + sum(step.sizes)]
        self.cancelled = False
        self.operation = self.call(handle)
        self.awaiting = asyncio.create_task(outcome_of(self.operation))

    def call(self, handle):
        step, method = self.step, getattr(handle, self.step.kind)
        if step.kind == "read":
            return method(self.buffers[0], at=step.at)
        if step.kind == "readv":
            return method(self.buffers, at=step.at)
        if step.kind == "write":
            return method(self.data, at=step.at)
        if step.kind == "writev":
            ends = list(itertools.accumulate(step.sizes))
            pieces = [self.data[end - n : end] for n, end in zip(step.sizes, ends, strict=True)]
            return method(pieces, at=step.at)
        return method(step.length) if step.kind == "truncate" else method()

    def cancel(self):
        self.cancelled = True
        self.awaiting.cancel()

    def expected(self, model):
        """Applies the operation to the model. Returns its value and the bytes that it reads."""
        step = self.step
        if step.kind in ("read", "readv"):
            data = model.read(step.at, sum(step.sizes))
            return len(data), data
        if step.kind in ("write", "writev"):
            return model.write(step.at, self.data), b""
        if step.kind == "truncate":
            return model.truncate(step.length), b""
        return len(model.content) if step.kind == "get_size" else None, b""

    def check(self, model, outcome, aborted):
        if isinstance(outcome, asyncio.CancelledError):
            assert self.cancelled, f"{self.step} was cancelled, but not by the test"
            return
        if isinstance(outcome, aiofs.AbortError):
            assert aborted, f"{self.step} was aborted, but not by the test"
            return
        if isinstance(outcome, aiofs.QuotaExceededError):
            outcome = outcome.errno
        value, data = self.expected(model)
        assert outcome == value, f"{self.step} gave {outcome!r}, not {value!r}"
        assert b"".join(self.buffers)[: len(data)] == data, f"{self.step} read something else"


class Contender:
    """A thread that asks for the lock repeatedly, and reads the file when it gets the lock."""

    def __init__(self, file):
        self.file = file
        self.found = None
        self.refusals = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.contend)
        self.thread.start()

    def contend(self):
        while not self.over.wait(0.0005):
            try:
                with self.file.create_sync_access_handle() as handle:
                    data = bytearray(handle.get_size() + 1)
                    self.found = bytes(data[: handle.read(data, at=0)])
                    return
            except aiofs.NoModificationAllowedError:
                self.refusals += 1

    async def get_in(self):
        for _ in range(END_SECONDS * 1000):
            if not self.thread.is_alive():
                break
            await asyncio.sleep(0.001)
        self.over.set()
        self.thread.join()
        return self.found


async def outcome_of(operation):
    """The result or the exception of an operation, without frames that refer to the handle."""
    try:
        return await operation
    except (OSError, asyncio.CancelledError) as error:
        return error.with_traceback(None)


async def outcomes(started):
    """The outcomes of all operations. Each must complete."""
    tasks = [asyncio.create_task(outcome_of(each.operation)) for each in started]
    if tasks:
        _, unended = await asyncio.wait(tasks, timeout=END_SECONDS)
        assert not unended, [started[tasks.index(task)].step for task in unended]
        await asyncio.wait([each.awaiting for each in started])
    return [task.result() for task in tasks]


def compare(model, started, done, aborted):
    for each, outcome in zip(started, done, strict=True):
        each.check(model, outcome, aborted)


@contextmanager
def volume_of(kind, quota):
    with tempfile.TemporaryDirectory() as folder:
        made = PrivateVolume(folder, quota=quota) if kind == "disk" else MemoryVolume(quota=quota)
        with made as volume:
            yield volume


async def carry_out(volume, quota, steps, leaving):
    with volume._ops.sync_access_handle("file", "in-place", True) as sync:
        sync.write(CONTENT)
    file = aiofs.FileHandle._of(volume, "file")
    handle = await file.create_access_handle()
    contender = Contender(file)
    started = []
    try:
        for step in steps:
            if step.kind == "breathe":
                await asyncio.sleep(0)
            elif step.kind == "cancel":
                if step.which < len(started):
                    started[-1 - step.which].cancel()
            else:
                started.append(Started(handle, step, len(started)))
        assert contender.found is None
        closing = getattr(handle, leaving)() if leaving != "drop" else None
        del handle
        done = await outcomes(started)
        model = Model(CONTENT, quota)
        compare(model, started, done, leaving == "abort")
        started.clear()
        if leaving == "drop":
            gc.collect()
        if closing is not None:
            await asyncio.wait_for(closing, END_SECONDS)
        found = await contender.get_in()
        assert found is not None, "the lock was never released"
        assert found == model.content, "the lock was released before the last write was complete"
    finally:
        contender.over.set()


@pytest.mark.parametrize("kind", ["disk", "memory"])
@given(
    steps=programs(STEP),
    quota=st.sampled_from([None, None, 300_000]),
    leaving=st.sampled_from(["close", "close", "abort", "drop"]),
    cut=CUTS,
)
def test_concurrent_calls_match_a_serial_model(run, faults, kind, steps, quota, leaving, cut):
    """With `cut`, every other system call moves at most so many bytes."""
    faults.clear()
    if cut is not None:
        for name in ("preadv2", "pwritev2"):
            faults.cut(name, cut, nth=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of dropped handles
        with volume_of(kind, quota) as volume:
            run(carry_out(volume, quota, steps, leaving))
