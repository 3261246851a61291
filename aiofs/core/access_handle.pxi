# The asynchronous access handle: the order of its operations. sync_access_handle.pxi says what a handle is.
#
# The operations of a handle take effect as if each ran after the call before it. The engine orders requests whose
# bytes overlap. Dependencies that the engine cannot know are kept here, in the queue `deferred`:
#   - an operation at a cursor waits for the operation before it that moves that cursor;
#   - a read whose size depends on the file's waits for the writes and truncations before it;
#   - get_size and close wait for all operations before them;
#   - if a volume that may block is asked for its size, every later operation waits for the answer;
#   - a close that cannot block waits for a turn of the loop, if those of the present one are used up (turn.pxi).
# A cursor is set by the last operation, in the order of the calls, that succeeds. The order of completions does not
# matter. The handle has a cursor, and each of its streams; see stream.pxi.
#
# Ownership. A handle owns one reference to the engine's open file, until its close is delivered: the thread that closes
# the file does not release it, because the engine uses a released file's memory for the next file. The pointer from an
# Operation to its handle is borrowed: the finalizer of a handle with pending Operations puts the handle into
# `kept_alive` until they are complete.
#
# Locking. The GIL guards all of this. It is released while the engine accepts a request, so another thread may deliver
# that request before submit_request returns.


cdef int64_t FAR = 1 << 62  # only beyond this offset can a transfer reach past the last byte of the largest file


cdef int64_t call_end_file(aiofs_request *request) noexcept nogil:
    """Runs on a host thread: closes a file. request.offset is not 0: commits it first."""
    return aiofs_file_finish(<aiofs_file *>request.single.iov_base, request.offset != 0)


cdef int64_t call_file_size(aiofs_request *request) noexcept nogil:
    """Runs on a host thread: the size of a file whose volume may block."""
    return aiofs_file_size(<aiofs_file *>request.single.iov_base)


cdef int64_t call_drop_file(aiofs_request *request) noexcept nogil:
    drop_file(<aiofs_file *>request.single.iov_base)
    return 0


cdef void free_request(aiofs_request *request) noexcept nogil:
    free(request)


cdef int64_t end_file_on_this_thread(aiofs_file *file, bint commit) noexcept nogil:
    """Closes a file on this thread, because no host thread can be started.

    Does not wait for requests in flight, because one of them may wait for this thread.
    """
    if not aiofs_file_busy(file):
        return aiofs_file_finish(file, commit)
    aiofs_file_close(file)
    return -EAGAIN if commit else 0


cdef void drop_file(aiofs_file *file) noexcept nogil:
    aiofs_file_close(file)
    aiofs_file_release(file)


cdef void drop_file_on_host_thread(aiofs_file *file) noexcept nogil:
    """Closes a file on a host thread, because that may block; if none can start, on this thread."""
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


cdef set kept_alive = set()  # finalized AccessHandles that have pending Operations


