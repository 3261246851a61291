"""One call at a time, on a host thread of the engine: what the objects of `io` need.

Ownership. A call has the turn from its start until its function returned, also if its await was
cancelled meanwhile: the function runs on, and the next call waits for it.

Locking. `_lock` guards the queue. It is held for a few instructions.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar

from aiofs import _core

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    P = ParamSpec("P")

__all__ = ["Turns", "awaited", "let_turn", "on_host_thread"]

T = TypeVar("T")


async def on_host_thread(function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
    """Returns `function(*arguments, **keywords)`, called on a host thread."""
    if keywords:
        function = partial(function, **keywords)
    return await _core.offload(function, *arguments)


class _Turn:
    """`await` suspends the task for one turn of its loop."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def let_turn() -> _Turn:
    return _Turn()


def awaited(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A coroutine function that calls `function` on a host thread.

    It also takes the arguments `loop` and `executor`, and ignores them.
    """

    @wraps(function)
    async def call(*arguments: Any, loop: object = None, executor: object = None, **kw: Any) -> T:
        return await on_host_thread(function, *arguments, **kw)

    return call


class Turns:
    """Calls functions on host threads, one after the other, in the order in which they asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        await self._begin()
        try:
            operation = _core.offload(self._call, function, arguments)
        except BaseException:
            self._end()
            raise
        return await operation

    def _call(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        try:
            return function(*arguments)
        finally:
            self._end()

    async def _begin(self) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            with self._lock:
                waits = turn in self._waiting
                if waits:
                    self._waiting.remove(turn)
            if not waits:  # it has been given the turn
                self._end()
            raise

    def _end(self) -> None:
        """Gives the turn to the next call whose loop is open."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._taken = False
                    return
                turn = self._waiting.popleft()
            try:
                turn.get_loop().call_soon_threadsafe(_resolve, turn)
                return
            except RuntimeError:  # its loop is closed
                continue


def _resolve(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
