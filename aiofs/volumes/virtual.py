"""`VolumeOps` for a volume that is a Python object: calls its methods under aiofs's locks.

The volume and its locks exist in this process only. A call first takes the locks that it needs, and
releases them when it returns; the lock of an opened file belongs to that file. Renaming an open
file is refused (EBUSY), because a volume has no way to tell its open file the new path.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import Any

from aiofs import _core, errors
from aiofs._core import AccessHandle, Names, OpenFile, SyncAccessHandle, Writable, volume_call
from aiofs.volume_ops import Kind, check_name
from aiofs.volumes.methods import VolumeMethods
from aiofs.volumes.virtual_swap import Commit, anonymous_file, copy_from, is_swap_name


class VirtualOps:
    """See `aiofs.volume_ops.VolumeOps`."""

    def __init__(self, volume: VolumeMethods) -> None:
        self._volume: VolumeMethods | None = volume
        self._names = Names()
        self._identity = os.urandom(16).hex()

    def _use(self, shown: str | None) -> VolumeMethods:
        if self._volume is None:
            raise errors.from_errno(errno.EBADF, shown, "use a closed volume")
        return self._volume

    # ---- opening

    def open(
        self, path: str, flags: int, mode: int, lock: int, owner: int, shown: str | None = None
    ) -> OpenFile:
        shown = path if shown is None else shown
        if flags & os.O_CREAT and flags & os.O_EXCL:
            self._refuse_existing(path, shown)
        guard: AbstractContextManager[object] = nullcontext()
        if lock == _core.LOCK_NONE and flags & os.O_TRUNC:
            guard = self._lock(path, owner, shown)
        with guard, self._names.lock(path, lock, owner, shown) as lock_ref:
            with self._found(path, flags, shown) as (volume, file):
                return self._names.open(lock_ref, volume, file, flags, shown)

    def _refuse_existing(self, path: str, shown: str) -> None:
        """Raises EEXIST if there is an entry: before the lock, so that a locked one is no EBUSY."""
        volume = self._use(shown)
        with _translated(shown, "open"):
            try:
                volume.stat(path)
            except OSError:  # what opens the file finds out what is wrong
                return
            raise OSError(errno.EEXIST, "")

    def open_locked(
        self, path: str, flags: int, atomic: bool, owner: int, shown: str | None = None
    ) -> tuple[SyncAccessHandle, bool]:
        shown = path if shown is None else shown
        must = bool(flags & os.O_CREAT and flags & os.O_EXCL)
        if must:
            self._refuse_existing(path, shown)
        lock = _core.LOCK_ATOMIC if atomic else _core.LOCK_EXCLUSIVE
        with self._names.lock(path, lock, owner, shown) as lock_ref:
            created = bool(flags & os.O_CREAT) and self._create(path, must, shown)
            try:
                if atomic:
                    empty = bool(flags & os.O_TRUNC)
                    swap = self._swap(path, False, not empty, shown)
                    handle = self._names.sync_swap_handle(
                        lock_ref, *swap, "exclusive", shown, empty
                    )
                    return handle, created
                flags &= ~(os.O_CREAT | os.O_EXCL)
                with self._found(path, flags, shown) as found:
                    handle = self._names.sync_access_handle(
                        lock_ref, *found, flags, "in-place", shown
                    )
                    return handle, created
            except BaseException:
                if created:
                    with suppress(Exception):
                        self._use(shown).unlink(path)
                raise

    def _create(self, path: str, must: bool, shown: str) -> bool:
        """Creates an empty file. False: there is one; EEXIST if it `must` be created."""
        volume = self._use(shown)
        with _translated(shown, "open"):
            if not path:
                raise OSError(errno.EISDIR, "")
            try:
                file = volume.open_file(path, create=True, exclusive=True)
            except OSError as error:
                if must or error.errno != errno.EEXIST:
                    raise
                return False
            volume_call(volume.close_file, file)
            return True

    def sync_access_handle(
        self, path: str, mode: str, create: bool, shown: str | None = None
    ) -> SyncAccessHandle:
        shown = path if shown is None else shown
        name, lock, flags = _core.mode_of_handle(mode)
        with self._names.lock(path, lock, 0, shown) as lock_ref:
            if _core.is_atomic(name):
                swap = self._swap(path, create, True, shown)
                return self._names.sync_swap_handle(lock_ref, *swap, name, shown)
            with self._found(path, flags | os.O_CREAT * create, shown) as (volume, file):
                return self._names.sync_access_handle(lock_ref, volume, file, flags, name, shown)

    def access_handle(
        self, path: str, mode: str, create: bool, shown: str | None = None
    ) -> AccessHandle:
        shown = path if shown is None else shown
        name, lock, flags = _core.mode_of_handle(mode)
        with self._names.lock(path, lock, 0, shown) as lock_ref:
            if _core.is_atomic(name):
                swap = self._swap(path, create, True, shown)
                return self._names.swap_handle(lock_ref, *swap, name, shown)
            with self._found(path, flags | os.O_CREAT * create, shown) as (volume, file):
                return self._names.access_handle(lock_ref, volume, file, flags, name, shown)

    def writable(self, path: str, lock: int, keep: bool, shown: str | None = None) -> Writable:
        shown = path if shown is None else shown
        with self._names.lock(path, lock, 0, shown) as lock_ref:
            swap = self._swap(path, False, keep, shown)
            return self._names.writable(lock_ref, *swap, not keep, shown)

    def _swap(self, path: str, create: bool, copy: bool, shown: str) -> tuple[int, Commit]:
        """A file that stands for the entry's until the commit, and the commit."""
        volume = self._use(shown)
        descriptor = anonymous_file()
        try:
            with _translated(shown, "open"):
                if not path:
                    raise OSError(errno.EISDIR, "")
                file = volume.open_file(path, create=create, exclusive=False)
                try:
                    if copy:
                        copy_from(volume, file, descriptor)
                finally:
                    volume_call(volume.close_file, file)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, Commit(volume, path)

    @contextmanager
    def _found(self, path: str, flags: int, shown: str) -> Iterator[tuple[VolumeMethods, Any]]:
        """Opens the volume's file for the body, which adopts it; closes it if the body raises."""
        volume = self._use(shown)
        create = bool(flags & os.O_CREAT)
        with _translated(shown, "open"):
            if not path:
                raise OSError(errno.EISDIR, "")
            exclusive = create and bool(flags & os.O_EXCL)
            file = volume.open_file(path, create=create, exclusive=exclusive)
            try:
                if flags & os.O_TRUNC:
                    volume_call(volume.truncate, file, 0)
                yield volume, file
            except BaseException:
                volume_call(volume.close_file, file)
                raise

    # ---- looking

    def stat(self, path: str, shown: str | None = None) -> os.stat_result:
        shown = path if shown is None else shown
        with _translated(shown, "stat"):
            return _stat_result(self._use(shown).stat(path))

    def lstat(self, path: str, shown: str | None = None) -> os.stat_result:
        return self.stat(path, shown)

    def snapshot(self, path: str, shown: str | None = None) -> os.stat_result:
        return self.stat(path, shown)

    def generation(self, path: str) -> int:
        return self._names.generation(path)

    def scan(self, path: str, shown: str | None = None) -> list[tuple[str, Kind | None]]:
        shown = path if shown is None else shown
        with _translated(shown, "list"):
            found = dict(_entry(*pair) for pair in self._use(shown).entries(path))
        return [pair for pair in found.items() if not is_swap_name(pair[0])]

    def show(self, path: str) -> str:
        return path or "/"

    def lock_count(self, path: str) -> int:
        return self._names.lock_count(path)

    def locks(self) -> list[tuple[str, str, int, float, bool, bool]]:
        self._use(None)
        return self._names.locks()

    def locked_below(self, path: str) -> bool:
        try:
            with ExitStack() as locks:
                self._lock_below(path, locks, path)
        except errors.NoModificationAllowedError:
            return True
        return False

    def identity(self) -> str:
        self._use(None)
        return self._identity

    def estimate(self) -> tuple[int, int | None]:
        usage = 0
        for path, kind in self._below(""):
            if kind == "file":
                usage += self.stat(path).st_size
        return usage, None

    def request_capacity(self, size: int) -> int:
        self._use(None)
        reason = "a volume written in Python has no quota"
        raise errors.from_errno(errno.EOPNOTSUPP, None, "request capacity", reason)

    release_capacity = request_capacity

    # ---- changing

    def mkdir(self, path: str, mode: int = 0o777, shown: str | None = None) -> None:
        shown = path if shown is None else shown
        with _translated(shown, "mkdir"):
            volume_call(self._use(shown).mkdir, path, mode)

    def rmdir(self, path: str, shown: str | None = None) -> None:
        shown = path if shown is None else shown
        volume = self._use(shown)
        with self._lock(path, 0, shown), _translated(shown, "rmdir"):
            try:
                volume_call(volume.rmdir, path)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                with ExitStack() as locks:
                    if self._lock_below(path, locks, shown):
                        raise
                _remove_directory(volume, path)

    def unlink(self, path: str, owner: int = 0, shown: str | None = None) -> None:
        shown = path if shown is None else shown
        volume = self._use(shown)
        with self._lock(path, owner, shown), _translated(shown, "unlink"):
            volume_call(volume.unlink, path)

    def rename(
        self,
        source: str,
        target: str,
        owner: int = 0,
        shown: str | None = None,
        shown_target: str | None = None,
    ) -> None:
        shown = source if shown is None else shown
        shown_target = target if shown_target is None else shown_target
        volume = self._use(shown)
        with ExitStack() as locks, _translated(shown, "rename", shown_target):
            directory = stat.S_ISDIR(_stat_result(volume.stat(source)).st_mode)
            if source == target:
                return
            if directory and target.startswith(source + "/"):
                raise OSError(errno.EINVAL, "")
            locks.enter_context(self._lock(source, 0, shown))
            locks.enter_context(self._lock(target, 0, shown_target))
            if directory:
                self._lock_below(source, locks, shown)
            volume_call(volume.rename, source, target)

    def move(self, source: str, target: str) -> None:
        volume = self._use(source)
        with ExitStack() as locks, _translated(source, "move", target):
            directory = stat.S_ISDIR(_stat_result(volume.stat(source)).st_mode)
            if source != target:
                _check_move(volume, directory, source, target)
            locks.enter_context(self._lock(source, 0, source))
            if directory:
                self._lock_below(source, locks, source)
            if source != target:
                locks.enter_context(self._lock(target, 0, target))
                volume_call(volume.rename, source, target)

    def chmod(self, path: str, mode: int, shown: str | None = None) -> None:
        shown = path if shown is None else shown
        with _translated(shown, "chmod"):
            volume_call(self._use(shown).chmod, path, mode)

    def utime(
        self,
        path: str,
        ns: tuple[int, int] | None,
        follow: bool = True,
        shown: str | None = None,
    ) -> None:
        shown = path if shown is None else shown
        with _translated(shown, "utime"):
            if ns is None:
                ns = time.time_ns(), time.time_ns()
            volume_call(self._use(shown).utime, path, ns)

    def symlink(self, text: str, path: str, shown: str | None = None) -> None:
        shown = path if shown is None else shown
        with _translated(shown, "symlink"):
            volume_call(self._use(shown).symlink, text, path)

    def readlink(self, path: str, shown: str | None = None) -> str:
        shown = path if shown is None else shown
        with _translated(shown, "readlink"):
            return self._use(shown).readlink(path)

    def link(
        self, source: str, target: str, shown: str | None = None, shown_target: str | None = None
    ) -> None:
        shown = source if shown is None else shown
        shown_target = target if shown_target is None else shown_target
        with _translated(shown, "link", shown_target):
            volume_call(self._use(shown).link, source, target)

    def statvfs(self, path: str, shown: str | None = None) -> os.statvfs_result:
        shown = path if shown is None else shown
        with _translated(shown, "statvfs"):
            return self._use(shown).statvfs(path)

    def truncate(self, path: str, size: int, owner: int = 0, shown: str | None = None) -> None:
        shown = path if shown is None else shown
        volume = self._use(shown)
        with _translated(shown, "truncate"):
            if size < 0:
                raise OSError(errno.EINVAL, "")
            with self._lock(path, owner, shown):
                file = volume.open_file(path, create=False, exclusive=False)
                try:
                    volume_call(volume.truncate, file, size)
                finally:
                    volume_call(volume.close_file, file)

    def remove_tree(self, path: str, shown: str | None = None) -> None:
        shown = path if shown is None else shown
        volume = self._use(shown)
        with ExitStack() as locks, _translated(shown, "remove"):
            if not stat.S_ISDIR(_stat_result(volume.stat(path)).st_mode):
                raise OSError(errno.ENOTDIR, "")
            if path:
                locks.enter_context(self._lock(path, 0, shown))
            found = self._lock_below(path, locks, shown)
            for below, kind in reversed(found):
                if kind == "directory":
                    _remove_directory(volume, below)
                else:
                    volume_call(volume.unlink, below)
            if path:
                _remove_directory(volume, path)

    def same(self, other: object) -> bool:
        return self is other

    def close(self) -> None:
        self._volume = None

    # ---- locks of one call

    def _lock(self, path: str, owner: int, shown: str) -> _core.LockRef:
        return self._names.lock(path, _core.LOCK_EXCLUSIVE, owner, shown)

    def _below(self, path: str) -> Iterator[tuple[str, Kind | None]]:
        for name, kind in self.scan(path):
            below = f"{path}/{name}" if path else name
            yield below, kind
            if kind == "directory":
                yield from self._below(below)

    def _lock_below(self, path: str, locks: ExitStack, shown: str) -> list[tuple[str, Kind | None]]:
        found = list(self._below(path))
        for below, _ in found:
            locks.enter_context(self._lock(below, 0, shown))
        return found


