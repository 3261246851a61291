# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
# cython: freethreading_compatible=False
"""The core: POSIX AIO requests and access handles over the engine, and their delivery on a loop.

The parts are the files of core/. The interface of a part is declared in its .pxd, and _core.pxd
includes those first: so the parts may stand in any order.

    engine.pxd, entries.pxd     the C below: engine/engine.h, entries/volume.h
    errors, buffer, process, zero
                        exceptions; buffers of the program's objects; the engine of this process, its
                        forks and its end; the 0 that calls return
    notice, submission  C, with a header each: the notice of a request; what a request carries for Python
    delivery            the only part that knows event loops. completions.c: how completions come from
                        the engine's threads; awaitable.c: awaits without an exception for the value
    operation           what a method of an asynchronous handle returns: started, awaitable
    aiocb, request, outcome, listio
                        <aio.h>: control blocks and their await; aio_read, aio_write, aio_fsync;
                        aio_error, aio_return, aio_suspend, aio_cancel; lio_listio
    sync_access_handle, access_handle
                        an open, locked file; the order of the operations on it
    volume, bridge      a directory as a volume; volumes written in Python

Ownership. An aiocb or an Operation (the owner) has a submission while the engine has its request. The
submission pins the buffers and holds a reference to the owner, until a thread with the GIL delivers it.
A thread that learns of the end before (aio_error, aio_return, aio_suspend) releases the buffers at once.

Locking. Python state is guarded by the GIL alone. The engine's threads never take the GIL to complete a
request: they push into a completion queue and write its wakeup fd (core/completions.h). The GIL is released
around everything that may block: submissions, waits, cancellations, and blocking reads and writes. It is
kept around a cached read of a few pages, which cannot block. No lock of the engine is held while the GIL
is waited for.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.errno cimport EAGAIN, EBADF, EINPROGRESS, EINTR, EINVAL, EIO, ENOMEM
from libc.stdint cimport INT64_MAX, int64_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free

import os
import signal
import sys
import warnings
from collections import deque
from contextvars import copy_context

from aiofs import errors

cdef extern from "<errno.h>" nogil:
    int ECANCELED, EDEADLK

include "core/errors.pxi"
include "core/buffer.pxi"
include "core/submission.pxi"
include "core/delivery.pxi"
include "core/operation.pxi"
include "core/zero.pxi"
include "core/aiocb.pxi"
include "core/request.pxi"
include "core/outcome.pxi"
include "core/listio.pxi"
include "core/sync_access_handle.pxi"
include "core/access_handle.pxi"
include "core/volume.pxi"
include "core/bridge.pxi"
include "core/process.pxi"
