"""A volume against a model, through all that opens its files: access handles in every mode, their
streams, writable streams, snapshots, and descriptors of two FileSystems with POSIX AIO.

The model has the entries, the bytes and the locks, in plain Python. After each step the tree, the
locks and the number of swap files are compared with it.
"""

import asyncio
import errno
import gc
import inspect
import os
import random
import tempfile
import warnings
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial

import pytest
from drawing import examples
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support import eventually
from volume_model import ALONE, DIRECTORY, LOCKS, NO_LOCK, Errors, Model, Opened, parent_of
from volumes.dict_volume import DictVolume

import aiofs
from aiofs import aio

NOISE = random.Random(9).randbytes(1 << 20)
CLASSES = {
    errno.ENOENT: aiofs.NotFoundError,
    errno.EISDIR: aiofs.TypeMismatchError,
    errno.ENOTDIR: aiofs.TypeMismatchError,
    errno.ENOTEMPTY: aiofs.InvalidModificationError,
    errno.EEXIST: aiofs.InvalidModificationError,
    errno.EBUSY: aiofs.NoModificationAllowedError,
    errno.ESTALE: aiofs.NotReadableError,
    errno.EINVAL: OSError,
    errno.EBADF: (aiofs.InvalidStateError, aiofs.NoModificationAllowedError),
}

NAMES = st.sampled_from(["a", "b", "c"])
NEW_PATHS = NAMES | st.lists(NAMES, min_size=1, max_size=2).map("/".join)
PATHS = st.integers(-5, 7) | NEW_PATHS
DIRECTORIES = st.just("") | NAMES
WHICH = st.integers(0, 20)
MODES = st.sampled_from([None, *(mode for mode in LOCKS if mode != "siloed")])
OFFSETS = st.none() | st.sampled_from([0, 1, 100, 4096]) | st.integers(0, 9000)
SIZES = st.sampled_from([0, 1, 4096, 300_000]) | st.integers(0, 5000)
POSITIONS = st.sampled_from([0, 1, 4096]) | st.integers(0, 9000)
FLAGS = st.sampled_from(
    [
        os.O_RDONLY,
        os.O_RDONLY | os.O_TRUNC,
        os.O_RDONLY | os.O_CREAT,
        os.O_WRONLY,
        os.O_RDWR,
        os.O_RDWR | os.O_CREAT,
        os.O_RDWR | os.O_CREAT | os.O_EXCL,
        os.O_RDWR | os.O_TRUNC,
        os.O_RDWR | os.O_APPEND,
        os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND,
    ]
)


class Left(Exception):
    """An exception that leaves the block of a handle."""


def has(*kinds):
    """The rule needs an open object of one of these kinds."""
    return precondition(lambda self: bool(self.those(*kinds)))


