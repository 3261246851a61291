"""What the handles of files and of directories have in common: the path of an entry in a volume."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from aiofs import _core, errors
from aiofs.errors import NotFoundError
from aiofs.volume_ops import HasOps, VolumeOps, check_name

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
Async = Coroutine[Any, Any, T]


@contextmanager
def missing(ops: VolumeOps, path: str, create: bool) -> Iterator[None]:
    """Adds "(create=True makes it)" to a NotFoundError of the body if that is true."""
    try:
        yield
    except NotFoundError as error:
        if not create and _is_directory(ops, path.rpartition("/")[0]):
            error.strerror = f"{error.strerror} (create=True makes it)"
            error.args = (error.errno, error.strerror)
        raise


def check_kind(
    ops: VolumeOps, path: str, kind: str, doing: str, found: os.stat_result | None = None
) -> None:
    """Raises TypeMismatchError if the entry is not of this kind: "file", "directory" or "any".

    found: its stat, if the caller has one.
    """
    mode = (found or ops.stat(path)).st_mode
    number = errno.ENOTDIR if kind == "directory" else errno.EISDIR
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        message = f"{doing}: it is neither a file nor a directory"
        raise errors.TypeMismatchError(number, message, ops.show(path))
    if kind not in ("any", "directory" if stat.S_ISDIR(mode) else "file"):
        reason = None if stat.S_ISDIR(mode) else "it is a file"
        raise errors.from_errno(number, ops.show(path), doing, reason)


def _is_directory(ops: VolumeOps, path: str) -> bool:
    try:
        return stat.S_ISDIR(ops.stat(path).st_mode)
    except OSError:
        return False


class Handle:
    """The path of an entry in a volume: the base class of FileHandle and DirectoryHandle.

    WHATWG File System: `FileSystemHandle`.
    """

    kind: ClassVar[str]  # "file" or "directory"

    _volume: HasOps
    _path: str

    def __init__(self) -> None:
        raise TypeError(f"a {type(self).__name__} comes from a volume or a DirectoryHandle")

    @classmethod
    def _of(cls, volume: HasOps, path: str) -> Self:
        handle = cls.__new__(cls)
        handle._volume = volume
        handle._path = path
        return handle

    @property
    def name(self) -> str:
        """The last component of the path; '' for the root of a volume."""
        return self._path.rpartition("/")[2]

    @property
    def _parent(self) -> str:
        return self._path.rpartition("/")[0]

    def is_same_entry(self, other: Handle) -> Async[bool]:
        """`await handle.is_same_entry(other)`: whether both name the same entry of the same volume.

        Raises TypeError if other is not a handle. WHATWG File System: `isSameEntry`.
        """
        if not isinstance(other, Handle):
            raise TypeError(f"a handle is wanted, not {type(other).__name__}")
        return done(self == other)

    def get_unique_id(self) -> Async[str]:
        """`await handle.get_unique_id()`: a UUID for the entry, as a str.

        Handles of one kind for the same path in the same volume have the same one, in every
        process, also after the entry was changed, or removed and created again. Raises
        `InvalidStateError` (EBADF) if the volume is closed. WHATWG File System: `getUniqueId`.
        """
        return _core.offload(self._unique_id)

    @overload
    def move(self, name: str, /) -> Async[None]: ...
    @overload
    def move(self, directory: Handle, name: str | None = None) -> Async[None]: ...
    def move(self, directory: Handle | str, name: str | None = None) -> Async[None]:
        """`await handle.move(name)` renames the entry; `move(directory)` moves it to a directory of
        the volume, `move(directory, name)` does both. The handle then names the moved entry.

        An existing file of that name is replaced, atomically. Raises `NoModificationAllowedError`
        (EBUSY) if the entry, an entry below it, or the file to be replaced is locked;
        `InvalidModificationError` if the target is a directory (EEXIST), if a directory would
        replace a file (EEXIST) or move into itself (ENOTEMPTY), or if the target is in another
        volume (EXDEV); `NotFoundError` if the entry or the directory is missing; ValueError for a
        bad name. WHATWG File System: `move`.
        """
        if isinstance(directory, str):
            if name is not None:
                raise TypeError("move takes a name, or a DirectoryHandle and a name")
            check_name(directory)
            target = f"{self._parent}/{directory}" if self._parent else directory
            return _core.offload(self._move, self, target)
        if isinstance(directory, Handle) and directory.kind == "directory":
            name = self.name if name is None else check_name(name)
            target = f"{directory._path}/{name}" if directory._path else name
            return _core.offload(self._move, directory, target)
        raise TypeError(f"a name or a DirectoryHandle is wanted, not {type(directory).__name__}")

    def _in_same_volume(self, other: Handle) -> bool:
        """Whether both are in the same volume, even if the volume was opened twice."""
        return self._volume._ops.same(other._volume._ops)

    # ---- run on a worker thread

    def _unique_id(self) -> str:
        words = (self._volume._ops.identity(), self.kind, self._path)
        digest = hashlib.sha256(b"\0".join(map(os.fsencode, words))).digest()
        return str(uuid.UUID(bytes=digest[:16], version=5))

    def _move(self, volume_of: Handle, target: str) -> None:
        """Moves the entry to the path `target` of the volume of another handle."""
        ops, source = self._volume._ops, self._path
        if not source:
            raise errors.from_errno(errno.EBUSY, ops.show(""), "move", "the root cannot be moved")
        check_kind(ops, source, self.kind, "move")
        if not self._in_same_volume(volume_of):
            reason = "the target is in another volume"
            raise errors.from_errno(errno.EXDEV, ops.show(source), "move", reason)
        try:
            ops.move(source, target)
        except OSError as error:
            if error.errno == errno.EINVAL:
                reason = "a directory cannot be moved into itself"
                raise errors.from_errno(errno.ENOTEMPTY, ops.show(source), "move", reason) from None
            if error.errno == errno.EOPNOTSUPP:
                number = errno.ENOTDIR if self.kind == "directory" else errno.EISDIR
                message = "move: what it would replace is neither a file nor a directory"
                raise errors.TypeMismatchError(number, message, ops.show(target)) from None
            raise
        self._path = target

    # ---- comparing

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Handle) or type(self) is not type(other):
            return NotImplemented
        return self._path == other._path and self._in_same_volume(other)

    def __hash__(self) -> int:
        return hash((type(self), self._path))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path!r} of {self._volume!r}>"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[HasOps, str]]:
        return type(self)._of, (self._volume, self._path)


async def done(value: T) -> T:
    return value
