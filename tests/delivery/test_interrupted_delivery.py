"""A delivery that an exception interrupts still wakes the awaits."""

import asyncio
import errno
import sys

import pytest
from coroutines import wait
from volumes.dict_volume import DictVolume


class Failing(DictVolume):
    def read_at(self, file, buffer, offset):
        raise OSError(errno.EIO, "no such luck")


async def test_await_ends_if_memory_is_short_while_its_failure_is_delivered(loop_errors):
    with Failing() as volume:
        file = await volume.root.get_file_handle("file", create=True)
        async with file.create_access_handle() as handle:
            task = asyncio.ensure_future(wait(handle.read(bytearray(1), at=0)))

            def trace(frame, event, argument):
                if frame.f_code.co_name == "from_errno":
                    raise MemoryError  # where the error of the operation is made

            sys.settrace(trace)
            try:
                await asyncio.wait([task], timeout=20)
            finally:
                sys.settrace(None)
            assert task.done()
            with pytest.raises(MemoryError):
                task.result()
    reported = [type(context["exception"]) for context in loop_errors]
    loop_errors.clear()  # the tracebacks hold the loop
    assert reported == [MemoryError]
