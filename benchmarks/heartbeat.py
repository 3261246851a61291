"""Loop stall: a heartbeat of 1 ms on the loop under measurement, and how late its beats come."""

from __future__ import annotations

import asyncio
import os
import time
from types import TracebackType

from . import native

PERIOD = 1_000_000


class Heartbeat:
    """Beats while it is entered, again and again if need be; `lateness` gathers them all, in ns.

    Beats are due at fixed times, so a loop held for 500 ms is 500 late beats (by 500, 499, ... ms)
    and not one: what every user of that loop felt, whenever they came.
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
