"""`VolumeMethods`: the methods that a volume of your own implements, and `entry_stat`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from typing import Any, ClassVar

from aiofs import _core
from aiofs._core import VolumeRequest
from aiofs.volume_ops import Kind

__all__ = ["VolumeMethods", "entry_stat"]


def entry_stat(
    kind: Kind, *, size: int = 0, mtime_ns: int = 0, mode: int | None = None
) -> os.stat_result:
    """Makes an `os.stat_result` for an entry of a volume that is a Python object.

    kind: "file" or "directory". size: in bytes. mtime_ns: the time of the last change of its bytes,
    in nanoseconds since the epoch. mode: permission bits; by default 0o644 for a file and 0o755 for
    a directory. ValueError if the size is negative.
    """
    if size < 0:
        raise ValueError(f"size {size} is negative")
    directory = kind == "directory"
    if mode is None:
        mode = 0o755 if directory else 0o644
    seconds = mtime_ns // 1_000_000_000
    times = {f"st_{which}time_ns": mtime_ns for which in "amc"}
    floats = {f"st_{which}time": mtime_ns / 1e9 for which in "amc"}
    kind_bits = stat.S_IFDIR if directory else stat.S_IFREG
    fields = (kind_bits | mode, 0, 0, 1, os.geteuid(), os.getegid(), size, *(seconds,) * 3)
    return os.stat_result(fields, {**times, **floats})


class VolumeMethods:
    """The methods that a class derived from `Volume` implements; `Volume` states the rules."""

    #: Whether the methods for files may block; read when a file is opened.
    blocking: ClassVar[bool] = True

    # ---- files

    def open_file(self, path: str, *, create: bool, exclusive: bool) -> Any:
        """Finds a file, or creates it. Returns any object, the `file` argument of the calls below.

        Raises ENOENT if the file is missing and `create` is false, EEXIST if it exists and
        `exclusive` is true, EISDIR for a directory. After the path is unlinked, the object should
        still mean this file. Compare open(2).
        """
        raise _not_there("open_file")

    def close_file(self, file: Any) -> None:
        """The last call for an object that `open_file` returned.

        `sys.unraisablehook` reports an exception of this method, and the close succeeds all the
        same. Work that can fail and lose data belongs into `flush`, which is called before.
        """

    def read_at(self, file: Any, buffer: memoryview, offset: int) -> int:
        """Fills the buffer with the bytes from `offset`. Returns the number of bytes.

        The number is less than the buffer's size only at the end of the file. Compare pread(2).
        """
        raise _not_there("read_at")

    def write_at(self, file: Any, data: memoryview, offset: int) -> int:
        """Writes the data at `offset`. Returns the number of bytes written.

        A gap between the old end of the file and `offset` reads as zeros. Compare pwrite(2).
        """
        raise _not_there("write_at")

    def size(self, file: Any) -> int:
        """Returns the file's size in bytes."""
        raise _not_there("size")

    def truncate(self, file: Any, size: int) -> None:
        """Sets the file's size in bytes; an extension reads as zeros. Compare ftruncate(2)."""
        raise _not_there("truncate")

    def flush(self, file: Any) -> None:
        """Returns when all bytes written so far are durable; the default does nothing."""

    def submit(self, request: VolumeRequest) -> None:
        """Performs one operation, and calls `request.complete` with the outcome, now or later.

        The default calls the method for the operation and completes the request at once. Override
        it if the volume can perform operations asynchronously. It may block, unless `blocking` is
        False.
        """
        try:
            moved = self._carry_out(request)
        except Exception as error:
            request.complete(error)
        else:
            request.complete(moved)

    # ---- the tree

    def stat(self, path: str) -> os.stat_result:
        """As `os.stat`; `entry_stat` makes the result.

        Every change of a file's bytes must change its st_size or st_mtime_ns.
        """
        raise _not_there("stat")

    def listdir(self, path: str) -> Iterable[str]:
        """Returns the names in a directory, without '.' and '..'. As `os.listdir`."""
        raise _not_there("listdir")

    def entries(self, path: str) -> Iterable[tuple[str, Kind]]:
        """Returns the names in a directory, each with its kind: (name, "file" or "directory").

        The default calls `listdir` and `stat`; override it if the kinds are known without `stat`.
        """
        for name in self.listdir(path):
            mode = self.stat(f"{path}/{name}" if path else name).st_mode
            yield name, "directory" if stat.S_ISDIR(mode) else "file"

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """As `os.mkdir`."""
        raise _not_there("mkdir")

    def rmdir(self, path: str) -> None:
        """As `os.rmdir`: ENOTEMPTY if the directory is not empty."""
        raise _not_there("rmdir")

    def unlink(self, path: str) -> None:
        """As `os.unlink`: EISDIR for a directory."""
        raise _not_there("unlink")

    def rename(self, source: str, target: str) -> None:
        """As `os.rename`: an existing file at `target` is replaced atomically."""
        raise _not_there("rename")

    # ---- for FileSystem's calls of these names; a volume may have them

    def chmod(self, path: str, mode: int) -> None:
        """As `os.chmod`."""
        raise _not_there("chmod")

    def utime(self, path: str, ns: tuple[int, int]) -> None:
        """As `os.utime` with the times in nanoseconds: of the last access, of the last change."""
        raise _not_there("utime")

    def symlink(self, text: str, path: str) -> None:
        """As `os.symlink`."""
        raise _not_there("symlink")

    def readlink(self, path: str) -> str:
        """As `os.readlink`."""
        raise _not_there("readlink")

    def link(self, source: str, target: str) -> None:
        """As `os.link`."""
        raise _not_there("link")

    def statvfs(self, path: str) -> os.statvfs_result:
        """As `os.statvfs`."""
        raise _not_there("statvfs")

    # ---- for aiofs itself

    @property
    def submits(self) -> bool:
        """Whether the class overrides `submit`."""
        return type(self).submit is not VolumeMethods.submit

    def _carry_out(self, request: VolumeRequest) -> int:
        if request.op == "flush":
            _core.volume_call(self.flush, request.file)
            return 0
        if request.op == "truncate":
            _core.volume_call(self.truncate, request.file, request.offset)
            return 0
        move = self.read_at if request.op == "read" else self.write_at
        moved = 0
        for view in request.buffers:
            count = move(request.file, view, request.offset + moved)
            _core.volume_count(count, len(view))
            moved += count
            if count < len(view):
                break
        return moved


def _not_there(method: str) -> OSError:
    return OSError(errno.ENOTSUP, f"this volume has no {method}")
