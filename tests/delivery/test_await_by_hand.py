"""Awaitables driven without a task: by `send` and by `next`."""

import asyncio
import os

import pytest
import uvloop

from aiofs import _core, aio


async def drive(operation, step):
    """Drives an awaitable as a task does: after each step, waits for the future that it yields."""
    while True:
        try:
            waited_for = step(operation)
        except StopIteration as stop:
            return stop.value
        if waited_for is None:
            await asyncio.sleep(0)
        else:
            waited_for._asyncio_future_blocking = False  # as asyncio.Task does
            await waited_for


STEPS = [lambda it: it.send(None), next, lambda it: it.__next__()]
VALUES = [7, None, (1, 2), (), ValueError("a value")]


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("step", STEPS)
def test_operation_driven_by_send_returns_its_value(run, step, value):
    """The first step may run before or after the completion."""

    async def main():
        operation = _core.offload(lambda: value)
        assert await drive(operation, step) is value

    run(main())


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("step", STEPS)
def test_ended_operation_driven_by_send_returns_its_value(run, step, value):
    async def main():
        operation = _core.offload(lambda: value)
        await operation
        assert await drive(operation, step) is value

    run(main())


@pytest.mark.parametrize("step", STEPS)
def test_finished_request_driven_by_send_returns_its_count(step):
    async def main():
        with open(os.devnull, "rb") as nothing:
            cb = aio.aiocb(nothing, bytearray(9))
            aio.aio_read(cb)
            aio.aio_suspend([cb])
            await asyncio.sleep(0)  # begins a new turn, with a new budget
            with pytest.raises(StopIteration) as stop:
                step(cb.__await__())
        assert stop.value.value == 0

    uvloop.run(main())


def test_failed_operation_raises_when_sent_to():
    async def main():
        operation = _core.offload(os.stat, "/no/such/file")
        with pytest.raises(FileNotFoundError):
            await drive(operation, lambda it: it.send(None))

    uvloop.run(main())
