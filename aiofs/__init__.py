"""Asynchronous files: POSIX AIO over files under exclusive locks, on uvloop."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aiofs import aio
from aiofs._core import aligned_buffer
from aiofs.errors import (
    AbortError,
    InvalidModificationError,
    InvalidStateError,
    NoModificationAllowedError,
    NotFoundError,
    NotReadableError,
    QuotaExceededError,
    TypeMismatchError,
)
from aiofs.filesystem import FileSystem
from aiofs.handles import (
    AccessHandle,
    DirectoryHandle,
    File,
    FileHandle,
    SyncAccessHandle,
    WritableFileStream,
)
from aiofs.linking import get_include, get_library_dir
from aiofs.volume_ops import LockInfo
from aiofs.volumes import HostVolume, MemoryVolume, PrivateVolume, Volume

if TYPE_CHECKING:
    from aiofs import files
    from aiofs.files import Path, open, read_bytes, read_text, write_bytes, write_text

__version__ = "0.1.0"

__all__ = [
    "AbortError",
    "AccessHandle",
    "DirectoryHandle",
    "File",
    "FileHandle",
    "FileSystem",
    "HostVolume",
    "InvalidModificationError",
    "InvalidStateError",
    "LockInfo",
    "MemoryVolume",
    "NoModificationAllowedError",
    "NotFoundError",
    "NotReadableError",
    "Path",
    "PrivateVolume",
    "QuotaExceededError",
    "SyncAccessHandle",
    "TypeMismatchError",
    "Volume",
    "WritableFileStream",
    "aio",
    "aligned_buffer",
    "files",
    "get_include",
    "get_library_dir",
    "open",
    "read_bytes",
    "read_text",
    "write_bytes",
    "write_text",
]


_OF_FILES = ("Path", "open", "read_bytes", "read_text", "write_bytes", "write_text")


def __getattr__(name: str) -> Any:
    """Imports `aiofs.files` at its first use: programs that have handles do without it."""
    if name != "files" and name not in _OF_FILES:
        raise AttributeError(f"module 'aiofs' has no attribute {name!r}")
    files = import_module("aiofs.files")
    globals().update({each: getattr(files, each) for each in _OF_FILES})
    return globals()[name]
