"""Measures the loop stall: a callback (beat) is due every millisecond, and may run late."""

from __future__ import annotations

import asyncio
import os
import time
from types import TracebackType

from . import native

PERIOD = 1_000_000


class Heartbeat:
    """A context manager with a beat every millisecond while it is entered. It can be entered again.

    `lateness` has the lateness of all beats, in nanoseconds. The beats are due at fixed times. So a
    loop that is held for 500 ms has 500 late beats (500, 499, ... ms late), not one. They are the
    delays of callbacks that became due at these times.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.lateness: list[int] = []
        self._loop = loop
        self._due = 0
        self._ticker = -1

    def __enter__(self) -> Heartbeat:
        self._due = time.monotonic_ns() + PERIOD
        self._ticker = native.check(native.beside().ticker(self._due, PERIOD))
        self._loop.add_reader(self._ticker, self._tick)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._beat()
        self._loop.remove_reader(self._ticker)
        os.close(self._ticker)

    def _tick(self) -> None:
        os.read(self._ticker, 8)
        self._beat()

    def _beat(self) -> None:
        now = time.monotonic_ns()
        while self._due <= now:
            self.lateness.append(now - self._due)
            self._due += PERIOD
