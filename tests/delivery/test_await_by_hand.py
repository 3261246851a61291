"""What can be awaited, driven by hand as coroutines are: by `send` and by `next`."""

import asyncio
import os

import pytest
import uvloop

from aiofs import _core, aio


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
@pytest.mark.parametrize("value", [7, None, (1, 2), (), ValueError("a value")], ids=repr)
@pytest.mark.parametrize("step", [lambda it: it.send(None), next, lambda it: it.__next__()])
def test_ended_operation_hands_out_its_value(run, step, value):
    async def main():
        operation = _core.offload(lambda: value)
        await asyncio.sleep(0.02)
        with pytest.raises(StopIteration) as stop:
            while True:
                await step(operation)
        assert stop.value.value is value

    run(main())


@pytest.mark.parametrize("step", [lambda it: it.send(None), next, lambda it: it.__next__()])
def test_finished_request_hands_out_its_count(step):
    async def main():
        with open(os.devnull, "rb") as nothing:
            cb = aio.aiocb(nothing, bytearray(9))
            aio.aio_read(cb)
            aio.aio_suspend([cb])
            await asyncio.sleep(0)  # a turn that is too long ends at an await
            with pytest.raises(StopIteration) as stop:
                step(cb.__await__())
        assert stop.value.value == 0

    uvloop.run(main())


def test_failed_operation_raises_when_sent_to():
    async def main():
        operation = _core.offload(os.stat, "/no/such/file")
        await asyncio.sleep(0.02)
        with pytest.raises(FileNotFoundError):
            while True:
                await operation.send(None)

    uvloop.run(main())
