# Submissions: they pin their buffers, are submitted to the engine, and release what they own. See submission.h.
#
# Delivery calls end_submission, once. A submission that the engine did not accept is discarded or withdrawn instead.
#
# Ownership. A submission owns its views (Py_buffer), the references of its notice and, from the submission to the
# delivery, a reference to its owner (an aiocb or an Operation).
#
# Locking. All functions need the GIL. submit_request releases it while the engine accepts the request, so the
# completion may be delivered before submit_request returns.


cdef aiofs_submission *new_submission() except NULL:
    cdef aiofs_submission *submission = submission_new()
    if submission == NULL:
        raise MemoryError
    return submission


cdef void pin_view(aiofs_submission *submission, Py_buffer *view) noexcept:
    """Takes over a view, the only one of the request."""
    submission.view = view[0]
    submission.pinned = 1
    submission.request.mapped = is_mapped(view)
    submission.request.single.iov_base = submission.view.buf
    submission.request.single.iov_len = <size_t>submission.view.len
    submission.request.iov = &submission.request.single
    submission.request.iovcnt = 1


cdef int pin_all(aiofs_submission *submission, object buffers, bint writable) except -1:
    """Pins several buffers, which the request reads or writes in their order."""
    cdef list items = list(buffers)
    cdef Py_ssize_t i, count = len(items)
    if count == 0:
        return 0
    submission.views = <Py_buffer *>calloc(<size_t>count, sizeof(Py_buffer))
    submission.vector = <iovec *>calloc(<size_t>count, sizeof(iovec))
    if submission.views == NULL or submission.vector == NULL:
        raise MemoryError
    submission.request.mapped = True
    for i in range(count):
        take_buffer(items[i], &submission.views[i], PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        submission.pinned = <int>i + 1
        if not is_mapped(&submission.views[i]):
            submission.request.mapped = False
        submission.vector[i].iov_base = submission.views[i].buf
        submission.vector[i].iov_len = <size_t>submission.views[i].len
    submission.request.iov = submission.vector
    submission.request.iovcnt = <int>count
    return 0


cdef void unpin(aiofs_submission *submission) noexcept:
    """Releases the views. The request is terminal, or was not submitted."""
    cdef int i, pinned = submission.pinned
    submission.pinned = 0
    if submission.views != NULL:
        for i in range(pinned):
            PyBuffer_Release(&submission.views[i])
    elif pinned:
        PyBuffer_Release(&submission.view)


cdef int set_callback(aiofs_submission *submission, object function, object value, object context) except -1:
    """Sets the function that the notice calls. The callback owns its references."""
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
    """Frees what the notice owns. It was given, or will not be."""
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
    """Releases a submission that was never submitted."""
    unpin(submission)
    drop_notice(submission)
    aiofs_request_release(&submission.request)


cdef void withdraw(aiofs_submission *submission) noexcept:
    """Releases a submission that was never submitted, and wakes its awaits."""
    end_waiters(submission)
    submission_withdraw(submission)
    discard(submission)


cdef void before_submit(aiofs_submission *submission, object owner, LoopNotifier notifier) noexcept:
    """Prepares the submission to the engine: holds `owner` until the delivery, on `notifier`'s loop if not None."""
    Py_INCREF(owner)
    submission.owner = <PyObject *>owner
    if notifier is not None:
        notifier.address(submission)
    aiofs_request_retain(&submission.request)  # the completion queue's


cdef void after_refusal(aiofs_submission *submission) noexcept:
    """Undoes before_submit: the engine did not accept the request."""
    submission_withdraw(submission)
    take(&submission.owner)
    aiofs_request_release(&submission.request)


cdef int submit_request(aiofs_submission *submission, aiofs_file *file, object owner, LoopNotifier notifier) noexcept:
    """Submits to the engine; holds `owner` until the delivery. 0, or a negated errno: nothing was started."""
    cdef int error
    before_submit(submission, owner, notifier)
    with nogil:
        error = aiofs_submit(&submission.request, file)
    if error < 0:
        after_refusal(submission)
    return error


cdef object take(PyObject **reference):
    """Clears a reference, and returns its object or None."""
    cdef object taken = None
    if reference[0] != NULL:
        taken = <object>reference[0]
        reference[0] = NULL
        Py_DECREF(taken)
    return taken


cdef int end_submission(aiofs_submission *submission) except -1:
    """At delivery: releases the buffers, then completes the owner."""
    cdef object owner
    unpin(submission)
    owner = take(&submission.owner)
    if type(owner) is Operation:
        (<Operation>owner).ended(submission.request.result)
    return 0
