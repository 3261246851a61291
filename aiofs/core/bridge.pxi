# Volumes that are Python objects: how the engine reads and writes their files.
#
# A Bridge is one open file of such a volume. The engine's open file owns one reference to it, which its `release`
# gives up. The engine calls the functions below without the GIL and with none of its locks held: those of a volume
# that may block on its host threads, or on a thread that called a synchronous method. They take the GIL and call the
# volume's methods. Memory that a method is given is valid while it runs, or until `VolumeRequest.complete`: the view
# of it is released then.
#
# What a method raises, or returns without being allowed to, reaches the engine as a negated errno. An
# exception that has no errno becomes EIO, and the interpreter reports it as an unraisable one: no exception
# ends as a success. The functions that the engine calls return what `_negated_errno` says, and nothing
# after it may raise.
#
# The locks of such a volume are in this process only: Names owns its aiofs_volume, a LockRef one lock until
# an open file takes it over.

from operator import index

from cpython.exc cimport PyErr_SetObject, PyErr_WriteUnraisable


cdef extern from "Python.h":
    enum:
        PyBUF_READ
        PyBUF_WRITE
    object PyMemoryView_FromMemory(char *memory, Py_ssize_t size, int flags)


cdef class Bridge:
    cdef int64_t move(self, const iovec *iov, int iovcnt, int64_t offset, bint writes) noexcept:
        cdef int64_t moved = 0, piece, failure
        cdef aiofs_inside here
        cdef int i
        inside_enter(&here, self.opened)
        try:
            method = self.volume.write_at if writes else self.volume.read_at
            for i in range(iovcnt):
                if iov[i].iov_len == 0:
                    continue
                view = _view(&iov[i], writes)
                try:
                    count = method(self.file, view, offset + moved)
                finally:
                    view.release()
                piece = volume_count(count, iov[i].iov_len)
                moved += piece
                if <size_t>piece < iov[i].iov_len:
                    break
        except BaseException as error:
            failure = _negated_errno(error, self.volume)
            moved = moved if moved else failure
        inside_leave(&here)
        if writes:
            aiofs_lock_ref_changed(self.lock_ref)
        return moved


cdef object _view(const iovec *piece, bint writes):
    return PyMemoryView_FromMemory(<char *>piece.iov_base, <Py_ssize_t>piece.iov_len,
                                   PyBUF_READ if writes else PyBUF_WRITE)


cpdef int64_t volume_count(result, int64_t most) except -1:
    """The count of bytes that a volume's method returned: an int (not a bool) from 0 to `most`."""
    if isinstance(result, bool) or not hasattr(type(result), "__index__"):
        raise TypeError(f"a volume's method must return an int, not {type(result).__name__}")
    count = index(result)
    if not 0 <= count <= most:
        raise ValueError(f"a volume's method returned {count}, which is not between 0 and {most}")
    return count


cdef int volume_done(result) except -1:
    """Refuses what an `async def` returned: nobody would await it, and nothing was done."""
    if hasattr(type(result), "__await__"):
        raise TypeError(f"a volume's method must not be asynchronous, but it returned a {type(result).__name__}")
    return 0


def volume_call(method, *arguments):
    """Calls a method of a volume that returns nothing; TypeError if it turns out to be an `async def`."""
    volume_done(method(*arguments))


cdef int64_t _errno_of(error) noexcept:
    """The errno of an exception; 0: it has none that the engine can pass on."""
    cdef int64_t number = 0
    try:
        if isinstance(error, MemoryError):
            return ENOMEM
        if isinstance(error, OSError) and isinstance(error.errno, int):
            number = error.errno
    except BaseException:  # errno may be a property of a subclass, or an int of any size
        number = 0
    return number if 0 < number < 4096 and number != EINPROGRESS else 0


cdef void _report(error, volume) noexcept:
    """Through sys.unraisablehook or, where that is missing or fails, as the interpreter does it by itself."""
    PyErr_SetObject(type(error), error)
    PyErr_WriteUnraisable(volume)


cdef int64_t _negated_errno(error, volume) noexcept:
    """What the engine is notified; an exception with no errno is reported, and becomes EIO."""
    cdef int64_t number = _errno_of(error)
    if number == 0:
        _report(error, volume)
        number = EIO
    return -number


cdef int64_t _bridge_read(void *self, const iovec *iov, int iovcnt, int64_t offset) noexcept with gil:
    return (<Bridge>self).move(iov, iovcnt, offset, False)


cdef int64_t _bridge_write(void *self, const iovec *iov, int iovcnt, int64_t offset) noexcept with gil:
    return (<Bridge>self).move(iov, iovcnt, offset, True)


