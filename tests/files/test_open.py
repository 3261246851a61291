"""`aiofs.files.open`: as the built-in `open`, with awaited methods."""

import asyncio
import builtins
import contextlib
import copy
import fcntl
import gc
import io
import os
import pickle
import warnings

import pytest

from aiofs import files

TEXT = "first\nsecond\r\nthird, größer\n\nlast without an end"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(TEXT.encode())
    return path


def fail_of(function, *arguments, **options):
    with pytest.raises(Exception) as caught:
        function(*arguments, **options)
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize(
    ("mode", "options", "kind"),
    [
        ("r", {}, files.AsyncTextIOWrapper),
        ("w+", {"encoding": "utf-16", "newline": "\r\n"}, files.AsyncTextIOWrapper),
        ("rb", {}, files.AsyncBufferedReader),
        ("r+b", {}, files.AsyncBufferedReader),
        ("wb", {}, files.AsyncBufferedIOBase),
        ("ab", {}, files.AsyncBufferedIOBase),
        ("rb", {"buffering": 0}, files.AsyncFileIO),
        ("wb", {"buffering": 0}, files.AsyncFileIO),
    ],
)
async def test_kind_and_attributes_are_those_of_the_builtin(path, mode, options, kind):
    with builtins.open(path, mode, **options) as wanted:
        async with files.open(path, mode, **options) as file:
            assert type(file) is kind
            assert type(file.wrapped) is type(wanted)
            assert (file.mode, file.name) == (wanted.mode, wanted.name)
            assert file.readable() == wanted.readable()
            assert await file.writable() == wanted.writable()
            assert await file.seekable() and not await file.isatty()
            assert os.fstat(file.fileno()).st_ino == path.stat().st_ino
            for name in ("encoding", "errors", "newlines", "line_buffering"):
                if hasattr(wanted, name):
                    assert getattr(file, name) == getattr(wanted, name)
            assert not file.closed
    assert file.closed


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("missing",), {}),
        (("file", "x"), {}),
        (("file", "q"), {}),
        (("file", "rw"), {}),
        (("file", "rb"), {"encoding": "utf-8"}),
        (("file", "r"), {"buffering": 0}),
        (("file", "r"), {"newline": "x"}),
        (("file", "r"), {"encoding": "no such encoding"}),
        (("file", "r"), {"closefd": False}),
        ((".",), {}),
        (("file\0",), {}),
        ((3.5,), {}),
    ],
)
async def test_errors_are_those_of_the_builtin(path, monkeypatch, arguments, options):
    monkeypatch.chdir(path.parent)
    wanted = fail_of(builtins.open, *arguments, **options)
    with pytest.raises(Exception) as caught:
        await files.open(*arguments, **options)
    assert (type(caught.value), str(caught.value)) == wanted


async def test_lines(path):
    async with files.open(path) as file:
        assert [line async for line in file] == list(io.StringIO(TEXT, newline=None))
    async with files.open(path, "rb") as file:
        assert [line async for line in file] == list(io.BytesIO(TEXT.encode()))
        await file.seek(0)
        assert await file.readlines(8) == [b"first\n", b"second\r\n"]
        assert await file.readline(3) == b"thi"
        assert await file.peek(1)
        assert await file.read1(2) == b"rd"


async def test_writing(path):
    async with files.open(path, "w", newline="\r\n") as file:
        assert await file.write("a\n") == 2
        await file.writelines(["b\n", "c"])
        assert await file.tell() == 7
        await file.flush()
        assert path.read_bytes() == b"a\r\nb\r\nc"
        assert await file.truncate(3) == 3
    assert path.read_bytes() == b"a\r\n"
    async with files.open(path, "ab", 0) as file:
        assert await file.write(b"more") == 4
        assert await file.seek(-2, os.SEEK_END) == 5
    async with files.open(path, "r+b") as file:
        buffer = bytearray(3)
        assert await file.readinto(buffer) == 3 and buffer == b"a\r\n"
        assert await file.readinto1(memoryview(buffer)[:1]) == 1
        assert await file.write(b"ORE") == 3
    assert path.read_bytes() == b"a\r\nmORE"


