"""Reads and writes at an offset of a descriptor, one or many in one await."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, overload

from aiofs import _core

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["pread", "pwrite", "read_ranges"]


class _HasDescriptor(Protocol):
    def fileno(self) -> int: ...


Descriptor: TypeAlias = "int | _HasDescriptor"


async def pread(file: Descriptor, buffer: Buffer, offset: int) -> int:
    """Reads into `buffer` from byte `offset`, and leaves the cursor. Returns the count of bytes.

    file: a descriptor, or an object with `fileno()`. The count is short at the end of the file.
    OSError with the kernel's errno. On a file without offsets `offset` is ignored. POSIX: pread.
    """
    request = _core.aiocb(file, buffer, aio_offset=offset)
    _core.aio_read(request)
    return await request


async def pwrite(file: Descriptor, data: Buffer, offset: int) -> int:
    """Writes `data` at byte `offset`, and leaves the cursor. Returns the count of bytes.

    See `pread`. A file that was opened to append appends. POSIX: pwrite.
    """
    request = _core.aiocb(file, data, aio_offset=offset)
    _core.aio_write(request)
    return await request


@overload
async def read_ranges(
    file: Descriptor, ranges: Iterable[tuple[int, int]], *, buffers: None = None
) -> list[bytes]: ...
@overload
async def read_ranges(
    file: Descriptor, ranges: Iterable[tuple[int, int]], *, buffers: Sequence[Buffer]
) -> list[int]: ...
async def read_ranges(
    file: Descriptor,
    ranges: Iterable[tuple[int, int]],
    *,
    buffers: Sequence[Buffer] | None = None,
) -> list[bytes] | list[int]:
    """Reads many ranges of a file, several at the same time.

    ranges: pairs (offset, size) in bytes. buffers: one for each range, which the range is read
    into; it may be larger than the range. Returns the bytes of each range, or with `buffers` the
    count of bytes, in the order of the ranges; a range that ends beyond the file is short.
    ValueError for a negative number, or if there are not as many buffers as ranges. See `pread`.
    """
    pairs = [(offset, size) for offset, size in ranges]
    for offset, size in pairs:
        if offset < 0 or size < 0:
            raise ValueError(f"the range ({offset}, {size}) has a negative number")
    if buffers is not None and len(buffers) != len(pairs):
        raise ValueError(f"{len(pairs)} ranges, but {len(buffers)} buffers")
    reads = _core.RangeReads(file, pairs, buffers)
    try:
        while (request := reads.proceed()) is not None:
            if request is True:
                await asyncio.sleep(0)
            else:
                await request
        return reads.results
    finally:
        reads.cancel()
