"""POSIX asynchronous I/O, under the names of <aio.h>.

Names, argument order and meaning are those of C. Where a C function returns -1 and sets errno, the
Python function raises OSError with that errno. SIGEV_LOOP, `await cb` and `await suspend(list,
timeout)` are additions for event loops. The core implements the functions.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable

from aiofs._core import (
    AIO_ALLDONE,
    AIO_CANCELED,
    AIO_NOTCANCELED,
    LIO_NOP,
    LIO_NOWAIT,
    LIO_READ,
    LIO_WAIT,
    LIO_WRITE,
    SIGEV_LOOP,
    SIGEV_NONE,
    SIGEV_SIGNAL,
    SIGEV_THREAD,
    _turn_is_spent,
    _unwatch,
    _watch,
    aio_cancel,
    aio_error,
    aio_fsync,
    aio_read,
    aio_return,
    aio_suspend,
    aio_write,
    aiocb,
    lio_listio,
    sigevent,
)

AIO_LISTIO_MAX = -1
"""Maximum length of a list of lio_listio; -1: no limit. Source: POSIX.1-2017, <limits.h>."""

AIO_MAX = -1
"""Maximum number of outstanding requests; -1: no limit. Source: POSIX.1-2017, <limits.h>."""

AIO_PRIO_DELTA_MAX = 20
"""The highest aio_reqprio. Source: POSIX.1-2017, <limits.h>."""


async def suspend(list: Iterable[aiocb | None], timeout: float | None = None) -> int:
    """aio_suspend for coroutines: suspends the task until a request of the list is terminal.

    list: aiocbs; None entries are ignored. If no aiocb in it was ever submitted, it returns at
    once. timeout: in seconds; None waits without limit, zero or less does not wait. Returns 0.
    Raises OSError EAGAIN when the time is up, RuntimeError if no event loop runs in this thread,
    TypeError for an entry that is neither an aiocb nor None, ValueError for a timeout that is not a
    number. Cancelling it leaves the requests in
    flight.

    Source: POSIX.1-2017, aio_suspend.
    """
    list = (*list,)
    if timeout is not None and timeout != timeout:
        raise ValueError("the time-out is not a number")
    ended = _future()
    if _watch(list, ended):
        await _yield_if_turn_is_spent()
        return 0
    try:
        if ended.done():
            await _yield_if_turn_is_spent()
        await asyncio.wait_for(ended, None if timeout is None else max(timeout, 0))
    except asyncio.TimeoutError:
        if not ended.done() or ended.cancelled():
            reason = "suspend: the time is up, and no request of the list has ended"
            raise OSError(errno.EAGAIN, reason) from None
    finally:
        _unwatch(list, ended)
    return 0


async def _yield_if_turn_is_spent() -> None:
    if _turn_is_spent():
        await asyncio.sleep(0)


def _future() -> asyncio.Future[None]:
    try:
        return asyncio.get_running_loop().create_future()
    except RuntimeError:
        raise RuntimeError(
            "aio.suspend needs a running asyncio or uvloop event loop, and none runs in this "
            "thread (trio's loop is another kind)"
        ) from None


__all__ = [
    "AIO_ALLDONE",
    "AIO_CANCELED",
    "AIO_LISTIO_MAX",
    "AIO_MAX",
    "AIO_NOTCANCELED",
    "AIO_PRIO_DELTA_MAX",
    "LIO_NOP",
    "LIO_NOWAIT",
    "LIO_READ",
    "LIO_WAIT",
    "LIO_WRITE",
    "SIGEV_LOOP",
    "SIGEV_NONE",
    "SIGEV_SIGNAL",
    "SIGEV_THREAD",
    "aio_cancel",
    "aio_error",
    "aio_fsync",
    "aio_read",
    "aio_return",
    "aio_suspend",
    "aio_write",
    "aiocb",
    "lio_listio",
    "sigevent",
    "suspend",
]
