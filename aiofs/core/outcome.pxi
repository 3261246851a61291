# aio_error, aio_return, aio_suspend, aio_cancel: what has become of requests.
#
# The first to see that a request is terminal takes its result into the control block and releases its buffers; the
# completion that is delivered later finds nothing left to do. While a call waits without the GIL (aio_suspend,
# aio_cancel), it holds references to the submissions that it waits for, so that their control blocks may be dropped
# or submitted again meanwhile.


def aio_error(aiocb cb not None):
    """The state of a request: EINPROGRESS, 0, ECANCELED, or the errno of the failed operation.

    An errno is returned, not raised; OSError EINVAL is raised if it was never submitted. The answer stays
    after aio_return, until the next submission. Does not block.

    Source: POSIX.1-2017, aio_error.
    """
    cdef int state = cb.refresh()
    if state == ENDED:
        return 0 if cb.outcome >= 0 else -cb.outcome
    if state == SUBMITTED:
        return EINPROGRESS
    raise make_error(EINVAL, cb.aio_fildes, "aio_error", "this aiocb was never submitted")


def aio_return(aiocb cb not None):
    """The result of a terminal request, once: bytes moved, 0 for a sync; or its OSError raised.

    OSError EINVAL when it was never submitted or its result has been returned before, EINPROGRESS
    before it is terminal. Nothing depends on it being called. Does not block.

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
    """Seconds to a timespec; negative ones are over already."""
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
    """The entries of a list of aiocbs; None among them is passed over."""
    cdef list found = []
    for item in items:
        if item is None:
            continue
        if type(item) is not aiocb:
            raise TypeError(f"{function} takes aiocb objects or None, not {type(item).__name__}")
        found.append(item)
    return found


def aio_suspend(list, timeout=None):
    """Waits until one of the requests is terminal; returns 0. Blocks the thread, not the interpreter.

    `list` holds aiocbs, or None to be passed over, as those that were never submitted are; with nothing
    left to wait for it returns at once. `timeout` is in seconds: None waits, zero or less only looks.
    OSError EAGAIN when the time is up, EINTR when a signal handler ran (what that raises is raised
    instead); TypeError, ValueError for what cannot be right. On an event loop use aio.suspend.

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
    """For aio.suspend: ends `waiter` when a request in the list does. True: there is nothing to wait for."""
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
    """Undoes _watch for requests that are still in flight."""
    cdef aiocb cb
    for cb in control_blocks(items, "suspend"):
        if cb.state == SUBMITTED:
            remove_waiter(cb.submission, waiter)


def aio_cancel(fildes, aiocb cb=None):
    """Cancels cb, or with None all requests outstanding on the descriptor.

    AIO_CANCELED: every one was, and is terminal with ECANCELED. AIO_NOTCANCELED: some were not, see
    aio_error: a write to a stream, or disk I/O, that has begun. AIO_ALLDONE: none was outstanding.
    OSError EBADF for a closed descriptor, EINVAL when fildes is not cb's. It waits for the kernel's answer,
    at most about a second, never for the I/O.

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
