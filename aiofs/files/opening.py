"""`open`, and whole files in one call."""

from __future__ import annotations

import builtins
import os
import stat
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    NoReturn,
    Protocol,
    TypeAlias,
    TypeVar,
    overload,
)

from aiofs import _core
from aiofs.files.replacing import Durable, Ending, Replacement
from aiofs.files.scarce import freed_so_far, must_wait, whole_call
from aiofs.files.wrapped import (
    AsyncBufferedIOBase,
    AsyncBufferedReader,
    AsyncFile,
    AsyncFileIO,
    AsyncTextIOWrapper,
    wrap_opened,
)

if TYPE_CHECKING:
    from _typeshed import (
        OpenBinaryMode,
        OpenBinaryModeReading,
        OpenBinaryModeUpdating,
        OpenBinaryModeWriting,
        OpenTextMode,
    )
    from typing_extensions import Buffer

__all__ = [
    "FileOpening",
    "OpensAsFile",
    "check_atomic",
    "chosen_buffering",
    "is_loaded",
    "open",
    "read_bytes",
    "read_text",
    "write_bytes",
    "write_text",
]

FilePath: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"
Opener: TypeAlias = Callable[[str, int], int]
_BINARY_BUFFER = 64 * 1024  # bytes, of a file that is only read; 128 KiB in Python 3.14 itself
_LARGE = 4 * 1024 * 1024  # bytes; the read of a larger file can be stopped
File = TypeVar("File", bound=AsyncFile[Any])


class OpensAsFile(Protocol):
    """What `open` opens by a method of its own: a `FileHandle`."""

    def _open_as_file(
        self,
        mode: str,
        buffering: int,
        encoding: str | None,
        errors: str | None,
        newline: str | None,
        *,
        atomic: bool,
        durable: bool,
        wait: float | None,
    ) -> FileOpening[Any]: ...


@overload
def open(
    file: FilePath | int | OpensAsFile,
    mode: OpenTextMode = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    atomic: bool = False,
    durable: bool = False,
    wait: float | None = None,
    loop: object = None,
    executor: object = None,
) -> FileOpening[AsyncTextIOWrapper]: ...
@overload
def open(
    file: FilePath | int | OpensAsFile,
    mode: OpenBinaryMode,
    buffering: Literal[0],
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    atomic: bool = False,
    durable: bool = False,
    wait: float | None = None,
    loop: object = None,
    executor: object = None,
) -> FileOpening[AsyncFileIO]: ...
@overload
def open(
    file: FilePath | int | OpensAsFile,
    mode: OpenBinaryModeReading | OpenBinaryModeUpdating,
    buffering: Literal[-1, 1] = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    atomic: bool = False,
    durable: bool = False,
    wait: float | None = None,
    loop: object = None,
    executor: object = None,
) -> FileOpening[AsyncBufferedReader]: ...
@overload
def open(
    file: FilePath | int | OpensAsFile,
    mode: OpenBinaryModeWriting,
    buffering: Literal[-1, 1] = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    atomic: bool = False,
    durable: bool = False,
    wait: float | None = None,
    loop: object = None,
    executor: object = None,
) -> FileOpening[AsyncBufferedIOBase]: ...
@overload
def open(
    file: FilePath | int | OpensAsFile,
    mode: OpenBinaryMode,
    buffering: int = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    atomic: bool = False,
    durable: bool = False,
    wait: float | None = None,
    loop: object = None,
    executor: object = None,
) -> FileOpening[AsyncFile[bytes]]: ...
@overload
def open(
    file: FilePath | int | OpensAsFile,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    atomic: bool = False,
    durable: bool = False,
    wait: float | None = None,
    loop: object = None,
    executor: object = None,
) -> FileOpening[AsyncFile[Any]]: ...
def open(
    file: FilePath | int | OpensAsFile,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    atomic: bool = False,
    durable: bool = False,
    wait: float | None = None,
    loop: object = None,
    executor: object = None,
) -> FileOpening[Any]:
    """Opens a file of the machine. `await` it for the file, or enter it with `async with`.

    The arguments from `file` to `opener` are those of the built-in `open`, and so are the errors;
    the file has the methods of `io`'s classes, awaited where they can block. No lock is taken.
    buffering: -1 is 64 KiB for a binary file that is only read, else as the built-in chooses.

    file: also a `FileHandle`. Then the call is its method `open`, which takes the lock of the entry
    in the modes that write, and to which `wait` belongs.

    atomic: the bytes go to a new file, which replaces the one at `file` when it is closed. A
    symbolic link stays one, and the file that it leads to is replaced. The new file has the mode of
    the old one, and its owner and ACL where that is allowed; "r+" and "a" begin with a copy. If an
    exception leaves the block, or the file is dropped, or the program killed, nothing has changed.
    OSError EINVAL: `file` is no regular file. ValueError: a mode that only reads, a descriptor, an
    opener.

    durable: the close waits until the bytes, and the name, are on the disk (fsync(2)).

    loop, executor: ignored.
    """
    text = (encoding, errors, newline)
    if (open_handle := getattr(file, "_open_as_file", None)) is not None:
        if not closefd or opener is not None:
            raise ValueError("a FileHandle is opened with closefd=True, and without an opener")
        how = {"atomic": atomic, "durable": durable, "wait": wait}
        opening: FileOpening[Any] = open_handle(mode, buffering, *text, **how)
        return opening
    if wait is not None:
        raise ValueError("wait= needs a FileHandle: a file that is opened by path takes no lock")
    if atomic and (isinstance(file, int) or opener is not None):
        raise ValueError("atomic=True needs a path, and no opener")
    if atomic:
        check_atomic(mode)
    return _open_path(file, mode, buffering, text, closefd, opener, atomic, durable)


