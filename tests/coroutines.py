"""Helpers for tests on a loop: awaiting, waiting, callbacks, and counting turns of the loop."""

import asyncio
from contextlib import contextmanager

import pytest

from aiofs.aio import SIGEV_LOOP, sigevent


async def wait(awaitable):
    """Awaits any awaitable, in a coroutine: asyncio.create_task needs one."""
    return await awaitable


async def failure(number, awaitable):
    """The OSError of this errno that the await raises."""
    with pytest.raises(OSError) as caught:
        await awaitable
    assert caught.value.errno == number, caught.value
    return caught.value


async def until(condition):
    """Waits until the condition is true, while the loop runs."""
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("never came")


def on_loop(function, value=None):
    """A sigevent that calls a function on the running loop."""
    return sigevent(SIGEV_LOOP, 0, value, function)


async def turns(count):
    """Lets the loop turn so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


@contextmanager
def counted_turns():
    """Counts the turns of the loop during the body: each turn appends to the list."""
    counted = []

    async def count():
        while True:
            await asyncio.sleep(0)
            counted.append(None)

    counting = asyncio.create_task(count())
    try:
        yield counted
    finally:
        counting.cancel()


async def at_once(function, *arguments, **keywords):
    """The result of an await that waits for nothing; it may let the loop turn.

    It begins in a new turn of the loop: one that has lasted long sends calls to host threads.
    """
    await turns(2)
    steps = function(*arguments, **keywords).__await__()
    try:
        while (waits_for := steps.send(None)) is None:
            await turns(1)
    except StopIteration as end:
        return end.value
    raise AssertionError(f"it waits for {waits_for!r}")


async def waits(function):
    """Whether the await of what a function returns waits for a host thread."""
    with pytest.raises(AssertionError, match="it waits for"):
        await at_once(function)
