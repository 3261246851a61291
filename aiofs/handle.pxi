# Access handles: an open, locked file, read and written in place.
#
# The lock and the descriptor belong to the engine's file; a handle has one reference to it and ends its
# use by close. SyncAccessHandle works on the caller's thread: a cached read of up to GIL_COPY_MAX bytes
# is made with the GIL held, because it cannot block; all else releases it. `users` counts the threads
# inside; close waits for them.
#
# AccessHandle keeps the order of its calls (operations take effect as if serialised). The engine orders
# what overlaps. What it cannot know is deferred here, in a queue that keeps the order: an operation that
# starts at the cursor waits for the one before, which moves it; get_size and close wait for all.

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned microseconds)

cdef enum:
    GIL_COPY_MAX = 64 * 1024

cdef enum:
    GET_SIZE = 100, CLOSE

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


cdef object closed_error(str path, str doing):
    return make_error(EBADF, path, doing + ": the access handle is closed")


cdef object refused_error(str path, str doing):
    from aiofs.errors import NoModificationAllowedError
    return NoModificationAllowedError(EBADF, f"{doing}: the access handle is read-only", path)


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
    """An open file with a lock on its entry, read and written in place by this thread.

    Opened by FileHandle.create_sync_access_handle or FileSystem.create_sync_access_handle. Its calls
    block, without the GIL; on an event loop use AccessHandle. A context manager: leaving it closes.

    Every call raises InvalidStateError (EBADF) after close, OSError for what the disk says.

    Source: WHATWG File System standard, FileSystemSyncAccessHandle.
    """
    cdef aiofs_file *file  # a reference; NULL when closed
    cdef int64_t cursor
    cdef int users
    cdef bint writable
    cdef readonly str mode
    cdef str path
    cdef object __weakref__

    def __init__(self):
        raise TypeError("SyncAccessHandle is made by create_sync_access_handle()")

    def __dealloc__(self):
        if self.file != NULL:
            with nogil:
                aiofs_file_close(self.file)
                aiofs_file_release(self.file)

    def __del__(self):
        if self.file != NULL:
            warn_unclosed(self, self.path)

    def __repr__(self):
        return f"<SyncAccessHandle {self.path!r} {'closed' if self.file == NULL else self.mode}>"

    def __enter__(self):
        self.check("entering")
        return self

    def __exit__(self, *exception):
        self.close()

    cdef inline int check(self, str doing) except -1:
        if self.file == NULL:
            raise closed_error(self.path, doing)
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
        cdef int64_t moved = AIOFS_NOT_INLINE
        cdef int64_t offset = self.cursor if at is None else position(at, "at")
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        if self.file == NULL:
            PyBuffer_Release(&view)
            self.check("read")
        bytes.iov_base = view.buf
        bytes.iov_len = <size_t>view.len
        if bytes.iov_len <= GIL_COPY_MAX:
            moved = aiofs_read_inline(self.file, -1, &bytes, 1, bytes.iov_len, offset)
        if moved == AIOFS_NOT_INLINE:
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
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        if self.file == NULL or not self.writable:
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
        cdef aiofs_flight *pins
        pins = make_flight()  # only for its pins
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
        cdef int64_t moved
        self.users += 1
        with nogil:
            moved = (aiofs_file_write(self.file, iov, count, offset) if writes
                     else aiofs_file_read(self.file, iov, count, offset))
        self.users -= 1
        return moved

    def truncate(self, size):
        """Makes the file `size` bytes long, cutting it or adding zeros; a cursor behind the end goes there.

        Source: WHATWG File System standard, FileSystemSyncAccessHandle.truncate.
        """
        cdef int64_t length = position(size, "size"), outcome
        self.check_change("truncate")
        self.users += 1
        with nogil:
            outcome = aiofs_file_truncate(self.file, length)
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
        size = aiofs_file_size(self.file)
        if size < 0:
            raise make_error(-size, self.path, "get_size")
        return size

    def flush(self):
        """Makes all earlier writes durable, and the entry's name if aiofs made it; nothing if nothing changed.

        Source: WHATWG File System standard, FileSystemSyncAccessHandle.flush; fdatasync(2).
        """
        cdef int64_t outcome
        self.check_change("flush")
        self.users += 1
        with nogil:
            outcome = aiofs_file_flush(self.file)
        self.users -= 1
        if outcome < 0:
            raise make_error(-outcome, self.path, "flush")

    def close(self):
        """Flushes, waits for requests in flight, releases the lock. A second call does nothing.

        The handle is closed and the lock released even when it raises: the OSError of the flush.

        Source: WHATWG File System standard, FileSystemSyncAccessHandle.close.
        """
        self.finish(True)

    def abort(self):
        """Closes without making anything durable; requests in flight are cancelled if they can be."""
        self.finish(False)

    cdef int finish(self, bint flush) except -1:
        cdef aiofs_file *file = self.file
        cdef int64_t outcome
        if file == NULL:
            return 0
        self.file = NULL
        while self.users:
            with nogil:
                usleep(50)
        with nogil:
            if not flush:
                aiofs_cancel_all(aiofs_file_fd(file))
            outcome = end_file(file, flush)
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
    import warnings
    warnings.warn(f"unclosed access handle of {path!r}", ResourceWarning, source=handle)
    return 0


