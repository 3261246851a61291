# Submissions: submission.pxi, and core/submission.h.

cdef class LoopNotifier

cdef extern from "core/submission.h" nogil:
    ctypedef struct aiofs_submission:
        aiofs_request request
        aiofs_submission *next
        aiofs_aio aio
        aiofs_callback *callback
        PyObject *owner
        PyObject *waiters
        Py_buffer view
        Py_buffer *views
        iovec *vector
        int pinned
        bint delivered
        bint unposted
        bint no_wakeup

    aiofs_submission *submission_new()

cdef aiofs_submission *new_submission() except NULL
cdef void pin_view(aiofs_submission *submission, Py_buffer *view) noexcept
cdef int pin_all(aiofs_submission *submission, object buffers, bint writable) except -1
cdef void unpin(aiofs_submission *submission) noexcept
cdef int set_callback(aiofs_submission *submission, object function, object value, object context) except -1
cdef void drop_notice(aiofs_submission *submission) noexcept
cdef void discard(aiofs_submission *submission) noexcept
cdef void withdraw(aiofs_submission *submission) noexcept
cdef void before_submit(aiofs_submission *submission, object owner, LoopNotifier notifier) noexcept
cdef void after_refusal(aiofs_submission *submission) noexcept
cdef int submit_request(aiofs_submission *submission, aiofs_file *file, object owner, LoopNotifier notifier) noexcept
cdef object take(PyObject **reference)
cdef int end_submission(aiofs_submission *submission) except -1
