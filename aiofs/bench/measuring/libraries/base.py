"""The base class of what is measured: a Python library that is called."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from aiofs.bench.measuring.cache import Unavailable
from aiofs.bench.measuring.data import payload
from aiofs.bench.measuring.work import Work, new_buffers

Offsets: TypeAlias = Iterable[int]


class Library:
    """A Python library. It is instantiated in the process that measures it, for one piece of work.

    Its operations are methods with the names of `Work`, plain or `async`. `read(lane, offsets)`
    carries out one read at each offset, with the loop that a user's program would have. A lane is
    one of the `depth` coroutines. It has a buffer of its own, and returns the bytes that it read
    last. Writes write the payload, from the buffer or as `bytes`. `mixed` gets `~offset` for a
    write, and returns the bytes that it read last, if any.
    """

    package = ""
    """The name of the distribution, for its version."""

    batched = False
    """Whether one lane takes all offsets, many at a time, so that no single latency shows."""

    reads_into = "the given buffers"
    """Whose memory its reads fill."""

    can_be_direct = True
    """Whether its files can be opened with O_DIRECT."""

    def __init__(self, work: Work) -> None:
        if work.direct and not self.can_be_direct:
            raise Unavailable("cannot open a file with O_DIRECT")
        self.work = work
        self.buffers = new_buffers(work.depth, work.block, work.shift)
        self.payload = payload(work.block)
        if work.writes:
            for buffer in self.buffers:
                buffer[:] = self.payload

    @property
    def operations(self) -> int:
        """The operations that one offset stands for."""
        return 1

    @property
    def lanes(self) -> int:
        """The coroutines that run concurrently."""
        return 1 if self.batched else self.work.depth

    @property
    def path(self) -> str:
        """The path at which other programs find the bytes."""
        return self.work.path

    @property
    def mode(self) -> str:
        """The mode of the built-in `open` for this work."""
        return "r+b" if self.work.writes else "rb"

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        """Opens what the operations need. `stack` closes it."""

    def operation(self) -> Callable[[int, Offsets], Any]:
        operation = getattr(self, self.work.operation, None)
        if operation is None:
            raise Unavailable(f"has no {self.work.operation}")
        return operation  # type: ignore[no-any-return]

    def make_ready(self) -> None:
        """Called before each go, outside the measured time."""

    async def right_bytes(self) -> bool | None:
        """Whether the operation gives the right bytes; None: let the measurement find out."""
        return None

    def metrics(self) -> dict[str, float]:
        """What it measured itself, beside time."""
        return {}

    def about(self) -> dict[str, str]:
        """What a report says of the participant."""
        version = importlib.metadata.version(self.package) if self.package else ""
        return {
            "python": platform.python_version(),
            "version": f"{self.package} {version}".strip(),
            "reads into": self.reads_into,
        }

    def opener(self, path: str, flags: int) -> int:
        """For the built-in `open`, and for those that have its arguments."""
        return os.open(path, flags | (os.O_DIRECT if self.work.direct else 0))

    def open_descriptor(self, stack: contextlib.AsyncExitStack) -> int:
        flags = (os.O_RDWR if self.work.writes else os.O_RDONLY) | os.O_CLOEXEC
        descriptor = self.opener(self.work.path, flags)
        stack.callback(os.close, descriptor)
        return descriptor