def _open_path(
    file: Any,
    mode: str,
    buffering: int,
    text: tuple[str | None, str | None, str | None],
    closefd: bool,
    opener: Opener | None,
    atomic: bool,
    durable: bool,
) -> FileOpening[Any]:
    """Opens a path or a descriptor. text: encoding, errors and newline."""
    buffering = chosen_buffering(mode, buffering)
    ending: Ending | None = Durable(file) if durable else None

    def call() -> AsyncFile[Any]:
        used, end = opener, ending
        if atomic:
            end = replacement = Replacement(file, mode, durable)
            used = replacement.opener
        opened = builtins.open(file, mode, buffering, *text, closefd, used)
        return wrap_opened(opened, buffering, text[2])._ending_with(end)

    def call_inside() -> AsyncFile[Any]:
        opened = builtins.open(file, mode, buffering, *text, closefd, _open_inside)
        return wrap_opened(opened, buffering, text[2], local=True)

    ordinary = not atomic and not durable and opener is None and not isinstance(file, int)
    inside = ordinary and not set(mode) & set("wx") and is_loaded(text[0])
    return FileOpening(call, call_inside if inside else None)


def check_atomic(mode: str) -> None:
    """Raises ValueError if `atomic=True` makes no sense in this mode."""
    if not set(mode) & set("wax+"):
        raise ValueError(f"atomic=True needs a mode that writes, not {mode!r}")


def chosen_buffering(mode: str, buffering: int) -> int:
    """The argument `buffering` for the built-in `open`."""
    return _BINARY_BUFFER if mode in ("rb", "br") and buffering == -1 else buffering


def is_loaded(encoding: str | None) -> bool:
    """Whether a codec is loaded. Looking up another one may import a module from the disk."""
    return encoding in (None, "utf-8", "utf8", "ascii", "latin-1")


def _open_inside(path: str, flags: int) -> int:
    """An opener for files that the kernel has in memory. BlockingIOError: on a host thread."""
    descriptor = _core.cached_descriptor(path, flags & ~(os.O_CREAT | os.O_CLOEXEC))
    if descriptor is None:
        raise BlockingIOError
    return descriptor


