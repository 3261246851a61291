"""The errors of aiofs: each an OSError, each with the name that the WHATWG standard gives it.

`from_errno` makes the right one from an errno, for the core and for the modules above it. An errno
that the standard has no name for (EACCES, EINTR, ...) stays what Python makes of it:
PermissionError, InterruptedError, or plain OSError.
"""

from __future__ import annotations

import errno
import inspect
import os
from typing import Any, ClassVar

__all__ = [
    "AbortError",
    "InvalidModificationError",
    "InvalidStateError",
    "NoModificationAllowedError",
    "NotFoundError",
    "NotReadableError",
    "QuotaExceededError",
    "TypeMismatchError",
    "from_errno",
]


class NotFoundError(FileNotFoundError):
    """The entry, or the directory it should lie in, is not there (ENOENT)."""

    name: ClassVar[str] = "NotFoundError"


class TypeMismatchError(OSError):
    """A file where a directory was asked for (ENOTDIR), or the reverse (EISDIR).

    Those that aiofs raises are also NotADirectoryError or IsADirectoryError.
    """

    name: ClassVar[str] = "TypeMismatchError"


class InvalidModificationError(OSError):
    """A change that cannot be made: a directory that is not empty (ENOTEMPTY), a move to another
    volume (EXDEV), an entry that is there already (EEXIST; then also FileExistsError)."""

    name: ClassVar[str] = "InvalidModificationError"


class NoModificationAllowedError(OSError):
    """Somebody else has the entry locked (EBUSY), or the handle is read-only (EBADF)."""

    name: ClassVar[str] = "NoModificationAllowedError"


class InvalidStateError(OSError, ValueError):
    """Used after it was closed (EBADF), or the disk failed (EIO)."""

    name: ClassVar[str] = "InvalidStateError"


class QuotaExceededError(OSError):
    """The volume's quota forbids the growth, and nothing was written (EDQUOT); or the disk is full
    (ENOSPC)."""

    name: ClassVar[str] = "QuotaExceededError"


class NotReadableError(OSError):
    """The bytes of a `File` changed after `get_file` (ESTALE)."""

    name: ClassVar[str] = "NotReadableError"


class AbortError(OSError):
    """In flight when `abort()` was called (ECANCELED)."""

    name: ClassVar[str] = "AbortError"


class _Both:
    """Of two classes, so that `except` finds it under either; shown and pickled as the first."""

    def __reduce__(self) -> tuple[Any, ...]:
        assert isinstance(self, OSError)
        return _remake, (self.errno, self.strerror, self.filename)


class _IsADirectory(_Both, TypeMismatchError, IsADirectoryError):
    pass


class _NotADirectory(_Both, TypeMismatchError, NotADirectoryError):
    pass


class _Exists(_Both, InvalidModificationError, FileExistsError):
    pass


for _class in (_IsADirectory, _NotADirectory, _Exists):
    _class.__name__ = _class.__qualname__ = _class.__mro__[2].__name__
    _class.__module__ = "aiofs"
_fields = ("errno", "strerror", "filename", "winerror", "filename2")
_signature = inspect.Signature(
    [inspect.Parameter(field, inspect.Parameter.POSITIONAL_ONLY, default=None) for field in _fields]
)
for _name in __all__[:-1]:
    globals()[_name].__module__ = "aiofs"
    globals()[_name].__signature__ = _signature


_CLASSES: dict[int, type[OSError]] = {
    errno.ENOENT: NotFoundError,
    errno.EISDIR: _IsADirectory,
    errno.ENOTDIR: _NotADirectory,
    errno.ENOTEMPTY: InvalidModificationError,
    errno.EXDEV: InvalidModificationError,
    errno.EEXIST: _Exists,
    errno.EBUSY: NoModificationAllowedError,
    errno.EBADF: InvalidStateError,
    errno.EIO: InvalidStateError,
    errno.EDQUOT: QuotaExceededError,
    errno.ENOSPC: QuotaExceededError,
    errno.ESTALE: NotReadableError,
    errno.ECANCELED: AbortError,
}

# What the errno's usual words do not say well: of an errno, or of one in a certain undertaking.
_MESSAGES: dict[int | tuple[int, str | None], str] = {
    errno.EBADF: "it is closed",
    errno.EBUSY: "it is in use: locked by another handle, FileSystem or process",
    errno.ECANCELED: "aborted",
    errno.EDQUOT: "the volume's quota would be exceeded",
    errno.EISDIR: "it is a directory, not a file",
    errno.ELOOP: "a symbolic link is in the way, and is not followed here",
    errno.ENOTDIR: "it, or what it should lie in, is not a directory",
    errno.EROFS: "the volume is read-only",
    errno.ESTALE: "it changed after get_file",
    errno.EXDEV: "that leads out of its volume",
    (errno.EBADF, "use a closed volume"): "the volume is closed",
    (errno.EBADF, "use a request that has ended"): "its memory is the request's no longer",
    (errno.EBADF, "complete a request twice"): "it has ended already",
    (errno.EXDEV, "rename across mounts"): "source and target are in different mounts",
    (errno.EBUSY, "open volume"): "it lies inside or around another volume that is open",
    (errno.EACCES, "open memory volume"): "it should be a directory that only this user can enter",
}


def _remake(number: int, message: str, subject: str | int | None) -> OSError:
    return _CLASSES[number](number, message, subject)


def from_errno(
    number: int,
    subject: str | int | None = None,
    doing: str | None = None,
    reason: str | None = None,
) -> OSError:
    """The exception for an errno.

    subject: the path or descriptor that it is about. doing: what was tried, in a word or two.
    reason: why it failed, where the caller knows more than the errno says.
    """
    text = reason or _MESSAGES.get((number, doing)) or _MESSAGES.get(number) or os.strerror(number)
    if doing:
        text = f"{doing}: {text}"
    found = _CLASSES.get(number, OSError)
    return found(number, text) if subject is None else found(number, text, subject)
