"""Measures how long a loop is held: a beat is due each millisecond, and may come late."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from types import TracebackType


class Heartbeat:
    """A context manager: while it is entered, a beat is due each millisecond on the running loop.

    The beats are due at fixed times. So a loop that is held for 50 ms has 50 late beats, which are
    50, 49, ... ms late.
    """

    PERIOD = 1_000_000  # nanoseconds

    def __init__(self) -> None:
        self._lateness: list[int] = []

    @property
    def worst(self) -> float:
        """The largest lateness, in seconds."""
        return max(self._lateness, default=0) / 1e9

    @property
    def tail(self) -> float:
        """The 99.9th percentile of the lateness, in seconds."""
        ordered = sorted(self._lateness)
        return ordered[len(ordered) * 999 // 1000] / 1e9 if ordered else 0.0

    def __enter__(self) -> Heartbeat:
        self._loop = asyncio.get_running_loop()
        self._timer = periodic_timer(self.PERIOD)
        self._due = time.monotonic_ns() + self.PERIOD
        self._loop.add_reader(self._timer, self._beat)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.remove_reader(self._timer)
        os.close(self._timer)

    def _beat(self) -> None:
        os.read(self._timer, 8)
        now = time.monotonic_ns()
        while self._due <= now:
            self._lateness.append(now - self._due)
            self._due += self.PERIOD


def periodic_timer(period: int) -> int:
    """Returns a timerfd, readable every `period` nanoseconds. The loop's own timers are coarser."""
    libc = ctypes.CDLL(None, use_errno=True)
    timer: int = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    interval_and_first = (ctypes.c_long * 4)(0, period, 0, period)
    if timer < 0 or libc.timerfd_settime(timer, 0, interval_and_first, None) < 0:
        raise OSError(ctypes.get_errno(), "no timer for the heartbeat")
    return timer
