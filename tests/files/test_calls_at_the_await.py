"""Open files: which calls are made at the await, and what cancelled reads leave."""

import asyncio
import builtins
import gc
import os
import random
import threading
import weakref

import pytest

from aiofs import _core, files
from aiofs.files import wrapped

LINES = "".join(f"{number},größer,{'x' * (number % 90)}\n" for number in range(4000))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(LINES.encode())
    return path


@pytest.fixture
def slow_calls(monkeypatch):
    """The names of the calls that went to a host thread."""
    names = []
    on_host = wrapped.AsyncFile._call_slowly

    async def call(self, name, arguments):
        names.append(name)
        return await on_host(self, name, arguments)

    monkeypatch.setattr(wrapped.AsyncFile, "_call_slowly", call)
    return names


@pytest.mark.parametrize("mode", ["r", "rb", "r+", "r+b"])
async def test_lines_of_a_cached_file_need_no_host_thread(path, slow_calls, mode):
    with builtins.open(path, mode) as plain:
        wanted = list(plain)
    async with files.open(path, mode) as file:
        assert [line async for line in file] == wanted
        assert slow_calls == []
        assert await file.tell() == path.stat().st_size


async def test_small_calls_of_a_cached_file_need_no_host_thread(path, slow_calls):
    async with files.open(path, "rb") as file:
        assert await file.read(3) == LINES.encode()[:3]
        assert await file.readline() == LINES.encode().splitlines(keepends=True)[0][3:]
        position = await file.tell()
        assert await file.seek(position + 10) == position + 10
        buffer = bytearray(4)
        assert await file.readinto(buffer) == 4
        assert (await file.peek(1))[:1] == LINES.encode()[position + 14 : position + 15]
        assert len(await file.read1(5)) == 5 and await file.seekable()
        await file.seek(0, os.SEEK_END)
        assert await file.read() == b"" and await file.readline() == b""
    async with files.open(path.parent / "new", "w") as file:
        for _ in range(50):
            await file.write("some text\n")
    assert slow_calls == []
    assert (path.parent / "new").read_text() == "some text\n" * 50


async def test_written_bytes_go_to_the_kernel_on_a_host_thread(tmp_path, slow_calls):
    for mode, piece in (("wb", b"0123456789"), ("w", "0123456789"), ("a", "größer, 日本")):
        path = tmp_path / mode
        async with files.open(path, mode, encoding=None if "b" in mode else "utf-8") as file:
            for _ in range(3000):
                await file.write(piece)
        wanted = piece * 3000
        assert path.read_bytes() == (wanted if "b" in mode else wanted.encode())
        assert 2 < len(slow_calls) < 300
        slow_calls.clear()


@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n", "binary"])
async def test_windows_may_end_anywhere_in_a_line(tmp_path, newline):
    path = tmp_path / "file"
    path.write_bytes("a\rb\r\n\r\r\nß\rlonger\n\n日本\r\ngröße\nlast\r".encode() * 3)
    options = {"mode": "rb"} if newline == "binary" else {"newline": newline, "encoding": "utf-8"}
    with builtins.open(path, **options) as plain:
        wanted = plain.readlines()
    for size in range(1, 40):
        before = _core._set_windows(size, 3 * size, size)
        try:
            async with files.open(path, **options) as file:
                assert [line async for line in file] == wanted, size
            async with files.open(path, **options) as file:
                pieces = [
                    part for _ in wanted for part in [await file.readline(2), await file.read(1)]
                ]
                pieces.append(await file.read())
                assert type(wanted[0])().join(pieces) == type(wanted[0])().join(wanted)
        finally:
            _core._set_windows(*before)
    assert _core._blocking_reads() == 0


@pytest.mark.parametrize("options", [{"mode": "rb"}, {"mode": "r", "encoding": "utf-8"}])
async def test_calls_of_other_kinds_between_lines(path, options):
    chance = random.Random(1)
    with builtins.open(path, **options) as plain:
        async with files.open(path, **options) as file:
            for _ in range(1500):
                for _ in range(chance.randrange(5)):
                    assert await file.readline() == plain.readline()
                name = chance.choice(["read", "tell", "seek", "newlines"])
                if name == "read":
                    assert await file.read(30) == plain.read(30)
                elif name == "tell":
                    assert await file.tell() == plain.tell()
                elif name == "newlines" and hasattr(plain, "newlines"):
                    assert file.newlines == plain.newlines
                elif name == "seek" and not chance.randrange(20):
                    where = plain.tell()
                    assert await file.readline() == plain.readline()
                    assert await file.seek(where) == plain.seek(where)


async def test_wrapped_object_has_the_cursor_of_the_file(path):
    for mode in ("r", "rb"):
        async with files.open(path, mode) as file:
            lines = [await file.readline() for _ in range(7)]
            lines.append(file.wrapped.readline())
            lines.append(await file.readline())
            assert (
                type(lines[0])().join(lines)
                == (LINES if mode == "r" else LINES.encode())[: sum(map(len, lines))]
            )
            assert file.wrapped.tell() == await file.tell()
            assert "readinto" not in vars(getattr(file.wrapped, "buffer", file.wrapped).raw)
    file = await files.open(path, "rb")
    first = await file.readline()
    raw = file.detach()
    assert first and not {"readinto", "readall"} & set(vars(raw))
    raw.close()


