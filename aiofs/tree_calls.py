"""`TreeCalls`: the calls of `FileSystem` on the tree of its entries, as in `os`."""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aiofs import errors
from aiofs.dir_entry import DirEntry, ScandirIterator
from aiofs.namespace import Mount, Namespace, ResolvedPath, ends_in_slash
from aiofs.volume_ops import Kind, new_owner
from aiofs.volumes import entry_stat

if TYPE_CHECKING:
    Path = str | os.PathLike[str]

__all__ = ["TreeCalls"]


class TreeCalls(Namespace):
    """What `FileSystem` does to the tree. Locks on entries belong to its number, `_owner`."""

    def __init__(self) -> None:
        super().__init__()
        self._owner = new_owner()

    # ---- the tree

    def stat(self, path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        """As `os.stat`."""
        resolved = self._find(path, "stat")
        if resolved.mount is None:
            return self._stat_of_implicit_directory(resolved)
        follow = follow_symlinks or ends_in_slash(path)
        look = resolved.mount.ops.stat if follow else resolved.mount.ops.lstat
        try:
            return look(resolved.path, resolved.shown)
        except FileNotFoundError:
            if self._is_implicit(resolved):
                return self._stat_of_implicit_directory(resolved)
            raise

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        """As `os.mkdir`."""
        resolved = self._find(path, "mkdir", creates=True)
        if self._has_mount_at_or_below(resolved):
            raise errors.from_errno(errno.EEXIST, resolved.shown, "mkdir")
        self._mount_of(resolved, "mkdir").ops.mkdir(resolved.path, mode, resolved.shown)

    def rmdir(self, path: Path) -> None:
        """As `os.rmdir`; EBUSY for a mount point, and if an entry in it is locked."""
        resolved = self._changeable(path, "rmdir")
        if os.fspath(path).endswith("/."):
            reason = "a path that ends in '/.' cannot be removed"
            raise errors.from_errno(errno.EINVAL, resolved.shown, "rmdir", reason)
        self._mount_of(resolved, "rmdir").ops.rmdir(resolved.path, resolved.shown)

    def unlink(self, path: Path) -> None:
        """As `os.unlink`; EBUSY if another holder has locked the file.

        A file that this FileSystem has open stays readable, writable and locked until it is closed.
        """
        resolved = self._changeable(path, "unlink")
        self._mount_of(resolved, "unlink").ops.unlink(resolved.path, self._owner, resolved.shown)

    def rename(self, source: Path, target: Path) -> None:
        """As `os.rename`; EXDEV between mounts, EBUSY if another holder has locked one of the two.

        Descriptors of this FileSystem stay open, and their file stays locked under both paths until
        they are closed.
        """
        resolved_source = self._changeable(source, "rename")
        resolved_target = self._changeable(target, "rename")
        mount = self._mount_of(resolved_source, "rename")
        if self._mount_of(resolved_target, "rename") is not mount:
            error = errors.from_errno(errno.EXDEV, resolved_source.shown, "rename across mounts")
            error.filename2 = resolved_target.shown
            raise error
        if ends_in_slash(source) or ends_in_slash(target):
            if not stat.S_ISDIR(
                mount.ops.lstat(resolved_source.path, resolved_source.shown).st_mode
            ):
                with _naming(resolved_source.shown, resolved_target):
                    mount.ops.stat(resolved_target.path.rpartition("/")[0], resolved_target.shown)
                    raise errors.from_errno(errno.ENOTDIR, resolved_source.shown, "rename")
        mount.ops.rename(
            resolved_source.path,
            resolved_target.path,
            self._owner,
            resolved_source.shown,
            resolved_target.shown,
        )

    def truncate(self, path: Path, length: int) -> None:
        """As `os.truncate`; length is in bytes. EBUSY if another holder has locked the file."""
        if not isinstance(length, int):
            raise TypeError(f"length must be an int, not {type(length).__name__}")
        if length >= 2**63:
            raise ValueError(f"length {length} is beyond 2**63 - 1")
        resolved = self._find(path, "truncate")
        mount = self._mount_of(resolved, "truncate", directory=errno.EISDIR)
        mount.ops.truncate(resolved.path, length, self._owner, resolved.shown)

    def listdir(self, path: Path = "/") -> list[str]:
        """As `os.listdir`: the names in arbitrary order, those of mount points included."""
        return [name for name, _ in self._scan(path, "listdir")]

    def scandir(self, path: Path = "/") -> ScandirIterator:
        """As `os.scandir`: an iterator of entries with the methods of `os.DirEntry`.

        Mount points are included. A name is given once, also while the directory changes.
        """
        found = self._scan(path, "scandir")
        shown = os.fspath(path)
        return ScandirIterator(
            DirEntry(name, os.path.join(shown, name), kind, self.stat) for name, kind in found
        )

    # ---- modes, times and links

    def chmod(self, path: Path, mode: int) -> None:
        """As `os.chmod`. EOPNOTSUPP in a volume that has no modes."""
        resolved = self._find(path, "chmod")
        self._mount_of(resolved, "chmod").ops.chmod(resolved.path, mode, resolved.shown)

    def utime(
        self,
        path: Path,
        times: tuple[float, float] | None = None,
        *,
        ns: tuple[int, int] | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """As `os.utime`: sets the times of the last access and of the last change.

        times: in seconds, ns: in nanoseconds since the epoch; without both, now. EOPNOTSUPP in a
        volume that cannot set them.
        """
        pair = _nanoseconds(times, ns)
        resolved = self._find(path, "utime")
        mount = self._mount_of(resolved, "utime")
        follow = bool(follow_symlinks) or ends_in_slash(path)
        mount.ops.utime(resolved.path, pair, follow, resolved.shown)

    def symlink(self, src: Path, dst: Path, target_is_directory: bool = False) -> None:
        """As `os.symlink`: creates the symbolic link `dst`, whose text is `src`.

        A link is followed inside its volume only: a relative text is relative to the link's
        directory, an absolute one must lie below the volume's directory on the machine.
        target_is_directory is ignored. EOPNOTSUPP in a volume that has no symbolic links.
        """
        text = os.fspath(src)
        if not isinstance(text, str):
            raise TypeError(f"the text of a link must be a str, not {type(text).__name__}")
        resolved = self._find(dst, "symlink", creates=True)
        with _naming(src, resolved):
            if self._has_mount_at_or_below(resolved):
                raise errors.from_errno(errno.EEXIST, resolved.shown, "symlink")
            mount = self._mount_of(resolved, "symlink")
            self._refuse_slash(dst, resolved, "symlink")
            mount.ops.symlink(text, resolved.path, resolved.shown)

    def readlink(self, path: Path) -> str:
        """As `os.readlink`: the text of a symbolic link; EINVAL for what is none."""
        resolved = self._find(path, "readlink")
        mount = self._mount_of(resolved, "readlink", directory=errno.EINVAL)
        if ends_in_slash(path):  # it means what the link leads to
            mount.ops.stat(resolved.path, resolved.shown)
            raise errors.from_errno(errno.EINVAL, resolved.shown, "readlink")
        return mount.ops.readlink(resolved.path, resolved.shown)

    def link(self, src: Path, dst: Path) -> None:
        """As `os.link`: gives a file a second name; EXDEV between mounts.

        The two names are two entries, each with its own lock. A symbolic link gets a second name
        itself. EOPNOTSUPP in a volume that has no hard links.
        """
        source, target = self._find(src, "link"), self._find(dst, "link", creates=True)
        with _naming(source.shown, target):
            mount = self._mount_of(source, "link", directory=errno.EPERM)
            if self._has_mount_at_or_below(target):
                raise errors.from_errno(errno.EEXIST, source.shown, "link")
            if self._mount_of(target, "link") is not mount:
                raise errors.from_errno(errno.EXDEV, source.shown, "link across mounts")
            if ends_in_slash(dst):
                mount.ops.lstat(source.path, source.shown)
                self._refuse_slash(dst, target, "link")
            if ends_in_slash(src) and self._is_link(source):  # it means what the link leads to
                self._refuse_directory(mount, source, target)
            mount.ops.link(source.path, target.path, source.shown, target.shown)

    def statvfs(self, path: Path) -> os.statvfs_result:
        """As `os.statvfs`: what the filesystem below the volume says."""
        resolved = self._find(path, "statvfs")
        mount = self._mount_of(resolved, "statvfs", directory=errno.EOPNOTSUPP)
        return mount.ops.statvfs(resolved.path, resolved.shown)

    # ---- internal

    def _refuse_to_create(self, resolved: ResolvedPath, doing: str) -> None:
        """Raises what creating a file under a path that ends in '/' gives."""
        if resolved.mount is not None:
            above = resolved.path.rpartition("/")[0]
            if not stat.S_ISDIR(resolved.mount.ops.stat(above, resolved.shown).st_mode):
                raise errors.from_errno(errno.ENOTDIR, resolved.shown, doing)
        raise errors.from_errno(errno.EISDIR, resolved.shown, doing)

    def _refuse_directory(self, mount: Mount, source: ResolvedPath, target: ResolvedPath) -> None:
        """Raises what giving a directory a second name gives."""
        mount.ops.stat(source.path, source.shown)
        exists = self._exists(target)
        raise errors.from_errno(errno.EEXIST if exists else errno.EPERM, source.shown, "link")

    def _refuse_slash(self, path: Path, resolved: ResolvedPath, doing: str) -> None:
        """Only a directory is created under a path that ends in '/'."""
        if ends_in_slash(path):
            assert resolved.mount is not None
            resolved.mount.ops.lstat(resolved.path, resolved.shown)
            raise errors.from_errno(errno.EEXIST, resolved.shown, doing)

    def _scan(self, path: Path, doing: str) -> list[tuple[str, Kind | None]]:
        """The names in a directory with their kinds; mount points are directories."""
        resolved = self._find(path, doing)
        mounted: dict[str, Kind | None] = {
            at[len(resolved.namespace) + 1 :].partition("/")[0]: "directory"
            for at in self._mounts_below(resolved.namespace)
        }
        if resolved.mount is None:
            self._stat_of_implicit_directory(resolved)
            return list(mounted.items())
        try:
            found = dict(resolved.mount.ops.scan(resolved.path, resolved.shown))
        except FileNotFoundError:
            if not mounted:
                raise
            found = {}
        return list((found | mounted).items())

    def _stat_of_implicit_directory(self, resolved: ResolvedPath) -> os.stat_result:
        if not self._is_implicit(resolved):
            raise errors.from_errno(errno.ENOENT, resolved.shown, "stat")
        return entry_stat("directory", mode=0o555)


@contextmanager
def _naming(source: Path, target: ResolvedPath) -> Iterator[None]:
    """Makes an OSError of the body name two paths, as those of `os` do."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = os.fspath(source), target.shown
        raise


def _nanoseconds(times: object, ns: object) -> tuple[int, int] | None:
    """The two times in nanoseconds; None for now. Raises as `os.utime` does."""
    if times is not None and ns is not None:
        raise ValueError("utime takes times or ns, not both")
    given = ns if times is None else times
    if given is None:
        return None
    if not isinstance(given, tuple) or len(given) != 2:
        raise TypeError(f"utime takes a tuple of two times, not {given!r}")
    if times is None:
        if not all(isinstance(time, int) for time in given):
            raise TypeError(f"ns takes two ints, not {given!r}")
        return given
    accessed, modified = (_to_nanoseconds(time) for time in given)
    return accessed, modified


def _to_nanoseconds(time: float) -> int:
    second = math.floor(time)
    return second * 1_000_000_000 + math.floor((time - second) * 1_000_000_000)
