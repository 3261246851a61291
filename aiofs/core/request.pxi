# aio_read, aio_write, aio_fsync: from the fields of a control block to a request.
#
# prepare_plan reads the fields into a plan. An error that Python can find raises there, and nothing is started. Then
# the bytes are moved inside the call if that cannot block; otherwise a submission is made for the engine.
#
# Ownership. A plan owns a reference to the open file, and the view of the buffer until a submission takes it over.
#
# Locking. The GIL guards the control block. It is released while the engine accepts the request, and around a write
# inside the call. A cached read of a few pages keeps it.


cdef int find_target(plan *what, object fildes) except -1:
    """Sets the descriptor, and the open file if aiofs opened it."""
    cdef int overflow = 0
    cdef long number
    if type(fildes) is SyncAccessHandle or type(fildes) is AccessHandle:
        what.file = ((<SyncAccessHandle>fildes).file if type(fildes) is SyncAccessHandle
                     else NULL if (<AccessHandle>fildes).closed else (<AccessHandle>fildes).file)
        what.fd = -1  # if the handle is closed, the request fails with EBADF
        if what.file != NULL:
            what.fd = aiofs_file_fd(what.file)
            aiofs_file_retain(what.file)
        return 0
    if not isinstance(fildes, int):
        fileno = getattr(fildes, "fileno", None)
        if fileno is None:
            raise TypeError(f"aio_fildes must be an int or have fileno(), not {type(fildes).__name__}")
        fildes = fileno()
    number = PyLong_AsLongAndOverflow(fildes, &overflow)
    what.fd = <int>number if not overflow and number == <int>number else -1
    what.file = aiofs_file_find(what.fd)
    return 0


cdef inline int view_memory(plan *what, aiocb cb) except -1:
    """Sets the view of the buffer and the count of bytes to move."""
    cdef Py_ssize_t size = 0
    cdef int64_t wanted
    if cb.aio_buf is not None or cb.aio_nbytes != 0:
        take_buffer(cb.aio_buf, &what.view, PyBUF_WRITABLE if what.operation == AIOFS_READ else PyBUF_SIMPLE)
        what.has_view = True
        size = what.view.len
    if cb.aio_nbytes is None:
        what.nbytes = <size_t>size
        return 0
    nbytes = cb.aio_nbytes
    if not isinstance(nbytes, int):
        raise TypeError(f"aio_nbytes must be an int or None, not {type(nbytes).__name__}")
    try:
        wanted = PyLong_AsLongLong(nbytes)  # a subclass of int may compare as it likes
    except OverflowError:
        wanted = -1
    if not 0 <= wanted <= size:
        raise ValueError(f"aio_nbytes is {nbytes}, the buffer has {size} bytes")
    what.nbytes = <size_t>wanted
    return 0


cdef int check_in_flight(aiocb cb, int operation) except -1:
    if cb.refresh() == SUBMITTED:
        raise make_error(EINVAL, cb.aio_fildes, operation_name(operation), "this aiocb is in flight")
    return 0


cdef int prepare_plan(plan *what, aiocb cb, int operation) except -1:
    """Reads the fields of `cb` into a plan. Raises for an invalid field; then the plan owns nothing."""
    what.operation = operation
    what.file = NULL
    what.has_view = False
    what.nbytes = 0
    what.offset = 0
    what.reqprio = 0
    what.notify = C_SIGEV_NONE
    check_in_flight(cb, operation)
    if cb.event is not None:
        if not isinstance(cb.event, sigevent):
            raise TypeError(f"aio_sigevent must be a sigevent, not {type(cb.event).__name__}")
        what.notify = (<sigevent>cb.event).sigev_notify
        check_notify(<sigevent>cb.event, what.notify)
    try:
        if operation == AIOFS_READ or operation == AIOFS_WRITE:
            what.reqprio = small_int(cb.aio_reqprio, "aio_reqprio")
            what.offset = offset_of(cb.aio_offset)
            view_memory(what, cb)
        find_target(what, cb.aio_fildes)
        check_in_flight(cb, operation)  # again, because fileno() may have submitted it
    except BaseException:
        release_plan(what)
        raise
    return 0


