# Operations of asynchronous handles: operation.pxi.

cdef class AccessHandle
cdef class _Cursor

cdef enum:
    PENDING, SUCCEEDED, FAILED

cdef enum:
    GIVES_COUNT, GIVES_NONE, GIVES_OBJECT
    GIVES_BYTES  # the first `count` bytes of the value
    GIVES_PIECE  # the same, of an asynchronous iterator, which ends at the first piece without bytes

@cython.final
cdef class Operation:
    cdef aiofs_submission *submission    # while pending and submitted; a reference
    cdef PyObject *handle        # the AccessHandle of a started, pending operation; borrowed, see AccessHandle.__del__
    cdef object value            # the result, or the exception
    cdef object function         # of offload: the function to call, and its arguments; of FILL: see Writable
    cdef object arguments
    cdef object reporter         # for report_failure, if nothing awaits the failure
    cdef int64_t count
    cdef int64_t due             # of a write of a strict handle: the count below which it has failed
    cdef int kind, state, gives
    cdef bint retrieved, dropped
    cdef waiting_call waits      # of offload: the acquisition of the first lock that the function takes
    cdef bint beyond             # a write past the last byte that a file can have
    cdef bint waited             # the current await has suspended once
    cdef bint queued             # it is in a queue of calls that wait for their turn: see turn.pxi
    cdef int64_t start           # first byte, of a transfer at the cursor or elsewhere
    cdef int64_t wanted          # of a read whose size depends on the file's: the most bytes, -1 for all; else 0
    cdef _Cursor cursor          # that it moves, or None
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
cdef Operation start_offload(int64_t until, uint64_t key, function, tuple arguments)
cdef Operation prepared_offload(int64_t until, uint64_t key, function, tuple arguments, LoopNotifier notifier)
cdef int submit_offload(Operation operation, LoopNotifier notifier) noexcept
