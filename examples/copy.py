"""Copies a file by POSIX AIO. copy.c is the same in C. Usage: python copy.py SOURCE TARGET"""

import os
import sys
from errno import EINPROGRESS

from aiofs.aio import aio_error, aio_read, aio_return, aio_suspend, aio_write, aiocb


def carry_out(start, cb):
    start(cb)
    while aio_error(cb) == EINPROGRESS:
        aio_suspend([cb])
    return aio_return(cb)


if len(sys.argv) != 3:
    sys.exit("usage: copy.py SOURCE TARGET")
source = os.open(sys.argv[1], os.O_RDONLY)
target = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
buffer = bytearray(64 * 1024)
read = aiocb(aio_fildes=source, aio_buf=buffer)
write = aiocb(aio_fildes=target, aio_buf=buffer)
while (count := carry_out(aio_read, read)) > 0:
    write.aio_nbytes = count
    write.aio_offset += carry_out(aio_write, write)
    read.aio_offset = write.aio_offset
