# Cursors, and the streams of an asynchronous access handle: stream.pxi.

@cython.final
cdef class _Cursor:
    cdef int64_t offset      # in bytes
    cdef Operation owner     # the last started operation that moves the cursor, while it is pending
    cdef int64_t turns       # operations that have been started and move the cursor
    cdef int64_t set_turn    # `turn` of the operation that set the offset
    cdef bint closed         # its stream is closed
    cdef int check(self, Operation operation, str path) except -1
    cdef void set(self, int64_t offset) noexcept
    cdef void claim(self, Operation operation) noexcept
    cdef void settle(self, Operation operation, int64_t result) noexcept

cdef class ByteStream:
    cdef AccessHandle handle
    cdef _Cursor cursor
    cdef object __weakref__

cdef int64_t READ_AT_ONCE
cdef int64_t bytes_left(_Cursor cursor, int64_t wanted, int64_t size) noexcept
cdef int64_t call_read_bytes(aiofs_request *request) noexcept nogil
cdef ByteStream stream_of(type kind, AccessHandle handle, _Cursor cursor)
cdef int take_bytes(Operation operation, int64_t size, Py_buffer *view) except -1
