"""The streams of an AccessHandle: their cursors, their order, and what closing them does."""

import asyncio
import errno
import gc
import pickle
import random
import tracemalloc
import weakref

import pytest
from coroutines import failure
from opened import CONTENT, SIZE, all_bytes, cursor_of
from support import write_file

import aiofs
from aiofs import FileHandle, InvalidStateError, MemoryVolume, NoModificationAllowedError

# ---- reading


async def test_read_gives_the_bytes_at_the_cursor(file):
    async with file.create_access_handle() as handle:
        stream = handle.readable
        assert await stream.read(10) == CONTENT[:10]
        assert await stream.read(0) == b""
        assert await stream.read(n=20) == CONTENT[10:30]
        assert await stream.read() == CONTENT[30:]
        for n in (-1, None, 5, 10**9, 2**63 - 1):
            assert await stream.read(n) == b""
        await stream.seek(SIZE - 3)
        assert await stream.read(10) == CONTENT[-3:]
        await stream.seek(SIZE + 100)
        assert await stream.read(10) == await stream.read() == b""
        await stream.seek(0)
        assert await stream.read(2**62) == CONTENT
        await stream.seek(5)
        assert await stream.read(None) == CONTENT[5:]


async def test_readinto_fills_the_buffer_of_the_caller(file):
    async with file.create_access_handle() as handle:
        stream, buffer = handle.readable, bytearray(10)
        assert await stream.readinto(buffer) == 10
        assert buffer == CONTENT[:10]
        assert await stream.readinto(memoryview(buffer)[5:], at=100) == 5
        assert buffer == CONTENT[:5] + CONTENT[100:105]
        assert await stream.read(5) == CONTENT[105:110]
        assert await stream.readinto(buffer, at=SIZE - 4) == 4
        assert await stream.readinto(buffer) == 0
        assert await stream.readinto(bytearray(), at=7) == 0
        assert await stream.read(1) == CONTENT[7:8]


async def test_bad_arguments_raise_at_the_call(file):
    async with file.create_access_handle() as handle:
        reading, writing = handle.readable, handle.writable
        for error, call in [
            (TypeError, lambda: reading.read("1")),
            (TypeError, lambda: reading.read(1.5)),
            (ValueError, lambda: reading.read(2**63)),
            (TypeError, lambda: reading.seek(None)),
            (ValueError, lambda: reading.seek(-1)),
            (ValueError, lambda: writing.seek(2**63)),
            (ValueError, lambda: reading.iter(0)),
            (ValueError, lambda: reading.iter(chunk_size=-5)),
            (TypeError, lambda: reading.iter("5")),
            ((TypeError, BufferError), lambda: reading.readinto(b"read-only")),
            (ValueError, lambda: reading.readinto(bytearray(1), at=-1)),
            (TypeError, lambda: writing.write("text")),
            (ValueError, lambda: writing.write(b"x", at=-1)),
        ]:
            with pytest.raises(error):
                call()
        assert await reading.read() == CONTENT


# ---- cursors


async def test_each_stream_and_the_handle_have_a_cursor_of_their_own(file):
    async with file.create_access_handle() as handle:
        reading, writing = handle.readable, handle.writable
        assert await reading.read(5) == CONTENT[:5]
        assert await cursor_of(handle) == CONTENT[0]
        assert await writing.write(b"abc") == 3
        assert await reading.read(2) == CONTENT[5:7]
        assert await cursor_of(handle) == ord("b")
        assert await writing.write(b"de") == 2
        await reading.seek(0)
        assert await reading.read(6) == b"abcde" + CONTENT[5:6]
        await writing.seek(50)
        await writing.write(b"!")
        assert await writing.write(b"?", at=60) == 1
        assert await writing.write(b"+") == 1
        assert (await all_bytes(handle))[50:62] == b"!" + CONTENT[51:60] + b"?+"


async def test_a_handle_has_one_stream_of_each_kind(file):
    async with file.create_access_handle() as handle:
        assert handle.readable is handle.readable
        assert handle.writable is handle.writable
        assert type(handle.readable) is not type(handle.writable)
        await handle.readable.read(100)
        gc.collect()
        assert await handle.readable.read(5) == CONTENT[100:105]


