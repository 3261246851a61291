"""Private volumes: directories on disk that belong to aiofs."""

from __future__ import annotations

import os
from collections.abc import Callable

from aiofs import _core
from aiofs.volumes.directory import DirectoryVolume


class PrivateVolume(DirectoryVolume):
    """A directory on disk that belongs to aiofs.

    Its files are ordinary files under their own names, and files that are there already are taken
    in. Symbolic links in it are refused (ELOOP): follow one, and two paths would be one file under
    two locks. What aiofs keeps for itself is in `.aiofs` there, which is not listed.

    directory: made with mode 0o700 if it is missing; its parent must be there.
    quota: the most bytes that the sizes of all files may come to, holes included; growth beyond is
    refused whole with `QuotaExceededError`. It counts what every process writes through aiofs, as
    long as one has the directory open with a quota.

    Raises `NotFoundError` if the parent is missing, `PermissionError` if the directory cannot be
    written, `TypeMismatchError` if it is a file, `NoModificationAllowedError` (EBUSY) inside or
    around another volume that is open.
    """

    def __init__(self, directory: str | os.PathLike[str], *, quota: int | None = None) -> None:
        super().__init__(directory, flags=_core.VOLUME_CREATE, quota=quota)

    def __reduce__(self) -> tuple[Callable[..., PrivateVolume], tuple[str, int | None]]:
        return _reopen, (self._directory, self._quota)


def _reopen(directory: str, quota: int | None) -> PrivateVolume:
    return PrivateVolume(directory, quota=quota)
