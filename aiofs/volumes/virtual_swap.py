"""The modes exclusive and shared on a volume that is a Python object.

The handle reads and writes an anonymous file of the machine (in $TMPDIR or /tmp): a copy of the
volume's file. The commit writes its bytes to a new file of the volume beside the old one, flushes
it, and renames it to the old one's path, which `Volume.rename` replaces atomically. If the class
has no `rename`, the commit writes into the old file: then a failure in the middle leaves both, old
and new bytes.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Any

from aiofs import _core
from aiofs.volumes.methods import VolumeMethods

_PIECE = 1 << 20
_PREFIX = ".aiofs-swap-"


def is_swap_name(name: str) -> bool:
    """Whether it is the name of a file that a commit makes, and soon renames."""
    return name.startswith(_PREFIX)


def anonymous_file() -> int:
    """A descriptor of an empty file that has no name: in memory if the directory can have none."""
    try:
        flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
        return os.open(os.environ.get("TMPDIR") or "/tmp", flags, 0o600)
    except OSError:
        return os.memfd_create("aiofs-swap")


def copy_from(volume: VolumeMethods, file: Any, descriptor: int) -> None:
    """Copies a file of the volume into an empty file of the machine."""
    buffer = bytearray(_PIECE)
    offset = 0
    while True:
        with memoryview(buffer) as view:
            count = _core.volume_count(volume.read_at(file, view, offset), len(view))
        if not count:
            return
        written = 0
        while written < count:
            written += os.pwrite(descriptor, buffer[written:count], offset + written)
        offset += count


def _copy_to(volume: VolumeMethods, file: Any, descriptor: int) -> None:
    offset = 0
    while piece := os.pread(descriptor, _PIECE, offset):
        with memoryview(piece) as view:
            count = _core.volume_count(volume.write_at(file, view, offset), len(view))
        if not count:
            raise OSError(errno.ENOSPC, "the volume is full")
        offset += count
    _core.volume_call(volume.truncate, file, offset)
    _core.volume_call(volume.flush, file)


class Commit:
    """Replaces a file of a volume by a file of the machine."""

    def __init__(self, volume: VolumeMethods, path: str) -> None:
        self._volume = volume
        self._path = path

    def __call__(self, descriptor: int) -> None:
        if type(self._volume).rename is VolumeMethods.rename:
            self._write(self._path, descriptor, create=False)
            return
        self._volume.stat(self._path)  # raises ENOENT if the file was removed
        parent = self._path.rpartition("/")[0]
        name = _PREFIX + os.urandom(8).hex()
        beside = f"{parent}/{name}" if parent else name
        try:
            self._write(beside, descriptor, create=True)
            _core.volume_call(self._volume.rename, beside, self._path)
        except BaseException:
            with suppress(Exception):
                self._volume.unlink(beside)
            raise

    def _write(self, path: str, descriptor: int, create: bool) -> None:
        file = self._volume.open_file(path, create=create, exclusive=create)
        try:
            _copy_to(self._volume, file, descriptor)
        finally:
            _core.volume_call(self._volume.close_file, file)
