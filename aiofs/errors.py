"""The errors of aiofs: subclasses of OSError with the names of the WHATWG standard.

`from_errno` makes the exception for an errno, for the core and for the modules above it. An errno
without a name in the standard (EACCES, EINTR, ...) becomes the class that Python uses for it:
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
    """The entry, or its directory, does not exist (ENOENT)."""

    name: ClassVar[str] = "NotFoundError"


class TypeMismatchError(OSError):
    """The entry is a file and not a directory (ENOTDIR), or the reverse (EISDIR).

    aiofs raises subclasses that are also NotADirectoryError or IsADirectoryError.
    """

    name: ClassVar[str] = "TypeMismatchError"


class InvalidModificationError(OSError):
    """The change is not possible: the directory is not empty (ENOTEMPTY), the target is in another
    volume (EXDEV), or the entry exists already (EEXIST; then it is also a FileExistsError)."""

    name: ClassVar[str] = "InvalidModificationError"


class NoModificationAllowedError(OSError):
    """Another holder has locked the entry (EBUSY), or the handle (EBADF) or its volume (EROFS) is
    read-only."""

    name: ClassVar[str] = "NoModificationAllowedError"


class InvalidStateError(OSError, ValueError):
    """The object is closed (EBADF), or the disk failed (EIO)."""

    name: ClassVar[str] = "InvalidStateError"


class QuotaExceededError(OSError):
    """The write would exceed the volume's quota, and wrote nothing (EDQUOT); or the disk is full
    (ENOSPC)."""

    name: ClassVar[str] = "QuotaExceededError"


class NotReadableError(OSError):
    """The bytes of a `File` changed after `get_file` (ESTALE)."""

    name: ClassVar[str] = "NotReadableError"


class AbortError(OSError):
    """`abort()` ended the operation while it was in flight (ECANCELED)."""

    name: ClassVar[str] = "AbortError"


class _Both:
    """A class that derives from an aiofs error and a built-in one, so that `except` matches both.

    Its name, and what pickle writes, are those of the aiofs error.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        assert isinstance(self, OSError)
        return _remake, (self.errno, self.strerror, self.filename, self.filename2)


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


# The class for an errno, or for an errno in one operation.
_CLASSES: dict[int | tuple[int, str | None], type[OSError]] = {
    errno.ENOENT: NotFoundError,
    errno.EISDIR: _IsADirectory,
    errno.ENOTDIR: _NotADirectory,
    errno.ENOTEMPTY: InvalidModificationError,
    errno.EXDEV: InvalidModificationError,
    errno.EEXIST: _Exists,
    errno.EBUSY: NoModificationAllowedError,
    errno.EROFS: NoModificationAllowedError,
    errno.EBADF: InvalidStateError,
    errno.EIO: InvalidStateError,
    errno.EDQUOT: QuotaExceededError,
    errno.ENOSPC: QuotaExceededError,
    errno.ESTALE: NotReadableError,
    errno.ECANCELED: AbortError,
}

# Messages that are clearer than os.strerror: for an errno, or for an errno in one operation.
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
    (errno.EEXIST, "move"): "the target exists, and only a file replaces a file",
    (errno.EBADF, "use a closed volume"): "the volume is closed",
    (errno.EBADF, "use a request that has ended"): "its memory is the request's no longer",
    (errno.EBADF, "complete a request twice"): "it has ended already",
    (errno.EXDEV, "rename across mounts"): "source and target are in different mounts",
    (errno.EXDEV, "link across mounts"): "source and target are in different mounts",
    (errno.EBUSY, "open volume"): "it lies inside or around another volume that is open",
    (errno.EACCES, "open memory volume"): "it should be a directory that only this user can enter",
}


def _remake(
    number: int, message: str, subject: str | int | None, other: str | int | None = None
) -> OSError:
    return _CLASSES[number](number, message, subject, None, other)


def from_errno(
    number: int,
    subject: str | int | None = None,
    doing: str | None = None,
    reason: str | None = None,
) -> OSError:
    """Returns the exception for an errno.

    subject: the path or descriptor, for `filename`. doing: the operation, in a word or two.
    reason: the message, if the caller knows more than the errno says.
    """
    text = reason or _MESSAGES.get((number, doing)) or _MESSAGES.get(number) or os.strerror(number)
    if doing:
        text = f"{doing}: {text}"
    found = _CLASSES.get((number, doing)) or _CLASSES.get(number, OSError)
    return found(number, text) if subject is None else found(number, text, subject)
