"""Host volumes: directories that belong to somebody else, used with care."""

from __future__ import annotations

import os
from collections.abc import Callable

from aiofs import _core
from aiofs.volumes.directory import DirectoryVolume

# The mode of an access handle that is asked for none.
_DEFAULT_MODE = "shared"


class HostVolume(DirectoryVolume):
    """A directory of the user's (a home directory, a checkout) as a volume.

    Its files keep their modes, owners and times, and other programs may use them meanwhile; locks
    hold between programs that use aiofs. Symbolic links that lead to a place inside the directory
    are followed, and the lock is that of the file they lead to; links that lead out are refused
    (EXDEV). Hard links are not detected: two names of one file are two entries with two locks.
    FIFOs, sockets and devices are no entries for handles (`TypeMismatchError`); `FileSystem` lists
    them, but does not open them (EOPNOTSUPP). An access handle that is asked for no mode is
    "shared": it changes a copy, which replaces the file when the handle is closed. Other hard links
    of that file keep the old bytes. Below a mount point in the directory, the commit copies the
    bytes once more, to a file beside the target that is not listed (`.aiofs-swap-*`).

    aiofs keeps what it needs in one subdirectory, `.aiofs`, which is not listed. It is created when
    the first file is locked; looking, reading by `get_file`, creating and removing create none.

    directory: must exist.
    read_only: refuse every change (EROFS) and write nothing, not even `.aiofs`. If there is one,
    the locks of other processes count; otherwise the locks of this volume bind this process only.
    An access handle that is asked for no mode is then "read-only".
    quota, durable: as for `PrivateVolume`.

    Raises `NotFoundError` if the directory is missing, `PermissionError` if it is not writable and
    read_only is false, `TypeMismatchError` if it is a file, `NoModificationAllowedError` (EBUSY) if
    it lies inside or around another open volume, `ValueError` for the path '' and for a quota that
    is negative or over 2**63 - 1.
    """

    default_mode = _DEFAULT_MODE

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        read_only: bool = False,
        quota: int | None = None,
        durable: bool = True,
    ) -> None:
        self._read_only = bool(read_only)
        flags = _core.VOLUME_HOST
        if read_only:
            flags |= _core.VOLUME_READ_ONLY
            self.default_mode = "read-only"
        super().__init__(directory, flags=flags, quota=quota, durable=durable)

    def __repr__(self) -> str:
        read_only = ", read_only=True" if self._read_only else ""
        return f"HostVolume({self._directory!r}{read_only})"

    def __reduce__(self) -> tuple[Callable[..., HostVolume], tuple[str, bool, int | None, bool]]:
        return _reopen, (self._directory, self._read_only, self._quota, self._durable)


def _reopen(directory: str, read_only: bool, quota: int | None, durable: bool = True) -> HostVolume:
    return HostVolume(directory, read_only=read_only, quota=quota, durable=durable)
