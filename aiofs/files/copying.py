"""Copies of files and trees, and walks through trees."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from aiofs import _core
from aiofs.files.path import in_batches
from aiofs.files.scarce import whole_call
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
    on the event loop with the bytes that are done and their total, for the last time before the
    await returns. If the await is cancelled, the copy stops early. OSError as `open`;
    `shutil.SameFileError` and `shutil.SpecialFileError` as `shutil.copyfile`.
    """
    reports = _Reports(progress)
    try:
        await whole_call(_copy, source, target, reports.add)
        reports.deliver()
    finally:
        reports.end()
    return target


class _Reports:
    """Calls a function on the event loop with what a host thread reports."""

    def __init__(self, function: Callable[..., object] | None) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._ended = False

    def add(self, *report: Any) -> None:
        """Runs on a host thread. Raises CancelledError once nobody awaits the operation."""
        if self._ended:
            raise asyncio.CancelledError
        if self._function is not None:
            self._waiting.append(report)
            self._loop.call_soon_threadsafe(self.deliver)

    def deliver(self) -> None:
        while self._waiting and not self._ended and self._function is not None:
            report = self._waiting.popleft()
            try:
                self._function(*report)
            except Exception as error:
                message = f"Exception in progress function {self._function!r}"
                self._loop.call_exception_handler({"message": message, "exception": error})

    def end(self) -> None:
        self._ended = True


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
            if replaced.st_size:  # ext4 writes a truncated file to the disk at its close
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
    event loop with the path of each file that is copied. If the await is cancelled, the copy stops
    at the next file.
    """
    reports = _Reports(progress)

    def copy(one: str, other: str) -> str:
        _copy(one, other, lambda done, total: None)
        shutil.copystat(one, other)
        reports.add(other)
        return other

    try:
        await on_host_thread(
            shutil.copytree,
            source,
            target,
            symlinks=symlinks,
            ignore=ignore,
            copy_function=copy,
            dirs_exist_ok=dirs_exist_ok,
        )
        reports.deliver()
    finally:
        reports.end()
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
