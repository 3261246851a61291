# Operations of asynchronous handles: operation.pxi.

cdef class AccessHandle

cdef enum:
    PENDING, SUCCEEDED, FAILED

cdef enum:
    GIVES_COUNT, GIVES_NONE, GIVES_OBJECT

@cython.final
cdef class Operation:
    cdef aiofs_submission *submission    # while pending and submitted; a reference
    cdef PyObject *handle        # the AccessHandle of a started, pending operation; borrowed, see AccessHandle.__del__
    cdef object value            # the result, or the exception
    cdef object function         # of offload: the function to call, and its arguments; of FILL: see Writable
    cdef object arguments
    cdef object reporter         # for report_failure, if nothing awaits the failure
    cdef int64_t count
    cdef int64_t wanted          # the count below which an operation of a strict handle has failed
    cdef int kind, state, gives
    cdef bint retrieved, dropped
    cdef aiofs_acquisition acquisition  # of offload: the acquisition of the first lock that the function takes
    cdef bint waited             # the current await has suspended once
    cdef int64_t start           # first byte, of a transfer at the cursor or elsewhere
    cdef int64_t turn            # its number among the operations that move the cursor
    cdef Operation before        # the previous operation that moves the cursor, if it was pending
    cdef int ended(self, int64_t result) except -1
    cdef void discard_result(self) noexcept
    cdef void succeed(self, int64_t count) noexcept
    cdef void fail(self, object error) noexcept
    cdef object result(self)
    cdef inline bint may_return(self) except -1
    cdef object wait(self)
    cdef int cancel(self) except -1

cdef Operation pending_operation(int kind, int gives)
