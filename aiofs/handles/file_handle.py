"""`FileHandle`: the handle of a file."""

from __future__ import annotations

import stat
from typing import ClassVar

from aiofs import _core
from aiofs._core import AccessHandle, SyncAccessHandle
from aiofs.handles.entry import Async, Handle, check_kind
from aiofs.handles.file import File
from aiofs.handles.opening import Opening
from aiofs.handles.opens_file import OpensFile
from aiofs.handles.writable import WritableFileStream, WritableMode, lock_of_mode
from aiofs.volume_ops import Mode

__all__ = ["FileHandle"]


class FileHandle(OpensFile, Handle):
    """The handle of a file: its path in a volume. It keeps nothing open and no lock.

    `DirectoryHandle.get_file_handle` returns it. WHATWG File System: `FileSystemFileHandle`.
    """

    kind: ClassVar[str] = "file"

    def get_file(self) -> Async[File]:
        """`await handle.get_file()`: a `File`, the present state of the file. Takes no lock.

        Raises `NotFoundError` if the file is missing, `TypeMismatchError` if it is a directory now.
        WHATWG File System: `getFile`.
        """
        known = _core.cached_snapshot(self._volume._ops, self._path)
        if known is not None and stat.S_ISREG(known[0].st_mode):
            return _core.completed(File._of(self, *known))
        return _core.offload(self._snapshot)

    def create_access_handle(
        self, *, mode: Mode | None = None, wait: float | None = None
    ) -> Opening[AccessHandle] | _core.Opened[AccessHandle]:
        """Opens and locks the file. Gives an `AccessHandle`, by `await` or by `async with`.

        mode: "in-place" (the same as "readwrite"), "exclusive", "shared", "read-only" or
        "readwrite-unsafe"; None is the volume's default. In the modes "exclusive" and "shared" the
        handle reads and writes a copy of the file, which replaces the file at its close. wait: how
        many seconds to wait for the lock, in turn with all others who wait, in any process; None
        refuses at once, `math.inf` waits without a limit. Raises `NoModificationAllowedError`
        (EBUSY) if another holder has an incompatible lock, or others wait for it, and at the end of
        that time; `NotFoundError` if the file is missing; `ValueError` for an unknown mode or a
        negative wait. WHATWG File System: `createSyncAccessHandle`, made asynchronous.
        """
        checked = self._checked_mode(mode)
        ops, path = self._volume._ops, self._path
        key = (ops, path)
        if wait is not None:
            _core.deadline_of(wait)  # refuses a bad one
        opened = _core.cached_access_handle(ops, path, checked, key)
        if opened is not None:
            return _core.opened(opened)
        return Opening(ops.access_handle, path, checked, False, wait=wait, key=key)

    def create_sync_access_handle(
        self, *, mode: Mode | None = None, wait: float | None = None
    ) -> SyncAccessHandle:
        """As `create_access_handle`, but blocks, and returns a `SyncAccessHandle`."""
        checked = self._checked_mode(mode)
        open_it = self._volume._ops.sync_access_handle
        return _core.call_waiting(wait, open_it, self._path, checked, False)

    def create_writable(
        self,
        *,
        keep_existing_data: bool = False,
        mode: WritableMode = "siloed",
        wait: float | None = None,
    ) -> Opening[WritableFileStream]:
        """Locks the file. Gives a `WritableFileStream`, by `await` or by `async with`.

        keep_existing_data: begin with the bytes of the file; else the stream begins empty, and its
        close replaces the file even if nothing was written. mode: "siloed" shares the file with
        other siloed streams and with access handles in mode "shared", and the last close wins;
        "exclusive" is alone. wait: as for `create_access_handle`. Raises
        `NoModificationAllowedError` (EBUSY) if another holder has an incompatible lock, or others
        wait for it, and at the end of that time; `NotFoundError` if the file is missing;
        `ValueError` for an unknown mode or a negative wait. WHATWG File System: `createWritable`.
        """
        lock, keep = lock_of_mode(mode), bool(keep_existing_data)
        key = (self._volume._ops, self._path)
        return Opening(self._open_writable, lock, keep, wait=wait, key=key)

    def remove(self) -> Async[None]:
        """`await handle.remove()`: removes the file.

        Raises `NoModificationAllowedError` (EBUSY) if the file is locked, `NotFoundError` if it is
        missing. WHATWG File System: `remove`.
        """
        return _core.offload(self._remove)

    def _checked_mode(self, mode: Mode | None) -> str:
        name, _, _ = _core.mode_of_handle(self._volume.default_mode if mode is None else mode)
        return name

    def _open_writable(self, lock: int, keep: bool) -> WritableFileStream:
        return WritableFileStream._of(self._volume._ops.writable(self._path, lock, keep))

    def _remove(self) -> None:
        ops = self._volume._ops
        check_kind(ops, self._path, "file", "remove")
        ops.unlink(self._path)

    def _snapshot(self) -> File:
        ops = self._volume._ops
        found = ops.snapshot(self._path)
        check_kind(ops, self._path, "file", "get file", found)
        return File._of(self, found, ops.generation(self._path))
