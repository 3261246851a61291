"""Handles, under the names of the WHATWG File System standard.

A `DirectoryHandle` or `FileHandle` is the path of an entry in a volume; it keeps nothing open and
no lock. An `AccessHandle` or `SyncAccessHandle`, which the core implements, is an open, locked
file. A `WritableFileStream` writes to a copy, which replaces the file at its close. A `File` is the
state of a file at the time of `get_file`. `FileHandle.open` gives a file object of `aiofs.files`.

A method that uses the disk starts its operation at the call, on a thread of the engine, and returns
a coroutine that waits for it. A bad argument raises at the call.
"""

from aiofs._core import AccessHandle, ReadableByteStream, SyncAccessHandle, WritableByteStream
from aiofs.handles.directory_handle import DirectoryHandle
from aiofs.handles.entry import missing
from aiofs.handles.file import File
from aiofs.handles.file_handle import FileHandle
from aiofs.handles.opening import Opening
from aiofs.handles.writable import WritableFileStream
from aiofs.volume_ops import Mode

__all__ = [
    "AccessHandle",
    "DirectoryHandle",
    "File",
    "FileHandle",
    "Mode",
    "Opening",
    "ReadableByteStream",
    "SyncAccessHandle",
    "WritableByteStream",
    "WritableFileStream",
    "missing",
]
