"""One call at a time, on a host thread of the engine: what the objects of `io` need.

Ownership. A call has the turn from its start until its function returned, also if its await was
cancelled meanwhile: the function runs on, and the next call waits for it. A call with an `undo` has
it until its await returned, or `undo` did.

Locking. The GIL guards the queue: the methods of `_core.Turn` run no Python code. `_lock` of a call
decides whether its await or its function has ended first.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from functools import partial, wraps
from types import coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from aiofs import _core

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    P = ParamSpec("P")

__all__ = ["Turns", "awaited", "on_host_thread"]

T = TypeVar("T")


async def on_host_thread(function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
    """Returns `function(*arguments, **keywords)`, called on a host thread."""
    if keywords:
        function = partial(function, **keywords)
    return await _core.offload(function, *arguments)


def awaited(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A coroutine function that calls `function` on a host thread.

    It also takes the arguments `loop` and `executor`, and ignores them.
    """

    @wraps(function)
    async def call(*arguments: Any, loop: object = None, executor: object = None, **kw: Any) -> T:
        return await on_host_thread(function, *arguments, **kw)

    return call


class Turns(_core.Turn):
    """Calls functions on host threads, one after the other, in the order in which they asked."""

    async def run(
        self, function: Callable[..., T], *arguments: Any, undo: Callable[[], None] | None = None
    ) -> T:
        """Returns `function(*arguments)`.

        undo: called if the await is cancelled although the function returns, then or later, on the
        thread that notices; no other call has its turn before that.
        """
        await self._begin()
        call = _Call(self, function, arguments, undo)
        try:
            operation = _core.offload(call)
        except BaseException:
            self._end()
            raise
        try:
            result: T = await _uninterrupted(operation)
        except BaseException:
            call.await_ended(abandoned=True)
            raise
        call.await_ended(abandoned=False)
        return result

    async def _begin(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._wait(turn):
            return
        try:
            await turn
        except BaseException:
            if not self._withdraw(turn):  # it has been given the turn
                self._end()
            raise

    def _end(self) -> None:
        """Gives the turn to the next call whose loop is open."""
        while (turn := self._next()) is not None:
            try:
                turn.get_loop().call_soon_threadsafe(_resolve, turn)
                return
            except RuntimeError:  # its loop is closed
                continue


class _Call:
    """A function that has its turn, and the await of it. The last of both ends the turn."""

    def __init__(
        self,
        turns: Turns,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        undo: Callable[[], None] | None,
    ) -> None:
        self._turns = turns
        self._function = function
        self._arguments = arguments
        self._undo = undo
        self._lock = threading.Lock()
        self._returned = self._failed = self._abandoned = False

    def __call__(self) -> Any:
        """Runs on a host thread."""
        try:
            return self._function(*self._arguments)
        except BaseException:
            self._failed = True
            raise
        finally:
            with self._lock:
                self._returned = True
                last = self._undo is None or self._abandoned
            if last:
                self._finish()

    def await_ended(self, abandoned: bool) -> None:
        with self._lock:
            self._abandoned = abandoned
            last = self._undo is not None and self._returned
        if last:
            self._finish()

    def _finish(self) -> None:
        try:
            if self._undo is not None and self._abandoned and not self._failed:
                self._undo()
        finally:
            self._turns._end()


@coroutine
def _uninterrupted(operation: _core.Operation[T]) -> Generator[Any, Any, T]:
    """Awaits an operation, which goes on if the await is cancelled."""
    try:
        while True:
            try:
                future = operation.send(None)
            except StopIteration as end:
                result: T = end.value
                return result
            yield future
    finally:
        operation.close()


def _resolve(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
