"""Open files whose methods are awaited: objects of `io`, called on host threads.

The names and meanings are those of `io`'s classes. What cannot block (fileno, readable, detach, and
the attributes) is not awaited. Calls of a file that `aiofs.open` has opened are made at the await
itself where that cannot block: `_core.BufferedFile`.
"""

from __future__ import annotations

import asyncio
import io
import os
import stat
import sys
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from functools import singledispatch
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, AnyStr, ClassVar, Generic, NoReturn, TypeAlias, TypeVar

from aiofs import _core
from aiofs.files.reading import READS, Reading, tell_kept
from aiofs.files.replacing import Ending
from aiofs.files.scarce import freeing
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
    "wrap_opened",
]

T = TypeVar("T")
Call: TypeAlias = "Coroutine[Any, Any, T]"


@_core._set_anext
class AsyncFile(_core.BufferedFile, Generic[AnyStr]):
    """An open file. `aiofs.open` opens it; `wrap` makes one of an object of `io`.

    The methods are those of `io`'s classes, and are awaited where they can block. A call begins at
    its await. Calls take effect one after the other, in the order in which they were awaited; one
    whose await was cancelled goes on, and the next one waits for it. What a cancelled read has read
    goes to the next one. `async for` gives lines. As an async context manager it closes at the end
    of the block.

    Raises what the built-in file raises: OSError, UnicodeError, ValueError once it is closed,
    `io.UnsupportedOperation`.
    """

    limiter: ClassVar[None] = None  # the name is anyio's

    _ending: Ending | None = None  # of an atomic or durable file

    _line_end: str | None = None  # the argument `newline` of a text file

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        _core._set_anext(cls)

    def __init__(self, wrapped: Any) -> None:
        self._target: Any = wrapped
        self._turns = Turns()

    def _ending_with(self, ending: Ending | None) -> Self:
        self._ending = ending
        return self

    @property
    def _file(self) -> Any:
        return self._target

    @property
    def wrapped(self) -> IO[AnyStr]:
        """The object of `io` that this one calls. From now on all calls go to host threads."""
        self._leave()
        file: IO[AnyStr] = self._file
        return file

    async def _call_slowly(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Calls a method of the object of `io` on a host thread."""
        if name in READS:
            reading = Reading(self, name, arguments)
            return await self._turns.run(reading, undo=reading.undo)
        return await self._turns.run(self._on_host, name, arguments)

    def _on_host(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Runs on a host thread, in the turn of the call."""
        if self._kept is not None:
            if name == "tell":
                return tell_kept(self)
            if name == "seek" and arguments[1:] == (os.SEEK_CUR,):
                tell_kept(self)
        result = self._call_on_host(self._file, name, arguments)
        if name == "seek":
            self._kept = None
        return result

    def _can_tell(self) -> bool:
        """Whether `tell` flushes nothing; or that does not matter."""
        return self._is_clean() or not self._is_here()

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
        """The path or the descriptor that `open` was given; of a FileHandle, its path in errors."""
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

    def read(self, size: int | None = -1, /) -> Call[AnyStr]:
        """At most `size` bytes or characters from the cursor; -1 or None: all to the end."""
        return self._call("read", size)

    def readline(self, size: int | None = -1, /) -> Call[AnyStr]:
        """The next line with its line end; at most `size` bytes or characters of it."""
        return self._call("readline", size)

    def readlines(self, hint: int | None = -1, /) -> Call[list[AnyStr]]:
        """All lines; or no more once they have `hint` bytes or characters together."""
        return self._call("readlines", hint)

    def write(self, data: AnyStr | Buffer, /) -> Call[int]:
        """Writes at the cursor. The count of bytes or characters."""
        return self._call("write", data)

    def writelines(self, lines: Iterable[AnyStr | Buffer], /) -> Call[None]:
        """Writes each of them, without adding line ends."""
        return self._call("writelines", lines)

    def seek(self, offset: int, whence: int | None = os.SEEK_SET, /) -> Call[int]:
        """Moves the cursor, and returns its new position."""
        return self._call("seek", offset, os.SEEK_SET if whence is None else whence)

    def tell(self) -> Call[int]:
        """The position of the cursor."""
        return self._call("tell")

    def truncate(self, size: int | None = None, /) -> Call[int]:
        """Makes the file `size` bytes long; None: up to the cursor. Returns the size."""
        return self._call("truncate", size)

    def flush(self) -> Call[None]:
        """Gives buffered bytes to the kernel. It does not wait for the disk."""
        return self._call("flush")

    def seekable(self) -> Call[bool]:
        return self._call("seekable")

    def writable(self) -> Call[bool]:
        return self._call("writable")

    def isatty(self) -> Call[bool]:
        return self._call("isatty")

    async def close(self) -> None:
        """Flushes and closes; an atomic file replaces the old one. A second call does nothing."""
        if not self._close_inside():
            with freeing():
                await self._turns.run(self._close)

    def _close_inside(self) -> bool:
        """Closes the file in this call, if that cannot block and no other call has its turn."""
        if self._ending is not None or not self._is_clean() or not self._turns._take():
            return False
        try:
            if not _core.close_is_immediate(self._file.fileno()):
                return False
            self._close()
            return True
        finally:
            self._turns._end()

    def _close(self) -> None:
        self._leave()
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
        self._leave()
        ending, self._ending = self._ending, None
        try:
            if ending is not None:
                ending.discard()
        finally:
            self._file.close()

    async def aclose(self) -> None:
        """As `close`; if the await is cancelled, it ends when the file is closed."""
        closing = asyncio.ensure_future(self.close())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            while not closing.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([closing])
            raise

    if TYPE_CHECKING:

        def __aiter__(self) -> Self: ...
        def __anext__(self) -> Call[AnyStr]: ...  # type: ignore[override]

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
        elif not self._close_inside():
            with freeing():
                await self._turns.run(self._exit, kind, exception, traceback)

    def _exit(self, *raised: Any) -> None:
        self._leave()
        self._file.__exit__(*raised)

    def _detach(self) -> Any:
        if self._ending is not None:
            raise io.UnsupportedOperation("an atomic or durable file cannot be detached")
        self._leave()
        return self._file.detach()


class AsyncFileIO(AsyncFile[bytes]):
    """A file without a buffer, as `io.FileIO`: each call is one call of the kernel."""

    def readall(self) -> Call[bytes]:
        """All bytes from the cursor to the end."""
        return self._call("readall")

    def readinto(self, buffer: Buffer, /) -> Call[int | None]:
        """Reads into `buffer`. The count of bytes."""
        return self._call("readinto", buffer)


class AsyncBufferedIOBase(AsyncFile[bytes]):
    """A binary file with a buffer, as `io.BufferedWriter`."""

    @property
    def raw(self) -> io.RawIOBase:
        self._leave()
        raw: io.RawIOBase = self._file.raw
        return raw

    def detach(self) -> io.RawIOBase:
        raw: io.RawIOBase = self._detach()
        return raw

    def read1(self, size: int = -1, /) -> Call[bytes]:
        """At most `size` bytes, by at most one call of the kernel."""
        return self._call("read1", size)

    def readinto(self, buffer: Buffer, /) -> Call[int]:
        """Reads into `buffer`. The count of bytes, which is short at the end of the file only."""
        return self._call("readinto", buffer)

    def readinto1(self, buffer: Buffer, /) -> Call[int]:
        """Reads into `buffer`, by at most one call of the kernel."""
        return self._call("readinto1", buffer)


class AsyncBufferedReader(AsyncBufferedIOBase):
    """A binary file that can be read, as `io.BufferedReader` and `io.BufferedRandom`."""

    def peek(self, size: int = 0, /) -> Call[bytes]:
        """Bytes from the cursor, which does not move."""
        return self._call("peek", size)


class AsyncTextIOWrapper(AsyncFile[str]):
    """A text file, as `io.TextIOWrapper`."""

    @property
    def buffer(self) -> Any:
        self._leave()
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


def wrap_opened(
    file: Any, buffering: int = -1, newline: str | None = None, *, local: bool = False
) -> AsyncFile[Any]:
    """As `wrap`, for an object of `io` that was opened just now and that nothing else uses.

    buffering, newline: the arguments of `open` that it was opened with. local: it is known that no
    call to its filesystem waits for another machine or process; else this is found out, which may
    block. Where they wait, all calls of the file go to host threads.
    """
    wrapped = wrap(file)
    wrapped._line_end = newline
    buffer = getattr(file, "buffer", file if isinstance(file, io.BufferedIOBase) else None)
    raw: Any = file if buffer is None else getattr(buffer, "raw", None)
    kinds = (type(file), type(buffer), io.FileIO if isinstance(raw, io.FileIO) else type(raw))
    local = local or _core.learn_filesystem(file.fileno())
    if local and kinds in _ARE_KNOWN and stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        wrapped._begin(file, raw, buffer, newline, _room(file, buffer, raw, buffering))
    return wrapped


_BUFFERS = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
_ARE_KNOWN = {
    (io.FileIO, type(None), io.FileIO),
    *((kind, kind, io.FileIO) for kind in _BUFFERS),
    *((io.TextIOWrapper, kind, io.FileIO) for kind in _BUFFERS),
}


def _room(file: Any, buffer: Any, raw: Any, buffering: int) -> int:
    """How many bytes `file`, which has none, takes before it writes to the kernel; 0: unknown."""
    if type(buffer) is not io.BufferedWriter:
        return 0
    size: int = buffering
    if buffering <= 1:  # as the built-in `open` chooses it
        size = getattr(raw, "_blksize", 0)
        size = size if size > 1 else io.DEFAULT_BUFFER_SIZE
        if sys.version_info >= (3, 14):
            size = max(min(size, 8 << 20), io.DEFAULT_BUFFER_SIZE)
    if file is buffer:
        return size
    if file.line_buffering or file.write_through:
        return 0
    return max(
        size, int(file._CHUNK_SIZE) - 1
    )  # it collects as much before it gives it to the buffer
