"""`FileHandle.open`: file objects of handles, and the locks that they hold."""

import asyncio
import errno
import gc
import io
import math
import os
import pickle
import time
import warnings
from contextlib import contextmanager

import pytest
from coroutines import turns
from opened import CONTENT, is_locked
from support import write_file
from volumes.dict_volume import DictVolume

import aiofs
from aiofs import FileHandle, HostVolume, MemoryVolume, PrivateVolume, files
from aiofs.errors import (
    InvalidStateError,
    NoModificationAllowedError,
    NotFoundError,
    NotReadableError,
    QuotaExceededError,
    TypeMismatchError,
)

TEXT = "first line\nsecond line ä\nthird"
WRITING = ["r+", "w", "w+", "a", "a+"]


@pytest.fixture(params=["private", "host", "memory", "dict"])
def volume(request, tmp_path):
    (tmp_path / "host").mkdir()
    made = {
        "private": lambda: PrivateVolume(tmp_path / "volume"),
        "host": lambda: HostVolume(tmp_path / "host"),
        "memory": MemoryVolume,
        "dict": DictVolume,
    }
    with made[request.param]() as volume:
        yield volume


@pytest.fixture
def text(volume):
    """The handle of a file of three lines."""
    write_file(volume, "text", TEXT.encode())
    return FileHandle._of(volume, "text")


async def bytes_of(file):
    return await (await file.get_file()).read()


async def modes(volume):
    return [(lock.path, lock.mode) for lock in await volume.locks()]


