"""Volumes whose methods may block, and volumes whose methods never block: their threads."""

import asyncio
import errno
import gc
import os
import threading

import pytest
from dict_volume import DictVolume
from support import failed

from aiofs import FileSystem, aio

SECONDS = 30  # the longest wait of a method; it then ran on the wrong thread


class Slow(DictVolume):
    """The method that `waits` names blocks until the test releases `go_on`."""

    blocking = True
    waits = None

    def __init__(self):
        super().__init__()
        self.entered, self.go_on = threading.Semaphore(0), threading.Semaphore(0)
        self.threads = set()

    def wait(self, name):
        self.threads.add(threading.get_ident())
        if name == self.waits:
            self.entered.release()
            if not self.go_on.acquire(timeout=SECONDS):
                raise OSError(errno.ETIMEDOUT, f"{name} was never released")


def _waiting(name):
    def method(self, *arguments, **named):
        self.wait(name)
        return getattr(DictVolume, name)(self, *arguments, **named)

    return method


FILE_METHODS = ["open_file", "close_file", "read_at", "write_at", "size", "truncate", "flush"]
TREE_METHODS = ["stat", "listdir", "mkdir", "rmdir", "unlink"]
for name in FILE_METHODS + TREE_METHODS:
    setattr(Slow, name, _waiting(name))


class SlowlySubmitting(Slow):
    def submit(self, request):
        self.wait("submit")
        super().submit(request)


async def finish_methods(volume, operation):
    """Releases the volume's methods until the operation is complete. Returns its result."""
    task = asyncio.ensure_future(operation)
    passed = 0
    while not task.done():
        await asyncio.sleep(0)
        while volume.entered.acquire(blocking=False):
            volume.go_on.release()
            passed += 1
    assert passed, "the method was not called"
    volume.waits = None
    return await task


# ---- the loop goes on


OPERATIONS = {
    "read_at": lambda handle: handle.read(bytearray(4), at=0),
    "write_at": lambda handle: handle.write(b"data", at=0),
    "size": lambda handle: handle.get_size(),
    "truncate": lambda handle: handle.truncate(3),
    "flush": lambda handle: handle.flush(),
}


@pytest.mark.parametrize("method", OPERATIONS)
def test_loop_turns_while_a_method_of_a_file_blocks(run, method):
    async def body():
        volume = Slow()
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            await handle.write(b"1234")
            volume.waits = method
            result = await finish_methods(volume, OPERATIONS[method](handle))
            assert result == (4 if method in ("read_at", "write_at", "size") else None)
        assert threading.get_ident() not in volume.threads

    run(body())


@pytest.mark.parametrize("method", ["flush", "close_file"])
def test_loop_turns_while_closing_blocks(run, method):
    async def body():
        volume = Slow()
        file = await volume.root.get_file_handle("file", create=True)
        handle = await file.create_access_handle()
        volume.waits = method
        await finish_methods(volume, handle.close())
        assert volume.open_files == 0

    run(body())


@pytest.mark.filterwarnings("ignore:unclosed access handle")
def test_loop_turns_while_the_file_of_a_dropped_handle_is_closed(run):
    async def body():
        volume = Slow()
        file = await volume.root.get_file_handle("file", create=True)
        handle = await file.create_access_handle()
        volume.waits = "close_file"
        del handle
        gc.collect()
        await finish_methods(volume, until(lambda: volume.open_files == 0))

    async def until(condition):
        while not condition():
            await asyncio.sleep(0)

    run(body())


@pytest.mark.parametrize(
    ("method", "start"),
    [
        ("stat", lambda volume: volume.root.get_file_handle("file")),
        ("open_file", lambda volume: volume.root.get_file_handle("new", create=True)),
        ("mkdir", lambda volume: volume.root.get_directory_handle("sub", create=True)),
        ("unlink", lambda volume: volume.root.remove_entry("file")),
        ("rmdir", lambda volume: volume.root.remove_entry("directory")),
        ("listdir", lambda volume: listed(volume)),
        ("stat", lambda volume: listed(volume)),
        ("stat", lambda volume: volume.estimate()),
    ],
)
def test_loop_turns_while_a_method_of_the_tree_blocks(run, method, start):
    async def body():
        volume = Slow()
        await volume.root.get_file_handle("file", create=True)
        await volume.root.get_directory_handle("directory", create=True)
        volume.waits = method
        await finish_methods(volume, start(volume))
        assert threading.get_ident() not in volume.threads

    run(body())