def _check_move(volume: VolumeMethods, directory: bool, source: str, target: str) -> None:
    """Raises the OSError of a move that the rules of handles forbid."""
    if directory and target.startswith(source + "/"):
        raise OSError(errno.EINVAL, "")
    try:
        replaced = _stat_result(volume.stat(target)).st_mode
    except FileNotFoundError:
        return
    if directory or stat.S_ISDIR(replaced):
        raise OSError(errno.EEXIST, "")


def _remove_directory(volume: VolumeMethods, path: str) -> None:
    """Removes a directory in which nothing is listed, with what a commit that was killed left."""
    try:
        volume_call(volume.rmdir, path)
    except OSError as error:
        left = [name for name, _ in volume.entries(path) if is_swap_name(name)]
        if error.errno != errno.ENOTEMPTY or not left:
            raise
        for name in left:
            volume_call(volume.unlink, f"{path}/{name}")
        volume_call(volume.rmdir, path)


def _entry(name: str, kind: Kind) -> tuple[str, Kind]:
    check_name(name)
    if kind not in ("file", "directory"):
        raise ValueError(f"an entry is a 'file' or a 'directory', not {kind!r}")
    return name, kind


def _stat_result(found: os.stat_result) -> os.stat_result:
    if not isinstance(found, os.stat_result):
        raise TypeError(f"stat must return an os.stat_result, not {type(found).__name__}")
    return found


@contextmanager
def _translated(shown: str, doing: str, shown_target: str | None = None) -> Iterator[None]:
    """Turns an exception of a volume's method into aiofs's error for its errno, with the path.

    An exception without an errno becomes EIO (MemoryError becomes ENOMEM). The original exception
    is the cause of the new one.
    """
    try:
        yield
    except OSError as error:
        if error.errno and (error.filename or "") in (shown, shown_target):
            error.filename = shown or "/"
            if shown_target is not None:
                error.filename2 = shown_target
            raise
        translated = errors.from_errno(_errno_of(error), shown or "/", doing)
        if shown_target is not None:
            translated.filename2 = shown_target
        raise translated from error
    except Exception as error:
        number = errno.ENOMEM if isinstance(error, MemoryError) else errno.EIO
        raise errors.from_errno(number, shown, doing) from error


def _errno_of(error: OSError) -> int:
    number: object = error.errno
    return number if isinstance(number, int) and 0 < number < 4096 else errno.EIO
