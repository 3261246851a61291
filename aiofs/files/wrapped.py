"""Open files whose methods are awaited: objects of `io`, called on host threads.

The names and meanings are those of `io`'s classes. What cannot block (fileno, readable, detach, and
the attributes) is not awaited.
"""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Iterable
from functools import singledispatch
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, AnyStr, ClassVar, Generic, NoReturn, TypeVar

from aiofs.files.replacing import Durable, Replacement
from aiofs.files.turns import Turns

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

__all__ = [
    "AsyncBufferedIOBase",
    "AsyncBufferedReader",
    "AsyncFile",
    "AsyncFileIO",
    "AsyncTextIOWrapper",
    "wrap",
]

T = TypeVar("T")


class AsyncFile(Generic[AnyStr]):
    """An open file. `aiofs.open` opens it; `wrap` makes one of an object of `io`.

    The methods are those of `io`'s classes, and are awaited where they can block. Calls take effect
    one after the other, in the order in which they were awaited; one whose await was cancelled goes
    on, and the next one waits for it. `async for` gives lines. As an async context manager it
    closes at the end of the block.

    Raises what the built-in file raises: OSError, UnicodeError, ValueError once it is closed,
    `io.UnsupportedOperation`.
    """

    limiter: ClassVar[None] = None  # the name is anyio's

    _ending: Durable | Replacement | None = None  # what the close of an atomic or durable file does

    def __init__(self, wrapped: Any) -> None:
        self._target: Any = wrapped
        self._turns = Turns()

    def _ending_with(self, ending: Durable | Replacement | None) -> Self:
        self._ending = ending
        return self

    @property
    def _file(self) -> Any:
        return self._target

    @property
    def wrapped(self) -> IO[AnyStr]:
        """The object of `io` that this one calls."""
        file: IO[AnyStr] = self._file
        return file

    async def _run(self, name: str, *arguments: Any) -> Any:
        return await self._turns.run(getattr(self._file, name), *arguments)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._file!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an open file cannot be copied or pickled")

    # ---- what cannot block

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    @property
    def name(self) -> Any:
        """The path or the descriptor that `open` was given."""
        return self._file.name

    @property
    def mode(self) -> str:
        return str(self._file.mode)

    def fileno(self) -> int:
        """The descriptor."""
        return int(self._file.fileno())

    def readable(self) -> bool:
        return bool(self._file.readable())

    # ---- what can

    async def read(self, size: int | None = -1, /) -> AnyStr:
        """At most `size` bytes or characters from the cursor; -1 or None: all to the end."""
        data: AnyStr = await self._run("read", size)
        return data

    async def readline(self, size: int | None = -1, /) -> AnyStr:
        """The next line with its line end; at most `size` bytes or characters of it."""
        line: AnyStr = await self._run("readline", size)
        return line

    async def readlines(self, hint: int | None = -1, /) -> list[AnyStr]:
        """All lines; or no more once they have `hint` bytes or characters together."""
        lines: list[AnyStr] = await self._run("readlines", hint)
        return lines

    async def write(self, data: AnyStr | Buffer, /) -> int:
        """Writes at the cursor. The count of bytes or characters."""
        return int(await self._run("write", data))

    async def writelines(self, lines: Iterable[AnyStr | Buffer], /) -> None:
        """Writes each of them, without adding line ends."""
        await self._run("writelines", lines)

    async def seek(self, offset: int, whence: int | None = os.SEEK_SET, /) -> int:
        """Moves the cursor, and returns its new position."""
        return int(await self._run("seek", offset, os.SEEK_SET if whence is None else whence))

    async def tell(self) -> int:
        """The position of the cursor."""
        return int(await self._run("tell"))

    async def truncate(self, size: int | None = None, /) -> int:
        """Makes the file `size` bytes long; None: up to the cursor. Returns the size."""
        return int(await self._run("truncate", size))

    async def flush(self) -> None:
        """Gives buffered bytes to the kernel. It does not wait for the disk."""
        await self._run("flush")

    async def seekable(self) -> bool:
        return bool(await self._run("seekable"))

    async def writable(self) -> bool:
        return bool(await self._run("writable"))

    async def isatty(self) -> bool:
        return bool(await self._run("isatty"))

    async def close(self) -> None:
        """Flushes and closes; an atomic file replaces the old one. A second call does nothing."""
        await self._turns.run(self._close)

    def _close(self) -> None:
        file, ending = self._file, self._ending
        if ending is None or file.closed:
            file.close()
            return
        try:
            file.flush()
            ending.commit(file.fileno())
        finally:
            self._discard()

    def _discard(self) -> None:
        """Closes without a commit."""
        ending, self._ending = self._ending, None
        try:
            self._file.close()
        finally:
            if ending is not None:
                ending.discard()

    async def aclose(self) -> None:
        """The same as `close`."""
        await self.close()

    def __aiter__(self) -> AsyncIterator[AnyStr]:
        return self

    async def __anext__(self) -> AnyStr:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None and self._ending is not None:
            await self._turns.run(self._discard)
        elif self._ending is not None:
            await self.close()
        else:
            await self._run("__exit__", kind, exception, traceback)

    def _detach(self) -> Any:
        if self._ending is not None:
            raise io.UnsupportedOperation("an atomic or durable file cannot be detached")
        return self._file.detach()


