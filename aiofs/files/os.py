"""The functions of `os` that touch the disk, awaited: aiofiles' names."""

from __future__ import annotations

import os

from aiofs.files import ospath as path
from aiofs.files.turns import awaited

__all__ = [
    "access",
    "getcwd",
    "link",
    "listdir",
    "makedirs",
    "mkdir",
    "path",
    "readlink",
    "remove",
    "removedirs",
    "rename",
    "renames",
    "replace",
    "rmdir",
    "scandir",
    "sendfile",
    "stat",
    "statvfs",
    "symlink",
    "unlink",
    "wrap",
]

wrap = awaited

access = awaited(os.access)
getcwd = awaited(os.getcwd)
link = awaited(os.link)
listdir = awaited(os.listdir)
makedirs = awaited(os.makedirs)
mkdir = awaited(os.mkdir)
readlink = awaited(os.readlink)
remove = awaited(os.remove)
removedirs = awaited(os.removedirs)
rename = awaited(os.rename)
renames = awaited(os.renames)
replace = awaited(os.replace)
rmdir = awaited(os.rmdir)
scandir = awaited(os.scandir)
sendfile = awaited(os.sendfile)
stat = awaited(os.stat)
statvfs = awaited(os.statvfs)
symlink = awaited(os.symlink)
unlink = awaited(os.unlink)
