"""What the handles of files and of directories have in common: the path of an entry in a volume."""

from __future__ import annotations

import stat
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from aiofs.errors import NotFoundError
from aiofs.volume_ops import HasOps, VolumeOps

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

    def _in_same_volume(self, other: Handle) -> bool:
        """Whether both are in the same volume, even if the volume was opened twice."""
        return self._volume._ops.same(other._volume._ops)

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
