# cython: language_level=3
# The interfaces of the core's parts, a .pxd for each part. _core.pyx includes the parts themselves.

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from posix.types cimport mode_t

include "core/engine.pxd"
include "core/entries.pxd"
include "core/errors.pxd"
include "core/buffer.pxd"
include "core/process.pxd"
include "core/zero.pxd"
include "core/awaitable.pxd"
include "core/notice.pxd"
include "core/submission.pxd"
include "core/delivery.pxd"
include "core/waiting.pxd"
include "core/operation.pxd"
include "core/turn.pxd"
include "core/aiocb.pxd"
include "core/request.pxd"
include "core/sync_access_handle.pxd"
include "core/stream.pxd"
include "core/access_handle.pxd"
include "core/writable.pxd"
include "core/open_file.pxd"
include "core/volume.pxd"
include "core/bridge.pxd"
include "core/cached.pxd"
include "core/raw_reader.pxd"
include "core/buffered_file.pxd"
include "core/file_call.pxd"
