# Volumes that are Python objects: how the engine reads and writes their files.
#
# A Bridge is one open file of such a volume; the engine's open file owns one reference to it until its
# `close` has run. The engine calls the functions below without the GIL, on whatever thread it likes, with
# none of its locks held; they take the GIL and call the volume's methods. Memory that a method is given is
# valid while it runs, or until `VolumeRequest.complete`: the view of it is released then.
#
# The locks of such a volume are in this process only: Names owns its aiofs_volume, a Hold one lock until
# an open file takes it over.

from collections import namedtuple


cdef extern from "Python.h":
    enum:
        PyBUF_READ
        PyBUF_WRITE
    object PyMemoryView_FromMemory(char *memory, Py_ssize_t size, int flags)


cdef class Bridge:
    cdef object volume
    cdef object file
    cdef aiofs_hold *hold  # the open file's: there as long as the engine calls

    cdef int64_t move(self, const iovec *iov, int iovcnt, int64_t offset, bint writes) noexcept:
        cdef int64_t moved = 0
        cdef int i
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
                moved += _checked_count(count, iov[i].iov_len)
                if <size_t>count < iov[i].iov_len:
                    break
        except BaseException as error:
            moved = moved if moved else _negated_errno(error)
        if writes:
            aiofs_hold_changed(self.hold)
        return moved


cdef object _view(const iovec *piece, bint writes):
    return PyMemoryView_FromMemory(<char *>piece.iov_base, <Py_ssize_t>piece.iov_len,
                                   PyBUF_READ if writes else PyBUF_WRITE)


cdef int64_t _checked_count(count, size_t most) except -1:
    if not 0 <= count <= most:
        raise ValueError(f"a volume moved {count} bytes where {most} were asked for")
    return count


cdef int64_t _negated_errno(error) noexcept:
    """What the engine is told; an exception that says no errno is shown, for it has no other way."""
    if isinstance(error, OSError) and error.errno:
        return -<int64_t>error.errno
    if isinstance(error, MemoryError):
        return -ENOMEM
    sys.unraisablehook(_Unraisable(type(error), error, error.__traceback__,
                                   "a volume's method failed", None))
    return -EIO


_Unraisable = namedtuple(
    "_Unraisable", "exc_type exc_value exc_traceback err_msg object"
)


cdef int64_t _bridge_read(void *self, const iovec *iov, int iovcnt, int64_t offset) noexcept with gil:
    return (<Bridge>self).move(iov, iovcnt, offset, False)


cdef int64_t _bridge_write(void *self, const iovec *iov, int iovcnt, int64_t offset) noexcept with gil:
    return (<Bridge>self).move(iov, iovcnt, offset, True)


cdef int64_t _bridge_size(void *self) noexcept with gil:
    try:
        return (<Bridge>self).volume.size((<Bridge>self).file)
    except BaseException as error:
        return _negated_errno(error)


cdef int64_t _bridge_truncate(void *self, int64_t size) noexcept with gil:
    try:
        (<Bridge>self).volume.truncate((<Bridge>self).file, size)
        return 0
    except BaseException as error:
        return _negated_errno(error)
    finally:
        aiofs_hold_changed((<Bridge>self).hold)


cdef int64_t _bridge_flush(void *self) noexcept with gil:
    try:
        (<Bridge>self).volume.flush((<Bridge>self).file)
        return 0
    except BaseException as error:
        return _negated_errno(error)


cdef void _bridge_submit(void *self, aiofs_request *request) noexcept with gil:
    cdef VolumeRequest wrapped = VolumeRequest.__new__(VolumeRequest)
    try:
        wrapped.bind(<Bridge>self, request)
        (<Bridge>self).volume.submit(wrapped)
    except BaseException as error:
        wrapped.end(_negated_errno(error))


cdef void _bridge_close(void *self) noexcept with gil:
    try:
        (<Bridge>self).volume.close_file((<Bridge>self).file)
    except BaseException as error:
        _negated_errno(error)


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


