# cython: language_level=3
"""Counts the lines of a file in Cython, by the C functions of <aio.h>, without the GIL.

DEPTH reads are in flight: while the lines of one piece are counted, the next pieces are being read.
"""

import os

from libc.errno cimport EINPROGRESS, errno

from aiofs.aio cimport aio_cancel, aio_error, aio_read, aio_return, aio_suspend, aiocb

cdef enum:
    DEPTH = 4
    PIECE = 64 * 1024

cdef struct piece:
    aiocb cb
    char bytes[PIECE]


cdef int start(piece *one, int fd, long number) noexcept nogil:
    one.cb.aio_fildes = fd
    one.cb.aio_buf = one.bytes
    one.cb.aio_nbytes = PIECE
    one.cb.aio_offset = number * PIECE
    return aio_read(&one.cb)


cdef ssize_t end(piece *one) noexcept nogil:
    cdef const aiocb *list[1]
    list[0] = &one.cb
    while aio_error(&one.cb) == EINPROGRESS:
        aio_suspend(list, 1, NULL)
    return aio_return(&one.cb)


cdef long count_lines(piece *pieces, int fd) noexcept nogil:
    """Returns the number of lines, or -1 and errno."""
    cdef long lines = 0, number
    cdef ssize_t size, i
    cdef piece *one
    for number in range(DEPTH):
        if start(&pieces[number], fd, number) < 0:
            return -1
    number = 0
    while True:
        one = &pieces[number % DEPTH]
        size = end(one)
        if size <= 0:
            return size if size < 0 else lines
        for i in range(size):
            lines += one.bytes[i] == b"\n"
        if start(one, fd, number + DEPTH) < 0:
            return -1
        number += 1


cdef void finish(piece *pieces, int fd) noexcept nogil:
    """Cancels the requests and waits for their ends. Then their memory can be freed."""
    aio_cancel(fd, NULL)
    for i in range(DEPTH):
        end(&pieces[i])


def count(path):
    """Returns the number of lines. Raises OSError if the file cannot be read."""
    memory = bytearray(DEPTH * sizeof(piece))
    cdef piece *pieces = <piece *><char *>memory
    cdef int fd = os.open(path, os.O_RDONLY), error = 0
    cdef long lines
    with nogil:
        lines = count_lines(pieces, fd)
        if lines < 0:
            error = errno
        finish(pieces, fd)
    os.close(fd)
    if error:
        raise OSError(error, os.strerror(error), path)
    return lines
