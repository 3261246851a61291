# The asynchronous access handle. See sync_access_handle.pxi for what a handle is.
#
# AccessHandle keeps the order of its calls: operations take effect as if serialised. The engine orders what overlaps.
# What the engine cannot know is deferred here, in a queue that keeps the order: an operation that starts at the cursor
# waits for the one before, which moves it; get_size and close wait for all. Where the size is asked of a volume that
# may block, everything after it waits for the answer. The cursor is where the last operation in the order left it that
# did not fail, whatever the order of the ends.
#
# A handle owns one reference to the engine's open file, and an operation holds the handle until the operation ends.
# The GIL guards all of this; it is released while the engine takes a request, which may be delivered meanwhile.


cdef int64_t call_end_file(aiofs_request *request) noexcept nogil:
    """On a host thread: ends the use of a file. `offset` says whether to flush."""
    return end_file(<aiofs_file *>request.single.iov_base, request.offset != 0)


cdef int64_t call_file_size(aiofs_request *request) noexcept nogil:
    """On a host thread: asks a volume that may block."""
    return aiofs_file_size(<aiofs_file *>request.single.iov_base)


cdef int64_t call_drop_file(aiofs_request *request) noexcept nogil:
    drop_file(<aiofs_file *>request.single.iov_base)
    return 0


cdef void free_request(aiofs_request *request) noexcept nogil:
    free(request)


cdef int64_t end_file_on_this_thread(aiofs_file *file, bint flush) noexcept nogil:
    """Ends the use of a file when no host thread can be started.

    Does not wait for requests: a request may wait for this thread.
    """
    if not aiofs_file_busy(file):
        return end_file(file, flush)
    drop_file(file)
    return -EAGAIN if flush else 0


cdef void drop_file(aiofs_file *file) noexcept nogil:
    aiofs_file_close(file)
    aiofs_file_release(file)


cdef void drop_file_on_host_thread(aiofs_file *file) noexcept nogil:
    """On a host thread, if there is one to be had: the volume's close_file may block."""
    cdef aiofs_request *request = <aiofs_request *>calloc(1, sizeof(aiofs_request))
    cdef int error = -ENOMEM
    if request != NULL:
        aiofs_request_init(request)
        request.op = AIOFS_CALL
        request.call = call_drop_file
        request.destroy = free_request
        request.single.iov_base = file
        error = aiofs_submit(request, NULL)
        aiofs_request_release(request)
    if error < 0:
        drop_file(file)


cdef set kept_alive = set()  # AccessHandles that only their Operations have


