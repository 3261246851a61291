"""WritableFileStream: what it writes, when that appears, and how the stream ends."""

import asyncio
import errno
import gc
import os
import pickle
from collections.abc import Coroutine

import pytest
from opened import CONTENT, is_locked
from support import write_file

import aiofs
from aiofs import FileHandle, PrivateVolume, WritableFileStream

MODES = pytest.mark.parametrize("mode", ["siloed", "exclusive"])


async def failure(awaitable):
    """The exception that the await raises."""
    with pytest.raises((OSError, asyncio.CancelledError)) as caught:
        await awaitable
    return caught.value


async def contents(file):
    return await (await file.get_file()).read()


async def written(file, *operations, keep=False):
    """What the file has after a stream with these operations: (name, argument, named arguments)."""
    async with file.create_writable(keep_existing_data=keep) as stream:
        for name, argument, *named in operations:
            await getattr(stream, name)(argument, **dict(named))
    return await contents(file)


def at(position):
    return ("position", position)


# ---- the bytes, and the cursor ------------------------------------------------------------------


async def test_stream_begins_empty(file):
    assert await written(file, ("write", b"new")) == b"new"


async def test_stream_begins_with_the_existing_data_if_asked(file):
    assert await written(file, ("write", b"new"), keep=True) == b"new" + CONTENT[3:]


async def test_stream_that_begins_empty_empties_the_file_even_without_a_write(file):
    async with file.create_writable():
        pass
    assert await contents(file) == b""


async def test_stream_that_keeps_the_data_and_changes_nothing_commits_nothing(on_disk):
    path = f"{on_disk._volume._directory}/file"
    before = os.stat(path)
    async with on_disk.create_writable(keep_existing_data=True) as stream:
        await stream.seek(3)
        await stream.write(b"")
    assert os.stat(path).st_ino == before.st_ino


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([("write", b"abc"), ("write", b"def")], b"abcdef"),
        ([("write", "gr\u00fc\u00df\u20ac"), ("write", "!")], "gr\u00fc\u00df\u20ac!".encode()),
        ([("write", bytearray(b"array")), ("write", memoryview(b"view"))], b"arrayview"),
        ([("write", b"1234567890"), ("write", b"abc", at(4))], b"1234abc890"),
        ([("write", b"1234567890"), ("write", b"abc", at(4)), ("write", b"d")], b"1234abcd90"),
        ([("write", b"abc", at(4))], b"\0\0\0\0abc"),
        ([("write", b"1234567890"), ("seek", 5), ("write", b"abc")], b"12345abc90"),
        ([("write", b"12"), ("seek", 5), ("write", b"abc")], b"12\0\0\0abc"),
        ([("write", b"12"), ("seek", 5)], b"12"),
        ([("write", b"12"), ("write", b"", at(5))], b"12"),
        ([("write", b"12"), ("write", b"", at(5)), ("write", b"x")], b"12\0\0\0x"),
        ([("write", b"1234567890"), ("truncate", 5)], b"12345"),
        ([("write", b"12345"), ("truncate", 10)], b"12345\0\0\0\0\0"),
        ([("write", b"1234567890"), ("truncate", 5), ("write", b"abc")], b"12345abc"),
        ([("write", b"12345"), ("truncate", 10), ("write", b"abc")], b"12345abc\0\0"),
        ([("write", b"1234567890"), ("seek", 2), ("truncate", 5), ("write", b"a")], b"12a45"),
        ([("seek", 9), ("truncate", 3), ("write", b"a")], b"\0\0\0a"),
        ([("write", b"1234567890"), ("truncate", 0)], b""),
        ([("write", b""), ("write", "")], b""),
    ],
)
async def test_operations_and_the_cursor(file, operations, expected):
    assert await written(file, *operations) == expected


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([{"type": "write", "data": "abc"}, {"type": "write", "data": b"def"}], b"abcdef"),
        ([{"type": "write", "data": b"abc", "position": 2}], b"\0\0abc"),
        ([{"type": "write", "data": b"abc", "position": None}], b"abc"),
        ([b"12345", {"type": "seek", "position": 2}, b"x"], b"12x45"),
        ([b"12345", {"type": "truncate", "size": 2}, b"x"], b"12x"),
    ],
)
async def test_dict_stands_for_an_operation(file, operations, expected):
    assert await written(file, *(("write", operation) for operation in operations)) == expected


