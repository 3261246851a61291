"""POSIX asynchronous I/O, under the names of <aio.h>.

Everything here has the name, the argument order and the meaning of its C original; where C returns
-1 and sets errno, an OSError with that errno is raised. Added, because there is an event loop:
SIGEV_LOOP, `await cb`, and `await suspend(list, timeout)`. The functions are the core's.
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
"""Most entries in a list of lio_listio; -1: no limit. Source: POSIX.1-2017, <limits.h>."""

AIO_MAX = -1
"""Most requests outstanding; -1: no limit. Source: POSIX.1-2017, <limits.h>."""

AIO_PRIO_DELTA_MAX = 20
"""The highest aio_reqprio. Source: POSIX.1-2017, <limits.h>."""


async def suspend(list: Iterable[aiocb | None], timeout: float | None = None) -> int:
    """aio_suspend that suspends the coroutine, not the thread: waits until a request is terminal.

    `list` holds aiocbs, or None to be passed over; with no request in it that was ever submitted
    it returns at once. `timeout` is in seconds; None waits, zero or less only looks. Returns 0.
    OSError EAGAIN when the time is up; RuntimeError where no event loop runs; TypeError for what is
    no aiocb. Cancelling it leaves the requests as they are.

    Source: POSIX.1-2017, aio_suspend.
    """
    list = (*list,)
    ended = _future()
    if _watch(list, ended):
        await _let_a_spent_turn_end()
        return 0
    try:
        if ended.done():
            await _let_a_spent_turn_end()
        await asyncio.wait_for(ended, None if timeout is None else max(timeout, 0))
    except asyncio.TimeoutError:
        if not ended.done() or ended.cancelled():
            reason = "suspend: the time is up, and no request of the list has ended"
            raise OSError(errno.EAGAIN, reason) from None
    finally:
        _unwatch(list, ended)
    return 0


async def _let_a_spent_turn_end() -> None:
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
