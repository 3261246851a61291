# The streams of an asynchronous access handle, `readable` and `writable`, and cursors.
#
# A stream has a cursor and no bytes: its operations are operations of its handle, which keeps the order of all of them.
#
# Ownership. A handle owns its cursors, so a stream that is dropped and asked for again goes on where it was. A stream
# owns its handle. A cursor owns the last operation that moves it, while that is pending.
#
# Locking. The GIL guards all of this.


@cython.final
cdef class _Cursor:
    """A position in a file, which operations move in the order of their calls."""

    cdef int check(self, Operation operation, str path) except -1:
        """Makes a pending operation a failed one if the stream of this cursor is closed."""
        if self.closed and operation.state == PENDING:
            operation.fail(make_error(EBADF, path, operation_doing(operation.kind), "the stream is closed"))
        return 0

    cdef void set(self, int64_t offset) noexcept:
        """Sets the offset: an operation is complete, and no earlier one counts any more."""
        self.offset = offset
        self.turns += 1
        self.set_turn = self.turns
        self.owner = None

    cdef void claim(self, Operation operation) noexcept:
        """Called at the submission of an operation that will move the cursor."""
        self.turns += 1
        operation.turn = self.turns
        operation.before = self.owner
        self.owner = operation

    cdef void settle(self, Operation operation, int64_t result) noexcept:
        """Sets the offset after a success. After a failure it depends on the operations before this one."""
        cdef Operation before = None
        if result >= 0:
            if operation.turn > self.set_turn:
                self.set_turn = operation.turn
                self.offset = (min(self.offset, operation.start) if operation.kind == AIOFS_TRUNCATE
                               else operation.start + result)
        else:
            before = operation.before
            while before is not None and before.state != PENDING:
                before = before.before
        operation.before = before
        if self.owner is operation:
            self.owner = before


# ---- reads that give bytes ----------------------------------------------------------------------------

cdef int64_t READ_AT_ONCE = 1 << 20  # a larger read asks for the file's size before it takes memory


cdef int take_bytes(Operation operation, int64_t size, Py_buffer *view) except -1:
    """Makes new bytes the operation's value, and sets the view through which they are filled. MemoryError."""
    if size > 1 << 60:
        raise MemoryError
    data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
    operation.value = data
    return PyBuffer_FillInfo(view, data, PyBytes_AS_STRING(data), <Py_ssize_t>size, 0, PyBUF_WRITABLE)


cdef int64_t bytes_left(_Cursor cursor, int64_t wanted, int64_t size) noexcept:
    """How many bytes a read of `wanted` bytes (-1: all) at the cursor gives, in a file of this size."""
    cdef int64_t left = max(0, size - cursor.offset)
    return left if wanted < 0 else min(left, wanted)


cdef int64_t call_read_bytes(aiofs_request *request) noexcept nogil:
    """Runs on a host thread: finds the size of a file whose volume may block, and reads."""
    cdef aiofs_file *file = <aiofs_file *>request.single.iov_base
    cdef int64_t size = aiofs_file_size(file), moved = 0
    cdef Py_buffer view
    cdef iovec bytes
    if size < 0:
        return size
    with gil:
        try:
            owner = <Operation>(<aiofs_submission *>request).owner
            take_bytes(owner, bytes_left(owner.cursor, owner.wanted, size), &view)
        except MemoryError:
            moved = -ENOMEM
    if moved < 0:
        return moved
    bytes.iov_base = view.buf
    bytes.iov_len = <size_t>view.len
    moved = aiofs_file_read(file, &bytes, 1, request.offset, True)
    with gil:
        PyBuffer_Release(&view)
    return moved


# ---- streams -----------------------------------------------------------------------------------------

cdef int64_t checked_position(object value) except -1:
    return position(value, "position")



