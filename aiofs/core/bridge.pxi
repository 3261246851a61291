# Volumes that are Python objects: how the engine calls their methods.
#
# A Bridge is one open file of such a volume. The engine's open file owns one reference to the Bridge, which
# `_bridge_release` drops. The engine calls the `_bridge_` functions without the GIL and with none of its locks
# held; they take the GIL and call the volume's methods. For a volume that may block, the engine calls them on its
# host threads, or on a thread that called a synchronous method. The memory that a method gets is valid until the
# method returns, or until `VolumeRequest.complete`; then its memoryview is released.
#
# If a method raises or returns a wrong value, the engine gets a negated errno. An exception without an errno
# becomes EIO, and `sys.unraisablehook` gets it: no exception may look like a success. The result of a `_bridge_`
# function comes from `_negated_errno`, and no code after that may raise.
#
# The locks of such a volume exist in this process only. Names owns the aiofs_volume, whose entries and locks they
# are. A LockRef owns one lock until an open file adopts it.

from operator import index

from cpython.exc cimport PyErr_SetObject, PyErr_WriteUnraisable


cdef extern from "<fcntl.h>" nogil:
    int os_O_RDWR "O_RDWR"


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
                    view_end(view)
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
    """Checks the count of bytes that a volume's method returned, an int from 0 to `most`, and returns it.

    Raises TypeError if it is no int or a bool, ValueError if it is out of range.
    """
    if isinstance(result, bool) or not hasattr(type(result), "__index__"):
        raise TypeError(f"a volume's method must return an int, not {type(result).__name__}")
    count = index(result)
    if not 0 <= count <= most:
        raise ValueError(f"a volume's method returned {count}, which is not between 0 and {most}")
    return count


cdef int volume_done(result) except -1:
    """Raises TypeError for the coroutine of an `async def`: nothing awaits it, so the method did not run."""
    if hasattr(type(result), "__await__"):
        raise TypeError(f"a volume's method must not be asynchronous, but it returned a {type(result).__name__}")
    return 0


def volume_call(method, *arguments):
    """Calls a volume's method and ignores its result; TypeError if the method is an `async def`."""
    volume_done(method(*arguments))


cdef int64_t _errno_of(error) noexcept:
    """The errno of an exception; 0 if it has none, or none that the engine can return."""
    cdef int64_t number = 0
    try:
        if isinstance(error, MemoryError):
            return ENOMEM
        if isinstance(error, OSError) and isinstance(error.errno, int):
            number = error.errno
    except BaseException:  # errno may be a property of a subclass, or an int of any size
        number = 0
    # ECANCELED would look like a cancelled await, and no volume is asked to cancel.
    return number if 0 < number < 4096 and number != EINPROGRESS and number != ECANCELED else 0


cdef void _report(error, volume) noexcept:
    """Passes the exception to sys.unraisablehook. If that is missing or fails, the interpreter prints the exception."""
    PyErr_SetObject(type(error), error)
    PyErr_WriteUnraisable(volume)


cdef int64_t _negated_errno(error, volume) noexcept:
    """The negated errno of an exception, for the engine. One without an errno is reported, and becomes EIO."""
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
            _report(error, bridge.volume)  # `submit` completed the request before it raised
    inside_leave(&here)