@pytest.mark.parametrize("method", ["open_file", "read_at", "stat", "close_file"])
@pytest.mark.parametrize("part", ["whole", "pieces"])
def test_loop_turns_while_a_file_is_read(run, method, part):
    async def body():
        volume = Slow()
        handle = await volume.root.get_file_handle("file", create=True)
        async with handle.create_access_handle() as writer:
            await writer.write(b"data")
        file = await handle.get_file()
        volume.waits = method
        reading = file.read() if part == "whole" else joined(file.stream(2))
        assert await finish_methods(volume, reading) == b"data"
        assert threading.get_ident() not in volume.threads

    async def joined(pieces):
        return b"".join([piece async for piece in pieces])

    run(body())


@pytest.mark.parametrize("method", ["size", "read_at"])
@pytest.mark.parametrize("n", [-1, 2, 2 << 20])
def test_loop_turns_while_a_stream_reads(run, method, n):
    async def body():
        volume = Slow()
        handle = await volume.root.get_file_handle("file", create=True)
        async with handle.create_access_handle() as opened:
            await opened.write(b"data")
            volume.waits = method if n != 2 else "read_at"
            expected = b"da" if n == 2 else b"data"
            assert await finish_methods(volume, opened.readable.read(n)) == expected
        assert threading.get_ident() not in volume.threads

    run(body())


async def listed(volume):
    return [name async for name in volume.root.keys()]


@pytest.mark.parametrize("method", ["read_at", "write_at", "flush", "submit"])
def test_loop_turns_while_a_posix_request_blocks(run, method):
    async def body():
        volume = SlowlySubmitting()
        with FileSystem() as fs:
            fs.mount("/", volume)
            fd = fs.open("/file", os.O_RDWR | os.O_CREAT)
            volume.waits = method
            cb = aio.aiocb(fd, bytearray(4))
            if method == "flush":
                aio.aio_fsync(os.O_SYNC, cb)
            elif method == "read_at":
                aio.aio_read(cb)
            else:
                aio.aio_write(cb)
            await finish_methods(volume, finished(cb))
            assert aio.aio_return(cb) == (4 if method in ("write_at", "submit") else 0)
            fs.close(fd)

    async def finished(cb):
        return await cb

    run(body())


def test_size_reflects_the_earlier_operations(run):
    async def body():
        volume = Slow()
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            await handle.write(b"1234")
            volume.waits = "size"
            size, write, after = handle.get_size(), handle.write(b"more"), handle.get_size()
            assert await finish_methods(volume, asyncio.gather(size, write, after)) == [4, 4, 8]

    run(body())


# ---- volumes do not hold each other up


def test_slow_volume_does_not_delay_another_volume(run):
    async def body():
        slow, other = Slow(), Slow()
        with FileSystem() as fs:
            fs.mount("/slow", slow)
            fs.mount("/other", other)
            fd = fs.open("/slow/file", os.O_RDWR | os.O_CREAT)
            slow.waits = "read_at"
            reads = [aio.aiocb(fd, bytearray(4)) for _ in range(200)]
            for read in reads:
                aio.aio_read(read)
            async with fs.create_access_handle("/other/file", create=True) as handle:
                assert await handle.write(b"data") == 4
                assert await handle.get_size() == 4
            for _ in reads:
                slow.go_on.release()
            for read in reads:
                assert await read == 0
            fs.close(fd)

    run(body())


def test_requests_of_a_volume_run_at_the_same_time_up_to_a_limit():
    volume = Slow()
    with FileSystem() as fs:
        fs.mount("/", volume)
        fd = fs.open("/file", os.O_RDWR | os.O_CREAT)
        volume.waits = "read_at"
        reads = [aio.aiocb(fd, bytearray(4)) for _ in range(40)]
        for read in reads:
            aio.aio_read(read)
        for _ in range(16):
            assert volume.entered.acquire(timeout=SECONDS)
        assert not volume.entered.acquire(timeout=0.01)
        canceled = [read for read in reads if aio.aio_cancel(fd, read) == aio.AIO_CANCELED]
        assert len(canceled) == 24
        assert {aio.aio_error(read) for read in canceled} == {errno.ECANCELED}
        volume.go_on.release(16)
        for read in reads:
            aio.aio_suspend([read])
        assert sum(aio.aio_error(read) == 0 for read in reads) == 16
        again = aio.aiocb(fd, bytearray(4))
        volume.go_on.release()
        aio.aio_read(again)
        aio.aio_suspend([again])
        assert aio.aio_return(again) == 0
        fs.close(fd)


