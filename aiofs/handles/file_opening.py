"""How `FileHandle.open` opens a file: the checks, the lock, and the awaitable.

It is imported at the first call, because it needs `aiofs.files`, which other programs do without.

Ownership. The stack of `io` owns the open file (`HeldFile`). If the opening is cancelled or
dropped, whoever notices first ends it: the host thread that opened, or the await.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from functools import lru_cache, partial
from typing import Any, NoReturn

from aiofs import _core, errors
from aiofs.files.opening import FileOpening, check_atomic, chosen_buffering, is_loaded
from aiofs.files.replacing import sync_directory_of
from aiofs.files.wrapped import AsyncFile, wrap_opened
from aiofs.handles.entry import Handle
from aiofs.handles.opening import Opening
from aiofs.handles.raw_file import CreatedFile, HeldFile, stack_of
from aiofs.volume_ops import HasOps, new_owner

__all__ = ["open_file"]


class _FileCall:
    """What a call of `FileHandle.open` asks for. ValueError, TypeError: as the built-in `open`."""

    def __init__(
        self,
        handle: Handle,
        mode: str,
        buffering: int,
        encoding: str | None,
        errors: str | None,
        newline: str | None,
        atomic: bool,
        durable: bool,
    ) -> None:
        self.volume: HasOps = handle._volume
        self.ops = self.volume._ops
        self.path = handle._path
        self.shown = self.ops.show(self.path)
        self.mode = mode
        self.buffering = chosen_buffering(mode, buffering)
        self.text = (encoding, errors, newline)
        self.flags = _flags_of(mode, buffering, *self.text)
        if atomic:
            check_atomic(mode)
        self.atomic = atomic
        self.durable = durable
        self.on_disk = isinstance(self.ops, _core.DirectoryOps)
        self.only_reads = self.flags & os.O_ACCMODE == os.O_RDONLY
        self.held: HeldFile | None = None

    def open(self) -> HeldFile:
        """Opens the file, and takes the lock. Runs on a host thread."""
        if "b" not in self.mode:  # before anything is changed
            io.TextIOWrapper(io.BytesIO(), *self.text)
        if self.only_reads:
            return HeldFile(self._open_to_read(), self.shown)
        owner = new_owner() if self.atomic and self.flags & os.O_CREAT else 0
        opened, was_created = self._open_locked(owner)
        created = CreatedFile(self.ops, self.path, owner) if was_created and owner else None
        lazy = self.durable and not getattr(self.volume, "_durable", True)
        sync = partial(_sync_name, self.shown) if lazy else None
        return HeldFile(opened, self.shown, atomic=self.atomic, created=created, sync=sync)

    def _open_locked(self, owner: int) -> tuple[_core.SyncAccessHandle, bool]:
        if self.atomic or not self.flags & os.O_TRUNC:
            return self.ops.open_locked(self.path, self.flags, self.atomic, owner)
        flags = self.flags & ~os.O_TRUNC
        opened, created = self.ops.open_locked(self.path, flags, False, owner)
        try:
            if opened.get_size():
                opened.truncate(0)  # a change, which the close syncs; O_TRUNC is none
        except BaseException:
            opened._drop()
            raise
        return opened, created

    def _open_to_read(self) -> _core.OpenFile:
        try:
            return self.ops.open(self.path, self.flags, 0, _core.LOCK_NONE, 0)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            message = "open file: it is neither a file nor a directory"
            raise errors.TypeMismatchError(errno.EISDIR, message, self.shown) from None

    def may_be_cached(self) -> bool:
        """Whether the file can be opened inside the call."""
        return self.only_reads and self.on_disk and is_loaded(self.text[0])

    def open_file(self) -> AsyncFile[Any]:
        """Runs on a host thread."""
        self.held = held = self.open()
        return self.file_of(held)

    def open_cached(self) -> AsyncFile[Any]:
        opened = _core.cached_open_file(self.ops, self.path, self.flags)
        if opened is None:
            raise BlockingIOError
        return self.file_of(HeldFile(opened, self.shown), local=True)

    def file_of(self, held: HeldFile, *, local: bool = False) -> AsyncFile[Any]:
        stack = stack_of(held, self.on_disk, self.mode, self.buffering, *self.text)
        file = wrap_opened(stack, self.buffering, self.text[2], local=local)
        return file._ending_with(held if self.atomic else None)


def _sync_name(path: str) -> None:
    sync_directory_of(os.path.realpath(path))


class HandleOpening(FileOpening[AsyncFile[Any]]):
    """The operation of `FileHandle.open`: `await` it for the file, or enter it with `async with`.

    It begins at the await, and so does the wait for the lock. If the await is cancelled, it leaves
    no lock and no descriptor.
    """

    def __init__(self, call: _FileCall, wait: float | None) -> None:
        super().__init__(call.open_file, call.open_cached if call.may_be_cached() else None)
        self._of = call
        self._wait = wait

    def _begin(self) -> Opening[AsyncFile[Any]]:
        key = (self._of.ops, self._of.path)
        return Opening(self._open_here, wait=self._wait, key=key)

    def _open_here(self) -> AsyncFile[Any]:
        self._arrived = file = self._call()
        if self._abandoned:
            self._abandon(file)
        return file

    def _abandon(self, file: AsyncFile[Any]) -> None:
        if self._of.held is not None:
            self._of.held.drop()
        file._discard()


def open_file(
    handle: Handle,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    *,
    atomic: bool = False,
    durable: bool = False,
    wait: float | None = None,
) -> HandleOpening:
    """See `FileHandle.open`."""
    call = _FileCall(
        handle, mode, buffering, encoding, errors, newline, bool(atomic), bool(durable)
    )
    _core.deadline_of(wait)  # refuses a bad one
    return HandleOpening(call, wait)


class _Checked(Exception):
    """The built-in `open` has found no fault with its arguments. Has the flags of open(2)."""


def _check(path: str, flags: int) -> NoReturn:
    """An opener that opens nothing."""
    raise _Checked(flags)  # in no variable: the traceback would keep the frame, and all below it


@lru_cache(typed=True)
def _flags_of(
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> int:
    """The flags of open(2) for arguments of the built-in `open`, which raises if they are bad."""
    try:
        builtins.open("", mode, buffering, encoding, errors, newline, opener=_check)
    except _Checked as checked:
        if buffering == 0 and "b" not in mode:
            raise ValueError("can't have unbuffered text I/O") from None
        flags: int = checked.args[0]
        return flags
    raise AssertionError("unreachable: the opener raises")
