# One submission: pinning its buffers, submitting it, and what happens to it at its end. See submission.h.
#
# A submission owns its views (Py_buffer), its notice's references and, from the call that submits until it is
# delivered, a reference to its owner (an aiocb or an Operation). The functions here are called with the GIL, which
# submit_request releases while the engine takes the request: the completion may be delivered before it returns.
# Delivery calls end_submission, once; a submission that the engine did not take is discarded or withdrawn instead.


cdef aiofs_submission *new_submission() except NULL:
    cdef aiofs_submission *submission = submission_new()
    if submission == NULL:
        raise MemoryError
    return submission


cdef void pin_view(aiofs_submission *submission, Py_buffer *view) noexcept:
    """Takes over a view, the whole of a request."""
    submission.view = view[0]
    submission.pinned = 1
    submission.request.single.iov_base = submission.view.buf
    submission.request.single.iov_len = <size_t>submission.view.len
    submission.request.iov = &submission.request.single
    submission.request.iovcnt = 1


cdef int pin_all(aiofs_submission *submission, object buffers, bint writable) except -1:
    """Pins several buffers, to be filled or sent one after the other."""
    cdef list items = list(buffers)
    cdef Py_ssize_t i, count = len(items)
    if count == 0:
        return 0
    submission.views = <Py_buffer *>calloc(<size_t>count, sizeof(Py_buffer))
    submission.vector = <iovec *>calloc(<size_t>count, sizeof(iovec))
    if submission.views == NULL or submission.vector == NULL:
        raise MemoryError
    for i in range(count):
        take_buffer(items[i], &submission.views[i], PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        submission.pinned = <int>i + 1
        submission.vector[i].iov_base = submission.views[i].buf
        submission.vector[i].iov_len = <size_t>submission.views[i].len
    submission.request.iov = submission.vector
    submission.request.iovcnt = <int>count
    return 0


cdef void unpin(aiofs_submission *submission) noexcept:
    """Lets the buffers go: the engine has no more use for them, or never had."""
    cdef int i, pinned = submission.pinned
    submission.pinned = 0
    if submission.views != NULL:
        for i in range(pinned):
            PyBuffer_Release(&submission.views[i])
    elif pinned:
        PyBuffer_Release(&submission.view)


cdef int set_callback(aiofs_submission *submission, object function, object value, object context) except -1:
    """A function to be called by its notice, with references of its own."""
    cdef aiofs_callback *callback = <aiofs_callback *>calloc(1, sizeof(aiofs_callback))
    if callback == NULL:
        raise MemoryError
    Py_INCREF(function)
    Py_INCREF(value)
    Py_INCREF(context)
    callback.function = <PyObject *>function
    callback.value = <PyObject *>value
    callback.context = <PyObject *>context
    submission.callback = callback
    return 0


cdef void drop_notice(aiofs_submission *submission) noexcept:
    """It will not be given, or has been."""
    cdef aiofs_callback *callback = submission.callback
    cdef aiofs_callback taken
    submission.callback = NULL
    aiofs_notice_drop(&submission.aio.ending.notice)
    if callback != NULL:
        taken = callback[0]
        free(callback)
        Py_DECREF(<object>taken.function)
        Py_DECREF(<object>taken.value)
        Py_DECREF(<object>taken.context)


cdef void discard(aiofs_submission *submission) noexcept:
    """Takes back a submission that was never submitted."""
    unpin(submission)
    drop_notice(submission)
    aiofs_request_release(&submission.request)


cdef void withdraw(aiofs_submission *submission) noexcept:
    """Takes back a submission that was never submitted but may be awaited: those awaits end."""
    end_waiters(submission)
    submission_withdraw(submission)
    discard(submission)


cdef void before_submit(aiofs_submission *submission, object owner, LoopNotifier notifier) noexcept:
    """It can be submitted; `owner` is held until it is delivered, by `notifier` if there is one."""
    Py_INCREF(owner)
    submission.owner = <PyObject *>owner
    if notifier is not None:
        notifier.address(submission)
    aiofs_request_retain(&submission.request)  # the completion queue's


cdef void after_refusal(aiofs_submission *submission) noexcept:
    """The engine did not take it."""
    submission_withdraw(submission)
    take(&submission.owner)
    aiofs_request_release(&submission.request)


cdef int submit_request(aiofs_submission *submission, aiofs_file *file, object owner, LoopNotifier notifier) noexcept:
    """Submits; `owner` is held until the submission is delivered. 0, or a negated errno: nothing was started."""
    cdef int error
    before_submit(submission, owner, notifier)
    with nogil:
        error = aiofs_submit(&submission.request, file)
    if error < 0:
        after_refusal(submission)
    return error


cdef object take(PyObject **reference):
    """The object of a reference, which is given up."""
    cdef object taken = None
    if reference[0] != NULL:
        taken = <object>reference[0]
        reference[0] = NULL
        Py_DECREF(taken)
    return taken


cdef int end_submission(aiofs_submission *submission) except -1:
    """The end as the owner sees it: the buffers are released, then the owner learns of it."""
    cdef object owner
    unpin(submission)
    owner = take(&submission.owner)
    if type(owner) is Operation:
        (<Operation>owner).ended(submission.request.result)
    return 0