cdef SyncAccessHandle sync_access_handle_of(aiofs_file *file, str mode, str path):
    """A handle that takes over a reference to an open file, and its use."""
    cdef SyncAccessHandle handle = SyncAccessHandle.__new__(SyncAccessHandle)
    handle.mode = MODE_IN_PLACE if mode == "readwrite" else mode
    handle.writable = mode != MODE_READ_ONLY
    handle.path = path
    handle.file = file
    return handle


# ---- asynchronous ----------------------------------------------------------------------------------------

cdef int64_t call_end_file(aiofs_request *request) noexcept nogil:
    """On a caller: ends the use of a file. `offset` says whether to flush."""
    return end_file(<aiofs_file *>request.single.iov_base, request.offset != 0)


@cython.final
cdef class AccessHandle:
    """An open file with a lock on its entry, read and written in place, without blocking the loop.

    Opened by FileHandle.create_access_handle or FileSystem.create_access_handle. Its methods start their
    operation at the call and return it (an Operation); `await` waits for the result. Operations take
    effect in the order of the calls, as if serialised. A wrong type or a bad number raises at the call;
    everything else is raised by the await: InvalidStateError (EBADF) after close, OSError for what the
    disk says, AbortError for what abort() cut short. An async context manager: leaving it closes.

    Source: WHATWG File System standard, FileSystemSyncAccessHandle, made awaitable.
    """
    cdef aiofs_file *file        # a reference; NULL when closed
    cdef int64_t cursor
    cdef Operation cursor_owner  # the last one that moves the cursor, if it has not ended
    cdef Operation closing
    cdef object deferred         # deque of Operations that have to wait for others
    cdef int in_flight, changing
    cdef bint writable, closed, aborted
    cdef readonly str mode
    cdef str path
    cdef object __weakref__

    def __init__(self):
        raise TypeError("AccessHandle is made by create_access_handle()")

    def __dealloc__(self):
        if self.file != NULL:
            with nogil:
                aiofs_file_close(self.file)
                aiofs_file_release(self.file)

    def __del__(self):
        if self.file != NULL and not self.closed:
            warn_unclosed(self, self.path)

    def __repr__(self):
        return f"<AccessHandle {self.path!r} {'closed' if self.closed else self.mode}>"

    def __aenter__(self):
        cdef Operation operation = self.prepare(GET_SIZE, GIVES_OBJECT, "entering", current_delivery())
        if operation.state == PENDING:
            operation.value = self
            operation.succeed(0)
        return operation

    def __aexit__(self, *exception):
        return self.close()

    # ---- the methods ----

    def read(self, buffer, *, at=None):
        """Reads into `buffer` from byte `at` (None: the cursor); gives the count of bytes.

        The buffer is pinned until the operation has ended, cancelled or not. See SyncAccessHandle.read.
        """
        return self.transfer(AIOFS_READ, buffer, at)

    def write(self, data, *, at=None):
        """Writes `data` at byte `at` (None: the cursor); gives the count of bytes. See SyncAccessHandle.write."""
        return self.transfer(AIOFS_WRITE, data, at)

    def readv(self, buffers, *, at=None):
        """As read, filling several buffers one after the other."""
        return self.vectored(AIOFS_READ, buffers, at)

    def writev(self, buffers, *, at=None):
        """As write, of several buffers one after the other."""
        return self.vectored(AIOFS_WRITE, buffers, at)

    def truncate(self, size):
        """Makes the file `size` bytes long. See SyncAccessHandle.truncate."""
        cdef int64_t length = position(size, "size")
        cdef Operation operation = self.prepare(AIOFS_TRUNCATE, GIVES_NONE, "truncate", current_delivery())
        if operation.state == PENDING:
            operation.flight = make_flight()
            operation.flight.request.offset = length
            self.start(operation)
        return operation

    def flush(self):
        """Makes all earlier writes durable. See SyncAccessHandle.flush."""
        cdef Operation operation = self.prepare(AIOFS_FLUSH, GIVES_NONE, "flush", current_delivery())
        if operation.state == PENDING:
            operation.flight = make_flight()
            self.start(operation)
        return operation

    def get_size(self):
        """Gives the size of the file in bytes, after all earlier operations."""
        cdef Operation operation = self.prepare(GET_SIZE, GIVES_COUNT, "get_size", current_delivery())
        if operation.state == PENDING:
            self.start(operation)
        return operation

    def close(self):
        """Waits for all earlier operations, flushes, releases the lock. A second call waits for the first.

        The lock is released even when it raises: the OSError of the flush.
        """
        return self.finish(True)

    def abort(self):
        """Closes without making anything durable; operations in flight that can be cancelled end with AbortError."""
        cdef Operation operation = self.finish(False)
        self.aborted = True
        if self.file != NULL:
            with nogil:
                aiofs_cancel_all(aiofs_file_fd(self.file))
        self.go_on()
        return operation

    def fileno(self):
        """The descriptor: real, open until close."""
        if self.file == NULL or self.closed:
            raise closed_error(self.path, "fileno")
        return aiofs_file_fd(self.file)

    # ---- starting ----

    cdef Operation prepare(self, int kind, int gives, str doing, Delivery delivery):
        """An operation that is pending, or has failed because the handle does not allow it."""
        cdef Operation operation = pending_operation(self, kind, gives)
        if delivery is None:
            raise RuntimeError("an AccessHandle needs a running event loop")
        operation.loop = delivery.loop
        if self.closed:
            operation.fail(closed_error(self.path, doing))
        elif not self.writable and kind != AIOFS_READ and kind != GET_SIZE:
            operation.fail(refused_error(self.path, doing))
        return operation

    cdef Operation transfer(self, int kind, object buffer, object at):
        cdef int64_t offset = -1 if at is None else position(at, "at")
        cdef Delivery delivery = current_delivery()
        cdef int64_t moved = AIOFS_NOT_INLINE
        cdef Operation operation
        cdef Py_buffer view
        cdef bint pinned = False
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE if kind == AIOFS_READ else PyBUF_SIMPLE)
        try:
            operation = self.prepare(kind, GIVES_COUNT, "write" if kind == AIOFS_WRITE else "read", delivery)
            if operation.state != PENDING:
                return operation
            if (self.in_flight == 0 or (kind == AIOFS_READ and self.changing == 0)) and not self.deferred:
                if offset >= 0 or self.cursor_owner is None:
                    operation.start = self.cursor if offset < 0 else offset
                    moved = self.transfer_inline(operation, &view, delivery)
            if moved == AIOFS_NOT_INLINE:
                operation.flight = make_flight()
                pin_view(operation.flight, &view)
                pinned = True
        finally:
            if not pinned:
                PyBuffer_Release(&view)
        if moved != AIOFS_NOT_INLINE:
            self.cursor = operation.start + moved
            self.cursor_owner = None
            operation.succeed(moved)
            return operation
        operation.flight.request.offset = offset
        self.start(operation)
        return operation

    cdef int64_t transfer_inline(self, Operation operation, Py_buffer *view, Delivery delivery) except? -1:
        cdef iovec bytes
        cdef int64_t moved
        cdef int affords
        if view.len == 0:
            return 0
        if <size_t>view.len > AIOFS_INLINE_MAX:
            return AIOFS_NOT_INLINE
        affords = delivery.affords(<size_t>view.len)
        if not affords:
            return AIOFS_NOT_INLINE
        operation.late = affords == 2
        bytes.iov_base = view.buf
        bytes.iov_len = <size_t>view.len
        if operation.kind == AIOFS_READ:
            return aiofs_read_inline(self.file, -1, &bytes, 1, bytes.iov_len, operation.start)
        with nogil:
            moved = aiofs_write_inline(self.file, -1, &bytes, 1, bytes.iov_len, operation.start)
        return moved

    cdef Operation vectored(self, int kind, object buffers, object at):
        cdef int64_t offset = -1 if at is None else position(at, "at")
        cdef Operation operation = self.prepare(kind, GIVES_COUNT, "writev" if kind == AIOFS_WRITE else "readv", current_delivery())
        if operation.state == PENDING:
            operation.flight = make_flight()
            pin_all(operation.flight, buffers, kind == AIOFS_READ)
            operation.flight.request.offset = offset
            self.start(operation)
        return operation

    cdef Operation finish(self, bint flush):
        cdef Operation operation
        if self.closing is None:
            operation = self.prepare(CLOSE, GIVES_NONE, "close", current_delivery())
            operation.state = PENDING
            operation.value = None
            operation.flight = make_flight()
            operation.flight.request.offset = flush
            self.closed = True
            self.closing = operation
            self.start(operation)
        return self.closing

    # ---- order ----

    cdef bint ready(self, Operation operation) noexcept:
        """May it go to the engine, or does it depend on something that only the handle knows?"""
        if operation.kind == GET_SIZE or operation.kind == CLOSE:
            return self.in_flight == 0
        if operation.kind == AIOFS_FLUSH:
            return True
        return self.cursor_owner is None or (operation.kind != AIOFS_TRUNCATE and operation.flight.request.offset >= 0)

    cdef int start(self, Operation operation) except -1:
        if self.deferred or not self.ready(operation):
            if self.deferred is None:
                self.deferred = deque()
            self.deferred.append(operation)
            return 0
        return self.go(operation)

    cdef int go(self, Operation operation) except -1:
        """To the engine, or done at once."""
        cdef aiofs_request *request
        cdef int error
        if operation.kind == GET_SIZE:
            self.conclude(operation, aiofs_file_size(self.file))
            return 0
        request = &operation.flight.request
        request.op = AIOFS_CALL if operation.kind == CLOSE else operation.kind
        request.ordered = True
        if operation.kind == CLOSE:
            request.call = call_end_file
            request.single.iov_base = self.file
        elif operation.kind == AIOFS_READ or operation.kind == AIOFS_WRITE:
            if request.offset < 0:
                request.offset = self.cursor
            operation.start = request.offset
            self.cursor_owner = operation
        elif operation.kind == AIOFS_TRUNCATE:
            operation.start = request.offset
            self.cursor_owner = operation
        self.in_flight += 1
        self.changing += operation.kind == AIOFS_WRITE or operation.kind == AIOFS_TRUNCATE
        aiofs_request_retain(request)  # launch may open it before it returns
        error = launch(operation.flight, self.file, operation, current_delivery())
        aiofs_request_release(request)
        if error < 0:
            unpin(operation.flight)
            operation.ended(error)
        return 0

    cdef int operation_ended(self, Operation operation, int64_t result) except -1:
        """The engine is done with one of ours."""
        self.in_flight -= 1
        self.changing -= operation.kind == AIOFS_WRITE or operation.kind == AIOFS_TRUNCATE
        if self.cursor_owner is operation:
            self.cursor_owner = None
            if result >= 0:
                self.cursor = (min(self.cursor, operation.start) if operation.kind == AIOFS_TRUNCATE
                               else operation.start + result)
        if operation.kind == CLOSE:
            self.file = NULL
        self.conclude(operation, result)
        return self.go_on()

    cdef int conclude(self, Operation operation, int64_t result) except -1:
        if result >= 0:
            operation.succeed(result)
        elif result == -ECANCELED and not self.aborted:
            operation.fail(asyncio.CancelledError())
        else:
            operation.fail(make_error(-result, self.path, operation_doing(operation.kind)))
        if operation.futures is not None:
            futures, operation.futures = operation.futures, None
            wake(futures)
        return 0

    cdef int go_on(self) except -1:
        """Starts what was deferred and may run now."""
        cdef Operation operation
        while self.deferred:
            operation = self.deferred[0]
            if operation.dropped or (self.aborted and operation.kind != CLOSE):
                self.deferred.popleft()
                self.withdraw(operation)
            elif self.ready(operation):
                self.deferred.popleft()
                self.go(operation)
            else:
                break
        return 0

    cdef int withdraw(self, Operation operation) except -1:
        """Ends a deferred operation that was cancelled before its turn."""
        cdef aiofs_flight *flight = operation.flight
        operation.flight = NULL
        self.conclude(operation, -ECANCELED)
        if flight != NULL:
            call_off(flight)
        return 0


cdef str operation_doing(int kind):
    return {AIOFS_READ: "read", AIOFS_WRITE: "write", AIOFS_TRUNCATE: "truncate", AIOFS_FLUSH: "flush",
            GET_SIZE: "get_size", CLOSE: "close"}[kind]


cdef AccessHandle access_handle_of(aiofs_file *file, str mode, str path):
    """A handle that takes over a reference to an open file, and its use."""
    cdef AccessHandle handle = AccessHandle.__new__(AccessHandle)
    handle.mode = MODE_IN_PLACE if mode == "readwrite" else mode
    handle.writable = mode != MODE_READ_ONLY
    handle.path = path
    handle.file = file
    return handle