cdef int64_t _bridge_size(void *self) noexcept with gil:
    cdef Bridge bridge = <Bridge>self
    cdef aiofs_inside here
    cdef int64_t outcome
    inside_enter(&here, bridge.opened)
    try:
        outcome = volume_count(bridge.volume.size(bridge.file), INT64_MAX)
    except BaseException as error:
        outcome = _negated_errno(error, bridge.volume)
    inside_leave(&here)
    return outcome


cdef int64_t _bridge_truncate(void *self, int64_t size) noexcept with gil:
    cdef Bridge bridge = <Bridge>self
    cdef aiofs_inside here
    cdef int64_t outcome = 0
    inside_enter(&here, bridge.opened)
    try:
        volume_done(bridge.volume.truncate(bridge.file, size))
    except BaseException as error:
        outcome = _negated_errno(error, bridge.volume)
    inside_leave(&here)
    aiofs_lock_ref_changed(bridge.lock_ref)
    return outcome


cdef int64_t _bridge_flush(void *self) noexcept with gil:
    cdef Bridge bridge = <Bridge>self
    cdef aiofs_inside here
    cdef int64_t outcome = 0
    inside_enter(&here, bridge.opened)
    try:
        volume_done(bridge.volume.flush(bridge.file))
    except BaseException as error:
        outcome = _negated_errno(error, bridge.volume)
    inside_leave(&here)
    return outcome


cdef void _bridge_submit(void *self, aiofs_request *request) noexcept with gil:
    cdef Bridge bridge = <Bridge>self
    cdef VolumeRequest wrapped = None
    cdef aiofs_inside here
    inside_enter(&here, bridge.opened)
    try:
        wrapped = VolumeRequest.__new__(VolumeRequest)
        wrapped.bind(bridge, request)
        volume_done(bridge.volume.submit(wrapped))
    except BaseException as error:
        if wrapped is None or not wrapped.bound:
            aiofs_complete(request, _negated_errno(error, bridge.volume))
        elif wrapped.request != NULL:
            wrapped.end(_negated_errno(error, bridge.volume))
        else:
            _report(error, bridge.volume)  # the request has its outcome already
    inside_leave(&here)


cdef void _bridge_close(void *self) noexcept with gil:
    cdef Bridge bridge = <Bridge>self
    try:
        volume_done(bridge.volume.close_file(bridge.file))
    except BaseException as error:
        _report(error, bridge.volume)  # also an OSError: no caller is left to get it


cdef void _bridge_release(void *self) noexcept with gil:
    Py_DECREF(<Bridge>self)


cdef aiofs_ops _bridge_ops
_bridge_ops.read = _bridge_read
_bridge_ops.write = _bridge_write
_bridge_ops.size = _bridge_size
_bridge_ops.truncate = _bridge_truncate
_bridge_ops.flush = _bridge_flush
_bridge_ops.submit = NULL
_bridge_ops.close = _bridge_close
_bridge_ops.release = _bridge_release

cdef aiofs_ops _submitting_ops = _bridge_ops
_submitting_ops.submit = _bridge_submit

cdef aiofs_ops _blocking_ops = _bridge_ops
cdef aiofs_ops _blocking_submitting_ops = _submitting_ops
_blocking_ops.blocks = _blocking_submitting_ops.blocks = True


cdef const aiofs_ops *_ops_of(volume) except NULL:
    if volume.blocking:
        return &_blocking_submitting_ops if volume.submits else &_blocking_ops
    return &_submitting_ops if volume.submits else &_bridge_ops


