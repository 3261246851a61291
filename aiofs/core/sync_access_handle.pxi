# Access handles: an open, locked file, read and written in place.
#
# The lock and the descriptor belong to the engine's open file; a handle has one reference to it and ends its use by
# close. SyncAccessHandle works on the thread that calls it, without the GIL. `users` counts the threads inside, and
# close waits for them; it takes `file` away first, so each thread looks at that before it releases the GIL. A thread
# cannot wait for itself: close refuses to, in a volume's method that works for the handle. Nor does close wait for
# the threads of a parent process, which are not there after a fork. AccessHandle: access_handle.pxi.

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned microseconds)

cdef str MODE_IN_PLACE = "in-place"
cdef str MODE_READ_ONLY = "read-only"


cdef int64_t position(object value, str name) except -1:
    """An offset or a size, in bytes."""
    cdef int64_t number
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    try:
        number = PyLong_AsLongLong(value)
    except OverflowError:
        raise ValueError(f"{name} {value} is out of range") from None
    if number < 0:
        raise ValueError(f"{name} {value} is negative")
    return number


cdef int generation = 0  # of processes: moves on in the child of a fork, which has none of its parent's locks


cdef object closed_error(str path, str doing, int made):
    if made != generation:
        return make_error(EBADF, path, doing, "the access handle is the parent process's, and so is its lock")
    return make_error(EBADF, path, doing, "the access handle is closed")


cdef object refused_error(str path, str doing):
    return errors.NoModificationAllowedError(EBADF, f"{doing}: the access handle is read-only", path)


cdef int64_t end_file(aiofs_file *file, bint flush) noexcept nogil:
    """Waits for what is in flight, makes it durable, ends the use and gives up the reference."""
    cdef int64_t outcome = 0, closed
    aiofs_file_drain(file)
    if flush:
        outcome = aiofs_file_flush(file)
    closed = aiofs_file_close(file)
    aiofs_file_release(file)
    return outcome if outcome < 0 else closed


