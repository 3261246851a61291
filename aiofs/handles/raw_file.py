"""The raw file below a file object that `FileHandle.open` opens, and the stack of `io` above it.

It reads by the descriptor, as `io.FileIO`; in a volume that is a Python object, whose descriptors
are placeholders, by calls of the engine. What changes the file goes through the engine in any case:
so changes count in the quota, make `File`s stale, and are synced at the close.

Ownership. The raw file owns a HeldFile, which owns the open file, with its descriptor and its lock.
The close of the raw file, or its finalizer, ends the HeldFile.

Locking. Calls of one file object come one after the other. `end` may be called by two threads: one
of them gets the open file, under the GIL.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from aiofs import _core
from aiofs._core import OpenFile, SyncAccessHandle
from aiofs.volume_ops import VolumeOps

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["CreatedFile", "HeldFile", "stack_of"]


class CreatedFile:
    """An empty file that an atomic opening has created. It goes if the opening commits nothing.

    owner: of the lock, which is held.
    """

    def __init__(self, ops: VolumeOps, path: str, owner: int) -> None:
        self._ops = ops
        self._path = path
        self._owner = owner

    def remove(self) -> None:
        """Removes the file. It stays if that fails, or if a symbolic link led to it."""
        with suppress(OSError):
            found = self._ops.lstat(self._path)
            if stat.S_ISREG(found.st_mode) and found.st_size == 0:
                self._ops.unlink(self._path, self._owner)

    @contextmanager
    def removed_on_error(self) -> Iterator[None]:
        """The body commits and gives up the lock. If that fails, the lock is still held here."""
        with ExitStack() as locked:
            with suppress(OSError):
                arguments = (self._path, os.O_RDWR, 0, _core.LOCK_EXCLUSIVE, self._owner)
                locked.callback(self._ops.open(*arguments).close)
            try:
                yield
            except BaseException:
                self.remove()
                raise


class HeldFile:
    """An open file of a volume, with its lock, and what its end does.

    opened: an `OpenFile` without a lock, which is only read; or a locked `SyncAccessHandle`.
    atomic: the end discards the changes unless `commit` was called before. created: for an atomic
    one, the file that the opening has created. sync: for a durable file, what is to be done after
    a flush and the close; None if the close alone makes the file durable.
    """

    def __init__(
        self,
        opened: OpenFile | SyncAccessHandle,
        path: str,
        *,
        atomic: bool = False,
        created: CreatedFile | None = None,
        sync: Callable[[], None] | None = None,
    ) -> None:
        self.path = path
        self._opened: OpenFile | SyncAccessHandle | None = opened
        self._atomic = self._discards = atomic
        self._swallows = False
        self._dropped = False
        self._created = created
        self._sync = sync
        self._process = os.getpid()

    def __del__(self) -> None:
        self.drop()
        self.end()

    # ---- the bytes

    def _use(self) -> Any:
        if self._opened is None:
            raise ValueError("I/O operation on closed file")
        return self._opened

    def fileno(self) -> int:
        return int(self._use().fileno())

    def get_size(self) -> int:
        return int(self._use().get_size())

    def read(self, buffer: Buffer, at: int) -> int:
        opened = self._use()
        if isinstance(opened, SyncAccessHandle):
            return opened.read(buffer, at=at)
        with memoryview(buffer).cast("B") as view:
            data = opened.read(view.nbytes, at)
            view[: len(data)] = data
        return len(data)

    def write(self, data: Buffer, at: int) -> int:
        if self._swallows:
            return memoryview(data).nbytes
        return int(self._use().write(data, at=at))

    def truncate(self, size: int) -> None:
        self._use().truncate(size)

    # ---- the end; the first two are an `aiofs.files.replacing.Ending`

    def commit(self, descriptor: int) -> None:
        """The end is to commit."""
        self._discards = False

    def discard(self) -> None:
        """Unless it is to commit, what is written from now on is lost: the buffers of `io`."""
        self._swallows = self._discards

    def drop(self) -> None:
        """The end is not to wait for the disk."""
        self._dropped = True

    def warn(self, source: object) -> None:
        """A ResourceWarning for a file object that is dropped and not closed."""
        if self._process == os.getpid() and not sys.is_finalizing():
            message = f"unclosed file of {self.path!r}"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=source)

    def end(self) -> None:
        """Closes, and releases the lock. The second call does nothing."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        if isinstance(opened, OpenFile) or self._process != os.getpid():
            opened.close()
        elif self._discards:
            self._end_without_changes(opened)
        elif self._dropped:
            opened._drop()
        else:
            self._end_with_changes(opened)

    def _end_without_changes(self, opened: SyncAccessHandle) -> None:
        if self._created is not None:
            self._created.remove()
        if self._dropped:
            opened._drop()
        else:
            opened.abort()

    def _end_with_changes(self, opened: SyncAccessHandle) -> None:
        try:
            if self._sync is not None:
                opened.flush()
        except BaseException:
            if self._atomic:
                self._end_without_changes(opened)
            else:
                opened.close()
            raise
        with nullcontext() if self._created is None else self._created.removed_on_error():
            opened.close()
        if self._sync is not None:
            self._sync()