async def test_operations_return_none_and_are_coroutines(file):
    async with file.create_writable() as stream:
        for operation in (stream.write(b"a"), stream.seek(1), stream.truncate(5)):
            assert isinstance(operation, Coroutine)
            assert await operation is None
        assert await asyncio.gather(stream.write("b"), asyncio.create_task(stream.seek(0))) == [
            None,
            None,
        ]


async def test_operations_take_effect_in_the_order_of_the_calls_without_an_await(file):
    stream = await file.create_writable()
    for number in range(50):
        stream.write(b"%3d " % number * 1000)
        stream.seek(number * 100)
        stream.write(b"x" * 10)
        stream.truncate(number * 100 + 10)
    await stream.close()
    expected = bytearray()
    cursor = 0
    for number in range(50):
        expected[cursor : cursor + 4000] = b"%3d " % number * 1000
        cursor = number * 100
        expected[cursor : cursor + 10] = b"x" * 10
        cursor += 10
        del expected[cursor:]
    assert await contents(file) == expected


async def test_large_writes(file):
    data = os.urandom(5_000_000)
    assert await written(file, ("write", data), ("write", data, at(7))) == data[:7] + data


# ---- a File as a source -------------------------------------------------------------------------


async def test_file_is_a_source(file):
    write_file(file._volume, "source", b"0123456789")
    source = await FileHandle._of(file._volume, "source").get_file()
    assert await written(file, ("write", b"ab"), ("write", source), ("write", b"cd")) == (
        b"ab0123456789cd"
    )
    assert await written(file, ("write", source, at(3))) == b"\0\0\0" + b"0123456789"


async def test_slice_of_a_file_is_a_source(file):
    source = (await file.get_file()).slice(10, 20)
    assert await written(file, ("write", source), ("write", source)) == CONTENT[10:20] * 2


async def test_large_file_is_a_source(file):
    data = os.urandom(3_500_000)
    write_file(file._volume, "source", data)
    source = await FileHandle._of(file._volume, "source").get_file()
    assert await written(file, ("write", source), ("write", b"end")) == data + b"end"


async def test_file_of_another_volume_is_a_source(file, tmp_path):
    with PrivateVolume(tmp_path / "other") as other:
        write_file(other, "source", b"0123456789")
        source = await FileHandle._of(other, "source").get_file()
        assert await written(file, ("write", {"type": "write", "data": source})) == b"0123456789"


async def test_the_file_itself_is_a_source(file):
    source = await file.get_file()
    operations = [("write", source), ("write", source), ("write", b"!")]
    assert await written(file, *operations) == CONTENT * 2 + b"!"


async def test_operations_around_a_file_keep_their_order(file):
    write_file(file._volume, "source", b"x" * 1_000_000)
    source = await FileHandle._of(file._volume, "source").get_file()
    stream = await file.create_writable()
    stream.write(b"before")
    stream.write(source)
    stream.write(b"after")
    stream.seek(3)
    stream.write(source)
    stream.truncate(1_000_010)
    await stream.close()
    assert await contents(file) == b"bef" + b"x" * 1_000_003 + b"afte"


async def test_file_that_has_changed_is_no_source_and_ends_the_stream(file):
    write_file(file._volume, "source", b"0123456789")
    source = await FileHandle._of(file._volume, "source").get_file()
    write_file(file._volume, "source", b"changed")
    stream = await file.create_writable()
    with pytest.raises(aiofs.NotReadableError) as caught:
        await stream.write(source)
    error = await failure(stream.close())
    assert isinstance(error, aiofs.InvalidStateError)
    assert error.__cause__ is caught.value
    assert await contents(file) == CONTENT


async def test_file_that_was_removed_is_no_source(file):
    write_file(file._volume, "source", b"0123456789")
    handle = FileHandle._of(file._volume, "source")
    source = await handle.get_file()
    await handle.remove()
    stream = await file.create_writable()
    assert isinstance(await failure(stream.write(source)), aiofs.NotFoundError)
    assert await contents(file) == CONTENT


# ---- when the changes appear --------------------------------------------------------------------


@MODES
async def test_changes_appear_at_close_and_not_before(file, mode):
    stream = await file.create_writable(mode=mode)
    await stream.write(b"new")
    assert await contents(file) == CONTENT
    assert await stream.close() is None
    assert await contents(file) == b"new"
    assert not is_locked(file)


