"""The base classes of contenders: a program that is run, and a Python library that is called."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

from ..work import PAGE, PAYLOAD, Unavailable, Work, new_buffer

Offsets: TypeAlias = Iterable[int]
Finished: TypeAlias = subprocess.CompletedProcess[str]


class Program(Protocol):
    """A program that does the work, measures it and prints the result."""

    def command(self, work: Work) -> list[str]: ...

    def metrics(self, work: Work, finished: Finished) -> dict[str, float]: ...


class Library:
    """A Python library. It is instantiated in the process that measures it, for one piece of work.

    Its operations are methods with the names of `Work`, plain or `async`. `read(lane, offsets)`
    carries out one read at each offset, with the loop that a user's program would have. A lane is
    one of the `depth` coroutines. It has a buffer of its own, and returns the bytes that it read
    last. Writes write the payload, from the buffer or as `bytes`.
    """

    batched = False
    """Whether one lane takes all offsets, many at a time, so that no single latency shows."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.buffers = [new_buffer(work.block) for _ in range(work.depth)]
        self.payload = PAYLOAD * (work.block // PAGE)
        if work.operation in ("write", "save", "replace"):
            for buffer in self.buffers:
                buffer[:] = self.payload

    @property
    def lanes(self) -> int:
        """The coroutines that run concurrently."""
        return 1 if self.batched else self.work.depth

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        """Opens what the operations need. `stack` closes it."""

    def operation(self) -> Callable[[int, Offsets], Any]:
        operation = getattr(self, self.work.operation, None)
        if operation is None:
            raise Unavailable(f"has no {self.work.operation}")
        return operation  # type: ignore[no-any-return]

    def open_descriptor(self, stack: contextlib.AsyncExitStack) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_DIRECT if self.work.direct else 0)
        descriptor = os.open(self.work.path, flags)
        stack.callback(os.close, descriptor)
        return descriptor
