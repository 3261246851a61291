"""Back-pressure where no descriptor is left: an open waits for calls that will free one.

A whole-file call, and a close, free their descriptor by themselves. While one of them is in flight,
an open that fails with EMFILE or ENFILE waits until one of them has ended, and is tried again. If
none is, the error is raised at once.

Ownership. `_waiting` holds the futures of opens that wait, each until one call has ended.

Locking. `_lock` guards the counter and the list, which loops in several threads use. It is held for
a few instructions.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from aiofs.files.turns import on_host_thread

__all__ = ["freed_so_far", "freeing", "must_wait", "whole_call"]

_SCARCE = (errno.EMFILE, errno.ENFILE)

T = TypeVar("T")

_lock = threading.Lock()
_in_flight = 0  # calls that will free a descriptor
_freed = 0  # calls that have freed one
_waiting: list[asyncio.Future[None]] = []


@contextmanager
def freeing() -> Iterator[None]:
    """The body is a call that holds a descriptor, and frees it by itself."""
    global _in_flight, _freed
    freed = True
    with _lock:
        _in_flight += 1
    try:
        yield
    except OSError as error:
        freed = error.errno not in _SCARCE
        raise
    finally:
        with _lock:
            _in_flight -= 1
            _freed += freed
            waiting = _waiting[:]
            _waiting.clear()
        for waiter in waiting:
            try:
                waiter.get_loop().call_soon_threadsafe(_resolve, waiter)
            except RuntimeError:  # its loop is closed
                pass


def freed_so_far() -> int:
    """The argument `before` of must_wait: a number that is asked for before the open is tried."""
    return _freed


def must_wait(error: OSError, before: int) -> asyncio.Future[None] | None:
    """After a failed open: what to await before the next try; None: the error is final."""
    if error.errno not in _SCARCE:
        return None
    waiter = asyncio.get_running_loop().create_future()
    with _lock:
        if _freed != before:  # one was freed after the try, or while it failed
            waiter.set_result(None)
        elif _in_flight:
            _waiting.append(waiter)
        else:
            return None
    return waiter


async def whole_call(function: Callable[..., T], *arguments: Any) -> T:
    """Calls a function that opens a file and closes it, on a host thread."""
    while True:
        before = freed_so_far()
        try:
            with freeing():
                return await on_host_thread(function, *arguments)
        except OSError as error:
            waiter = must_wait(error, before)
            if waiter is None:
                raise
        await waiter


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