async def test_truncate_leaves_the_cursors_of_the_streams(file):
    async with file.create_access_handle() as handle:
        await handle.readable.seek(100)
        await handle.writable.seek(10)
        await handle.truncate(4)
        assert await handle.readable.read() == b""
        await handle.writable.write(b"x")
        assert await all_bytes(handle) == CONTENT[:4] + bytes(6) + b"x"


# ---- in pieces


@pytest.mark.parametrize("size", [1, 1000, SIZE - 1, SIZE, SIZE + 1, 2**62])
async def test_iteration_gives_pieces_from_the_cursor_to_the_end(file, size):
    async with file.create_access_handle() as handle:
        stream = handle.readable
        await stream.seek(SIZE - 3000 if size == 1 else 0)
        pieces = [piece async for piece in stream.iter(size)]
        assert b"".join(pieces) == CONTENT[-3000 if size == 1 else 0 :]
        assert {len(piece) for piece in pieces[:-1]} <= {size}
        assert [piece async for piece in stream] == []
        await stream.seek(7)
        assert [piece async for piece in stream] == [CONTENT[7:]]


async def test_iteration_sees_what_is_appended_on_the_way(file):
    async with file.create_access_handle() as handle:
        pieces = handle.readable.iter(SIZE)
        assert await anext(pieces) == CONTENT
        await handle.write(b"more", at=SIZE)
        assert await anext(pieces) == b"more"
        assert await anext(pieces, None) is None


async def test_iteration_can_be_broken_off_and_taken_up(file):
    async with file.create_access_handle() as handle:
        pieces = []
        async for piece in handle.readable.iter(100):
            pieces.append(piece)
            break
        pieces += [piece async for piece in handle.readable.iter(999)]
        assert b"".join(pieces) == CONTENT


async def test_iteration_takes_the_memory_of_a_piece():
    with MemoryVolume() as volume:
        size = 64 * 1024 * 1024
        with volume._ops.sync_access_handle("file", "in-place", True) as handle:
            handle.truncate(size)
        async with FileHandle._of(volume, "file").create_access_handle() as handle:
            tracemalloc.start()
            try:
                assert sum([len(piece) async for piece in handle.readable]) == size
                assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
            finally:
                tracemalloc.stop()


async def test_file_that_memory_cannot_hold_raises_memory_error():
    with MemoryVolume() as volume:
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            await handle.truncate(2**62)
            with pytest.raises(MemoryError):
                await handle.readable.read()
            handle.write(b"x" * 400_000, at=0)
            with pytest.raises(MemoryError):  # now behind a write
                await handle.readable.read()
            assert await handle.readable.read(1) == b"x"


# ---- order


async def test_streams_take_effect_in_the_order_of_the_calls(file):
    async with file.create_access_handle() as handle:
        size = 400_000
        reading, writing = handle.readable, handle.writable
        operations = [
            writing.write(b"1" * size),
            reading.read(),
            writing.seek(0),
            writing.write(b"2" * size),
            reading.seek(10),
            reading.read(size),
            handle.truncate(100),
            reading.seek(1),
            reading.read(),
            handle.write(b"3" * size, at=0),
            reading.seek(5),
            reading.read(5),
            writing.write(b"4", at=0),
            reading.read(-1),
            handle.get_size(),
        ]
        done = await asyncio.gather(*operations)
        assert done[1] == b"1" * size
        assert done[5] == b"2" * (size - 10)
        assert done[8] == b"2" * 99
        assert done[11] == b"3" * 5
        assert done[13] == b"3" * (size - 10)
        assert done[14] == size


async def test_reads_of_a_stream_follow_one_another_without_being_awaited(file):
    async with file.create_access_handle() as handle:
        content = b"".join(b"%07d\n" % n for n in range(200_000))
        await handle.write(content, at=0)
        reads = [handle.readable.read(80_000) for _ in range(30)]
        pieces = await asyncio.gather(*reads)
        assert b"".join(pieces) == content
        assert [len(piece) for piece in pieces] == [80_000] * 20 + [0] * 10