class AsyncFileIO(AsyncFile[bytes]):
    """A file without a buffer, as `io.FileIO`: each call is one call of the kernel."""

    async def readall(self) -> bytes:
        data: bytes = await self._run("readall")
        return data

    async def readinto(self, buffer: Buffer, /) -> int | None:
        """Reads into `buffer`. The count of bytes."""
        count: int | None = await self._run("readinto", buffer)
        return count


class AsyncBufferedIOBase(AsyncFile[bytes]):
    """A binary file with a buffer, as `io.BufferedWriter`."""

    @property
    def raw(self) -> io.RawIOBase:
        raw: io.RawIOBase = self._file.raw
        return raw

    def detach(self) -> io.RawIOBase:
        raw: io.RawIOBase = self._detach()
        return raw

    async def read1(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, by at most one call of the kernel."""
        data: bytes = await self._run("read1", size)
        return data

    async def readinto(self, buffer: Buffer, /) -> int:
        """Reads into `buffer`. The count of bytes, which is short at the end of the file only."""
        return int(await self._run("readinto", buffer))

    async def readinto1(self, buffer: Buffer, /) -> int:
        """Reads into `buffer`, by at most one call of the kernel."""
        return int(await self._run("readinto1", buffer))


class AsyncBufferedReader(AsyncBufferedIOBase):
    """A binary file that can be read, as `io.BufferedReader` and `io.BufferedRandom`."""

    async def peek(self, size: int = 0, /) -> bytes:
        """Bytes from the cursor, which does not move."""
        data: bytes = await self._run("peek", size)
        return data


class AsyncTextIOWrapper(AsyncFile[str]):
    """A text file, as `io.TextIOWrapper`."""

    @property
    def buffer(self) -> Any:
        return self._file.buffer

    @property
    def encoding(self) -> str:
        return str(self._file.encoding)

    @property
    def errors(self) -> str | None:
        errors: str | None = self._file.errors
        return errors

    @property
    def line_buffering(self) -> bool:
        return bool(self._file.line_buffering)

    @property
    def newlines(self) -> Any:
        return self._file.newlines

    def detach(self) -> Any:
        return self._detach()


@singledispatch
def wrap(file: Any) -> AsyncFile[Any]:
    """An object of `io` with awaited methods. TypeError if it is none."""
    raise TypeError(f"{file!r} is no file object of io")


@wrap.register(io.TextIOBase)
def _(file: io.TextIOBase) -> AsyncTextIOWrapper:
    return AsyncTextIOWrapper(file)


@wrap.register(io.BufferedIOBase)
def _(file: io.BufferedIOBase) -> AsyncBufferedIOBase:
    return AsyncBufferedIOBase(file)


@wrap.register(io.BufferedReader)
@wrap.register(io.BufferedRandom)
@wrap.register(io.BytesIO)
def _(file: Any) -> AsyncBufferedReader:
    return AsyncBufferedReader(file)


@wrap.register(io.RawIOBase)
def _(file: io.RawIOBase) -> AsyncFileIO:
    return AsyncFileIO(file)