@MODES
async def test_abort_discards_the_changes(file, mode):
    stream = await file.create_writable(mode=mode)
    await stream.write(b"new")
    assert await stream.abort() is None
    assert await contents(file) == CONTENT
    assert not is_locked(file)


@MODES
async def test_an_exception_that_leaves_the_block_discards_the_changes(file, mode):
    with pytest.raises(ZeroDivisionError):
        async with file.create_writable(mode=mode) as stream:
            await stream.write(b"new")
            raise ZeroDivisionError
    assert await contents(file) == CONTENT
    assert not is_locked(file)


async def test_cancellation_of_the_block_discards_the_changes(file):
    async def write():
        async with file.create_writable() as stream:
            await stream.write(b"new")
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await asyncio.sleep(0.01)
    task.cancel()
    assert isinstance(await failure(task), asyncio.CancelledError)
    assert await contents(file) == CONTENT
    assert not is_locked(file)


async def test_each_siloed_stream_has_its_own_bytes_and_the_last_close_wins(file):
    one, other = await file.create_writable(), await file.create_writable()
    await one.write(b"one")
    await other.write(b"the other")
    await other.close()
    assert await contents(file) == b"the other"
    await one.close()
    assert await contents(file) == b"one"


# ---- locks --------------------------------------------------------------------------------------


async def test_siloed_streams_and_shared_handles_share(file):
    async with file.create_writable() as stream, file.create_access_handle(mode="shared") as handle:
        await stream.write(b"stream")
        await handle.write(b"handle", at=0)


@pytest.mark.parametrize("mode", ["in-place", "exclusive", "read-only", "readwrite-unsafe"])
async def test_stream_and_handle_exclude_each_other(file, mode):
    async with file.create_writable():
        error = await failure(file.create_access_handle(mode=mode))
        assert isinstance(error, aiofs.NoModificationAllowedError)
    async with file.create_access_handle(mode=mode):
        assert isinstance(await failure(file.create_writable()), aiofs.NoModificationAllowedError)


@pytest.mark.parametrize(
    ("first", "second"), [("siloed", "exclusive"), ("exclusive", "siloed"), ("exclusive",) * 2]
)
async def test_exclusive_stream_is_alone(file, first, second):
    async with file.create_writable(mode=first):
        error = await failure(file.create_writable(mode=second))
        assert isinstance(error, aiofs.NoModificationAllowedError)
        assert error.errno == errno.EBUSY
    async with file.create_writable(mode=second):
        pass


async def test_file_cannot_be_removed_while_a_stream_is_open(file):
    async with file.create_writable():
        assert isinstance(await failure(file.remove()), aiofs.NoModificationAllowedError)
        removal = file._volume.root.remove_entry("file")
        assert isinstance(await failure(removal), aiofs.NoModificationAllowedError)


# ---- what is not there --------------------------------------------------------------------------


async def test_stream_of_a_missing_file_is_not_found(file):
    missing = FileHandle._of(file._volume, "missing")
    assert isinstance(await failure(missing.create_writable()), aiofs.NotFoundError)
    below = FileHandle._of(file._volume, "missing/file")
    assert isinstance(await failure(below.create_writable()), aiofs.NotFoundError)


async def test_stream_of_a_directory_is_a_mismatch(file):
    file._volume._ops.mkdir("directory")
    directory = FileHandle._of(file._volume, "directory")
    assert isinstance(await failure(directory.create_writable()), aiofs.TypeMismatchError)


async def test_close_fails_if_another_program_removed_the_file(on_disk):
    path = f"{on_disk._volume._directory}/file"
    stream = await on_disk.create_writable()
    await stream.write(b"new")
    os.unlink(path)
    error = await failure(stream.close())
    assert isinstance(error, aiofs.NotFoundError)
    assert (error.errno, error.filename) == (errno.ENOENT, path)
    assert not os.path.exists(path)
    assert on_disk._volume._ops.lock_count("") == 0


# ---- after the end ------------------------------------------------------------------------------

