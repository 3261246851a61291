# Operations of asynchronous handles: operation.pxi.

cdef class AccessHandle

cdef enum:
    PENDING, SUCCEEDED, FAILED

cdef enum:
    GIVES_COUNT, GIVES_NONE, GIVES_OBJECT

@cython.final
cdef class Operation:
    cdef aiofs_submission *submission    # while pending and submitted; a reference
    cdef PyObject *handle        # whose operation it is, from its start to its end; borrowed, see AccessHandle.__del__
    cdef object value            # the result, or the exception
    cdef object function         # of offload: what to call
    cdef object arguments
    cdef object reporter         # for a failure that nothing awaited
    cdef int64_t count
    cdef int kind, state, gives
    cdef bint retrieved, dropped
    cdef aiofs_acquisition acquisition  # of offload: the lock that the function takes first
    cdef bint waited             # the await that is on has let the loop turn
    cdef int64_t start           # where the cursor was
    cdef int64_t turn            # its place among those that move the cursor
    cdef Operation before        # the one in flight that had moved it last, or would
    cdef int ended(self, int64_t result) except -1
    cdef void discard_result(self) noexcept
    cdef void succeed(self, int64_t count) noexcept
    cdef void fail(self, object error) noexcept
    cdef object result(self)
    cdef inline bint may_return(self) except -1
    cdef object wait(self)
    cdef int cancel(self) except -1

cdef Operation pending_operation(int kind, int gives)
