# cython: language_level=3
"""An extension module in Cython with the functions of shared.c. It also uses aiofs.aio of Python.

The module owns one request and its memory. The test reuses them when the request is complete.
"""

from libc.errno cimport errno
from libc.string cimport memset

from aiofs.aio cimport (aio_cancel, aio_error, aio_read, aio_return, aio_suspend, aiocb, aiofs_close, aiofs_open,
                        timespec)

import os

from aiofs import aio

cdef aiocb cb
cdef char buffer[16]


def read(int fd):
    cdef int status
    memset(&cb, 0, sizeof(cb))
    cb.aio_fildes = fd
    cb.aio_buf = buffer
    cb.aio_nbytes = sizeof(buffer)
    with nogil:
        status = aio_read(&cb)
    return status


def error():
    return aio_error(&cb)


def result():
    cdef ssize_t size = aio_return(&cb)
    return size, buffer[:max(size, 0)]


def suspend():
    cdef const aiocb *list[1]
    cdef timespec limit = [20, 0]
    cdef int status
    list[0] = &cb
    with nogil:
        status = aio_suspend(list, 1, &limit)
    return status


def cancel(int fd):
    cdef int answer
    with nogil:
        answer = aio_cancel(fd, NULL)
    assert answer in (aio.AIO_CANCELED, aio.AIO_NOTCANCELED, aio.AIO_ALLDONE)
    return answer


def open(const char *volume, const char *path, int flags):
    cdef int fd = aiofs_open(volume, path, flags, 0o666), error = errno
    if fd < 0:
        raise OSError(error, os.strerror(error))
    return fd


def close(int fd):
    cdef int status = aiofs_close(fd), error = errno
    if status < 0:
        raise OSError(error, os.strerror(error))