cdef class VolumeRequest:
    """One operation that a volume was given to carry out: `complete` ends it, on any thread, once.

    `op` is "read", "write", "truncate" or "flush"; `file` is what the volume's open_file returned;
    `offset` is in bytes, for "truncate" the new size; `buffers` are the memoryviews to fill or to
    write, in order, valid until `complete` returns.
    """

    cdef aiofs_request *request
    cdef Bridge bridge
    cdef readonly str op
    cdef readonly tuple buffers

    cdef bind(self, Bridge bridge, aiofs_request *request):
        cdef bint writes = request.op == AIOFS_WRITE
        aiofs_request_retain(request)
        self.request = request
        self.bridge = bridge
        if request.op == AIOFS_READ or writes:
            self.op = "write" if writes else "read"
            self.buffers = tuple([_view(&request.iov[i], writes) for i in range(request.iovcnt)])
        else:
            self.op = "truncate" if request.op == AIOFS_TRUNCATE else "flush"
            self.buffers = ()

    def __dealloc__(self):
        self.end(-EIO)

    cdef void end(self, int64_t result) noexcept:
        cdef aiofs_request *request = self.request
        self.request = NULL
        if request != NULL:
            with nogil:
                aiofs_complete(request, result)
                aiofs_request_release(request)

    @property
    def file(self):
        return self.bridge.file

    @property
    def offset(self):
        if self.request == NULL:
            raise make_error(EBADF, None, "use a request that has ended")
        return self.request.offset

    def complete(self, result):
        """Ends the request with the number of bytes moved, or with an exception."""
        if self.request == NULL:
            raise make_error(EBADF, None, "complete a request twice")
        status = _negated_errno(result) if isinstance(result, BaseException) else <int64_t>result
        for view in self.buffers:
            view.release()
        if self.op != "read":
            aiofs_hold_changed(self.bridge.hold)
        self.end(status)


cdef class Hold:
    """A lock on an entry of a volume that is a Python object; released at `release`, or when dropped."""

    cdef aiofs_hold *hold

    def __dealloc__(self):
        self.release()

    cpdef release(self):
        cdef aiofs_hold *hold = self.hold
        self.hold = NULL
        if hold != NULL:
            with nogil:
                aiofs_hold_release(hold)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.release()


cdef class Names:
    """The entries and locks of a volume that is a Python object."""

    cdef aiofs_volume *volume

    def __cinit__(self):
        cdef int status = aiofs_volume_virtual(&self.volume)
        if status < 0:
            raise make_error(-status, None, "make volume")

    def __dealloc__(self):
        cdef aiofs_volume *volume = self.volume
        self.volume = NULL
        with nogil:
            aiofs_volume_release(volume)

    def hold(self, str path, int lock, unsigned long long owner, shown):
        """The lock on an entry, which is EBUSY if another owner has it: a Hold."""
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef const void *who = _owner(owner)
        cdef Hold taken = Hold.__new__(Hold)
        cdef int status
        with nogil:
            status = aiofs_hold_take(self.volume, c_path, <aiofs_lock>lock, who, &taken.hold)
        if status < 0:
            raise make_error(-status, shown, "lock")
        return taken

    def holds(self, str path):
        cdef bytes encoded = _path_bytes(path)
        cdef const char *c_path = encoded
        cdef long count
        with nogil:
            count = aiofs_volume_holds(self.volume, c_path)
        return count

    def generation(self, str path):
        cdef bytes encoded = _path_bytes(path)
        return aiofs_volume_generation(self.volume, encoded)

    def open(self, Hold hold, volume, file, int flags, shown):
        """An open file of the volume, with a placeholder for a descriptor; it takes the lock over."""
        return _open_file(_adopt(hold, volume, file, flags, shown), shown)

    def sync_access_handle(self, Hold hold, volume, file, int flags, str mode, str shown):
        return sync_access_handle_of(_adopt(hold, volume, file, flags, shown), mode, shown)

    def access_handle(self, Hold hold, volume, file, int flags, str mode, str shown):
        return access_handle_of(_adopt(hold, volume, file, flags, shown), mode, shown)


cdef aiofs_file *_adopt(Hold hold, volume, file, int flags, shown) except NULL:
    """Reading the placeholder, /dev/null opened as a path only, fails with EBADF: it does not lie."""
    cdef Bridge bridge = Bridge.__new__(Bridge)
    cdef const aiofs_ops *ops = &_submitting_ops if volume.submits else &_bridge_ops
    cdef aiofs_file *opened = NULL
    cdef int fd, status
    bridge.volume = volume
    bridge.file = file
    bridge.hold = hold.hold
    fd = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)
    Py_INCREF(bridge)
    with nogil:
        status = aiofs_file_adopt(fd, flags, hold.hold, ops, <void *>bridge, &opened)
    if status < 0:
        Py_DECREF(bridge)
        os.close(fd)
        raise make_error(-status, shown, "open")
    hold.hold = NULL
    return opened