@cython.final
cdef class SyncAccessHandle:
    """SyncAccessHandle()
--

    An open file with a lock on its entry, read and written in place by this thread.

    Opened by FileHandle.create_sync_access_handle or FileSystem.create_sync_access_handle. Its calls
    block, without the GIL; on an event loop use AccessHandle. A context manager: leaving it closes.

    Every call raises InvalidStateError (EBADF) after close, OSError for what the disk says.

    Source: WHATWG File System standard, FileSystemSyncAccessHandle.
    """

    def __init__(self):
        raise TypeError("SyncAccessHandle is made by create_sync_access_handle()")

    def __dealloc__(self):
        self.release_file()

    def __del__(self):
        cdef bint unclosed = self.file != NULL
        self.release_file()  # before the warning: its receiver gets the handle, and may use and keep it
        if unclosed and not self.unwanted and self.made == generation:
            warn_unclosed(self, self.path)

    cdef void release_file(self) noexcept:
        """Closes without waiting: the lock goes with the last request."""
        cdef aiofs_file *file = self.file
        self.file = NULL
        if file != NULL:
            with nogil:
                aiofs_file_unwanted(file)
                aiofs_file_close(file)
                aiofs_file_release(file)

    def __repr__(self):
        return f"<SyncAccessHandle {self.path!r} {'closed' if self.file == NULL else self.mode}>"

    def __reduce__(self):
        raise TypeError("a SyncAccessHandle cannot be copied or pickled: its lock is this process's; "
                        "pickle the FileHandle, and open it there")

    def __enter__(self):
        self.check("entering")
        return self

    def __exit__(self, *exception):
        self.close()

    cdef inline int check(self, str doing) except -1:
        if self.file == NULL or self.made != generation:
            raise closed_error(self.path, doing, self.made)
        return 0

    cdef inline int check_change(self, str doing) except -1:
        self.check(doing)
        if not self.writable:
            raise refused_error(self.path, doing)
        return 0

    def read(self, buffer, *, at=None):
        """Reads into `buffer` from byte `at` (None: the cursor); returns the count of bytes.

        Short only at the end of the file; 0 at or past it. The cursor goes to behind what was read.
        ValueError for a negative `at`; TypeError or BufferError for a buffer that is not writable.

        Source: WHATWG File System standard, FileSystemSyncAccessHandle.read.
        """
        cdef Py_buffer view
        cdef iovec bytes
        cdef int64_t moved
        cdef int64_t offset = self.cursor if at is None else position(at, "at")
        take_buffer(buffer, &view, PyBUF_WRITABLE)
        if self.file == NULL or self.made != generation:
            PyBuffer_Release(&view)
            self.check("read")
        bytes.iov_base = view.buf
        bytes.iov_len = <size_t>view.len
        moved = self.block(False, &bytes, 1, offset)
        PyBuffer_Release(&view)
        if moved < 0:
            raise make_error(-moved, self.path, "read")
        self.cursor = offset + moved
        return moved

    def write(self, data, *, at=None):
        """Writes `data` at byte `at` (None: the cursor); returns the count of bytes, all but on a full disk.

        The cursor goes to behind what was written; a gap is filled with zeros. NoModificationAllowedError
        on a read-only handle; QuotaExceededError, nothing written, beyond the volume's quota; EFBIG.

        Source: WHATWG File System standard, FileSystemSyncAccessHandle.write.
        """
        cdef Py_buffer view
        cdef iovec bytes
        cdef int64_t moved
        cdef int64_t offset = self.cursor if at is None else position(at, "at")
        take_buffer(data, &view, PyBUF_SIMPLE)
        if self.file == NULL or self.made != generation or not self.writable:
            PyBuffer_Release(&view)
            self.check_change("write")
        bytes.iov_base = view.buf
        bytes.iov_len = <size_t>view.len
        moved = self.block(True, &bytes, 1, offset)
        PyBuffer_Release(&view)
        if moved < 0:
            raise make_error(-moved, self.path, "write")
        self.cursor = offset + moved
        return moved

    def readv(self, buffers, *, at=None):
        """As read, filling several buffers one after the other.

        Source: preadv(2).
        """
        return self.vectored(False, buffers, at)

    def writev(self, buffers, *, at=None):
        """As write, of several buffers one after the other.

        Source: pwritev(2).
        """
        return self.vectored(True, buffers, at)

    cdef object vectored(self, bint writes, object buffers, object at):
        cdef str doing = "writev" if writes else "readv"
        cdef int64_t offset = self.cursor if at is None else position(at, "at")
        cdef int64_t moved
        cdef aiofs_submission *pins
        pins = new_submission()  # only for its pins
        try:
            pin_all(pins, buffers, not writes)
            if writes:
                self.check_change(doing)
            else:
                self.check(doing)
            moved = self.block(writes, pins.request.iov, pins.request.iovcnt, offset)
        finally:
            discard(pins)
        if moved < 0:
            raise make_error(-moved, self.path, doing)
        self.cursor = offset + moved
        return moved

    cdef int64_t block(self, bint writes, const iovec *iov, int count, int64_t offset) noexcept:
        cdef aiofs_file *file = self.file
        cdef int64_t moved
        self.users += 1
        with nogil:
            moved = (aiofs_file_write(file, iov, count, offset) if writes
                     else aiofs_file_read(file, iov, count, offset))
        self.users -= 1
        return moved

    def truncate(self, size):
        """Makes the file `size` bytes long, cutting it or adding zeros; a cursor behind the end goes there.

        Source: WHATWG File System standard, FileSystemSyncAccessHandle.truncate.
        """
        cdef int64_t length = position(size, "size"), outcome
        cdef aiofs_file *file
        self.check_change("truncate")
        file = self.file
        self.users += 1
        with nogil:
            outcome = aiofs_file_truncate(file, length)
        self.users -= 1
        if outcome < 0:
            raise make_error(-outcome, self.path, "truncate")
        self.cursor = min(self.cursor, length)

    def get_size(self):
        """The size of the file, in bytes.

        Source: WHATWG File System standard, FileSystemSyncAccessHandle.getSize.
        """
        cdef int64_t size
        self.check("get_size")
        self.users += 1  # the method of a volume of Python's may let the GIL go
        size = aiofs_file_size(self.file)
        self.users -= 1
        if size < 0:
            raise make_error(-size, self.path, "get_size")
        return size

    def flush(self):
        """Makes all earlier writes durable, and the entry's name if aiofs made it; nothing if nothing changed.

        Source: WHATWG File System standard, FileSystemSyncAccessHandle.flush; fdatasync(2).
        """
        cdef aiofs_file *file
        cdef int64_t outcome
        self.check_change("flush")
        file = self.file
        self.users += 1
        with nogil:
            outcome = aiofs_file_flush(file)
        self.users -= 1
        if outcome < 0:
            raise make_error(-outcome, self.path, "flush")

    def close(self):
        """Flushes, waits for requests in flight, releases the lock. A second call does nothing.

        The handle is closed and the lock released even when it raises: the OSError of the flush. But a
        Volume's method that this handle has called cannot close it: OSError EDEADLK, and it stays open.
        In the child of a fork it closes the child's descriptor, and waits for nothing.

        Source: WHATWG File System standard, FileSystemSyncAccessHandle.close.
        """
        self.finish(True)

    def abort(self):
        """Closes without making anything durable; requests in flight are cancelled if they can be."""
        self.finish(False)

    cdef int finish(self, bint flush) except -1:
        cdef aiofs_file *file = self.file
        cdef int64_t outcome
        cdef bint ours = self.made == generation
        if ours and (inside_is(file) or self.closing == PyThread_get_thread_ident()):
            raise make_error(EDEADLK, self.path, "close by a method of the volume that the handle waits for")
        if file == NULL:
            while ours and self.closing:  # by another thread
                with nogil:
                    usleep(50)
            return 0
        self.file = NULL
        self.closing = PyThread_get_thread_ident()
        while ours and self.users:
            with nogil:
                usleep(50)
        with nogil:
            if not flush:
                aiofs_cancel_all(aiofs_file_fd(file))
            outcome = end_file(file, flush and ours)
        self.closing = 0
        if outcome < 0:
            raise make_error(-outcome, self.path, "close")
        return 0

    def fileno(self):
        """The descriptor: real, open until close."""
        self.check("fileno")
        return aiofs_file_fd(self.file)


cdef int warn_unclosed(object handle, str path) except -1:
    if sys.is_finalizing():
        return 0
    warnings.warn(f"unclosed access handle of {path!r}", ResourceWarning, source=handle)
    return 0


cdef SyncAccessHandle sync_access_handle_of(aiofs_file *file, str mode, str path):
    """A handle that takes over a reference to an open file, and its use."""
    cdef SyncAccessHandle handle
    try:
        handle = SyncAccessHandle.__new__(SyncAccessHandle)
    except MemoryError:
        drop_file(file)
        raise
    handle.mode = MODE_IN_PLACE if mode == "readwrite" else mode
    handle.writable = mode != MODE_READ_ONLY
    handle.path = path
    handle.file = file
    handle.made = generation
    return handle
