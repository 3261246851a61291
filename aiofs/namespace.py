"""`Namespace`: the mounts of a FileSystem, and the paths that lead through them to entries."""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import TYPE_CHECKING, NamedTuple

from aiofs import errors
from aiofs.handles import DirectoryHandle
from aiofs.volume_ops import HasOps, VolumeOps
from aiofs.volumes import Volume

if TYPE_CHECKING:
    Path = str | os.PathLike[str]

__all__ = ["Mount", "Namespace", "ResolvedPath", "ends_in_slash", "listed"]


class Mount(NamedTuple):
    at: str  # the mount point in the namespace; "" is "/"
    volume: HasOps
    base: str  # the mounted directory's path in the volume

    @property
    def ops(self) -> VolumeOps:
        return self.volume._ops


class ResolvedPath(NamedTuple):
    """A resolved path of the namespace.

    If `mount` is None, the path lies in no mount: it is an implicit directory above a mount point,
    or does not exist.
    """

    mount: Mount | None
    path: str  # in the volume
    namespace: str  # the canonical path in the namespace; "" is "/"
    shown: str  # the path as the program gave it, for errors


class Namespace:
    """The mounts of a `FileSystem`, and its paths. `_lock` guards the mounts."""

    def __init__(self) -> None:
        self._mounts: dict[str, Mount] = {}
        self._lock = threading.Lock()

    # ---- mounts

    def mount(self, path: Path, source: Volume | DirectoryHandle) -> None:
        """Mounts a volume, or a directory of a volume, at a path. Compare mount(2).

        path: need not exist. source: a volume, or a DirectoryHandle.
        Raises `InvalidModificationError` (EEXIST) if the path is an entry or a mount point already;
        but "/" may be mounted over other mounts. Raises `NotFoundError` if the source is missing,
        `TypeMismatchError` if it is not a directory, TypeError if it is neither a volume nor a
        DirectoryHandle.
        """
        if isinstance(source, DirectoryHandle):
            mount = Mount(canonical(path), source._volume, source._path)
        elif isinstance(source, Volume):
            mount = Mount(canonical(path), source, "")
        else:
            raise TypeError(f"a volume or a DirectoryHandle is wanted, not {type(source).__name__}")
        shown = os.fspath(path)
        if not stat.S_ISDIR(mount.ops.stat(mount.base).st_mode):
            raise errors.from_errno(errno.ENOTDIR, mount.ops.show(mount.base), "mount")
        # Without the lock: the lstat of a volume written in Python may use this FileSystem.
        exists = bool(mount.at) and mount.at not in self._mounts
        exists = exists and self._exists(self._find(path, "mount"))
        with self._lock:
            if mount.at in self._mounts:
                reason = "a volume is mounted there already"
                raise errors.from_errno(errno.EEXIST, shown, "mount", reason)
            if exists:
                reason = "there is an entry of that name already"
                raise errors.from_errno(errno.EEXIST, shown, "mount", reason)
            self._mounts[mount.at] = mount

    def unmount(self, path: Path) -> None:
        """Removes a mount; the volume stays as it is, open or closed. Compare umount(2).

        Raises `NoModificationAllowedError` (EBUSY) while descriptors or handles of this process are
        open in it, or another mount lies below it; OSError EINVAL if the path is no mount point,
        `NotFoundError` if it does not exist.
        """
        at, shown = canonical(path), os.fspath(path)
        if at not in self._mounts:
            number = errno.EINVAL if self._exists(self._find(path, "unmount")) else errno.ENOENT
            reason = "nothing is mounted there" if number == errno.EINVAL else None
            raise errors.from_errno(number, shown, "unmount", reason)
        with self._lock:
            mount = self._mounts.get(at)
            if mount is None:  # another thread was faster
                raise errors.from_errno(errno.EINVAL, shown, "unmount", "nothing is mounted there")
            below = self._mounts_below(at) if at else []
            held = 0 if below else _lock_count(mount)
            if below or held:
                reason = f"{listed(below)} is mounted below it" if below else f"{held} open in it"
                raise errors.from_errno(errno.EBUSY, shown, "unmount", reason)
            del self._mounts[at]

    # ---- paths

    def _find(self, path: Path, doing: str, *, creates: bool = False) -> ResolvedPath:
        """Resolves a path: the mount with the longest mount point above it, and the path there.

        A path that ends in '/' is refused if it leads to a file, unless the call creates the entry.
        """
        shown, namespace = os.fspath(path), canonical(path)
        if not shown:
            raise errors.from_errno(errno.ENOENT, shown, doing)
        at = namespace
        while at not in self._mounts and at:
            at = at.rpartition("/")[0]
        mount = self._mounts.get(at)
        if mount is None:
            return ResolvedPath(None, "", namespace, shown)
        below = namespace[len(at) + 1 :]
        inside = f"{mount.base}/{below}" if mount.base and below else mount.base or below
        resolved = ResolvedPath(mount, inside, namespace, shown)
        if ends_in_slash(shown) and inside and not creates:
            self._refuse_file(resolved, doing)
        return resolved

    def _refuse_file(self, resolved: ResolvedPath, doing: str) -> None:
        """Raises ENOTDIR if the path, which ends in '/', is a file."""
        assert resolved.mount is not None
        try:
            mode = resolved.mount.ops.stat(resolved.path, resolved.shown).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            raise errors.from_errno(errno.ENOTDIR, resolved.shown, doing)

    def _is_link(self, resolved: ResolvedPath) -> bool:
        if resolved.mount is None:
            return False
        try:
            mode = resolved.mount.ops.lstat(resolved.path, resolved.shown).st_mode
        except FileNotFoundError:
            return False
        return stat.S_ISLNK(mode)

    def _mount_of(self, resolved: ResolvedPath, doing: str, directory: int = errno.EROFS) -> Mount:
        """The mount of a resolved path. Without one, raises the errno `directory` for an implicit
        directory, and ENOENT for a path that does not exist."""
        if resolved.mount is not None:
            return resolved.mount
        implicit = self._mounts_below(resolved.namespace)
        raise errors.from_errno(directory if implicit else errno.ENOENT, resolved.shown, doing)

    def _changeable(self, path: Path, doing: str) -> ResolvedPath:
        """Resolves a path that may be changed: EBUSY for a mount point, and above one."""
        resolved = self._find(path, doing, creates=True)
        if ends_in_slash(path) and resolved.path:
            if self._is_link(resolved):
                raise errors.from_errno(errno.ENOTDIR, resolved.shown, doing)
            self._refuse_file(resolved, doing)
        if resolved.namespace in self._mounts:
            raise errors.from_errno(errno.EBUSY, resolved.shown, doing, "it is a mount point")
        below = self._mounts_below(resolved.namespace)
        if below:
            reason = f"{listed(below)} is mounted below it"
            raise errors.from_errno(errno.EBUSY, resolved.shown, doing, reason)
        return resolved

    def _has_mount_at_or_below(self, resolved: ResolvedPath) -> bool:
        return resolved.namespace in self._mounts or bool(self._mounts_below(resolved.namespace))

    def _mounts_below(self, namespace: str) -> list[str]:
        return [at for at in tuple(self._mounts) if at.startswith(namespace + "/")]

    def _is_implicit(self, resolved: ResolvedPath) -> bool:
        """Whether mounts lie below the path; then it is a directory, in whatever volume."""
        return bool(self._mounts_below(resolved.namespace))

    def _exists(self, resolved: ResolvedPath) -> bool:
        if resolved.mount is None:
            return self._is_implicit(resolved)
        try:
            resolved.mount.ops.lstat(resolved.path, resolved.shown)
        except (FileNotFoundError, NotADirectoryError):
            return self._is_implicit(resolved)
        return True


def listed(paths: list[str]) -> str:
    return ", ".join(map(repr, paths))


def ends_in_slash(path: Path) -> bool:
    """Whether the path must lead to a directory: it ends in '/' or '/.'."""
    return os.fspath(path).endswith(("/", "/."))


def canonical(path: Path) -> str:
    """The canonical path in the namespace: "" for "/" itself, "/a/b" for a path below it."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"a path must be a str, not {type(text).__name__}")
    if "\0" in text:
        raise ValueError(f"a path has no NUL character in it: {text!r}")
    components: list[str] = []
    for component in text.split("/"):
        if component == "..":
            del components[-1:]
        elif component not in ("", "."):
            components.append(component)
    return "".join(f"/{component}" for component in components)


def _lock_count(mount: Mount) -> int:
    """The number of locks of this process in a mount; none if its volume is closed."""
    try:
        return mount.ops.lock_count(mount.base)
    except OSError as error:
        if error.errno == errno.EBADF:
            return 0
        raise
