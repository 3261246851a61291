# aio_error, aio_return, aio_suspend, aio_cancel: the status and the result of requests.
#
# The first call that finds a request terminal copies the result into the control block and releases the buffers
# (aiocb.refresh). The later delivery of the completion then has no buffers to release.
#
# Ownership. aio_suspend and aio_cancel wait without the GIL. They hold references to the submissions that they wait
# for, because meanwhile another thread may drop the control blocks, or submit them again.
#
# Locking. The GIL guards the control blocks.


def aio_error(aiocb cb not None):
    """Returns the status of a request: EINPROGRESS, 0, ECANCELED, or the errno of the failed operation.

    The errno is returned, not raised. The status stays the same after aio_return, until the next
    submission. Does not block. OSError EINVAL if the aiocb was never submitted.

    Source: POSIX.1-2017, aio_error.
    """
    cdef int state = cb.refresh()
    if state == ENDED:
        return 0 if cb.outcome >= 0 else -cb.outcome
    if state == SUBMITTED:
        return EINPROGRESS
    raise make_error(EINVAL, cb.aio_fildes, "aio_error", "this aiocb was never submitted")


def aio_return(aiocb cb not None):
    """Returns the result of a terminal request, once: the count of bytes moved, or 0 for a sync.

    If the request failed, raises its OSError instead. OSError EINVAL if the aiocb was never submitted or
    its result was returned before; OSError EINPROGRESS if the request is not terminal. A program need not
    call it: no resource waits for the call. Does not block.

    Source: POSIX.1-2017, aio_return.
    """
    cdef int state = cb.refresh()
    cdef bint before = cb.returned
    cdef int64_t result = aiofs_outcome_return(AIOFS_DONE if state == ENDED else AIOFS_SUBMITTED
                                               if state == SUBMITTED else AIOFS_NEW, cb.outcome, before)
    cb.returned = state == ENDED
    if result >= 0:
        return result
    if state == ENDED and not before:
        raise cb.error()
    raise make_error(-result, cb.aio_fildes, "aio_return",
                     "the request is in progress" if state == SUBMITTED
                     else "its result has been returned before" if before else "this aiocb was never submitted")


cdef int read_timeout(object timeout, timespec *out) except -1:
    """Converts seconds to a timespec. A negative time-out becomes 0; ValueError for a NaN."""
    cdef double seconds = timeout
    if seconds != seconds:
        raise ValueError("the time-out is not a number")
    if seconds < 0:
        seconds = 0
    if seconds > 1e9:
        seconds = 1e9
    out.tv_sec = <time_t>seconds
    out.tv_nsec = <long>((seconds - <double>out.tv_sec) * 1e9)
    return 0


cdef list control_blocks(object items, str function):
    """The aiocbs of a list, without its Nones. TypeError for another type."""
    cdef list found = []
    for item in items:
        if item is None:
            continue
        if type(item) is not aiocb:
            raise TypeError(f"{function} takes aiocb objects or None, not {type(item).__name__}")
        found.append(item)
    return found


def aio_suspend(list, timeout=None):
    """Waits until one of the requests is terminal; returns 0. Blocks this thread, without the GIL.

    `list` contains aiocbs and None. None and aiocbs that were never submitted are skipped; if no other
    entry is left, it returns at once. `timeout` is in seconds: None waits without a limit, zero or less
    does not wait. OSError EAGAIN if the time is up; OSError EINTR if a signal handler ran, or the exception
    of that handler; TypeError or ValueError for an invalid argument. On an event loop use aio.suspend.

    Source: POSIX.1-2017, aio_suspend.
    """
    cdef timespec limit
    cdef timespec *patience = NULL
    cdef aiofs_request **requests
    cdef aiocb cb
    cdef size_t count = 0, i
    cdef int error
    blocks = control_blocks(list, "aio_suspend")
    if timeout is not None:
        read_timeout(timeout, &limit)
        patience = &limit
    for cb in blocks:
        if cb.refresh() == ENDED:
            return SUSPENDED
    requests = <aiofs_request **>calloc(<size_t>len(blocks) + 1, sizeof(aiofs_request *))
    if requests == NULL:
        raise MemoryError
    for cb in blocks:
        if cb.state == SUBMITTED:
            requests[count] = &cb.submission.request
            aiofs_request_retain(requests[count])
            count += 1
    with nogil:
        error = aiofs_wait(requests, count, patience)
        for i in range(count):
            aiofs_request_release(requests[i])
        free(requests)
    for cb in blocks:
        cb.refresh()
    if error == -EINTR:
        PyErr_CheckSignals()
    if error < 0:
        raise make_error(-error, None, "aio_suspend", "the time is up, and no request of the list has ended"
                         if error == -EAGAIN else None)
    return SUSPENDED


def _watch(items, waiter):
    """For aio.suspend: gives the future `waiter` its result when a request is terminal. True: need not wait."""
    cdef aiocb cb
    cdef bint live = False
    blocks = control_blocks(items, "suspend")
    for cb in blocks:
        if cb.refresh() == ENDED:
            return True
        live = live or cb.state == SUBMITTED
    for cb in blocks:
        if cb.state == SUBMITTED:
            add_waiter(cb.submission, waiter)
    return not live


def _unwatch(items, waiter):
    """For aio.suspend: undoes _watch for requests that are still in flight."""
    cdef aiocb cb
    for cb in control_blocks(items, "suspend"):
        if cb.state == SUBMITTED:
            remove_waiter(cb.submission, waiter)


def aio_cancel(fildes, aiocb cb=None):
    """Cancels the request of `cb`; with None, all outstanding requests on the descriptor `fildes`.

    Returns AIO_CANCELED: all of them are cancelled, and terminal with ECANCELED; AIO_NOTCANCELED: at least
    one is not cancelled (aio_error says which), because it is a write to a stream or disk I/O that has
    begun; AIO_ALLDONE: no request was outstanding. OSError EBADF if the descriptor is closed, EINVAL if
    `fildes` is not the descriptor of `cb`. Waits for the kernel's answer, at most about a second, and
    never for the I/O itself.

    Source: POSIX.1-2017, aio_cancel.
    """
    cdef plan what, whose
    cdef aiofs_submission *submission
    cdef int answer
    what.file = whose.file = NULL
    what.has_view = whose.has_view = False
    find_target(&what, fildes)
    release_plan(&what)
    if cb is not None:
        find_target(&whose, cb.aio_fildes)
        release_plan(&whose)
    answer = aiofs_cancel_check(what.fd, NULL if cb is None else &whose.fd)
    if answer < 0:
        raise make_error(-answer, fildes, "aio_cancel", f"{descriptor_word(fildes)} is not open"
                         if answer == -EBADF else f"the aiocb is for descriptor {whose.fd}")
    if cb is None:
        with nogil:
            answer = aiofs_cancel_all(what.fd)
        if answer < 0:
            raise make_error(-answer, fildes, "aio_cancel")
        return answer
    if cb.refresh() != SUBMITTED:
        return AIO_ALLDONE
    submission = cb.submission
    aiofs_request_retain(&submission.request)
    with nogil:
        answer = aiofs_cancel(&submission.request)
        aiofs_request_release(&submission.request)
    cb.refresh()
    return answer
