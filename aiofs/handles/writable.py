"""`WritableFileStream`: writes to a copy of a file, which replaces the file at close."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

from aiofs import _core
from aiofs.handles.entry import Async
from aiofs.handles.file import File

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

    Data: TypeAlias = Buffer | str | File

__all__ = ["WritableFileStream", "WritableMode"]

WritableMode = Literal["siloed", "exclusive"]

_PIECE = 1 << 20  # bytes of a File that are in memory at a time

_LOCKS = {"siloed": _core.LOCK_SHARED, "exclusive": _core.LOCK_ATOMIC}


def lock_of_mode(mode: str) -> int:
    """The lock of a writable's mode. TypeError if it is no str, ValueError if it is unknown."""
    if not isinstance(mode, str):
        raise TypeError(f"mode must be a str, not {type(mode).__name__}")
    if mode not in _LOCKS:
        raise ValueError(f"unknown mode {mode!r}: one of {', '.join(map(repr, _LOCKS))}")
    return _LOCKS[mode]


class WritableFileStream:
    """Writes to a copy of a file. `close` replaces the file by the copy, `abort` discards the copy.

    `FileHandle.create_writable` opens it. A method starts its operation at the call; `await` waits
    for it. Operations take effect in the order of the calls. As an async context manager it closes
    at the end of the block, and aborts if an exception leaves the block.

    The replacement is all or nothing: who opens the file sees the old bytes or the new ones, also
    after a crash. The new file has the mode and, where that is allowed, the owner and the extended
    attributes of the old one.

    At the call: TypeError, ValueError or BufferError for an invalid argument, which breaks nothing.
    From the await: OSError with the kernel's errno, `QuotaExceededError` beyond the quota or on a
    full disk. After such a failure the stream is aborted: the file stays as it was, and the lock is
    released. After that, and after close and abort, every call raises `InvalidStateError` (EBADF),
    whose cause is the first failure.

    WHATWG File System: `FileSystemWritableFileStream`.
    """

    _writable: _core.Writable

    def __init__(self) -> None:
        raise TypeError("a WritableFileStream comes from FileHandle.create_writable")

    @classmethod
    def _of(cls, writable: _core.Writable) -> Self:
        stream = cls.__new__(cls)
        stream._writable = writable
        return stream

    def write(self, data: Data | dict[str, Any], *, position: int | None = None) -> Async[None]:
        """Writes `data` at byte `position` (None: at the cursor), and moves the cursor behind it.

        data: bytes or another buffer; a str, written as UTF-8; or a `File`, whose bytes are read
        now. A buffer must not change until the operation is complete. A gap between the end of the
        copy and `position` is filled with zeros. Writing nothing extends nothing.

        A dict with "type" stands for an operation, as WriteParams in the standard: "write" with
        "data" and perhaps "position", "seek" with "position", "truncate" with "size".

        Raises `NotReadableError` (ESTALE) if the `File` has changed. WHATWG File System: `write`.
        """
        if isinstance(data, dict):
            return self._perform(data, position)
        if isinstance(data, File):
            return self._writable.fill(partial(_pieces_of, data), position)
        return self._writable.write(data.encode() if isinstance(data, str) else data, position)

    def seek(self, position: int) -> Async[None]:
        """Moves the cursor to byte `position`, which may lie past the end.

        WHATWG File System: `seek`.
        """
        return self._writable.seek(position)

    def truncate(self, size: int) -> Async[None]:
        """Makes the copy `size` bytes long: cuts it, or adds zeros.

        A cursor past the new end moves to the end. WHATWG File System: `truncate`.
        """
        return self._writable.truncate(size)

    def close(self) -> Async[None]:
        """Replaces the file by the copy, and releases the lock.

        Raises `NotFoundError` if the file was removed meanwhile, and OSError if the disk fails;
        then the file stays as it is. The lock is released all the same. WHATWG Streams: `close`.
        """
        return self._writable.close()

    def abort(self) -> Async[None]:
        """Discards the copy, and releases the lock. Operations that have not run: `AbortError`.

        WHATWG Streams: `abort`.
        """
        return self._writable.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exception_type is None:
            await self._writable.leave(True)
        else:
            with suppress(OSError):  # the exception of the block matters
                await self._writable.leave(False)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a WritableFileStream cannot be copied or pickled: its lock is this process's"
        )

    def _perform(self, params: dict[str, Any], position: int | None) -> Async[None]:
        if position is not None:
            raise TypeError("position is given twice: it belongs into the dict")
        kind = params.get("type")
        if kind == "write":
            data = _param(params, "data")
            if isinstance(data, dict):
                raise TypeError("data must be a buffer, a str or a File, not a dict")
            return self.write(data, position=params.get("position"))
        if kind == "seek":
            return self.seek(_param(params, "position"))
        if kind == "truncate":
            return self.truncate(_param(params, "size"))
        raise ValueError(f"unknown type {kind!r}: one of 'write', 'seek', 'truncate'")


def _pieces_of(file: File) -> Iterator[bytes]:
    """The bytes of a File, read on this thread."""
    opened = file._open()
    try:
        start = file._start
        while True:  # also without bytes, to find out whether the file has changed
            piece = file._read_from(opened, start, min(_PIECE, file._end - start))
            yield piece
            start += len(piece)
            if start == file._end:
                return
    finally:
        opened.close()


def _param(params: dict[str, Any], name: str) -> Any:
    if params.get(name) is None:
        raise TypeError(f"{params['type']!r} needs {name!r}")
    return params[name]
