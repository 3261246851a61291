# Writable streams: what handles/writable.py makes its WritableFileStream of.
#
# A Writable is an AccessHandle of a swap file that the program does not see. The handle is `strict`: the first failure of
# an operation ends the stream. Then operations that have not started fail, the swap file is discarded, and the lock is
# released when the last request in flight is terminal. A write that moved fewer bytes than it should has failed.
#
# Ownership and locking are those of access_handle.pxi.


cdef int64_t call_fill(aiofs_request *request) noexcept nogil:
    """Runs on a host thread: writes the pieces that the operation's function gives."""
    with gil:
        operation = <Operation>(<aiofs_submission *>request).owner
        return fill(<Operation>operation, request.offset)


cdef int64_t fill(Operation operation, int64_t offset) noexcept:
    """Returns the count of bytes or a negated errno. An exception of the function becomes the operation's value."""
    cdef aiofs_file *file = (<AccessHandle>operation.handle).file
    cdef int64_t moved = 0, put
    cdef Py_buffer view
    cdef iovec bytes
    cdef bint mapped
    try:
        for piece in operation.function():
            take_buffer(piece, &view, PyBUF_SIMPLE)
            bytes.iov_base = view.buf
            bytes.iov_len = <size_t>view.len
            mapped = is_mapped(&view)
            with nogil:
                put = aiofs_file_write(file, &bytes, 1, offset + moved, mapped)
            if 0 <= put < view.len:
                put = -ENOSPC
            PyBuffer_Release(&view)
            if put < 0:
                return put
            moved += put
    except BaseException as error:
        operation.value = error
        return -EIO
    return moved


cdef object ended_error(AccessHandle handle, str doing):
    """The error of an operation on a closed handle."""
    if not handle.strict or handle.made != generation:
        return closed_error(handle.path, doing, handle.made)
    reason = "the stream is closed" if handle.failure is None else "an earlier operation of the stream failed"
    error = make_error(EBADF, handle.path, doing, reason)
    error.__cause__ = handle.failure
    return error


cdef void end_stream(AccessHandle handle, object error) noexcept:
    """An operation of the stream has failed."""
    cdef aiofs_file *file = handle.file
    handle.failure = error
    handle.closed = True
    if file != NULL:
        aiofs_file_retain(file)
        with nogil:
            aiofs_file_unwanted(file)
            aiofs_file_cancel_soon(file)  # the loop must not wait here; the release of the lock does
            aiofs_file_release(file)


@cython.final
cdef class Writable:
    """The operations of a writable stream on its swap file."""

    def __init__(self):
        raise TypeError("a Writable is made by DirectoryOps.writable")

    def write(self, data, at):
        """Writes all of `data`, a buffer, at byte `at` (None: at the cursor). The await returns None."""
        cdef Operation operation
        if at is not None:
            position(at, "position")  # the argument's name, for the error
        operation = self.handle.transfer(AIOFS_WRITE, data, at, self.handle.cursor)
        operation.gives = GIVES_NONE
        return operation

    def fill(self, pieces, at):
        """Writes the buffers of the iterable that `pieces()` returns, which a host thread calls and iterates."""
        cdef int64_t offset = -1 if at is None else position(at, "position")
        cdef Operation operation = self.handle.prepare(FILL, GIVES_NONE, "write", current_notifier())
        if operation.state == PENDING:
            operation.function = pieces
            operation.submission = new_submission()
            operation.submission.request.offset = offset
            operation.cursor = self.handle.cursor
            self.handle.start(operation)
        return operation

    def seek(self, offset):
        """Moves the cursor to byte `offset`, in the order of the operations."""
        return self.handle.seek(position(offset, "position"), self.handle.cursor)

    def truncate(self, size):
        return self.handle.truncate(size)

    def close(self):
        """Commits. InvalidStateError, from the await, if the stream is closed or has failed."""
        if self.handle.closed:
            return self.handle.prepare(CLOSE, GIVES_NONE, "close", current_notifier())
        return self.handle.close()

    def abort(self):
        """Discards. InvalidStateError, from the await, if the stream is closed or has failed."""
        if self.handle.closed:
            return self.handle.prepare(CLOSE, GIVES_NONE, "abort", current_notifier())
        return self.handle.abort()

    def leave(self, bint commit):
        """Ends a block: waits for a close or abort that was called in it, else commits or aborts."""
        cdef Operation operation
        if self.handle.closing is not None:
            return self.handle.closing
        if commit or not self.handle.closed:
            return self.close() if commit else self.abort()
        operation = pending_operation(CLOSE, GIVES_NONE)
        operation.succeed(0)
        return operation


cdef Writable writable_of(aiofs_file *file, str path):
    """A Writable for an open swap file. It takes over the caller's reference, and closes the file."""
    cdef AccessHandle handle = access_handle_of(file, "in-place", path)
    cdef Writable writable = Writable.__new__(Writable)
    handle.strict = True
    writable.handle = handle
    return writable