cdef void drop_view(plan *what) noexcept:
    if what.has_view:
        what.has_view = False
        PyBuffer_Release(&what.view)


cdef void release_plan(plan *what) noexcept:
    drop_view(what)
    if what.file != NULL:
        aiofs_file_release(what.file)
        what.file = NULL


cdef int small_int(object value, str name) except? -1:
    cdef int overflow = 0
    cdef long number
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    number = PyLong_AsLongAndOverflow(value, &overflow)
    return <int>number if not overflow and number == <int>number else -1


cdef int64_t offset_of(object value) except? -1:
    if not isinstance(value, int):
        raise TypeError(f"aio_offset must be an int, not {type(value).__name__}")
    try:
        return PyLong_AsLongLong(value)
    except OverflowError:
        raise ValueError(f"aio_offset {value} is beyond 2**63 - 1") from None


cdef int check_notify(sigevent event, int notify) except -1:
    """Checks the fields of the sigevent, before the request is accepted."""
    if notify == C_SIGEV_LOOP or notify == C_SIGEV_THREAD:
        if not callable(event.sigev_notify_function):
            raise TypeError("sigev_notify_function must be callable for SIGEV_THREAD and SIGEV_LOOP, not "
                            f"{type(event.sigev_notify_function).__name__}")
    if notify == C_SIGEV_LOOP and current_notifier() is None:
        raise no_loop_error("SIGEV_LOOP")
    if notify == C_SIGEV_SIGNAL:
        if notice_check_signal(small_int(event.sigev_signo, "sigev_signo")) < 0:
            raise make_error(EINVAL, None, f"sigev_signo {event.sigev_signo} is no signal")
        if event.sigev_value is not None and not isinstance(event.sigev_value, int):
            raise TypeError(f"sigev_value must be an int for SIGEV_SIGNAL, not {type(event.sigev_value).__name__}")
        signal_value(event.sigev_value)
    return 0


cdef int64_t signal_value(object value) except? -1:
    return 0 if value is None else PyLong_AsLongLong(value)


cdef int write_notice(aiofs_submission *submission, sigevent event) except -1:
    """Copies the fields of the sigevent into the submission's notice. BlockingIOError: no thread for SIGEV_THREAD."""
    cdef int notify = event.sigev_notify, signo = 0
    cdef int64_t value = 0
    if notify == C_SIGEV_SIGNAL:
        signo = event.sigev_signo
        value = signal_value(event.sigev_value)
    elif notify == C_SIGEV_THREAD or notify == C_SIGEV_LOOP:
        if notify == C_SIGEV_LOOP and current_notifier() is None:
            raise no_loop_error("SIGEV_LOOP")
        set_callback(submission, event.sigev_notify_function, event.sigev_value, copy_context())
    if notice_prepare(submission, notify, signo, value) < 0:
        raise make_error(EAGAIN, None, "starting a thread for SIGEV_THREAD")
    return 0


# ---- submitting ----------------------------------------------------------------------------------------

cdef aiofs_ask ask_of(plan *what) noexcept:
    cdef aiofs_ask ask
    ask.op = what.operation
    ask.fd = what.fd
    ask.file = what.file
    ask.reqprio = what.reqprio
    ask.offset = what.offset
    ask.mapped = what.has_view and is_mapped(&what.view)
    ask.bytes.iov_base = what.view.buf if what.has_view else NULL
    ask.bytes.iov_len = what.nbytes
    return ask


cdef int64_t try_inline(aiofs_ask *ask, LoopNotifier notifier, aiofs_list_call *call) except? -1:
    """Moves the bytes inside the call, if that cannot block and the turn's budget allows it.

    `call`: the call of lio_listio, or NULL. Returns the count, a negated errno, or AIOFS_NOT_INLINE.
    """
    cdef int64_t moved
    cdef int affords = 1
    if not aiofs_ask_is_quick(ask, call):
        return AIOFS_NOT_INLINE
    if notifier is not None:
        affords = notifier.affords(ask.bytes.iov_len)
        if affords == 0 or (affords == 2 and call != NULL):
            return AIOFS_NOT_INLINE
    if ask.op == AIOFS_READ:
        moved = aiofs_ask_inline(ask, call)
    else:
        with nogil:
            moved = aiofs_ask_inline(ask, call)
    if notifier is not None:
        notifier.tried(moved)
    return moved


