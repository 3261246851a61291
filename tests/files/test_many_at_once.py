"""Many tasks that open files: the loop turns meanwhile, and each gets its bytes."""

import asyncio

import aiofs
from aiofs import _core, files


async def count_turns(counted):
    while True:
        counted.append(True)
        await asyncio.sleep(0)


async def test_two_thousand_tasks_that_read_files_let_the_loop_turn(tmp_path, monkeypatch):
    paths = [tmp_path / str(number) for number in range(100)]
    for path in paths:
        path.write_bytes(path.name.encode())
    assert await files.read_bytes(paths[0]) == b"0"  # the kernel's type of filesystem is known
    read_inside = []
    cached_bytes = _core.cached_bytes

    def count_cached_bytes(path, *most):
        data = cached_bytes(path, *most)
        if data is not None:
            read_inside.append(path)
        return data

    monkeypatch.setattr(_core, "cached_bytes", count_cached_bytes)
    counted = []
    counting = asyncio.create_task(count_turns(counted))
    read = await asyncio.gather(*[files.read_bytes(path) for path in paths * 20])
    counting.cancel()
    assert read == [path.name.encode() for path in paths * 20]
    assert len(counted) >= 5  # some of them are read in each turn
    if not asyncio.get_running_loop().get_debug():
        assert len(read_inside) > 1000  # in debug mode a turn is soon spent; threads read the rest


async def test_cancelled_tasks_give_their_turn_to_the_others(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"data")
    await files.read_bytes(path)

    async def read():
        async with aiofs.open(path, "rb") as file:
            return await file.read() + await files.read_bytes(path)

    tasks = [asyncio.create_task(read()) for _ in range(600)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[1::2] == [b"datadata"] * 300
    for outcome in outcomes[::2]:
        assert isinstance(outcome, asyncio.CancelledError) or outcome == b"datadata"


def test_calls_that_wait_for_their_turn_end_with_their_loop(tmp_path, new_loop):
    path = tmp_path / "file"
    path.write_bytes(b"data")

    async def begin():
        begun = [asyncio.ensure_future(files.read_bytes(path)) for _ in range(500)]
        await asyncio.sleep(0)
        return begun

    async def read():
        return await files.read_bytes(path)

    for _ in range(2):
        loop = new_loop()
        loop.run_until_complete(begin())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        assert loop.run_until_complete(read()) == b"data"
        loop.close()
