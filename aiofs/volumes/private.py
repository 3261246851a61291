"""Private volumes: directories on disk that only aiofs changes."""

from __future__ import annotations

import os
from collections.abc import Callable

from aiofs import _core
from aiofs.volumes.directory import DirectoryVolume


class PrivateVolume(DirectoryVolume):
    """A directory on disk as a volume; programs change its files through aiofs only.

    The files are ordinary files under their own names, and files that exist already are entries of
    the volume. Symbolic links in it are refused (ELOOP), because with a link two paths, and so two
    locks, would lead to one file. The subdirectory `.aiofs` holds the lock files; it is not listed.

    directory: created with mode 0o700 if it is missing; its parent must exist.
    quota: the limit, in bytes, for the sum of the sizes of all files, holes included; None for no
    limit. A write over the limit raises `QuotaExceededError` and writes nothing. While a process
    has the directory open with a quota, the writes of all processes through aiofs count.
    durable: False leaves it to the kernel when the changes of a closed handle reach the disk, so
    that closing does not wait for it; `flush` waits all the same. A crash of the machine, not of
    the program, may then lose or tear what was closed or committed in the last seconds.

    Raises `NotFoundError` if the parent is missing, `PermissionError` if the directory is not
    writable, `TypeMismatchError` if it is a file, `NoModificationAllowedError` (EBUSY) if it lies
    inside or around another open volume, `ValueError` for the path '' and for a quota that is
    negative or over 2**63 - 1.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        quota: int | None = None,
        durable: bool = True,
    ) -> None:
        super().__init__(directory, flags=_core.VOLUME_CREATE, quota=quota, durable=durable)

    def __reduce__(self) -> tuple[Callable[..., PrivateVolume], tuple[str, int | None, bool]]:
        return _reopen, (self._directory, self._quota, self._durable)


def _reopen(directory: str, quota: int | None, durable: bool = True) -> PrivateVolume:
    return PrivateVolume(directory, quota=quota, durable=durable)
