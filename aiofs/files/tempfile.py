"""Temporary files and directories: the names of `tempfile`, opened as `aiofs.open` opens files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, TypeAlias

from aiofs.files.opening import FileOpening
from aiofs.files.turns import awaited, on_host_thread
from aiofs.files.wrapped import AsyncFile, wrap, wrap_opened

__all__ = [
    "AsyncSpooledTemporaryFile",
    "AsyncTemporaryDirectory",
    "NamedTemporaryFile",
    "SpooledTemporaryFile",
    "TemporaryDirectory",
    "TemporaryFile",
    "gettempdir",
    "mkdtemp",
    "mkstemp",
]

Name: TypeAlias = "str | bytes | None"
Directory: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes] | None"

gettempdir = awaited(tempfile.gettempdir)
mkdtemp = awaited(tempfile.mkdtemp)
mkstemp = awaited(tempfile.mkstemp)


def TemporaryFile(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: Name = None,
    prefix: Name = None,
    dir: Directory = None,
    *,
    errors: str | None = None,
    loop: object = None,
    executor: object = None,
) -> FileOpening[Any]:
    """A file without a name, which is gone when it is closed. See `tempfile.TemporaryFile`."""
    arguments: Any = (mode, buffering, encoding, newline, suffix, prefix, dir)

    def call() -> AsyncFile[Any]:
        opened = tempfile.TemporaryFile(*arguments, errors=errors)
        return wrap_opened(opened, buffering, newline)

    return FileOpening(call)


def NamedTemporaryFile(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: Name = None,
    prefix: Name = None,
    dir: Directory = None,
    delete: bool = True,
    delete_on_close: bool = True,
    *,
    errors: str | None = None,
    loop: object = None,
    executor: object = None,
) -> FileOpening[Any]:
    """A file that is removed when it is closed. See `tempfile.NamedTemporaryFile`.

    delete_on_close: if it is False, the file is removed at the end of the block (Python 3.12).
    """
    arguments: Any = (mode, buffering, encoding, newline, suffix, prefix, dir, delete)
    options: Any = {"errors": errors}
    if not delete_on_close:
        options["delete_on_close"] = False

    def call() -> AsyncFile[Any]:
        opened: Any = tempfile.NamedTemporaryFile(*arguments, **options)
        file: Any = type(wrap(opened.file))(opened)
        file.delete = delete
        return file  # type: ignore[no-any-return]

    return FileOpening(call)


def SpooledTemporaryFile(
    max_size: int = 0,
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: Name = None,
    prefix: Name = None,
    dir: Directory = None,
    *,
    errors: str | None = None,
    loop: object = None,
    executor: object = None,
) -> FileOpening[Any]:
    """A file in memory, which moves to the disk when it has more than `max_size` bytes.

    See `tempfile.SpooledTemporaryFile`.
    """
    arguments: Any = (max_size, mode, buffering, encoding, newline, suffix, prefix, dir)

    def call() -> AsyncFile[Any]:
        opened = tempfile.SpooledTemporaryFile(*arguments, errors=errors)
        return AsyncSpooledTemporaryFile(opened)

    return FileOpening(call)


class AsyncSpooledTemporaryFile(AsyncFile[Any]):
    """A `tempfile.SpooledTemporaryFile` with awaited methods, also `fileno`, which may write."""

    @property
    def encoding(self) -> str:
        return str(self._file.encoding)

    @property
    def newlines(self) -> Any:
        return self._file.newlines

    async def fileno(self) -> int:  # type: ignore[override]
        return int(await self._call("fileno"))

    async def rollover(self) -> None:
        """Moves the bytes to the disk."""
        await self._call("rollover")


class AsyncTemporaryDirectory:
    """A directory that is removed by `cleanup`, or when the object is collected."""

    def __init__(self, directory: tempfile.TemporaryDirectory[Any]) -> None:
        self._directory = directory

    @property
    def name(self) -> Any:
        """The path."""
        return self._directory.name

    async def cleanup(self) -> None:
        """Removes the directory with all that is in it."""
        await on_host_thread(self._directory.cleanup)

    async def close(self) -> None:
        """The same as `cleanup`."""
        await self.cleanup()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class DirectoryOpening:
    """The operation that makes a directory: `async with` gives its path, `await` the object."""

    def __init__(self, call: Callable[[], tempfile.TemporaryDirectory[Any]]) -> None:
        self._call = call
        self._made: AsyncTemporaryDirectory | None = None

    async def _make(self) -> AsyncTemporaryDirectory:
        return AsyncTemporaryDirectory(await on_host_thread(self._call))

    def __await__(self) -> Generator[Any, Any, AsyncTemporaryDirectory]:
        return self._make().__await__()

    async def __aenter__(self) -> Any:
        self._made = await self._make()
        return self._made.name

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        made, self._made = self._made, None
        if made is not None:
            await made.cleanup()


def TemporaryDirectory(
    suffix: Name = None,
    prefix: Name = None,
    dir: Directory = None,
    ignore_cleanup_errors: bool = False,
    *,
    loop: object = None,
    executor: object = None,
) -> DirectoryOpening:
    """A directory that is removed at the end of the block. See `tempfile.TemporaryDirectory`."""
    arguments: Any = (suffix, prefix, dir, ignore_cleanup_errors)
    return DirectoryOpening(lambda: tempfile.TemporaryDirectory(*arguments))
