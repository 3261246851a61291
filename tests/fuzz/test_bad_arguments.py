"""Any value for any field and argument: a call is refused as documented, or does what it says.
Nothing crashes or hangs, and no other file changes.

A random control block may be valid. So a model of the only file that is open for writing predicts
its contents after each call. The bystander must be unchanged.
"""

import array
import errno
import os
import random
import signal

import pytest
from drawing import examples
from hypothesis import given
from hypothesis import strategies as st

import aiofs
from aiofs import aio
from aiofs.aio import (
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

NOISE = random.Random(4).randbytes(100_000)
END_SECONDS = 20  # the longest wait for a completion
MOST = 1 << 20  # the largest size of a file


class Odd(Exception):
    """The exception that the program's own objects raise."""


class Fileno:
    """An object with a fileno(), which returns a value or raises."""

    def __init__(self, value):
        self.value = value

    def fileno(self):
        if isinstance(self.value, type):
            raise self.value
        return self.value

    __index__ = __float__ = __fspath__ = __len__ = __bool__ = fileno

    def __repr__(self):
        return f"Fileno({self.value!r})"


class Endless:
    """An iterable that raises after one item."""

    def __iter__(self):
        yield None
        raise Odd

    def __repr__(self):
        return "Endless()"


INTS = st.sampled_from(
    [0, 1, -1, 2, 20, 21, 4096, 2**31 - 1, 2**31, -(2**31) - 1, 2**32, 2**63 - 1, 2**63, -(2**63)]
) | st.integers(-(2**70), 2**70)
ANYTHING = st.one_of(
    INTS,
    st.none(),
    st.booleans(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.builds(bytearray, st.binary(max_size=5)),
    st.sampled_from([(), [], {}, object, object(), Ellipsis, aiocb, b"x" * 10_000]),
    st.builds(Fileno, st.sampled_from([Odd, None, "1", 1.5, -1, 2**40])),
    st.builds(aiocb),
    st.builds(sigevent),
    st.just(Endless()),
)
MAKE_BUFFER = [
    lambda: b"0123456789",
    lambda: memoryview(bytearray(20))[::2],
    lambda: memoryview(bytearray(16)).cast("B", (4, 4)),
    lambda: array.array("d", [1.0, 2.0]),
    lambda: memoryview(b""),
]
BUFFERS = st.sampled_from(MAKE_BUFFER).map(lambda make: make()) | st.builds(
    bytearray, st.sampled_from([0, 1, 5000, 100_000])
)
SIGEVENTS = st.builds(
    sigevent,
    st.sampled_from([SIGEV_NONE, SIGEV_THREAD, SIGEV_LOOP, SIGEV_SIGNAL]) | ANYTHING,
    # No valid signal number: such a signal would be sent.
    st.sampled_from([0, -1, signal.NSIG, 2**31, 2**80, None, "9", 1.5]),
    ANYTHING,
    st.sampled_from([None, id, 5, "function", Odd]),
)


def nearly(good, bad=ANYTHING):
    """Draws a valid value mostly, so that the other arguments are checked too."""
    return st.sampled_from([good] * 7 + [bad]).flatmap(lambda drawn: drawn)


def control_blocks(descriptors):
    return st.builds(
        aiocb,
        nearly(descriptors | st.builds(Fileno, descriptors), ODD_FD),
        nearly(BUFFERS),
        nearly(st.none() | st.integers(0, 10) | st.integers(0, 20_000)),
        nearly(st.integers(0, MOST)).map(small),
        nearly(st.integers(0, 20)),
        nearly(st.none(), SIGEVENTS | ANYTHING),
        nearly(st.sampled_from([LIO_READ, LIO_WRITE])),
    )


def small(offset):
    """Reduces an offset or size that a file allows but that is too large for the model."""
    return offset % MOST if isinstance(offset, int) and MOST < offset < 2**63 else offset


def not_open(value):
    """Moves a number away from the descriptors that are open."""
    return value + 2**20 if isinstance(value, int) and value >= 0 else value


ODD_FD = ANYTHING.map(not_open)
NUMBERS = range(3)  # stand for the descriptors of the files, which change from test to test

DOCUMENTED = (OSError, TypeError, ValueError, BufferError, OverflowError, RuntimeError, Odd)


class Place:
    """A file for reading and writing, the bystander, open for reading only, and a pipe."""

    def __init__(self, folder):
        self.path, self.bystander = folder / "file", folder / "bystander"
        self.path.write_bytes(b"")
        self.bystander.write_bytes(NOISE)
        self.model = bytearray()
        self.file = os.open(self.path, os.O_RDWR)
        self.reader = os.open(self.bystander, os.O_RDONLY)
        self.pipe, writer = os.pipe()
        os.close(writer)  # so a read of the pipe completes

    def close(self):
        for fd in (self.file, self.reader, self.pipe):
            os.close(fd)

    def real(self, fildes):
        """The descriptor that a number stands for."""
        if isinstance(fildes, Fileno) and type(fildes.value) is int:
            return Fileno(self.real(fildes.value))
        if type(fildes) is int and fildes in NUMBERS:
            return [self.file, self.reader, self.pipe][fildes]
        return fildes

    def finish(self, cb, writes):
        """Waits for an accepted request, and applies it to the model."""
        aio_suspend([cb], END_SECONDS)
        error = aio_error(cb)
        assert error != errno.EINPROGRESS
        try:
            count = aio_return(cb)
        except OSError as raised:
            assert raised.errno in (error, errno.EINVAL)
            return
        if count:
            assert count <= memoryview(cb.aio_buf).nbytes, "beyond the buffer"
        if writes and count:
            assert self.names_the_file(cb)
            data = memoryview(cb.aio_buf).tobytes()[:count]
            start = cb.aio_offset
            self.model.extend(bytes(max(start - len(self.model), 0)))
            self.model[start : start + count] = data

    def names_the_file(self, cb):
        fildes = cb.aio_fildes
        return self.file == (fildes.value if isinstance(fildes, Fileno) else fildes)

    def check(self):
        assert self.path.read_bytes() == self.model
        assert self.bystander.read_bytes() == NOISE


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.close()


CALLS = {
    "aio_read": lambda cb, any_one, any_two: aio_read(cb),
    "aio_write": lambda cb, any_one, any_two: aio_write(cb),
    "aio_fsync": lambda cb, any_one, any_two: aio_fsync(any_one, cb),
    "lio_listio": lambda cb, any_one, any_two: lio_listio(any_one, [cb, None], any_two),
    "listed": lambda cb, any_one, any_two: lio_listio(LIO_WAIT, [cb, aiocb()]),
    "noted": lambda cb, any_one, any_two: lio_listio(LIO_NOWAIT, [cb], any_two),
    "aio_cancel": lambda cb, any_one, any_two: aio_cancel(any_one, cb),
    "aio_suspend": lambda cb, any_one, any_two: aio_suspend([cb], 0),
    "aio_error": lambda cb, any_one, any_two: aio_error(cb),
    "aio_return": lambda cb, any_one, any_two: aio_return(cb),
    "repr": lambda cb, any_one, any_two: repr(cb),
}


@examples(5)
@given(
    cb=control_blocks(st.sampled_from(NUMBERS)),
    name=st.sampled_from([*CALLS, *["aio_read", "aio_write", "listed"] * 4]),
    any_one=st.sampled_from([LIO_WAIT, LIO_NOWAIT, os.O_SYNC, os.O_DSYNC]) | ODD_FD,
    any_two=SIGEVENTS | ANYTHING,
)
def test_aiocb_fields_of_any_type_never_crash(place, cb, name, any_one, any_two):
    cb.aio_fildes = place.real(cb.aio_fildes)
    try:
        CALLS[name](cb, any_one, any_two)
    except DOCUMENTED:
        pass
    try:
        aio_error(cb)
    except OSError as error:
        assert error.errno == errno.EINVAL  # the aiocb was never submitted
    else:
        listed_as_write = name in ("lio_listio", "listed", "noted") and is_write(cb.aio_lio_opcode)
        place.finish(cb, name == "aio_write" or listed_as_write)
    place.check()


def is_write(opcode):
    return isinstance(opcode, int) and opcode == LIO_WRITE


ARGUMENTS = st.lists(ANYTHING, max_size=4)
FUNCTIONS = [
    aio_read,
    aio_write,
    aio_error,
    aio_return,
    aio_fsync,
    lio_listio,
    aiofs.aligned_buffer,
    aiofs.FileSystem,
    lambda *anything: aio_cancel(*anything[:2]) if not is_open(anything[:1]) else None,
    lambda blocks=(), *_: aio_suspend(blocks, 0),
    lambda timeout=None, *_: aio_suspend([], timeout),
    lambda fields=(), *_: setattr(aiocb(), "aio_sigevent", fields),
]


def is_open(numbers):
    """Can it be an open descriptor of this process? These tests must not cancel there."""
    return any(isinstance(number, int) and 0 <= number < 2**20 for number in numbers)


@examples(5)
@given(function=st.sampled_from(FUNCTIONS), arguments=ARGUMENTS)
def test_arguments_of_any_type_never_crash(function, arguments):
    if function is aiofs.aligned_buffer:
        arguments = [value % 2**28 if isinstance(value, int) else value for value in arguments]
    try:
        function(*arguments)
    except (*DOCUMENTED, MemoryError):
        pass


@examples(5)
@given(blocks=ANYTHING, timeout=st.sampled_from([0, -1, 0.001]) | ANYTHING)
def test_aio_suspend_on_any_object_never_crashes(run, blocks, timeout):
    async def suspend():
        return await aio.suspend(blocks, timeout)

    try:
        assert run(suspend()) == 0
    except DOCUMENTED:
        pass
    try:
        assert aio_suspend(blocks, timeout) == 0
    except DOCUMENTED:
        pass


# ---- access handles -----------------------------------------------------------------------------

METHODS = ["read", "write", "readv", "writev", "truncate", "get_size", "flush", "fileno"]
AT = nearly(st.none() | st.integers(0, MOST)).map(small)
CALL = st.tuples(
    st.sampled_from(METHODS),
    nearly(BUFFERS | st.lists(BUFFERS, max_size=3) | st.integers(0, MOST)).map(small),
    AT,
)


class Bytes:
    """The model of a file that an access handle has open."""

    def __init__(self):
        self.content, self.cursor = bytearray(), 0

    def done(self, name, argument, at, value):
        """Checks the value of a call, and applies the call to the model."""
        if name == "truncate":
            assert value is None
            del self.content[argument:]
            self.content.extend(bytes(argument - len(self.content)))
            self.cursor = min(self.cursor, argument)
        elif name == "get_size":
            assert value == len(self.content)
        elif name in ("read", "write", "readv", "writev"):
            start = self.cursor if at is None else at
            buffers = argument if name.endswith("v") else [argument]
            data = b"".join(memoryview(each).tobytes() for each in buffers)
            if name.startswith("write"):
                assert value == len(data)
                if data:
                    self.content.extend(bytes(max(start - len(self.content), 0)))
                    self.content[start : start + value] = data
            else:
                assert value == len(self.content[start : start + len(data)])
                assert data[:value] == self.content[start : start + value]
            self.cursor = start + value


def call_on(handle, name, argument, at):
    method = getattr(handle, name)
    if name in ("get_size", "flush", "fileno"):
        return method()
    return method(argument) if name == "truncate" else method(argument, at=at)


@examples(5)
@given(calls=st.lists(CALL, max_size=10))
def test_access_handle_methods_with_any_argument_never_crash(run, calls):
    with aiofs.MemoryVolume() as volume, aiofs.FileSystem() as fs:
        fs.mount("/", volume)
        model = Bytes()
        with fs.create_sync_access_handle("/sync", create=True) as handle:
            for name, argument, at in calls:
                try:
                    value = call_on(handle, name, argument, at)
                except DOCUMENTED:
                    continue
                model.done(name, argument, at, value)
            check_content(handle, model)

        async def asynchronously():
            model = Bytes()
            async with fs.create_access_handle("/async", create=True) as handle:
                for name, argument, at in calls:
                    try:
                        value = call_on(handle, name, argument, at)
                        if name != "fileno":
                            value = await value
                    except DOCUMENTED:
                        continue
                    model.done(name, argument, at, value)
            with fs.create_sync_access_handle("/async") as handle:
                check_content(handle, model)

        run(asynchronously())


def check_content(handle, model):
    data = bytearray(len(model.content) + 1)
    assert handle.read(data, at=0) == len(model.content)
    assert data[:-1] == model.content


# ---- file systems -------------------------------------------------------------------------------

NAMED = ["open", "stat", "mkdir", "rmdir", "unlink", "rename", "truncate", "listdir", "directory"]
PATH = nearly(st.sampled_from(["/file", "/new", "/folder", "/folder/inner", "/", ""]))
FLAGS = nearly(st.sampled_from([os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT])).map(
    lambda flags: flags & 0x7FFFFFFF if isinstance(flags, int) and abs(flags) > 2**40 else flags
)


@examples(5)
@given(
    name=st.sampled_from([*NAMED, "close", "mount", "unmount", "create_sync_access_handle"]),
    path=PATH,
    arguments=st.lists(FLAGS | PATH, max_size=2),
    mode=st.sampled_from(["in-place", "read-only", None]) | ANYTHING,
)
def test_file_system_methods_with_any_argument_never_crash(tmp_path, name, path, arguments, mode):
    (tmp_path / "beside").write_bytes(NOISE)
    with aiofs.PrivateVolume(tmp_path / "volume") as volume, aiofs.FileSystem() as fs:
        fs.mount("/", volume)
        if name == "truncate":
            arguments = [small(value) for value in arguments]
        try:
            if name == "create_sync_access_handle":
                fs.create_sync_access_handle(path, mode=mode, create=bool(arguments))
            else:
                getattr(fs, name)(path, *arguments)
        except DOCUMENTED:
            pass
    assert (tmp_path / "beside").read_bytes() == NOISE
    assert sorted(os.listdir(tmp_path)) == ["beside", "volume"]


@examples(5)
@given(quota=ANYTHING, directory=st.sampled_from(["volume", "beside", "no/volume"]) | ANYTHING)
def test_volume_methods_with_any_argument_never_crash(tmp_path, quota, directory):
    (tmp_path / "beside").write_bytes(NOISE)
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        aiofs.PrivateVolume(directory, quota=quota).close()
    except DOCUMENTED:
        pass
    finally:
        os.chdir(before)
    try:
        aiofs.MemoryVolume(quota=quota).close()
    except DOCUMENTED:
        pass
    assert (tmp_path / "beside").read_bytes() == NOISE
