"""The functions of `os.path` that touch the disk, awaited: aiofiles' names."""

from __future__ import annotations

from os import path

from aiofs.files.turns import awaited

__all__ = [
    "abspath",
    "exists",
    "getatime",
    "getctime",
    "getmtime",
    "getsize",
    "isdir",
    "isfile",
    "islink",
    "ismount",
    "samefile",
    "sameopenfile",
]

abspath = awaited(path.abspath)
exists = awaited(path.exists)
getatime = awaited(path.getatime)
getctime = awaited(path.getctime)
getmtime = awaited(path.getmtime)
getsize = awaited(path.getsize)
isdir = awaited(path.isdir)
isfile = awaited(path.isfile)
islink = awaited(path.islink)
ismount = awaited(path.ismount)
samefile = awaited(path.samefile)
sameopenfile = awaited(path.sameopenfile)
