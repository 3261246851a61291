"""The page cache: loads a file into it, drops a file from it, and checks that this was done."""

from __future__ import annotations

import ctypes
import mmap
import os

from aiofs.bench.measuring.data import PAGE, MiB


class Unavailable(Exception):
    """This participant cannot do this work here. The message says why, and the report shows it."""


def load_cache(path: str) -> None:
    """Reads a file into the page cache, and checks that it is there."""
    with open(path, "rb", buffering=0) as file:
        while file.read(MiB):
            pass
    resident, pages = pages_in_cache(path)
    if resident < pages - pages // 100:
        raise Unavailable(f"only {resident} of {pages} pages stay in the cache")


def drop_cache(path: str) -> None:
    """Drops a file from the page cache, and checks that it is gone."""
    with open(path, "rb", buffering=0) as file:
        os.fdatasync(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    resident, pages = pages_in_cache(path)
    if resident > pages // 100:
        raise Unavailable(f"{resident} of {pages} pages stay in the cache: it cannot be made cold")


def pages_in_cache(path: str) -> tuple[int, int]:
    """How many of a file's pages are in the page cache, and how many it has."""
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        pages = -(-size // PAGE)
        if not pages:
            return 0, 0
        libc = ctypes.CDLL(None, use_errno=True)
        in_core = ctypes.create_string_buffer(pages)
        with mmap.mmap(
            file.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE
        ) as m:
            first = ctypes.c_char.from_buffer(m)
            failed = libc.mincore(ctypes.byref(first), ctypes.c_size_t(size), in_core)
            del first
        if failed:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    # Only the lowest bit of a byte has a meaning.
    return sum(in_core.raw.count(byte) for byte in range(1, 256, 2)), pages