class Handles(RuleBasedStateMachine):
    kind = "private"
    new_loop = staticmethod(asyncio.new_event_loop)

    def __init__(self):
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", ResourceWarning)  # of dropped handles
        self.unexpected = []
        self.loop = self.new_loop()
        self.loop.set_exception_handler(lambda _, context: self.unexpected.append(context))
        self.directory = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.volumes = self.make_volumes()
        self.systems = [self.stack.enter_context(aiofs.FileSystem()) for _ in range(2)]
        for number, fs in enumerate(self.systems):
            fs.mount("/", self.volume(number))
        self.model = Model()
        self.ended = []  # closed handles and streams
        self.snapshots = deque(maxlen=8)
        self.steps = 0
        self.written = 0
        self.releasing = False

    def make_volumes(self):
        """The volume, opened twice where that is possible."""
        if self.kind == "dict":
            return [self.stack.enter_context(DictVolume())]
        make = aiofs.PrivateVolume if self.kind == "private" else aiofs.HostVolume
        return [self.stack.enter_context(make(self.directory, durable=False)) for _ in range(2)]

    def teardown(self):
        try:
            while self.model.open:
                self.end(self.model.open[-1], "close")
            self.compare()
            assert not any(volume._ops.lock_count("") for volume in self.volumes)
            assert self.unexpected == []
        finally:
            for opened in self.model.open:  # a failed example
                if opened.kind != "fd":
                    self.outcome(opened.real.abort)
            self.loop.close()
            self.stack.close()

    # ---- calls and their outcomes

    def outcome(self, call):
        """The result of a call, awaited if it can be, or the error that it raised."""
        try:
            return self.loop.run_until_complete(awaited(call)), None
        except OSError as error:
            return None, error.with_traceback(None)

    def expect(self, errors, call):
        """Makes a call that must have one of these outcomes. Returns its result and its success."""
        result, error = self.outcome(call)
        allowed = {errno.errorcode[each] for each in errors.must | errors.may}
        if error is None:
            assert not errors.must, f"it succeeded, and did not fail with one of {allowed}"
        else:
            assert error.errno in errors.must | errors.may, f"{error!r}, not one of {allowed}"
            assert isinstance(error, CLASSES[error.errno]), repr(error)
        return result, error is None

    def succeed(self, call):
        return self.expect(Errors(), call)[0]

    def volume(self, which):
        return self.volumes[which % len(self.volumes)]

    def file(self, which, path):
        return aiofs.FileHandle._of(self.volume(which), path)

    def folder(self, which, path):
        return aiofs.DirectoryHandle._of(self.volume(which), path)

    def path(self, path):
        """The path; or for a number that of a file, for a negative one that of an open file."""
        if isinstance(path, str):
            return path
        known = [each.path for each in self.model.open] if path < 0 else self.model.files()
        known = known or sorted(self.model.tree)[1:] or ["a"]
        return known[path % len(known)]

    def those(self, *kinds):
        return [each for each in self.model.open if each.kind in kinds]

    def one(self, which, *kinds):
        those = self.those(*kinds)
        return those[which % len(those)]

    def data(self, size):
        self.written += 1
        return NOISE[self.written * 7 :][:size]

    # ---- the tree

    @initialize()
    def furnish(self):
        """The entries that each example begins with."""
        for path in ("b", "c"):
            self.get(path, "directory", True, 0)
        for path in ("a", "b/a"):
            self.get(path, "file", True, 0)
            self.open_handle(path, "in-place", True, False, 0)
            self.write(0, None, [5000])
            self.end(self.model.open[0], "close")

    @rule(
        path=PATHS, kind=st.sampled_from(["file", "directory"]), create=st.booleans(), which=WHICH
    )
    def get(self, path, kind, create, which):
        path = self.path(path)
        get = getattr(self.folder(which, parent_of(path)), f"get_{kind}_handle")
        expected = self.model.may_get(path, kind, create)
        _, done = self.expect(expected, lambda: get(name_of(path), create=create))
        if done:
            self.model.get(path, kind)

    @rule(path=PATHS | st.just(""), recursive=st.booleans(), itself=st.booleans(), which=WHICH)
    def remove(self, path, recursive, itself, which):
        path = self.path(path)
        expected = self.model.may_remove(path, recursive)
        if path and not itself:
            remove = partial(self.folder(which, parent_of(path)).remove_entry, name_of(path))
        elif path == "" or self.model.is_directory(path):
            remove = self.folder(which, path).remove
        else:
            remove, recursive = self.file(which, path).remove, None
        options = {} if recursive is None else {"recursive": recursive}
        _, done = self.expect(expected, partial(remove, **options))
        if done:
            self.model.remove(path)

    @rule(source=PATHS, destination=PATHS, by_name=st.booleans(), which=WHICH)
    def move(self, source, destination, by_name, which):
        source = self.path(source)
        destination = self.path(destination)
        of = self.folder if self.model.is_directory(source) else self.file
        where = [] if by_name else [self.folder(which + 1, parent_of(destination))]
        if by_name:
            destination = f"{parent_of(source)}/{name_of(destination)}".lstrip("/")
        expected = self.model.may_move(source, destination)
        handle = of(which, source)
        _, done = self.expect(expected, lambda: handle.move(*where, name_of(destination)))
        if done:
            assert handle._path == destination
            self.model.move(source, destination)

    @rule(path=DIRECTORIES, which=WHICH)
    def list(self, path, which):
        async def listed():
            return {(name, each.kind) async for name, each in self.folder(which, path)}

        found, done = self.expect(self.model.found(path, "directory"), listed)
        if done:
            assert found == {
                (name_of(other), "directory" if self.model.is_directory(other) else "file")
                for other in self.model.below(path)
                if parent_of(other) == path
            }

    # ---- opening and closing handles

    @rule(path=PATHS, mode=MODES, sync=st.booleans(), create=st.booleans(), which=WHICH)
    def open_handle(self, path, mode, sync, create, which):
        path = self.path(path)
        name = mode or self.volume(which).default_mode
        expected = self.model.may_open(path, LOCKS[name], create)
        if create:
            on = self.systems[which % 2]
            arguments, options = ["/" + path], {"create": True}
        else:
            on, arguments, options = self.file(which, path), [], {}
        opener = on.create_sync_access_handle if sync else on.create_access_handle
        real, done = self.expect(expected, lambda: opener(*arguments, mode=mode, **options))
        if done:
            opened = Opened("sync" if sync else "async", path, LOCKS[name], real)
            opened.swapped = name in ("exclusive", "shared")
            opened.listed = "exclusive" if name == "exclusive" else ""
            opened.writes = name != "read-only"
            self.model.opened(opened)

    @has("sync", "async", "writable")
    @rule(which=WHICH, way=st.sampled_from(["close", "close", "abort", "leave", "raise", "drop"]))
    def close(self, which, way):
        self.end(self.one(which, "sync", "async", "writable"), way)

    def end(self, opened, way):
        if opened.kind == "fd":
            self.succeed(partial(opened.owner.close, opened.real))
        elif way in ("leave", "raise"):
            self.succeed(lambda: in_block(opened.real, way == "raise"))
        elif way != "drop":
            self.succeed(getattr(opened.real, way))
        self.model.close(opened, way in ("close", "leave"))
        if way != "drop" and opened.kind != "fd":
            self.ended.append(opened.real)
        opened.real = None
        if way == "drop":
            gc.collect()
            self.releasing = True

    @precondition(lambda self: self.ended)
    @rule(which=WHICH, how=st.sampled_from(["write", "truncate", "close"]))
    def use_what_is_closed(self, which, how):
        real = self.ended[which % len(self.ended)]
        closes_again = how == "close" and not isinstance(real, aiofs.WritableFileStream)
        arguments = {"write": [b"late"], "truncate": [0], "close": []}[how]
        expected = Errors() if closes_again else Errors({errno.EBADF})
        self.expect(expected, lambda: getattr(real, how)(*arguments))

    # ---- access handles

    @has("sync", "async")
    @rule(which=WHICH, at=OFFSETS, sizes=st.lists(SIZES, max_size=3))
    def read(self, which, at, sizes):
        """One buffer: by read; else by readv."""
        opened = self.one(which, "sync", "async")
        buffers = [bytearray(size) for size in sizes]
        start = opened.cursors["handle"] if at is None else at
        data = bytes(opened.bytes.content[start : start + sum(sizes)])
        method, given = ("read", buffers[0]) if len(buffers) == 1 else ("readv", buffers)
        count = self.succeed(lambda: getattr(opened.real, method)(given, at=at))
        assert count == len(data)
        assert b"".join(buffers)[:count] == data
        opened.cursors["handle"] = start + count

    @has("sync", "async")
    @rule(which=WHICH, at=OFFSETS, sizes=st.lists(SIZES, max_size=3))
    def write(self, which, at, sizes):
        opened = self.one(which, "sync", "async")
        buffers = [self.data(size) for size in sizes]
        method, given = ("write", buffers[0]) if len(buffers) == 1 else ("writev", buffers)
        count, done = self.expect(
            writing(opened), lambda: getattr(opened.real, method)(given, at=at)
        )
        if done:
            start = opened.cursors["handle"] if at is None else at
            self.model.write(opened, start, b"".join(buffers))
            assert count == sum(sizes)
            opened.cursors["handle"] = start + count

    @has("sync", "async")
    @rule(which=WHICH, size=POSITIONS, flushes=st.booleans(), writes=st.booleans())
    def truncate(self, which, size, flushes, writes):
        opened = self.one(which, "sync", "async")
        _, done = self.expect(writing(opened), lambda: opened.real.truncate(size))
        if done:
            self.model.truncate(opened, size)
        if writes:
            self.write(which, None, [5])  # where truncate has left the cursor
        if flushes:
            self.expect(writing(opened), opened.real.flush)
        assert self.succeed(opened.real.get_size) == len(opened.bytes.content)

    @has("async")
    @rule(
        which=WHICH,
        how=st.sampled_from(["read", "readinto", "iterate"]),
        size=st.none() | SIZES,
        at=OFFSETS,
    )
    def read_a_stream(self, which, how, size, at):
        opened = self.one(which, "async")
        stream, start = opened.real.readable, opened.cursors["readable"]
        if how == "readinto" and at is not None:
            start = at
        size = None if how == "iterate" else size
        end = None if size is None else start + size
        data = bytes(opened.bytes.content[start:end])
        if how == "readinto":
            buffer = bytearray(len(opened.bytes.content) if size is None else size)
            count, done = self.expect(
                streaming(opened, "readable"), lambda: stream.readinto(buffer, at=at)
            )
            data = data[: len(buffer)]
            found = bytes(buffer[:count]) if done else None
        elif how == "read":
            found, done = self.expect(streaming(opened, "readable"), lambda: stream.read(size))
        else:
            found, done = self.expect(
                streaming(opened, "readable"), lambda: joined(stream.iter(1000))
            )
        if done:
            assert found == data
            opened.cursors["readable"] = start + len(data)

    @has("async")
    @rule(which=WHICH, size=SIZES, at=OFFSETS)
    def write_a_stream(self, which, size, at):
        opened, data = self.one(which, "async"), self.data(size)
        stream = opened.real.writable
        expected = streaming(opened, "writable") | writing(opened)
        _, done = self.expect(expected, lambda: stream.write(data, at=at))
        if done:
            start = opened.cursors["writable"] if at is None else at
            self.model.write(opened, start, data)
            opened.cursors["writable"] = start + len(data)

    @has("async")
    @rule(
        which=WHICH, name=st.sampled_from(["readable", "writable"]), position=st.none() | POSITIONS
    )
    def seek_or_close_a_stream(self, which, name, position):
        opened = self.one(which, "async")
        stream = getattr(opened.real, name)
        if position is None:
            self.succeed(stream.close)
            opened.closed_streams.add(name)
        else:
            _, done = self.expect(streaming(opened, name), lambda: stream.seek(position))
            if done:
                opened.cursors[name] = position

    # ---- writable streams

    @rule(
        path=PATHS,
        mode=st.sampled_from(["siloed", "siloed", "exclusive"]),
        keep=st.booleans(),
        which=WHICH,
    )
    def open_writable(self, path, mode, keep, which):
        path = self.path(path)
        expected = self.model.may_open(path, LOCKS[mode])
        file = self.file(which, path)
        call = partial(file.create_writable, keep_existing_data=keep, mode=mode)
        real, done = self.expect(expected, call)
        if done:
            opened = Opened("writable", path, LOCKS[mode], real, swapped=True)
            opened.listed = "exclusive" if mode == "exclusive" else ""
            self.model.opened(opened)
            if not keep:
                opened.bytes.content.clear()
                opened.changed = True

    @has("writable")
    @rule(
        which=WHICH,
        data=st.text(max_size=20) | SIZES,
        position=st.none() | POSITIONS,
        as_params=st.booleans(),
    )
    def write_a_writable(self, which, data, position, as_params):
        data = self.data(data) if isinstance(data, int) else data
        opened = self.one(which, "writable")
        if as_params:
            params = {"type": "write", "data": data, "position": position}
            self.succeed(lambda: opened.real.write(params))
        else:
            self.succeed(lambda: opened.real.write(data, position=position))
        self.put(opened, position, data.encode() if isinstance(data, str) else data)

    def put(self, opened, position, data):
        start = opened.cursors["handle"] if position is None else position
        opened.write(start, data)
        opened.cursors["handle"] = start + len(data)

    @has("writable")
    @precondition(lambda self: self.snapshots)
    @rule(which=WHICH, whose=WHICH, position=st.none() | POSITIONS)
    def write_a_file_to_a_writable(self, which, whose, position):
        """A File that has changed ends the stream."""
        opened = self.one(which, "writable")
        snapshot = self.snapshots[whose % len(self.snapshots)]
        expected = self.model.may_read(snapshot)
        _, done = self.expect(expected, lambda: opened.real.write(snapshot.real, position=position))
        if done:
            self.put(opened, position, snapshot.content)
        else:
            self.model.close(opened, False)
            self.ended.append(opened.real)
            self.releasing = True

    @has("writable")
    @rule(which=WHICH, position=POSITIONS, seeks=st.booleans())
    def seek_or_truncate_a_writable(self, which, position, seeks):
        opened = self.one(which, "writable")
        self.succeed(lambda: (opened.real.seek if seeks else opened.real.truncate)(position))
        if seeks:
            opened.cursors["handle"] = position
        else:
            opened.truncate(position)

    # ---- snapshots

    @rule(path=PATHS, which=WHICH)
    def get_a_file(self, path, which):
        path = self.path(path)
        real, done = self.expect(self.model.found(path, "file"), self.file(which, path).get_file)
        if done:
            self.snapshots.append(self.model.snapshot(path, real))
            assert real.size == len(self.snapshots[-1].content)

    @precondition(lambda self: self.snapshots)
    @rule(which=WHICH, start=st.integers(-50, 9000), end=st.none() | st.integers(-50, 9000))
    def slice_a_file(self, which, start, end):
        whole = self.snapshots[which % len(self.snapshots)]
        part = whole.content[start:end]
        self.snapshots.append(replace(whole, content=part, real=whole.real.slice(start, end)))
        assert self.snapshots[-1].real.size == len(part)

    @precondition(lambda self: self.snapshots)
    @rule(which=WHICH, how=st.sampled_from(["read", "text", "stream"]))
    def read_a_file(self, which, how):
        self.check_file(self.snapshots[which % len(self.snapshots)], how)

    def check_file(self, snapshot, how):
        content = snapshot.content
        calls = {
            "read": snapshot.real.read,
            "text": snapshot.real.text,
            "stream": lambda: joined(snapshot.real.stream(1000)),
        }
        expected = self.model.may_read(snapshot)
        found, done = self.expect(expected, calls[how])
        if done:
            assert found == (content.decode("utf-8-sig", "replace") if how == "text" else content)

    # ---- FileSystems

    @rule(path=PATHS, flags=FLAGS, which=st.integers(0, 1))
    def open(self, path, flags, which):
        path = self.path(path)
        fs, writes = self.systems[which], flags & os.O_ACCMODE != os.O_RDONLY
        lock = ALONE if writes else NO_LOCK
        expected = self.model.may_open(path, lock, bool(flags & os.O_CREAT), fs)
        if flags & os.O_EXCL and path in self.model.tree:
            expected.must.add(errno.EEXIST)
        if flags & os.O_TRUNC and not writes:
            expected |= self.model.locked(path, ALONE, fs)
        real, done = self.expect(expected, lambda: fs.open("/" + path, flags))
        if done:
            opened = Opened("fd", path, lock, real, owner=fs, writes=writes)
            opened.reads = flags & os.O_ACCMODE != os.O_WRONLY
            opened.appends = bool(flags & os.O_APPEND)
            self.model.opened(opened)
            if flags & os.O_TRUNC:
                self.model.truncate(opened, 0)

    @has("fd")
    @rule(which=WHICH)
    def close_a_descriptor(self, which):
        self.end(self.one(which, "fd"), "close")

    @has("fd", "sync", "async")
    @rule(which=WHICH, size=SIZES, offset=POSITIONS, writes=st.booleans(), syncs=st.booleans())
    def transfer_by_aio(self, which, size, offset, writes, syncs):
        """aio_read, or aio_write, of a descriptor or a handle; no cursor moves."""
        opened = self.one(which, "fd", "sync", "async")
        buffer = self.data(size) if writes else bytearray(size)
        cb = aio.aiocb(opened.real, buffer, aio_offset=offset)

        async def transfer():
            (aio.aio_write if writes else aio.aio_read)(cb)
            return await cb

        allowed = opened.writes if writes else opened.reads
        count, done = self.expect(Errors(set() if allowed else {errno.EBADF}), transfer)
        if done and writes:
            assert count == size
            self.model.write(
                opened, len(opened.bytes.content) if opened.appends else offset, buffer
            )
        elif done:
            assert buffer[:count] == opened.bytes.content[offset : offset + size]
        if syncs:
            self.succeed(partial(synced, opened.real))

    @rule(path=PATHS, which=st.integers(0, 1))
    def unlink(self, path, which):
        path = self.path(path)
        fs = self.systems[which]
        expected = self.model.found(path, "file") | self.model.locked(path, owner=fs)
        _, done = self.expect(expected, lambda: fs.unlink("/" + path))
        if done:
            self.model.remove(path)

    @rule(source=PATHS, destination=PATHS, which=st.integers(0, 1))
    def rename(self, source, destination, which):
        source = self.path(source)
        destination = self.path(destination)
        fs = self.systems[which]
        expected = self.model.may_rename(source, destination, fs, self.kind != "dict")
        _, done = self.expect(expected, lambda: fs.rename("/" + source, "/" + destination))
        if done:
            self.model.move(source, destination, fs)

    @rule(path=PATHS, size=POSITIONS, which=st.integers(0, 1))
    def truncate_a_path(self, path, size, which):
        path = self.path(path)
        fs = self.systems[which]
        expected = self.model.found(path, "file") | self.model.locked(path, owner=fs)
        _, done = self.expect(expected, lambda: fs.truncate("/" + path, size))
        if done:
            self.model.truncate(Opened("fd", path, NO_LOCK, None, self.model.tree[path]), size)

    # ---- after each step

    @invariant()
    def compare(self):
        """Compares the tree, the locks, the bytes of an open file, a cursor and a snapshot."""
        self.steps += 1
        self.compare_tree()
        if self.releasing:  # by a thread, after a drop or a failed write of a stream
            eventually(lambda: self.locks() == [self.model.locks()] * len(self.volumes))
            self.releasing = False
        assert self.locks() == [self.model.locks()] * len(self.volumes)
        if self.kind != "dict" and os.path.exists(f"{self.directory}/.aiofs/swap"):
            swaps = sum(opened.swapped for opened in self.model.open)
            assert len(os.listdir(f"{self.directory}/.aiofs/swap")) == swaps
        readable = [each for each in self.those("fd", "sync", "async") if each.reads]
        if readable:
            self.compare_bytes(readable[self.steps % len(readable)])
        if self.those("sync", "async"):
            self.read(self.steps, None, [3])
        if self.snapshots:
            self.check_file(self.snapshots[self.steps % len(self.snapshots)], "read")

    def compare_bytes(self, opened):
        """By aio_read, which moves no cursor."""
        buffer = bytearray(len(opened.bytes.content) + 1)
        cb = aio.aiocb(opened.real, buffer)
        aio.aio_read(cb)
        aio.aio_suspend([cb])
        assert buffer[: aio.aio_return(cb)] == opened.bytes.content

    def compare_tree(self):
        tree = self.volume(0).paths if self.kind == "dict" else tree_of(self.directory)
        if self.kind == "dict":
            tree = {path: file and bytes(file.data) for path, file in tree.items()}
        assert tree == {
            path: file and bytes(file.content) for path, file in self.model.tree.items()
        }

    def locks(self):
        """The locks that each of the volumes lists."""
        listed = [self.succeed(volume.locks) for volume in self.volumes]
        return [{(lock.path, lock.mode) for lock in locks} for locks in listed]