cdef int end_inside(aiofs_submission *submission, aiocb cb, int64_t result, LoopNotifier notifier) except -1:
    """Completes, inside the call, a request that has a notice. The loop calls the function of SIGEV_LOOP later."""
    cdef bint waits = submission.aio.ending.notice.kind == C_SIGEV_LOOP
    submission.unposted = not waits
    if waits:
        submission.no_wakeup = True
        before_submit(submission, cb, notifier)
    aiofs_aio_end(&submission.aio, result)
    cb.refresh()
    return notifier.schedule() if waits else 0


cdef aiofs_submission *make_ready(plan *what, aiocb cb) except NULL:
    """A submission with pinned buffers and its notice, not yet submitted."""
    cdef aiofs_submission *submission = new_submission()
    submission.request.op = what.operation
    submission.request.fd = what.fd
    submission.request.reqprio = what.reqprio
    submission.request.offset = what.offset
    try:
        if what.has_view:
            pin_view(submission, &what.view)
            what.has_view = False
            submission.request.single.iov_len = what.nbytes
        if cb.event is not None:
            write_notice(submission, cb.event)  # checked again: a fileno() may have replaced it
    except BaseException:
        discard(submission)
        raise
    return submission


cdef void set_in_flight(aiocb cb, aiofs_submission *submission) noexcept:
    """Makes the state SUBMITTED; the control block takes over the reference."""
    cb.state = SUBMITTED
    cb.returned = False
    cb.submission = submission


cdef aiofs_submission *begin(plan *what, aiofs_ask *ask, int64_t error, aiocb cb, LoopNotifier notifier,
                             aiofs_list_call *call) except? NULL:
    """Completes the request of a plan inside the call and returns NULL, or returns its submission for the engine.

    `error`: 0, or the negated errno that the request completes with. `call`: the call of lio_listio, or NULL.
    """
    cdef int64_t result = error
    cdef aiofs_submission *submission = NULL
    if what.notify != C_SIGEV_NONE:
        submission = make_ready(what, cb)
    try:
        if result == 0:
            result = try_inline(ask, notifier, call)
        if result == AIOFS_NOT_INLINE and submission == NULL:
            submission = make_ready(what, cb)
    except BaseException:
        if submission != NULL:
            discard(submission)
        raise
    if submission == NULL:
        cb.end(result)
    else:
        set_in_flight(cb, submission)
    if result == AIOFS_NOT_INLINE:
        return submission
    if call != NULL:
        aiofs_list_note(call, result)
    if submission != NULL:
        end_inside(submission, cb, result, notifier)
    return NULL


cdef void refused(aiofs_submission *submission, aiocb cb, int error) noexcept:
    """Completes a submission that the engine did not accept, without a notice.

    Other threads could see it in flight while the call ran without the GIL, and may wait for it.
    """
    aiofs_request_retain(&submission.request)
    drop_notice(submission)
    notice_clear(submission)
    submission.unposted = True
    aiofs_aio_end(&submission.aio, error)
    cb.end(error)
    unpin(submission)
    end_waiters(submission)
    aiofs_request_release(&submission.request)


cdef int submit(plan *what, aiocb cb, LoopNotifier notifier) except -1:
    """Completes or submits the request of a plan. Returns 0, or the positive errno that the call fails with."""
    cdef aiofs_ask ask = ask_of(what)
    cdef aiofs_submission *submission
    cdef int error = aiofs_ask_check(&ask, NULL)
    cb.operation = what.operation
    if error < 0:
        cb.end(error)
        return -error
    try:
        submission = begin(what, &ask, 0, cb, notifier, NULL)
    except BlockingIOError:  # no thread can be started for its SIGEV_THREAD
        cb.end(-EAGAIN)
        return EAGAIN
    if submission == NULL:
        return 0
    error = submit_request(submission, what.file, cb, notifier)
    if error < 0:
        refused(submission, cb, error)
    return -error


