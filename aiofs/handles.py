"""Handles, under the names of the WHATWG File System standard.

A `DirectoryHandle` or `FileHandle` is the path of an entry in a volume; it keeps nothing open and
no lock. An `AccessHandle` or `SyncAccessHandle`, which the core implements, is an open, locked
file. A `File` is the state of a file at the time of `get_file`.

A method that uses the disk starts its operation at the call, on a thread of the engine, and returns
a coroutine that waits for it. A bad argument raises at the call.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar

from aiofs import _core, errors
from aiofs._core import AccessHandle, SyncAccessHandle
from aiofs.errors import NotFoundError
from aiofs.volume_ops import HasOps, Mode, VolumeOps, check_name

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "AccessHandle",
    "DirectoryHandle",
    "File",
    "FileHandle",
    "Mode",
    "Opening",
    "SyncAccessHandle",
]

T = TypeVar("T")
Async = Coroutine[Any, Any, T]


class Opening(Coroutine[Any, Any, T], Generic[T]):
    """The operation that opens a handle: await it for the handle, or enter it with `async with`.

    If it is cancelled or dropped before it returned the handle, it leaves no lock and no
    descriptor: at the first exception it drops the operation, which closes a handle that the
    operation has opened already.

    A refusal (EBUSY) is final only after one more turn of the event loop. Until then the loop may
    keep a handle alive that the task has dropped, in the traceback of an exception that it
    delivered. So the opening is tried a second time after that turn.
    """

    _operation: _core.Operation[T] | None = None
    _call: Callable[[], _core.Operation[T]] | None

    def __init__(self, function: Callable[..., T], *arguments: Any) -> None:
        self._call = partial(_core.offload, function, *arguments)
        self._operation = self._call()
        self._opened: T | None = None

    def __del__(self) -> None:
        self.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self  # as coroutines do, it iterates itself

    def __iter__(self) -> Opening[T]:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
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
        opened: Any = await self
        self._opened = opened
        entered: T = await opened.__aenter__()
        return entered

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


@contextmanager
def missing(ops: VolumeOps, path: str, create: bool) -> Iterator[None]:
    """Adds "(create=True makes it)" to a NotFoundError of the body if that is true."""
    try:
        yield
    except NotFoundError as error:
        if not create and _is_directory(ops, path.rpartition("/")[0]):
            error.strerror = f"{error.strerror} (create=True makes it)"
            error.args = (error.errno, error.strerror)
        raise


def _is_directory(ops: VolumeOps, path: str) -> bool:
    try:
        return stat.S_ISDIR(ops.stat(path).st_mode)
    except OSError:
        return False


class _Handle:
    """The path of an entry in a volume: what FileHandle and DirectoryHandle have in common."""

    _volume: HasOps
    _path: str

    def __init__(self) -> None:
        raise TypeError(f"a {type(self).__name__} comes from a volume or a DirectoryHandle")

    @classmethod
    def _of(cls, volume: HasOps, path: str) -> Self:
        handle = cls.__new__(cls)
        handle._volume = volume
        handle._path = path
        return handle

    @property
    def name(self) -> str:
        """The last component of the path; '' for the root of a volume."""
        return self._path.rpartition("/")[2]

    @property
    def _parent(self) -> str:
        return self._path.rpartition("/")[0]

    def is_same_entry(self, other: FileHandle | DirectoryHandle) -> Async[bool]:
        """`await handle.is_same_entry(other)`: whether both name the same entry of the same volume.

        Raises TypeError if other is not a handle. WHATWG File System: `isSameEntry`.
        """
        if not isinstance(other, _Handle):
            raise TypeError(f"a handle is wanted, not {type(other).__name__}")
        return _done(self == other)

    def _in_same_volume(self, other: _Handle) -> bool:
        """Whether both are in the same volume, even if the volume was opened twice."""
        return self._volume._ops.same(other._volume._ops)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Handle) or type(self) is not type(other):
            return NotImplemented
        return self._path == other._path and self._in_same_volume(other)

    def __hash__(self) -> int:
        return hash((type(self), self._path))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path!r} of {self._volume!r}>"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[HasOps, str]]:
        return type(self)._of, (self._volume, self._path)


class FileHandle(_Handle):
    """The handle of a file: its path in a volume. It keeps nothing open and no lock.

    `DirectoryHandle.get_file_handle` returns it. WHATWG File System: `FileSystemFileHandle`.
    """

    kind: ClassVar[str] = "file"

    def get_file(self) -> Async[File]:
        """`await handle.get_file()`: a `File`, the present state of the file. Takes no lock.

        Raises `NotFoundError` if the file is missing, `TypeMismatchError` if it is a directory now.
        WHATWG File System: `getFile`.
        """
        return _core.offload(self._snapshot)

    def create_access_handle(self, *, mode: Mode | None = None) -> Opening[AccessHandle]:
        """Opens and locks the file. Gives an `AccessHandle`, by `await` or by `async with`.

        mode: "in-place" (the same as "readwrite"), "read-only" or "readwrite-unsafe"; None is the
        volume's default. Raises `NoModificationAllowedError` (EBUSY), without waiting, if another
        holder has an incompatible lock; `NotFoundError` if the file is missing; `ValueError` for an
        unknown mode. WHATWG File System: `createSyncAccessHandle`, made asynchronous.
        """
        checked = self._checked_mode(mode)
        return Opening(self._volume._ops.access_handle, self._path, checked, False)

    def create_sync_access_handle(self, *, mode: Mode | None = None) -> SyncAccessHandle:
        """As `create_access_handle`, but blocks, and returns a `SyncAccessHandle`."""
        checked = self._checked_mode(mode)
        return self._volume._ops.sync_access_handle(self._path, checked, False)

    def remove(self) -> Async[None]:
        """`await handle.remove()`: removes the file.

        Raises `NoModificationAllowedError` (EBUSY) if the file is locked, `NotFoundError` if it is
        missing. WHATWG File System: `remove`.
        """
        return _core.offload(self._volume._ops.unlink, self._path)

    def _checked_mode(self, mode: Mode | None) -> str:
        name, _, _ = _core.mode_of_handle(self._volume.default_mode if mode is None else mode)
        return name

    def _snapshot(self) -> File:
        ops = self._volume._ops
        found = ops.snapshot(self._path)
        if stat.S_ISDIR(found.st_mode):
            raise errors.from_errno(errno.EISDIR, ops.show(self._path), "get file")
        return File._of(self, found, ops.generation(self._path))


class DirectoryHandle(_Handle):
    """The handle of a directory: its path in a volume. It keeps nothing open and no lock.

    `Volume.root`, `FileSystem.directory` and `get_directory_handle` return it. `async for` over a
    handle iterates over `entries()`. WHATWG File System: `FileSystemDirectoryHandle`.
    """

    kind: ClassVar[str] = "directory"

    def get_file_handle(self, name: str, *, create: bool = False) -> Async[FileHandle]:
        """`await directory.get_file_handle(name)`: the handle of the file `name` in this directory.

        create: create an empty file if it is missing. Raises `NotFoundError` if it is missing,
        `TypeMismatchError` if it is a directory, `ValueError` for a bad name.
        WHATWG File System: `getFileHandle`.
        """
        return _core.offload(self._get_file, self._below(name), bool(create))

    def get_directory_handle(self, name: str, *, create: bool = False) -> Async[DirectoryHandle]:
        """`await directory.get_directory_handle(name)`: the handle of the directory `name` in it.

        create: create the directory if it is missing. Raises as `get_file_handle`, but
        `TypeMismatchError` if it is a file. WHATWG File System: `getDirectoryHandle`.
        """
        return _core.offload(self._get_directory, self._below(name), bool(create))

    def remove_entry(self, name: str, *, recursive: bool = False) -> Async[None]:
        """`await directory.remove_entry(name)`: removes the file or the empty directory `name`.

        recursive: remove a directory with everything below it. Raises `NoModificationAllowedError`
        (EBUSY) if the entry, or an entry below it, is locked; then nothing is removed. Raises
        `NotFoundError` if the entry is missing, `InvalidModificationError` (ENOTEMPTY) for a
        directory that is not empty, `ValueError` for a bad name. WHATWG File System: `removeEntry`.
        """
        return _core.offload(self._remove_entry, self._below(name), bool(recursive))

    def remove(self, *, recursive: bool = False) -> Async[None]:
        """`await directory.remove()`: removes this directory.

        recursive, and what it raises: as for `remove_entry`. The root of a volume is emptied, and
        remains. WHATWG File System: `remove`.
        """
        if self._path:
            return _core.offload(self._remove_directory, self._path, bool(recursive))
        return _core.offload(self._empty_root, bool(recursive))

    def resolve(self, possible_descendant: FileHandle | DirectoryHandle) -> Async[list[str] | None]:
        """`await directory.resolve(handle)`: the list of names from this directory to the entry.

        [] for this directory itself, None for an entry that does not lie in it. Raises TypeError if
        the argument is not a handle. WHATWG File System: `resolve`.
        """
        if not isinstance(possible_descendant, _Handle):
            raise TypeError(f"a handle is wanted, not {type(possible_descendant).__name__}")
        return _done(self._names_to(possible_descendant))

    def entries(self) -> AsyncIterator[tuple[str, FileHandle | DirectoryHandle]]:
        """An asynchronous iterator of (name, handle), in arbitrary order.

        It reads the directory once, at the first step. If the directory is removed meanwhile, the
        next step raises `NotFoundError`. FIFOs, sockets and devices are omitted.
        WHATWG File System: `entries`.
        """
        return self._entries()

    async def keys(self) -> AsyncIterator[str]:
        """An asynchronous iterator of the names in it. WHATWG File System: `keys`."""
        async for name, _ in self._entries():
            yield name

    async def values(self) -> AsyncIterator[FileHandle | DirectoryHandle]:
        """An asynchronous iterator of the handles of its entries. WHATWG File System: `values`."""
        async for _, handle in self._entries():
            yield handle

    def __aiter__(self) -> AsyncIterator[tuple[str, FileHandle | DirectoryHandle]]:
        return self._entries()

    # ---- run on a worker thread

    def _get_file(self, path: str, create: bool) -> FileHandle:
        ops = self._volume._ops
        try:
            with missing(ops, path, create):
                mode = ops.stat(path).st_mode
        except FileNotFoundError:
            if not create:
                raise
            ops.open(path, os.O_RDONLY | os.O_CREAT, 0o666, _core.LOCK_NONE, 0).close()
        else:
            if stat.S_ISDIR(mode):
                raise errors.from_errno(errno.EISDIR, ops.show(path), "get file handle")
        return FileHandle._of(self._volume, path)

    def _get_directory(self, path: str, create: bool) -> DirectoryHandle:
        ops = self._volume._ops
        if create:
            try:
                ops.mkdir(path)
            except FileExistsError:
                pass
        with missing(ops, path, create):
            mode = ops.stat(path).st_mode
        if not stat.S_ISDIR(mode):
            reason = "it is a file"
            raise errors.from_errno(errno.ENOTDIR, ops.show(path), "get directory handle", reason)
        return DirectoryHandle._of(self._volume, path)

    def _remove_entry(self, path: str, recursive: bool) -> None:
        try:
            self._volume._ops.unlink(path)
        except IsADirectoryError:
            self._remove_directory(path, recursive)

    def _remove_directory(self, path: str, recursive: bool) -> None:
        ops = self._volume._ops
        if recursive:
            ops.remove_tree(path)
        else:
            ops.rmdir(path)

    def _empty_root(self, recursive: bool) -> None:
        ops = self._volume._ops
        if not recursive and ops.scan(""):
            reason = "the root is not empty (recursive=True empties it)"
            raise errors.from_errno(errno.ENOTEMPTY, ops.show(""), "remove", reason)
        ops.remove_tree("")

    # ---- internal

    def _below(self, name: str) -> str:
        check_name(name)
        return f"{self._path}/{name}" if self._path else name

    def _names_to(self, handle: _Handle) -> list[str] | None:
        if not self._in_same_volume(handle):
            return None
        if handle._path == self._path:
            return [] if isinstance(handle, DirectoryHandle) else None
        prefix = f"{self._path}/" if self._path else ""
        return handle._path[len(prefix) :].split("/") if handle._path.startswith(prefix) else None

    async def _entries(self) -> AsyncIterator[tuple[str, FileHandle | DirectoryHandle]]:
        ops = self._volume._ops
        for name, kind in await _core.offload(ops.scan, self._path):
            if isinstance(ops, _core.DirectoryOps):
                ops.stat(self._path)  # does not block: the kernel has cached the directory's inode
            else:
                await _core.offload(ops.stat, self._path)
            if kind is not None:
                handle = FileHandle if kind == "file" else DirectoryHandle
                yield name, handle._of(self._volume, self._below(name))


class File:
    """The state of a file at the time of `get_file`: its size, its time, and its bytes.

    The bytes are read from the file later, when `read` or `text` is called. If the file may have
    changed since `get_file`, they raise `NotReadableError` (ESTALE). WHATWG File API: `File`.
    """

    _handle: FileHandle
    _found: os.stat_result
    _generation: int

    def __init__(self) -> None:
        raise TypeError("a File comes from FileHandle.get_file")

    @classmethod
    def _of(cls, handle: FileHandle, found: os.stat_result, generation: int) -> File:
        file = cls.__new__(cls)
        file._handle = handle
        file._found = found
        file._generation = generation
        return file

    @property
    def name(self) -> str:
        """The file's name, without its directory."""
        return self._handle.name

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return self._found.st_size

    @property
    def last_modified(self) -> int:
        """The time of the last change of its bytes, in milliseconds since the epoch."""
        return self._found.st_mtime_ns // 1_000_000

    def read(self) -> Async[bytes]:
        """`await file.read()`: all bytes of the file.

        Raises `NotReadableError` (ESTALE) if the file may have changed since `get_file`,
        `NotFoundError` if it was removed.
        """
        return _core.offload(self._read)

    def text(self) -> Async[str]:
        """`await file.text()`: the bytes decoded as UTF-8; invalid bytes become U+FFFD.

        Raises as `read`. WHATWG File API: `text`.
        """
        return _core.offload(self._text)

    def __repr__(self) -> str:
        return f"<File {self.name!r}, {self.size} bytes>"

    def _read(self) -> bytes:
        ops, path = self._handle._volume._ops, self._handle._path
        opened = ops.open(path, os.O_RDONLY, 0, _core.LOCK_NONE, 0)
        try:
            data = opened.read(self.size, 0)
        finally:
            opened.close()
        if len(data) != self.size or not self._is_unchanged():
            raise errors.from_errno(errno.ESTALE, ops.show(path), "read")
        return data

    def _is_unchanged(self) -> bool:
        ops, path = self._handle._volume._ops, self._handle._path
        return _identity(ops.stat(path)) == _identity(self._found) and (
            ops.generation(path) == self._generation
        )

    def _text(self) -> str:
        return self._read().decode("utf-8", "replace")


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


async def _done(value: T) -> T:
    return value