async def test_closed_file(path):
    file = await files.open(path)
    await file.close()
    await file.close()
    await file.aclose()
    for call in (file.read, file.readline, file.tell, file.flush, file.__anext__):
        with pytest.raises(ValueError, match="closed file"):
            await call()


async def test_detached_file(path):
    file = await files.open(path, "rb")
    raw = file.detach()
    assert raw.readall() == TEXT.encode()
    raw.close()
    with pytest.raises(ValueError, match="detached"):
        await file.read()


async def test_calls_at_the_same_time_take_effect_one_after_the_other(path):
    async with files.open(path, "r") as file:
        lines = await asyncio.gather(*(file.readline() for _ in range(8)))
    assert "".join(lines) == TEXT.replace("\r\n", "\n")


async def test_cancelled_write_runs_on_and_the_next_call_waits_for_it():
    reading, writing = os.pipe()
    async with files.open(writing, "wb", 0) as file:
        full = b"x" * fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
        await file.write(full)
        first = asyncio.ensure_future(file.write(b"abc"))
        await asyncio.sleep(0.01)
        second, third = (asyncio.ensure_future(file.write(data)) for data in (b"no", b"def"))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        await asyncio.sleep(0.01)
        assert not third.done()
        assert os.read(reading, len(full)) == full
        assert await third == 3
        assert first.cancelled() and second.cancelled()
        assert os.read(reading, 10) == b"abcdef"
    os.close(reading)


async def test_call_behind_one_of_a_closed_loop_goes_on(path):
    file = await files.open(path)
    turns = file._turns
    reading, writing = os.pipe()
    stuck = asyncio.ensure_future(turns.run(os.read, reading, 1))
    await asyncio.sleep(0)

    def on_another_loop():
        loop = asyncio.new_event_loop()
        task = loop.create_task(file.readline())
        loop.run_until_complete(asyncio.sleep(0.01))
        loop._ready.clear() if hasattr(loop, "_ready") else None
        loop.close()
        task.get_coro().close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            del task

    await asyncio.to_thread(on_another_loop)
    waits = asyncio.ensure_future(file.readline())
    await asyncio.sleep(0)
    os.write(writing, b"x")
    assert await stuck == b"x"
    assert await waits == "first\n"
    await file.close()
    os.close(reading)
    os.close(writing)


async def test_cancelled_opening_leaves_no_descriptor(path):
    await (await files.open(path)).close()  # starts the engine, which has descriptors of its own
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(50):
        task = asyncio.ensure_future(files.open(path)._open())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await task).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        while set(os.listdir("/proc/self/fd")) - before:
            await asyncio.sleep(0.001)
            gc.collect()


async def test_context_manager_closes_after_an_exception(path):
    with pytest.raises(KeyError):
        async with files.open(path) as file:
            raise KeyError
    assert file.closed


async def test_awaiting_an_opening_twice_gives_the_same_file(path):
    opening = files.open(path)
    file = await opening
    assert await opening is file
    await file.close()


async def test_descriptor_that_stays_open(path):
    descriptor = os.open(path, os.O_RDONLY)
    async with files.open(descriptor, "rb", closefd=False) as file:
        assert await file.read(5) == b"first"
    os.close(descriptor)


async def test_opener_is_called(path):
    asked = []

    def opener(name, flags):
        asked.append((name, flags))
        return os.open(name, flags)

    async with files.open(path, opener=opener) as file:
        assert await file.read(5) == "first"
    assert asked == [(str(path), os.O_RDONLY | os.O_CLOEXEC)] or asked[0][0] == path


async def test_file_cannot_be_copied(path):
    opening = files.open(path)
    async with opening as file:
        for thing in (file, opening):
            for attempt in (copy.copy, pickle.dumps):
                with pytest.raises(TypeError, match="cannot be copied or pickled"):
                    attempt(thing)


def test_only_objects_of_io_are_wrapped():
    for thing in (3, [1], "text", io.FileIO):
        with pytest.raises(TypeError, match="no file object"):
            files.wrap(thing)


async def test_standard_streams_follow_sys(capsys):
    await files.stdout.write("out")
    await files.stderr.write("err")
    await files.stdout_bytes.write(b"bytes")
    await files.stdout_bytes.flush()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("outbytes", "err") or captured.err == "err"
    with pytest.raises(OSError):
        await files.stdin.read()