@cython.no_gc_clear  # the buffers are released by its __dealloc__
cdef class VolumeRequest:
    """One operation that a volume was given to carry out: `complete` ends it, on any thread, once.

    `op` is "read", "write", "truncate" or "flush"; `file` is what the volume's open_file returned;
    `offset` is in bytes, for "truncate" the new size; `buffers` are the memoryviews to fill or to
    write, in order, valid until `complete` is called. A request that is dropped ends with EIO.
    """


    cdef int bind(self, Bridge bridge, aiofs_request *request) except -1:
        cdef bint writes = request.op == AIOFS_WRITE
        self.bridge = bridge
        if request.op == AIOFS_READ or writes:
            self.op = "write" if writes else "read"
            self.buffers = tuple([_view(&request.iov[i], writes) for i in range(request.iovcnt)])
        else:
            self.op = "truncate" if request.op == AIOFS_TRUNCATE else "flush"
            self.buffers = ()
        aiofs_request_retain(request)
        self.request = request
        self.bound = True
        return 0

    def __init__(self):
        raise TypeError("a VolumeRequest is given to Volume.submit")

    def __dealloc__(self):
        self.end(-EIO)

    cdef void end(self, int64_t result) noexcept:
        cdef aiofs_request *request = self.request
        self.request = NULL
        if request != NULL:
            try:
                self.release_buffers()
            except BufferError as error:
                result = _negated_errno(error, self.bridge.volume)
            self.publish(request, result)

    cdef int release_buffers(self) except -1:
        """The memory is the requester's again; BufferError if the volume has other objects made of it."""
        for view in self.buffers:
            view.release()
        return 0

    cdef void publish(self, aiofs_request *request, int64_t result) noexcept:
        if request.op == AIOFS_WRITE or request.op == AIOFS_TRUNCATE:
            aiofs_lock_ref_changed(self.bridge.lock_ref)
        with nogil:
            aiofs_complete(request, result)
            aiofs_request_release(request)

    @property
    def file(self):
        if self.bridge is None:
            raise make_error(EBADF, None, "use a request that was never submitted")
        return self.bridge.file

    @property
    def offset(self):
        if self.request == NULL:
            raise make_error(EBADF, None, "use a request that has ended")
        return self.request.offset

    def complete(self, result):
        """Ends the request with the count of bytes moved (of a truncate or flush: 0), or with an exception.

        The count is at most what `buffers` lock_ref. With anything else the request ends with EIO, and this
        raises TypeError or ValueError. OSError EBADF when the request has ended before.
        """
        cdef aiofs_request *request = self.request
        cdef int64_t outcome = -EIO
        if request == NULL:
            raise make_error(EBADF, None, "complete a request twice")
        self.request = NULL  # before any Python code runs: another thread may call complete, too
        try:
            self.release_buffers()
            if isinstance(result, BaseException):
                outcome = _negated_errno(result, self.bridge.volume)
            else:
                outcome = volume_count(result, <int64_t>request.total)
        finally:
            self.publish(request, outcome)


cdef class LockRef:
    """A lock on an entry of a volume that is a Python object; released at `release`, or when dropped."""


    def __dealloc__(self):
        self.release()

    cpdef release(self):
        cdef aiofs_lock_ref *lock_ref = self.lock_ref
        self.lock_ref = NULL
        if lock_ref != NULL:
            with nogil:
                aiofs_lock_ref_release(lock_ref)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.release()


cdef class Names:
    """The entries and locks of a volume that is a Python object."""


    def __cinit__(self):
        cdef int status = aiofs_volume_virtual(&self.volume)
        if status < 0:
            raise make_error(-status, None, "make volume")

    def __dealloc__(self):
        cdef aiofs_volume *volume = self.volume
        self.volume = NULL
        with nogil:
            aiofs_volume_release(volume)

    def lock(self, str path, int lock, unsigned long long owner, shown):
        """The lock on an entry, which is EBUSY if another owner has it: a LockRef."""
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef const void *who = _owner(owner)
        cdef LockRef taken = LockRef.__new__(LockRef)
        cdef int status
        with nogil:
            status = aiofs_lock_ref_take(self.volume, c_path, <aiofs_lock>lock, who, &taken.lock_ref)
        if status < 0:
            raise make_error(-status, shown, "lock")
        return taken

    def lock_count(self, str path):
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef long count
        with nogil:
            count = aiofs_volume_lock_count(self.volume, c_path)
        return count

    def generation(self, str path):
        cdef bytes encoded = _path_bytes(path)
        return aiofs_volume_generation(self.volume, encoded)

    def open(self, LockRef lock_ref, volume, file, int flags, shown):
        """An open file of the volume, with a placeholder for a descriptor; it takes the lock over."""
        return _open_file(_adopt(lock_ref, volume, file, flags, shown), shown)

    def sync_access_handle(self, LockRef lock_ref, volume, file, int flags, str mode, str shown):
        return sync_access_handle_of(_adopt(lock_ref, volume, file, flags, shown), mode, shown)

    def access_handle(self, LockRef lock_ref, volume, file, int flags, str mode, str shown):
        return access_handle_of(_adopt(lock_ref, volume, file, flags, shown), mode, shown)


cdef aiofs_file *_adopt(LockRef lock_ref, volume, file, int flags, shown) except NULL:
    """Reading the placeholder, /dev/null opened as a path only, fails with EBADF: it does not lie."""
    cdef Bridge bridge = Bridge.__new__(Bridge)
    cdef const aiofs_ops *ops = _ops_of(volume)
    cdef aiofs_file *opened = NULL
    cdef int fd, status
    if lock_ref is None or lock_ref.lock_ref == NULL:
        raise make_error(EBADF, shown, "open with a lock that was released")
    bridge.volume = volume
    bridge.file = file
    bridge.lock_ref = lock_ref.lock_ref
    fd = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)
    Py_INCREF(bridge)
    with nogil:
        status = aiofs_file_adopt(fd, flags, lock_ref.lock_ref, ops, <void *>bridge, &opened)
    if status < 0:
        Py_DECREF(bridge)
        os.close(fd)
        raise make_error(-status, shown, "open")
    bridge.opened = opened
    lock_ref.lock_ref = NULL
    return opened
