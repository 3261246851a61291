# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
# cython: freethreading_compatible=False
"""The core: POSIX AIO requests and access handles over the engine, and their delivery on a loop.

The room, part by part (each is a file):

    submission.pxi      one submission: what it pins while the engine has it, and how it comes home
    delivery.pxi    the only part that knows a loop: one eventfd per loop, one wake-up for all that
                    is ready, callbacks in the order of the ends, a budget for work inside the call
    operation.pxi   what a method of an asynchronous handle returns: started, awaitable
    aiocb.pxi       the control block, sigevent, and the await of one
    request.pxi     aio_read, aio_write, aio_fsync; outcome.pxi, listio.pxi: the rest of <aio.h>
    sync_handle.pxi SyncAccessHandle;  handle.pxi: AccessHandle, and the order of its operations
    volume.pxi      the tree of a volume; bridge.pxi: volumes written in Python
    buffer.pxi      memory for O_DIRECT;   process.pxi: the engine of this process, and its end

Ownership. An aiocb or an Operation (the owner) has a submission while the engine has its request; the
flight pins the buffers and holds the owner, until it is opened by a thread with the GIL. A submission that
has ended may be unpinned at once by whoever learns of the end (aio_error, aio_return, aio_suspend).

Locking. Python state is guarded by the GIL alone. The engine's threads never take it: they push into a
completion queue and ring (submission.h). The GIL is released around everything that may block: submissions, waits,
cancellations, and blocking reads and writes; it is kept around a cached read of a few pages, which
cannot. No lock of the engine is ever held while the GIL is waited for.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.errno cimport EAGAIN, EBADF, EINPROGRESS, EINTR, EINVAL, EIO, ENOMEM
from libc.stdint cimport INT64_MAX, int64_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free

import asyncio
import os
import signal
import sys
import warnings
from asyncio import _get_running_loop
from collections import deque
from contextvars import copy_context
from weakref import ref as weakref

from aiofs import errors
from aiofs.c_engine cimport *
from aiofs.c_volume cimport *

cdef extern from "<errno.h>" nogil:
    int ECANCELED, EDEADLK

cdef class LoopNotifier
cdef class Operation
cdef class SyncAccessHandle
cdef class AccessHandle


cdef object make_error(long error, object target, str doing, str reason=None):
    """The exception for a (positive) errno: `doing` what, to which path or descriptor, and the reason
    where more is known than the errno says."""
    return errors.from_errno(error, target, doing, reason)


cdef extern from "Python.h":
    int get_buffer "PyObject_GetBuffer" (object exporter, Py_buffer *view, int flags) noexcept
    void PyErr_Clear()
    enum: PyBUF_FULL_RO


cdef inline int take_buffer(object exporter, Py_buffer *view, int flags) except -1:
    """PyObject_GetBuffer, but for memory that holds objects; and a refusal is a TypeError or a BufferError."""
    if get_buffer(exporter, view, flags) < 0:
        PyErr_Clear()
        retry_buffer(exporter, view, flags)
    if view.itemsize >= <Py_ssize_t>sizeof(void *):  # wide enough for a pointer
        check_items(exporter, view)
    return 0


cdef int retry_buffer(object exporter, Py_buffer *view, int flags) except -1:
    """Once more, for the exception. numpy's is a ValueError."""
    try:
        return PyObject_GetBuffer(exporter, view, flags)
    except (TypeError, BufferError, MemoryError):
        raise
    except Exception as error:
        raise BufferError(f"the buffer of {type(exporter).__name__} cannot be used: {error}") from error


cdef int check_items(object exporter, Py_buffer *view) except -1:
    """Bytes that are read over references to objects would crash the interpreter later."""
    cdef Py_buffer described
    cdef bint objects = False
    try:
        PyObject_GetBuffer(exporter, &described, PyBUF_FULL_RO)
        try:
            # The names of a structure's fields stand between colons.
            objects = described.format != NULL and b"O" in b"".join((<bytes>described.format).split(b":")[::2])
        finally:
            PyBuffer_Release(&described)
    except (TypeError, ValueError, BufferError):
        return 0  # it does not say what it holds
    if objects:
        PyBuffer_Release(view)
        raise TypeError(f"a buffer of bytes is needed; this {type(exporter).__name__} holds Python objects")
    return 0


cdef object no_loop_error(str doing):
    """For what is awaited, or wants its notice, where no loop of asyncio's kind runs: also under trio."""
    return RuntimeError(f"{doing} needs a running asyncio or uvloop event loop, and none runs in this thread "
                        "(trio's loop is another kind)")


include "submission.pxi"
include "delivery.pxi"
include "operation.pxi"
include "aiocb.pxi"
include "request.pxi"
include "outcome.pxi"
include "listio.pxi"
include "sync_handle.pxi"
include "handle.pxi"
include "volume.pxi"
include "buffer.pxi"
include "process.pxi"
