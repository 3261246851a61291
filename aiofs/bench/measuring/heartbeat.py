"""Measures the loop stall: a callback (beat) is due every millisecond, and may run late."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from types import TracebackType

PERIOD = 1_000_000
NONBLOCK, CLOEXEC, ABSTIME = os.O_NONBLOCK, os.O_CLOEXEC, 1  # of timerfd_create, timerfd_settime


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
        self._ticker = ticker(self._due, PERIOD)
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


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


def ticker(first: int, period: int) -> int:
    """Returns a timerfd that is readable from `first` (CLOCK_MONOTONIC) on, every `period` ns.

    Timers of uvloop count whole milliseconds, too coarse to see a loop that is late by 0.1 ms.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    when = _Itimerspec(
        _Timespec(*divmod(period, 1_000_000_000)), _Timespec(*divmod(first, 1_000_000_000))
    )
    descriptor: int = libc.timerfd_create(time.CLOCK_MONOTONIC, NONBLOCK | CLOEXEC)
    if descriptor < 0 or libc.timerfd_settime(descriptor, ABSTIME, ctypes.byref(when), None):
        number = ctypes.get_errno()
        if descriptor >= 0:
            os.close(descriptor)
        raise OSError(number, os.strerror(number))
    return descriptor
