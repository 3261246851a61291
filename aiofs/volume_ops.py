"""The operations that every volume offers to `FileSystem` and the handles.

Each operation takes the locks that it needs before it acts. Two classes implement the protocol:
`aiofs._core.DirectoryOps` for a directory, and `VirtualOps` for the methods of a `Volume` written
in Python. Paths are relative to the root and canonical, with '/' between components; "" is the
root. An `owner` is a number that identifies a holder of locks, such as a FileSystem: an owner may
open, unlink and truncate what it has locked itself. Owner 0 shares no lock, not even with owner 0.
`shown` is the path that errors name.
"""

from __future__ import annotations

import itertools
import os
from typing import Literal, NamedTuple, Protocol

from aiofs._core import AccessHandle, OpenFile, SyncAccessHandle, Writable

_owners = itertools.count(1)

Kind = Literal["file", "directory"]
Mode = Literal["in-place", "readwrite", "exclusive", "shared", "read-only", "readwrite-unsafe"]


class LockInfo(NamedTuple):
    """A lock on an entry of a volume that somebody holds or waits for; see `Volume.locks`."""

    path: str  #: relative to the volume's root
    mode: str  #: the mode of an access handle with such a lock
    pid: int  #: the process, as it knows itself
    host: str | None  #: this machine's name; None if the lock binds this process only
    since: float  #: when the lock was taken, or the wait began; in seconds since the epoch
    waiting: bool  #: whether the lock is waited for, and not held


def new_owner() -> int:
    """The number of an owner of locks that is none yet."""
    return next(_owners)


def check_name(name: str, what: str = "name") -> str:
    """Returns the name of an entry, checked: one component of a path.

    Raises ValueError for '', '.', '..', a name with '/' or NUL in it, and a name that cannot be
    encoded for the filesystem; TypeError if it is no str. `what` names the argument in the message.
    """
    if not isinstance(name, str):
        raise TypeError(f"a {what} must be a str, not {type(name).__name__}")
    if name in ("", ".", ".."):
        raise ValueError(f"bad {what} {name!r}: no entry can be called that")
    if "/" in name or "\0" in name:
        raise ValueError(f"bad {what} {name!r}: it is one component of a path, without '/' and NUL")
    os.fsencode(name)  # a surrogate that stands for no byte: UnicodeEncodeError, a ValueError
    return name


class VolumeOps(Protocol):
    """Every method may block; `aiofs._core.offload` runs it on a worker thread."""

    def open(
        self, path: str, flags: int, mode: int, lock: int, owner: int, shown: str | None = None
    ) -> OpenFile: ...
    def open_locked(
        self, path: str, flags: int, atomic: bool, owner: int, shown: str | None = None
    ) -> tuple[SyncAccessHandle, bool]: ...  # and whether the call has created the file
    def sync_access_handle(
        self, path: str, mode: str, create: bool, shown: str | None = None
    ) -> SyncAccessHandle: ...
    def access_handle(
        self, path: str, mode: str, create: bool, shown: str | None = None
    ) -> AccessHandle: ...
    def writable(self, path: str, lock: int, keep: bool, shown: str | None = None) -> Writable: ...
    def stat(self, path: str, shown: str | None = None) -> os.stat_result: ...
    def lstat(self, path: str, shown: str | None = None) -> os.stat_result: ...
    def snapshot(self, path: str, shown: str | None = None) -> os.stat_result: ...
    def generation(self, path: str) -> int: ...
    def scan(self, path: str, shown: str | None = None) -> list[tuple[str, Kind | None]]: ...
    def lock_count(self, path: str) -> int: ...
    def locks(self) -> list[tuple[str, str, int, float, bool, bool]]: ...
    def locked_below(self, path: str) -> bool: ...  # whether an entry below it is locked
    def identity(self) -> str: ...  # what identifies the volume among all of the machine
    def show(self, path: str) -> str: ...  # how errors name the path if no `shown` is given
    def estimate(self) -> tuple[int, int | None]: ...
    def request_capacity(self, size: int) -> int: ...
    def release_capacity(self, size: int) -> int: ...
    def mkdir(self, path: str, mode: int = 0o777, shown: str | None = None) -> None: ...
    def rmdir(self, path: str, shown: str | None = None) -> None: ...
    def unlink(self, path: str, owner: int = 0, shown: str | None = None) -> None: ...
    def rename(
        self,
        source: str,
        target: str,
        owner: int = 0,
        shown: str | None = None,
        shown_target: str | None = None,
    ) -> None: ...
    def move(self, source: str, target: str) -> None: ...  # rename, with the rules of handles
    def chmod(self, path: str, mode: int, shown: str | None = None) -> None: ...
    def utime(
        self,
        path: str,
        ns: tuple[int, int] | None,
        follow: bool = True,
        shown: str | None = None,
    ) -> None: ...
    def symlink(self, text: str, path: str, shown: str | None = None) -> None: ...
    def readlink(self, path: str, shown: str | None = None) -> str: ...
    def link(
        self, source: str, target: str, shown: str | None = None, shown_target: str | None = None
    ) -> None: ...
    def statvfs(self, path: str, shown: str | None = None) -> os.statvfs_result: ...
    def truncate(self, path: str, size: int, owner: int = 0, shown: str | None = None) -> None: ...
    def remove_tree(self, path: str, shown: str | None = None) -> None: ...
    def same(self, other: object) -> bool: ...
    def close(self) -> None: ...


class HasOps(Protocol):
    """What handles and FileSystem know of a volume."""

    default_mode: str  # of an access handle that is asked for none

    @property
    def _ops(self) -> VolumeOps: ...
