"""`DirectoryHandle`: the handle of a directory."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator
from functools import partial
from typing import ClassVar

from aiofs import _core, errors
from aiofs.handles.entry import Async, Handle, check_kind, done, missing
from aiofs.handles.file_handle import FileHandle
from aiofs.volume_ops import check_name

__all__ = ["DirectoryHandle"]


class DirectoryHandle(Handle):
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
        path = self._below(name)
        looking = FileHandle, self._volume, path, stat.S_IFREG
        found = _core.cached_entry(*looking)
        if found is not None:
            return _core.completed(found)
        attempt = partial(_core.cached_entry, *looking)
        return _core.offload_in_turn(attempt, 0, None, self._get_file, path, bool(create))

    def get_directory_handle(self, name: str, *, create: bool = False) -> Async[DirectoryHandle]:
        """`await directory.get_directory_handle(name)`: the handle of the directory `name` in it.

        create: create the directory if it is missing. Raises as `get_file_handle`, but
        `TypeMismatchError` if it is a file. WHATWG File System: `getDirectoryHandle`.
        """
        path = self._below(name)
        looking = DirectoryHandle, self._volume, path, stat.S_IFDIR
        found = _core.cached_entry(*looking)
        if found is not None:
            return _core.completed(found)
        attempt = partial(_core.cached_entry, *looking)
        return _core.offload_in_turn(attempt, 0, None, self._get_directory, path, bool(create))

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
        remains. Of a symbolic link to a directory only the link is removed.
        WHATWG File System: `remove`.
        """
        if self._path:
            return _core.offload(self._remove_itself, bool(recursive))
        return _core.offload(self._empty_root, bool(recursive))

    def resolve(self, possible_descendant: FileHandle | DirectoryHandle) -> Async[list[str] | None]:
        """`await directory.resolve(handle)`: the list of names from this directory to the entry.

        [] for this directory itself, None for an entry that does not lie in it. Raises TypeError if
        the argument is not a handle. WHATWG File System: `resolve`.
        """
        if not isinstance(possible_descendant, Handle):
            raise TypeError(f"a handle is wanted, not {type(possible_descendant).__name__}")
        return done(self._names_to(possible_descendant))

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
                check_kind(ops, path, "file", "get file handle")
        except FileNotFoundError:
            if not create:
                raise
            ops.open(path, os.O_RDONLY | os.O_CREAT, 0o666, _core.LOCK_NONE, 0).close()
        return FileHandle._of(self._volume, path)

    def _get_directory(self, path: str, create: bool) -> DirectoryHandle:
        ops = self._volume._ops
        try:
            with missing(ops, path, create):
                check_kind(ops, path, "directory", "get directory handle")
        except FileNotFoundError:
            if not create:
                raise
            try:
                ops.mkdir(path)
            except FileExistsError:
                check_kind(ops, path, "directory", "get directory handle")
        return DirectoryHandle._of(self._volume, path)

    def _remove_entry(self, path: str, recursive: bool) -> None:
        check_kind(self._volume._ops, path, "any", "remove")
        try:
            self._volume._ops.unlink(path)
        except IsADirectoryError:
            self._remove_directory(path, recursive)

    def _remove_itself(self, recursive: bool) -> None:
        ops = self._volume._ops
        check_kind(ops, self._path, "directory", "remove")
        if stat.S_ISLNK(ops.lstat(self._path).st_mode):
            ops.unlink(self._path)
        else:
            self._remove_directory(self._path, recursive)

    def _remove_directory(self, path: str, recursive: bool) -> None:
        ops = self._volume._ops
        if recursive:
            ops.remove_tree(path)
        else:
            ops.rmdir(path)

    def _empty_root(self, recursive: bool) -> None:
        ops = self._volume._ops
        if not recursive and ops.scan(""):
            if ops.locked_below(""):
                raise errors.from_errno(errno.EBUSY, ops.show(""), "remove")
            reason = "the root is not empty (recursive=True empties it)"
            raise errors.from_errno(errno.ENOTEMPTY, ops.show(""), "remove", reason)
        ops.remove_tree("")

    # ---- internal

    def _below(self, name: str) -> str:
        check_name(name)
        return f"{self._path}/{name}" if self._path else name

    def _names_to(self, handle: Handle) -> list[str] | None:
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
                ops.check_exists(self._path)  # does not block: the directory's inode is cached
            else:
                await _core.offload(ops.stat, self._path)
            if kind is not None:
                handle = FileHandle if kind == "file" else DirectoryHandle
                yield name, handle._of(self._volume, self._below(name))
