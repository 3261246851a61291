"""Files by path: `open`, whole files, `Path`, and the asynchronous names of `os` and `tempfile`.

    import aiofs.files as files

    async with files.open("data.csv") as file:
        async for line in file:
            ...

Files of the machine, with POSIX's own semantics: no lock is taken, and an open file survives its
replacement. `open` also opens a `FileHandle`, under the lock of its entry. aiofiles' names are here
with aiofiles' meaning: `import aiofs.files as aiofiles`.
"""

from aiofs.files import os, ospath, tempfile
from aiofs.files.copying import copyfile, copytree, walk
from aiofs.files.opening import (
    FileOpening,
    open,
    read_bytes,
    read_text,
    write_bytes,
    write_text,
)
from aiofs.files.path import Path
from aiofs.files.ranges import pread, pwrite, read_ranges
from aiofs.files.streams import stderr, stderr_bytes, stdin, stdin_bytes, stdout, stdout_bytes
from aiofs.files.wrapped import (
    AsyncBufferedIOBase,
    AsyncBufferedReader,
    AsyncFile,
    AsyncFileIO,
    AsyncTextIOWrapper,
    wrap,
)

__all__ = [
    "AsyncBufferedIOBase",
    "AsyncBufferedReader",
    "AsyncFile",
    "AsyncFileIO",
    "AsyncTextIOWrapper",
    "FileOpening",
    "Path",
    "copyfile",
    "copytree",
    "open",
    "os",
    "ospath",
    "pread",
    "pwrite",
    "read_bytes",
    "read_ranges",
    "read_text",
    "stderr",
    "stderr_bytes",
    "stdin",
    "stdin_bytes",
    "stdout",
    "stdout_bytes",
    "tempfile",
    "walk",
    "wrap",
    "write_bytes",
    "write_text",
]
