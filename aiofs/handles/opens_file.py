"""`open` of a `FileHandle`, with what type checkers know of the file from its mode."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    from _typeshed import (
        OpenBinaryMode,
        OpenBinaryModeReading,
        OpenBinaryModeUpdating,
        OpenBinaryModeWriting,
        OpenTextMode,
    )

    from aiofs.files.opening import FileOpening
    from aiofs.files.wrapped import (
        AsyncBufferedIOBase,
        AsyncBufferedReader,
        AsyncFile,
        AsyncFileIO,
        AsyncTextIOWrapper,
    )

__all__ = ["OpensFile"]


class OpensFile:
    """The part of `FileHandle` that opens file objects."""

    @overload
    def open(
        self,
        mode: OpenTextMode = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        atomic: bool = False,
        durable: bool = False,
        wait: float | None = None,
    ) -> FileOpening[AsyncTextIOWrapper]: ...
    @overload
    def open(
        self,
        mode: OpenBinaryMode,
        buffering: Literal[0],
        encoding: None = None,
        errors: None = None,
        newline: None = None,
        *,
        atomic: bool = False,
        durable: bool = False,
        wait: float | None = None,
    ) -> FileOpening[AsyncFileIO]: ...
    @overload
    def open(
        self,
        mode: OpenBinaryModeReading | OpenBinaryModeUpdating,
        buffering: Literal[-1, 1] = -1,
        encoding: None = None,
        errors: None = None,
        newline: None = None,
        *,
        atomic: bool = False,
        durable: bool = False,
        wait: float | None = None,
    ) -> FileOpening[AsyncBufferedReader]: ...
    @overload
    def open(
        self,
        mode: OpenBinaryModeWriting,
        buffering: Literal[-1, 1] = -1,
        encoding: None = None,
        errors: None = None,
        newline: None = None,
        *,
        atomic: bool = False,
        durable: bool = False,
        wait: float | None = None,
    ) -> FileOpening[AsyncBufferedIOBase]: ...
    @overload
    def open(
        self,
        mode: OpenBinaryMode,
        buffering: int = -1,
        encoding: None = None,
        errors: None = None,
        newline: None = None,
        *,
        atomic: bool = False,
        durable: bool = False,
        wait: float | None = None,
    ) -> FileOpening[AsyncFile[bytes]]: ...
    @overload
    def open(
        self,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        atomic: bool = False,
        durable: bool = False,
        wait: float | None = None,
    ) -> FileOpening[AsyncFile[Any]]: ...
    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        atomic: bool = False,
        durable: bool = False,
        wait: float | None = None,
    ) -> FileOpening[Any]:
        """Opens the file as a file object. `await` it for the file, or enter it with `async with`.

        The arguments from `mode` to `newline` are those of the built-in `open`, and so is what they
        mean: "w", "a" and "x" create a file that is missing. The file is that of `aiofs.open`. Bad
        arguments raise at the call, and change nothing.

        "r" takes no lock. The file that was opened stays readable while others replace it; changes
        in place are seen. Every other mode holds the lock of an access handle in mode "in-place"
        until the file is closed. Its writes count in the volume's quota. The close syncs what was
        written, unless the volume has durable=False. A file that is dropped and not closed gives a
        ResourceWarning. What was written is then given to the kernel, and not synced.

        atomic: the lock is that of mode "exclusive". The bytes go to a copy, which replaces the
        file when it is closed. If an exception leaves the block, or the file is dropped, nothing
        has changed. A file that was missing is there, and empty, as long as it is open.

        durable: the close waits until the bytes, and the name, are on the disk, also in a volume
        with durable=False.

        wait: how many seconds to wait for the lock, from the await on, as for
        `create_access_handle`. It does nothing in mode "r".

        Raises `NoModificationAllowedError` (EBUSY) if another holder has the lock, or others wait
        for it, and at the end of that time; EROFS if the volume is read-only. `NotFoundError` if
        the file is missing, and the mode does not create it; FileExistsError with "x" if it is
        there; `TypeMismatchError` if it is a directory now. `QuotaExceededError` from a call that
        writes. In a volume that is a Python object the descriptor (`fileno`) is a placeholder.
        """
        arguments = (mode, buffering, encoding, errors, newline)
        return self._open_as_file(*arguments, atomic=atomic, durable=durable, wait=wait)

    def _open_as_file(self, *arguments: Any, **keywords: Any) -> FileOpening[Any]:
        """What `aiofs.files.open` calls."""
        module: Any = import_module("aiofs.handles.file_opening")
        opening: FileOpening[Any] = module.open_file(self, *arguments, **keywords)
        return opening
