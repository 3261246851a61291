"""Awaits requests on a plain descriptor, with no volume at all: python descriptor.py FILE

Counts the lines of a file while the loop stays free for everything else.
"""

import os
import sys

import uvloop

from aiofs import aio


async def main(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    cb = aio.aiocb(fd, bytearray(256 * 1024))
    lines = 0
    aio.aio_read(cb)
    while count := await cb:
        lines += cb.aio_buf.count(b"\n", 0, count)
        cb.aio_offset += count
        aio.aio_read(cb)
    os.close(fd)
    print(lines, "lines")


uvloop.run(main(sys.argv[1]))