@pytest.mark.parametrize("seed", range(15))
async def test_any_mixture_of_operations_matches_a_serial_model(file, seed):
    """Against a model: a bytearray and three cursors, changed by one operation after the other."""
    chance = random.Random(seed)
    model, cursors = bytearray(CONTENT), {"handle": 0, "reading": 0, "writing": 0}
    started = []

    def read(who, at, size):
        start = cursors[who] if at is None else at
        found = bytes(model[start:] if size < 0 else model[start : start + size])
        cursors[who] = start + len(found)
        return found

    def write(who, at, data):
        start = cursors[who] if at is None else at
        if data and start > len(model):
            model.extend(bytes(start - len(model)))
        model[start : start + len(data)] = data
        cursors[who] = start + len(data)
        return len(data)

    async with file.create_access_handle() as handle:
        reading, writing = handle.readable, handle.writable
        for number in range(150):
            at = chance.choice([None, None, chance.randrange(300_000)])
            size = chance.choice([0, 10, 5000, 70_000, 300_000, 2_000_000, -1])
            data = bytes([number]) * chance.choice([0, 10, 5000, 70_000, 300_000])
            buffer = bytearray(max(size, 0) % 1_000_000)
            length = chance.randrange(400_000)
            match chance.randrange(10):
                case 0 | 1:
                    started.append((reading.read(size), read("reading", None, size), None, b""))
                case 2:
                    found = read("reading", at, len(buffer))
                    started.append((reading.readinto(buffer, at=at), len(found), buffer, found))
                case 3 | 4:
                    started.append((writing.write(data, at=at), write("writing", at, data), 0, b""))
                case 5:
                    who = chance.choice(["reading", "writing"])
                    stream = reading if who == "reading" else writing
                    started.append((stream.seek(length), None, None, b""))
                    cursors[who] = length
                case 6:
                    found = read("handle", at, len(buffer))
                    started.append((handle.read(buffer, at=at), len(found), buffer, found))
                case 7:
                    started.append((handle.write(data, at=at), write("handle", at, data), 0, b""))
                case 8:
                    started.append((handle.get_size(), len(model), None, b""))
                case 9:
                    del model[length:]
                    model.extend(bytes(length - len(model)))
                    cursors["handle"] = min(cursors["handle"], length)
                    started.append((handle.truncate(length), None, None, b""))
            if chance.random() < 0.2:
                await asyncio.sleep(0)
        for operation, value, buffer, expected in started:
            assert await operation == value
            if buffer:
                assert buffer[: len(expected)] == expected
        assert await all_bytes(handle) == model


async def test_cancelled_read_happens_whole_or_not_at_all(file):
    async with file.create_access_handle() as handle:
        for _ in range(20):
            await handle.readable.seek(0)
            content = b"".join(b"%07d\n" % n for n in range(50_000))
            handle.write(content, at=0)
            first = asyncio.create_task(handle.readable.read(80))
            second = handle.readable.read(80)
            await asyncio.sleep(0)
            first.cancel()
            done = await asyncio.gather(first, return_exceptions=True)
            if done == [content[:80]]:
                assert await second == content[80:160]
            else:
                assert isinstance(done[0], asyncio.CancelledError)
                assert await second in (content[:80], content[80:160])


# ---- closing


async def test_closed_stream_raises_and_leaves_the_handle_usable(file):
    async with file.create_access_handle() as handle:
        reading, writing = handle.readable, handle.writable
        earlier = reading.read(10)
        assert await reading.close() is None
        assert await earlier == CONTENT[:10]
        assert await reading.close() is None
        pieces = reading.iter(5)
        for call in (reading.read, lambda: reading.seek(0), lambda: anext(pieces),
                     lambda: reading.readinto(bytearray(1))):  # fmt: skip
            error = await failure(errno.EBADF, call())
            assert type(error) is InvalidStateError and "stream is closed" in str(error)
            assert error.name == "InvalidStateError" and error.filename.endswith("file")
        assert handle.readable is reading
        assert await writing.write(b"still") == 5
        await writing.close()
        await failure(errno.EBADF, writing.write(b"x"))
        assert (await all_bytes(handle))[:5] == b"still"
        await handle.flush()


