"""What `atomic=True` and `durable=True` do at the close of a file.

An atomic file is a new one, which replaces the old one at the close. It has no name until then
(O_TMPFILE), so a program that is killed leaves nothing. Where the filesystem has no such files, it
has a name beside the target from the start.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import Any, Protocol

from aiofs import _core

__all__ = ["Durable", "Ending", "Replacement", "sync_directory_of"]


class Ending(Protocol):
    """What the close of a file does beside closing it. `discard` comes last, before the close."""

    def commit(self, descriptor: int) -> None: ...
    def discard(self) -> None: ...


class Durable:
    """The end of a file that is durable, and replaces nothing."""

    def __init__(self, path: Any) -> None:
        self._path = path

    def commit(self, descriptor: int) -> None:
        """Syncs the file, and its name if it was opened by a path."""
        os.fsync(descriptor)
        if not isinstance(self._path, int):
            sync_directory_of(os.path.realpath(os.fsdecode(self._path)))

    def discard(self) -> None:
        """Nothing: what was written stays."""


class Replacement:
    """A file that replaces the one at `path`, or the one that a symbolic link there leads to.

    Its `opener` is the argument of that name of the built-in `open`, which checks the mode first.
    """

    def __init__(self, path: str | bytes | os.PathLike[Any], mode: str, durable: bool) -> None:
        self._path = os.fsdecode(path)
        self._mode = mode
        self._durable = durable
        self._target = os.path.realpath(self._path)
        self._named: str | None = None

    def __del__(self) -> None:
        self.discard()

    def opener(self, path: Any, flags: int) -> int:
        """Opens the new file, with the old one's attributes, and its bytes for "r+" and "a"."""
        old = self._open_old()
        try:
            descriptor = self._open_new(flags & os.O_APPEND)
            try:
                if old is not None:
                    if "r" in self._mode or "a" in self._mode:
                        _core.copy_bytes(old, descriptor)
                    _core.copy_attributes(old, descriptor)
            except BaseException:
                os.close(descriptor)
                self.discard()
                raise
        finally:
            if old is not None:
                os.close(old)
        return descriptor

    def commit(self, descriptor: int) -> None:
        """Replaces the target. The caller has flushed what it had in buffers."""
        if self._durable:
            os.fsync(descriptor)
        if self._named is None:
            self._give_name(descriptor)
        try:
            self._rename()
        finally:
            self.discard()
        if self._durable:
            sync_directory_of(self._target)

    def discard(self) -> None:
        """Removes the new file. After a commit there is none."""
        named, self._named = self._named, None
        if named is not None:
            with suppress(OSError):
                os.unlink(named)

    def _error(self, number: int, text: str | None = None) -> OSError:
        return OSError(number, text or os.strerror(number), self._path)

    def _open_old(self) -> int | None:
        """A descriptor of the target; None: there is none."""
        try:
            found = os.stat(self._target)
        except FileNotFoundError:
            if "r" in self._mode:
                raise self._error(errno.ENOENT) from None
            return None
        if "x" in self._mode:
            raise self._error(errno.EEXIST)
        if stat.S_ISDIR(found.st_mode):
            raise self._error(errno.EISDIR)
        if not stat.S_ISREG(found.st_mode):
            raise self._error(errno.EINVAL, "atomic: it is no regular file")
        if not os.access(self._target, os.W_OK, effective_ids=True):  # as open(2) would say
            raise self._error(errno.EACCES)
        return os.open(self._target, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    def _open_new(self, append: int) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | append
        try:
            return os.open(os.path.dirname(self._target), flags | os.O_TMPFILE, 0o666)
        except FileNotFoundError:
            raise self._error(errno.ENOENT) from None
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
                raise
        while True:
            named = self._name_beside()
            with suppress(FileExistsError):
                descriptor = os.open(named, flags | os.O_CREAT | os.O_EXCL, 0o666)
                self._named = named
                return descriptor

    def _name_beside(self) -> str:
        directory, name = os.path.split(self._target)
        short = os.fsdecode(os.fsencode(name)[:200])
        return os.path.join(directory, f".{short}.{os.urandom(6).hex()}.new")

    def _give_name(self, descriptor: int) -> None:
        unnamed = f"/proc/self/fd/{descriptor}"
        while True:
            named = self._name_beside()
            with suppress(FileExistsError):
                # Python follows the link only if it has a directory; an absolute path ignores it.
                os.link(unnamed, named, src_dir_fd=descriptor, follow_symlinks=True)
                self._named = named
                return

    def _rename(self) -> None:
        assert self._named is not None
        if "x" in self._mode:  # it must not replace what came to be meanwhile
            os.link(self._named, self._target)
        else:
            os.rename(self._named, self._target)
            self._named = None


def sync_directory_of(path: str) -> None:
    """Waits until the names in the directory of `path` are on the disk."""
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
