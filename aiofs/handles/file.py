"""`File`: the state of a file at the time of `get_file`, and its bytes, whole or in part."""

from __future__ import annotations

import codecs
import errno
import os
from collections.abc import AsyncIterator
from operator import index

from aiofs import _core, errors
from aiofs.handles.entry import Async, Handle
from aiofs.volume_ops import HasOps, VolumeOps

__all__ = ["File"]


# What opening gives if something that is no file, or a link that is not followed, is there now.
_NO_FILE = (errno.EOPNOTSUPP, errno.ELOOP, errno.EXDEV)

_READ_INSIDE = 256 * 1024  # bytes; to copy more would keep the loop from turning
_TEXT_INSIDE = 64 * 1024  # bytes; to decode more, with errors, would keep the loop from turning


class File:
    """The state of a file at the time of `get_file`: its size, its time, and its bytes.

    It keeps nothing open and no lock, and can be read whatever lock the file has. The bytes are
    read from the file later, by `read`, `text` or `stream`: inside the call if the kernel has them
    in memory and they are not many, else on a thread of the engine. If the file
    may have changed since `get_file`, these raise `NotReadableError` (ESTALE); `NotFoundError` if
    it was removed. A change through aiofs is always noticed, also one by another process; another
    change if the file's size or times show it. WHATWG File API: `File` and `Blob`.
    """

    _volume: HasOps
    _path: str
    _found: os.stat_result
    _generation: int
    _start: int
    _end: int

    def __init__(self) -> None:
        raise TypeError("a File comes from FileHandle.get_file")

    @classmethod
    def _of(cls, handle: Handle, found: os.stat_result, generation: int) -> File:
        return cls._part(handle._volume, handle._path, found, generation, 0, found.st_size)

    @classmethod
    def _part(
        cls,
        volume: HasOps,
        path: str,
        found: os.stat_result,
        generation: int,
        start: int,
        end: int,
    ) -> File:
        file = cls.__new__(cls)
        file._volume = volume
        file._path = path
        file._found = found
        file._generation = generation
        file._start = start
        file._end = end
        return file

    @property
    def name(self) -> str:
        """The file's name, without its directory."""
        return self._path.rpartition("/")[2]

    @property
    def size(self) -> int:
        """The size in bytes, of the file or of the slice."""
        return self._end - self._start

    @property
    def last_modified(self) -> int:
        """The time of the last change of the file's bytes, in milliseconds since the epoch."""
        return self._found.st_mtime_ns // 1_000_000

    def slice(self, start: int = 0, end: int | None = None) -> File:
        """The bytes from `start` up to `end`, as a `File`; reads nothing.

        A negative number counts from the end; None is the end; what lies outside is clamped. If
        `end` is not after `start`, the slice is empty. WHATWG File API: `slice`.
        """
        first = self._start + _clamped(index(start), self.size)
        last = self._end if end is None else self._start + _clamped(index(end), self.size)
        span = first, max(first, last)
        return File._part(self._volume, self._path, self._found, self._generation, *span)

    def read(self) -> Async[bytes]:
        """`await file.read()`: all bytes of the file or of the slice.

        WHATWG File API: `arrayBuffer`.
        """
        data = self._cached_read()
        if data is not None:
            return _core.completed(data)
        return _core.offload_in_turn(self._cached_read, 0, None, self._read)

    def text(self) -> Async[str]:
        """`await file.text()`: the bytes decoded as UTF-8.

        A byte-order mark at the start is left out; invalid bytes become U+FFFD. WHATWG File API:
        `text`.
        """
        text = self._cached_text()
        if text is not None:
            return _core.completed(text)
        return _core.offload_in_turn(self._cached_text, 0, None, self._text)

    def stream(self, chunk_size: int = 65536) -> AsyncIterator[bytes]:
        """An asynchronous iterator of the bytes, in pieces of `chunk_size` bytes.

        Only the last piece may be shorter. One piece is in memory at a time; it is read when it is
        asked for. Raises ValueError if `chunk_size` is not positive. WHATWG File API: `stream`.
        """
        if index(chunk_size) <= 0:
            raise ValueError(f"chunk_size must be positive, not {chunk_size}")
        return self._pieces(index(chunk_size))

    def __repr__(self) -> str:
        return f"<File {self.name!r}, {self.size} bytes>"

    async def _pieces(self, chunk_size: int) -> AsyncIterator[bytes]:
        opened: _core.OpenFile | None = None
        start = self._start
        try:
            while True:
                size = min(chunk_size, self._end - start)
                piece = await self._cached_piece(start, size) if opened is None else None
                if piece is None:
                    if opened is None:
                        opened = await _core.offload(self._open)
                    reading = _core.offload(self._read_from, opened, start, size)
                    piece = await reading
                if not piece:
                    return
                start += size
                yield piece
        finally:
            if opened is not None:
                await _core.offload(opened.close)

    # ---- inside the call; None: on a worker thread

    def _cached_read(self) -> bytes | None:
        return self._cached_part(self._start, self.size)

    def _cached_text(self) -> str | None:
        data = self._cached_read() if self.size <= _TEXT_INSIDE else None
        return None if data is None else _decoded(data)

    async def _cached_piece(self, start: int, size: int) -> bytes | None:
        if (turn := _core._turn_for_call()) is not None:
            await turn
        return self._cached_part(start, size)

    def _cached_part(self, start: int, size: int) -> bytes | None:
        if size > _READ_INSIDE:
            return None
        part = _core.cached_part(self._ops, self._path, start, size)
        if part is None:
            return None
        data, found, generation = part
        return data if self._is_as_found(found, generation) else None

    # ---- run on a worker thread

    def _open(self) -> _core.OpenFile:
        try:
            return self._ops.open(self._path, os.O_RDONLY, 0, _core.LOCK_NONE, 0)
        except OSError as error:
            directory = isinstance(self._ops, _core.DirectoryOps)
            if isinstance(error, IsADirectoryError) or (directory and error.errno in _NO_FILE):
                raise self._stale() from None
            raise

    def _read(self) -> bytes:
        opened = self._open()
        try:
            return self._read_from(opened, self._start, self.size)
        finally:
            opened.close()

    def _read_from(self, opened: _core.OpenFile, start: int, size: int) -> bytes:
        data = opened.read(size, start)
        self._check()
        if len(data) != size:
            raise self._stale()
        return data

    def _text(self) -> str:
        return _decoded(self._read())

    def _check(self) -> None:
        """Raises if the file may have changed. Called after its bytes were read."""
        if not self._is_as_found(self._ops.stat(self._path), self._ops.generation(self._path)):
            raise self._stale()

    def _is_as_found(self, found: os.stat_result, generation: int) -> bool:
        """Whether the file has not changed, by its present status.

        A file's times show every change but those that a later `utime` hides; the generation shows
        these. It is shared with some entries of other paths, so it counts only if the time of the
        last change of the inode, which `utime` cannot set, has changed too.
        """
        changed = generation != self._generation
        if changed and isinstance(self._ops, _core.DirectoryOps):
            changed = found.st_ctime_ns != self._found.st_ctime_ns
        return not changed and _identity(found) == _identity(self._found)

    def _stale(self) -> OSError:
        return errors.from_errno(errno.ESTALE, self._ops.show(self._path), "read")

    @property
    def _ops(self) -> VolumeOps:
        return self._volume._ops


def _decoded(data: bytes) -> str:
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")


def _clamped(number: int, size: int) -> int:
    return max(size + number, 0) if number < 0 else min(number, size)


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