@contextmanager
def no_warnings():
    """Fails if the body gives a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert [str(warning.message) for warning in caught] == []


# ---- as the built-in open ----------------------------------------------------------------------


async def steps(file, binary, call):
    """Results, or the kinds of errors, of one call of each method."""
    data = (lambda words: words.encode()) if binary else (lambda words: words)
    results = []

    async def step(name, *arguments):
        try:
            results.append((name, await call(file, name, *arguments)))
        except (OSError, ValueError) as error:
            results.append((name, type(error), str(error)))

    await step("tell")
    await step("read", 4)
    await step("readline")
    await step("write", data("written"))
    await step("seek", 0)
    await step("read", 3)
    await step("seek", 2)
    await step("write", data("X"))
    await step("truncate")
    await step("flush")
    await step("seek", 0, os.SEEK_END)
    await step("write", data("the end\n"))
    await step("tell")
    await step("seek", 0)
    await step("readlines")
    await step("writable")
    await step("seekable")
    return results


async def awaited(file, name, *arguments):
    return await getattr(file, name)(*arguments)


async def called(file, name, *arguments):
    return getattr(file, name)(*arguments)


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("mode", ["r", "r+", "w", "w+", "a", "a+", "x", "x+"])
async def test_each_mode_does_what_the_built_in_file_does(volume, tmp_path, mode, binary):
    beside = tmp_path / "beside"
    if "x" not in mode:
        write_file(volume, "file", TEXT.encode())
        beside.write_bytes(TEXT.encode())
    handle = FileHandle._of(volume, "file")
    mode += "b" * binary
    with open(beside, mode, newline=None if binary else "") as file:
        expected = await steps(file, binary, called)
        attributes = file.mode, file.readable(), file.closed
    async with handle.open(mode, newline=None if binary else "") as file:
        assert await steps(file, binary, awaited) == expected
        assert (file.mode, file.readable(), file.closed) == attributes
    assert file.closed
    assert await bytes_of(handle) == beside.read_bytes()


@pytest.mark.parametrize("mode", ["rb", "r+b", "wb", "a+b", "x+b"])
async def test_file_without_a_buffer_does_what_the_built_in_one_does(volume, tmp_path, mode):
    beside = tmp_path / "beside"
    if "x" not in mode:
        write_file(volume, "file", TEXT.encode())
        beside.write_bytes(TEXT.encode())
    with open(beside, mode, 0) as file:
        expected = await steps(file, True, called)
    async with FileHandle._of(volume, "file").open(mode, 0) as file:
        assert isinstance(file, files.AsyncFileIO)
        assert await steps(file, True, awaited) == expected
        buffer = bytearray(5)
        if "+" in mode or "r" in mode:
            await file.seek(1)
            assert await file.readinto(buffer) == 5
            assert buffer == beside.read_bytes()[1:6]


async def test_letters_of_a_mode_come_in_any_order(text):
    async with text.open("b+r") as file:
        assert await file.read(5) == b"first"
        await file.write(b"!")
    async with text.open("+bw", 0) as file:
        assert file.mode == "rb+" and await file.read() == b""


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("r",), files.AsyncTextIOWrapper),
        (("rb",), files.AsyncBufferedReader),
        (("r+b",), files.AsyncBufferedReader),
        (("wb",), files.AsyncBufferedIOBase),
        (("ab", 0), files.AsyncFileIO),
    ],
)
async def test_file_is_of_the_kind_that_open_gives(text, arguments, kind):
    async with text.open(*arguments) as file:
        assert type(file) is kind
        assert file.name.endswith("text")
        assert "text" in repr(file)
    with pytest.raises(TypeError):
        pickle.dumps(text.open())


async def test_lines_of_a_text_file(text):
    async with text.open(encoding="utf-8") as file:
        assert [line async for line in file] == TEXT.splitlines(keepends=True)


async def test_text_is_encoded_and_its_line_ends_translated(volume):
    handle = FileHandle._of(volume, "new")
    async with handle.open("w", encoding="utf-16-le", newline="\r\n") as file:
        await file.write("ä\n")
    assert await bytes_of(handle) == "ä\r\n".encode("utf-16-le")
    async with handle.open(encoding="utf-16-le") as file:
        assert await file.read() == "ä\n"


async def test_line_buffered_file_gives_each_line_to_the_kernel(text):
    async with text.open("w", 1) as file:
        await file.write("one line\nhalf")
        async with text.open() as reader:
            assert (await reader.read()).startswith("one line\n")


async def test_large_file_is_written_and_read(volume):
    handle = FileHandle._of(volume, "large")
    data = os.urandom(1 << 20)
    async with handle.open("wb") as file:
        for start in range(0, len(data), 5000):
            await file.write(data[start : start + 5000])
    async with handle.open("rb") as file:
        assert await file.read() == data
        await file.seek(1000)
        assert await file.read(10) == data[1000:1010]


async def test_descriptor_is_one_for_the_calls_of_aiofs(file):
    async with file.open("r+b") as opened:
        buffer = bytearray(10)
        assert await files.pread(opened, buffer, 5) == 10
        assert buffer == CONTENT[5:15]
        assert await files.pwrite(opened, b"new", 0) == 3
        assert await files.read_ranges(opened, [(0, 4)]) == [b"new" + CONTENT[3:4]]


async def test_descriptor_of_a_directory_volume_is_a_real_one(on_disk):
    for mode in ("rb", "r+b"):
        async with on_disk.open(mode) as opened:
            assert os.fstat(opened.fileno()).st_size == len(CONTENT)


# ---- opening -----------------------------------------------------------------------------------


async def test_reading_a_missing_file_is_an_error_with_its_path(volume):
    handle = FileHandle._of(volume, "missing")
    for mode in ("r", "r+", "rb"):
        with pytest.raises(NotFoundError) as caught:
            await handle.open(mode)
        assert caught.value.errno == errno.ENOENT
        assert caught.value.filename.endswith("missing")


@pytest.mark.parametrize("mode", ["w", "a", "x"])
async def test_writing_creates_a_missing_file(volume, mode):
    handle = FileHandle._of(volume, "new")
    async with handle.open(mode) as file:
        await file.write("text")
    assert await bytes_of(handle) == b"text"


@pytest.mark.parametrize("atomic", [False, True])
async def test_missing_directory_above_is_an_error(volume, atomic):
    with pytest.raises(NotFoundError) as caught:
        await FileHandle._of(volume, "no/file").open("w", atomic=atomic)
    assert caught.value.filename.endswith("no/file")


@pytest.mark.parametrize("atomic", [False, True])
async def test_exclusive_creation_refuses_a_file_that_is_there(text, atomic):
    with pytest.raises(FileExistsError) as caught:
        await text.open("x", atomic=atomic)
    assert caught.value.filename.endswith("text")
    assert await bytes_of(text) == TEXT.encode()
    assert not is_locked(text)


@pytest.mark.parametrize("atomic", [False, True])
async def test_exclusive_creation_refuses_a_file_that_came_during_the_call(atomic):
    class Late(DictVolume):
        def stat(self, path):
            raise OSError(errno.ENOENT, "not yet")

    with Late() as volume:
        write_file(volume, "file", CONTENT)
        with pytest.raises(FileExistsError):
            await FileHandle._of(volume, "file").open("xb", atomic=atomic)
        assert volume.paths["file"].data == CONTENT
        assert await volume.locks() == []


@pytest.mark.parametrize("mode", ["r", "r+", "w"])
async def test_directory_in_place_of_the_file_is_a_mismatch(volume, mode):
    await volume.root.get_directory_handle("folder", create=True)
    with pytest.raises(TypeMismatchError) as caught:
        await FileHandle._of(volume, "folder").open(mode)
    assert caught.value.errno == errno.EISDIR


@pytest.mark.parametrize("mode", ["r", "r+"])
async def test_fifo_is_a_mismatch(tmp_path, mode):
    os.mkfifo(tmp_path / "fifo")
    with HostVolume(tmp_path) as volume:
        with pytest.raises(TypeMismatchError):
            await FileHandle._of(volume, "fifo").open(mode)


@pytest.mark.parametrize(
    ("arguments", "keywords", "kind"),
    [
        (("z",), {}, ValueError),
        (("rw",), {}, ValueError),
        ((3,), {}, TypeError),
        (("wb",), {"encoding": "utf-8"}, ValueError),
        (("w", 0), {}, ValueError),
        (("w", "1"), {}, TypeError),
        (("r",), {"atomic": True}, ValueError),
        (("w",), {"wait": -1}, ValueError),
        (("w",), {"wait": "long"}, TypeError),
    ],
)
async def test_bad_argument_raises_at_the_call(text, arguments, keywords, kind):
    with pytest.raises(kind):
        text.open(*arguments, **keywords)
    assert await bytes_of(text) == TEXT.encode()


@pytest.mark.parametrize(
    ("keywords", "kind"), [({"encoding": "no-such"}, LookupError), ({"newline": "x"}, ValueError)]
)
@pytest.mark.parametrize("mode", ["r", "w"])
async def test_bad_argument_of_text_changes_nothing(text, mode, keywords, kind):
    with no_warnings():
        with pytest.raises(kind):
            await text.open(mode, **keywords)
        gc.collect()
    assert await bytes_of(text) == TEXT.encode()
    assert not is_locked(text)


async def test_closed_volume_is_an_error(volume):
    handle = FileHandle._of(volume, "file")
    write_file(volume, "file", b"")
    volume.close()
    for mode in ("r", "w"):
        with pytest.raises(InvalidStateError):
            await handle.open(mode)


async def test_read_only_volume_reads_and_refuses_to_write(tmp_path):
    (tmp_path / "file").write_text("text")
    with HostVolume(tmp_path, read_only=True) as volume:
        handle = FileHandle._of(volume, "file")
        async with handle.open() as file:
            assert await file.read() == "text"
        for mode in [*WRITING, "x"]:
            with pytest.raises(OSError) as caught:
                await handle.open(mode)
            assert caught.value.errno in (errno.EROFS, errno.EEXIST)
        with pytest.raises(OSError):
            await FileHandle._of(volume, "new").open("w", atomic=True)
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "text"


async def test_cached_file_is_opened_and_closed_inside_the_call(on_disk):
    async with on_disk.open("rb"):
        pass
    await turns(2)  # a new budget
    steps = on_disk.open("rb").__await__()
    with pytest.raises(StopIteration) as ended:
        while steps.send(None) is None:
            pass
    await ended.value.value.close()


# ---- locks -------------------------------------------------------------------------------------


async def test_reading_takes_no_lock_and_needs_none(volume, file):
    async with file.create_access_handle(mode="in-place"), file.open("rb") as reader:
        assert await reader.read(10) == CONTENT[:10]
    async with file.open("rb"):
        assert await modes(volume) == []
        assert not is_locked(file)


async def test_reader_keeps_the_file_that_it_opened_through_its_replacement(on_disk):
    async with on_disk.open("rb", 0) as reader:
        async with on_disk.open("wb", atomic=True) as writer:
            await writer.write(b"new")
        assert await reader.read(10) == CONTENT[:10]
    assert await bytes_of(on_disk) == b"new"


@pytest.mark.parametrize("mode", WRITING)
async def test_writing_holds_the_lock_until_the_close(volume, file, mode):
    opened = await file.open(mode)
    assert await modes(volume) == [("file", "in-place")]
    for again in WRITING:
        with pytest.raises(NoModificationAllowedError) as caught:
            await file.open(again)
        assert caught.value.errno == errno.EBUSY
        assert caught.value.filename.endswith("file")
    with pytest.raises(NoModificationAllowedError):
        await file.remove()
    await opened.close()
    assert await modes(volume) == [] and not is_locked(file)


async def test_refused_opening_to_write_changes_nothing(file):
    async with file.create_access_handle(mode="in-place"):
        with pytest.raises(NoModificationAllowedError):
            await file.open("w")
    assert await bytes_of(file) == CONTENT


async def test_exception_that_leaves_the_block_releases_the_lock(file):
    with pytest.raises(KeyError):
        async with file.open("wb") as opened:
            await opened.write(b"in place")
            raise KeyError
    assert await bytes_of(file) == b"in place"
    assert not is_locked(file)


async def test_second_close_does_nothing(file):
    opened = await file.open("r+b")
    await opened.write(b"new")
    await opened.close()
    async with file.open("r+b") as other:
        await opened.close()
        assert is_locked(file)
        await other.aclose()
    assert not is_locked(file)
    for call in (opened.read, opened.flush, opened.truncate, lambda: opened.write(b"x")):
        with pytest.raises(ValueError, match="closed file"):
            await call()


@pytest.mark.parametrize("buffering", [-1, 0])
async def test_dropped_file_warns_flushes_and_releases_the_lock(file, buffering):
    opened = await file.open("r+b", buffering)
    await opened.write(b"new")
    with pytest.warns(ResourceWarning, match="unclosed file of '.*file'"):
        del opened
        gc.collect()
    assert not is_locked(file)
    assert await bytes_of(file) == b"new" + CONTENT[3:]


async def test_dropped_file_does_not_wait_for_the_disk(on_disk, faults):
    opened = await on_disk.open("r+b")
    await opened.write(b"new")
    before = faults.calls("fdatasync") + faults.calls("fsync")
    with pytest.warns(ResourceWarning, match="unclosed file"):
        del opened
        gc.collect()
    assert faults.calls("fdatasync") + faults.calls("fsync") == before
    assert not is_locked(on_disk)


async def test_dropped_text_file_warns_and_flushes(text):
    opened = await text.open("w")
    await opened.write("new")
    with pytest.warns(ResourceWarning, match="unclosed file"):
        del opened
        gc.collect()
    assert not is_locked(text)
    assert await bytes_of(text) == b"new"


async def test_dropped_reader_warns(file):
    opened = await file.open("rb")
    with pytest.warns(ResourceWarning, match="unclosed file"):
        del opened
        gc.collect()


async def test_closed_and_dropped_file_does_not_warn(file):
    with no_warnings():
        for mode in ("rb", "r+b", "r", "w"):
            opened = await file.open(mode)
            await opened.close()
            del opened
        gc.collect()


async def test_opening_that_is_never_awaited_opens_nothing(file):
    with no_warnings():
        file.open("w")
        gc.collect()
    assert not is_locked(file)
    assert await bytes_of(file) == CONTENT


async def test_object_of_io_works_and_releases_the_lock_at_its_close(file):
    opened = await file.open("r+b")
    wrapped = opened.wrapped
    assert isinstance(wrapped, io.BufferedRandom)
    assert wrapped.read(3) == CONTENT[:3]
    wrapped.seek(0)
    wrapped.write(b"new")
    wrapped.close()
    assert not is_locked(file)
    assert await bytes_of(file) == b"new" + CONTENT[3:]


async def test_detached_file_holds_the_lock(text):
    opened = await text.open("r+")
    buffer = opened.detach()
    assert is_locked(text)
    buffer.close()
    assert not is_locked(text)


# ---- waiting -----------------------------------------------------------------------------------


async def test_opening_waits_for_the_lock_in_its_turn(file):
    held = await file.create_access_handle(mode="in-place")
    order = []

    async def append(number):
        async with file.open("ab", wait=math.inf) as opened:
            order.append(number)
            await opened.write(b"%d" % number)

    tasks = []
    for number in range(3):
        tasks.append(asyncio.ensure_future(append(number)))
        while not any(task.done() for task in tasks) and not held.contended:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
    assert not any(task.done() for task in tasks)
    await held.close()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]
    assert (await bytes_of(file)).endswith(b"012")


async def test_wait_ends_with_a_refusal(file):
    async with file.create_access_handle(mode="in-place"):
        for wait in (0, 0.02):
            with pytest.raises(NoModificationAllowedError) as caught:
                await file.open("w", wait=wait)
            assert caught.value.errno == errno.EBUSY
        async with file.open("rb", wait=0.02) as reader:  # it needs no lock
            assert await reader.read(1) == CONTENT[:1]
    assert await bytes_of(file) == CONTENT


@pytest.mark.parametrize("atomic", [False, True])
async def test_cancelled_wait_leaves_the_queue(volume, file, atomic):
    async with file.create_access_handle(mode="in-place"):
        task = asyncio.ensure_future(asyncio.wait_for(file.open("w", atomic=atomic, wait=60), 60))
        while not any(lock.waiting for lock in await volume.locks()):
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while any(lock.waiting for lock in await volume.locks()):
            await asyncio.sleep(0.001)
    async with file.open("r+b", wait=20):
        pass
    assert await bytes_of(file) == CONTENT


@pytest.mark.parametrize("mode", ["rb", "r+b", "ab", "r+"])
async def test_cancelled_opening_leaves_no_lock(file, mode):
    with no_warnings():
        for rounds in range(30):

            async def open_it():
                return await file.open(mode)

            task = asyncio.ensure_future(open_it())
            await turns(rounds % 6)
            task.cancel()
            try:
                opened = await task
            except asyncio.CancelledError:
                pass
            else:
                await opened.close()
            async with file.open("r+b"):  # not refused
                pass
        gc.collect()
    assert not is_locked(file)


async def an_opening_that_waits(handle):
    """The operation, and its steps, the first of which was taken."""
    while True:
        opening = handle.open("w")
        steps = opening.__await__()
        try:
            steps.send(None)
        except StopIteration as opened:  # it was open at once
            await opened.value.close()
        else:
            return opening, steps


async def test_opening_cancelled_when_its_file_is_open_releases_the_lock_at_once(on_disk, faults):
    opening, steps = await an_opening_that_waits(on_disk)
    while opening._arrived is None:
        time.sleep(0.001)
    before = faults.calls("fdatasync") + faults.calls("fsync")
    with no_warnings():
        with pytest.raises(asyncio.CancelledError):
            steps.throw(asyncio.CancelledError())
        assert faults.calls("fdatasync") + faults.calls("fsync") == before
        assert not is_locked(on_disk)
        del opening, steps
        gc.collect()


# ---- what a volume knows of changes ------------------------------------------------------------


async def test_writes_count_in_the_quota(tmp_path):
    with PrivateVolume(tmp_path / "volume", quota=20_000) as volume:
        handle = await volume.root.get_file_handle("file", create=True)
        opened = await handle.open("wb")
        await opened.write(bytes(18_000))
        await opened.flush()
        assert (await volume.estimate())[0] == 18_000
        await opened.write(bytes(3_000))
        with pytest.raises(QuotaExceededError) as caught:
            await opened.close()
        assert caught.value.filename.endswith("file")
        assert opened.closed and not is_locked(handle)
        async with handle.open("ab", 0) as appending:
            with pytest.raises(QuotaExceededError):
                await appending.write(bytes(2001))
            assert await appending.write(bytes(2000)) == 2000
            with pytest.raises(QuotaExceededError):
                await appending.truncate(20_001)
            await appending.truncate(100)
        assert (await volume.estimate())[0] == 100


async def test_writes_make_a_file_stale(file):
    before = await file.get_file()
    async with file.open("r+b") as opened:
        await opened.write(b"new")
    with pytest.raises(NotReadableError):
        await before.read()


async def test_close_syncs_what_was_written_as_the_volume_says(tmp_path, faults):
    def calls():
        return faults.calls("fdatasync") + faults.calls("fsync")

    for durable in (True, False):
        with PrivateVolume(tmp_path / f"{durable}", durable=durable) as volume:
            handle = await volume.root.get_file_handle("file", create=True)
            for asked in (False, True):
                opened = await handle.open("w", durable=asked)
                await opened.write("text")
                await opened.flush()
                before = calls()
                await opened.close()
                assert (calls() > before) == (durable or asked)
    volume = DictVolume()
    write_file(volume, "file", b"")
    before = volume.flushes
    async with FileHandle._of(volume, "file").open("w", durable=True) as opened:
        await opened.write("text")
    assert volume.flushes == before + 1


async def test_emptying_a_file_is_synced_at_the_close(on_disk, faults):
    opened = await on_disk.open("w")
    before = faults.calls("fdatasync")
    await opened.close()
    assert faults.calls("fdatasync") > before
    assert await bytes_of(on_disk) == b""


async def test_failed_sync_is_raised_and_releases_the_lock(on_disk, faults):
    opened = await on_disk.open("r+b")
    await opened.write(b"new")
    faults.fail("fdatasync", errno.EIO)
    with pytest.raises(OSError) as caught:
        await opened.close()
    faults.clear()
    assert caught.value.errno == errno.EIO
    assert opened.closed and not is_locked(on_disk)


async def test_forked_child_writes_nothing_and_leaves_the_lock(on_disk):
    opened = await on_disk.open("r+b")
    await opened.write(b"new")  # in the buffer
    child = os.fork()
    if child == 0:
        try:
            opened._file.close()
        except BaseException:
            pass
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert await bytes_of(on_disk) == CONTENT
    assert is_locked(on_disk)
    await opened.close()
    assert await bytes_of(on_disk) == b"new" + CONTENT[3:]


async def test_access_handles_and_files_exclude_each_other(file):
    async with file.open("r+b"):
        for mode in ("in-place", "exclusive", "shared", "read-only"):
            with pytest.raises(NoModificationAllowedError):
                await file.create_access_handle(mode=mode)
    async with file.create_access_handle(mode="read-only"):
        with pytest.raises(NoModificationAllowedError):
            await file.open("ab")
    async with aiofs.open(file, "ab") as opened:
        await opened.write(b"!")
    assert await bytes_of(file) == CONTENT + b"!"