# ---- methods that use other volumes


@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("inner", [True, False])
@pytest.mark.parametrize("submits", [True, False])
@pytest.mark.parametrize("method", ["read_at", "write_at", "flush", "close_file"])
def test_method_waits_for_a_request_on_another_volume(outer, inner, submits, method):
    class Below(DictVolume):
        blocking = inner
        if submits:

            def submit(self, request):
                super().submit(request)

    class Above(DictVolume):
        blocking = outer
        copied = None
        if submits:

            def submit(self, request):
                super().submit(request)

    def use_other(self, *arguments):
        buffer = bytearray(4)
        read = aio.aiocb(fd, buffer)
        aio.aio_read(read)
        aio.aio_suspend([read], SECONDS)
        self.copied = aio.aio_return(read), bytes(buffer)
        return getattr(DictVolume, method)(self, *arguments)

    setattr(Above, method, use_other)
    above = Above()
    with FileSystem() as fs:
        fs.mount("/above", above)
        fs.mount("/below", Below())
        with fs.create_sync_access_handle("/below/file", create=True) as handle:
            handle.write(b"data")
        fd = fs.open("/below/file", os.O_RDWR)
        upper = fs.open("/above/file", os.O_RDWR | os.O_CREAT)
        cb = aio.aiocb(upper, bytearray(4))
        if method == "flush":
            aio.aio_fsync(os.O_SYNC, cb)
        elif method == "read_at":
            aio.aio_read(cb)
        else:
            aio.aio_write(cb)
        aio.aio_suspend([cb])
        assert aio.aio_error(cb) == 0
        fs.close(upper)
        assert above.copied == (4, b"data")
        fs.close(fd)


# ---- volumes that never block


class Quick(DictVolume):
    blocking = False

    def __init__(self):
        super().__init__()
        self.threads = set()

    def read_at(self, *arguments):
        self.threads.add(threading.get_ident())
        return super().read_at(*arguments)


def test_volume_that_never_blocks_completes_inside_the_call(run):
    async def body():
        volume = Quick()
        with FileSystem() as fs:
            fs.mount("/", volume)
            async with fs.create_access_handle("/file", create=True) as handle:
                await handle.write(b"data")
                assert await handle.read(bytearray(4), at=0) == 4
                read = aio.aiocb(handle, bytearray(4))
                aio.aio_read(read)
                assert aio.aio_error(read) == 0 and aio.aio_return(read) == 4
        assert volume.threads == {threading.get_ident()}

    run(body())


@pytest.mark.parametrize("submits", [True, False])
@pytest.mark.parametrize("blocks", [True, False])
def test_long_chain_of_dependent_operations_completes(run, submits, blocks):
    class Chained(DictVolume):
        blocking = blocks
        if submits:

            def submit(self, request):
                super().submit(request)

    async def body():
        file = await Chained().root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            writes = [handle.write(b"%4d" % number, at=0) for number in range(2000)]
            assert await asyncio.gather(*writes) == [4] * 2000
            buffer = bytearray(4)
            assert await handle.read(buffer, at=0) == 4 and buffer == b"1999"

    run(body())


def test_request_of_a_volume_that_raises_on_a_thread_of_the_engine_fails():
    class Failing(DictVolume):
        blocking = True

        def read_at(self, file, buffer, offset):
            raise OSError(errno.ENXIO, "gone")

    with FileSystem() as fs:
        fs.mount("/", Failing())
        fd = fs.open("/file", os.O_RDWR | os.O_CREAT)
        read = aio.aiocb(fd, bytearray(4))
        aio.aio_read(read)
        aio.aio_suspend([read])
        failed(errno.ENXIO, aio.aio_return, read)
        fs.close(fd)