@cython.final
cdef class AccessHandle:
    """AccessHandle()
--

    An open file with a lock on its entry, read and written without blocking the loop.

    FileHandle.create_access_handle and FileSystem.create_access_handle open it. A method starts its
    operation at the call and returns it (an Operation); `await` waits for the result. Operations take
    effect in the order of the calls, as if each ran after the one before. In the modes exclusive and
    shared it reads and writes a copy, which close commits and abort discards. As an async context manager it
    closes at the end of the block; in those two modes it aborts if an exception leaves the block.

    At the call: TypeError, ValueError or BufferError for an invalid argument, RuntimeError if no event
    loop runs. From the await: InvalidStateError (EBADF) after close, NoModificationAllowedError (EBADF)
    for a change through a read-only handle, AbortError (ECANCELED) for an operation that abort()
    cancelled, OSError with the kernel's errno.

    Source: WHATWG File System standard, FileSystemSyncAccessHandle, made awaitable.
    """

    def __cinit__(self):
        self.cursor = _Cursor.__new__(_Cursor)

    def __init__(self):
        raise TypeError("AccessHandle is made by create_access_handle()")

    def __dealloc__(self):
        self.release_file()

    def __del__(self):
        cdef bint unclosed = self.file != NULL and not self.closed
        if self.attached:  # pending Operations have only borrowed pointers to the handle, and need it
            kept_alive.add(self)
        if not self.attached or (not self.deferred and not self.sizing and self.closing is None):
            self.release_file()
        self.closed = True  # before the warning, whose receiver gets the handle and may use it
        if unclosed and not self.unwanted and self.made == generation:
            warn_unclosed(self, self.path, "writable stream" if self.strict else "access handle")

    cdef void release_file(self) noexcept:
        """Closes the file without waiting. The lock is released when the last request in flight is terminal."""
        cdef aiofs_file *file = self.file
        self.file = NULL
        self.closed = True
        if file != NULL:
            with nogil:
                aiofs_file_unwanted(file)
                if self.made == generation and not aiofs_python_ends and (
                        aiofs_file_blocks(file) or aiofs_file_swapped(file)):
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
        if exception[0] is not None and self.file != NULL and aiofs_file_swapped(self.file):
            return self.abort()
        return self.close()

    # ---- the methods ----

    def read(self, buffer, *, at=None):
        """Reads into `buffer` from byte `at` (None: at the cursor). The await returns the count of bytes.

        The buffer stays pinned until the operation is complete, also if its await was cancelled. See
        SyncAccessHandle.read.
        """
        return self.transfer(AIOFS_READ, buffer, at, self.cursor)

    def write(self, data, *, at=None):
        """Writes `data` at byte `at` (None: at the cursor). The await returns the count of bytes.

        See SyncAccessHandle.write.
        """
        return self.transfer(AIOFS_WRITE, data, at, self.cursor)

    def readv(self, buffers, *, at=None):
        """As read, into several buffers, filled in their order. The await returns the total count of bytes."""
        return self.vectored(AIOFS_READ, buffers, at)

    def writev(self, buffers, *, at=None):
        """As write, from several buffers, in their order. The await returns the total count of bytes."""
        return self.vectored(AIOFS_WRITE, buffers, at)

    def truncate(self, size):
        """Makes the file `size` bytes long. The await returns None. See SyncAccessHandle.truncate."""
        cdef int64_t length = position(size, "size")
        cdef Operation operation = self.prepare(AIOFS_TRUNCATE, GIVES_NONE, "truncate", current_notifier())
        if operation.state == PENDING:
            operation.submission = new_submission()
            operation.submission.request.offset = length
            operation.cursor = self.cursor
            self.start(operation)
        return operation

    def flush(self):
        """Makes all earlier writes durable. The await returns None. See SyncAccessHandle.flush."""
        cdef Operation operation = self.prepare(AIOFS_FLUSH, GIVES_NONE, "flush", current_notifier())
        if operation.state == PENDING:
            operation.submission = new_submission()
            self.start(operation)
        return operation

    def get_size(self):
        """The await returns the size of the file in bytes, after all earlier operations."""
        cdef Operation operation = self.prepare(GET_SIZE, GIVES_COUNT, "get_size", current_notifier())
        if operation.state == PENDING:
            self.start(operation)
        return operation

    def close(self):
        """Waits for all earlier operations, flushes and releases the lock. The await returns None.

        In the modes exclusive and shared it commits instead of the flush; see SyncAccessHandle.close. A second call
        returns the operation of the first. OSError if that fails; the lock is released all the same. If no host
        thread can be started, this thread closes the file and blocks on the disk. If requests are
        in flight then, it closes the file without a flush: OSError EAGAIN.
        """
        return self.finish(True)

    def abort(self):
        """Closes without a flush or a commit.

        Operations that have not run, or that can be cancelled, raise AbortError.
        """
        cdef Operation operation
        cdef aiofs_file *file = self.file
        if current_notifier() is None:
            raise no_loop_error("an AccessHandle")
        self.aborted = True
        if file != NULL and (self.closing is None or not self.is_closing()):
            aiofs_file_retain(file)
            with nogil:
                aiofs_file_cancel_soon(file)  # the close waits for what cannot be cancelled
                aiofs_file_release(file)
        operation = self.finish(False)
        if not operation.queued:
            self.start_deferred()
        return operation

    @property
    def contended(self):
        """Whether somebody waits for the lock of this handle; False once it is closed."""
        if self.file == NULL or self.closed or self.made != generation:
            return False
        return bool(aiofs_lock_ref_contended(aiofs_file_lock_ref(self.file)))

    def contention(self):
        """The await returns None when somebody waits for the lock of this handle; at once if somebody does.

        It takes no part in the order of the other operations. InvalidStateError if the handle is closed, or
        is closed before somebody waits.
        """
        return start_offload(0, 0, _await_contention, (self,))

    @property
    def readable(self):
        """The bytes as a stream to read, with a cursor of its own; always the same one. See ReadableByteStream."""
        stream = None if self.readable_ref is None else self.readable_ref()
        if stream is None:
            self.reading = _Cursor.__new__(_Cursor) if self.reading is None else self.reading
            stream = stream_of(ReadableByteStream, self, self.reading)
            self.readable_ref = weakref(stream)
        return stream

    @property
    def writable(self):
        """The bytes as a stream to write, with a cursor of its own; always the same one. See WritableByteStream."""
        stream = None if self.writable_ref is None else self.writable_ref()
        if stream is None:
            self.writing = _Cursor.__new__(_Cursor) if self.writing is None else self.writing
            stream = stream_of(WritableByteStream, self, self.writing)
            self.writable_ref = weakref(stream)
        return stream

    def fileno(self):
        """The descriptor, which the kernel knows, until close; then InvalidStateError (EBADF)."""
        if self.file == NULL or self.closed or self.made != generation:
            raise closed_error(self.path, "fileno", self.made)
        return aiofs_file_fd(self.file)

    # ---- starting ----

    cdef Operation prepare(self, int kind, int gives, str doing, LoopNotifier notifier):
        """A pending operation; or a failed one, if the handle is closed or does not allow `kind`."""
        cdef Operation operation = pending_operation(kind, gives)
        if notifier is None:
            raise no_loop_error("an AccessHandle")
        operation.reporter = notifier.reporter()
        if self.file == NULL or self.closed or self.made != generation:
            operation.fail(ended_error(self, doing))
        elif not self.changes and (kind == AIOFS_WRITE or kind == AIOFS_TRUNCATE or kind == AIOFS_FLUSH):
            operation.fail(refused_error(self.path, doing))
        return operation

    cdef Operation transfer(self, int kind, object buffer, object at, _Cursor cursor):
        cdef int64_t offset = -1 if at is None else position(at, "at")
        cdef LoopNotifier notifier = current_notifier()
        cdef Operation operation
        cdef Py_buffer view
        take_buffer(buffer, &view, PyBUF_WRITABLE if kind == AIOFS_READ else PyBUF_SIMPLE)
        try:
            operation = self.prepare(kind, GIVES_COUNT, "write" if kind == AIOFS_WRITE else "read", notifier)
            cursor.check(operation, self.path)
        except BaseException:
            PyBuffer_Release(&view)
            raise
        if operation.state != PENDING:
            PyBuffer_Release(&view)
            return operation
        operation.cursor = cursor
        self.move(operation, &view, offset, notifier)
        return operation

    cdef int move(self, Operation operation, Py_buffer *view, int64_t offset, LoopNotifier notifier) except -1:
        """Transfers the bytes inside the call or starts the operation; takes over the view."""
        cdef int64_t moved = AIOFS_NOT_INLINE
        cdef _Cursor cursor = operation.cursor
        cdef bint pinned = False
        try:
            if (self.in_flight == 0 or (operation.kind == AIOFS_READ and self.changing == 0)) and not self.deferred:
                if offset >= 0 or cursor.owner is None:
                    operation.start = cursor.offset if offset < 0 else offset
                    moved = self.transfer_inline(operation, view, notifier)
            operation.due = view.len if self.strict else 0
            if 0 <= moved < operation.due:
                moved = AIOFS_NOT_INLINE  # again, for the error
            if moved == AIOFS_NOT_INLINE:
                operation.submission = new_submission()
                pin_view(operation.submission, view)
                pinned = True
        finally:
            if not pinned:
                PyBuffer_Release(view)
        if moved != AIOFS_NOT_INLINE:
            cursor.set(operation.start + moved)
            operation.succeed(moved)
            return 0
        operation.submission.request.offset = offset
        return self.start(operation)

    cdef Operation read_bytes(self, int64_t wanted, int gives, _Cursor cursor):
        """Reads at most `wanted` bytes (-1: all) at a stream's cursor, into new bytes."""
        cdef LoopNotifier notifier = current_notifier()
        cdef Operation operation = self.prepare(AIOFS_READ, gives, "read", notifier)
        cdef int64_t size = wanted
        cdef Py_buffer view
        cursor.check(operation, self.path)
        if operation.state != PENDING:
            return operation
        operation.cursor = cursor
        if wanted < 0 or wanted > READ_AT_ONCE:
            if self.deferred or self.changing or cursor.owner is not None or aiofs_file_blocks(self.file):
                operation.wanted = wanted
                operation.submission = new_submission()
                operation.submission.request.offset = -1
                self.start(operation)
                return operation
            size = aiofs_file_size(self.file)
            if size < 0:
                operation.fail(make_error(-size, self.path, "read"))
                return operation
            size = bytes_left(cursor, wanted, size)
        take_bytes(operation, size, &view)
        self.move(operation, &view, -1, notifier)
        return operation

    cdef int take_memory(self, Operation operation) except? -1:
        """Gives memory to a read whose size depends on the file's. 0, or a negated errno."""
        cdef int64_t size = aiofs_file_size(self.file)
        cdef Py_buffer view
        if size < 0:
            return <int>size
        try:
            take_bytes(operation, bytes_left(operation.cursor, operation.wanted, size), &view)
        except MemoryError:
            return -ENOMEM
        pin_view(operation.submission, &view)
        return 0

    cdef Operation seek(self, int64_t offset, _Cursor cursor):
        cdef Operation operation = self.prepare(SEEK, GIVES_NONE, "seek", current_notifier())
        cursor.check(operation, self.path)
        if operation.state == PENDING:
            operation.cursor = cursor
            operation.start = offset
            self.start(operation)
        return operation

    cdef Operation end_stream(self, _Cursor cursor):
        cdef Operation operation = self.prepare(END_STREAM, GIVES_NONE, "close", current_notifier())
        cursor.closed = True
        if operation.state == PENDING:
            self.start(operation)
        else:  # the handle is closed
            operation.value = None
            operation.succeed(0)
        return operation

    cdef int64_t transfer_inline(self, Operation operation, Py_buffer *view, LoopNotifier notifier) except? -1:
        cdef aiofs_file *file = self.file
        cdef bint mapped = is_mapped(view)
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
            moved = aiofs_read_inline(file, -1, &bytes, 1, bytes.iov_len, operation.start, mapped)
        else:
            aiofs_file_retain(file)  # another thread may close the handle
            with nogil:
                moved = aiofs_write_inline(file, -1, &bytes, 1, bytes.iov_len, operation.start, mapped)
                aiofs_file_release(file)
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
            operation.cursor = self.cursor
            self.start(operation)
        return operation

    cdef Operation finish(self, bint commit):
        cdef LoopNotifier notifier = current_notifier()
        cdef Operation operation
        cdef bint at_once
        cdef int64_t status = 0
        if self.closing is None or self.made != generation:
            operation = self.prepare(CLOSE, GIVES_NONE, "close", notifier)
            operation.value = None
            if self.file == NULL or self.made != generation:
                self.close_without_waiting()
                operation.succeed(0)
                return operation
            at_once = False
            if self.in_flight == 0 and not self.deferred:
                if not notifier.has_turn():
                    at_once = aiofs_file_finishes_at_once(self.file)
                elif self.end_at_once(&status):
                    self.closing = operation
                    if status < 0:
                        operation.fail(make_error(-status, self.path, "close"))
                    else:
                        operation.succeed(0)
                    return operation
            operation.state = PENDING
            operation.submission = new_submission()
            operation.submission.request.offset = commit
            self.closed = True
            self.closing = operation
            try:
                if at_once:
                    queue_call(operation, None, notifier)
                    self.defer(operation)
                else:
                    self.start(operation)
            except MemoryError:
                if operation.handle != NULL and aiofs_request_state(&operation.submission.request) == AIOFS_NEW:
                    self.closed = False  # nothing was submitted: the program can call close again
                    self.closing = None
                raise
        return self.closing

    cdef bint end_at_once(self, int64_t *status) noexcept:
        """Closes the file inside the call, if that cannot block. `status`: 0, or a negated errno."""
        cdef aiofs_file *file = self.file
        cdef bint ended
        self.file = NULL  # first: another thread may use the handle
        with nogil:
            ended = aiofs_file_finish_at_once(file, status)
            if ended:
                aiofs_file_release(file)
        if not ended:
            self.file = file
        self.closed = self.closed or ended
        return ended

    cdef int close_in_turn(self, Operation operation) except -1:
        """Makes the close that waited for its turn, unless it was started meanwhile."""
        cdef int64_t status = 0
        if not self.deferred or self.deferred[0] is not operation or not self.end_at_once(&status):
            return self.start_deferred()
        self.deferred.popleft()
        return self.end_unsubmitted(operation, status)

    cdef bint is_closing(self) noexcept:
        """The close is no longer deferred."""
        cdef aiofs_submission *submission = self.closing.submission
        return submission == NULL or aiofs_request_state(&submission.request) != AIOFS_NEW

    cdef void close_without_waiting(self) noexcept:
        """Closes a handle that the finalizer has closed, or that the parent process opened.

        In the child of a fork no operation of the parent completes, so this does not wait.
        """
        self.deferred = self.closing = None
        for cursor in (self.cursor, self.reading, self.writing):
            if cursor is not None:
                (<_Cursor>cursor).owner = None
        self.in_flight = self.changing = 0
        self.sizing = False
        self.release_file()

    # ---- order ----

    cdef bint ready(self, Operation operation) noexcept:
        """Can the engine order this operation, or does it depend on a cursor or on completions?"""
        if operation.kind == GET_SIZE or operation.kind in (CLOSE, END_STREAM, FILL):
            return self.in_flight == 0
        if self.sizing:
            return False
        if operation.kind == AIOFS_FLUSH or operation.kind == SEEK:
            return True
        if operation.wanted != 0 and (self.changing != 0 or (self.in_flight != 0 and aiofs_file_blocks(self.file))):
            return False
        return operation.cursor.owner is None or (
            operation.kind != AIOFS_TRUNCATE and operation.submission.request.offset >= 0)

    cdef int start(self, Operation operation) except -1:
        if self.deferred or not self.ready(operation):
            if operation.submission == NULL:
                operation.submission = new_submission()  # an await needs one
            return self.defer(operation)
        self.attach(operation)
        return self.submit(operation)

    cdef void attach(self, Operation operation) noexcept:
        operation.handle = <PyObject *>self
        self.attached += 1

    cdef int defer(self, Operation operation) except -1:
        self.attach(operation)
        if self.deferred is None:
            self.deferred = deque()
        self.deferred.append(operation)
        return 0

    cdef int submit(self, Operation operation) except -1:
        """Submits an operation to the engine. The size of a file whose volume does not block is found at once."""
        cdef aiofs_request *request
        cdef bint blocks
        cdef int error
        if operation.kind == SEEK or operation.kind == END_STREAM:
            if operation.kind == SEEK:
                operation.cursor.set(operation.start)
            return self.end_unsubmitted(operation, 0)
        if operation.kind == GET_SIZE or operation.wanted != 0:
            blocks = aiofs_file_blocks(self.file)
            if operation.kind == GET_SIZE and not blocks:
                return self.end_unsubmitted(operation, aiofs_file_size(self.file))
            if operation.submission == NULL:
                operation.submission = new_submission()
            if blocks:
                self.sizing = True
            else:
                error = self.take_memory(operation)
                if error < 0:
                    return self.end_unsubmitted(operation, error)
        request = &operation.submission.request
        if operation.kind == FILL:
            self.sizing = True
        request.op = AIOFS_CALL if operation.kind == CLOSE or self.sizing else operation.kind
        request.ordered = True
        if request.op == AIOFS_CALL:
            request.call = (call_end_file if operation.kind == CLOSE else
                            call_file_size if operation.kind == GET_SIZE else
                            call_fill if operation.kind == FILL else call_read_bytes)
            request.single.iov_base = self.file
        if operation.cursor is not None:
            if request.offset < 0:
                request.offset = operation.cursor.offset
            operation.start = request.offset
            if request.offset > FAR:
                self.limit(operation)
            operation.cursor.claim(operation)
        self.in_flight += 1
        self.changing += operation.kind in (AIOFS_WRITE, AIOFS_TRUNCATE, FILL)
        aiofs_request_retain(request)  # it may be delivered before submit_request returns
        try:
            error = submit_request(operation.submission, self.file, operation, current_notifier())
            if error < 0:
                self.end_refused(operation, error)
        finally:
            aiofs_request_release(request)
        return 0

    cdef void limit(self, Operation operation) noexcept:
        """Ends a read at the last byte that a file can have. Notes that a write reaches beyond it."""
        cdef aiofs_request *request = &operation.submission.request
        cdef size_t room = <size_t>(INT64_MAX - request.offset)
        cdef iovec *piece
        cdef int i
        if operation.kind != AIOFS_READ and operation.kind != AIOFS_WRITE:
            return
        for i in range(request.iovcnt):
            piece = <iovec *>&request.iov[i]
            if piece.iov_len > room:
                operation.beyond = operation.kind == AIOFS_WRITE
                if operation.beyond:
                    return
                piece.iov_len = room
            room -= piece.iov_len

    cdef int end_refused(self, Operation operation, int error) except -1:
        """Completes an operation that the engine did not accept. The caller holds a reference to its submission."""
        cdef aiofs_submission *submission = operation.submission
        cdef bint commit = submission.request.offset != 0
        unpin(submission)
        if operation.kind == CLOSE:
            with nogil:
                error = <int>end_file_on_this_thread(self.file, commit)
        try:
            operation.ended(error)
        finally:
            end_waiters(submission)
        return 0

    cdef int operation_ended(self, Operation operation, int64_t result) except -1:
        """Called at delivery: the operation's request is complete."""
        cdef aiofs_file *file
        self.in_flight -= 1
        self.changing -= operation.kind in (AIOFS_WRITE, AIOFS_TRUNCATE, FILL)
        if 0 <= result < operation.due:
            result = -ENOSPC
        if result == -EINVAL and operation.beyond:
            result = -EFBIG
        if operation.turn != 0:
            operation.cursor.settle(operation, result)
        if operation.kind == GET_SIZE or operation.kind == FILL or operation.wanted != 0:
            self.sizing = False
        if operation.kind == CLOSE and self.file != NULL:
            file = self.file
            self.file = NULL
            with nogil:
                aiofs_file_release(file)
        try:
            self.conclude(operation, result)
        finally:
            self.start_deferred()
            if self.failure is not None and self.in_flight == 0:
                self.release_file()
        return 0

    cdef void detach(self, Operation operation) noexcept:
        operation.handle = NULL
        self.attached -= 1
        if self.attached == 0:
            kept_alive.discard(self)

    cdef int conclude(self, Operation operation, int64_t result) except -1:
        self.detach(operation)
        if self.failure is not None:
            operation.fail(ended_error(self, operation_doing(operation.kind)))
        elif result >= 0:
            operation.succeed(result)
        elif result == -ECANCELED and not self.aborted:
            operation.fail(cancelled_error())
        elif result == -ENOMEM and operation.wanted != 0:
            operation.fail(MemoryError(f"the bytes of {self.path!r} do not fit in memory"))
        else:
            if operation.kind != FILL or operation.value is None:
                operation.value = make_error(-result, self.path, operation_doing(operation.kind))
            operation.fail(operation.value)
            if self.strict and not self.aborted:
                end_stream(self, operation.value)
        return 0

    cdef int start_deferred(self) except -1:
        """Starts the deferred operations, in order, up to the first that is not ready."""
        cdef Operation operation
        while self.deferred:
            operation = self.deferred[0]
            if operation.dropped or (self.aborted and operation.kind != CLOSE) or self.failure is not None:
                self.deferred.popleft()
                self.end_unsubmitted(operation, -ECANCELED)
            elif self.ready(operation):
                self.deferred.popleft()
                self.submit(operation)
            else:
                break
        return 0

    cdef int end_unsubmitted(self, Operation operation, int64_t result) except -1:
        """Completes an operation that was never submitted to the engine."""
        cdef aiofs_submission *submission = operation.submission
        operation.submission = NULL
        self.conclude(operation, result)
        if submission != NULL:
            withdraw(submission)
        return 0


cdef str operation_doing(int kind):
    return {AIOFS_READ: "read", AIOFS_WRITE: "write", AIOFS_TRUNCATE: "truncate", AIOFS_FLUSH: "flush",
            GET_SIZE: "get_size", CLOSE: "close", SEEK: "seek", END_STREAM: "close", FILL: "write", DONE: ""}[kind]


cdef AccessHandle access_handle_of(aiofs_file *file, str mode, str path):
    """A handle for an open file. It takes over the caller's reference, and closes the file."""
    cdef AccessHandle handle
    try:
        handle = AccessHandle.__new__(AccessHandle)
    except MemoryError:
        drop_file(file)
        raise
    handle.mode = MODE_IN_PLACE if mode == "readwrite" else mode
    handle.changes = mode != MODE_READ_ONLY
    handle.path = path
    handle.file = file
    handle.made = generation
    return handle