cdef int transfer(aiocb cb, int operation) except -1:
    cdef plan what
    cdef int error
    if cb is None:
        raise TypeError(f"{operation_name(operation)} takes an aiocb, not None")
    prepare_plan(&what, cb, operation)
    try:
        error = submit(&what, cb, current_notifier())
    finally:
        release_plan(&what)
    if error:
        raise call_error(cb, error)
    return 0


cdef object call_error(aiocb cb, int error):
    """The exception of a call that fails with `error`, a positive errno."""
    if error == EBADF:
        return request_error(cb, -EBADF)
    return make_error(error, cb.aio_fildes, operation_name(cb.operation), why_not_accepted(cb, -error))


def aio_read(aiocb cb):
    """Queues a read of cb.aio_nbytes bytes at byte cb.aio_offset into cb.aio_buf; returns 0.

    The result of the request is the count of bytes read: less than requested at the end of the file, 0 at
    or past it. From a stream it reads the bytes that are there, as soon as there is at least one. Cached
    bytes may be read before the call returns. The request has no order with other requests.

    An error of the descriptor, the offset or the memory is the error of the request (aio_error), not of
    the call: EBADF if the descriptor is closed or not open for reading, EINVAL if the offset is negative
    or the end is beyond 2**63 - 1, EISDIR, EFAULT, EAGAIN if a descriptor with O_NONBLOCK has nothing to
    read, ECANCELED, EIO. The call itself raises, with nothing started: OSError EINVAL for a reqprio out of
    range or an aiocb in flight, OSError EAGAIN if a resource is exhausted; TypeError, ValueError or
    BufferError for an invalid field; RuntimeError for SIGEV_LOOP without a running loop.

    Source: POSIX.1-2017, aio_read.
    """
    transfer(cb, AIOFS_READ)
    return ZERO


def aio_write(aiocb cb):
    """Queues a write of cb.aio_nbytes bytes from cb.aio_buf at byte cb.aio_offset; returns 0.

    The result of the request is the count of bytes written, less than requested if the disk becomes full.
    A write past the end leaves a hole that reads as zeros. With O_APPEND, and on streams, the offset is
    ignored and the bytes are written in the order of the calls; other writes have no order. The bytes are
    durable after aio_fsync, not before.

    Errors as for aio_read, without EISDIR. The request can also fail with EPIPE (without SIGPIPE), EFBIG
    beyond RLIMIT_FSIZE or the largest file of the filesystem (without SIGXFSZ), ENOSPC, and EDQUOT if the
    quota of the volume forbids it; then nothing was written.

    Source: POSIX.1-2017, aio_write.
    """
    transfer(cb, AIOFS_WRITE)
    return ZERO


def aio_fsync(op, cb):
    """Queues a sync of cb.aio_fildes: fsync(2) if op is os.O_SYNC, fdatasync(2) if os.O_DSYNC; returns 0.

    The sync starts when all requests that were queued on the descriptor before it are complete. Its result
    is 0. Fields other than aio_fildes and aio_sigevent are ignored. It does not make the name of a new file
    durable; flush of an access handle does, or a sync of the directory.

    The call raises OSError EINVAL for another op or an aiocb in flight, EBADF for a bad descriptor, EAGAIN
    if a resource is exhausted. The request can fail (aio_error) with EINVAL if the file cannot be synced,
    as a pipe; with EIO, ENOSPC or EDQUOT if earlier writes do not reach the disk; with ECANCELED.

    Source: POSIX.1-2017, aio_fsync.
    """
    if not isinstance(op, int) or type(cb) is not aiocb:
        raise TypeError("aio_fsync takes (op, cb), op os.O_SYNC or os.O_DSYNC and cb an aiocb, not "
                        f"({type(op).__name__}, {type(cb).__name__})")
    kind = aiofs_sync_op(small_int(op, "op"))
    if kind < 0:
        raise make_error(EINVAL, (<aiocb>cb).aio_fildes, "aio_fsync", f"op {op} is neither os.O_SYNC nor os.O_DSYNC")
    transfer(cb, kind)
    return ZERO