cdef class ByteStream:
    """ByteStream()
--

    What both streams of an AccessHandle have in common.
    """

    def __init__(self):
        raise TypeError(f"a {type(self).__name__} comes from an AccessHandle")

    def __repr__(self):
        cdef bint closed = self.cursor.closed or self.handle.closed or self.handle.file == NULL
        return f"<{type(self).__name__} of {self.handle.path!r}, {'closed' if closed else 'open'}>"

    def __reduce__(self):
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled: it is of an open file")

    def seek(self, position):
        """Moves the cursor to byte `position`, for the operations that are called later. The await returns None.

        ValueError for a negative position. One past the end of the file is no error.
        """
        return self.handle.seek(checked_position(position), self.cursor)

    def close(self):
        """Closes the stream, not the handle, after all earlier operations. The await returns None.

        Later calls of its methods raise InvalidStateError (EBADF). Succeeds also if it is closed already, or if the
        handle is.
        """
        return self.handle.end_stream(self.cursor)


@cython.final
cdef class ReadableByteStream(ByteStream):
    """ReadableByteStream()
--

    The bytes of an AccessHandle as a stream to read, with a cursor of its own that begins at 0.

    `AccessHandle.readable` gives it. The bytes are the handle's, also those that are not flushed. Its methods are
    operations of the handle: they start at the call, and take effect in the order of the calls, together with those of
    the handle and of its other stream. truncate leaves the cursor where it is. `async for` gives pieces as `iter()`
    does.

    From the await: InvalidStateError (EBADF) after the close of the stream or of the handle, and what the handle's
    methods raise.

    Source: AccessHandle proposal, readable.
    """

    def read(self, n=-1):
        """Reads at most `n` bytes at the cursor; negative or None: all up to the end. The await returns bytes.

        Fewer than `n` bytes only at the end of the file, and b"" at or past it.
        """
        return self.handle.read_bytes(bytes_wanted(n), GIVES_BYTES, self.cursor)

    def readinto(self, buffer, *, at=None):
        """Reads into `buffer` from byte `at` (None: at the cursor). The await returns the count of bytes.

        As AccessHandle.read, but moves the stream's cursor.
        """
        return self.handle.transfer(AIOFS_READ, buffer, at, self.cursor)

    def iter(self, chunk_size=65536):
        """An asynchronous iterator of the bytes from the cursor to the end, in pieces of `chunk_size` bytes.

        Only the last piece may be shorter. A piece is read when it is asked for; one is in memory at a time.
        ValueError if `chunk_size` is not positive.
        """
        cdef _Pieces pieces
        cdef int64_t size = position(chunk_size, "chunk_size")
        if size == 0:
            raise ValueError("chunk_size must be positive, not 0")
        pieces = _Pieces.__new__(_Pieces)
        pieces.stream = self
        pieces.size = size
        return pieces

    def __aiter__(self):
        return self.iter()


@cython.final
cdef class _Pieces:
    """The asynchronous iterator of ReadableByteStream.iter."""
    cdef ReadableByteStream stream
    cdef int64_t size

    def __aiter__(self):
        return self

    def __anext__(self):
        return self.stream.handle.read_bytes(self.size, GIVES_PIECE, self.stream.cursor)


@cython.final
cdef class WritableByteStream(ByteStream):
    """WritableByteStream()
--

    The bytes of an AccessHandle as a stream to write, with a cursor of its own that begins at 0.

    `AccessHandle.writable` gives it. The bytes are the handle's: what is written is durable after the handle's flush or
    close. Its methods are operations of the handle, as those of ReadableByteStream.

    From the await: InvalidStateError (EBADF) after the close of the stream or of the handle, and what the handle's
    methods raise.

    Source: AccessHandle proposal, writable.
    """

    def write(self, data, *, at=None):
        """Writes `data` at byte `at` (None: at the cursor). The await returns the count of bytes.

        As AccessHandle.write, but moves the stream's cursor.
        """
        return self.handle.transfer(AIOFS_WRITE, data, at, self.cursor)


cdef int64_t bytes_wanted(object n) except -2:
    """Checks the argument of `read`: the most bytes, or -1 for all. TypeError, ValueError."""
    if n is None or (isinstance(n, int) and n < 0):
        return -1
    return position(n, "n")


cdef ByteStream stream_of(type kind, AccessHandle handle, _Cursor cursor):
    cdef ByteStream stream = kind.__new__(kind)
    stream.handle = handle
    stream.cursor = cursor
    return stream
