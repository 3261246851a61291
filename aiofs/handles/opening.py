"""`Opening`: what opens a handle, awaited or entered with `async with`."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable, Coroutine, Generator, Hashable
from functools import partial
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar

from aiofs import _core

__all__ = ["Opening"]

T = TypeVar("T")


class Opening(Coroutine[Any, Any, T], Generic[T]):
    """The operation that opens a handle: await it for the handle, or enter it with `async with`.

    If it is cancelled or dropped before it returned the handle, it leaves no lock and no
    descriptor: at the first exception it drops the operation, which closes a handle that the
    operation has opened already. One that is dropped before any await gives a RuntimeWarning, as a
    coroutine does.

    A refusal (EBUSY) is final only after one more turn of the event loop. Until then the loop may
    keep a handle alive that the task has dropped, in the traceback of an exception that it
    delivered. So the opening is tried a second time after that turn.

    wait: how many seconds to wait for the lock; None does not wait. The wait begins at the call.
    key: openings that wait and have equal keys take their places in the order of the calls.
    attempt: opens it inside the call, or gives None; None: that cannot be done. See
    _core.offload_in_turn.
    """

    _operation: _core.Operation[T] | None = None
    _call: Callable[[], _core.Operation[T]] | None
    _awaited = False

    def __init__(
        self,
        function: Callable[..., T],
        *arguments: Any,
        wait: float | None = None,
        key: Hashable = None,
        attempt: Callable[[], T | None] | None = None,
    ) -> None:
        self._opened: T | None = None
        until = _core.deadline_of(wait)
        self._operation = _core.offload_in_turn(attempt, until, key, function, *arguments)
        # With a time, a refusal is final: the time is up.
        again = partial(_core.offload_waiting, until, key, function, *arguments)
        self._call = None if until else again

    def __del__(self) -> None:
        try:
            if self._operation is not None and not self._awaited:
                warnings.warn(
                    "the opening of a handle was never awaited: await it, or use 'async with'",
                    RuntimeWarning,
                    stacklevel=2,
                    source=self,
                )
        finally:
            self.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self  # as coroutines do, it iterates itself

    def __iter__(self) -> Opening[T]:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        self._awaited = True
        if self._operation is None:
            if self._call is None:
                raise RuntimeError("cannot reuse what was awaited already")
            call, self._call = self._call, None
            self._operation = call()
        try:
            return self._operation.send(value)
        except BaseException as error:  # also StopIteration, which carries the handle
            if getattr(error, "errno", None) == errno.EBUSY and self._call is not None:
                self._operation = None
                return None  # suspends the task for one turn of the loop
            self.close()
            raise

    def throw(self, kind: Any, value: Any = None, traceback: TracebackType | None = None, /) -> Any:
        if self._operation is None:
            raise kind
        try:
            if value is None and traceback is None:
                return self._operation.throw(kind)
            return self._operation.throw(kind, value, traceback)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        operation, self._operation, self._call = self._operation, None, None
        if operation is not None:
            operation.drop()

    def __repr__(self) -> str:
        return f"<Opening {'awaited' if self._operation is None else repr(self._operation)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Opening cannot be copied or pickled: await it, once")

    async def __aenter__(self) -> T:
        self._opened = opened = await self  # and then no await that may be cancelled
        return opened

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        opened: Any = self._opened
        self._opened = None
        suppressed: bool | None = await opened.__aexit__(exception_type, exception, traceback)
        return suppressed
