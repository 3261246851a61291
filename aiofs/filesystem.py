"""`FileSystem`: one namespace over several volumes, with mounts, paths and real descriptors.

A FileSystem owns the descriptors that it opened, and remembers the access handles that it created
(by weak reference), so that its end closes them. `FileSystem._lock` guards its mounts, descriptors
and handles; it is a threading.Lock, because `os`-like calls come from any thread. Locks on entries
belong to the FileSystem's number, `_owner`.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import warnings
from asyncio import _get_running_loop as _running_loop
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakSet

from aiofs import _core, errors
from aiofs._core import AccessHandle, OpenFile, SyncAccessHandle
from aiofs.handles import DirectoryHandle, Opening, missing
from aiofs.namespace import Mount, ResolvedPath, ends_in_slash
from aiofs.tree_calls import TreeCalls
from aiofs.volume_ops import Mode

if TYPE_CHECKING:
    from typing_extensions import Self

    Path = str | os.PathLike[str]

__all__ = ["FileSystem"]


class FileSystem(TreeCalls):
    """A namespace of volumes, with calls as in `os`.

    The calls are synchronous and can block, as those of `os` do: on an event loop use handles.
    Paths begin at "/"; a relative path is relative to "/", too. "." and ".." are resolved inside
    the namespace, and "/.." is "/". The directories above a mount point exist implicitly.

    A FileSystem is one holder of locks. An open for writing locks the entry, once for all
    descriptors that this FileSystem has of it. Another FileSystem or process, and every access
    handle, is refused meanwhile (EBUSY). A FileSystem is a context manager, and an asynchronous
    one, that closes the descriptors and the handles that it opened. If an exception leaves the
    block, the changes of handles in the modes exclusive and shared are discarded.
    """

    def __init__(self) -> None:
        super().__init__()
        self._process = os.getpid()
        self._files: dict[int, OpenFile] = {}
        self._handles: WeakSet[AccessHandle | SyncAccessHandle] = WeakSet()

    # ---- descriptors

    def open(self, path: Path, flags: int, mode: int = 0o666, *, wait: float | None = None) -> int:
        """Opens a file. Returns a descriptor that `os`, `mmap`, C code and `aiofs.aio` can use.

        flags, mode: as for open(2). An open for writing takes the entry's lock before it creates or
        truncates the file; O_RDONLY takes no lock. Close the descriptor with `close`, not with
        `os.close`. wait: how many seconds to wait for the lock, as for
        `FileHandle.create_access_handle`. A descriptor of a volume that is a Python object is a
        placeholder: only aiofs's own calls accept it.

        Raises `NoModificationAllowedError` (EBUSY) if another holder has the lock,
        `TypeMismatchError` (EISDIR) for a directory, and otherwise the errors of `os.open`.
        """
        _check_flags(flags)
        resolved = self._find(path, "open", creates=bool(flags & os.O_CREAT))
        if ends_in_slash(path):
            flags &= ~os.O_NOFOLLOW
            if flags & os.O_CREAT:
                self._refuse_to_create(resolved, "open")
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        lock = _core.LOCK_EXCLUSIVE if writes else _core.LOCK_NONE
        mount = self._mount_of(resolved, "open", directory=errno.EISDIR)
        opened = _core.call_waiting(
            wait, mount.ops.open, resolved.path, flags, mode, lock, self._owner, resolved.shown
        )
        with self._lock:
            descriptor = opened.fileno()
            # If the program closed an earlier descriptor of this number with os.close, this
            # replaces its OpenFile, whose finalizer releases the lock.
            self._files[descriptor] = opened
        return descriptor

    def close(self, fd: int) -> None:
        """Closes a descriptor that `open` returned. Compare close(2).

        The lock is released when the last descriptor of the entry is closed and the last request in
        flight is terminal. Raises `InvalidStateError` (EBADF) if the descriptor is not one of this
        FileSystem, or was closed before, by `os.close` too.
        """
        with self._lock:
            opened = self._files.pop(fd, None)
        if opened is None:
            if not isinstance(fd, int):
                raise TypeError(f"a descriptor is an int, not {type(fd).__name__}")
            reason = f"descriptor {fd} is not of this FileSystem, or closed already"
            raise errors.from_errno(errno.EBADF, fd, "close", reason)
        opened.close()

    # ---- handles

    def directory(self, path: Path = "/") -> DirectoryHandle:
        """Returns the handle of a directory.

        The handle belongs to the volume, not to the namespace: it does not see mounts below it.
        Raises `NotFoundError` if the directory is missing or only exists implicitly above a mount
        point, and `TypeMismatchError` for a file.
        """
        resolved = self._find(path, "directory")
        mount = self._mount_of(resolved, "directory", directory=errno.ENOENT)
        if not stat.S_ISDIR(mount.ops.stat(resolved.path, resolved.shown).st_mode):
            raise errors.from_errno(errno.ENOTDIR, resolved.shown, "directory")
        return DirectoryHandle._of(mount.volume, resolved.path)

    def create_access_handle(
        self,
        path: Path,
        *,
        mode: Mode | None = None,
        create: bool = False,
        wait: float | None = None,
    ) -> Opening[AccessHandle] | _core.Opened[AccessHandle]:
        """Opens and locks a file. Gives an `AccessHandle`, by `await` or by `async with`.

        mode, wait: as for `FileHandle.create_access_handle`. create: create an empty file if it is
        missing. Raises as that method does; a bad path or mode is refused at the call.
        """
        mount, resolved, checked = self._for_handle(path, mode)

        key = (mount.ops, resolved.path)
        if wait is not None:
            _core.deadline_of(wait)  # refuses a bad one

        def attempt() -> AccessHandle | None:
            opened = _core.cached_access_handle(
                mount.ops, resolved.path, checked, key, resolved.shown
            )
            if opened is not None:
                self._remember(opened)
            return opened

        opened = attempt()
        if opened is not None:
            return _core.opened(opened)

        def open_it() -> AccessHandle:
            with missing(mount.ops, resolved.path, create):
                handle = mount.ops.access_handle(
                    resolved.path, checked, bool(create), resolved.shown
                )
            self._remember(handle)
            return handle

        return Opening(open_it, wait=wait, key=key, attempt=attempt)

    def create_sync_access_handle(
        self,
        path: Path,
        *,
        mode: Mode | None = None,
        create: bool = False,
        wait: float | None = None,
    ) -> SyncAccessHandle:
        """As `create_access_handle`, but blocks, and returns a `SyncAccessHandle`."""
        mount, resolved, checked = self._for_handle(path, mode)
        with missing(mount.ops, resolved.path, create):
            handle = _core.call_waiting(
                wait,
                mount.ops.sync_access_handle,
                resolved.path,
                checked,
                bool(create),
                resolved.shown,
            )
        self._remember(handle)
        return handle

    # ---- the end

    def __repr__(self) -> str:
        mounts = [f"{at or '/'!r}: {mount.volume!r}" for at, mount in self._mounts.items()]
        return f"<FileSystem of {{{', '.join(mounts)}}}, descriptors {sorted(self._files)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a FileSystem cannot be copied or pickled: its descriptors and locks are this process's"
        )

    def __del__(self) -> None:
        # A forked child's copy owns nothing: the descriptors' locks are the parent's.
        if not getattr(self, "_files", None) or self._process != os.getpid():
            return
        files, self._files = self._files, {}  # a recorded warning keeps self, but not the locks
        if not sys.is_finalizing():
            message = f"unclosed FileSystem with open descriptors {sorted(files)}"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if _running_loop() is not None:
            self._start_closing_handles(exception)
        self._close_all(exception)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        closing = self._start_closing_handles(exception)
        try:
            await _core.offload(self._close_all, exception)
        finally:
            closing += self._start_closing_handles(exception)  # whose opening ended meanwhile
            for operation in closing:
                await operation

    def _start_closing_handles(
        self, exception: BaseException | None
    ) -> list[Coroutine[Any, Any, None]]:
        """Starts to close the AccessHandles; the returned operations run whether awaited or not."""
        with self._lock:
            handles = [handle for handle in self._handles if isinstance(handle, AccessHandle)]
            self._handles -= WeakSet(handles)
        return [
            handle.abort() if exception and _core.is_atomic(handle.mode) else handle.close()
            for handle in handles
        ]

    def _close_all(self, exception: BaseException | None) -> None:
        with self._lock:
            files, self._files = self._files, {}
            handles = [handle for handle in self._handles if isinstance(handle, SyncAccessHandle)]
            self._handles -= WeakSet(handles)
            self._mounts.clear()
        first: OSError | None = None
        closables: list[SyncAccessHandle | OpenFile] = [*handles, *files.values()]
        for closable in closables:
            try:
                if (
                    exception
                    and not isinstance(closable, OpenFile)
                    and _core.is_atomic(closable.mode)
                ):
                    closable.abort()
                else:
                    closable.close()
            except OSError as error:
                first = first or error
                if error.errno == errno.EDEADLK and isinstance(closable, SyncAccessHandle):
                    self._remember(closable)  # it is open yet: the next time closes it
        if first is not None:
            raise first

    def _remember(self, handle: AccessHandle | SyncAccessHandle) -> None:
        with self._lock:
            self._handles.add(handle)

    # ---- paths

    def _for_handle(self, path: Path, mode: Mode | None) -> tuple[Mount, ResolvedPath, str]:
        resolved = self._find(path, "create access handle")
        mount = self._mount_of(resolved, "create access handle", directory=errno.EISDIR)
        name, _, _ = _core.mode_of_handle(mount.volume.default_mode if mode is None else mode)
        return mount, resolved, name


_FLAGS = {
    "r": "os.O_RDONLY",
    "r+": "os.O_RDWR",
    "w": "os.O_WRONLY | os.O_CREAT | os.O_TRUNC",
    "x": "os.O_WRONLY | os.O_CREAT | os.O_EXCL",
    "a": "os.O_WRONLY | os.O_CREAT | os.O_APPEND",
}


def _check_flags(flags: object) -> None:
    if not isinstance(flags, int):
        like = _FLAGS.get(flags.rstrip("bt")) if isinstance(flags, str) else None
        advice = f": {like} for {flags!r}" if like else ""
        raise TypeError(f"flags must be an int, as of os.open, not {flags!r}{advice}")
