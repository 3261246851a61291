"""AccessHandle: its operations take effect in the order of their calls."""

import asyncio
import errno
import random

import pytest
from coroutines import failure
from opened import CONTENT, SIZE, all_bytes

import aiofs
from aiofs import PrivateVolume


async def test_operations_at_the_cursor_run_in_order_without_being_awaited(file):
    async with file.create_access_handle() as handle:
        pieces = [bytes([n]) * (n * 3000) for n in range(1, 30)]
        writes = [handle.write(piece) for piece in pieces]
        size = handle.get_size()
        assert await asyncio.gather(*writes) == [len(piece) for piece in pieces]
        assert await size == max(SIZE, sum(map(len, pieces)))
        assert (await all_bytes(handle)) == b"".join(pieces)


async def test_reads_at_the_cursor_run_in_order(file):
    async with file.create_access_handle() as handle:
        await handle.write(b"".join(b"%07d\n" % n for n in range(200_000)), at=0)
        await handle.read(bytearray(), at=0)
        buffers = [bytearray(80_000) for _ in range(20)]
        assert await asyncio.gather(*[handle.read(each) for each in buffers]) == [80_000] * 20
        assert b"".join(buffers) == b"".join(b"%07d\n" % n for n in range(200_000))


async def test_overlapping_writes_take_effect_in_the_order_of_the_calls(file):
    async with file.create_access_handle() as handle:
        operations = [handle.write(bytes([n]) * 300_000, at=n * 1000) for n in range(50)]
        last = bytearray(350_000)
        reading = handle.read(last, at=0)
        await asyncio.gather(*operations)
        expected = b"".join(bytes([n]) * 1000 for n in range(49)) + bytes([49]) * 300_000
        assert await reading == len(expected) == 349_000
        assert last[:349_000] == expected


async def test_read_sees_all_earlier_writes_and_no_later_write(file):
    async with file.create_access_handle() as handle:
        for turn in range(20):
            size = 400_000
            one = handle.write(b"1" * size, at=0)
            buffer = bytearray(size)
            between = handle.read(buffer, at=0)
            two = handle.write(b"2" * size, at=0)
            await asyncio.gather(one, between, two)
            assert buffer == b"1" * size, turn


async def test_size_reflects_all_earlier_operations_and_no_later_one(file):
    async with file.create_access_handle() as handle:
        operations = [
            handle.truncate(0),
            handle.get_size(),
            handle.write(b"x" * 500_000, at=0),
            handle.get_size(),
            handle.truncate(1000),
            handle.get_size(),
            handle.write(b"y" * 10, at=5000),
            handle.get_size(),
        ]
        done = await asyncio.gather(*operations)
        assert done == [None, 0, 500_000, 500_000, None, 1000, 10, 5010]


@pytest.mark.parametrize("seed", range(15))
async def test_any_mixture_of_operations_matches_a_serial_model(file, seed):
    """The model is a bytearray and a cursor, which the operations change one after the other."""
    chance = random.Random(seed)
    model, cursor = bytearray(CONTENT), 0
    started = []
    async with file.create_access_handle() as handle:
        for number in range(150):
            kind = chance.choice(["read", "write", "write", "truncate", "get_size", "flush"])
            at = chance.choice([None, chance.randrange(300_000)])
            size = chance.choice([0, 10, 5000, 70_000, 300_000])
            if kind == "read":
                start = cursor if at is None else at
                expected = bytes(model[start : start + size])
                buffer = bytearray(size)
                started.append((handle.read(buffer, at=at), len(expected), buffer, expected))
                cursor = start + len(expected)
            elif kind == "write":
                start = cursor if at is None else at
                data = bytes([number]) * size
                if size and start > len(model):
                    model.extend(bytes(start - len(model)))
                model[start : start + size] = data
                started.append((handle.write(data, at=at), size, None, None))
                cursor = start + size
            elif kind == "truncate":
                length = chance.randrange(400_000)
                del model[length:]
                model.extend(bytes(length - len(model)))
                cursor = min(cursor, length)
                started.append((handle.truncate(length), None, None, None))
            elif kind == "get_size":
                started.append((handle.get_size(), len(model), None, None))
            else:
                started.append((handle.flush(), None, None, None))
            if chance.random() < 0.2:
                await asyncio.sleep(0)
        for operation, value, buffer, expected in started:
            assert await operation == value
            if buffer is not None:
                assert buffer[: len(expected)] == expected
        assert await all_bytes(handle) == model


async def test_failed_operation_does_not_move_the_cursor(tmp_path):
    """The next operation starts where the operation before the failed one ended."""
    with PrivateVolume(tmp_path / "volume", quota=400_000) as volume:
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            first = handle.write(b"1" * 200_000)
            too_much = handle.write(b"2" * 300_000, at=300_000)
            third = handle.write(b"3" * 10)
            assert await first == 200_000
            await failure(errno.EDQUOT, too_much)
            assert await third == 10
            assert (await all_bytes(handle))[199_999:] == b"1" + b"3" * 10


async def test_failed_operations_leave_the_cursor_where_earlier_operations_put_it(tmp_path):
    with PrivateVolume(tmp_path / "volume", quota=400_000) as volume:
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            for turn in range(20):
                first = handle.write(b"1" * 100_000, at=turn)
                failing = [handle.write(b"2" * 300_000, at=300_000 + n) for n in range(3)]
                last = handle.write(b"3" * 10)
                results = await asyncio.gather(first, *failing, last, return_exceptions=True)
                kinds = [type(each) for each in results]
                assert kinds == [int, *[aiofs.QuotaExceededError] * 3, int]
                assert (await all_bytes(handle))[turn + 99_999 :] == b"1" + b"3" * 10


async def test_write_started_behind_a_truncate_counts_against_the_quota(tmp_path):
    with PrivateVolume(tmp_path / "volume", quota=1000) as volume:
        first = await volume.root.get_file_handle("first", create=True)
        second = await volume.root.get_file_handle("second", create=True)
        async with first.create_access_handle() as handle:
            await handle.write(bytes(600), at=0)
            await asyncio.gather(handle.truncate(0), handle.write(bytes(600), at=0))
        async with second.create_access_handle() as handle:
            with pytest.raises(aiofs.QuotaExceededError):
                await handle.write(bytes(401), at=0)
            assert await handle.write(bytes(400), at=0) == 400
