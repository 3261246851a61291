"""Copies of files and trees, and walks through trees."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from aiofs import _core
from aiofs.files.path import in_batches
from aiofs.files.turns import on_host_thread

if TYPE_CHECKING:
    Ignore: TypeAlias = Callable[[Any, list[str]], Iterable[str]]

__all__ = ["copyfile", "copytree", "walk"]

Target = TypeVar("Target", bound="str | os.PathLike[str]")
StrPath: TypeAlias = "str | os.PathLike[str]"
Progress: TypeAlias = "Callable[[int, int], object]"


async def copyfile(source: StrPath, target: Target, *, progress: Progress | None = None) -> Target:
    """Copies the bytes of a file to `target`, which is created or replaced. Returns `target`.

    Extents are shared where the filesystem can (a reflink), and holes stay holes. progress: called
    on the event loop with the bytes that are done and their total. If the await is cancelled, the
    copy stops early. OSError as `open`; `shutil.SameFileError` and `shutil.SpecialFileError` as
    `shutil.copyfile`.
    """
    loop = asyncio.get_running_loop()
    wanted = [True]

    def report(done: int, total: int) -> None:
        if not wanted:
            raise asyncio.CancelledError
        if progress is not None:
            loop.call_soon_threadsafe(progress, done, total)

    try:
        await on_host_thread(_copy, source, target, report)
    finally:
        wanted.clear()
    return target


def _copy(source: StrPath, target: StrPath, report: Callable[[int, int], None]) -> None:
    """Runs on a host thread."""
    flags = os.O_CLOEXEC | os.O_NONBLOCK
    reading = os.open(source, os.O_RDONLY | flags)
    try:
        found = _regular(reading, source)
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | flags, 0o666)
        try:
            replaced = _regular(writing, target)
            if os.path.samestat(found, replaced):
                raise shutil.SameFileError(f"{source!r} and {target!r} are the same file")
            os.ftruncate(writing, 0)
            _core.copy_bytes(reading, writing, lambda done: report(done, found.st_size))
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    report(found.st_size, found.st_size)


def _regular(descriptor: int, path: StrPath) -> os.stat_result:
    found = os.fstat(descriptor)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(21, "it is a directory", os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        raise shutil.SpecialFileError(f"{path!r} is no regular file")
    return found


async def copytree(
    source: StrPath,
    target: Target,
    *,
    symlinks: bool = False,
    ignore: Ignore | None = None,
    dirs_exist_ok: bool = False,
    progress: Callable[[str], object] | None = None,
) -> Target:
    """Copies a directory with all that is in it, with modes and times. Returns `target`.

    The arguments are those of `shutil.copytree`, and so are the errors. progress: called on the
    event loop with the path of each file that is copied.
    """
    loop = asyncio.get_running_loop()

    def copy(one: str, other: str) -> str:
        _copy(one, other, lambda done, total: None)
        shutil.copystat(one, other)
        if progress is not None:
            loop.call_soon_threadsafe(progress, other)
        return other

    await on_host_thread(
        shutil.copytree,
        source,
        target,
        symlinks=symlinks,
        ignore=ignore,
        copy_function=copy,
        dirs_exist_ok=dirs_exist_ok,
    )
    return target


def walk(
    top: StrPath,
    topdown: bool = True,
    onerror: Callable[[OSError], object] | None = None,
    followlinks: bool = False,
) -> AsyncIterator[tuple[str, list[str], list[str]]]:
    """The directories below `top`, as `os.walk` gives them: (path, directories, files).

    Each is read when it is asked for, so with `topdown` the list of directories may be changed.
    """
    return in_batches(os.walk(os.fspath(top), topdown, onerror, followlinks), most=1)
