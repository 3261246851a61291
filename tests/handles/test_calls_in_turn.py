"""Calls of handles that find the turn of the loop used up wait for another turn."""

import asyncio
import gc
import math
import os
import time
import warnings

import pytest
from coroutines import counted_turns, turns
from support import CONTENT, tmpfs

import aiofs
from aiofs import PrivateVolume, _core
from aiofs.errors import AbortError, InvalidStateError


@pytest.fixture
def volume(tmp_path):
    (tmp_path / "volume/sub").mkdir(parents=True)
    (tmp_path / "volume/file").write_bytes(CONTENT)
    (tmp_path / "volume/sub/file").write_bytes(CONTENT)
    with PrivateVolume(tmp_path / "volume") as volume:
        with volume_file(volume).create_sync_access_handle():
            pass  # creates the lock file, and maps the waiters
        yield volume


def volume_file(volume, path="file"):
    return aiofs.FileHandle._of(volume, path)


async def use_up_turn(volume):
    """Ends the budget of this turn: the calls that follow have to wait."""
    await turns(2)
    volume.root.get_file_handle("file")
    time.sleep(0.002)


async def use_up_turns(volume):
    """Lets so many calls wait that the calls of the next turns have to wait, too."""
    await use_up_turn(volume)
    for _ in range(200):
        volume.root.get_file_handle("file")


@pytest.fixture
def made_inside(monkeypatch):
    """The paths of what was found or opened inside the call, in order."""
    made = []

    def spy(name):
        function = getattr(_core, name)

        def call(*arguments):
            result = function(*arguments)
            if result is not None:
                made.append((name, next(each for each in arguments if isinstance(each, str))))
            return result

        monkeypatch.setattr(_core, name, call)

    for name in ("cached_entry", "cached_snapshot", "cached_access_handle"):
        spy(name)
    return made


async def test_hundreds_of_tasks_open_files_inside_the_call_and_let_the_loop_turn(
    volume, made_inside
):
    async def read():
        file = await volume.root.get_file_handle("file")
        async with file.create_access_handle(mode="read-only") as handle:
            buffer = bytearray(len(CONTENT))
            await handle.read(buffer, at=0)
        return bytes(buffer)

    with counted_turns() as counted:
        assert await asyncio.gather(*[read() for _ in range(600)]) == [CONTENT] * 600
    assert made_inside.count(("cached_entry", "file")) == 600
    assert len(counted) > 20  # each of 1,200 calls needed a place among 32 in a turn
    assert await volume.locks() == []


async def test_calls_are_made_in_the_order_in_which_they_came(volume, made_inside):
    await use_up_turn(volume)
    made_inside.clear()
    file = volume_file(volume)
    calls = [
        volume.root.get_file_handle("file"),
        volume.root.get_directory_handle("sub"),
        file.get_file(),
        file.create_access_handle(mode="read-only"),
    ]
    assert made_inside == []
    found, directory, snapshot, handle = await asyncio.gather(*calls)
    assert (found.name, directory.name, snapshot.size) == ("file", "sub", len(CONTENT))
    await handle.close()
    assert made_inside == [
        ("cached_entry", "file"),
        ("cached_entry", "sub"),
        ("cached_snapshot", "file"),
        ("cached_access_handle", "file"),
    ]


async def test_call_that_nobody_awaits_is_made(volume):
    await use_up_turn(volume)
    creating = volume.root.get_file_handle("new", create=True)
    while not os.path.exists(f"{volume._ops.directory}/new"):
        await asyncio.sleep(0.001)
    assert (await creating).name == "new"


async def test_errors_are_those_of_the_operation(volume):
    await use_up_turn(volume)
    missing = volume.root.get_file_handle("missing")
    directory = volume.root.get_file_handle("sub")
    opening = volume_file(volume, "missing").create_access_handle(mode="read-only")
    with pytest.raises(aiofs.NotFoundError):
        await missing
    with pytest.raises(aiofs.TypeMismatchError):
        await directory
    with pytest.raises(aiofs.NotFoundError):
        await opening


async def test_file_of_another_filesystem_is_opened_on_a_host_thread(volume, made_inside):
    with tmpfs(f"{volume._ops.directory}/sub"):
        with open(f"{volume._ops.directory}/sub/file", "wb") as file:
            file.write(b"mounted")
        await use_up_turn(volume)
        made_inside.clear()
        file = volume_file(volume, "sub/file")
        async with file.create_access_handle(mode="read-only") as handle:
            assert await handle.get_size() == 7
        assert made_inside == []