class _ChangesByEngine:
    """The methods of both kinds of raw files that do not go to the descriptor."""

    _held: HeldFile
    _appends: bool

    if TYPE_CHECKING:
        closed: bool

        def seek(self, offset: int, whence: int = 0, /) -> int: ...
        def tell(self) -> int: ...
        def writable(self) -> bool: ...

    def write(self, data: Any, /) -> int:
        _check_buffer(data)
        self._check_writable()
        at = self._held.get_size() if self._appends else self.tell()
        count = self._held.write(data, at)
        self.seek(at + count)
        return count

    def truncate(self, size: int | None = None, /) -> int:
        self._check_writable()
        size = self.tell() if size is None else size
        self._held.truncate(size)
        return size

    def close(self) -> None:
        if self.closed:
            return
        if getattr(self, "_finalizing", False):  # `io` sets it
            self._dealloc_warn(self)
        try:
            super().close()  # type: ignore[misc]
        finally:
            self._held.end()

    def _dealloc_warn(self, source: object) -> None:
        """The finalizer of what is above calls it before the close."""
        if not self.closed:
            self._held.drop()
            self._held.warn(source)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _check_writable(self) -> None:
        self._check_open()
        if not self.writable():
            raise io.UnsupportedOperation("File not open for writing")


def _check_buffer(data: object) -> None:
    try:
        memoryview(data).release()  # type: ignore[arg-type]
    except TypeError:
        message = f"a bytes-like object is required, not {type(data).__name__!r}"
        raise TypeError(message) from None


class _DescriptorFile(_ChangesByEngine, io.FileIO):
    """A raw file that reads by a descriptor, which its HeldFile closes."""

    def __init__(self, held: HeldFile, mode: str) -> None:
        self._held = held
        self._appends = "a" in mode
        super().__init__(held.fileno(), mode, closefd=False)
        self.name = held.path


class _VolumeFile(_ChangesByEngine, io.RawIOBase):
    """A raw file in a volume that is a Python object."""

    def __init__(self, held: HeldFile, mode: str) -> None:
        super().__init__()
        self._held = held
        self._appends = "a" in mode
        self._reads = "r" in mode or "+" in mode
        self._writes = mode != "r"
        self._position = held.get_size() if self._appends else 0
        self.name = held.path
        first = "r" if mode == "w+" else mode[0]
        self.mode = f"{first}b+" if "+" in mode else f"{first}b"  # as that of io.FileIO

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name!r} mode={self.mode!r}>"

    def fileno(self) -> int:
        """A placeholder, which only aiofs's own calls accept."""
        return self._held.fileno()

    def readable(self) -> bool:
        self._check_open()
        return self._reads

    def writable(self) -> bool:
        self._check_open()
        return self._writes

    def seekable(self) -> bool:
        self._check_open()
        return True

    def read(self, size: int | None = -1, /) -> bytes | None:
        return super().read(-1 if size is None else size)

    def readinto(self, buffer: Buffer, /) -> int:
        if not self.readable():
            raise io.UnsupportedOperation("File not open for reading")
        count = self._held.read(buffer, self._position)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check_open()
        if whence == os.SEEK_SET:
            position = offset
        elif whence == os.SEEK_CUR:
            position = self._position + offset
        else:
            position = self._seek_in_size(offset, whence)
        if position < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = position
        return position

    def _seek_in_size(self, offset: int, whence: int) -> int:
        size = self._held.get_size()
        if whence == os.SEEK_END:
            return size + offset
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if not 0 <= offset < size:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return offset if whence == os.SEEK_DATA else size  # the volume tells of no holes

    def tell(self) -> int:
        self._check_open()
        return self._position


def stack_of(
    held: HeldFile,
    on_disk: bool,
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> Any:
    """An object of `io` over an open file, as the built-in `open` makes it. It owns `held`.

    on_disk: the volume is a directory. If it raises, `held` is at its end.
    """
    kind = "".join(letter for letter in "rwax+" if letter in mode)
    raw: Any = None
    try:
        raw = _DescriptorFile(held, kind) if on_disk else _VolumeFile(held, kind)
        if buffering == 0:
            return raw
        buffer = _buffer_kind(kind)(raw, _buffer_size(raw, buffering))
        if "b" in mode:
            return buffer
        text = io.TextIOWrapper(buffer, encoding, errors, newline, buffering == 1)
        text.mode = mode  # type: ignore[misc]
        return text
    except BaseException:
        held.drop()
        if raw is not None:
            raw.close()
        held.end()
        raise


def _buffer_kind(mode: str) -> Any:
    if "+" in mode:
        return io.BufferedRandom
    return io.BufferedReader if mode == "r" else io.BufferedWriter


def _buffer_size(raw: Any, buffering: int) -> int:
    """As the built-in `open` chooses it."""
    if buffering > 1:
        return buffering
    size: int = getattr(raw, "_blksize", io.DEFAULT_BUFFER_SIZE)
    size = size if size > 1 else io.DEFAULT_BUFFER_SIZE
    return max(min(size, 8 << 20), io.DEFAULT_BUFFER_SIZE) if sys.version_info >= (3, 14) else size
