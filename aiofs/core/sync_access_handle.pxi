# Access handles: an open, locked file, read and written in place. AccessHandle is in access_handle.pxi.
#
# SyncAccessHandle works on the calling thread, without the GIL.
#
# Ownership. The engine's open file owns the descriptor and the lock. A handle owns one reference to that file, and
# closes it.
#
# Locking. The GIL guards the fields. `users` counts the threads inside methods. close sets `file` to NULL, and then
# waits until `users` is 0; so each method reads `file` and counts itself before it releases the GIL. Two cases do not
# wait. If this thread runs a method of the volume for the same handle, close fails with EDEADLK, because it would wait
# for itself. In the child of a fork the threads of the parent do not exist.

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned microseconds)

cdef str MODE_IN_PLACE = "in-place"
cdef str MODE_READ_ONLY = "read-only"


cdef int64_t position(object value, str name) except -1:
    """Checks an offset or a size, in bytes, and returns it. TypeError, ValueError."""
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


cdef int generation = 0  # fork adds one in the child, which has none of its parent's locks


cdef object closed_error(str path, str doing, int made):
    if made != generation:
        return make_error(EBADF, path, doing, "the access handle is the parent process's, and so is its lock")
    return make_error(EBADF, path, doing, "the access handle is closed")


cdef object refused_error(str path, str doing):
    return errors.NoModificationAllowedError(EBADF, f"{doing}: the access handle is read-only", path)