CALLS = {
    "write": lambda stream: stream.write(b"x"),
    "write a File": lambda stream: stream.write(stream.source),
    "seek": lambda stream: stream.seek(0),
    "truncate": lambda stream: stream.truncate(0),
    "close": lambda stream: stream.close(),
    "abort": lambda stream: stream.abort(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_every_call_after_the_end_is_refused(file, call, end):
    stream = await file.create_writable()
    stream.source = await file.get_file()
    await stream.write(b"new")
    await getattr(stream, end)()
    error = await failure(CALLS[call](stream))
    assert isinstance(error, aiofs.InvalidStateError)
    assert error.errno == errno.EBADF
    assert error.__cause__ is None
    assert await contents(file) == (b"new" if end == "close" else CONTENT)


async def test_only_one_of_many_closes_succeeds(file):
    stream = await file.create_writable()
    await stream.write(b"new")
    results = await asyncio.gather(*(stream.close() for _ in range(100)), return_exceptions=True)
    assert results.count(None) == 1
    assert all(
        isinstance(result, aiofs.InvalidStateError) for result in results if result is not None
    )


async def test_block_may_close_or_abort_its_stream(file):
    async with file.create_writable() as stream:
        await stream.write(b"new")
        await stream.close()
    assert await contents(file) == b"new"
    async with file.create_writable() as stream:
        await stream.write(b"newer")
        await stream.abort()
    assert await contents(file) == b"new"
    async with file.create_writable() as stream:
        stream.write(b"newest")
        stream.close()
    assert await contents(file) == b"newest"


# ---- a failed write -----------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    with PrivateVolume(tmp_path / "small", quota=1000) as volume:
        write_file(volume, "file", b"x" * 400)
        yield FileHandle._of(volume, "file")


@pytest.mark.parametrize("call", [name for name in CALLS if name != "write a File"])
async def test_every_call_after_a_failed_write_is_refused_with_its_cause(small, call):
    stream = await small.create_writable()
    await stream.write(b"y" * 900)
    first = await failure(stream.write(b"y" * 101))
    assert isinstance(first, aiofs.QuotaExceededError)
    assert first.errno == errno.EDQUOT
    error = await failure(CALLS[call](stream))
    assert isinstance(error, aiofs.InvalidStateError)
    assert error.__cause__ is first
    assert await contents(small) == b"x" * 400


@pytest.mark.parametrize("failing", ["write", "truncate"])
async def test_failed_operation_frees_the_lock_and_leaves_the_file(small, failing):
    stream = await small.create_writable(mode="exclusive")
    operation = stream.write(b"y" * 1001) if failing == "write" else stream.truncate(1001)
    assert isinstance(await failure(operation), aiofs.QuotaExceededError)
    async with small.create_access_handle(mode="in-place"):
        pass
    assert await contents(small) == b"x" * 400
    assert os.listdir(f"{small._volume._directory}/.aiofs/swap") == []


async def test_operations_behind_a_failed_write_are_refused(small):
    stream = await small.create_writable()
    operations = [stream.write(b"y" * 1001), stream.write(b"z"), stream.truncate(0), stream.close()]
    first, *others = [await failure(operation) for operation in operations]
    assert isinstance(first, aiofs.QuotaExceededError)
    for error in others:
        assert isinstance(error, aiofs.InvalidStateError)
        assert error.__cause__ is first
    assert await contents(small) == b"x" * 400


async def test_block_that_hides_a_failed_write_raises_at_its_end(small):
    with pytest.raises(aiofs.InvalidStateError) as caught:
        async with small.create_writable() as stream:
            first = await failure(stream.write(b"y" * 1001))
    assert caught.value.__cause__ is first
    assert await contents(small) == b"x" * 400


async def test_block_that_a_failed_write_leaves_raises_that_failure(small):
    with pytest.raises(aiofs.QuotaExceededError):
        async with small.create_writable() as stream:
            await stream.write(b"y" * 1001)
    assert not is_locked(small)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
async def test_write_that_the_disk_refuses_ends_the_stream(on_disk, faults, calls_only, number):
    stream = await on_disk.create_writable()
    for call in ("pwrite64", "pwritev2"):
        faults.fail(call, number)
    assert (await failure(stream.write(b"x" * 1_000_000))).errno == number
    faults.clear()
    assert isinstance(await failure(stream.close()), aiofs.InvalidStateError)
    assert await contents(on_disk) == CONTENT
    assert not is_locked(on_disk)


@pytest.mark.parametrize("call", ["fsync", "renameat2"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
async def test_failed_commit_leaves_the_file_and_no_lock(on_disk, faults, call, number):
    stream = await on_disk.create_writable()
    await stream.write(b"new")
    faults.fail(call, number, 1)
    assert (await failure(stream.close())).errno == number
    faults.clear()
    assert await contents(on_disk) == CONTENT
    assert not is_locked(on_disk)


# ---- bad arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda stream: stream.write(None), TypeError),
        (lambda stream: stream.write(12), TypeError),
        (lambda stream: stream.write([b"x"]), TypeError),
        (lambda stream: stream.write(memoryview(b"abcdef")[::2]), BufferError),
        (lambda stream: stream.write("\ud800"), ValueError),
        (lambda stream: stream.write(b"x", position=-1), ValueError),
        (lambda stream: stream.write(b"x", position=2**63), ValueError),
        (lambda stream: stream.write(b"x", position=1.5), TypeError),
        (lambda stream: stream.seek(-1), ValueError),
        (lambda stream: stream.seek("1"), TypeError),
        (lambda stream: stream.seek(None), TypeError),
        (lambda stream: stream.truncate(-1), ValueError),
        (lambda stream: stream.truncate(None), TypeError),
        (lambda stream: stream.write({}), ValueError),
        (lambda stream: stream.write({"type": "erase"}), ValueError),
        (lambda stream: stream.write({"type": "write"}), TypeError),
        (lambda stream: stream.write({"type": "write", "data": None}), TypeError),
        (lambda stream: stream.write({"type": "write", "data": b"", "position": -1}), ValueError),
        (lambda stream: stream.write({"type": "seek"}), TypeError),
        (lambda stream: stream.write({"type": "truncate"}), TypeError),
        (lambda stream: stream.write({"type": "truncate", "size": -1}), ValueError),
    ],
)
async def test_bad_argument_is_refused_at_the_call_and_breaks_nothing(on_disk, call, error):
    async with on_disk.create_writable() as stream:
        await stream.write(b"one")
        with pytest.raises(error):
            call(stream)
        await stream.write(b"two")
    assert await contents(on_disk) == b"onetwo"


async def test_bad_mode_is_refused_at_the_call(file):
    for mode in ("shared", "in-place", ""):
        with pytest.raises(ValueError, match="unknown mode"):
            file.create_writable(mode=mode)
    with pytest.raises(TypeError):
        file.create_writable(mode=1)


async def test_position_beyond_every_file_ends_the_stream(on_disk):
    stream = await on_disk.create_writable()
    assert (await failure(stream.write(b"xy", position=2**63 - 2))).errno == errno.EFBIG
    assert isinstance(await failure(stream.close()), aiofs.InvalidStateError)


async def test_stream_is_made_by_create_writable_only_and_does_not_pickle(file):
    with pytest.raises(TypeError):
        WritableFileStream()
    async with file.create_writable() as stream:
        with pytest.raises(TypeError):
            pickle.dumps(stream)


# ---- dropped and cancelled ----------------------------------------------------------------------


async def test_dropped_stream_warns_and_discards(file):
    stream = await file.create_writable()
    await stream.write(b"new")
    with pytest.warns(ResourceWarning, match="unclosed writable stream"):
        del stream
        gc.collect()
    assert not is_locked(file)
    assert await contents(file) == CONTENT


async def test_dropped_opening_leaves_no_lock(file):
    for turns in range(5):
        opening = file.create_writable(mode="exclusive")
        for _ in range(turns):
            await asyncio.sleep(0.001)
        with pytest.warns(RuntimeWarning, match="was never awaited"):
            del opening
        async with file.create_access_handle():
            pass


@pytest.mark.filterwarnings("ignore:the opening of a handle was never awaited:RuntimeWarning")
async def test_cancelled_opening_leaves_no_lock(file):
    for turns in range(5):
        task = asyncio.create_task(wait_for(file.create_writable(mode="exclusive")))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            stream = await task
        except asyncio.CancelledError:
            pass
        else:
            await stream.abort()
        async with file.create_access_handle():
            pass


async def wait_for(awaitable):
    return await awaitable


async def test_cancelled_write_does_not_end_the_stream(file):
    stream = await file.create_writable()
    task = asyncio.create_task(wait_for(stream.write(b"x" * 3_000_000)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await stream.truncate(0)
    await stream.write(b"after", position=0)
    await stream.close()
    assert await contents(file) == b"after"


async def test_failure_that_nobody_awaits_is_reported(small, loop_errors):
    stream = await small.create_writable()
    stream.write(b"y" * 1001)
    error = await failure(stream.close())
    assert isinstance(error, aiofs.InvalidStateError)
    del stream, error
    gc.collect()
    await asyncio.sleep(0)
    assert [type(context["exception"]) for context in loop_errors] == [aiofs.QuotaExceededError]
