"""`FileSystem`: one namespace over several volumes, with mounts, paths and real descriptors.

A FileSystem owns the descriptors that it opened, and remembers the access handles that it created
(by weak reference), so that its end closes them. `FileSystem._lock` guards its mounts, descriptors
and handles; it is a threading.Lock, because `os`-like calls come from any thread. Locks on entries
belong to the FileSystem's number, `_owner`.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import sys
import threading
import warnings
from asyncio import _get_running_loop as _running_loop
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from weakref import WeakSet

from aiofs import _core, errors
from aiofs._core import AccessHandle, OpenFile, SyncAccessHandle
from aiofs.handles import DirectoryHandle, Opening, missing
from aiofs.volume_ops import HasOps, Mode, VolumeOps
from aiofs.volumes import Volume, entry_stat

if TYPE_CHECKING:
    from typing_extensions import Self

    Path = str | os.PathLike[str]

__all__ = ["FileSystem"]

_owners = itertools.count(1)


class _Mount(NamedTuple):
    at: str  # the mount point in the namespace; "" is "/"
    volume: HasOps
    base: str  # the mounted directory's path in the volume

    @property
    def ops(self) -> VolumeOps:
        return self.volume._ops


class _ResolvedPath(NamedTuple):
    """A resolved path of the namespace.

    If `mount` is None, the path lies in no mount: it is an implicit directory above a mount point,
    or does not exist.
    """

    mount: _Mount | None
    path: str  # in the volume
    namespace: str  # the canonical path in the namespace; "" is "/"
    shown: str  # the path as the program gave it, for errors


class FileSystem:
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
        self._owner = next(_owners)
        self._process = os.getpid()
        self._mounts: dict[str, _Mount] = {}
        self._files: dict[int, OpenFile] = {}
        self._handles: WeakSet[AccessHandle | SyncAccessHandle] = WeakSet()
        self._lock = threading.Lock()

    # ---- mounts

    def mount(self, path: Path, source: Volume | DirectoryHandle) -> None:
        """Mounts a volume, or a directory of a volume, at a path. Compare mount(2).

        path: need not exist. source: a volume, or a DirectoryHandle.
        Raises `InvalidModificationError` (EEXIST) if the path is an entry or a mount point already;
        but "/" may be mounted over other mounts. Raises `NotFoundError` if the source is missing,
        `TypeMismatchError` if it is not a directory, TypeError if it is neither a volume nor a
        DirectoryHandle.
        """
        if isinstance(source, DirectoryHandle):
            mount = _Mount(_canonical(path), source._volume, source._path)
        elif isinstance(source, Volume):
            mount = _Mount(_canonical(path), source, "")
        else:
            raise TypeError(f"a volume or a DirectoryHandle is wanted, not {type(source).__name__}")
        shown = os.fspath(path)
        if not stat.S_ISDIR(mount.ops.stat(mount.base).st_mode):
            raise errors.from_errno(errno.ENOTDIR, mount.ops.show(mount.base), "mount")
        # Without the lock: the stat of a volume written in Python may use this FileSystem.
        exists = bool(mount.at) and mount.at not in self._mounts and self._exists(shown)
        with self._lock:
            if mount.at in self._mounts:
                reason = "a volume is mounted there already"
                raise errors.from_errno(errno.EEXIST, shown, "mount", reason)
            if exists:
                reason = "there is an entry of that name already"
                raise errors.from_errno(errno.EEXIST, shown, "mount", reason)
            self._mounts[mount.at] = mount

    def unmount(self, path: Path) -> None:
        """Removes a mount; the volume stays open. Compare umount(2).

        Raises `NoModificationAllowedError` (EBUSY) while descriptors or handles of this process are
        open in it, or another mount lies below it; OSError EINVAL if the path is no mount point,
        `NotFoundError` if it does not exist.
        """
        at, shown = _canonical(path), os.fspath(path)
        if at not in self._mounts:
            number = errno.EINVAL if self._exists(shown) else errno.ENOENT
            reason = "nothing is mounted there" if number == errno.EINVAL else None
            raise errors.from_errno(number, shown, "unmount", reason)
        with self._lock:
            mount = self._mounts.get(at)
            if mount is None:  # another thread was faster
                raise errors.from_errno(errno.EINVAL, shown, "unmount", "nothing is mounted there")
            below = self._mounts_below(at) if at else []
            held = 0 if below else mount.ops.lock_count(mount.base)
            if below or held:
                reason = f"{_listed(below)} is mounted below it" if below else f"{held} open in it"
                raise errors.from_errno(errno.EBUSY, shown, "unmount", reason)
            del self._mounts[at]

    # ---- descriptors

    def open(self, path: Path, flags: int, mode: int = 0o666) -> int:
        """Opens a file. Returns a descriptor that `os`, `mmap`, C code and `aiofs.aio` can use.

        flags, mode: as for open(2). An open for writing takes the entry's lock before it creates or
        truncates the file; O_RDONLY takes no lock. Close the descriptor with `close`, not with
        `os.close`. A descriptor of a volume that is a Python object is a placeholder: only aiofs's
        own calls accept it.

        Raises `NoModificationAllowedError` (EBUSY) if another holder has the lock,
        `TypeMismatchError` (EISDIR) for a directory, and otherwise the errors of `os.open`.
        """
        _check_flags(flags)
        resolved = self._find(path, "open")
        if flags & os.O_CREAT and _ends_in_slash(path):
            raise errors.from_errno(errno.EISDIR, resolved.shown, "open")
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        lock = _core.LOCK_EXCLUSIVE if writes else _core.LOCK_NONE
        mount = self._mount_of(resolved, "open", directory=errno.EISDIR)
        opened = mount.ops.open(resolved.path, flags, mode, lock, self._owner, resolved.shown)
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

    # ---- the tree

    def stat(self, path: Path) -> os.stat_result:
        """As `os.stat`."""
        resolved = self._find(path, "stat")
        if resolved.mount is None:
            return self._stat_of_implicit_directory(resolved)
        try:
            return resolved.mount.ops.stat(resolved.path, resolved.shown)
        except FileNotFoundError:
            if self._mounts_below(resolved.namespace):
                return self._stat_of_implicit_directory(resolved)
            raise

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        """As `os.mkdir`."""
        resolved = self._find(path, "mkdir")
        if self._has_mount_at_or_below(resolved):
            raise errors.from_errno(errno.EEXIST, resolved.shown, "mkdir")
        self._mount_of(resolved, "mkdir").ops.mkdir(resolved.path, mode, resolved.shown)

    def rmdir(self, path: Path) -> None:
        """As `os.rmdir`; EBUSY for a mount point, and if an entry in it is locked."""
        resolved = self._changeable(path, "rmdir")
        self._mount_of(resolved, "rmdir").ops.rmdir(resolved.path, resolved.shown)

    def unlink(self, path: Path) -> None:
        """As `os.unlink`; EBUSY if another holder has locked the file.

        A file that this FileSystem has open stays readable, writable and locked until it is closed.
        """
        resolved = self._changeable(path, "unlink")
        self._mount_of(resolved, "unlink").ops.unlink(resolved.path, self._owner, resolved.shown)

    def rename(self, source: Path, target: Path) -> None:
        """As `os.rename`; EXDEV between mounts, EBUSY if another holder has locked one of the two.

        Descriptors of this FileSystem stay open, and their lock moves to the new path.
        """
        resolved_source = self._changeable(source, "rename")
        resolved_target = self._changeable(target, "rename")
        mount = self._mount_of(resolved_source, "rename")
        if self._mount_of(resolved_target, "rename") is not mount:
            error = errors.from_errno(errno.EXDEV, resolved_source.shown, "rename across mounts")
            error.filename2 = resolved_target.shown
            raise error
        if _ends_in_slash(source) or _ends_in_slash(target):
            if not stat.S_ISDIR(
                mount.ops.stat(resolved_source.path, resolved_source.shown).st_mode
            ):
                error = errors.from_errno(errno.ENOTDIR, resolved_source.shown, "rename")
                error.filename2 = resolved_target.shown
                raise error
        mount.ops.rename(
            resolved_source.path,
            resolved_target.path,
            self._owner,
            resolved_source.shown,
            resolved_target.shown,
        )

    def truncate(self, path: Path, length: int) -> None:
        """As `os.truncate`; length is in bytes. EBUSY if another holder has locked the file."""
        if not isinstance(length, int):
            raise TypeError(f"length must be an int, not {type(length).__name__}")
        if length >= 2**63:
            raise ValueError(f"length {length} is beyond 2**63 - 1")
        resolved = self._find(path, "truncate")
        mount = self._mount_of(resolved, "truncate", directory=errno.EISDIR)
        mount.ops.truncate(resolved.path, length, self._owner, resolved.shown)

    def listdir(self, path: Path = "/") -> list[str]:
        """As `os.listdir`: the names in arbitrary order, those of mount points included."""
        resolved = self._find(path, "listdir")
        mounted = {
            at[len(resolved.namespace) + 1 :].partition("/")[0]: None
            for at in self._mounts_below(resolved.namespace)
        }
        if resolved.mount is None:
            self._stat_of_implicit_directory(resolved)
            return list(mounted)
        try:
            found = resolved.mount.ops.scan(resolved.path, resolved.shown)
        except FileNotFoundError:
            if not mounted:
                raise
            found = []
        return list({name: None for name, _ in found} | mounted)

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
        self, path: Path, *, mode: Mode | None = None, create: bool = False
    ) -> Opening[AccessHandle]:
        """Opens and locks a file. Gives an `AccessHandle`, by `await` or by `async with`.

        mode: as for `FileHandle.create_access_handle`. create: create an empty file if it is
        missing. Raises as that method does; a bad path or mode is refused at the call.
        """
        mount, resolved, checked = self._for_handle(path, mode)

        def open_it() -> AccessHandle:
            with missing(mount.ops, resolved.path, create):
                handle = mount.ops.access_handle(
                    resolved.path, checked, bool(create), resolved.shown
                )
            self._remember(handle)
            return handle

        return Opening(open_it)

    def create_sync_access_handle(
        self, path: Path, *, mode: Mode | None = None, create: bool = False
    ) -> SyncAccessHandle:
        """As `create_access_handle`, but blocks, and returns a `SyncAccessHandle`."""
        mount, resolved, checked = self._for_handle(path, mode)
        with missing(mount.ops, resolved.path, create):
            handle = mount.ops.sync_access_handle(
                resolved.path, checked, bool(create), resolved.shown
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
        await _core.offload(self._close_all, exception)
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

    def _find(self, path: Path, doing: str) -> _ResolvedPath:
        """Resolves a path: the mount with the longest mount point above it, and the path there."""
        shown, namespace = os.fspath(path), _canonical(path)
        if not shown:
            raise errors.from_errno(errno.ENOENT, shown, doing)
        at = namespace
        while at not in self._mounts and at:
            at = at.rpartition("/")[0]
        mount = self._mounts.get(at)
        if mount is None:
            return _ResolvedPath(None, "", namespace, shown)
        below = namespace[len(at) + 1 :]
        inside = f"{mount.base}/{below}" if mount.base and below else mount.base or below
        resolved = _ResolvedPath(mount, inside, namespace, shown)
        if _ends_in_slash(shown) and inside:
            self._refuse_file(resolved, doing)
        return resolved

    def _refuse_file(self, resolved: _ResolvedPath, doing: str) -> None:
        """Raises ENOTDIR if the path, which ends in '/', is a file."""
        assert resolved.mount is not None
        try:
            mode = resolved.mount.ops.stat(resolved.path, resolved.shown).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            raise errors.from_errno(errno.ENOTDIR, resolved.shown, doing)

    def _mount_of(
        self, resolved: _ResolvedPath, doing: str, directory: int = errno.EROFS
    ) -> _Mount:
        """The mount of a resolved path. Without one, raises the errno `directory` for an implicit
        directory, and ENOENT for a path that does not exist."""
        if resolved.mount is not None:
            return resolved.mount
        implicit = self._mounts_below(resolved.namespace)
        raise errors.from_errno(directory if implicit else errno.ENOENT, resolved.shown, doing)

    def _changeable(self, path: Path, doing: str) -> _ResolvedPath:
        """Resolves a path that may be changed: EBUSY for a mount point, and above one."""
        resolved = self._find(path, doing)
        if resolved.namespace in self._mounts:
            raise errors.from_errno(errno.EBUSY, resolved.shown, doing, "it is a mount point")
        below = self._mounts_below(resolved.namespace)
        if below:
            reason = f"{_listed(below)} is mounted below it"
            raise errors.from_errno(errno.EBUSY, resolved.shown, doing, reason)
        return resolved

    def _has_mount_at_or_below(self, resolved: _ResolvedPath) -> bool:
        return resolved.namespace in self._mounts or bool(self._mounts_below(resolved.namespace))

    def _mounts_below(self, namespace: str) -> list[str]:
        return [at for at in tuple(self._mounts) if at.startswith(namespace + "/")]

    def _stat_of_implicit_directory(self, resolved: _ResolvedPath) -> os.stat_result:
        if not self._mounts_below(resolved.namespace):
            raise errors.from_errno(errno.ENOENT, resolved.shown, "stat")
        return entry_stat("directory", mode=0o555)

    def _exists(self, path: str) -> bool:
        try:
            self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _for_handle(self, path: Path, mode: Mode | None) -> tuple[_Mount, _ResolvedPath, str]:
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


def _listed(paths: list[str]) -> str:
    return ", ".join(map(repr, paths))


def _ends_in_slash(path: Path) -> bool:
    return os.fspath(path).endswith("/")


def _canonical(path: Path) -> str:
    """The canonical path in the namespace: "" for "/" itself, "/a/b" for a path below it."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"a path must be a str, not {type(text).__name__}")
    if "\0" in text:
        raise ValueError(f"a path has no NUL character in it: {text!r}")
    components: list[str] = []
    for component in text.split("/"):
        if component == "..":
            del components[-1:]
        elif component not in ("", "."):
            components.append(component)
    return "".join(f"/{component}" for component in components)
