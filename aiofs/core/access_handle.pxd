# The asynchronous access handle: access_handle.pxi.

cdef class Operation
cdef class LoopNotifier

cdef enum:
    GET_SIZE = 100, CLOSE, SEEK, END_STREAM, FILL
    DONE  # of an operation that was done inside the call

cdef void drop_file(aiofs_file *file) noexcept nogil

@cython.final
cdef class AccessHandle:
    cdef aiofs_file *file        # a reference; NULL when closed
    cdef _Cursor cursor          # of its own methods
    cdef _Cursor reading, writing  # of its streams; None until they are used
    cdef object readable_ref, writable_ref  # weak references to the streams: they own the handle
    cdef Operation closing
    cdef object deferred         # deque of Operations that wait for earlier operations
    cdef int in_flight, changing
    cdef int attached            # Operations whose `handle` points to this object
    cdef bint sizing             # an operation is in flight that none may overtake: a FILL, or one that asks
                                 # a file that may block for its size
    cdef bint strict             # a writable stream's: the first failure ends it
    cdef object failure          # of a strict handle: that failure
    cdef bint changes            # its mode allows changes
    cdef bint closed, aborted
    cdef bint unwanted           # no caller got the handle: dropping it gives no warning
    cdef int made                # `generation` of the process that opened it
    cdef readonly str mode
    cdef str path
    cdef object __weakref__
    cdef void release_file(self) noexcept
    cdef Operation prepare(self, int kind, int gives, str doing, LoopNotifier notifier)
    cdef Operation transfer(self, int kind, object buffer, object at, _Cursor cursor)
    cdef Operation read_bytes(self, int64_t wanted, int gives, _Cursor cursor)
    cdef int move(self, Operation operation, Py_buffer *view, int64_t offset, LoopNotifier notifier) except -1
    cdef int64_t transfer_inline(self, Operation operation, Py_buffer *view, LoopNotifier notifier) except? -1
    cdef Operation seek(self, int64_t offset, _Cursor cursor)
    cdef Operation end_stream(self, _Cursor cursor)
    cdef Operation vectored(self, int kind, object buffers, object at)
    cdef Operation finish(self, bint commit)
    cdef bint end_at_once(self, int64_t *status) noexcept
    cdef int close_in_turn(self, Operation operation) except -1
    cdef bint is_closing(self) noexcept
    cdef void close_without_waiting(self) noexcept
    cdef void detach(self, Operation operation) noexcept
    cdef bint ready(self, Operation operation) noexcept
    cdef int start(self, Operation operation) except -1
    cdef void attach(self, Operation operation) noexcept
    cdef int defer(self, Operation operation) except -1
    cdef int submit(self, Operation operation) except -1
    cdef void limit(self, Operation operation) noexcept
    cdef int operation_ended(self, Operation operation, int64_t result) except -1
    cdef int take_memory(self, Operation operation) except? -1
    cdef void detach(self, Operation operation) noexcept
    cdef int conclude(self, Operation operation, int64_t result) except -1
    cdef int start_deferred(self) except -1
    cdef int end_unsubmitted(self, Operation operation, int64_t result) except -1
    cdef int end_refused(self, Operation operation, int error) except -1

cdef str operation_doing(int kind)
cdef AccessHandle access_handle_of(aiofs_file *file, str mode, str path)
