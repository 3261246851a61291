# aio_read, aio_write, aio_fsync: request.pxi.

cdef class LoopNotifier

cdef struct plan:
    int operation
    int fd
    aiofs_file *file  # a reference, or NULL
    int64_t offset
    size_t nbytes
    int reqprio
    int notify
    Py_buffer view
    bint has_view

cdef int find_target(plan *what, object fildes) except -1
cdef int prepare_plan(plan *what, aiocb cb, int operation) except -1
cdef void release_plan(plan *what) noexcept
cdef int small_int(object value, str name) except? -1
cdef int check_notify(sigevent event, int notify) except -1
cdef int write_notice(aiofs_submission *submission, sigevent event) except -1
cdef aiofs_ask ask_of(plan *what) noexcept
cdef aiofs_submission *begin(plan *what, aiofs_ask *ask, int64_t error, aiocb cb, LoopNotifier notifier,
                             aiofs_list_call *call) except? NULL
cdef int transfer(aiocb cb, int operation) except -1
