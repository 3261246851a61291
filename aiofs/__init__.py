"""Asynchronous files: POSIX AIO over files under exclusive locks, on uvloop."""

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
    "PrivateVolume",
    "QuotaExceededError",
    "SyncAccessHandle",
    "TypeMismatchError",
    "Volume",
    "WritableFileStream",
    "aio",
    "aligned_buffer",
    "get_include",
    "get_library_dir",
]
