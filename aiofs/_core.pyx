# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
# cython: freethreading_compatible=False
"""The core: POSIX AIO requests and access handles over the engine, and their delivery on a loop.

Each part is a file of core/. A part's .pxd declares its interface. _core.pxd includes every .pxd before
the parts, so the order of the parts does not matter.

    engine.pxd, entries.pxd     declarations of the C floors: engine/engine.h, entries/volume.h
    errors, buffer, process, zero
                        exceptions; buffers; the process's engine, fork and exit; the 0 that calls return
    notice, submission  C, with a header each: the notice of a request; the request and its Python objects
    delivery            the only part that knows event loops. completions.c: the queue from the engine's
                        threads to a loop; awaitable.c: awaits that return a value without an exception
    operation           the awaitable that the methods of an asynchronous handle return
    waiting             openings that wait for a lock; who holds and who waits
    aiocb, request, outcome, listio
                        <aio.h>: control blocks and their await; aio_read, aio_write, aio_fsync;
                        aio_error, aio_return, aio_suspend, aio_cancel; lio_listio
    sync_access_handle, access_handle, stream
                        an open, locked file; the order of the operations on it; the streams over its bytes
    writable            an access handle that a writable stream is made of
    open_file, volume, bridge
                        an open file with a descriptor; a directory as a volume; volumes written in Python
    cached              what the kernel has in memory is opened, looked at and read inside the call
    copying, whole_file, ranges
                        copies of files of the machine; whole large files; many ranges of one file
    raw_reader, buffered_file, file_call
                        open files by path: reads of io's objects that cannot block; calls without a host
                        thread; the awaitable of a call

Ownership. An aiocb or an Operation (the owner) has a reference to a submission while its request is in
flight. The submission pins the buffers and holds a reference to the owner, until a thread with the GIL
delivers it. If aio_error, aio_return or aio_suspend finds the request terminal before the delivery, it
releases the buffers at once.

Locking. The GIL guards all Python state. The engine's threads complete a request without the GIL: they
push it into a completion queue and write the queue's wakeup fd (core/completions.h). The GIL is released
around each call that may block: submission, wait, cancellation, and blocking reads and writes. It is kept
around a cached read of a few pages, which cannot block. No thread waits for the GIL while it holds a lock
of the engine.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBuffer_FillInfo, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.errno cimport EAGAIN, EBADF, EINPROGRESS, EINTR, EINVAL, EIO, ENOMEM, ESPIPE
from libc.stdint cimport INT64_MAX, int64_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free

import os
import signal
import sys
import warnings
from array import array
from collections import deque
from contextvars import copy_context
from weakref import ref as weakref

from aiofs import errors

cdef extern from "<errno.h>" nogil:
    int ECANCELED, EDEADLK, EFBIG, EISDIR, ENOSPC, EOPNOTSUPP, ERANGE

include "core/errors.pxi"
include "core/buffer.pxi"
include "core/submission.pxi"
include "core/delivery.pxi"
include "core/operation.pxi"
include "core/waiting.pxi"
include "core/turn.pxi"
include "core/zero.pxi"
include "core/aiocb.pxi"
include "core/request.pxi"
include "core/outcome.pxi"
include "core/listio.pxi"
include "core/sync_access_handle.pxi"
include "core/stream.pxi"
include "core/access_handle.pxi"
include "core/writable.pxi"
include "core/open_file.pxi"
include "core/volume.pxi"
include "core/bridge.pxi"
include "core/cached.pxi"
include "core/copying.pxi"
include "core/whole_file.pxi"
include "core/ranges.pxi"
include "core/raw_reader.pxi"
include "core/buffered_file.pxi"
include "core/file_call.pxi"
include "core/process.pxi"
