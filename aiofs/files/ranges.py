"""Reads and writes at an offset of a descriptor, one or many in one await."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeAlias, overload

from aiofs import _core

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["pread", "pwrite", "read_ranges"]

_IN_FLIGHT = 64  # ranges of one call


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
    results: list[bytes] = []
    counts: list[int] = []
    waiting: list[tuple[_core.aiocb, bytearray | None]] = []
    todo = iter(enumerate(pairs))
    try:
        while True:
            for number, (offset, size) in islice(todo, _IN_FLIGHT - len(waiting)):
                own = bytearray(size) if buffers is None else None
                target = buffers[number] if buffers is not None else own
                request = _core.aiocb(file, target, aio_nbytes=size, aio_offset=offset)
                _core.aio_read(request)
                waiting.append((request, own))
            if not waiting:
                return results if buffers is None else counts
            request, own = waiting.pop(0)
            count = await request
            if own is None:
                counts.append(count)
            else:
                results.append(bytes(memoryview(own)[:count]))
    finally:
        for request, _ in waiting:
            _core.aio_cancel(request.aio_fildes, request)
