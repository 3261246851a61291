# Calls that wait for their turn: turn.pxi.

@cython.final
cdef class QueuedCall:
    cdef Operation operation
    cdef object attempt          # a function without arguments; or None
    cdef int make(self) except -1
    cdef int without_turn(self) noexcept

cdef int queue_call(Operation operation, object attempt, LoopNotifier notifier) except -1
cdef int begin_if_elsewhere(Operation operation) except -1
