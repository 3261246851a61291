"""What `FileSystem.scandir` gives, with the methods of `os.DirEntry`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DirEntry", "ScandirIterator"]

# A link that leads nowhere, out of the volume, or round in a circle is neither file nor directory.
_LEADS_NOWHERE = (errno.ENOENT, errno.EXDEV, errno.ELOOP)


class DirEntry:
    """An entry of a directory. Compare `os.DirEntry`.

    The kind that `is_dir` and `is_file` report is the one at the time of the `scandir`; `stat`,
    `inode` and `is_symlink` look anew.
    """

    def __init__(
        self,
        name: str,
        path: str,
        kind: str | None,
        stat: Callable[..., os.stat_result],
    ) -> None:
        self.name = name
        self.path = path
        self._kind = kind
        self._stat = stat

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """As `FileSystem.stat` of the path."""
        return self._stat(self.path, follow_symlinks=follow_symlinks)

    def inode(self) -> int:
        """The inode number, of a symbolic link itself."""
        return self.stat(follow_symlinks=False).st_ino

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory, or a symbolic link to one."""
        return self._kind == "directory" and (follow_symlinks or stat.S_ISDIR(self._own_mode()))

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a file, or a symbolic link to one."""
        return self._kind == "file" and (follow_symlinks or stat.S_ISREG(self._own_mode()))

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self._own_mode())

    def is_junction(self) -> bool:
        """False: only Windows has junctions."""
        return False

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def _own_mode(self) -> int:
        try:
            return self.stat(follow_symlinks=False).st_mode
        except OSError as error:
            if error.errno not in _LEADS_NOWHERE:
                raise
            return 0


class ScandirIterator:
    """An iterator of `DirEntry`, and a context manager that closes it, as `os.scandir` returns."""

    def __init__(self, entries: Iterator[DirEntry]) -> None:
        self._entries: Iterator[DirEntry] = entries

    def close(self) -> None:
        """Ends the iteration. Idempotent."""
        self._entries = iter(())

    def __iter__(self) -> Iterator[DirEntry]:
        return self

    def __next__(self) -> DirEntry:
        return next(self._entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
