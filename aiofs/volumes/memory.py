"""Volumes in memory: private volumes on tmpfs.

Their directories are in `/dev/shm/aiofs-UID`, which only that user can enter: named volumes in
`named`, anonymous ones in `anonymous` as PID-NUMBER. An anonymous volume's directory is removed
when the volume is closed or collected, or at exit. If its process was killed, the next process of
the user that creates an anonymous volume removes it.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Callable
from contextlib import suppress

from aiofs import _core, errors
from aiofs.volume_ops import check_name
from aiofs.volumes.directory import DirectoryVolume

_SHARED_MEMORY = "/dev/shm"


class MemoryVolume(DirectoryVolume):
    """A volume in memory (tmpfs). Its files do not survive a restart of the machine.

    name: all processes of this user that give the same name share one volume, which exists until
    `MemoryVolume.remove` or until the machine restarts. Without a name, the volume is this
    process's own, and its files are removed when it is closed or collected, or at exit.
    quota: as for `PrivateVolume`, in bytes.

    Raises `ValueError` for a bad name ('', '.', '..', or with '/' or NUL in it), and
    `PermissionError` if this user's directory in /dev/shm belongs to another user or is open to
    other users.
    """

    def __init__(self, name: str | None = None, *, quota: int | None = None) -> None:
        self._name = name
        if name is None:
            directory = _anonymous_directory()
        else:
            directory = os.path.join(_own_directory("named"), check_name(name, "volume name"))
        # Registered before the volume is opened, so that the directory is removed if that fails.
        self._remove = weakref.finalize(self, _remove_directory, directory, os.getpid())
        if name is not None:
            self._remove.detach()
        try:
            super().__init__(directory, flags=_core.VOLUME_CREATE, quota=quota)
        except BaseException:
            self._remove()
            raise

    @staticmethod
    def remove(name: str) -> None:
        """Removes a named volume with all its files. Blocks.

        Raises `NoModificationAllowedError` (EBUSY) while a process has it open, `NotFoundError` if
        there is none of that name, `ValueError` for a bad name.
        """
        path = os.path.join(_own_directory("named"), check_name(name, "volume name"))
        if _core.volume_in_use(path):
            raise errors.from_errno(errno.EBUSY, path, "remove volume")
        moved = os.path.join(_own_directory("anonymous"), _unused_name())
        try:
            os.rename(path, moved)  # who opens the name from now on makes a new volume
        except FileNotFoundError:
            raise errors.from_errno(errno.ENOENT, path, "remove volume") from None
        if _in_use(moved):  # a process opened it before it was renamed
            os.rename(moved, path)
            raise errors.from_errno(errno.EBUSY, path, "remove volume")
        _remove_directory(moved, os.getpid())

    def close(self) -> None:
        """Closes the volume, and removes its files unless it has a name. Idempotent."""
        super().close()
        self._remove()

    def __repr__(self) -> str:
        return f"MemoryVolume({'' if self._name is None else repr(self._name)})"

    def __reduce__(self) -> tuple[Callable[..., MemoryVolume], tuple[str, int | None]]:
        if self._name is None:
            raise TypeError("an anonymous MemoryVolume cannot be pickled: it is this process's own")
        return _reopen, (self._name, self._quota)


def _reopen(name: str, quota: int | None) -> MemoryVolume:
    return MemoryVolume(name, quota=quota)


def _own_directory(kind: str) -> str:
    """This user's directory for one kind of volumes, created if it is missing."""
    base = os.path.join(_SHARED_MEMORY, f"aiofs-{os.geteuid()}")
    for path in (base, os.path.join(base, kind)):
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise errors.from_errno(error.errno or errno.EIO, path, "open memory volume") from None
        found = os.lstat(path)
        if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
            raise errors.from_errno(errno.EACCES, path, "open memory volume")
    return os.path.join(base, kind)


def _anonymous_directory() -> str:
    """An unused path. Before that, removes the volumes of processes that were killed."""
    directory = _own_directory("anonymous")
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if not _is_alive(name.partition("-")[0]) and not _in_use(path):
            _remove_directory(path, os.getpid())
    return os.path.join(directory, _unused_name())


def _unused_name() -> str:
    return f"{os.getpid()}-{os.urandom(8).hex()}"


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError):
        return True
    return True


def _in_use(path: str) -> bool:
    try:
        return _core.volume_in_use(path)
    except OSError:
        return False


def _remove_directory(path: str, maker: int) -> None:
    """Removes a volume's directory, but only in the process that created it, not in its fork."""
    if maker == os.getpid():
        with suppress(OSError):  # it is gone
            for _, directories, files, folder in os.fwalk(path, topdown=False):
                for name in directories + files:
                    _remove(name, folder)
            os.rmdir(path)


def _remove(name: str, folder: int) -> None:
    with suppress(OSError):
        try:
            os.unlink(name, dir_fd=folder)
        except IsADirectoryError:
            os.rmdir(name, dir_fd=folder)