cdef void _bridge_close(void *self) noexcept with gil:
    cdef Bridge bridge = <Bridge>self
    try:
        volume_done(bridge.volume.close_file(bridge.file))
    except BaseException as error:
        _report(error, bridge.volume)  # also an OSError: the close has no caller that could get it


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
    """One operation for `Volume.submit` to perform. Call `complete` once, on any thread.

    `op` is "read", "write", "truncate" or "flush"; `file` is the object that the volume's open_file
    returned; `offset` is in bytes, and for "truncate" the new size; `buffers` are the memoryviews
    to fill or to write, in order, valid until `complete` is called. A request that is dropped
    without `complete` ends with EIO.
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
        """Releases the memoryviews; BufferError if the volume still has other views of the memory."""
        for view in self.buffers:
            view_end(view)
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
        """Ends the request with the count of bytes moved (0 for truncate and flush), or with an exception.

        The count is at most the total size of `buffers`. With any other result the request ends with EIO, and
        `complete` raises TypeError or ValueError. It raises BufferError, and the request ends with EIO, if a view of
        `buffers` is still in use. OSError EBADF if the request has ended before.
        """
        cdef aiofs_request *request = self.request
        cdef int64_t outcome = -EIO
        if request == NULL:
            raise make_error(EBADF, None, "complete a request twice")
        self.request = NULL  # before Python code runs, which may let another thread call complete
        try:
            self.release_buffers()
            if isinstance(result, BaseException):
                outcome = _negated_errno(result, self.bridge.volume)
            else:
                outcome = volume_count(result, <int64_t>request.total)
        finally:
            self.publish(request, outcome)


cdef class LockRef:
    """Owns a lock on an entry of a volume that is a Python object, until `release` or its finalizer."""


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
    """Owns the aiofs_volume of a volume that is a Python object: its entries and locks."""


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
        """Locks an entry: returns a LockRef, or raises EBUSY if another owner has locked the entry."""
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef const void *c_owner = _owner(owner)
        cdef LockRef taken = LockRef.__new__(LockRef)
        cdef int status
        with nogil:
            status = aiofs_lock_ref_take(self.volume, c_path, <aiofs_lock>lock, c_owner, &taken.lock_ref)
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

    def locks(self):
        return list_locks(self.volume, "list locks", "/")

    def generation(self, str path):
        cdef bytes encoded = _path_bytes(path)
        return aiofs_volume_generation(self.volume, encoded)

    def open(self, LockRef lock_ref, volume, file, int flags, shown):
        """An OpenFile with a placeholder as its descriptor. It adopts the lock, and closes `file` at its end."""
        return _open_file(_adopt(lock_ref, volume, file, flags, shown), shown)

    def sync_access_handle(self, LockRef lock_ref, volume, file, int flags, str mode, str shown):
        return sync_access_handle_of(_adopt(lock_ref, volume, file, flags, shown), mode, shown)

    def access_handle(self, LockRef lock_ref, volume, file, int flags, str mode, str shown):
        return access_handle_of(_adopt(lock_ref, volume, file, flags, shown), mode, shown)

    def sync_swap_handle(self, LockRef lock_ref, int descriptor, commit, str mode, str shown, bint changed=False):
        """A handle of an anonymous file. `commit(descriptor)` replaces the volume's file by it. Owns the descriptor.

        changed: commit even if nothing is written.
        """
        return sync_access_handle_of(_adopt_swap(lock_ref, descriptor, commit, changed, shown), mode, shown)

    def swap_handle(self, LockRef lock_ref, int descriptor, commit, str mode, str shown):
        """As sync_swap_handle, for an AccessHandle."""
        return access_handle_of(_adopt_swap(lock_ref, descriptor, commit, False, shown), mode, shown)

    def writable(self, LockRef lock_ref, int descriptor, commit, bint changed, str shown):
        """As sync_swap_handle, for a Writable."""
        return writable_of(_adopt_swap(lock_ref, descriptor, commit, changed, shown), shown)


cdef int64_t _swap_commit(void *self, int descriptor) noexcept with gil:
    try:
        (<object>self)(descriptor)
    except BaseException as error:
        return _negated_errno(error, <object>self)
    return 0


cdef void _swap_release(void *self) noexcept with gil:
    Py_DECREF(<object>self)


cdef aiofs_file *_adopt_swap(LockRef lock_ref, int descriptor, commit, bint changed, shown) except NULL:
    """The engine's open file for an anonymous file, which `commit` writes to the volume. It adopts the lock."""
    cdef aiofs_file *opened = NULL
    cdef int status
    if lock_ref is None or lock_ref.lock_ref == NULL:
        os.close(descriptor)
        raise make_error(EBADF, shown, "open with a lock that was released")
    status = aiofs_swap_adopt(lock_ref.lock_ref, changed, _swap_commit, _swap_release, <void *>commit)
    if status == 0:
        Py_INCREF(commit)
        with nogil:
            status = aiofs_file_adopt(descriptor, os_O_RDWR, lock_ref.lock_ref, NULL, NULL, &opened)
    if status < 0:
        os.close(descriptor)
        raise make_error(-status, shown, "open")
    lock_ref.lock_ref = NULL
    return opened


cdef aiofs_file *_adopt(LockRef lock_ref, volume, file, int flags, shown) except NULL:
    """The engine's open file for a volume's file object; it adopts the lock.

    Its descriptor is a placeholder: /dev/null opened O_PATH, so that read(2) on it fails with EBADF.
    """
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