@cython.final
cdef class SyncAccessHandle:
    """SyncAccessHandle()
--

    An open file with a lock on its entry, read and written by this thread.

    FileHandle.create_sync_access_handle and FileSystem.create_sync_access_handle open it. Its methods
    block the thread, without the GIL; on an event loop use AccessHandle. In the modes exclusive and shared
    it reads and writes a copy, which close commits and abort discards. As a context manager it closes at the
    end of the block; in those two modes it aborts if an exception leaves the block.

    Every method raises InvalidStateError (EBADF) after close, and OSError with the kernel's errno.

    Source: WHATWG File System standard, FileSystemSyncAccessHandle.
    """

    def __init__(self):
        raise TypeError("SyncAccessHandle is made by create_sync_access_handle()")

    def __dealloc__(self):
        self.release_file()

    def __del__(self):
        cdef bint unclosed = self.file != NULL
        self.release_file()  # before the warning, whose receiver gets the handle and may use it
        if unclosed and not self.unwanted and self.made == generation:
            warn_unclosed(self, self.path, "access handle")

    cdef void release_file(self) noexcept:
        """Closes the file without waiting. The lock is released when the last request in flight is terminal."""
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
        if exception[0] is not None and self.file != NULL and aiofs_file_swapped(self.file):
            self.abort()
        else:
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
        """Reads into `buffer` from byte `at` (None: at the cursor); returns the count of bytes.

        The count is short only at the end of the file, and 0 at or past it. The cursor moves to the end of the bytes
        that were read. ValueError for a negative `at`; TypeError or BufferError for a buffer that is not writable.

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
        moved = self.block(False, &bytes, 1, offset, is_mapped(&view))
        PyBuffer_Release(&view)
        if moved < 0:
            raise make_error(-moved, self.path, "read")
        self.cursor = offset + moved
        return moved

    def write(self, data, *, at=None):
        """Writes `data` at byte `at` (None: at the cursor); returns the count of bytes.

        The count is short only if the disk becomes full. The cursor moves to the end of the bytes that were written.
        A gap between the old end of the file and `at` is filled with zeros. NoModificationAllowedError on a read-only
        handle; QuotaExceededError, with nothing written, beyond the volume's quota; OSError EFBIG beyond the largest
        file; ValueError for a negative `at`.

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
        moved = self.block(True, &bytes, 1, offset, is_mapped(&view))
        PyBuffer_Release(&view)
        if moved < 0:
            raise make_error(-moved, self.path, "write")
        self.cursor = offset + moved
        return moved

    def readv(self, buffers, *, at=None):
        """As read, into several buffers, filled in their order; returns the total count of bytes.

        Source: preadv(2).
        """
        return self.vectored(False, buffers, at)

    def writev(self, buffers, *, at=None):
        """As write, from several buffers, in their order; returns the total count of bytes.

        Source: pwritev(2).
        """
        return self.vectored(True, buffers, at)

    cdef object vectored(self, bint writes, object buffers, object at):
        cdef str doing = "writev" if writes else "readv"
        cdef int64_t offset = self.cursor if at is None else position(at, "at")
        cdef int64_t moved
        cdef aiofs_submission *pins
        pins = new_submission()  # only to pin the buffers
        try:
            pin_all(pins, buffers, not writes)
            if writes:
                self.check_change(doing)
            else:
                self.check(doing)
            moved = self.block(writes, pins.request.iov, pins.request.iovcnt, offset, pins.request.mapped)
        finally:
            discard(pins)
        if moved < 0:
            raise make_error(-moved, self.path, doing)
        self.cursor = offset + moved
        return moved

    cdef int64_t block(self, bint writes, const iovec *iov, int count, int64_t offset, bint mapped) noexcept:
        cdef aiofs_file *file = self.file
        cdef int64_t moved
        self.users += 1
        with nogil:
            moved = (aiofs_file_write(file, iov, count, offset, mapped) if writes
                     else aiofs_file_read(file, iov, count, offset, mapped))
        self.users -= 1
        return moved

    def truncate(self, size):
        """Makes the file `size` bytes long: cuts it, or adds zeros. A cursor past the new end moves to the end.

        ValueError for a negative size; NoModificationAllowedError on a read-only handle; QuotaExceededError
        beyond the volume's quota; OSError EFBIG beyond the largest file.

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
        """Returns the size of the file, in bytes.

        Source: WHATWG File System standard, FileSystemSyncAccessHandle.getSize.
        """
        cdef int64_t size
        self.check("get_size")
        self.users += 1  # the method of a volume written in Python may release the GIL
        size = aiofs_file_size(self.file)
        self.users -= 1
        if size < 0:
            raise make_error(-size, self.path, "get_size")
        return size

    def flush(self):
        """Makes all earlier writes durable, and the entry's name if aiofs created it. Does nothing if nothing changed.

        NoModificationAllowedError on a read-only handle.

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
        """Waits for requests in flight, flushes, and releases the lock. A second call does nothing.

        In the modes exclusive and shared it commits instead: the changed copy replaces the file. NotFoundError
        if the file was removed meanwhile. A handle that changed nothing commits nothing.

        OSError if that fails; the handle is closed and the lock released all the same. A method of a
        Volume cannot close the handle that called it: OSError EDEADLK, and the handle stays open. In the
        child of a fork, close only closes the child's descriptor, and does not wait or flush.

        Source: WHATWG File System standard, FileSystemSyncAccessHandle.close.
        """
        self.finish(True)

    def abort(self):
        """Closes without a flush or a commit; cancels the requests in flight that can be cancelled."""
        self.finish(False)

    def _drop(self):
        """Closes without a flush or a commit, and does not wait: as the finalizer, but without a warning."""
        self.release_file()

    cdef int finish(self, bint commit) except -1:
        cdef aiofs_file *file = self.file
        cdef int64_t outcome
        cdef bint ours = self.made == generation
        if ours and (inside_is(file) or self.closing == PyThread_get_thread_ident()):
            raise make_error(EDEADLK, self.path, "close by a method of the volume that the handle waits for")
        if file == NULL:
            while ours and self.closing:  # another thread is inside close
                with nogil:
                    usleep(50)
            return 0
        self.file = NULL
        self.closing = PyThread_get_thread_ident()
        while ours and self.users:
            with nogil:
                usleep(50)
        with nogil:
            if not commit:
                aiofs_cancel_all(aiofs_file_fd(file))
            outcome = aiofs_file_finish(file, commit and ours)
            aiofs_file_release(file)
        self.closing = 0
        if outcome < 0:
            raise make_error(-outcome, self.path, "close")
        return 0

    @property
    def contended(self):
        """Whether somebody waits for the lock of this handle; False once it is closed."""
        cdef bint waited_for
        if self.file == NULL or self.made != generation:
            return False
        self.users += 1
        with nogil:
            waited_for = aiofs_lock_ref_contended(aiofs_file_lock_ref(self.file))
        self.users -= 1
        return waited_for

    def fileno(self):
        """The descriptor, which the kernel knows, until close; then InvalidStateError (EBADF)."""
        self.check("fileno")
        return aiofs_file_fd(self.file)


cdef int warn_unclosed(object handle, str path, str what) except -1:
    if sys.is_finalizing():
        return 0
    warnings.warn(f"unclosed {what} of {path!r}", ResourceWarning, source=handle)
    return 0


cdef SyncAccessHandle sync_access_handle_of(aiofs_file *file, str mode, str path):
    """A handle for an open file. It takes over the caller's reference, and closes the file."""
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
