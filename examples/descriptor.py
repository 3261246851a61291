"""Counts the lines of a file by requests on a plain descriptor, without a volume.

Usage: python descriptor.py FILE. Other tasks could run on the loop meanwhile.
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
