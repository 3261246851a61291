"""`Path`: a path of the machine, with pathlib's names; what touches the disk is awaited."""

from __future__ import annotations

import os
import pathlib
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from aiofs.files import opening
from aiofs.files.status import known_status, look_slowly
from aiofs.files.turns import on_host_thread

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

    from aiofs.files.opening import FileOpening

__all__ = ["Path", "in_batches"]

T = TypeVar("T")

_BATCH = 256  # entries that one trip to a host thread brings


async def in_batches(iterator: Iterator[T], most: int = _BATCH) -> AsyncIterator[T]:
    """The items of an iterator that blocks, fetched on host threads, at most `most` in one trip."""
    try:
        while batch := await on_host_thread(_batch, iterator, most):
            for item in batch:
                yield item
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _batch(iterator: Iterator[T], most: int) -> list[T]:
    return list(islice(iterator, most))


def _changed(**options: tuple[Any, Any]) -> dict[str, Any]:
    """The options that differ from their defaults: older Pythons do not know all of them."""
    return {name: value for name, (value, default) in options.items() if value != default}


class Path(pathlib.PurePosixPath):
    """A path with the methods of `pathlib.Path`, awaited where they touch the disk.

    It is a `PurePosixPath`: what only looks at the path is not awaited, and it equals the
    `pathlib.Path` of the same text. `glob`, `rglob`, `iterdir` and `walk` are asynchronous
    iterators. A method, or an argument, that the running Python's pathlib does not know raises as
    it does there.

    Raises OSError as pathlib does. limiter: ignored; `limiter` is None (names of anyio's Path).
    Source: the standard library, `pathlib`.
    """

    __slots__ = ()

    limiter: ClassVar[None] = None

    def __new__(cls, *args: str | os.PathLike[str], limiter: object = None) -> Self:
        return super().__new__(cls, *args)

    if sys.version_info >= (3, 12):

        def __init__(self, *args: str | os.PathLike[str], limiter: object = None) -> None:
            super().__init__(*args)

    def _same(self, path: str | os.PathLike[str]) -> Self:
        return type(self)(path)

    async def _call(self, name: str, /, *arguments: Any, **options: Any) -> Any:
        method = getattr(pathlib.Path(self), name)
        return await on_host_thread(method, *arguments, **options)

    # ---- where it is

    @classmethod
    async def cwd(cls, *, limiter: object = None) -> Self:
        """The current directory. limiter: ignored."""
        return cls(await on_host_thread(os.getcwd))

    @classmethod
    async def home(cls, *, limiter: object = None) -> Self:
        """The user's home directory. limiter: ignored."""
        return cls(await on_host_thread(pathlib.Path.home))

    async def absolute(self) -> Self:
        """The absolute path; links and `..` stay."""
        return self._same(await self._call("absolute"))

    async def expanduser(self) -> Self:
        """The path with `~` and `~user` at its start replaced."""
        return self._same(await self._call("expanduser"))

    async def resolve(self, strict: bool = False) -> Self:
        """The absolute path without links and `..`. strict: FileNotFoundError if it is missing."""
        return self._same(await self._call("resolve", strict))

    async def readlink(self) -> Self:
        """Where a symbolic link leads."""
        return self._same(await self._call("readlink"))

    # ---- what it is

    async def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        result: os.stat_result = await self._look("stat", bool, follow_symlinks)
        return result

    async def lstat(self) -> os.stat_result:
        return await self.stat(follow_symlinks=False)

    async def exists(self, *, follow_symlinks: bool = True) -> bool:
        return bool(await self._look("exists", lambda mode: True, follow_symlinks))

    async def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return bool(await self._look("is_dir", stat.S_ISDIR, follow_symlinks))

    async def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return bool(await self._look("is_file", stat.S_ISREG, follow_symlinks))

    async def _look(self, name: str, kind: Callable[[int], bool], follow: bool) -> Any:
        """What a method gives: the status itself, or whether `kind` accepts its mode."""
        found = await known_status(self, follow)
        if found is not None:
            return found if name == "stat" else kind(found.st_mode)
        method = getattr(pathlib.Path(self), name)
        return await look_slowly(self, method, **_changed(follow_symlinks=(follow, True)))

    async def is_symlink(self) -> bool:
        return bool(await self._call("is_symlink"))

    async def is_mount(self) -> bool:
        return bool(await self._call("is_mount"))

    async def is_socket(self) -> bool:
        return bool(await self._call("is_socket"))

    async def is_fifo(self) -> bool:
        return bool(await self._call("is_fifo"))

    async def is_block_device(self) -> bool:
        return bool(await self._call("is_block_device"))

    async def is_char_device(self) -> bool:
        return bool(await self._call("is_char_device"))

    async def is_junction(self) -> bool:
        """Whether it is a junction; Linux has none."""
        return bool(await self._call("is_junction"))

    async def samefile(self, other_path: str | os.PathLike[str]) -> bool:
        """Whether both lead to the same file."""
        return bool(await self._call("samefile", os.fspath(other_path)))

    async def owner(self, *, follow_symlinks: bool = True) -> str:
        """The name of the user that owns it."""
        return str(await self._call("owner", **_changed(follow_symlinks=(follow_symlinks, True))))

    async def group(self, *, follow_symlinks: bool = True) -> str:
        """The name of the group that owns it."""
        return str(await self._call("group", **_changed(follow_symlinks=(follow_symlinks, True))))

    # ---- changing it

    async def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        await self._call("chmod", mode, follow_symlinks=follow_symlinks)

    async def lchmod(self, mode: int) -> None:
        await self._call("lchmod", mode)

    async def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        await self._call("mkdir", mode, parents, exist_ok)

    async def rmdir(self) -> None:
        await self._call("rmdir")

    async def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        await self._call("touch", mode, exist_ok)

    async def unlink(self, missing_ok: bool = False) -> None:
        await self._call("unlink", missing_ok)

    async def rename(self, target: str | os.PathLike[str]) -> Self:
        """Renames it; an existing file is replaced. Returns the new path."""
        await self._call("rename", os.fspath(target))
        return self._same(target)

    async def replace(self, target: str | os.PathLike[str]) -> Self:
        """The same as `rename`."""
        await self._call("replace", os.fspath(target))
        return self._same(target)

    async def symlink_to(
        self, target: str | os.PathLike[str], target_is_directory: bool = False
    ) -> None:
        """Makes a symbolic link here, which leads to `target`."""
        await self._call("symlink_to", os.fspath(target), target_is_directory)

    async def hardlink_to(self, target: str | os.PathLike[str]) -> None:
        """Makes this path one more name of the file `target`."""
        await self._call("hardlink_to", os.fspath(target))

    async def copy(self, target: str | os.PathLike[str], **options: Any) -> Self:
        """Copies a file or a directory to `target` (Python 3.14). Returns the new path."""
        return self._same(await self._call("copy", pathlib.Path(target), **options))

    async def copy_into(self, target_dir: str | os.PathLike[str], **options: Any) -> Self:
        """Copies a file or a directory into a directory (Python 3.14). Returns the new path."""
        return self._same(await self._call("copy_into", pathlib.Path(target_dir), **options))

    async def move(self, target: str | os.PathLike[str]) -> Self:
        """Moves a file or a directory to `target`, also across filesystems (Python 3.14)."""
        return self._same(await self._call("move", pathlib.Path(target)))

    async def move_into(self, target_dir: str | os.PathLike[str]) -> Self:
        """Moves a file or a directory into a directory (Python 3.14). Returns the new path."""
        return self._same(await self._call("move_into", pathlib.Path(target_dir)))

    # ---- what is in it

    async def _paths(self, found: Callable[[], Iterable[pathlib.Path]]) -> AsyncIterator[Self]:
        async for path in in_batches(iter(await on_host_thread(found))):
            yield self._same(path)

    def iterdir(self) -> AsyncIterator[Self]:
        """The entries of a directory, in no order."""
        return self._paths(pathlib.Path(self).iterdir)

    def glob(self, pattern: str, **options: Any) -> AsyncIterator[Self]:
        """The paths below this one that match a pattern, such as "**/*.py"."""
        return self._paths(lambda: pathlib.Path(self).glob(pattern, **options))

    def rglob(self, pattern: str, **options: Any) -> AsyncIterator[Self]:
        """As `glob` with "**/" before the pattern."""
        return self._paths(lambda: pathlib.Path(self).rglob(pattern, **options))

    async def walk(
        self,
        top_down: bool = True,
        on_error: Callable[[OSError], object] | None = None,
        follow_symlinks: bool = False,
    ) -> AsyncIterator[tuple[Self, list[str], list[str]]]:
        """The directories below: the path, the names of directories, those of files (Python 3.12).

        Each is read when it is asked for, so the names of directories may be changed before that.
        """
        path: Any = pathlib.Path(self)
        steps = path.walk(top_down, on_error, follow_symlinks)
        async for below, directories, files in in_batches(steps, most=1):
            yield self._same(below), directories, files

    # ---- its bytes

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        atomic: bool = False,
        durable: bool = False,
    ) -> FileOpening[Any]:
        """As `aiofs.open` of this path."""
        return opening.open(
            self, mode, buffering, encoding, errors, newline, atomic=atomic, durable=durable
        )

    async def read_bytes(self) -> bytes:
        """All bytes of the file."""
        return await opening.read_bytes(self)

    async def read_text(
        self, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        """The whole file as text, with "\\n" at the ends of lines unless `newline` says else."""
        return await opening.read_text(self, encoding, errors, newline)

    async def write_bytes(
        self, data: Buffer, *, atomic: bool = False, durable: bool = False
    ) -> int:
        """Makes `data` the bytes of the file. Returns their count."""
        return await opening.write_bytes(self, data, atomic=atomic, durable=durable)

    async def write_text(
        self,
        data: str,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        atomic: bool = False,
        durable: bool = False,
    ) -> int:
        """Makes `data` the text of the file. Returns the count of characters."""
        return await opening.write_text(
            self, data, encoding, errors, newline, atomic=atomic, durable=durable
        )