class FileOpening(Generic[File]):
    """The operation that opens a file: `await` it for the file, or enter it with `async with`.

    It begins at the await. If that is cancelled, the file is closed, or is never opened.
    """

    def __init__(
        self, call: Callable[[], File], call_inside: Callable[[], File] | None = None
    ) -> None:
        self._call = call
        self._call_inside = call_inside
        self._abandoned = False
        self._arrived: File | None = None
        self._obj: File | None = None

    async def _open(self) -> File:
        if self._obj is None and self._call_inside is not None:
            if (turn := _core._turn_for_call()) is not None:
                await turn
            with suppress(Exception):  # what it is, the host thread finds out
                self._obj = self._call_inside()
        if self._obj is None:
            try:
                self._obj = await self._opened_on_host_thread()
            except BaseException:
                self._abandoned = True
                if self._arrived is not None:
                    self._abandon(self._arrived)
                raise
            finally:
                self._arrived = None
        return self._obj

    async def _opened_on_host_thread(self) -> File:
        while True:
            before = freed_so_far()
            try:
                return await self._begin()
            except OSError as error:
                waiter = must_wait(error, before)
                if waiter is None:
                    raise
            await waiter

    def _begin(self) -> Awaitable[File]:
        """Starts the opening on a host thread."""
        return _core.offload(self._open_here)

    def _abandon(self, file: File) -> None:
        """Closes the file, which nobody gets. Runs on the loop's thread."""
        _core.offload(file._discard)

    def _open_here(self) -> File:
        """Runs on a host thread."""
        self._arrived = file = self._call()
        if self._abandoned:
            file._discard()
        return file

    def __await__(self) -> Generator[Any, Any, File]:
        return self._open().__await__()

    async def __aenter__(self) -> File:
        return await self._open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        file, self._obj = self._obj, None
        if file is not None:
            await file.__aexit__(kind, exception, traceback)

    def __reduce__(self) -> NoReturn:
        raise TypeError("the opening of a file cannot be copied or pickled: await it")


async def read_bytes(path: FilePath) -> bytes:
    """All bytes of a file. OSError as the built-in `open`, MemoryError if they do not fit.

    If the await is cancelled, the read of a large file stops early.
    """
    if (turn := _core._turn_for_call()) is not None:
        await turn
    data = _core.cached_bytes(path)
    if data is not None:
        return data
    reading = _core.WholeRead()
    try:
        return await whole_call(_read, path, reading)
    finally:
        reading.stop()


def _read(path: FilePath, reading: _core.WholeRead) -> bytes:
    with builtins.open(path, "rb", 0) as file:
        descriptor = file.fileno()
        _core.learn_filesystem(descriptor)
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_size > _LARGE:
            data = reading.run(descriptor, found.st_size)
            if data is not None:
                return data
        data = file.read()
        assert data is not None
        return data


async def read_text(
    path: FilePath,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> str:
    """A whole file as text; the arguments are those of `open`."""
    return await whole_call(_read_text, path, encoding, errors, newline)


def _read_text(
    path: FilePath, encoding: str | None, errors: str | None, newline: str | None
) -> str:
    with builtins.open(path, encoding=encoding, errors=errors, newline=newline) as file:
        return file.read()


async def write_bytes(
    path: FilePath, data: Buffer, *, atomic: bool = False, durable: bool = False
) -> int:
    """Makes `data` the bytes of a file, which is created if it is missing. Returns their count.

    atomic, durable: as for `open`. TypeError, before anything is changed, if `data` is no buffer.
    """
    view = memoryview(data)
    opening = open(path, "wb", 0, atomic=atomic, durable=durable)
    await _write_whole(opening, view.cast("B") if view.nbytes else view)
    return view.nbytes


async def _write_whole(opening: FileOpening[Any], data: Any) -> None:
    try:
        await whole_call(_write, opening, data)
    except BaseException:
        opening._abandoned = True
        raise


def _write(opening: FileOpening[Any], data: Any) -> None:
    """Opens, writes and closes. If nobody awaits it any longer, it commits nothing."""
    file = opening._call()
    try:
        done = file._file.write(data)
        while done < len(data):  # bytes; the file has no buffer
            done += file._file.write(data[done:])
    except BaseException:
        file._discard()
        raise
    if opening._abandoned:
        file._discard()
    else:
        file._close()


async def write_text(
    path: FilePath,
    data: str,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    *,
    atomic: bool = False,
    durable: bool = False,
) -> int:
    """Makes `data` the text of a file. Returns the count of characters."""
    if not isinstance(data, str):
        raise TypeError(f"data must be str, not {type(data).__name__}")
    opened = open(
        path, "w", encoding=encoding, errors=errors, newline=newline, atomic=atomic, durable=durable
    )
    await _write_whole(opened, data)
    return len(data)
