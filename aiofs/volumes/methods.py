"""The methods that a volume of your own brings."""

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
    """An `os.stat_result` for an entry that no operating system knows.

    kind: "file" or "directory". size: in bytes. mtime_ns: when its bytes changed, nanoseconds since
    the epoch. mode: permission bits, by default 0o644 of a file and 0o755 of a directory.
    """
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
    """The methods that a class derived from `Volume` implements; the rules for them are there."""

    #: Whether the methods for files may block; read when a file is opened.
    blocking: ClassVar[bool] = True

    # ---- files

    def open_file(self, path: str, *, create: bool, exclusive: bool) -> Any:
        """Finds a file, or makes it: returns whatever stands for it in the calls below.

        Raises ENOENT if it is missing and `create` is false, EEXIST if it is there and `exclusive`
        is true, EISDIR for a directory. What it returns should go on to mean this file when the
        path is unlinked.
        """
        raise _not_there("open_file")

    def close_file(self, file: Any) -> None:
        """The last use of what `open_file` returned.

        What this raises is reported by `sys.unraisablehook` and changes nothing: what can still be
        lost belongs into `flush`, which is called before.
        """

    def read_at(self, file: Any, buffer: memoryview, offset: int) -> int:
        """Fills the buffer from `offset`: the number of bytes, less at the end of the file only."""
        raise _not_there("read_at")

    def write_at(self, file: Any, data: memoryview, offset: int) -> int:
        """Writes at `offset`, filling a hole with zeros: the number of bytes written."""
        raise _not_there("write_at")

    def size(self, file: Any) -> int:
        """The file's size in bytes."""
        raise _not_there("size")

    def truncate(self, file: Any, size: int) -> None:
        """Cuts the file, or extends it with zeros."""
        raise _not_there("truncate")

    def flush(self, file: Any) -> None:
        """Returns when everything written is durable; here there is nothing to do for it."""

    def submit(self, request: VolumeRequest) -> None:
        """Carries one operation out and calls `request.complete` with the outcome, now or later.

        This one calls the method for the operation and completes at once. Override it where you can
        do better. It may block, unless `blocking` is False.
        """
        try:
            moved = self._carry_out(request)
        except Exception as error:
            request.complete(error)
        else:
            request.complete(moved)

    # ---- the tree

    def stat(self, path: str) -> os.stat_result:
        """As `os.stat`; `entry_stat` makes the result. st_size and st_mtime_ns tell changes."""
        raise _not_there("stat")

    def listdir(self, path: str) -> Iterable[str]:
        """The names in a directory."""
        raise _not_there("listdir")

    def entries(self, path: str) -> Iterable[tuple[str, Kind]]:
        """The names in a directory, each with its kind: override it if you know without `stat`."""
        for name in self.listdir(path):
            mode = self.stat(f"{path}/{name}" if path else name).st_mode
            yield name, "directory" if stat.S_ISDIR(mode) else "file"

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """As `os.mkdir`."""
        raise _not_there("mkdir")

    def rmdir(self, path: str) -> None:
        """As `os.rmdir`: ENOTEMPTY if there is something in it."""
        raise _not_there("rmdir")

    def unlink(self, path: str) -> None:
        """As `os.unlink`: EISDIR for a directory."""
        raise _not_there("unlink")

    def rename(self, source: str, target: str) -> None:
        """As `os.rename`: a file that is in the way is replaced, in one step."""
        raise _not_there("rename")

    # ---- what aiofs asks of it

    @property
    def submits(self) -> bool:
        """Whether the class brings a `submit` of its own."""
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
