"""`File`: the state of a file at the time of `get_file`, and its bytes."""

from __future__ import annotations

import errno
import os

from aiofs import _core, errors
from aiofs.handles.entry import Async, Handle

__all__ = ["File"]


class File:
    """The state of a file at the time of `get_file`: its size, its time, and its bytes.

    The bytes are read from the file later, when `read` or `text` is called. If the file may have
    changed since `get_file`, they raise `NotReadableError` (ESTALE). WHATWG File API: `File`.
    """

    _handle: Handle
    _found: os.stat_result
    _generation: int

    def __init__(self) -> None:
        raise TypeError("a File comes from FileHandle.get_file")

    @classmethod
    def _of(cls, handle: Handle, found: os.stat_result, generation: int) -> File:
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