async def test_changes_by_others_appear_as_in_the_builtin(path):
    with builtins.open(path, "r+b", 0) as other:
        with builtins.open(path, "rb", 4096) as plain:
            async with files.open(path, "rb", 4096) as file:
                for number in range(300):
                    assert await file.readline() == plain.readline()
                    other.seek(number * 400)
                    other.write(b"\n" if number % 3 else b"y" * 350)
        lines = []
        async with files.open(path, errors="replace") as file:
            async for line in file:
                lines.append(line)
            other.seek(0, os.SEEK_END)
            other.write(b"one\ntwo")
            assert await file.readline() == "one\n"
            assert await file.readline() == "two"
            other.write(b" more\n")
            assert await file.readline() == " more\n"
            other.truncate(0)
            assert await file.readline() == ""


async def test_lines_let_the_loop_turn(path):
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.ensure_future(count())
    for _ in range(20):
        async with files.open(path) as file:
            before = turns
            async for _ in file:
                until = _core.counters()  # some work of the program
                assert until
    counting.cancel()
    assert turns > before


async def test_tasks_take_lines_in_turn(path):
    async with files.open(path) as file:
        taken = []

        async def take():
            async for line in file:
                taken.append(line)

        await asyncio.gather(*(take() for _ in range(5)))
    assert "".join(taken) == LINES


async def test_call_is_awaited_once(path):
    async with files.open(path) as file:
        call = file.readline()
        assert asyncio.iscoroutine(call) and "readline" in repr(call)
        assert (
            await asyncio.create_task(call)
            == await asyncio.wait_for(file.read(0), 5) + "0,größer,\n"
        )
        with pytest.raises(RuntimeError, match="awaited already"):
            await call
        one, other = file.__anext__(), file.__anext__()
        assert (await other).startswith("1,") and (await one).startswith("2,")


async def test_dropped_file_is_freed_without_the_collector(path):
    file = await files.open(path, "rb")
    assert await file.__anext__() == b"0,gr\xc3\xb6\xc3\x9fer,\n"
    file._target.close()
    with pytest.raises(ValueError):
        while True:
            await file.__anext__()
    gone = weakref.ref(file)
    gc.disable()
    try:
        del file
        while gone() is not None:  # a host thread has it for a moment
            await asyncio.sleep(0.001)
    finally:
        gc.enable()


async def cancelled(call):
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


READS = [
    lambda file: file.read(3),
    lambda file: file.readline(),
    lambda file: file.readlines(),
    lambda file: file.readinto(bytearray(5)),
    lambda file: file.read(),
]


@pytest.mark.parametrize("mode", ["r", "rb", "unbuffered"])
@pytest.mark.parametrize("read", READS)
async def test_next_read_of_a_pipe_has_what_a_cancelled_one_has_read(mode, read):
    reading, writing = os.pipe()
    options = {"mode": "r"} if mode == "r" else {"mode": "rb", "buffering": -(mode != "unbuffered")}
    async with files.open(reading, **options) as file:
        if not hasattr(file, "readinto") and read is READS[3]:
            os.close(writing)
            return
        await cancelled(read(file))
        os.write(writing, b"first\nsecond\nthird")
        os.close(writing)
        parts = [await file.readline(), await file.read(2), await file.readline(2)]
        parts += [await file.readline(), await file.read() or await file.read()]
    assert type(parts[0])().join(parts) == (
        "first\nsecond\nthird" if mode == "r" else b"first\nsecond\nthird"
    )
    assert parts[0] in ("first\n", b"first\n") and parts[3] in ("nd\n", b"nd\n")


@pytest.mark.parametrize("mode", ["r", "rb"])
async def test_cursor_after_a_cancelled_read_is_where_it_was(path, mode, monkeypatch):
    async with files.open(path, mode) as file:
        file._leave()  # so its calls go to host threads
        await file.readline()
        where = await file.tell()
        begun, go = threading.Event(), threading.Event()
        target = file._target

        class Slow:
            def __getattr__(self, name):
                return getattr(target, name)

            def read(self, size=-1):
                begun.set()
                go.wait(10)
                return target.read(size)

        file._target = Slow()
        task = asyncio.ensure_future(file.read(1000))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        if mode == "rb":
            assert await file.tell() == where
        rest = await file.read(-1)
        assert rest == (LINES if mode == "r" else LINES.encode())[10 if mode == "r" else where :]
        file._target = target


async def test_cancelled_read_that_has_returned_already_loses_nothing():
    reading, writing = os.pipe()
    async with files.open(reading, "rb", 0) as file:
        for _ in range(30):
            task = asyncio.ensure_future(file.read(4))
            await asyncio.sleep(0.002)
            os.write(writing, b"data")
            for _ in range(random.randrange(6)):
                await asyncio.sleep(0)
            task.cancel()
            try:
                data = await task
            except asyncio.CancelledError:
                data = await file.read(4)
            assert data == b"data"
    os.close(writing)


async def test_cancelled_aclose_ends_when_the_file_is_closed(tmp_path):
    file = await files.open(tmp_path / "new", "w")
    await file.write("data")
    closing = asyncio.ensure_future(file.aclose())
    await asyncio.sleep(0)
    for _ in range(3):
        closing.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert file.closed and (tmp_path / "new").read_text() == "data"