async def test_cancelled_call_is_not_made(volume, made_inside):
    file = volume_file(volume)
    await use_up_turns(volume)

    async def open_it():
        await file.create_access_handle(mode="in-place")

    tasks = [asyncio.create_task(open_it()) for _ in range(100)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert ("cached_access_handle", "file") not in made_inside
    async with file.create_access_handle(mode="in-place"):
        pass
    assert await volume.locks() == []


async def test_dropped_opening_leaves_no_lock_and_gives_a_warning(volume, made_inside):
    file = volume_file(volume)
    await use_up_turn(volume)
    made_inside.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        file.create_access_handle(mode="in-place")
        gc.collect()
    assert ["never awaited" in str(warning.message) for warning in caught] == [True]
    await turns(3)
    assert made_inside == []
    assert await volume.locks() == []


async def test_opening_that_is_cancelled_when_it_was_made_leaves_no_lock(volume):
    await use_up_turn(volume)
    opening = volume_file(volume).create_access_handle(mode="in-place")
    await turns(3)  # the loop has opened it
    assert len(await volume.locks()) == 1
    opening.close()
    assert await volume.locks() == []


async def test_close_waits_for_its_turn_too(volume):
    file = volume_file(volume)
    handles = [await file.create_access_handle(mode="read-only") for _ in range(200)]
    await use_up_turn(volume)
    closing = [handle.close() for handle in handles]
    assert closing[-1] is handles[-1].close()
    with pytest.raises(InvalidStateError):
        await handles[-1].read(bytearray(1), at=0)
    with pytest.raises(InvalidStateError):
        handles[-1].fileno()
    with counted_turns() as counted:
        await asyncio.gather(*closing)
    assert len(counted) >= 5  # at most 32 in a turn
    assert await volume.locks() == []


async def test_close_that_nobody_awaits_releases_the_lock(volume):
    file = volume_file(volume)
    handle = await file.create_access_handle(mode="in-place")
    await use_up_turn(volume)
    handle.close()
    del handle
    gc.collect()
    await turns(3)
    assert await volume.locks() == []


async def test_handle_whose_close_waits_can_be_aborted(volume):
    handle = await volume_file(volume).create_access_handle(mode="in-place")
    await use_up_turn(volume)
    closing = handle.close()
    await handle.abort()
    await closing
    assert await volume.locks() == []
    handle = await volume_file(volume).create_access_handle(mode="in-place")
    await use_up_turn(volume)
    reading = handle.read(bytearray(1 << 20), at=0)
    await handle.abort()
    try:
        await reading
    except AbortError:
        pass
    assert await volume.locks() == []


async def test_openings_that_wait_for_a_lock_keep_their_order(volume):
    file = volume_file(volume)
    order = []

    async def enter(opening, name):
        async with opening:
            order.append(name)

    holder = await file.create_access_handle(mode="in-place")
    await use_up_turn(volume)
    openings = [
        (file.create_access_handle(mode="in-place", wait=math.inf), "first"),
        (file.create_writable(mode="exclusive", keep_existing_data=True, wait=math.inf), "second"),
        (file.create_access_handle(mode="exclusive", wait=math.inf), "third"),
        (file.create_access_handle(mode="in-place", wait=math.inf), "fourth"),
    ]
    entering = [asyncio.create_task(enter(*opening)) for opening in openings]
    while sum(lock.waiting for lock in await volume.locks()) < len(openings):
        await asyncio.sleep(0.001)
    await holder.close()
    await asyncio.gather(*entering)
    assert order == ["first", "second", "third", "fourth"]


def test_what_waits_when_its_loop_is_closed_leaves_no_lock(volume, new_loop):
    file = volume_file(volume)
    awaited, alone = [], []

    async def begin():
        held = await file.create_access_handle(mode="read-only")
        await use_up_turns(volume)
        held.close()
        awaited.append(asyncio.ensure_future(file.create_access_handle(mode="in-place")))
        alone.append(volume.root.get_file_handle("new", create=True))
        await turns(2)  # the opening is awaited

    async def look():
        while await volume.locks():
            await asyncio.sleep(0.001)
        assert (await alone[0]).name == "new"
        async with file.create_access_handle(mode="in-place"):
            pass

    loop = new_loop()
    loop.run_until_complete(begin())
    assert not os.path.exists(f"{volume._ops.directory}/new")
    awaited[0]._log_destroy_pending = False
    loop.close()
    loop = new_loop()
    loop.run_until_complete(look())
    loop.close()


def test_what_waits_on_a_stopped_loop_can_be_awaited_on_another(volume, new_loop):
    file = volume_file(volume)

    async def begin():
        held = await file.create_access_handle(mode="read-only")
        await use_up_turn(volume)
        return held.close(), volume.root.get_file_handle("file"), file.get_file()

    async def finish(closing, finding, looking):
        await closing
        assert await volume.locks() == []
        assert (await finding).name == "file"
        assert (await looking).size == len(CONTENT)

    stopped, loop = new_loop(), new_loop()
    begun = stopped.run_until_complete(begin())
    loop.run_until_complete(finish(*begun))
    loop.close()
    stopped.run_until_complete(turns(3))  # its turn finds nothing to do
    stopped.close()


async def test_interrupt_of_one_call_leaves_the_others_their_turn(volume, monkeypatch, loop_errors):
    class Interrupt(BaseException):
        """As a KeyboardInterrupt, which would end the loop."""

    calls, raised = [], []
    cached_entry = _core.cached_entry

    def interrupted(*arguments):
        if calls and not raised:
            raised.append(True)
            raise Interrupt
        return cached_entry(*arguments)

    await use_up_turn(volume)
    monkeypatch.setattr(_core, "cached_entry", interrupted)
    calls.extend([volume.root.get_file_handle("file") for _ in range(3)])
    with pytest.raises(Interrupt):
        await calls[0]
    assert [(await call).name for call in calls[1:]] == ["file", "file"]
    reported = [type(context["exception"]) for context in loop_errors]
    loop_errors.clear()  # the tracebacks hold the loop
    assert reported == [Interrupt]