async def test_streams_end_with_their_handle(file):
    handle = await file.create_access_handle()
    reading, writing = handle.readable, handle.writable
    await reading.read(5)
    write = writing.write(b"written")
    await handle.close()
    assert await write == 7
    for operation in (reading.read(), reading.seek(1), writing.write(b"x"), writing.seek(0)):
        assert type(await failure(errno.EBADF, operation)) is InvalidStateError
    with pytest.raises(InvalidStateError):
        async for _ in reading:
            pass
    for stream in (reading, writing, handle.readable):
        assert await stream.close() is None
        assert "closed" in repr(stream)


async def test_closing_everything_at_once_runs_in_order(file):
    handle = await file.create_access_handle()
    stream = handle.writable
    done = await asyncio.gather(
        stream.write(b"1" * 300_000), stream.close(), handle.close(), stream.close()
    )
    assert done == [300_000, None, None, None]


async def test_dropped_stream_closes_nothing_and_a_stream_keeps_its_handle(file):
    handle = await file.create_access_handle()
    dropped = weakref.ref(handle.readable)
    gc.collect()
    assert dropped() is None
    stream = handle.readable
    noticed = weakref.ref(handle)
    del handle
    gc.collect()
    assert noticed() is not None
    assert await stream.read(4) == CONTENT[:4]
    await noticed().close()


async def test_handle_that_was_asked_for_its_streams_is_freed_without_the_collector(file):
    handle = await file.create_access_handle()
    await handle.readable.read(1)
    await handle.writable.seek(1)
    await handle.close()
    noticed = weakref.ref(handle)
    gc.disable()
    try:
        del handle
        assert noticed() is None
    finally:
        gc.enable()


async def test_aborted_operations_of_streams_raise_abort_error(file):
    handle = await file.create_access_handle()
    operations = [handle.write(b"x" * 400_000, at=0), *[handle.readable.read() for _ in range(3)]]
    await handle.abort()
    done = await asyncio.gather(*operations, return_exceptions=True)
    assert {type(each) for each in done} <= {int, bytes, aiofs.AbortError}
    assert type(done[-1]) is aiofs.AbortError


# ---- modes, and what a stream is not


async def test_read_only_handle_refuses_the_write_of_its_stream(file):
    async with file.create_access_handle(mode="read-only") as handle:
        error = await failure(errno.EBADF, handle.writable.write(b"x"))
        assert type(error) is NoModificationAllowedError
        assert error.name == "NoModificationAllowedError"
        await handle.writable.seek(3)
        await handle.writable.close()
        assert await handle.readable.read() == CONTENT


async def test_streams_see_unflushed_bytes_of_each_other(file):
    async with file.create_access_handle(mode="readwrite-unsafe") as one:
        async with file.create_access_handle(mode="readwrite-unsafe") as two:
            await one.writable.write(b"unflushed")
            assert await one.readable.read(9) == await two.readable.read(9) == b"unflushed"


async def test_stream_cannot_be_made_or_pickled(file):
    async with file.create_access_handle() as handle:
        for stream in (handle.readable, handle.writable):
            with pytest.raises(TypeError):
                pickle.dumps(stream)
            with pytest.raises(TypeError):
                type(stream)()
            assert "open" in repr(stream) and "file" in repr(stream)


async def test_write_over_the_quota_moves_no_cursor():
    with MemoryVolume(quota=100) as volume:
        write_file(volume, "file", b"")
        async with FileHandle._of(volume, "file").create_access_handle() as handle:
            await handle.writable.write(b"1" * 60)
            await failure(errno.EDQUOT, handle.writable.write(b"2" * 41))
            assert await handle.get_size() == 60
            await handle.writable.write(b"3" * 40)
            assert await handle.readable.read() == b"1" * 60 + b"3" * 40