async def awaited(call):
    found = call()
    return await found if inspect.isawaitable(found) else found


async def in_block(real, raises):
    """Leaves the block of a handle or a stream, by an exception if `raises`."""
    with suppress(Left):
        if isinstance(real, aiofs.SyncAccessHandle):
            with real:
                if raises:
                    raise Left
        else:
            async with real:
                if raises:
                    raise Left


async def joined(pieces):
    return b"".join([piece async for piece in pieces])


async def synced(real):
    cb = aio.aiocb(real)
    aio.aio_fsync(os.O_DSYNC, cb)
    return await cb


def name_of(path):
    return path.rpartition("/")[2]


def writing(opened):
    return Errors(set() if opened.writes else {errno.EBADF})


def streaming(opened, name):
    return Errors({errno.EBADF} if name in opened.closed_streams else set())


def tree_of(directory):
    """What is on disk: paths, with their bytes or DIRECTORY."""
    found = {"": DIRECTORY}
    for folder, folders, files in os.walk(directory):
        where = os.path.relpath(folder, directory)
        if where == ".":
            where = ""
            folders.remove(".aiofs") if ".aiofs" in folders else None
        for name in folders:
            found[os.path.join(where, name)] = DIRECTORY
        for name in files:
            with open(os.path.join(folder, name), "rb") as file:
                found[os.path.join(where, name)] = file.read()
    return found


@pytest.mark.parametrize("kind", ["private", "host", "dict"])
def test_handles_streams_and_descriptors_match_a_model(new_loop, kind):
    machine = type("Handles", (Handles,), {"kind": kind, "new_loop": staticmethod(new_loop)})
    run_state_machine_as_test(machine, settings=examples(2))