@cython.final
cdef class AccessHandle:
    """AccessHandle()
--

    An open file with a lock on its entry, read and written in place, without blocking the loop.

    Opened by FileHandle.create_access_handle or FileSystem.create_access_handle. Its methods start their
    operation at the call and return it (an Operation); `await` waits for the result. Operations take
    effect in the order of the calls, as if serialised. A wrong type or a bad number raises at the call;
    everything else is raised by the await: InvalidStateError (EBADF) after close, OSError for what the
    disk says, AbortError for what abort() cut short. An async context manager: leaving it closes.

    Source: WHATWG File System standard, FileSystemSyncAccessHandle, made awaitable.
    """

    def __init__(self):
        raise TypeError("AccessHandle is made by create_access_handle()")

    def __dealloc__(self):
        self.release_file()

    def __del__(self):
        cdef bint unclosed = self.file != NULL and not self.closed
        if self.attached:  # Operations need it until they end. They do not keep it, or this would not be called
            kept_alive.add(self)
        if not self.attached or (not self.deferred and not self.sizing and self.closing is None):
            self.release_file()
        self.closed = True  # before the warning: its receiver gets the handle, and may use and keep it
        if unclosed and not self.unwanted and self.made == generation:
            warn_unclosed(self, self.path)

    cdef void release_file(self) noexcept:
        """Closes without waiting: the lock goes with the last request."""
        cdef aiofs_file *file = self.file
        self.file = NULL
        self.closed = True
        if file != NULL:
            with nogil:
                aiofs_file_unwanted(file)
                if self.made == generation and not aiofs_python_ends and aiofs_file_blocks(file):
                    drop_file_on_host_thread(file)
                else:
                    drop_file(file)

    def __repr__(self):
        return f"<AccessHandle {self.path!r} {'closed' if self.closed or self.file == NULL else self.mode}>"

    def __reduce__(self):
        raise TypeError("an AccessHandle cannot be copied or pickled: its lock is this process's; "
                        "pickle the FileHandle, and open it there")

    def __aenter__(self):
        cdef Operation operation = self.prepare(GET_SIZE, GIVES_OBJECT, "entering", current_notifier())
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
        cdef Operation operation = self.prepare(AIOFS_TRUNCATE, GIVES_NONE, "truncate", current_notifier())
        if operation.state == PENDING:
            operation.submission = new_submission()
            operation.submission.request.offset = length
            self.start(operation)
        return operation

    def flush(self):
        """Makes all earlier writes durable. See SyncAccessHandle.flush."""
        cdef Operation operation = self.prepare(AIOFS_FLUSH, GIVES_NONE, "flush", current_notifier())
        if operation.state == PENDING:
            operation.submission = new_submission()
            self.start(operation)
        return operation

    def get_size(self):
        """Gives the size of the file in bytes, after all earlier operations."""
        cdef Operation operation = self.prepare(GET_SIZE, GIVES_COUNT, "get_size", current_notifier())
        if operation.state == PENDING:
            self.start(operation)
        return operation

    def close(self):
        """Waits for all earlier operations, flushes, releases the lock. A second call waits for the first.

        The lock is released even when it raises: the OSError of the flush. With no thread to be had, it is closed
        by this one, which waits for the disk.
        """
        return self.finish(True)

    def abort(self):
        """Closes without making anything durable; operations in flight that can be cancelled end with AbortError."""
        cdef Operation operation = self.finish(False)
        self.aborted = True
        if self.file != NULL:
            with nogil:
                aiofs_cancel_all(aiofs_file_fd(self.file))
        self.start_deferred()
        return operation

    def fileno(self):
        """The descriptor: real, open until close."""
        if self.file == NULL or self.closed or self.made != generation:
            raise closed_error(self.path, "fileno", self.made)
        return aiofs_file_fd(self.file)

    # ---- starting ----

    cdef Operation prepare(self, int kind, int gives, str doing, LoopNotifier notifier):
        """An operation that is pending, or has failed because the handle does not allow it."""
        cdef Operation operation = pending_operation(kind, gives)
        if notifier is None:
            raise no_loop_error("an AccessHandle")
        operation.reporter = notifier.reporter()
        if self.file == NULL or self.closed or self.made != generation:
            operation.fail(closed_error(self.path, doing, self.made))
        elif not self.writable and kind != AIOFS_READ and kind != GET_SIZE:
            operation.fail(refused_error(self.path, doing))
        return operation

    cdef Operation transfer(self, int kind, object buffer, object at):
        cdef int64_t offset = -1 if at is None else position(at, "at")
        cdef LoopNotifier notifier = current_notifier()
        cdef int64_t moved = AIOFS_NOT_INLINE
        cdef Operation operation
        cdef Py_buffer view
        cdef bint pinned = False
        take_buffer(buffer, &view, PyBUF_WRITABLE if kind == AIOFS_READ else PyBUF_SIMPLE)
        try:
            operation = self.prepare(kind, GIVES_COUNT, "write" if kind == AIOFS_WRITE else "read", notifier)
            if operation.state != PENDING:
                return operation
            if (self.in_flight == 0 or (kind == AIOFS_READ and self.changing == 0)) and not self.deferred:
                if offset >= 0 or self.cursor_owner is None:
                    operation.start = self.cursor if offset < 0 else offset
                    moved = self.transfer_inline(operation, &view, notifier)
            if moved == AIOFS_NOT_INLINE:
                operation.submission = new_submission()
                pin_view(operation.submission, &view)
                pinned = True
        finally:
            if not pinned:
                PyBuffer_Release(&view)
        if moved != AIOFS_NOT_INLINE:
            self.cursor = operation.start + moved
            self.turns += 1
            self.cursor_turn = self.turns
            self.cursor_owner = None
            operation.succeed(moved)
            return operation
        operation.submission.request.offset = offset
        self.start(operation)
        return operation

    cdef int64_t transfer_inline(self, Operation operation, Py_buffer *view, LoopNotifier notifier) except? -1:
        cdef iovec bytes
        cdef int64_t moved
        cdef int affords
        if view.len == 0:
            return 0
        if <size_t>view.len > AIOFS_INLINE_MAX:
            return AIOFS_NOT_INLINE
        affords = notifier.affords(<size_t>view.len)
        if not affords:
            return AIOFS_NOT_INLINE
        bytes.iov_base = view.buf
        bytes.iov_len = <size_t>view.len
        if operation.kind == AIOFS_READ:
            moved = aiofs_read_inline(self.file, -1, &bytes, 1, bytes.iov_len, operation.start)
        else:
            with nogil:
                moved = aiofs_write_inline(self.file, -1, &bytes, 1, bytes.iov_len, operation.start)
        notifier.tried(moved)
        return moved

    cdef Operation vectored(self, int kind, object buffers, object at):
        cdef int64_t offset = -1 if at is None else position(at, "at")
        cdef Operation operation = self.prepare(
            kind, GIVES_COUNT, "writev" if kind == AIOFS_WRITE else "readv", current_notifier())
        if operation.state == PENDING:
            operation.submission = new_submission()
            pin_all(operation.submission, buffers, kind == AIOFS_READ)
            operation.submission.request.offset = offset
            self.start(operation)
        return operation

    cdef Operation finish(self, bint flush):
        cdef Operation operation
        if self.closing is None or self.made != generation:
            operation = self.prepare(CLOSE, GIVES_NONE, "close", current_notifier())
            operation.value = None
            if self.file == NULL or self.made != generation:
                self.close_without_waiting()
                operation.succeed(0)
                return operation
            operation.state = PENDING
            operation.submission = new_submission()
            operation.submission.request.offset = flush
            self.closed = True
            self.closing = operation
            try:
                self.start(operation)
            except MemoryError:
                if operation.handle != NULL and aiofs_request_state(&operation.submission.request) == AIOFS_NEW:
                    self.closed = False  # nothing has begun: it can be closed again
                    self.closing = None
                raise
        return self.closing

    cdef void close_without_waiting(self) noexcept:
        """Closing when there is nothing to wait for: the finalizer has closed it, or it is a parent process's.

        In the child of a fork no operation of the parent ever ends. If the parent was closing the handle, its
        thread may have given up the reference before the fork: it is no longer ours.
        """
        if self.closing is not None:
            self.file = NULL
        self.deferred = self.closing = self.cursor_owner = None
        self.in_flight = self.changing = 0
        self.sizing = False
        self.release_file()

    # ---- order ----

    cdef bint ready(self, Operation operation) noexcept:
        """May it go to the engine, or does it depend on something that only the handle knows?"""
        if operation.kind == GET_SIZE or operation.kind == CLOSE:
            return self.in_flight == 0
        if self.sizing:
            return False
        if operation.kind == AIOFS_FLUSH:
            return True
        return self.cursor_owner is None or (
            operation.kind != AIOFS_TRUNCATE and operation.submission.request.offset >= 0)

    cdef int start(self, Operation operation) except -1:
        operation.handle = <PyObject *>self
        self.attached += 1
        if self.deferred or not self.ready(operation):
            if operation.submission == NULL:
                operation.submission = new_submission()  # for what awaits it
            if self.deferred is None:
                self.deferred = deque()
            self.deferred.append(operation)
            return 0
        return self.submit(operation)

    cdef int submit(self, Operation operation) except -1:
        """To the engine, or done at once."""
        cdef aiofs_request *request
        cdef int error
        if operation.kind == GET_SIZE:
            if not aiofs_file_blocks(self.file):
                return self.end_unsubmitted(operation, aiofs_file_size(self.file))
            if operation.submission == NULL:
                operation.submission = new_submission()
            self.sizing = True
        request = &operation.submission.request
        request.op = AIOFS_CALL if operation.kind == CLOSE or operation.kind == GET_SIZE else operation.kind
        request.ordered = True
        if request.op == AIOFS_CALL:
            request.call = call_end_file if operation.kind == CLOSE else call_file_size
            request.single.iov_base = self.file
        elif operation.kind != AIOFS_FLUSH:
            if request.offset < 0:
                request.offset = self.cursor
            operation.start = request.offset
            self.turns += 1
            operation.turn = self.turns
            operation.before = self.cursor_owner
            self.cursor_owner = operation
        self.in_flight += 1
        self.changing += operation.kind == AIOFS_WRITE or operation.kind == AIOFS_TRUNCATE
        aiofs_request_retain(request)  # it may be delivered before submit_request returns
        try:
            error = submit_request(operation.submission, self.file, operation, current_notifier())
            if error < 0:
                self.end_refused(operation, error)
        finally:
            aiofs_request_release(request)
        return 0

    cdef int end_refused(self, Operation operation, int error) except -1:
        """Ends an operation that the engine did not take; the caller holds a reference to its submission."""
        cdef aiofs_submission *submission = operation.submission
        cdef bint flush = submission.request.offset != 0
        unpin(submission)
        if operation.kind == CLOSE:
            with nogil:
                error = <int>end_file_on_this_thread(self.file, flush)
        try:
            operation.ended(error)
        finally:
            end_waiters(submission)
        return 0

    cdef int operation_ended(self, Operation operation, int64_t result) except -1:
        """The engine is done with one of ours."""
        self.in_flight -= 1
        self.changing -= operation.kind == AIOFS_WRITE or operation.kind == AIOFS_TRUNCATE
        if operation.turn != 0:
            self.move_cursor(operation, result)
        if operation.kind == GET_SIZE:
            self.sizing = False
        if operation.kind == CLOSE:
            self.file = NULL
        self.conclude(operation, result)
        return self.start_deferred()

    cdef void move_cursor(self, Operation operation, int64_t result) noexcept:
        """A failed operation leaves the cursor to the operations before it."""
        cdef Operation before = None
        if result >= 0:
            if operation.turn > self.cursor_turn:
                self.cursor_turn = operation.turn
                self.cursor = (min(self.cursor, operation.start) if operation.kind == AIOFS_TRUNCATE
                               else operation.start + result)
        else:
            before = operation.before
            while before is not None and before.state != PENDING:
                before = before.before
        operation.before = before
        if self.cursor_owner is operation:
            self.cursor_owner = before

    cdef void detach(self, Operation operation) noexcept:
        operation.handle = NULL
        self.attached -= 1
        if self.attached == 0:
            kept_alive.discard(self)

    cdef int conclude(self, Operation operation, int64_t result) except -1:
        self.detach(operation)
        if result >= 0:
            operation.succeed(result)
        elif result == -ECANCELED and not self.aborted:
            operation.fail(cancelled_error())
        else:
            operation.fail(make_error(-result, self.path, operation_doing(operation.kind)))
        return 0

    cdef int start_deferred(self) except -1:
        """Starts what was deferred and may run now."""
        cdef Operation operation
        while self.deferred:
            operation = self.deferred[0]
            if operation.dropped or (self.aborted and operation.kind != CLOSE):
                self.deferred.popleft()
                self.end_unsubmitted(operation, -ECANCELED)
            elif self.ready(operation):
                self.deferred.popleft()
                self.submit(operation)
            else:
                break
        return 0

    cdef int end_unsubmitted(self, Operation operation, int64_t result) except -1:
        """Ends an operation that the engine never had."""
        cdef aiofs_submission *submission = operation.submission
        operation.submission = NULL
        self.conclude(operation, result)
        if submission != NULL:
            withdraw(submission)
        return 0


cdef str operation_doing(int kind):
    return {AIOFS_READ: "read", AIOFS_WRITE: "write", AIOFS_TRUNCATE: "truncate", AIOFS_FLUSH: "flush",
            GET_SIZE: "get_size", CLOSE: "close"}[kind]


cdef AccessHandle access_handle_of(aiofs_file *file, str mode, str path):
    """A handle that takes over a reference to an open file, and its use."""
    cdef AccessHandle handle
    try:
        handle = AccessHandle.__new__(AccessHandle)
    except MemoryError:
        drop_file(file)
        raise
    handle.mode = MODE_IN_PLACE if mode == "readwrite" else mode
    handle.writable = mode != MODE_READ_ONLY
    handle.path = path
    handle.file = file
    handle.made = generation
    return handle
